//! `mantissa verify`: replays what evidence claims, and names the setups that fit.
//!
//! Flags → a request → an audit. Left out: what a verification does (`mantissa_lab::verify`) and how its result looks
//! (`mantissa_report`).

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::ValueEnum;
use mantissa_evidence::write_whole;
use mantissa_lab::replay::Replay;
use mantissa_lab::verify::{self, Assignment, Elsewhere, Event, Method, Request, Varied};
use mantissa_numerics::setup::Axis;
use mantissa_report as report;
use mantissa_verdict::Audit;
use mantissa_verdict::analysis::Outcome;

use super::catalog::CatalogArgs;
use super::record::{Model, machine};
use crate::coverage::Answer;
use crate::evidence::{Damage, name_tokens, tokenize_prompts};
use crate::failure::Exit;
use crate::interrupt::Resumable;
use crate::output::{absent, written};
use crate::progress::{Bar, Unit};
use crate::settings::Settings;
use crate::terminal::{Laid, Terminal};

const EXAMPLES: &str = "\
Examples:
  mantissa verify record --model smollm2-135m-instruct
  mantissa verify record --model model --vary batch_size=1,2,4,5,8,9,16,17 --vary attention=eager,sdpa
  mantissa verify record --model model --claim hardware=h200 --vary hardware=cpu,h200
  mantissa verify record --model model --replay prefill --full --output verification.json
  mantissa verify record --model model --spot-check 700
  mantissa verify --self-test

Candidates whose kernels all compute the same are one class, computed once. Evidence is a record, or a published file
that holds token ids and signals.
Exit codes: 0 every claim fits, 1 a claim is contradicted, 2 failure, 3 a claim could not be checked, 4 the evidence was
altered or damaged.";

/// Examples, and the axes with their values.
fn examples() -> String {
    let axes = Axis::ALL.map(|axis| match axis.words() {
        Some(words) => format!("  {}: {}", axis.name(), words.join(", ")),
        None => format!("  {}: {}", axis.name(), axis.form()),
    });
    format!(
        "{EXAMPLES}\n\nAXIS is one of\n{}\n  model (--claim alone): which of the names that evidence gives its model \
         is meant\n  repetition_penalty, do_sample, ignore_eos, … (--claim alone): settings of generation by \
         transformers' names",
        axes.join("\n")
    )
}

/// Replay what evidence claims: which setups fit it, which it contradicts, and where first
#[derive(Debug, clap::Args)]
#[command(after_help = examples())]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct Args {
    /// Evidence: a record, an experiment JSON (gzipped too), or a published file; several are one experiment
    #[arg(value_name = "EVIDENCE", required_unless_present = "self_test")]
    evidence: Vec<PathBuf>,
    /// The model that is claimed to have run: a name that was pulled, or a path; without it nothing is replayed
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Claim this instead of what the evidence declares (may be given more than once)
    #[arg(long, value_name = "AXIS=VALUE")]
    claim: Vec<Assignment>,
    /// Also replay the claim with these values (may be given more than once; all combinations)
    #[arg(long, value_name = "AXIS=LIST")]
    vary: Vec<Varied>,
    /// Answers of a server that is known to run what is claimed: say how far those of the evidence are from a replay
    /// beside how far these are, where nothing can be compared by bits
    #[arg(long, value_name = "FILE", requires = "model", conflicts_with_all = ["spot_check", "replay_with"])]
    beside: Option<PathBuf>,
    /// `decode` as it was generated, or `prefill`: one pass over prompt and output
    #[arg(long, value_name = "HOW", default_value = "decode")]
    replay: ReplayMode,
    /// Replay by another program on this machine, through the package mantissa-forensics: what no recipe here covers
    #[arg(long, value_name = "PROGRAM", value_parser = ["transformers"],
        conflicts_with_all = ["spot_check", "self_test", "coverage", "state"])]
    replay_with: Option<String>,
    /// The Python that has the package, torch and transformers
    #[arg(long, value_name = "PATH", default_value = "python3", requires = "replay_with")]
    python: String,
    /// Where the other program's replay is kept [default: EVIDENCE.replay]
    #[arg(long, value_name = "DIR", requires = "replay_with", value_parser = written())]
    replay_folder: Option<PathBuf>,
    /// Replay contradicted classes to their end too, for distances and matrices
    #[arg(long)]
    full: bool,
    /// Instead of replaying passes, recompute N random recorded values from their recorded inputs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    spot_check: Option<u64>,
    /// Which values a spot check draws
    #[arg(long, value_name = "N", default_value_t = 0, requires = "spot_check")]
    seed: u64,
    /// Plant known deviations and show that each is caught; without evidence, in a model made for it
    #[arg(long)]
    self_test: bool,
    /// Replay nothing: say what share of the replays recipes cover, and which measurement would add most
    #[arg(long, conflicts_with_all = ["spot_check", "self_test", "output", "html"])]
    coverage: bool,
    /// Keep finished replays in this file, and go on from what it holds
    #[arg(long, value_name = "FILE", value_parser = written())]
    state: Option<PathBuf>,
    /// Write verification.json here as well
    #[arg(long, value_name = "FILE", value_parser = written())]
    output: Option<PathBuf>,
    /// Write a self-contained page here as well
    #[arg(long, value_name = "FILE", value_parser = written())]
    html: Option<PathBuf>,
    /// Replace what --output and --html name
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    catalogs: CatalogArgs,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = super::record::threads)]
    threads: Option<u32>,
    /// Instruction set
    #[arg(long, value_name = "SET", default_value = "auto", value_parser = ["auto", "scalar", "avx2", "avx512"])]
    isa: String,
    /// Make ids of prompts that the evidence states as text alone, with the model's tokenizer
    #[arg(long, requires = "model")]
    tokenize_prompt: bool,
    #[command(flatten)]
    damage: Damage,
}

