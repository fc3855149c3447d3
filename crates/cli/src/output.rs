//! What is put out: flags of every verb for its shape and colours, and files that may not be written.
//!
//! Left out: what they come to on this terminal ([`crate::settings`]).

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::ValueEnum;
use clap::builder::{PathBufValueParser, TypedValueParser};

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

/// Where something is written. `-` is no file: standard output is the result itself, as words or by `--format json`.
pub(crate) fn written() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| {
        if path.as_os_str() == "-" {
            return Err("standard output is the result itself, as words or with --format json; name a file or a folder");
        }
        Ok(path)
    })
}

/// Refuses a file in a folder that is not there.
pub(crate) fn folder_of(file: &Path) -> anyhow::Result<()> {
    let there = file.parent().is_none_or(|folder| folder == Path::new("") || folder.is_dir());
    if there {
        return Ok(());
    }
    bail!("{}: its folder is not there; make it first, or choose another path", file.display())
}

/// Refuses files that are there already, unless they are to be replaced, and files in folders that are not there. Asked
/// before anything is computed.
pub(crate) fn absent(files: &[Option<&Path>], force: bool) -> anyhow::Result<()> {
    files.iter().flatten().try_for_each(|path| folder_of(path))?;
    match files.iter().flatten().find(|path| path.exists() && !force) {
        Some(path) => bail!("{}: already exists; choose another path or give --force", path.display()),
        None => Ok(()),
    }
}
