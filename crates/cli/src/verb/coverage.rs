//! `mantissa coverage`: what can be predicted of a model, before anything runs.

use std::io;

use anyhow::anyhow;
use mantissa_engine::Catalogs;
use mantissa_engine::catalog::parse_sizes;
use mantissa_lab::coverage::{Cause, PlannedRun, Space, Tally};
use mantissa_lab::setup::grid;
use mantissa_model::graph::Graph;
use mantissa_numerics::Setup;
use mantissa_numerics::setup::{Axis, Basis, Value};
use serde::Serialize;

use super::catalog::{CatalogArgs, config_of};
use crate::axes::AxisParser;
use crate::failure::Exit;
use crate::progress::{Bar, Unit};
use crate::settings::Settings;
use crate::terminal::{Column, Page, Report, Terminal};

const EXAMPLES: &str = "\
Examples:
  mantissa coverage --model smollm2-135m-instruct
  mantissa coverage --model Llama-3.1-8B/config.json --hardware h100 --attention sdpa_flash --prompts 512
  mantissa coverage --model qwen.json --model llama.json --batch-sizes 1-64 --prompts 1-16384 --decode 512

A run is a prompt and decode steps after it. It is covered if every kernel of every pass is. Where there are more
combinations than --runs, that many are drawn by --seed: prompts evenly on a logarithmic scale, the rest evenly.";

/// Say which setups of a model can be predicted on a GPU, and which measurement would add most
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A model's folder, its config.json, a GGUF file or a pulled model's name; several may be given
    #[arg(long, value_name = "SPEC", required = true)]
    model: Vec<String>,
    /// Whose arithmetic
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "h200,h100",
        value_parser = AxisParser(Axis::Hardware))]
    hardware: Vec<Value>,
    /// Attention implementations
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "eager,sdpa_flash,sdpa_math",
        value_parser = AxisParser(Axis::Attention))]
    attention: Vec<Value>,
    /// Formats
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "bf16",
        value_parser = AxisParser(Axis::Dtype))]
    dtype: Vec<Value>,
    /// Sequences per batch: `first-last/step`, separated by commas
    #[arg(long, value_name = "SIZES", default_value = "1-16")]
    batch_sizes: String,
    /// Tokens of prompts, likewise
    #[arg(long, value_name = "SIZES", default_value = "32-2048")]
    prompts: String,
    /// Decode steps of each run
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    decode: u32,
    /// Runs that are looked at, at most
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    runs: u32,
    /// What draws them
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    catalogs: CatalogArgs,
}

pub(crate) fn run(args: &Args, settings: &Settings, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let sizes = |flag: &str, text: &str| parse_sizes(text).map_err(|error| anyhow!("--{flag}: {error}"));
    let (batches, prompts) = (sizes("batch-sizes", &args.batch_sizes)?, sizes("prompts", &args.prompts)?);
    let batches = batches.iter().map(|batch| Axis::BatchSize.parse(&batch.to_string()));
    let batches: Vec<Value> =
        batches.collect::<Result<_, _>>().map_err(|error| anyhow!("--batch-sizes: {error}"))?;
    let catalogs = args.catalogs.read()?;
    let graphs: Vec<Graph> =
        args.model.iter().map(|spec| Ok(config_of(spec)?.graph())).collect::<anyhow::Result<_>>()?;
    let hardware = args.hardware.iter().map(|hardware| {
        let varied = [vec![*hardware], args.dtype.clone(), args.attention.clone(), batches.clone()];
        let setups = grid(Setup::default(), &varied);
        let runs = runs(args, &setups, &prompts);
        OnHardware::of(hardware.to_string(), &graphs, &catalogs, &runs, args, settings)
    });
    terminal.print(&Answer { models: args.model.clone(), hardware: hardware.collect() })?;
    Ok(Exit::Consistent)
}

/// Every combination, or as many as are asked for by lot.
fn runs(args: &Args, setups: &[Setup], prompts: &[usize]) -> Vec<PlannedRun> {
    let (models, steps, most) = (args.model.len(), args.decode as usize, args.runs as usize);
    let all = models.saturating_mul(setups.len()).saturating_mul(prompts.len());
    if all <= most {
        let of = |model| {
            setups.iter().flat_map(move |setup| {
                prompts.iter().map(move |prompt| PlannedRun { model, setup: *setup, prompt: *prompt, steps })
            })
        };
        return (0..models).flat_map(of).collect();
    }
    let [least, longest] =
        [prompts.iter().min(), prompts.iter().max()].map(|prompt| prompt.copied().unwrap_or(1));
    let space = Space { models, setups: setups.to_vec(), prompts: [least, longest], steps };
    // A length between the listed ones becomes the next of them.
    let mut listed = prompts.to_vec();
    listed.sort_unstable();
    let next = |run: PlannedRun| {
        let at = listed.partition_point(|prompt| *prompt < run.prompt);
        PlannedRun { prompt: listed.get(at).copied().unwrap_or(longest), ..run }
    };
    space.draw(args.seed).take(most).map(next).collect()
}