/// How evidence is recomputed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReplayMode {
    Decode,
    Prefill,
}

impl From<ReplayMode> for Replay {
    fn from(how: ReplayMode) -> Self {
        match how {
            ReplayMode::Decode => Self::Decode,
            ReplayMode::Prefill => Self::Prefill,
        }
    }
}

pub(crate) fn run(args: &Args, settings: &Settings, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    absent(&[args.output.as_deref(), args.html.as_deref()], args.force)?;
    let machine = machine(args.threads, &args.isa)?;
    let catalogs = args.catalogs.read()?;
    let mut opened = match args.evidence.as_slice() {
        [] => None,
        paths => Some(args.damage.open_together(paths)?),
    };
    // Distances that others measured are set beside no model.
    let wants_model = opened.as_ref().is_none_or(verify::holds_signals);
    let model = args.model.as_ref().filter(|_| wants_model).map(|name| Model::open(name)).transpose()?;
    if let Some(model) = &model {
        model.tell(terminal);
    }
    let folder = args.replay_folder.clone().unwrap_or_else(|| {
        let mut name = args.evidence.first().cloned().unwrap_or_default().into_os_string();
        name.push(".replay");
        name.into()
    });
    if let (true, Some(opened)) = (args.tokenize_prompt, &opened)
        && opened.answers.as_ref().is_some_and(|answers| !answers.has_texts_alone())
    {
        bail!(
            "--tokenize-prompt: no answer of {} has a prompt as text and no ids; leave it out",
            opened.name
        );
    }
    let mut beside = args.beside.as_ref().map(|path| args.damage.open(path)).transpose()?;
    if let Some(model) = &model {
        for opened in opened.iter_mut().chain(&mut beside) {
            if let Some(answers) = &opened.answers {
                let tokenize = args.tokenize_prompt && answers.has_texts_alone();
                // Ids need no tokenizer.
                if tokenize || model.tokenizer.is_ok() {
                    let files = model.tokenizer_digest();
                    name_tokens(opened, model.tokenizer()?, &files, tokenize, terminal)?;
                }
            } else if args.tokenize_prompt {
                tokenize_prompts(opened, model.tokenizer()?, &model.name, terminal)?;
            }
        }
    }
    let request = Request {
        evidence: opened.as_ref(),
        beside: beside.as_ref(),
        model: model.as_ref().map(|model| verify::Model {
            // A self-test alone names the model as it was asked for.
            name: args.model.as_deref().filter(|_| opened.is_none()).unwrap_or(&model.name),
            checkpoint: &model.checkpoint,
            tokenizer: model.tokenizer_if_any("texts are not set beside ids", terminal),
        }),
        claim: &args.claim,
        vary: &args.vary,
        method: args.method(model.is_some() && opened.is_some(), &folder)?,
        self_test: args.self_test,
        catalogs,
        machine,
    };
    if args.coverage {
        let Some(model) = &model else {
            bail!(
                "--coverage: says what a replay could cover; give the model with --model, and evidence with signals"
            );
        };
        let graphs = [model.checkpoint.config().graph()];
        let planned = verify::planned(&request)?;
        terminal.print(&Answer::of(
            std::slice::from_ref(&model.name),
            &graphs,
            &request.catalogs,
            &planned,
            settings,
        ))?;
        return Ok(Exit::Consistent);
    }
    let _resumable = Resumable::new(match (&args.replay_with, &args.state) {
        _ if args.self_test => "nothing is kept of a self-test".to_owned(),
        (Some(_), _) => format!("{} holds what is done: the same command goes on from it", folder.display()),
        (None, Some(state)) => {
            format!("{} holds the finished replays: the same command goes on from it", state.display())
        }
        (None, None) => {
            "nothing is kept; with --state FILE finished replays are, and the same command goes on".to_owned()
        }
    });
    let shown = Display::new(settings, terminal);
    let audit = verify::verify(&request, &|event| shown.tell(event))?;
    drop(shown);
    let sound = audit.self_test.iter().all(|planted| planted.passed);
    let exit = conclude(args, audit, sound, terminal)?;
    Ok(Damage::exit(&opened, exit))
}

