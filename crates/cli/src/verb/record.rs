//! `mantissa record`: runs a model in a declared setup and leaves evidence.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use mantissa_engine::Isa;
use mantissa_evidence::{Digest, Experiment, NotFinite, Outcome, UsedCatalog, container};
use mantissa_lab::document::{Document, PdfReader};
use mantissa_lab::prompt::PromptSpec;
use mantissa_lab::prompt::given::{self, Given};
use mantissa_lab::{Event, Layer, Machine, RecordSpec, Recorded, Recorder, SignalSpec};
use mantissa_model::{Checkpoint, ModelError, Tokenizer, pull};
use mantissa_numerics::setup::{Basis, Hardware};
use mantissa_numerics::{Dtype, Generation, Point, Setup};
use serde::Serialize;

use super::catalog::CatalogArgs;
use super::inspect::outcome_text;
use crate::axes::AxisFlags;
use crate::coverage::Answer;
use crate::failure::Exit;
use crate::generation::GenerationArgs;
use crate::interrupt::Resumable;
use crate::output::{folder_of, written};
use crate::progress::{Bar, Unit};
use crate::settings::{Settings, home, model_path};
use crate::terminal::{Column, Page, Report, Terminal};

const EXAMPLES: &str = "\
Examples:
  mantissa record --model smollm2-135m-instruct --document paper.pdf --out record
  mantissa record --model smollm2-135m-instruct --document paper.pdf --document notes.txt \\
      --decode 30 --batch-size 1,2,4,8,17 --attention eager,sdpa --out ablation
  mantissa record --model smollm2-135m-instruct --prompt prompts.jsonl --neighbours others.jsonl \\
      --batch-size 4 --teacher-force outputs.jsonl --out given
  mantissa record --model tiny-moe --document paper.txt --no-chat-template --dtype f32 \\
      --layers 1,last --sites attn_out,router_logits --out moe --json moe.json

Exit codes: 0 all repetitions agree to the bit, 1 they do not (all are kept), 2 failure.
Killed in mid-run, the same command resumes and ends with the same bytes.";

/// Run a model on a document in a declared setup and keep its signals as evidence
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A pulled model's name, a Hugging Face folder or a GGUF file
    #[arg(long, value_name = "SPEC")]
    model: String,
    /// PDF or text that prompts are cut from; batch neighbours come from the second and later ones
    #[arg(long, value_name = "FILE", required_unless_present = "prompt")]
    document: Vec<PathBuf>,
    /// Directory of the evidence
    #[arg(long, value_name = "DIR", value_parser = written())]
    out: PathBuf,
    /// Also write the experiment JSON here
    #[arg(long, value_name = "FILE", value_parser = written())]
    json: Option<PathBuf>,
    #[command(flatten)]
    prompt: PromptArgs,
    #[command(flatten)]
    generation: GenerationArgs,
    #[command(flatten)]
    setup: SetupArgs,
    #[command(flatten)]
    signals: SignalArgs,
    #[command(flatten)]
    execution: ExecutionArgs,
    #[command(flatten)]
    machine: MachineArgs,
}

/// What is fed.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Prompt")]
pub(super) struct PromptArgs {
    /// Prompts as they are, instead of --document. `.jsonl`: one a line; `.json`: one, or a list of them; else a plain
    /// text. In JSON a text, token ids, chat messages, or an object with `text`, `ids` or `messages`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["document", "document_tokens", "references",
        "instruction", "no_chat_template"])]
    prompt: Option<PathBuf>,
    /// Prompts beside each one of --prompt in its batch, in the same forms [default: the others of --prompt]
    #[arg(long, value_name = "FILE", requires = "prompt")]
    neighbours: Option<PathBuf>,
    /// Document tokens of each prompt, exactly
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = at_least_one)]
    document_tokens: u32,
    /// Prompts: consecutive slices of the first document
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    references: u32,
    /// Tokens to decode [default: 30, or as many as are forced]
    #[arg(long, visible_alias = "decode-steps", value_name = "N", value_parser = steps)]
    decode: Option<u32>,
    /// What follows the document
    #[arg(long, value_name = "TEXT", default_value = mantissa_lab::prompt::INSTRUCTION)]
    instruction: String,
    /// Prompt without the model's chat template
    #[arg(long)]
    no_chat_template: bool,
    /// Force these output ids instead of choosing greedily: a JSON list, or numbers between blanks; for each prompt its
    /// own with a list of lists, or a list a line in a `.jsonl`
    #[arg(long, value_name = "IDS_FILE")]
    teacher_force: Option<PathBuf>,
}

