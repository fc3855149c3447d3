//! `mantissa trace`: hashes and statistics of every tensor, of a model as it runs or of evidence.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use mantissa_evidence::Record;
use mantissa_evidence::trace::{RecordedTrace, StageTrace, TensorFiles, TraceHeader, TraceWriter};
use mantissa_lab::document::{Document, PdfReader};
use mantissa_lab::trace::{Positions, TraceSpec, Tracing};
use mantissa_lab::{Event, Layer, RecordSpec, Recorder, SignalSpec};
use mantissa_numerics::setup::Axis;
use mantissa_numerics::{Phase, Point};
use mantissa_published::dump::Dump;

use super::catalog::CatalogArgs;
use super::record::{Fed, MachineArgs, Model, PromptArgs, point, predicted};
use crate::axes::AxisFlags;
use crate::evidence::{Damage, into_record};
use crate::failure::Exit;
use crate::generation::GenerationArgs;
use crate::output::absent;
use crate::progress::{Bar, Unit};
use crate::settings::Settings;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  mantissa trace --model smollm2-135m-instruct --prompt prompts.jsonl --decode-steps 4 --out trace.jsonl
  mantissa trace --model smollm2-135m-instruct --prompt text.txt --hardware h200 --positions all \\
      --phases prefill --out predicted.jsonl
  mantissa trace record --out recorded.jsonl                # what evidence kept
  mantissa trace callback.txt --out llama.jsonl             # what llama.cpp's eval-callback printed
  mantissa trace --model tiny --prompt text.txt --layers 1,2 --sites attn_out --tensors values --out trace.jsonl

One JSON line for each prompt, pass and site (docs/format/trace.md). No values are kept without --tensors.
Exit codes: 0 the trace is made, 2 failure, 4 it is of evidence that was altered or damaged.";

/// Hash every tensor of a pass, of a model as it runs or of evidence
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Trace what this container or experiment JSON holds, or a dump of SGLang or llama.cpp, instead of running a model
    #[arg(value_name = "EVIDENCE", required_unless_present = "model", conflicts_with_all = of_a_model())]
    evidence: Option<PathBuf>,
    /// A pulled model's name, a Hugging Face folder or a GGUF file
    #[arg(long, value_name = "SPEC")]
    model: Option<String>,
    /// PDF or text that prompts are cut from; batch neighbours come from the second and later ones
    #[arg(long, value_name = "FILE", required_unless_present_any = ["prompt", "evidence"])]
    document: Vec<PathBuf>,
    /// The trace [default: standard output]
    #[arg(long, value_name = "FILE", value_parser = crate::output::written())]
    out: Option<PathBuf>,
    /// Replace the file of --out
    #[arg(long, requires = "out")]
    force: bool,
    /// Also keep the values: a safetensors file for each prompt, in this folder beside the trace
    #[arg(long, value_name = "DIR", value_parser = crate::output::written())]
    tensors: Option<PathBuf>,
    /// Of evidence with several configurations, the one to trace
    #[arg(long, value_name = "ID", requires = "evidence")]
    config: Option<String>,
    /// Of evidence whose repetitions differ, the one to trace [default: the first that is stored]
    #[arg(long, value_name = "N", requires = "evidence")]
    rep: Option<u32>,
    #[command(flatten)]
    damage: Damage,
    #[command(flatten)]
    what: WhatArgs,
    #[command(flatten)]
    prompt: PromptArgs,
    #[command(flatten)]
    generation: GenerationArgs,
    #[command(flatten)]
    setup: SetupArgs,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Flags and groups of flags that say what a model is to compute, which evidence has computed.
fn of_a_model() -> Vec<&'static str> {
    let groups =
        ["model", "document", "WhatArgs", "PromptArgs", "GenerationArgs", "CatalogArgs", "MachineArgs"];
    groups.into_iter().chain(Axis::ALL.map(Axis::name)).collect()
}

/// What of a pass is traced.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What is traced")]
struct WhatArgs {
    /// Points [default: all that the model has]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = point())]
    sites: Option<Vec<Point>>,
    /// Decoder blocks, counted from 1, or `last` [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    layers: Option<Vec<Layer>>,
    /// Rows of the prefill: positions from the end of the prompt, or `all`. A decode step has one row
    #[arg(
        long,
        value_name = "LIST",
        default_value = "-1",
        allow_hyphen_values = true,
        conflicts_with = "evidence"
    )]
    positions: Positions,
    /// Kinds of pass
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = phase(), default_value = "prefill,decode")]
    phases: Vec<Phase>,
}

/// The setup: one of the grid that `record` takes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Setup")]
struct SetupArgs {
    #[command(flatten)]
    axes: AxisFlags,
    #[command(flatten)]
    catalogs: CatalogArgs,
}

fn phase() -> impl TypedValueParser<Value = Phase> {
    let phases = [Phase::Prefill, Phase::Decode];
    PossibleValuesParser::new(phases.map(Phase::name))
        .map(move |name| if name == Phase::Prefill.name() { Phase::Prefill } else { Phase::Decode })
}

