//! `mantissa convert`: experiment JSON ↔ container, without losing a bit.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use mantissa_evidence::{Experiment, container, json};
use serde::Serialize;

use crate::failure::Exit;
use crate::output::written;
use crate::terminal::{Page, Report, Terminal};

const EXAMPLES: &str = "\
Examples:
  mantissa convert record experiment.json      # container to JSON
  mantissa convert experiment.json record      # JSON to container

Either is read, told apart by content; OUT is JSON if its name ends in .json, else a container directory.
OUT appears whole or not at all.";

/// Convert evidence between experiment JSON and the binary container
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Experiment JSON, container directory or its manifest.json
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// `NAME.json` or a directory
    #[arg(value_name = "OUT", value_parser = written())]
    output: PathBuf,
    /// Replace OUT
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct Converted {
    from: PathBuf,
    to: PathBuf,
    format: Kind,
    runs: usize,
}

/// What OUT becomes.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    ExperimentJson,
    Container,
}

impl Report for Converted {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        page.line(&self.to.display().to_string())
    }
}

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let (from, to) = (&args.input, &args.output);
    let format = match to.extension() {
        Some(extension) if extension.eq_ignore_ascii_case("json") => Kind::ExperimentJson,
        _ => Kind::Container,
    };
    // Before IN is read, which may take a while.
    replaceable(to, format, args.force)?;
    let experiment = mantissa_published::read(from)?;
    write(to, format, &experiment)?;
    let report = Converted { from: from.clone(), to: to.clone(), format, runs: experiment.runs.len() };
    terminal.print(&report)?;
    Ok(Exit::Consistent)
}

/// Whether OUT may be written: nothing is there, or `--force` and something of the same kind.
fn replaceable(to: &Path, format: Kind, force: bool) -> anyhow::Result<()> {
    let Ok(meta) = to.symlink_metadata() else { return Ok(()) };
    let shown = to.display();
    match format {
        _ if !force => bail!("{shown}: already exists; choose another path or replace it with --force"),
        Kind::ExperimentJson if meta.is_file() => Ok(()),
        Kind::ExperimentJson => bail!("{shown}: is not a file, so it is not replaced; choose another path"),
        Kind::Container if meta.is_dir() && container::is_complete(to) => Ok(()),
        Kind::Container => bail!("{shown}: is not a container, so it is not replaced; choose another path"),
    }
}

/// Writes beside OUT, then renames into place.
fn write(to: &Path, format: Kind, experiment: &Experiment) -> anyhow::Result<()> {
    let parent = match to.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    // The kind alone: the system's text would name a temporary file.
    let failed = |e: io::Error| {
        anyhow::anyhow!("{}: cannot write: {}; check the folder and its space", to.display(), e.kind())
    };
    let beside = tempfile::Builder::new().prefix(".mantissa-").tempdir_in(parent).map_err(failed)?;
    let name = to.file_name().with_context(|| format!("{}: not a name; name a file", to.display()))?;
    let fresh = beside.path().join(name);
    match format {
        Kind::ExperimentJson => json::write(&fresh, experiment)?,
        Kind::Container => {
            container::write(&fresh, experiment)?;
            // A folder cannot be renamed onto a full one: the old container steps aside, and goes with `beside`.
            if to.symlink_metadata().is_ok() {
                std::fs::rename(to, beside.path().join("replaced")).map_err(failed)?;
            }
        }
    }
    std::fs::rename(&fresh, to).map_err(failed)?;
    // The name lasts once its folder is on disk; some systems cannot ask for that.
    drop(std::fs::File::open(parent).and_then(|folder| folder.sync_all()));
    Ok(())
}