/// The setups: every batch size with every attention.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Setup")]
struct SetupArgs {
    #[command(flatten)]
    axes: AxisFlags,
    #[command(flatten)]
    catalogs: CatalogArgs,
    /// Repetitions, which must agree to the bit
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_one)]
    reps: u32,
}

/// What is kept.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Signals")]
struct SignalArgs {
    /// Decoder blocks, counted from 1, or `last` [default: those of 1,2,4,12,last that the model has]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    layers: Option<Vec<Layer>>,
    /// Positions from the end of the sequence
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "-3,-2,-1",
        allow_hyphen_values = true, value_parser = position)]
    positions: Vec<i32>,
    /// Further points of those blocks, beside the blocks' outputs and keys
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = point())]
    sites: Vec<Point>,
    /// Log-probabilities kept per position
    #[arg(long, value_name = "K", default_value_t = 10, value_parser = at_least_one)]
    top_k: u32,
}

/// Where to run: what changes the time and no bit.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Execution (changes no bit)")]
pub(super) struct MachineArgs {
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = threads)]
    threads: Option<u32>,
    /// Instruction set
    #[arg(long, value_name = "SET", default_value = "auto", value_parser = ["auto", "scalar", "avx2", "avx512"])]
    isa: String,
}

impl MachineArgs {
    pub(super) fn machine(&self) -> anyhow::Result<Machine> {
        machine(self.threads, &self.isa)
    }
}

/// How a record goes on.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Execution (changes no bit)")]
struct ExecutionArgs {
    /// Go on where a killed run stopped (the default)
    #[arg(long, conflicts_with = "fresh")]
    resume: bool,
    /// Begin anew, discarding what a killed run left
    #[arg(long)]
    fresh: bool,
    /// Run nothing: say what share of the runs recipes cover, and which measurement would add most
    #[arg(long)]
    coverage: bool,
}

/// A storage format, by the names of `Dtype`.
pub(super) fn dtype() -> impl TypedValueParser<Value = Dtype> {
    PossibleValuesParser::new(Dtype::ALL.map(Dtype::name)).try_map(|name| name.parse::<Dtype>())
}

pub(super) fn point() -> impl TypedValueParser<Value = Point> {
    PossibleValuesParser::new(Point::ALL.map(Point::name)).try_map(|name| name.parse::<Point>())
}

/// A count that cannot be zero.
fn at_least_one(s: &str) -> Result<u32, String> {
    s.parse().ok().filter(|&n| n > 0).ok_or_else(|| "use a whole number from 1".to_owned())
}

/// Threads; more than any machine has are a slip.
pub(super) fn threads(s: &str) -> Result<u32, String> {
    s.parse().ok().filter(|n| (1..=1024).contains(n)).ok_or_else(|| "use 1 to 1024".to_owned())
}

/// Decode steps, of which each holds its keys and values in memory.
fn steps(s: &str) -> Result<u32, String> {
    s.parse().ok().filter(|&n| n <= 1_000_000).ok_or_else(|| "use 0 to 1000000".to_owned())
}

fn position(s: &str) -> Result<i32, String> {
    s.parse().ok().filter(|&n| n < 0).ok_or_else(|| "count from the end: -1 is the newest token".to_owned())
}