impl Args {
    fn method<'m>(&'m self, replays: bool, folder: &'m Path) -> anyhow::Result<Method<'m>> {
        if self.replay_with.is_some() {
            if !replays {
                bail!("--replay-with: needs evidence and --model");
            }
            return Ok(Method::Elsewhere(Elsewhere { python: &self.python, folder }));
        }
        let Some(draws) = self.spot_check else {
            let state = self.state.as_deref();
            return Ok(Method::Replay { replay: self.replay.into(), full: self.full, state });
        };
        if replays && (!self.vary.is_empty() || self.full || self.state.is_some()) {
            bail!("--spot-check: checks the claim alone; leave out --vary, --full and --state");
        }
        Ok(Method::SpotCheck { draws, seed: self.seed })
    }
}

/// Bars of a verification, one at a time.
struct Display<'s> {
    settings: &'s Settings,
    terminal: &'s Terminal,
    bar: RefCell<Option<(&'static str, Bar)>>,
}

impl<'s> Display<'s> {
    const fn new(settings: &'s Settings, terminal: &'s Terminal) -> Self {
        Self { settings, terminal, bar: RefCell::new(None) }
    }

    fn tell(&self, event: Event<'_>) {
        match event {
            Event::Hashing { done, total } => {
                self.at("digest of the weights", Unit::Bytes, "digest of the weights", [done, total]);
            }
            Event::Planned { classes, passes, saved } => {
                self.bar.replace(None);
                self.terminal.note(&format!(
                    "{classes} class(es) to replay in {passes} forward passes, {saved} saved"
                ));
            }
            Event::Replayed { done, total } => self.at("replay", Unit::Tokens, "replay", [done, total]),
            Event::Drawn { config_id, done, total } => {
                self.at("spot check", Unit::Values, config_id, [done, total]);
            }
            Event::Planting => self.at("self-test", Unit::Checks, "planting", [0, 0]),
            Event::Planted { done, total } => {
                self.at("self-test", Unit::Checks, "verifying what was planted", [done, total]);
            }
        }
    }

    /// Shows how far `stage` is, on a bar of its own.
    fn at(&self, stage: &'static str, unit: Unit, label: &str, [done, total]: [u64; 2]) {
        let mut bar = self.bar.borrow_mut();
        if bar.as_ref().is_none_or(|(shown, _)| *shown != stage) {
            *bar = Some((stage, Bar::new(self.settings, label, None, unit)));
        }
        if let Some((_, bar)) = bar.as_ref() {
            bar.at(label, done, Some(total).filter(|total| *total > 0));
        }
    }
}

/// Writes and prints an audit. A self-test that missed something is a failure of this program, whatever the evidence
/// says.
fn conclude(args: &Args, audit: Audit, sound: bool, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    if let Some(path) = &args.output {
        write_whole(path, args.force, |out| report::audit_json(&audit, out))?;
    }
    if let Some(path) = &args.html {
        write_whole(path, args.force, |out| report::audit_html(&audit, out))?;
    }
    let exit = match audit.outcome {
        Outcome::Consistent => Exit::Consistent,
        Outcome::Divergent => Exit::Divergent,
        Outcome::NotEnoughEvidence => Exit::NotEnoughEvidence,
    };
    terminal.print(&Laid { data: audit, text: report::audit_text, markdown: report::audit_markdown })?;
    if !sound {
        bail!(
            "self-test: a planted deviation was not judged as it should be; see the table, and rely on no verdict of this setup"
        );
    }
    Ok(exit)
}
