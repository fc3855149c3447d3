//! The verbs, one file each: its flags, its settings, what it does and how it reports.

mod analyze;
mod catalog;
mod compare;
mod completions;
mod convert;
mod coverage;
mod demo;
mod doctor;
mod drift;
mod import;
mod inspect;
mod man;
mod pull;
mod record;
mod run;
mod synth;
mod trace;
mod verify;

use clap::{Command, Subcommand};

use crate::failure::Exit;
use crate::output::Format;
use crate::settings::Settings;
use crate::terminal::Terminal;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Pull(pull::Args),
    Synth(synth::Args),
    Record(Box<record::Args>),
    Run(run::Args),
    Inspect(inspect::Args),
    Verify(Box<verify::Args>),
    Compare(compare::Args),
    Drift(Box<drift::Args>),
    Trace(Box<trace::Args>),
    Analyze(analyze::Args),
    Convert(convert::Args),
    Import(import::Args),
    Demo(demo::Args),
    Coverage(coverage::Args),
    Catalog(catalog::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// Runs a verb; `command` defines the command line that it came from.
pub(crate) fn run(
    verb: Verb,
    command: fn() -> Command,
    settings: &Settings,
    terminal: &mut Terminal,
) -> anyhow::Result<Exit> {
    let has_markdown = matches!(verb, Verb::Analyze(_) | Verb::Verify(_) | Verb::Drift(_));
    if settings.format == Format::Markdown && !has_markdown {
        anyhow::bail!("--format markdown: only analyze, verify and drift have it; use text or json");
    }
    match verb {
        Verb::Pull(args) => pull::run(&args, settings, terminal),
        Verb::Synth(args) => synth::run(&args, settings, terminal),
        Verb::Record(args) => record::run(&args, settings, terminal),
        Verb::Run(args) => run::run(&args, settings, terminal),
        Verb::Inspect(args) => inspect::run(&args, settings, terminal),
        Verb::Verify(args) => verify::run(&args, settings, terminal),
        Verb::Trace(args) => trace::run(&args, settings, terminal),
        Verb::Compare(args) => compare::run(&args, terminal),
        Verb::Drift(args) => drift::run(&args, settings, terminal),
        Verb::Analyze(args) => analyze::run(&args, settings, terminal),
        Verb::Convert(args) => convert::run(&args, terminal),
        Verb::Import(args) => import::run(&args, terminal),
        Verb::Demo(args) => demo::run(&args, settings, terminal),
        Verb::Coverage(args) => coverage::run(&args, settings, terminal),
        Verb::Catalog(args) => catalog::run(&args, settings, terminal),
        Verb::Doctor(args) => doctor::run(&args, terminal),
        Verb::Completions(args) => completions::run(&args, command(), terminal),
        Verb::Man(args) => man::run(&args, command(), terminal),
    }
}