/// A model opened for recording.
pub(super) struct Model {
    /// Its name for people: as pulled, or its file's.
    pub(super) name: String,
    pub(super) checkpoint: Checkpoint,
    /// Its tokenizer, or why there is none.
    pub(super) tokenizer: Result<Tokenizer, ModelError>,
    pub(super) path: PathBuf,
}

impl Model {
    /// Opens a pulled model by its name, or a path.
    pub(super) fn open(spec: &str) -> anyhow::Result<Self> {
        let path = model_path(spec)?;
        let whole = path.canonicalize().ok();
        let whole = whole.as_deref();
        let name = match whole.and_then(Path::file_name) {
            _ if let Some(name) = whole.and_then(pull::snapshot_name) => name,
            Some(name) if !pull::pulled(&home()?).iter().any(|pulled| pulled == spec) => {
                name.to_string_lossy().into_owned()
            }
            _ => spec.to_owned(),
        };
        Ok(Self { name, checkpoint: Checkpoint::open(&path)?, tokenizer: Tokenizer::open(&path), path })
    }

    /// The files that make ids of texts and messages, by their digests; of a GGUF file its name.
    pub(super) fn tokenizer_digest(&self) -> String {
        let files = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"].map(|name| {
            let bytes = std::fs::read(self.path.join(name)).ok()?;
            Some(format!("{name} {}", Digest::of_bytes(&bytes)))
        });
        let files: Vec<String> = files.into_iter().flatten().collect();
        if files.is_empty() { self.name.clone() } else { files.join(", ") }
    }

    /// Its tokenizer, for what needs one.
    pub(super) fn tokenizer(&self) -> anyhow::Result<&Tokenizer> {
        self.tokenizer.as_ref().map_err(|error| anyhow!("{error}"))
    }

    /// Its tokenizer, for the prompts of `spec`; ids alone need none, and it is said what is left out without one.
    pub(super) fn tokenizer_for(
        &self,
        spec: &RecordSpec,
        left_out: &str,
        terminal: &Terminal,
    ) -> anyhow::Result<Option<&Tokenizer>> {
        if spec.prompt.given.as_ref().is_some_and(Given::are_ids) {
            return Ok(self.tokenizer_if_any(left_out, terminal));
        }
        self.tokenizer().map(Some)
    }

    /// Its tokenizer, if there is one; if not, it is said what is left out.
    pub(super) fn tokenizer_if_any(&self, left_out: &str, terminal: &Terminal) -> Option<&Tokenizer> {
        let told = |error| terminal.note(&format!("{left_out}, since there is no tokenizer: {error}"));
        self.tokenizer.as_ref().map_err(told).ok()
    }

    /// Says what was decided about its files.
    pub(super) fn tell(&self, terminal: &Terminal) {
        let of_tokenizer = self.tokenizer.iter().flat_map(Tokenizer::decisions);
        let all = self.checkpoint.decisions().iter().chain(of_tokenizer);
        all.for_each(|decision| terminal.note(&decision.to_string()));
    }
}

/// Where to run: as told, else all of this machine.
pub(super) fn machine(threads: Option<u32>, isa: &str) -> anyhow::Result<Machine> {
    let isa = if isa == "auto" { Isa::detect() } else { isa.parse().map_err(anyhow::Error::msg)? };
    let threads = match threads {
        Some(threads) => usize::try_from(threads)?,
        None => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    };
    Ok(Machine { threads, isa })
}

