//! GitHub's Markdown: findings, then every table.

use std::io::{self, Write};

use mantissa_verdict::Analysis;
use mantissa_verdict::analysis::{Citation, Mode};

use crate::foreign::markdown as escape;
use crate::grid::{self, Grid, Kind};
use crate::words;

/// Writes the analysis as Markdown.
///
/// ```
/// use mantissa_report::markdown;
/// use mantissa_verdict::{Options, judge};
///
/// // An analysis of no file at all.
/// let analysis = judge(&[], &Options::default())?;
/// let mut page = Vec::new();
/// markdown(&analysis, &mut page)?;
/// assert!(page.starts_with(b"# Not enough evidence: "));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn markdown(analysis: &Analysis, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "# {}", headline(analysis))?;
    writeln!(out)?;
    writeln!(out, "- Variable: {}", escape(&analysis.question.variable))?;
    let reference = analysis.question.reference.as_deref().unwrap_or("none, all pairs count alike");
    writeln!(out, "- Reference: {}", escape(reference))?;
    writeln!(out, "- Signals: {}", words::signals(&analysis.question.signals))?;
    writeln!(out, "- Definitions: {}", words::mode(analysis.mode))?;
    if analysis.mode == Mode::AsPublished {
        writeln!(
            out,
            "\n> **Not a verdict.** These are the published definitions, kept to reproduce old tables."
        )?;
    }

    writeln!(out, "\n## Findings\n")?;
    if analysis.findings.is_empty() {
        writeln!(out, "None.")?;
    }
    for finding in &analysis.findings {
        let source = sources(finding.citations.iter());
        let source = if source.is_empty() { source } else { format!(" ({source})") };
        writeln!(out, "1. **{}**: {}{source}", words::finding(finding.kind), escape(&finding.sentence))?;
    }

    section(out, "Tokens", &[grid::tokens(analysis)])?;
    section(out, "Reproducibility", &[grid::reproducibility(analysis)])?;
    section(out, "Classes", &[grid::classes(analysis)])?;
    section(out, "Pairs", &grid::pairs(analysis))?;
    let matrices: Vec<Grid<'_>> = analysis.matrices.iter().map(|matrix| grid::matrix(matrix, 4)).collect();
    if !matrices.is_empty() {
        writeln!(out, "\n## Matrices\n\n{}", words::LEGEND)?;
        matrices.iter().try_for_each(|matrix| table(out, matrix))?;
    }
    let profiles: Vec<Grid<'_>> =
        grid::profile_groups(&analysis.profiles, 6).iter().map(|group| grid::profiles(group)).collect();
    section(out, "Distance along layers and steps", &profiles)?;
    section(out, "False alarms", &[grid::bounds(analysis)])?;
    section(out, "Published definitions", &grid::tables(analysis))?;
    section(out, "Published figures", &[grid::published(analysis)])?;
    section(out, "Thresholds", &[grid::thresholds(analysis)])?;
    section(out, "Sources", &[grid::sources(analysis)])?;

    let warnings =
        analysis.sources.iter().flat_map(|source| source.warnings.iter().map(move |w| (&source.name, w)));
    for (i, (name, warning)) in warnings.enumerate() {
        if i == 0 {
            writeln!(out, "\n## Warnings\n")?;
        }
        writeln!(out, "- {}: {}", escape(name), escape(warning))?;
    }
    Ok(())
}

fn headline(analysis: &Analysis) -> String {
    format!(
        "{}: {}",
        words::capital(words::headline(analysis.mode, analysis.outcome)),
        words::outcome_means(analysis.mode, analysis.outcome)
    )
}

pub(crate) fn section(out: &mut dyn Write, heading: &str, grids: &[Grid<'_>]) -> io::Result<()> {
    let mut grids = grids.iter().filter(|grid| !grid.rows.is_empty()).peekable();
    if grids.peek().is_some() {
        writeln!(out, "\n## {heading}")?;
    }
    grids.try_for_each(|grid| table(out, grid))
}

pub(crate) fn table(out: &mut dyn Write, grid: &Grid<'_>) -> io::Result<()> {
    writeln!(out, "\n**{}**\n", escape(&grid.caption))?;
    let sourced = grid.rows.iter().any(|row| !row.citations.is_empty());
    let titles = grid.columns.iter().map(|column| escape(&column.title));
    line(out, titles.chain(sourced.then(|| "source".to_owned())))?;
    let rules =
        grid.columns.iter().map(|column| if column.kind == Kind::Number { "---:" } else { "---" }.to_owned());
    line(out, rules.chain(sourced.then(|| "---".to_owned())))?;
    for row in &grid.rows {
        let cells =
            (0..grid.columns.len()).map(|i| row.cells.get(i).map_or_else(String::new, |cell| escape(cell)));
        line(out, cells.chain(sourced.then(|| sources(row.citations.iter().copied()))))?;
    }
    grid.note.as_ref().map_or(Ok(()), |note| writeln!(out, "\n{}", escape(note)))
}

fn line(out: &mut dyn Write, cells: impl Iterator<Item = String>) -> io::Result<()> {
    writeln!(out, "| {} |", cells.collect::<Vec<_>>().join(" | "))
}

/// The first two places, and how many more there are.
fn sources<'a>(citations: impl ExactSizeIterator<Item = &'a Citation>) -> String {
    let more = citations.len().saturating_sub(2);
    let mut shown: Vec<String> =
        citations.take(2).map(|c| format!("{}, {}", escape(&c.source), escape(&c.place))).collect();
    if more > 0 {
        shown.push(format!("{more} more in analysis_results.json"));
    }
    shown.join("; ")
}
