//! `mantissa drift`: where two computations of the same tokens part, and why.
//!
//! Flags → two sides → a drift. Left out: what is compared and recomputed (`mantissa_lab::drift`) and how the result
//! looks (`mantissa_report`).

mod known;

use std::borrow::Cow;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::bail;
use clap::ValueEnum;
use mantissa_evidence::trace::Trace;
use mantissa_evidence::{EvidenceError, Record, write_whole};
use mantissa_lab::document::Document;
use mantissa_lab::drift::{
    Computed, PrefillPasses, Request, Side, TracedSide, configuration, drift, drift_of_traces, traced,
};
use mantissa_lab::prompt::given::{self, Given};
use mantissa_lab::prompt::{PromptSet, PromptSpec, taken};
use mantissa_lab::verify::{Assignment, claimed};
use mantissa_numerics::setup::{Axis, QuantizedWeights, SomeAxes};
use mantissa_numerics::{Phase, Setup};
use mantissa_published::Content;
use mantissa_published::dump::Dump;
use mantissa_report as report;
use mantissa_verdict::drift::{Drift, DriftAnswer};

use super::catalog::CatalogArgs;
use super::record::{MachineArgs, Model};
use crate::evidence::Damage;
use crate::failure::Exit;
use crate::output::absent;
use crate::progress::{Bar, Unit};
use crate::settings::Settings;
use crate::terminal::{Laid, Terminal};
use known::{Known, KnownArgs, Subject};

const EXAMPLES: &str = "\
Examples:
  mantissa drift --model smollm2-135m-instruct --phases prefill,decode
  mantissa drift --model model --setup hardware=h200 --phases prefill,decode --tokens 9,38,120
  mantissa drift --model model --a batch_size=1 --b batch_size=8 --decode-steps 4
  mantissa drift --model model --b chunk=64 --tokens 200      # or --b cached=32, --b padding=left:5
  mantissa drift capture --model model          # a capture beside the engine on the same tokens
  mantissa drift eager compiled --model model   # two captures
  mantissa drift a.json#cpu_bs1 a.json#cpu_bs8  # two configurations of one file, compared alone
  mantissa drift a.jsonl b.jsonl                # two traces: by hashes, or by values (--tensors) as captures
  mantissa drift b366.jsonl --phases prefill,decode
  mantissa drift capture --model model --html drift.html --summary drift.md
  mantissa drift capture --model model --write-baseline drift-baseline.json
  mantissa drift capture --model model --baseline drift-baseline.json

Rows are paired by prompt, token position, layer and site. With a model, each is recomputed from the rows that its own
side recorded: so record q, k, v and the sites around them at all positions (`record --sites`, `--positions`).
Exit codes: 0 equal, explained, or within rounding (1 with --strict); 1 unexplained; 2 failure; 3 nothing could be
compared, or the inputs that it takes were not recorded. With --baseline only what is new beside it counts.";

