//! Flags and environment, resolved once: how to print, and where models live.
//!
//! No environment variable changes a number; these choose places and colours.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::output::{Format, Global, When};

/// What every verb needs to know about its surroundings.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Shape of the data on standard output.
    pub(crate) format: Format,
    /// Whether data on standard output is coloured.
    pub(crate) color: bool,
    /// Whether bars are drawn on standard error.
    pub(crate) bars: bool,
    /// Whether notes on standard error are left out.
    pub(crate) quiet: bool,
}

impl Settings {
    pub(crate) fn new(global: &Global) -> Self {
        Self {
            format: global.format,
            color: colored(global.color),
            bars: !global.quiet && std::io::stderr().is_terminal(),
            quiet: global.quiet,
        }
    }
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

/// Where pulled models live: `MANTISSA_HOME`, else the user's data folder.
pub(crate) fn home() -> anyhow::Result<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("MANTISSA_HOME")
        .or_else(|| folder("XDG_DATA_HOME").map(|data| data.join("mantissa")))
        .or_else(|| folder("HOME").map(|home| home.join(".local/share/mantissa")))
        .context("MANTISSA_HOME: not set, and neither is HOME; set it to a folder for models")
}
