//! `mantissa synth`: makes a real Hugging Face folder from a seed.

use std::io;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use mantissa_model::Arch;
use mantissa_model::quantized::Quantization;
use mantissa_model::synth::{self, Preset, SynthRequest, SynthSpec};
use mantissa_numerics::Dtype;
use serde::Serialize;

use crate::failure::Exit;
use crate::output::written;
use crate::progress::{Bar, Unit};
use crate::settings::Settings;
use crate::terminal::{Page, Report, Terminal, bytes};

const EXAMPLES: &str = "\
Examples:
  mantissa synth --arch qwen3_moe --seed 7 --out tiny-moe
  mantissa synth --arch llama --seed 1 --num-hidden-layers 12 --hidden-size 256 --out small
  mantissa synth --preset qwen2.5-7b --seed 1 --out qwen7b          # 15 GB, true shapes
  mantissa synth --arch qwen3 --quantization awq --out tiny-awq
  mantissa synth --config config.json --num-hidden-layers 1 --out one-block

The same flags give the same bytes on any machine. Run again, it completes and checks what is there.";

/// Make a synthetic model: a real Hugging Face folder whose every byte follows from a seed
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Family; needed unless the preset has only one
    #[arg(long, value_name = "ARCH", value_parser = arch())]
    arch: Option<Arch>,
    /// Dimensions to start from [default: tiny]
    #[arg(long, value_name = "NAME", value_parser = preset())]
    preset: Option<Preset>,
    /// A config.json to take family and dimensions from
    #[arg(long, value_name = "FILE", conflicts_with_all = ["arch", "preset"])]
    config: Option<PathBuf>,
    /// Any number
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Folder to write
    #[arg(long, value_name = "DIR", value_parser = written())]
    out: PathBuf,
    /// Storage format of the weights, or of those that are not quantized [default: bf16; f16 beside awq and gptq]
    #[arg(long, value_name = "DTYPE", value_parser = super::record::dtype())]
    dtype: Option<Dtype>,
    /// Quantize the blocks' matrices, routers excepted, as published checkpoints are
    #[arg(long, value_name = "FORMAT", value_parser = quantization())]
    quantization: Option<Quantization>,
    /// Bytes of a file of weights before the next one begins [default: 5000000000]
    #[arg(long, value_name = "BYTES")]
    max_shard_bytes: Option<u64>,
    #[command(flatten)]
    dimensions: Dimensions,
}

/// Overrides of the preset, spelled as in `config.json`.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Dimensions (default: the preset's)")]
struct Dimensions {
    /// Width of the residual stream
    #[arg(long, value_name = "N")]
    hidden_size: Option<usize>,
    /// Inner width of the dense MLP; of an expert (mixtral, gpt_oss)
    #[arg(long, value_name = "N")]
    intermediate_size: Option<usize>,
    /// Decoder blocks
    #[arg(long, value_name = "N")]
    num_hidden_layers: Option<usize>,
    /// Query heads
    #[arg(long, value_name = "N")]
    num_attention_heads: Option<usize>,
    /// Key/value heads; divides the query heads
    #[arg(long, value_name = "N")]
    num_key_value_heads: Option<usize>,
    /// Width of a head; even
    #[arg(long, value_name = "N")]
    head_dim: Option<usize>,
    /// Rows of the embedding
    #[arg(long, value_name = "N")]
    vocab_size: Option<usize>,
    /// Longest context
    #[arg(long, value_name = "N")]
    max_position_embeddings: Option<usize>,
    /// Experts per layer
    #[arg(long, value_name = "N")]
    num_experts: Option<usize>,
    /// Experts of each token
    #[arg(long, value_name = "N")]
    num_experts_per_tok: Option<usize>,
    /// Inner width of an expert
    #[arg(long, value_name = "N")]
    moe_intermediate_size: Option<usize>,
    /// Whether the embedding is also the output projection
    #[arg(long, value_name = "BOOL")]
    tie_word_embeddings: Option<bool>,
}

fn arch() -> impl clap::builder::TypedValueParser<Value = Arch> {
    PossibleValuesParser::new(Arch::all().map(Arch::name)).try_map(|name| synth::parse_arch(&name))
}

fn quantization() -> impl clap::builder::TypedValueParser<Value = Quantization> {
    PossibleValuesParser::new(Quantization::ALL.map(Quantization::name))
        .try_map(|name| Quantization::named(&name).ok_or("no such format"))
}

fn preset() -> impl clap::builder::TypedValueParser<Value = Preset> {
    PossibleValuesParser::new(Preset::ALL.map(Preset::name)).try_map(|name| name.parse::<Preset>())
}

impl Args {
    fn request(&self) -> anyhow::Result<SynthRequest> {
        let dimensions = &self.dimensions;
        let config = match &self.config {
            None => None,
            Some(file) => {
                let name = file.display().to_string();
                let bytes = std::fs::read(file).map_err(|error| {
                    anyhow::anyhow!("{name}: cannot read it ({error}); check the path and its permissions")
                })?;
                Some(synth::config_of(&name, &bytes, dimensions.num_hidden_layers)?)
            }
        };
        Ok(SynthRequest {
            arch: self.arch,
            preset: self.preset,
            config,
            seed: self.seed,
            dtype: self.dtype,
            quantization: self.quantization,
            hidden_size: dimensions.hidden_size,
            intermediate_size: dimensions.intermediate_size,
            num_hidden_layers: dimensions.num_hidden_layers,
            num_attention_heads: dimensions.num_attention_heads,
            num_key_value_heads: dimensions.num_key_value_heads,
            head_dim: dimensions.head_dim,
            vocab_size: dimensions.vocab_size,
            max_position_embeddings: dimensions.max_position_embeddings,
            num_experts: dimensions.num_experts,
            num_experts_per_tok: dimensions.num_experts_per_tok,
            moe_intermediate_size: dimensions.moe_intermediate_size,
            tie_word_embeddings: dimensions.tie_word_embeddings,
            max_shard_bytes: self.max_shard_bytes,
        })
    }
}

#[derive(Serialize)]
struct Made {
    path: PathBuf,
    arch: &'static str,
    seed: u64,
    dtype: Dtype,
    #[serde(skip_serializing_if = "Option::is_none")]
    quantization: Option<&'static str>,
    parameters: u64,
    files: usize,
    files_checked: usize,
    bytes: u64,
}

impl Report for Made {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        page.heading(&self.path.display().to_string())?;
        let quantized = self.quantization.map(|name| format!(", quantized as {name}")).unwrap_or_default();
        let model = format!("{}, {} parameters in {}{quantized}", self.arch, self.parameters, self.dtype);
        page.field("model", model)?;
        page.field("seed", self.seed)?;
        let checked = match self.files_checked {
            0 => String::new(),
            n => format!(", {n} of them were here and are right"),
        };
        page.field("files", format!("{}, {}{checked}", self.files, bytes(self.bytes)))
    }
}

pub(crate) fn run(args: &Args, settings: &Settings, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let spec = SynthSpec::new(&args.request()?)?;
    let total = spec.total_bytes();
    let bar = Bar::new(settings, "weights", Some(total), Unit::Bytes);
    let written = synth::write(&spec, &args.out, &|amount| bar.add(amount))?;
    drop(bar);
    terminal.print(&Made {
        path: args.out.clone(),
        arch: spec.config().arch.name(),
        seed: spec.seed(),
        dtype: spec.dtype(),
        quantization: spec.quantization().map(Quantization::name),
        parameters: spec.parameters(),
        files: written.files.len(),
        files_checked: written.kept,
        bytes: written.bytes,
    })?;
    Ok(Exit::Consistent)
}