/// Records with a bar on the terminal.
pub(super) fn record(recorder: &Recorder<'_>, out: &Path, settings: &Settings) -> anyhow::Result<Recorded> {
    let kept = "finished repetitions are kept: the same command goes on with the next one";
    let _resumable =
        Resumable::new(format!("{} holds what is done; {kept}, --fresh begins anew", out.display()));
    let hashing = Bar::new(settings, "digest of the weights", None, Unit::Bytes);
    let tokens = Bar::new(settings, "record", None, Unit::Tokens);
    let label = std::cell::RefCell::new(String::new());
    let recorded = recorder.record(out, &|event| match event {
        Event::Hashing { done, total } => hashing.at("digest of the weights", done, Some(total)),
        Event::Repetition { config_id, reference, rep, index, total, .. } => {
            hashing.clear();
            label.replace(format!("{config_id} ref {reference} rep {rep} ({} of {total})", index + 1));
        }
        Event::Tokens { done, total } => tokens.at(&label.borrow(), done as u64, Some(total as u64)),
    })?;
    Ok(recorded)
}

/// What is fed, read from the files that flags name.
pub(super) struct Fed {
    pub(super) prompt: PromptSpec,
    pub(super) decode_steps: usize,
    pub(super) forced: Option<Vec<Vec<u32>>>,
    pub(super) generation: Generation,
}

impl PromptArgs {
    pub(super) fn fed(
        &self,
        generation: &GenerationArgs,
        model: &Model,
        terminal: &Terminal,
    ) -> anyhow::Result<Fed> {
        let forced = self.teacher_force.as_deref().map(given::read_ids).transpose()?;
        let others = self.neighbours.as_deref().map(given::read).transpose()?.unwrap_or_default();
        let given = match self.prompt.as_deref() {
            Some(path) => Some(Given { references: given::read(path)?, neighbours: others }),
            None => None,
        };
        let decode_steps = match (self.decode, &forced) {
            (Some(steps), _) => usize::try_from(steps)?,
            (None, Some(forced)) => forced.first().map_or(0, Vec::len),
            (None, None) => 30,
        };
        // Nothing acts on tokens that are given.
        let generation = match &forced {
            Some(_) => Generation::default(),
            None => generation.settings(&model.checkpoint, terminal)?,
        };
        let prompt = PromptSpec {
            document_tokens: usize::try_from(self.document_tokens)?,
            references: usize::try_from(self.references)?,
            instruction: self.instruction.clone(),
            chat_template: !self.no_chat_template,
            given,
            ..PromptSpec::default()
        };
        Ok(Fed { prompt, decode_steps, forced, generation })
    }
}

impl Args {
    fn spec(&self, model: &Model, terminal: &Terminal) -> anyhow::Result<RecordSpec> {
        let (setup, signals) = (&self.setup, &self.signals);
        let cells = setup.axes.setups()?;
        once("--positions", &signals.positions)?;
        let Fed { prompt, decode_steps, forced, generation } =
            self.prompt.fed(&self.generation, model, terminal)?;
        let mut positions = signals.positions.clone();
        positions.sort_unstable();
        Ok(RecordSpec {
            model: model.name.clone(),
            prompt,
            cells,
            decode_steps,
            repetitions: usize::try_from(setup.reps)?,
            forced,
            signals: SignalSpec {
                layers: signals.layers.clone(),
                positions,
                points: signals.sites.clone(),
                top_k: usize::try_from(signals.top_k)?,
            },
            generation,
        })
    }
}

/// Refuses a list that names something twice.
fn once<T: PartialEq + std::fmt::Display>(flag: &str, values: &[T]) -> anyhow::Result<()> {
    match values.iter().enumerate().find(|(i, value)| values[..*i].contains(value)) {
        Some((_, twice)) => bail!("{flag}: {twice} is given twice; give each value once"),
        None => Ok(()),
    }
}

