//! `mantissa demo`: the whole tool on a small model, offline.
//!
//! Records the same prompt alone and in a batch, shows that each setup repeats itself to the bit, and shows where the
//! two differ. Nothing here is special to the demo: it is `synth`, `record` and a comparison, with the flags below.

use std::io;
use std::path::{Path, PathBuf};

use mantissa_compare::{Counts, Distance, First, Member, PairFacts, Selection, State, Tokens, pairs};
use mantissa_engine::Catalogs;
use mantissa_evidence::{Experiment, Record};
use mantissa_lab::document::Document;
use mantissa_lab::prompt::PromptSpec;
use mantissa_lab::{RecordSpec, Recorder, SignalSpec};
use mantissa_model::Arch;
use mantissa_model::pull::{self, SMOLLM2};
use mantissa_model::synth::{self, SynthRequest, SynthSpec};
use mantissa_numerics::{Generation, Phase, Point, Setup, Site};
use serde::Serialize;

use super::record::{Model, Row, exit, machine, record, rows, rows_text, write_json};
use crate::failure::Exit;
use crate::output::written;
use crate::progress::{Bar, Unit};
use crate::settings::{Settings, home};
use crate::terminal::{Column, Page, Report, Terminal};

const EXAMPLES: &str = "\
Examples:
  mantissa demo
  mantissa demo --model smollm2-135m-instruct --out demo-record

Records a built-in document at two batch sizes, checks that repetitions agree to the bit, and shows what the batch size
changed, at which site. Exit codes: 0 repetitions agree, 1 they do not, 2 failure.";

/// Alone, and beside neighbours.
const BATCH_SIZES: [usize; 2] = [1, 4];

/// Show the whole on a small model: record two setups, find where they differ
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Model [default: smollm2-135m-instruct if pulled, else a synthetic one]
    #[arg(long, value_name = "SPEC")]
    model: Option<String>,
    /// Directory for what it makes
    #[arg(long, value_name = "DIR", default_value = "mantissa-demo", value_parser = written())]
    out: PathBuf,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = super::record::threads)]
    threads: Option<u32>,
}

#[derive(Serialize)]
struct Shown {
    model: String,
    prompt: Prompt,
    configurations: Vec<Row>,
    batch_sizes: [usize; 2],
    tokens: Tokens,
    first_difference: Option<First>,
    sites: Vec<SiteShown>,
    files: Files,
}

/// A site without its rows.
#[derive(Serialize)]
struct SiteShown {
    phase: Phase,
    site: Site,
    state: State,
    rows: Counts,
    distance: Option<Distance>,
}

#[derive(Serialize)]
struct Prompt {
    document: String,
    ids: usize,
    text: String,
}

#[derive(Serialize)]
struct Files {
    record: PathBuf,
    json: PathBuf,
}

pub(crate) fn run(args: &Args, settings: &Settings, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let model = match &args.model {
        Some(spec) => Model::open(spec)?,
        None if pull::pulled(&home()?).iter().any(|name| name == SMOLLM2) => Model::open(SMOLLM2)?,
        None => synthetic(&args.out.join("model"), settings)?,
    };
    let documents = Document::built_in();
    let spec = RecordSpec {
        model: model.name.clone(),
        prompt: PromptSpec { document_tokens: 128, ..PromptSpec::default() },
        cells: BATCH_SIZES.map(|batch_size| Setup { batch_size, ..Setup::default() }).into(),
        decode_steps: 16,
        repetitions: 3,
        forced: None,
        signals: SignalSpec { points: vec![Point::AttnOut, Point::MlpOut], ..SignalSpec::default() },
        generation: Generation::default(),
    };
    let recorder = Recorder {
        checkpoint: &model.checkpoint,
        tokenizer: Some(model.tokenizer()?),
        documents: &documents,
        spec: &spec,
        catalogs: Catalogs::built_in(),
        machine: machine(args.threads, "auto")?,
    };
    let files = Files { record: args.out.join("record"), json: args.out.join("experiment.json") };
    let recorded = record(&recorder, &files.record, settings)?;
    if recorded.existed {
        terminal.note(&format!("{}: recorded by an earlier demo, shown again", files.record.display()));
    }
    write_json(&files.json, &recorded.experiment)?;
    terminal.print(&Shown::of(model.name, &recorded.experiment, files)?)?;
    Ok(exit(&recorded))
}

/// A model of the smallest kind, but with enough blocks for a difference to travel through.
fn synthetic(folder: &Path, settings: &Settings) -> anyhow::Result<Model> {
    let request = SynthRequest {
        arch: Some(Arch::QWEN3),
        seed: 1,
        hidden_size: Some(256),
        intermediate_size: Some(768),
        num_hidden_layers: Some(12),
        ..SynthRequest::default()
    };
    let spec = SynthSpec::new(&request)?;
    let bar = Bar::new(settings, "synthetic model", Some(spec.total_bytes()), Unit::Bytes);
    synth::write(&spec, folder, &|amount| bar.add(amount))?;
    drop(bar);
    let model = Model::open(&folder.display().to_string())?;
    Ok(Model { name: "synthetic-qwen3".to_owned(), ..model })
}