/// Where do two computations of the same tokens part: rounding or a bug?
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Record, capture, trace (.jsonl), dump of another program, or published file with signals, the reference first;
    /// `FILE#CONFIG` names a configuration
    #[arg(value_name = "A [B]", num_args = 0..=2)]
    sides: Vec<PathBuf>,
    /// The model: rows are recomputed, and a side that is not given is computed
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Both sides of the same tokens: the last as part of a prefill, and as decode steps; of one trace, its events of
    /// these phases
    #[arg(long, value_name = "PREFILL,DECODE", value_delimiter = ',')]
    phases: Vec<PhaseName>,
    /// Setup of both computed sides (may be given more than once)
    #[arg(long, value_name = "AXIS=VALUE", requires = "model", value_parser = axis)]
    setup: Vec<Assignment>,
    /// Setup of the first side, where it is computed, or passes of its prefill: `chunk=N` tokens each, or `cached=N`
    /// tokens before the others (may be given more than once)
    #[arg(long, value_name = "AXIS=VALUE", requires = "model")]
    a: Vec<Part>,
    /// The same of the second side
    #[arg(long, value_name = "AXIS=VALUE", requires = "model")]
    b: Vec<Part>,
    /// Claim this of recorded sides beside what they state (may be given more than once)
    #[arg(long, value_name = "AXIS=VALUE")]
    claim: Vec<Assignment>,
    /// Prompts for two computed sides: text (.txt), JSON or JSONL
    #[arg(long, value_name = "FILE", conflicts_with = "tokens")]
    prompt: Option<PathBuf>,
    /// Lengths of prompts that are cut from a built-in text instead
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [9, 38, 120])]
    tokens: Vec<usize>,
    /// How many of the last tokens are decode steps where both sides are computed
    #[arg(long, value_name = "N", default_value_t = 1)]
    decode_steps: usize,
    /// `within rounding` is not enough
    #[arg(long)]
    strict: bool,
    /// Write drift.json here as well
    #[arg(long, value_name = "FILE", value_parser = crate::output::written())]
    output: Option<PathBuf>,
    /// Write a self-contained page here as well
    #[arg(long, value_name = "FILE", value_parser = crate::output::written())]
    html: Option<PathBuf>,
    /// Write a few lines of Markdown here as well, for a pull request
    #[arg(long, value_name = "FILE", value_parser = crate::output::written())]
    summary: Option<PathBuf>,
    #[command(flatten)]
    known: KnownArgs,
    /// Replace what --output, --html, --summary and --write-baseline name
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    catalogs: CatalogArgs,
    #[command(flatten)]
    damage: Damage,
    #[command(flatten)]
    machine: MachineArgs,
}

/// What is set of a computed side.
#[derive(Debug, Clone)]
enum Part {
    Axis(Assignment),
    Prefill(PrefillPasses),
}