/// Discards what a killed run left in `out`. A finished record is no such thing.
fn discard_unfinished(out: &Path) -> anyhow::Result<()> {
    let shown = out.display();
    if container::is_complete(out) {
        bail!(
            "{shown}: holds a finished record, which --fresh does not discard; remove it, or choose another --out"
        );
    }
    if !out.join("plan.json").is_file() {
        return Ok(());
    }
    let _lock = mantissa_lab::record::lock(out)?;
    let ours = |name: &str| {
        matches!(name, "plan.json" | ".unfinished" | "timing.json")
            || name.starts_with("run-")
            || name.starts_with(".mantissa-")
    };
    let discard = || {
        for entry in std::fs::read_dir(out)? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(ours) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                std::fs::remove_dir_all(entry.path())?;
            } else {
                std::fs::remove_file(entry.path())?;
            }
        }
        io::Result::Ok(())
    };
    discard().map_err(|e| anyhow::anyhow!("{shown}: cannot discard it: {e}; remove it yourself"))
}

#[derive(Serialize)]
struct Summary {
    path: PathBuf,
    json: Option<PathBuf>,
    was_here: bool,
    repetitions_resumed: usize,
    reproducible: bool,
    hardware: Hardware,
    basis: Basis,
    /// What of the documents was lost.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    /// Catalogs that recipes were taken from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    catalogs: Vec<UsedCatalog>,
    configurations: Vec<Row>,
}

#[derive(Serialize)]
pub(super) struct Row {
    config_id: String,
    repetitions: u32,
    outcome: Outcome,
    mean_seconds: Option<f64>,
    output: Option<String>,
    /// Where values first stopped being finite.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_finite: Vec<NotFinite>,
}

/// What a prediction of hardware rests on, in words; none for the engine's own arithmetic.
pub(super) fn predicted(hardware: Hardware, basis: Basis) -> Option<String> {
    let name = hardware.name();
    match basis {
        Basis::Own => None,
        Basis::Verified => {
            Some(format!("{name}, by recipes compared with it (docs/coverage.md says how far)"))
        }
        Basis::Asked => Some(format!(
            "{name}, by recipes compared with it; of some products the order of the sum is what cuBLAS itself names: \
             such sums were compared at other sizes, not at theirs (docs/coverage.md)"
        )),
        Basis::Measured => Some(format!(
            "{name}, by recipes of which some were measured by its user and verified by nobody else"
        )),
        Basis::Literature => Some(format!(
            "{name}, from literature: compared with no hardware, not what one would leave for certain"
        )),
    }
}

impl Report for Summary {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        page.heading(&self.path.display().to_string())?;
        if self.was_here {
            page.field("finished", "it was recorded before, with the same setup and weights")?;
        } else if self.repetitions_resumed > 0 {
            page.field("resumed", format!("{} repetition(s) were on disk", self.repetitions_resumed))?;
        }
        for note in &self.notes {
            page.field("note", note)?;
        }
        if let Some(words) = predicted(self.hardware, self.basis) {
            page.field("hardware", words)?;
        }
        for used in &self.catalogs {
            page.field("recipes", used)?;
        }
        rows_text(&self.configurations, page)?;
        if let Some(json) = &self.json {
            page.field("JSON", json.display())?;
        }
        page.field("next", format!("mantissa inspect {}", self.path.display()))
    }
}

pub(super) fn rows_text(rows: &[Row], page: &mut Page<'_>) -> io::Result<()> {
    let columns = [
        Column::Left("configuration"),
        Column::Left("repetitions"),
        Column::Right("mean time"),
        Column::Left("output"),
    ];
    let row = |row: &Row| {
        let seconds = row.mean_seconds.map_or_else(|| "-".to_owned(), |s| format!("{s:.2} s"));
        let output: String = row.output.as_deref().unwrap_or_default().chars().take(48).collect();
        let outcome = outcome_text(row.repetitions, &row.outcome);
        vec![row.config_id.clone(), outcome, seconds, format!("\"{output}\"")]
    };
    page.table(&columns, &rows.iter().map(row).collect::<Vec<_>>())?;
    for (row, first) in rows.iter().flat_map(|row| row.not_finite.iter().map(move |first| (row, first))) {
        page.field("not finite", format!("{}, {first}", row.config_id))?;
    }
    Ok(())
}

