//! `mantissa compare`: facts about two or more runs, without a judgement.

mod facts;

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::bail;
use clap::ValueEnum;
use mantissa_compare::{Comparison, Selection, SignalKind};
use mantissa_evidence::{Record, write_whole};
use mantissa_numerics::Phase;
use mantissa_published::Content;
use mantissa_report as report;
use mantissa_verdict::analysis::Source;

use crate::evidence::Damage;
use crate::failure::Exit;
use crate::output::{absent, written};
use crate::terminal::Terminal;
use facts::Compared;

const EXAMPLES: &str = "\
Examples:
  mantissa compare record-a record-b            # two containers, site by site
  mantissa compare batch_size_experiment.json   # all runs of one file
  mantissa compare a.json b.json --signal logprobs --format json
  mantissa compare record-a record-b --html page.html

Runs are compared where they consumed the same tokens; with more than two runs of a prompt, all are sorted into classes
of equal bits and one of each is compared with one of the first. Outputs are grouped, and repetitions of a setup are
looked at by stored runs and stated digests. Nothing is judged: see `mantissa analyze`.
Exit codes: 0 every run was compared and no bit differs, 1 bits or outputs differ, 2 failure, 3 none differs but not
everything could be compared.";

/// Show which bits differ between runs, by how much, and where first
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Experiment JSON, container or published file; all their runs take part
    #[arg(required = true, value_name = "RECORD")]
    records: Vec<PathBuf>,
    /// Only this kind of signal (may be given more than once)
    #[arg(long, value_name = "SIGNAL")]
    signal: Vec<Signal>,
    /// Only this phase
    #[arg(long, value_name = "PHASE")]
    phase: Option<PhaseName>,
    /// Only these decoder blocks, counted from 1
    #[arg(long, value_name = "N", value_delimiter = ',')]
    layer: Vec<u32>,
    /// Show every pair in full, also when there are many
    #[arg(long)]
    full: bool,
    /// Write a self-contained page here as well
    #[arg(long, value_name = "FILE", value_parser = written())]
    html: Option<PathBuf>,
    /// Replace what --html names
    #[arg(long, requires = "html")]
    force: bool,
    #[command(flatten)]
    damage: Damage,
}

/// A kind of signal, by its name in the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Signal {
    HiddenStates,
    KeyVectors,
    Logprobs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PhaseName {
    Prefill,
    Decode,
}

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    absent(&[args.html.as_deref()], args.force)?;
    let (mut records, mut sources, mut altered) = (Vec::new(), Vec::new(), false);
    for path in &args.records {
        let opened = args.damage.open(path)?;
        sources.push(Source::from(&opened));
        altered |= !opened.damage.is_empty();
        opened.warnings.iter().for_each(|warning| terminal.note(&format!("{}: {warning}", opened.name)));
        let conflicts = opened.conflicts.iter().map(mantissa_verdict::conflict);
        conflicts.for_each(|conflict| terminal.note(&format!("{}: {conflict}", opened.name)));
        let record = match opened.content {
            Content::Record(record) => record,
            Content::Published(published) => match published.experiment() {
                Some(experiment) => Record::from_experiment(experiment.clone(), path),
                None => bail!(
                    "{}: a {} file holds distances, not signals; use `mantissa analyze`",
                    path.display(),
                    published.layout().name
                ),
            },
        };
        records.push((opened.name, record));
    }
    let runs = records.iter().map(|(_, record)| record.shell().runs.len()).sum::<usize>();
    if runs < 2 {
        bail!("{}: {runs} run to compare; give records with at least two", args.records[0].display());
    }
    let found = Comparison::of(&records, &selection(args))?;
    let compared = Compared { found, full: args.full };
    if let Some(path) = &args.html {
        write_whole(path, args.force, |out| report::comparison_html(&compared.found, &sources, out))?;
    }
    terminal.print(&compared)?;
    Ok(if altered { Exit::Altered } else { compared.exit() })
}

fn selection(args: &Args) -> Selection {
    let signals = args.signal.iter().map(|signal| match signal {
        Signal::HiddenStates => SignalKind::HiddenStates,
        Signal::KeyVectors => SignalKind::KeyVectors,
        Signal::Logprobs => SignalKind::Logprobs,
    });
    let phase = args.phase.map(|phase| match phase {
        PhaseName::Prefill => Phase::Prefill,
        PhaseName::Decode => Phase::Decode,
    });
    Selection {
        signals: Some(signals.collect::<BTreeSet<_>>()).filter(|signals| !signals.is_empty()),
        phases: phase.map(|phase| [phase].into()),
        layers: Some(args.layer.iter().copied().collect::<BTreeSet<_>>()).filter(|layers| !layers.is_empty()),
        ..Selection::default()
    }
}