/// Where events go, and what they come to.
struct Lines<'o> {
    writer: TraceWriter<&'o mut dyn Write>,
    tensors: Option<TensorFiles>,
    prompts: usize,
    events: u64,
    /// The first event with a value that is not finite.
    not_finite: Option<String>,
}

impl<'o> Lines<'o> {
    fn new(out: &'o mut dyn Write, header: &TraceHeader, tensors: Option<TensorFiles>) -> io::Result<Self> {
        let writer = TraceWriter::new(out, header)?;
        Ok(Self { writer, tensors, prompts: header.prompts.len(), events: 0, not_finite: None })
    }

    fn event(&mut self, mut event: StageTrace, values: &[u8]) -> anyhow::Result<()> {
        if let Some(tensors) = &mut self.tensors {
            tensors.add(&mut event, values)?;
        }
        self.events += 1;
        if self.not_finite.is_none() && event.nan.unwrap_or(0) + event.inf.unwrap_or(0) > 0 {
            let site = event.site().map_or_else(|| event.point.to_string(), |site| site.to_string());
            self.not_finite = Some(format!("{site} of pass {} of {}", event.step, event.prompt_id));
        }
        Ok(self.writer.event(&event)?)
    }

    /// Ends the trace; what it came to, in words.
    fn finish(self) -> anyhow::Result<String> {
        if let Some(mut tensors) = self.tensors {
            tensors.finish()?;
        }
        self.writer.finish()?;
        let finite = match self.not_finite {
            Some(place) => format!("the first value that is not finite is at {place}"),
            None => "all values are finite".to_owned(),
        };
        Ok(format!("trace: {} events of {} prompt(s); {finite}", self.events, self.prompts))
    }
}

/// Standard output as a stream of bytes.
struct Standard<'t>(&'t mut Terminal);

impl Write for Standard<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.raw(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lets `make` write the trace: to `--out`, which appears whole or not at all, or to standard output.
fn written(
    (out, force): (Option<&Path>, bool),
    terminal: &mut Terminal,
    make: impl FnOnce(&mut dyn Write) -> anyhow::Result<String>,
) -> anyhow::Result<String> {
    let Some(path) = out else {
        let mut out = BufWriter::new(Standard(terminal));
        let summary = make(&mut out)?;
        out.flush()?;
        return Ok(summary);
    };
    let mut made = None;
    let wrote = mantissa_evidence::write_whole(path, force, |out| {
        let result = make(out);
        let failed = result.is_err();
        made = Some(result);
        if failed { Err(io::Error::other("no trace")) } else { Ok(()) }
    });
    match made {
        Some(Err(error)) => Err(error),
        Some(Ok(summary)) => wrote.map(|()| summary).map_err(Into::into),
        None => Err(wrote.err().context("the trace was not written")?.into()),
    }
}

/// The files of `--tensors`, and how events name their folder: relative to that of the trace.
fn tensor_files(folder: &Path, out: Option<&Path>) -> anyhow::Result<TensorFiles> {
    let shown = folder.display();
    let failed =
        |error: io::Error| anyhow::anyhow!("{shown}: cannot make it: {error}; choose another folder");
    fs::create_dir_all(folder).map_err(failed)?;
    let beside = match out.and_then(Path::parent) {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let (inner, outer) = (folder.canonicalize().map_err(failed)?, beside.canonicalize().map_err(failed)?);
    let Ok(relative) = inner.strip_prefix(&outer) else {
        bail!(
            "{shown}: not in the folder of the trace, which names its files from there; choose one inside it"
        );
    };
    let names = relative.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_string_lossy()),
        _ => None,
    });
    Ok(TensorFiles::new(folder, &names.collect::<Vec<_>>().join("/")))
}

/// The configuration of `--config`, or the only one.
fn configuration(record: &Record, asked: Option<&str>) -> anyhow::Result<String> {
    let ids: Vec<&str> = record.shell().configurations.iter().map(|one| one.config_id.as_str()).collect();
    match (asked, &ids[..]) {
        (Some(asked), ids) if ids.contains(&asked) => Ok(asked.to_owned()),
        (None, [only]) => Ok((*only).to_owned()),
        (_, ids) => {
            let asked = asked.map_or_else(|| "several configurations".to_owned(), |id| format!("no '{id}'"));
            bail!("{}: {asked}; use --config with one of {}", record.origin().display(), ids.join(", "))
        }
    }
}

/// What is said of the tensors of a dump that have no site.
pub(super) fn left_out(dump: &Dump) -> Option<String> {
    const NAMED: usize = 8;
    let all: u64 = dump.left_out().values().sum();
    let names: Vec<&str> = dump.left_out().keys().map(String::as_str).take(NAMED).collect();
    let more = if dump.left_out().len() > NAMED { ", …" } else { "" };
    (all > 0).then(|| format!("tensors without a known site, left out: {all} ({}{more})", names.join(", ")))
}

