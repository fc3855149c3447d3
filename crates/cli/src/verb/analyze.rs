//! `mantissa analyze`: what experiment files show, which setups they can tell apart, and what they cannot.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::ValueEnum;
use mantissa_evidence::{EvidenceError, write_whole};
use mantissa_published::{Content, Opened};
use mantissa_report::{self as report, Style};
use mantissa_verdict::analysis::{Analysis, Answer, Outcome, Signal, Source};
use mantissa_verdict::{Options, VerdictError, as_published, judge, pools};
use serde::Serialize;

use crate::evidence::Damage;
use crate::failure::Exit;
use crate::output::{absent, written};
use crate::progress::{Bar, Unit};
use crate::settings::Settings;
use crate::terminal::{Column, Page, Report, Terminal};

const EXAMPLES: &str = "\
Examples:
  mantissa analyze batch_size_experiment.json
  mantissa analyze activations_*.json --variable hardware --html report.html
  mantissa analyze --all experiments --output analysis_results.json
  mantissa analyze --as-published quantization_format_generation.log

Reads experiment JSON, containers and the published layouts (docs/format/published.md), told apart by content. Files
given together are one analysis; --all analyzes what belongs together in a directory and sums up.
Exit codes: 0 everything compared agrees, 1 something differs, 2 failure, 3 none differs but not everything could be
compared, 4 a file was altered or damaged.";

/// Judge evidence files: what is detectable, what is one class, what cannot be said
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Evidence files or containers, analyzed together
    #[arg(value_name = "FILE", required_unless_present = "all")]
    files: Vec<PathBuf>,
    /// Every evidence file of this directory, what belongs together as one analysis
    #[arg(long, value_name = "DIR", conflicts_with = "files")]
    all: Option<PathBuf>,
    /// The setup field that varies [default: what the files say they tested]
    #[arg(long, value_name = "FIELD")]
    variable: Option<String>,
    /// The configuration to measure against [default: that of experiment 0, if it is given]
    #[arg(long, value_name = "ID")]
    reference: Option<String>,
    /// Only this kind of signal (may be given more than once)
    #[arg(long, value_name = "SIGNAL")]
    signal: Vec<SignalName>,
    /// The difference that counts: setups are called not separable only where so many times their own floor is excluded
    #[arg(long, value_name = "FACTOR", default_value_t = mantissa_verdict::thresholds::EFFECT)]
    effect: f64,
    /// The published definitions instead of ours, to reproduce old tables; not a verdict
    #[arg(long)]
    as_published: bool,
    /// Write analysis_results.json here as well
    #[arg(long, value_name = "FILE", value_parser = written())]
    output: Option<PathBuf>,
    /// Write a self-contained page here as well
    #[arg(long, value_name = "FILE", value_parser = written())]
    html: Option<PathBuf>,
    /// With --all: the tables of every analysis too, not its findings only
    #[arg(long, requires = "all")]
    full: bool,
    /// Replace what --output and --html name
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    damage: Damage,
}

/// A kind of signal, by its name in the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum SignalName {
    HiddenStates,
    KeyVectors,
    Logprobs,
}

impl From<SignalName> for Signal {
    fn from(name: SignalName) -> Self {
        match name {
            SignalName::HiddenStates => Self::HiddenStates,
            SignalName::KeyVectors => Self::KeyVectors,
            SignalName::Logprobs => Self::Logprobs,
        }
    }
}

/// What was found; with `--all` one analysis per group of files.
#[derive(Serialize)]
#[serde(untagged)]
enum Found {
    One(Box<Analysis>),
    Many {
        summary: Vec<Row>,
        analyses: Vec<Analysis>,
        #[serde(skip)]
        full: bool,
    },
}

/// A line of the summary of `--all`.
#[derive(Serialize)]
struct Row {
    sources: Vec<String>,
    variable: String,
    outcome: Outcome,
    pairs: usize,
    separable: usize,
    finding: Option<String>,
}

