//! `mantissa record`: runs a model in a declared setup and leaves evidence.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::bail;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use mantissa_numerics::{Dtype, Point};

use crate::failure::Exit;
use crate::settings::Settings;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  mantissa record --model smollm2-135m-instruct --document paper.pdf --out record
  mantissa record --model smollm2-135m-instruct --document paper.pdf --document notes.txt \\
      --decode 30 --batch-size 1,2,4,8,17 --attention eager,sdpa --out ablation
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
    #[arg(long, value_name = "FILE", required = true)]
    document: Vec<PathBuf>,
    /// Directory of the evidence
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Also write the experiment JSON here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    prompt: PromptArgs,
    #[command(flatten)]
    setup: SetupArgs,
    #[command(flatten)]
    signals: SignalArgs,
    #[command(flatten)]
    execution: ExecutionArgs,
}

/// What is fed.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Prompt")]
struct PromptArgs {
    /// Document tokens of each prompt, exactly
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = at_least_one)]
    document_tokens: u32,
    /// Prompts: consecutive slices of the first document
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    references: u32,
    /// Tokens to decode
    #[arg(long, value_name = "N", default_value_t = 30)]
    decode: u32,
    /// What follows the document
    #[arg(long, value_name = "TEXT", default_value = mantissa_lab::prompt::INSTRUCTION)]
    instruction: String,
    /// Prompt without the model's chat template
    #[arg(long)]
    no_chat_template: bool,
    /// Force these output ids (a JSON list, or numbers between blanks) instead of choosing greedily
    #[arg(long, value_name = "IDS_FILE")]
    teacher_force: Option<PathBuf>,
}

/// The setups: every batch size with every attention.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Setup")]
struct SetupArgs {
    /// Sequences per forward pass, comma-separated
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1", value_parser = at_least_one)]
    batch_size: Vec<u32>,
    /// Attention implementations, comma-separated
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "eager",
        value_parser = ["eager", "sdpa", "flash_attention_2"])]
    attention: Vec<String>,
    /// Storage format of activations, cache and unquantized weights
    #[arg(long, value_name = "DTYPE", default_value = "bf16", value_parser = dtype())]
    dtype: Dtype,
    /// `auto` multiplies by quantized weights as stored; `none` decodes them to the storage format first
    #[arg(long, value_name = "WHICH", default_value = "auto", value_parser = ["auto", "none"])]
    quantization: String,
    /// Repetitions, which must agree to the bit
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_one)]
    reps: u32,
}

/// What is kept.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Signals")]
struct SignalArgs {
    /// Decoder blocks, counted from 1, or `last`; those the model lacks are left out of the default
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,2,4,12,last")]
    layers: Vec<Layer>,
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

/// What changes the time and no bit.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Execution (changes no bit)")]
struct ExecutionArgs {
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    threads: Option<u32>,
    /// Instruction set
    #[arg(long, value_name = "SET", default_value = "auto", value_parser = ["auto", "scalar", "avx2", "avx512"])]
    isa: String,
    /// Go on where a killed run stopped (the default)
    #[arg(long, conflicts_with = "fresh")]
    resume: bool,
    /// Begin anew, discarding what a killed run left
    #[arg(long)]
    fresh: bool,
}

/// A decoder block of a model not yet seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    /// Counted from 1.
    Number(u32),
    /// The model's last.
    Last,
}

impl FromStr for Layer {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match (s, s.parse()) {
            ("last", _) => Ok(Self::Last),
            (_, Ok(number)) if number > 0 => Ok(Self::Number(number)),
            _ => Err("use numbers from 1, or last".to_owned()),
        }
    }
}

/// A storage format, by the names of `Dtype`.
pub(super) fn dtype() -> impl TypedValueParser<Value = Dtype> {
    PossibleValuesParser::new(Dtype::ALL.map(Dtype::name)).try_map(|name| name.parse::<Dtype>())
}

fn point() -> impl TypedValueParser<Value = Point> {
    PossibleValuesParser::new(Point::ALL.map(Point::name)).try_map(|name| name.parse::<Point>())
}

/// A count that cannot be zero.
pub(super) fn at_least_one(s: &str) -> Result<u32, String> {
    s.parse().ok().filter(|&n| n > 0).ok_or_else(|| "use a whole number from 1".to_owned())
}

fn position(s: &str) -> Result<i32, String> {
    s.parse().ok().filter(|&n| n < 0).ok_or_else(|| "count from the end: -1 is the newest token".to_owned())
}

pub(crate) fn run(_args: &Args, _settings: &Settings, _terminal: &mut Terminal) -> anyhow::Result<Exit> {
    bail!("record: this build has no recorder; build a later version")
}