/// An axis of a side that is computed; nothing is claimed of it.
fn axis(text: &str) -> Result<Assignment, String> {
    let name = text.split_once('=').map_or(text, |(name, _)| name);
    if !Axis::ALL.iter().any(|axis| axis.name() == name) {
        let known = "batch_size, attention, hardware, dtype, padding, quantization";
        return Err(format!(
            "no axis '{name}' of a computed side; use {known}, or for --a and --b chunk, cached"
        ));
    }
    text.parse()
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let passes: fn(usize) -> PrefillPasses = match text.split_once('=') {
            Some(("chunk", _)) => PrefillPasses::Chunks,
            Some(("cached", _)) => PrefillPasses::Cached,
            _ => return axis(text).map(Self::Axis),
        };
        let (name, tokens) = text.split_once('=').unwrap_or_default();
        let tokens = tokens.parse().ok().filter(|tokens| *tokens > 0);
        let tokens = tokens.ok_or_else(|| format!("{name} is a number of tokens, like {name}=64"))?;
        Ok(Self::Prefill(passes(tokens)))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PhaseName {
    Prefill,
    Decode,
}

impl From<PhaseName> for Phase {
    fn from(phase: PhaseName) -> Self {
        match phase {
            PhaseName::Prefill => Self::Prefill,
            PhaseName::Decode => Self::Decode,
        }
    }
}

pub(crate) fn run(args: &Args, settings: &Settings, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let known_file = args.known.write_baseline.as_deref();
    let written = [args.output.as_deref(), args.html.as_deref(), args.summary.as_deref(), known_file];
    absent(&written, args.force)?;
    let known = Known::open(&args.known)?;
    if ![0, 2].contains(&args.phases.len()) {
        bail!("--phases: one for each side, like --phases prefill,decode");
    }
    let machine = args.machine.machine()?;
    let catalogs = args.catalogs.read()?;
    let model = args.model.as_ref().map(|name| Model::open(name)).transpose()?;
    if let Some(model) = &model {
        model.tell(terminal);
    }
    let (mut records, mut altered) = (Vec::new(), false);
    for path in &args.sides {
        let (given, damaged) = given_side(args.damage, path, terminal)?;
        records.push(given);
        altered |= damaged;
    }
    // Phases of a trace are told apart by its events, whether or not it has values.
    let by_phase = model.is_none() && !args.phases.is_empty();
    let by_hash = |given: &GivenSide| !given.has_values() || by_phase && matches!(given, GivenSide::Trace(_));
    if let Some(place) = records.iter().position(by_hash) {
        let exit = traces(args, &records, place, &known, terminal)?;
        return Ok(if altered { Exit::Altered } else { exit });
    }
    let of_computed = !args.setup.is_empty() || !args.a.is_empty() || !args.b.is_empty();
    if records.len() == 2 && (of_computed || !args.phases.is_empty()) {
        bail!(
            "--phases, --setup, --a, --b: are for sides that are computed; leave them out beside two records"
        );
    }
    if args.decode_steps == 0 && args.phases.contains(&PhaseName::Decode) {
        bail!("--decode-steps 0: a side of decode steps has one at least");
    }
    let prompts = match (&model, records.is_empty()) {
        (Some(model), true) => prompts(args, model)?,
        (None, true) => {
            bail!("two sides are needed; give two records, or --model and what is to be computed")
        }
        _ => Vec::new(),
    };
    let claim = claimed(&args.claim)?;
    let decoded = |phase: Option<&PhaseName>| match phase {
        Some(PhaseName::Decode) => args.decode_steps,
        None if records.is_empty() => args.decode_steps,
        Some(PhaseName::Prefill) | None => 0,
    };
    let computed = |side: usize| -> anyhow::Result<Side<'_>> {
        let own = if side == 0 { &args.a } else { &args.b };
        // Other programs decode weights of 4 and 8 bits before they multiply on a CPU.
        let packed = model.as_ref().is_some_and(|model| model.checkpoint.packed().is_some());
        let quantization = if packed { QuantizedWeights::Dequantize } else { QuantizedWeights::Keep };
        let usual = Setup { quantization, ..Setup::default() };
        let (mut axes, mut prefill) = (Vec::new(), PrefillPasses::Whole);
        for part in own {
            match part {
                Part::Axis(axis) => axes.push(axis.clone()),
                Part::Prefill(passes) if prefill == PrefillPasses::Whole => prefill = *passes,
                Part::Prefill(_) => bail!("chunk, cached: a prefill has one of them; leave the other out"),
            }
        }
        let setup = with(with(usual, &claimed(&args.setup)?), &claimed(&axes)?);
        let decoded = decoded(args.phases.get(side));
        Ok(Side::Computed(Computed { setup, prompts: &prompts, decoded, prefill }))
    };
    let recorded = |side: usize| match &records[side] {
        GivenSide::Record(record, config) => {
            Side::Recorded { record, config: config.as_deref(), claimed: &claim }
        }
        GivenSide::Trace(trace) => Side::Traced { trace, path: &args.sides[side], claimed: &claim },
    };
    let sides = match records.len() {
        0 => [computed(0)?, computed(1)?],
        1 => [computed(0)?, recorded(0)],
        _ => [recorded(0), recorded(1)],
    };
    if records.len() == 1 && model.is_none() {
        bail!("{}: one side alone; give another record, or --model to compute it", args.sides[0].display());
    }
    let request =
        Request { sides, model: model.as_ref().map(|model| &model.checkpoint), catalogs: &catalogs, machine };
    let shown: RefCell<Option<(String, Bar)>> = RefCell::new(None);
    let found = drift(&request, &|stage, done| {
        let mut bar = shown.borrow_mut();
        if bar.as_ref().is_none_or(|(known, _)| known != stage) {
            *bar = Some((stage.to_owned(), Bar::new(settings, stage, None, Unit::Values)));
        }
        if let Some((_, bar)) = bar.as_ref() {
            bar.at(stage, done, None);
        }
    });
    drop(shown);
    let found = found?;
    let subject = if known.is_asked() {
        let first = records.first().map_or_else(|| Ok(Subject::of_prompts(&prompts)), GivenSide::subject)?;
        first.given(model.as_ref(), 2_usize.saturating_sub(records.len()), settings)?
    } else {
        Subject::default()
    };
    let exit = conclude(args, &known, (found, subject), terminal)?;
    Ok(if altered { Exit::Altered } else { exit })
}