pub(crate) fn run(args: &Args, settings: &Settings, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    absent(&[args.output.as_deref(), args.html.as_deref()], args.force)?;
    let (opened, mut unread) = if let Some(directory) = &args.all {
        every(directory, args.damage, settings, terminal)?
    } else {
        let bar = Bar::new(settings, "reading", Some(args.files.len() as u64), Unit::Files);
        let opened = args.files.iter().map(|path| args.damage.open(path).inspect(|_| bar.add(1)));
        (opened.collect::<Result<Vec<_>, _>>()?, Vec::new())
    };
    let options = Options {
        variable: args.variable.clone(),
        reference: args.reference.clone(),
        signals: Some(args.signal.iter().map(|&name| name.into()).collect())
            .filter(|s: &BTreeSet<_>| !s.is_empty()),
        effect: args.effect,
        ..Options::default()
    };
    let inputs: Vec<(Source, &Content)> = named(&opened);
    warn(&inputs, terminal);
    let found = match (&args.all, args.as_published) {
        (_, true) => Found::One(Box::new(as_published(&inputs, &options)?)),
        (None, false) => Found::One(Box::new(judge(&inputs, &options)?)),
        (Some(_), false) => {
            let contents: Vec<&Content> = opened.iter().map(|file| &file.content).collect();
            let groups =
                pools(&contents).into_iter().map(|group| group.into_iter().map(|i| inputs[i].clone()));
            let groups: Vec<Vec<_>> = groups.map(Iterator::collect).collect();
            let analyses = judge_each(&groups, &options, terminal)?;
            Found::Many { summary: analyses.iter().map(Row::of).collect(), analyses, full: args.full }
        }
    };
    if let Some(path) = &args.output {
        write_whole(path, args.force, |out| found.json(out))?;
    }
    if let Some(path) = &args.html {
        found.html(path, args.force)?;
    }
    terminal.print(&found)?;
    if !unread.is_empty() {
        let (bad, all) = (unread.len(), unread.len() + opened.len());
        // What was altered is an answer of its own, and comes first.
        unread.sort_by_key(|error| !matches!(error, EvidenceError::Altered { .. }));
        let first = unread.swap_remove(0);
        let message = format!("{bad} of {all} files could not be read; the first: {first}");
        return Err(anyhow::Error::new(first).context(message));
    }
    Ok(Damage::exit(&opened, found.exit()))
}

/// Says what the readers warn of, once for all files it is true of.
fn warn(inputs: &[(Source, &Content)], terminal: &Terminal) {
    let mut said: Vec<(&str, &str, usize)> = Vec::new();
    for (source, _) in inputs {
        for warning in &source.warnings {
            match said.iter_mut().find(|(_, known, _)| known == warning) {
                Some((_, _, files)) => *files += 1,
                None => said.push((&source.name, warning, 1)),
            }
        }
    }
    for (name, warning, files) in said {
        let more = if files > 1 { format!(" and {} more", files - 1) } else { String::new() };
        terminal.note(&format!("{name}{more}: {warning}"));
    }
}