#[derive(Debug, Serialize)]
struct Answer {
    models: Vec<String>,
    hardware: Vec<OnHardware>,
}

#[derive(Debug, Serialize)]
struct OnHardware {
    hardware: String,
    runs: usize,
    /// Runs by what they rest on.
    #[serde(skip_serializing_if = "Option::is_none")]
    own: Option<usize>,
    verified: usize,
    asked: usize,
    measured: usize,
    literature: usize,
    refused: usize,
    causes: Vec<OfModel>,
}

#[derive(Debug, Serialize)]
struct OfModel {
    model: String,
    #[serde(flatten)]
    cause: Cause,
}

impl OnHardware {
    fn of(
        hardware: String,
        graphs: &[Graph],
        catalogs: &Catalogs,
        runs: &[PlannedRun],
        args: &Args,
        settings: &Settings,
    ) -> Self {
        let bar = Bar::new(settings, &hardware, Some(runs.len() as u64), Unit::Runs);
        let mut tally = Tally::default();
        for run in runs {
            tally.add(&graphs[run.model], catalogs, *run);
            bar.add(1);
        }
        bar.clear();
        let of = |basis| tally.covered().get(&basis).copied().unwrap_or_default();
        let causes = tally.causes().map(|mut cause| {
            let model = args.model[cause.model].clone();
            if let Some(command) = &mut cause.command {
                *command =
                    command.replace("FILE", &format!("{hardware}.json")).replace("MODEL", &quoted(&model));
            }
            OfModel { model, cause }
        });
        Self {
            runs: tally.runs(),
            own: Some(of(Basis::Own)).filter(|own| *own > 0),
            verified: of(Basis::Verified),
            asked: of(Basis::Asked),
            measured: of(Basis::Measured),
            literature: of(Basis::Literature),
            refused: tally.refused(),
            causes: causes.collect(),
            hardware,
        }
    }

    fn share(&self, runs: usize) -> String {
        #[expect(clippy::cast_precision_loss, reason = "a percentage of at most a million runs")]
        let percent = 100.0 * runs as f64 / self.runs.max(1) as f64;
        format!("{runs} of {} ({percent:.1}%)", self.runs)
    }
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Causes that are listed; JSON has all.
const LISTED: usize = 12;

impl Report for Answer {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        for on in &self.hardware {
            page.heading(&on.hardware)?;
            for (label, runs) in [
                ("own recipes", on.own.unwrap_or_default()),
                ("verified", on.verified),
                ("asked", on.asked),
                ("your catalogs", on.measured),
                ("literature", on.literature),
            ] {
                if runs > 0 {
                    page.field(label, on.share(runs))?;
                }
            }
            page.field("refused", on.share(on.refused))?;
            if on.causes.is_empty() {
                continue;
            }
            let several = self.models.len() > 1;
            let row = |of: &OfModel| {
                let what =
                    if several { format!("{}: {}", of.model, of.cause.what) } else { of.cause.what.clone() };
                vec![what, of.cause.runs.to_string(), of.cause.alone.to_string()]
            };
            let columns = [Column::Left("what is missing"), Column::Right("runs"), Column::Right("alone")];
            page.table(&columns, &on.causes.iter().take(LISTED).map(row).collect::<Vec<_>>())?;
            if on.causes.len() > LISTED {
                page.line(&format!("and {} more; --format json lists all", on.causes.len() - LISTED))?;
            }
            // The first that a catalog lifts: without it most runs would be covered, or else most runs lack it.
            if let Some((cause, command)) =
                on.causes.iter().find_map(|of| Some((&of.cause, of.cause.command.as_ref()?)))
            {
                let gain = match cause.alone {
                    0 => format!("{} run(s) lack it, each with something else", cause.runs),
                    alone => format!("{alone} run(s) lack nothing else"),
                };
                page.field("adds most", format!("{command} ({gain})"))?;
            }
        }
        Ok(())
    }
}