impl Shown {
    fn of(model: String, experiment: &Experiment, files: Files) -> anyhow::Result<Self> {
        let run = |configuration: usize| {
            let id = experiment.configurations.get(configuration).map(|c| c.config_id.as_str());
            experiment.runs.iter().position(|run| Some(run.config_id.as_str()) == id)
        };
        let (Some(first), Some(second)) = (run(0), run(1)) else {
            anyhow::bail!("{}: lacks a configuration; remove it and run again", files.record.display());
        };
        let alone = &experiment.runs[first];
        let record = Record::from_experiment(experiment.clone(), &files.record);
        let members = [first, second].map(|run| Member { record: &record, run });
        let facts = pairs(&members, &[(0, 1)], &Selection::default())?.remove(0);
        Ok(Self {
            model,
            prompt: Prompt {
                document: alone.prompt_source.as_ref().map_or_else(String::new, |s| s.document.clone()),
                ids: alone.prompt_token_ids.len(),
                text: alone.prompt_text.clone(),
            },
            configurations: rows(experiment),
            batch_sizes: BATCH_SIZES,
            tokens: facts.tokens,
            first_difference: facts.first,
            sites: SiteShown::of(&facts),
            files,
        })
    }

    /// What is known about one phase, in a sentence; sites that differ are listed after it.
    fn phase_text(&self, phase: Phase, page: &mut Page<'_>) -> io::Result<()> {
        let facts: Vec<&SiteShown> = self.sites.iter().filter(|fact| fact.phase == phase).collect();
        let differing = facts.iter().filter(|fact| fact.state == State::Different).count();
        let values: u64 = facts.iter().filter_map(|fact| Some(fact.distance?.values)).sum();
        let name = phase.name();
        page.field(
            name,
            format!("{differing} of {} sites differ, over {values} values compared", facts.len()),
        )?;
        if differing == 0 {
            return Ok(());
        }
        let columns = [
            Column::Left("site"),
            Column::Left("state"),
            Column::Right("values"),
            Column::Right("bits differ"),
            Column::Right("max ULP"),
            Column::Right("L2"),
            Column::Right("max |a-b|"),
        ];
        page.table(&columns, &facts.iter().map(|fact| row(fact)).collect::<Vec<_>>())
    }
}

impl SiteShown {
    fn of(facts: &PairFacts) -> Vec<Self> {
        let shown = facts.sites.iter().map(|fact| Self {
            phase: fact.phase,
            site: fact.site,
            state: fact.counts.state(),
            rows: fact.counts,
            distance: fact.total,
        });
        shown.collect()
    }
}

fn row(fact: &SiteShown) -> Vec<String> {
    let none = || "-".to_owned();
    let state = match fact.state {
        State::Equal => "equal",
        State::Different => "different",
        State::Missing => "missing",
        State::Incomparable => "incomparable",
    };
    let values = fact.distance.map_or_else(none, |distance| distance.values.to_string());
    let different = fact.distance.map_or_else(none, |distance| distance.different.to_string());
    let apart = match fact.distance.filter(|_| fact.state == State::Different) {
        None => [none(), none(), none()],
        Some(distance) => [
            distance.max_ulps.map_or_else(none, |ulps| ulps.to_string()),
            distance.l2.map_or_else(none, |l2| format!("{l2:.3e}")),
            distance.max_abs.map_or_else(none, |largest| format!("{largest:.3e}")),
        ],
    };
    [vec![fact.site.to_string(), state.to_owned(), values, different], apart.to_vec()].concat()
}

impl Report for Shown {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let [alone, beside] = self.batch_sizes;
        page.heading(&format!("One prompt, {} and batches of {alone} and {beside}", self.model))?;
        page.field("prompt", format!("{} tokens of {}", self.prompt.ids, self.prompt.document))?;
        rows_text(&self.configurations, page)?;
        page.line("")?;
        page.heading(&format!("What a batch of {beside} changed in the same sequence"))?;
        page.field(
            "tokens",
            match self.tokens {
                Tokens::Unknown => "unknown".to_owned(),
                Tokens::Equal => "the same".to_owned(),
                Tokens::PromptsPart { index } => format!("prompts part at {index}"),
                Tokens::OutputsPart { index } => {
                    format!("outputs part at {index}; nothing after that is compared")
                }
                Tokens::Declared { .. } => "the same by the record's word".to_owned(),
            },
        )?;
        page.field(
            "first",
            match &self.first_difference {
                None => "no compared value differs".to_owned(),
                Some(First { phase, step, position, site, element }) => {
                    let site = site.map_or_else(|| "logprobs".to_owned(), |site| site.to_string());
                    format!("{} step {step}, position {position}, {site}[{element}]", phase.name())
                }
            },
        )?;
        self.phase_text(Phase::Prefill, page)?;
        self.phase_text(Phase::Decode, page)?;
        page.line("")?;
        page.heading("Files")?;
        page.field("record", self.files.record.display())?;
        page.field("JSON", self.files.json.display())?;
        page.field("next", format!("mantissa inspect {}", self.files.record.display()))
    }
}