/// Judges groups of files. A group that lacks the variable or reference asked for is judged by its own and a note says
/// so; only when every group lacks it, that is an error.
fn judge_each(
    groups: &[Vec<(Source, &Content)>],
    options: &Options,
    terminal: &Terminal,
) -> anyhow::Result<Vec<Analysis>> {
    let (mut analyses, mut lacking) = (Vec::new(), Vec::new());
    for group in groups {
        match judge(group, options) {
            Ok(analysis) => analyses.push(analysis),
            Err(error @ (VerdictError::UnknownReference { .. } | VerdictError::UnknownVariable { .. })) => {
                let own = Options { variable: None, reference: None, ..options.clone() };
                analyses.push(judge(group, &own)?);
                let name = group.first().map_or("", |(source, _)| source.name.as_str());
                terminal.note(&format!("{name}: {error}; judged by its own variable and reference"));
                lacking.push(error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    match lacking.pop() {
        Some(error) if lacking.len() + 1 == groups.len() => Err(error.into()),
        _ => Ok(analyses),
    }
}

/// Every evidence file of a directory in the order of names, and why the others could not be read.
fn every(
    directory: &Path,
    damage: Damage,
    settings: &Settings,
    terminal: &Terminal,
) -> anyhow::Result<(Vec<Opened>, Vec<EvidenceError>)> {
    let shown = directory.display();
    let entries = std::fs::read_dir(directory)
        .map_err(|e| anyhow::anyhow!("{shown}: cannot list: {e}; give a directory of evidence"))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.is_file() || path.join("manifest.json").exists());
    paths.sort();
    let bar = Bar::new(settings, "reading", Some(paths.len() as u64), Unit::Files);
    let (mut opened, mut unread) = (Vec::new(), Vec::new());
    for path in &paths {
        match damage.open(path) {
            Ok(file) => opened.push(file),
            Err(error @ (EvidenceError::UnknownLayout { .. } | EvidenceError::NotEvidence { .. })) => {
                terminal.note(&format!("left out: {error}"));
            }
            Err(error) => unread.push(error),
        }
        bar.add(1);
    }
    if opened.is_empty() && unread.is_empty() {
        bail!("{shown}: holds no evidence; give a directory of experiment files");
    }
    Ok((opened, unread))
}

/// Files by names that are unique: a folder is added where two share one.
fn named(opened: &[Opened]) -> Vec<(Source, &Content)> {
    let unique = |i: usize, file: &Opened| {
        let twice = opened.iter().enumerate().any(|(j, other)| i != j && other.name == file.name);
        if twice { file.path.display().to_string() } else { file.name.clone() }
    };
    let source = |(i, file): (usize, &'_ Opened)| Source { name: unique(i, file), ..Source::from(file) };
    opened.iter().enumerate().map(|(i, file)| (source((i, file)), &file.content)).collect()
}

impl Found {
    fn analyses(&self) -> &[Analysis] {
        match self {
            Self::One(analysis) => std::slice::from_ref(analysis),
            Self::Many { analyses, .. } => analyses,
        }
    }

    fn json(&self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::One(analysis) => report::json(analysis, out),
            Self::Many { .. } => {
                serde_json::to_writer_pretty(&mut *out, self)?;
                out.write_all(b"\n")
            }
        }
    }

    /// One page, or for several analyses a folder of pages.
    fn html(&self, path: &Path, force: bool) -> anyhow::Result<()> {
        match self {
            Self::One(analysis) => write_whole(path, force, |out| report::html(analysis, out))?,
            Self::Many { analyses, .. } => {
                std::fs::create_dir_all(path).map_err(|e| {
                    anyhow::anyhow!("{}: cannot make the folder: {e}; choose another", path.display())
                })?;
                let pages: Vec<(String, &Analysis)> = analyses
                    .iter()
                    .enumerate()
                    .map(|(i, a)| (format!("analysis-{}.html", i + 1), a))
                    .collect();
                for (name, analysis) in &pages {
                    write_whole(&path.join(name), force, |out| report::html(analysis, out))?;
                }
                write_whole(&path.join("index.html"), force, |out| report::index(&pages, out))?;
            }
        }
        Ok(())
    }

    /// Divergent if any is; else not enough evidence if any is.
    fn exit(&self) -> Exit {
        let mut end = Exit::Consistent;
        for analysis in self.analyses() {
            match analysis.outcome {
                Outcome::Divergent => return Exit::Divergent,
                Outcome::NotEnoughEvidence => end = Exit::NotEnoughEvidence,
                Outcome::Consistent => {}
            }
        }
        end
    }
}

impl Row {
    fn of(analysis: &Analysis) -> Self {
        let separable = analysis.pairs.iter().filter(|pair| pair.answer == Answer::Separable).count();
        Self {
            sources: analysis.sources.iter().map(|source| source.name.clone()).collect(),
            variable: analysis.question.variable.clone(),
            outcome: analysis.outcome,
            pairs: analysis.pairs.len(),
            separable,
            finding: analysis.findings.first().map(|finding| finding.sentence.clone()),
        }
    }
}

impl Report for Found {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        if let Self::Many { summary, .. } = self {
            page.heading("Summary")?;
            let columns = [
                Column::Left("evidence"),
                Column::Left("variable"),
                Column::Left("outcome"),
                Column::Right("pairs"),
                Column::Right("separable"),
            ];
            let rows = summary.iter().map(|row| {
                let more = row.sources.len().saturating_sub(1);
                let first = row.sources.first().cloned().unwrap_or_default();
                let name = if more == 0 { first } else { format!("{first} and {more} more") };
                let outcome = report::outcome(row.outcome).to_owned();
                vec![name, row.variable.clone(), outcome, row.pairs.to_string(), row.separable.to_string()]
            });
            page.table(&columns, &rows.collect::<Vec<_>>())?;
        }
        let (many, tables) = match self {
            Self::One(_) => (false, true),
            Self::Many { full, .. } => (true, *full),
        };
        for (number, analysis) in self.analyses().iter().enumerate() {
            if many {
                page.line("")?;
                let names: Vec<&str> = analysis.sources.iter().map(|source| source.name.as_str()).collect();
                page.heading(&format!("{}. {}", number + 1, names.join(", ")))?;
            }
            let style = Style { tables, ..page.style() };
            page.set(&report::text(analysis, style))?;
        }
        if many && !tables {
            page.line("")?;
            page.line("Tables: --full, or --html FOLDER, or --output FILE.")?;
        }
        Ok(())
    }

    fn markdown(&self) -> Option<io::Result<Vec<u8>>> {
        let mut text = Vec::new();
        let written = self.analyses().iter().try_for_each(|analysis| report::markdown(analysis, &mut text));
        Some(written.map(|()| text))
    }
}
