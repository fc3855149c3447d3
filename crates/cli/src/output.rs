//! What is put out: flags of every verb for its shape and colours, and files that may not be written.
//!
//! Left out: what they come to on this terminal ([`crate::settings`]).

use std::path::Path;

use anyhow::bail;
use clap::ValueEnum;

/// Flags of every verb.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct Global {
    /// Shape of the data on standard output
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
    /// When to colour it
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: When,
    /// No progress and no notes on standard error
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

/// Shape of the data on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    /// For pull requests and reports; only where a verb says so
    Markdown,
    Json,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    Auto,
    Always,
    Never,
}

/// Refuses files that are there already, unless they are to be replaced, and files in folders that are not there. Asked
/// before anything is computed.
pub(crate) fn absent(files: &[Option<&Path>], force: bool) -> anyhow::Result<()> {
    let no_folder =
        |path: &&&Path| path.parent().is_some_and(|folder| folder != Path::new("") && !folder.is_dir());
    if let Some(path) = files.iter().flatten().find(no_folder) {
        bail!("{}: its folder is not there; make it first, or choose another path", path.display());
    }
    match files.iter().flatten().find(|path| path.exists() && !force) {
        Some(path) => bail!("{}: already exists; choose another path or give --force", path.display()),
        None => Ok(()),
    }
}
