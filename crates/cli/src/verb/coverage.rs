//! `mantissa coverage`: what can be predicted of a model, before anything runs.

use anyhow::anyhow;
use mantissa_engine::catalog::parse_sizes;
use mantissa_lab::coverage::{PlannedRun, Space};
use mantissa_lab::setup::grid;
use mantissa_model::graph::Graph;
use mantissa_numerics::Setup;
use mantissa_numerics::setup::{Axis, Value};

use super::catalog::{CatalogArgs, config_of};
use crate::axes::AxisLists;
use crate::coverage::Answer;
use crate::failure::Exit;
use crate::settings::Settings;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  mantissa coverage --model smollm2-135m-instruct
  mantissa coverage --model Llama-3.1-8B/config.json --hardware h100 --attention sdpa_flash --prompts 512
  mantissa coverage --model qwen.json --model llama.json --batch-sizes 1-64 --prompts 1-16384 --decode 512
  mantissa coverage --model qwen.json --hardware h200 --engine vllm-0.24 --attention flash_attention_3 --tp-size 1,2,4

A run is a prompt and decode steps after it. It is covered if every kernel of every pass is. Where there are more
combinations than --runs, that many are drawn by --seed: prompts evenly on a logarithmic scale, the rest evenly.";

/// Say which setups of a model can be predicted on a GPU, and which measurement would add most
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A model's folder, its config.json, a GGUF file or a pulled model's name; several may be given
    #[arg(long, value_name = "SPEC", required = true)]
    model: Vec<String>,
    #[command(flatten)]
    axes: AxisLists,
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
    let runs: Vec<PlannedRun> = args
        .axes
        .of(Axis::Hardware)
        .iter()
        .flat_map(|hardware| {
            let mut varied = args.axes.with(Axis::Hardware, vec![*hardware]);
            varied.push(batches.clone());
            runs(args, &grid(Setup::default(), &varied), &prompts)
        })
        .collect();
    terminal.print(&Answer::of(&args.model, &graphs, &catalogs, &runs, settings))?;
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