/// Writes and prints a drift of what `subject` says.
fn conclude(
    args: &Args,
    known: &Known<'_>,
    (found, subject): (Drift, Subject),
    terminal: &mut Terminal,
) -> anyhow::Result<Exit> {
    let mut found = found;
    let baseline = known.settle(&mut found, subject, args.strict)?;
    if let Some(path) = &args.output {
        write_whole(path, args.force, |out| report::drift_json(&found, out))?;
    }
    if let Some(path) = &args.html {
        write_whole(path, args.force, |out| report::drift_html(&found, out))?;
    }
    if let Some(path) = &args.summary {
        write_whole(path, args.force, |out| report::drift_summary(&found, out))?;
    }
    if let (Some(path), Some(baseline)) = (&args.known.write_baseline, &baseline) {
        write_whole(path, args.force, |out| report::drift_baseline_json(baseline, out))?;
    }
    let exit = match decisive(&found) {
        DriftAnswer::Equal | DriftAnswer::Explained => Exit::Consistent,
        DriftAnswer::WithinRounding if !args.strict => Exit::Consistent,
        DriftAnswer::WithinRounding | DriftAnswer::Unexplained => Exit::Divergent,
        DriftAnswer::NotLocalized => Exit::NotEnoughEvidence,
    };
    terminal.print(&Laid { data: found, text: report::drift_text, markdown: report::drift_markdown })?;
    Ok(exit)
}

/// The answer that decides the exit code: with a baseline, the worst of what is new beside it.
fn decisive(found: &Drift) -> DriftAnswer {
    match &found.baseline {
        Some(against) if found.counts.pairs > 0 => against.worst().unwrap_or(DriftAnswer::Equal),
        _ => found.answer,
    }
}

/// A side that is given.
enum GivenSide {
    Record(Record, Option<String>),
    Trace(Trace),
}

impl GivenSide {
    /// What is compared, as far as it says.
    fn subject(&self) -> anyhow::Result<Subject> {
        match self {
            Self::Record(record, config) => Subject::of_record(record, config.as_deref()),
            Self::Trace(trace) => Ok(Subject::of_trace(trace)),
        }
    }

    /// Whether it has rows, and not their hashes alone.
    fn has_values(&self) -> bool {
        match self {
            Self::Record(..) => true,
            Self::Trace(trace) => trace.events.iter().any(|event| event.tensor.is_some()),
        }
    }
}

/// Opens a side, and says whether it was altered.
fn given_side(damage: Damage, path: &Path, terminal: &Terminal) -> anyhow::Result<(GivenSide, bool)> {
    if Dump::is_one(path) {
        return Ok((GivenSide::Trace(trace_of(path, terminal)?), false));
    }
    if path.extension().is_some_and(|extension| extension == "jsonl") {
        let trace = Trace::open(path)?;
        if !trace.has_end {
            terminal
                .note(&format!("{}: it has no end, so nothing tells whether it was cut off", path.display()));
        }
        return Ok((GivenSide::Trace(trace), false));
    }
    let (record, config, altered) = opened(damage, path, terminal)?;
    Ok((GivenSide::Record(record, config), altered))
}

/// The trace of another program's dump.
fn trace_of(path: &Path, terminal: &Terminal) -> anyhow::Result<Trace> {
    let dump = Dump::open(path)?;
    if let Some(said) = super::trace::left_out(&dump) {
        terminal.note(&said);
    }
    let mut events = Vec::new();
    dump.events(false, &mut |event, _| {
        events.push(event);
        Ok::<(), EvidenceError>(())
    })?;
    Ok(Trace { header: Some(dump.header("mantissa")), events, has_end: true })
}