/// One row for each configuration.
pub(super) fn rows(experiment: &Experiment) -> Vec<Row> {
    let rows = experiment.configurations.iter().filter_map(|configuration| {
        let extras = configuration.mantissa.as_ref()?;
        let run = experiment.runs.iter().find(|run| run.config_id == configuration.config_id);
        Some(Row {
            config_id: configuration.config_id.clone(),
            repetitions: extras.reproducibility.repetitions,
            outcome: extras.reproducibility.outcome.clone(),
            mean_seconds: extras.runtime.as_ref().map(|runtime| runtime.mean_seconds),
            output: run.map(|run| run.output_token_texts.concat()),
            not_finite: extras.not_finite.clone(),
        })
    });
    rows.collect()
}

/// The catalogs that any configuration used, each once.
fn used(experiment: &Experiment) -> Vec<UsedCatalog> {
    let extras = experiment.configurations.iter().filter_map(|c| c.mantissa.as_ref());
    let used: BTreeSet<&UsedCatalog> = extras.flat_map(|extras| &extras.catalogs).collect();
    used.into_iter().cloned().collect()
}

/// Writes the experiment JSON, unless these very bytes are there.
pub(super) fn write_json(path: &Path, experiment: &Experiment) -> anyhow::Result<()> {
    if path.exists() {
        let bytes = mantissa_evidence::json::to_vec(experiment, path)?;
        if std::fs::read(path).is_ok_and(|found| found == bytes) {
            return Ok(());
        }
    }
    Ok(mantissa_evidence::json::write(path, experiment)?)
}

/// 1 when repetitions differ.
pub(super) fn exit(recorded: &Recorded) -> Exit {
    if recorded.reproducible() { Exit::Consistent } else { Exit::Divergent }
}

pub(crate) fn run(args: &Args, settings: &Settings, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let catalogs = args.setup.catalogs.read()?;
    let (out, json) = (&args.out, &args.json);
    if let Some(json) = json {
        folder_of(json)?;
        if json.exists() && !container::is_complete(out) {
            bail!("{}: already exists; choose another path or remove it first", json.display());
        }
    }
    let machine = args.machine.machine()?;
    let model = Model::open(&args.model)?;
    model.tell(terminal);
    let spec = args.spec(&model, terminal)?;
    let reader = PdfReader::this_program()?;
    let documents = args.document.iter().map(|path| Document::open(path, &reader));
    let documents = documents.collect::<Result<Vec<_>, _>>()?;
    let recorder = Recorder {
        checkpoint: &model.checkpoint,
        tokenizer: model.tokenizer_for(&spec, "the record has no texts", terminal)?,
        documents: &documents,
        spec: &spec,
        catalogs: &catalogs,
        machine,
    };
    if args.execution.coverage {
        let (models, graphs) = ([args.model.clone()], [model.checkpoint.config().graph()]);
        terminal.print(&Answer::of(&models, &graphs, &catalogs, &recorder.planned()?, settings))?;
        return Ok(Exit::Consistent);
    }
    if args.execution.fresh {
        discard_unfinished(out)?;
    }
    let recorded = record(&recorder, out, settings)?;
    let notes = documents.iter().filter_map(Document::note).collect();
    if let Some(json) = json {
        write_json(json, &recorded.experiment)?;
    }
    let hardware = spec.cells.first().map_or(Setup::default().hardware, |cell| cell.hardware);
    terminal.print(&Summary {
        path: recorded.directory.clone(),
        json: json.clone(),
        was_here: recorded.existed,
        repetitions_resumed: recorded.resumed,
        reproducible: recorded.reproducible(),
        hardware,
        basis: recorded.basis,
        notes,
        catalogs: used(&recorded.experiment),
        configurations: rows(&recorded.experiment),
    })?;
    Ok(exit(&recorded))
}
