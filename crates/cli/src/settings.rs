//! Flags and environment, resolved once: how to print, and where models live.
//!
//! No environment variable changes a number; these choose places and colours.

use std::io::IsTerminal as _;
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::Context as _;
use mantissa_model::pull;

use crate::output::{Format, Global, When};

/// What every verb needs to know about its surroundings.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Shape of the data on standard output.
    pub(crate) format: Format,
    /// Whether data on standard output is coloured.
    pub(crate) color: bool,
    /// Columns of the terminal that standard output is; absent where it is none, and lines are as long as they are.
    pub(crate) width: Option<usize>,
    /// How progress shows on standard error.
    pub(crate) progress: Progress,
    /// Whether notes on standard error are left out.
    pub(crate) quiet: bool,
}

/// How progress shows on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Nothing,
    /// A line now and then: a log.
    Lines,
    /// Bars on a terminal of so many columns.
    Bars {
        width: usize,
    },
}

impl Settings {
    pub(crate) fn new(global: &Global) -> Self {
        Self {
            format: global.format,
            color: colored(global.color),
            width: columns(std::io::stdout()),
            progress: match (global.quiet, std::io::stderr().is_terminal()) {
                (true, _) => Progress::Nothing,
                (false, true) => Progress::Bars { width: columns(std::io::stderr()).unwrap_or(80) },
                (false, false) => Progress::Lines,
            },
            quiet: global.quiet,
        }
    }
}

/// Columns of a stream that is a terminal.
fn columns(stream: impl AsFd) -> Option<usize> {
    terminal_size::terminal_size_of(stream).map(|(width, _)| usize::from(width.0)).filter(|width| *width > 0)
}

/// Whether standard output takes colours: as told, else on a terminal unless `NO_COLOR` is set.
pub(crate) fn colored(when: When) -> bool {
    match when {
        When::Always => true,
        When::Never => false,
        When::Auto => {
            let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            !refused && std::io::stdout().is_terminal()
        }
    }
}

fn folder(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The path of a model given as a path or by name.
pub(crate) fn model_path(spec: &str) -> anyhow::Result<PathBuf> {
    Ok(pull::resolve(spec, &home()?, hub_cache().as_deref())?)
}

/// Where other programs keep models of the hub, by the variables of huggingface_hub.
fn hub_cache() -> Option<PathBuf> {
    folder("HF_HUB_CACHE")
        .or_else(|| folder("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("huggingface/hub")))
        .or_else(|| folder("HOME").map(|home| home.join(".cache/huggingface/hub")))
}

/// Where pulled models live: `MANTISSA_HOME`, else the user's data folder.
pub(crate) fn home() -> anyhow::Result<PathBuf> {
    folder("MANTISSA_HOME")
        .or_else(|| folder("XDG_DATA_HOME").map(|data| data.join("mantissa")))
        .or_else(|| folder("HOME").map(|home| home.join(".local/share/mantissa")))
        .context("MANTISSA_HOME: not set, and neither is HOME; set it to a folder for models")
}
