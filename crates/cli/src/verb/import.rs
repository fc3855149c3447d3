//! `mantissa import`: anybody's file as evidence, by a map.

use std::io;
use std::path::PathBuf;

use anyhow::bail;
use mantissa_evidence::{Run, container};
use mantissa_published::import::{ImportMap, import};
use serde::Serialize;

use super::record::write_json;
use crate::failure::Exit;
use crate::output::written;
use crate::terminal::{Page, Report, Terminal};

const EXAMPLES: &str = "\
Examples:
  mantissa import --map maps/nnsight.toml dump.json --out evidence
  mantissa import --map hidden.toml activations.npz --json evidence.json

A map says in a few lines where prompts, tokens and signals are; docs/import.md has its form.";

/// Read anybody's JSON, JSON Lines, npz or safetensors as evidence, by a map
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where things are in it
    #[arg(long, value_name = "MAP.toml")]
    map: PathBuf,
    /// Directory of the evidence
    #[arg(long, value_name = "DIR", required_unless_present = "json", value_parser = written())]
    out: Option<PathBuf>,
    /// Write the experiment JSON here
    #[arg(long, value_name = "FILE", value_parser = written())]
    json: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let imported = import(&ImportMap::read(&args.map)?, &args.file)?;
    if let Some(out) = args.out.as_ref().filter(|out| container::is_complete(out)) {
        bail!("{}: already exists; choose another path or remove it first", out.display());
    }
    if let Some(out) = &args.out {
        container::write(out, &imported.experiment)?;
    }
    if let Some(json) = &args.json {
        write_json(json, &imported.experiment)?;
    }
    let runs = imported.experiment.runs.iter();
    let rows = runs.clone().flat_map(Run::phases).map(|(_, signals)| {
        let sites = signals.tensors.len() + usize::from(signals.logprobs.is_some());
        sites * signals.steps * signals.positions.len()
    });
    let path = args.out.as_ref().or(args.json.as_ref()).map(|path| path.display().to_string());
    terminal.print(&Summary {
        runs: runs.len(),
        rows: rows.sum(),
        without_ids: runs.filter(|run| run.prompt_token_ids.is_empty()).count(),
        notes: &imported.notes,
        path: path.unwrap_or_default(),
    })?;
    Ok(Exit::Consistent)
}

#[derive(Serialize)]
struct Summary<'s> {
    runs: usize,
    rows: usize,
    /// Runs without ids of their prompt, which nothing can replay.
    without_ids: usize,
    notes: &'s [String],
    path: String,
}

impl Report for Summary<'_> {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        page.field("runs", self.runs)?;
        page.field("rows", self.rows)?;
        if self.without_ids > 0 {
            page.field("ids", format!("{} run(s) state none, so nothing can replay them", self.without_ids))?;
        }
        self.notes.iter().try_for_each(|note| page.field("note", note))?;
        page.field("next", format!("mantissa inspect {}", self.path))
    }
}