/// Compares traces, by hashes: two files, or two phases of one. Of the side `place` there are no values.
fn traces(
    args: &Args,
    given: &[GivenSide],
    place: usize,
    known: &Known<'_>,
    terminal: &mut Terminal,
) -> anyhow::Result<Exit> {
    if args.model.is_some() {
        bail!(
            "{}: --model: it has hashes and no rows to recompute; make the trace with --tensors, or leave --model out",
            args.sides[place].display()
        );
    }
    let mut all = Vec::new();
    for (given, path) in given.iter().zip(&args.sides) {
        let (name, path) = (path.display().to_string(), path.as_path());
        all.push(match given {
            GivenSide::Trace(trace) => (name, Cow::Borrowed(trace), Some(path)),
            GivenSide::Record(record, config) => {
                let config = configuration(record, config.as_deref())?;
                (name, Cow::Owned(traced(record, &config)?), None)
            }
        });
    }
    let phases: Vec<Phase> = args.phases.iter().map(|phase| (*phase).into()).collect();
    let side = |place: usize| {
        let (name, trace, path) = &all[place.min(all.len() - 1)];
        TracedSide { name, trace, phase: phases.get(place).copied(), path: *path }
    };
    if all.len() == 1 && phases.is_empty() {
        bail!("{}: one trace alone; give another, or --phases prefill,decode", args.sides[0].display());
    }
    let found = drift_of_traces([side(0), side(1)])?;
    let subject = all.first().map_or_else(Subject::default, |(_, trace, _)| Subject::of_trace(trace));
    conclude(args, known, (found, subject), terminal)
}

/// A setup with some axes set.
fn with(setup: Setup, some: &SomeAxes) -> Setup {
    Axis::ALL.into_iter().filter_map(|axis| some.get(axis)).fold(setup, Setup::with)
}

/// Opens `FILE` or `FILE#CONFIG`.
fn opened(
    damage: Damage,
    path: &Path,
    terminal: &Terminal,
) -> anyhow::Result<(Record, Option<String>, bool)> {
    let text = path.to_string_lossy();
    let (file, config) = match text.rsplit_once('#') {
        Some((file, config)) if !path.exists() => (PathBuf::from(file), Some(config.to_owned())),
        _ => (path.to_owned(), None),
    };
    let opened = damage.open(&file)?;
    opened.warnings.iter().for_each(|warning| terminal.note(&format!("{}: {warning}", opened.name)));
    let altered = !opened.damage.is_empty();
    let record = match opened.content {
        Content::Record(record) => record,
        Content::Published(published) => match published.experiment() {
            Some(experiment) => Record::from_experiment(experiment.clone(), &file),
            None => bail!(
                "{}: a {} file holds distances, not signals; rows are needed to find where they part",
                file.display(),
                published.layout().name
            ),
        },
    };
    Ok((record, config, altered))
}

/// Token ids of the prompts of two computed sides.
fn prompts(args: &Args, model: &Model) -> anyhow::Result<Vec<Vec<u32>>> {
    if let Some(path) = &args.prompt {
        let given = Given { references: given::read(path)?, neighbours: Vec::new() };
        let set = taken::set(&given, 0, &model.tokenizer.as_ref().ok())?;
        return Ok(set.references.into_iter().map(|prompt| prompt.ids).collect());
    }
    let documents = Document::built_in();
    let mut all = Vec::new();
    for &length in &args.tokens {
        if length < 2 {
            bail!("--tokens {length}: two tokens at least, so that one can be a decode step");
        }
        let spec = PromptSpec { document_tokens: length, chat_template: false, ..PromptSpec::default() };
        let mut ids = PromptSet::cut(&documents, &spec, model.tokenizer()?)?.references.swap_remove(0).ids;
        ids.truncate(length);
        all.push(ids);
    }
    Ok(all)
}