impl Args {
    fn of_dump(&self, path: &Path, terminal: &mut Terminal) -> anyhow::Result<String> {
        if self.config.is_some() || self.rep.is_some() {
            bail!(
                "{}: a dump has one configuration and one repetition; leave --config and --rep out",
                path.display()
            );
        }
        let dump = Dump::open(path)?;
        let header = dump.header(concat!("mantissa ", env!("CARGO_PKG_VERSION")));
        if self.tensors.is_some() && !dump.has_values() {
            bail!(
                "{}: --tensors: it has some digits of values, and no values; leave --tensors out",
                path.display()
            );
        }
        let tensors = self.tensor_files(&header)?;
        let summary = written((self.out.as_deref(), self.force), terminal, |out| {
            let keep = tensors.is_some();
            let mut lines = Lines::new(out, &header, tensors)?;
            dump.events(keep, &mut |event, values| lines.event(event, &values))?;
            lines.finish()
        })?;
        if let Some(said) = left_out(&dump) {
            terminal.note(&said);
        }
        Ok(summary)
    }

    fn of_evidence(&self, path: &Path, terminal: &mut Terminal) -> anyhow::Result<(String, Exit)> {
        let opened = self.damage.open(path)?;
        let exit = Damage::exit([&opened], Exit::Consistent);
        opened.warnings.iter().for_each(|warning| terminal.note(warning));
        let Some(record) = into_record(opened) else {
            bail!("{}: it holds figures and no signals; give evidence with signals", path.display());
        };
        let config_id = configuration(&record, self.config.as_deref())?;
        let trace = RecordedTrace::new(&record, &config_id, self.rep)?;
        let header = trace.header(concat!("mantissa ", env!("CARGO_PKG_VERSION")));
        let tensors = self.tensor_files(&header)?;
        let summary = written((self.out.as_deref(), self.force), terminal, |out| {
            let keep = tensors.is_some();
            let mut lines = Lines::new(out, &header, tensors)?;
            trace.events(keep, &mut |event, values| lines.event(event, &values))?;
            lines.finish()
        })?;
        Ok((summary, exit))
    }

    fn of_model(&self, model: &str, settings: &Settings, terminal: &mut Terminal) -> anyhow::Result<String> {
        let catalogs = self.setup.catalogs.read()?;
        let machine = self.machine.machine()?;
        let model = Model::open(model)?;
        model.tell(terminal);
        let Fed { prompt, decode_steps, forced, generation } =
            self.prompt.fed(&self.generation, &model, terminal)?;
        let spec = RecordSpec {
            model: model.name.clone(),
            prompt,
            cells: self.setup.axes.setups()?,
            decode_steps,
            repetitions: 1,
            forced,
            signals: SignalSpec::default(),
            generation,
        };
        let reader = PdfReader::this_program()?;
        let documents = self.document.iter().map(|path| Document::open(path, &reader));
        let documents = documents.collect::<Result<Vec<_>, _>>()?;
        let recorder = Recorder {
            checkpoint: &model.checkpoint,
            tokenizer: model.tokenizer_for(&spec, "the trace has no texts", terminal)?,
            documents: &documents,
            spec: &spec,
            catalogs: &catalogs,
            machine,
        };
        let WhatArgs { sites, layers, positions, phases } = &self.what;
        let what = TraceSpec {
            points: sites.clone(),
            layers: layers.clone(),
            positions: positions.clone(),
            phases: phases.clone(),
        };
        let (hashing, tokens) = (
            Bar::new(settings, "digest of the weights", None, Unit::Bytes),
            Bar::new(settings, "trace", None, Unit::Tokens),
        );
        let told = |event: Event<'_>| match event {
            Event::Hashing { done, total } => hashing.at("digest of the weights", done, Some(total)),
            Event::Tokens { done, total } => tokens.at("trace", done as u64, Some(total as u64)),
            Event::Repetition { .. } => {}
        };
        let tracing = Tracing::new(&recorder, &what, &told)?;
        hashing.clear();
        let tensors = self.tensor_files(tracing.header())?;
        let summary = written((self.out.as_deref(), self.force), terminal, |out| {
            let keep = tensors.is_some();
            let mut lines = Lines::new(out, tracing.header(), tensors)?;
            tracing.run(keep, &told, &mut |event, values| lines.event(event, &values))?;
            lines.finish()
        })?;
        tokens.clear();
        if let Some(words) = spec.cells.first().and_then(|cell| predicted(cell.hardware, tracing.basis())) {
            terminal.note(&words);
        }
        Ok(summary)
    }

    fn tensor_files(&self, header: &TraceHeader) -> anyhow::Result<Option<TensorFiles>> {
        let Some(folder) = &self.tensors else { return Ok(None) };
        let files = tensor_files(folder, self.out.as_deref())?;
        files.check(header)?;
        Ok(Some(files))
    }
}

pub(crate) fn run(args: &Args, settings: &Settings, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    absent(&[args.out.as_deref()], args.force)?;
    let (summary, exit) = match (&args.evidence, &args.model) {
        (Some(path), _) if Dump::is_one(path) => (args.of_dump(path, terminal)?, Exit::Consistent),
        (Some(path), _) => args.of_evidence(path, terminal)?,
        (None, Some(model)) => (args.of_model(model, settings, terminal)?, Exit::Consistent),
        (None, None) => bail!("nothing to trace; give EVIDENCE or --model"),
    };
    terminal.note(&summary);
    Ok(exit)
}
