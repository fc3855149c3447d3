//! `mantissa demo`: the whole tool on a small model, offline.

use std::path::PathBuf;

use anyhow::bail;

use crate::failure::Exit;
use crate::settings::Settings;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  mantissa demo
  mantissa demo --model smollm2-135m-instruct --out demo-record

Records a document at two batch sizes, checks that repetitions agree to the bit, and shows what the batch size
changed, at which site.";

/// Show the whole on a small model: record two setups, find where they differ
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Model [default: smollm2-135m-instruct if pulled, else a synthetic one]
    #[arg(long, value_name = "SPEC")]
    model: Option<String>,
    /// Directory of the evidence [default: mantissa-demo]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = super::record::at_least_one)]
    threads: Option<u32>,
}

pub(crate) fn run(_args: &Args, _settings: &Settings, _terminal: &mut Terminal) -> anyhow::Result<Exit> {
    bail!("demo: this build has no recorder; build a later version")
}
