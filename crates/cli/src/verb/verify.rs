//! `mantissa verify`: replays what evidence claims, and names the setups that fit.
//!
//! Evidence → claims → candidates → a plan of classes → replays → an audit. Left out: how any of that is done
//! (`mantissa_lab::replay`, `mantissa_verdict::audit`) and how it looks (`mantissa_report`).

mod grid;
mod replayed;
mod self_test;
mod spot;
mod state;
mod unreplayed;

use std::io;
use std::path::PathBuf;

use anyhow::bail;
use clap::ValueEnum;
use mantissa_evidence::{Digest, Record, write_whole};
use mantissa_lab::replay::Replay;
use mantissa_published::{Content, Opened, open};
use mantissa_report::{self as report, Style};
use mantissa_verdict::Audit;
use mantissa_verdict::analysis::{Outcome, Source};
use serde::Serialize;

use super::record::{Model, machine};
use crate::failure::Exit;
use crate::settings::Settings;
use crate::terminal::{Page, Report, Terminal};

use grid::{Assignment, Axis};

const EXAMPLES: &str = "\
Examples:
  mantissa verify record --model smollm2-135m-instruct
  mantissa verify record --model model --vary batch_size=1,2,4,5,8,9,16,17 --vary attention=eager,sdpa
  mantissa verify record --model model --claim hardware=h200 --vary hardware=cpu,h200
  mantissa verify record --model model --replay prefill --full --output verification.json
  mantissa verify record --model model --spot-check 700
  mantissa verify --self-test

Candidates whose kernels all compute the same are one class, computed once. FIELD is hardware, dtype, attention,
batch_size or quantization (auto, none). Evidence is a record, or a published file that holds token ids and signals.
Exit codes: 0 every claim fits, 1 a claim is contradicted, 2 failure, 3 a claim could not be checked.";

/// Replay what evidence claims: which setups fit it, which it contradicts, and where first
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Evidence: a record, an experiment JSON, or a published file
    #[arg(value_name = "EVIDENCE", required_unless_present = "self_test")]
    evidence: Option<PathBuf>,
    /// The model that is claimed to have run: a name that was pulled, or a path; without it nothing is replayed
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Claim this instead of what the evidence declares (may be given more than once)
    #[arg(long, value_name = "FIELD=VALUE")]
    claim: Vec<Assignment>,
    /// Also replay the claim with these values (may be given more than once; all combinations)
    #[arg(long, value_name = "FIELD=LIST")]
    vary: Vec<Axis>,
    /// `decode` as it was generated, or `prefill`: one pass over prompt and output
    #[arg(long, value_name = "HOW", default_value = "decode")]
    replay: How,
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
    /// Keep finished replays in this file, and go on from what it holds
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Write verification.json here as well
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace what --output names
    #[arg(long)]
    force: bool,
    /// Catalog of recipes to use beside the built-in ones (`mantissa catalog build`)
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = super::record::threads)]
    threads: Option<u32>,
    /// Instruction set
    #[arg(long, value_name = "SET", default_value = "auto", value_parser = ["auto", "scalar", "avx2", "avx512"])]
    isa: String,
}

/// How evidence is recomputed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum How {
    Decode,
    Prefill,
}

impl From<How> for Replay {
    fn from(how: How) -> Self {
        match how {
            How::Decode => Self::Decode,
            How::Prefill => Self::Prefill,
        }
    }
}

pub(crate) fn run(args: &Args, settings: &Settings, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    if let Some(path) = args.output.as_ref().filter(|path| path.exists() && !args.force) {
        bail!("{}: already exists; choose another path or give --force", path.display());
    }
    let machine = machine(args.threads, &args.isa)?;
    let mut catalog = None;
    if let Some(path) = &args.catalog {
        super::catalog::install(path)?;
        catalog = Some(Digest::of_bytes(&std::fs::read(path)?));
    }
    let Some(evidence) = &args.evidence else {
        let audit = self_test::alone(args, machine, settings)?;
        let sound = audit.self_test.iter().all(|planted| planted.passed);
        return conclude(args, audit, sound, terminal);
    };
    let opened = open(evidence)?;
    let source = Source {
        name: opened.name.clone(),
        digest: opened.digest.to_string(),
        layout: opened.content.layout().to_owned(),
        warnings: opened.warnings.clone(),
    };
    let mut audit = match (&args.model, signals(&opened)) {
        (Some(model), Some(Signals(record))) => {
            let model = Model::open(model)?;
            let mut audit = match args.spot_check {
                Some(draws) => spot::audit(args, draws, &model, record.get(), &source, machine, settings)?,
                None => replayed::audit(args, &model, record.get(), &source, machine, settings, terminal)?,
            };
            if args.self_test {
                audit.self_test =
                    self_test::of(args, &model, record.get(), machine, settings, &mut audit.notes)?;
            }
            audit
        }
        (model, signals) => {
            let why = match (model, signals) {
                (_, None) => unreplayed::Why::NoSignals,
                _ => unreplayed::Why::NoModel,
            };
            unreplayed::audit(&opened, &source, why)?
        }
    };
    if let Some(catalog) = catalog {
        audit.notes.push(format!(
            "Recipes of the catalog with blake3 {catalog} were used beside the built-in ones."
        ));
    }
    let sound = audit.self_test.iter().all(|planted| planted.passed);
    conclude(args, audit, sound, terminal)
}

/// Writes and prints an audit. A self-test that missed something is a failure of this program, whatever the evidence says.
fn conclude(args: &Args, audit: Audit, sound: bool, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    if let Some(path) = &args.output {
        write_whole(path, args.force, |out| report::audit_json(&audit, out))?;
    }
    let exit = match audit.outcome {
        Outcome::Consistent => Exit::Consistent,
        Outcome::Divergent => Exit::Divergent,
        Outcome::NotEnoughEvidence => Exit::NotEnoughEvidence,
    };
    terminal.print(&Shown(audit))?;
    if !sound {
        bail!(
            "self-test: a planted deviation was not judged as it should be; see the table, and rely on no verdict of this setup"
        );
    }
    Ok(exit)
}

/// A record, opened or made of a published file.
enum Held<'r> {
    Opened(&'r Record),
    Made(Box<Record>),
}

impl Held<'_> {
    fn get(&self) -> &Record {
        match self {
            Self::Opened(record) => record,
            Self::Made(record) => record,
        }
    }
}

struct Signals<'r>(Held<'r>);

/// What evidence holds to be recomputed.
fn signals(opened: &Opened) -> Option<Signals<'_>> {
    match &opened.content {
        Content::Record(record) => Some(Signals(Held::Opened(record))),
        Content::Published(published) => published.experiment().map(|experiment| {
            Signals(Held::Made(Box::new(Record::from_experiment(experiment.clone(), &opened.path))))
        }),
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Shown(Audit);

impl Report for Shown {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let style = Style { color: page.color(), ..Style::default() };
        page.set(&report::audit_text(&self.0, style))
    }

    fn markdown(&self) -> Option<io::Result<Vec<u8>>> {
        let mut text = Vec::new();
        Some(report::audit_markdown(&self.0, &mut text).map(|()| text))
    }
}
