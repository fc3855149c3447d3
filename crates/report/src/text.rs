//! The terminal: findings first, then tables no broader than asked.
//!
//! Colour is only emphasis: without it the same words stand there. Columns that do not fit (`wide` ones) are left to
//! the other formats.

use mantissa_verdict::Analysis;
use mantissa_verdict::analysis::{Matrix, Mode, Outcome, Source};
use mantissa_verdict::drift::DriftAnswer;

use crate::foreign::{push, visible};
use crate::grid::{self, Column, Grid, Kind, Row};
use crate::words;

use layout::{blank, table, wrap};

pub(crate) mod layout;

/// How text is set.
///
/// ```
/// use mantissa_report::{Style, text};
/// use mantissa_verdict::{Options, judge};
///
/// let analysis = judge(&[], &Options::default())?;
/// let page = |style| text(&analysis, style);
/// // Without tables the page ends after the findings; no page is narrower than 60 columns.
/// let short = page(Style { tables: false, ..Style::default() });
/// let whole = page(Style::default());
/// assert!(whole.starts_with(&short) && whole.len() > short.len());
/// assert_eq!(page(Style { width: 20, ..Style::default() }), page(Style { width: 60, ..Style::default() }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Whether to emphasize with ANSI colours.
    pub color: bool,
    /// Columns of the terminal; at least 60 are used.
    pub width: usize,
    /// Whether the tables follow the findings.
    pub tables: bool,
}

impl Default for Style {
    fn default() -> Self {
        Self { color: false, width: 100, tables: true }
    }
}

const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// The analysis for a terminal.
///
/// ```
/// use mantissa_report::{Style, text};
/// use mantissa_verdict::{Options, judge};
///
/// // An analysis of no file at all.
/// let analysis = judge(&[], &Options::default())?;
/// let page = text(&analysis, Style { width: 80, ..Style::default() });
/// assert!(page.starts_with("not enough evidence"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn text(analysis: &Analysis, style: Style) -> String {
    let mut page = Page::new(style);
    let word = words::headline(analysis.mode, analysis.outcome);
    page.outcome(word, words::outcome_means(analysis.mode, analysis.outcome));
    page.field("variable", &analysis.question.variable);
    page.field("reference", analysis.question.reference.as_deref().unwrap_or("none, all pairs count alike"));
    page.field("signals", &words::signals(&analysis.question.signals));
    page.field("definitions", words::mode(analysis.mode));
    if analysis.mode == Mode::AsPublished {
        page.field("", "NOT A VERDICT: published definitions, kept to reproduce old tables");
    }
    page.findings(analysis);
    if !style.tables {
        return page.out;
    }
    page.grid(&grid::tokens(analysis));
    page.grid(&grid::reproducibility(analysis));
    page.grid(&grid::classes(analysis));
    page.matrix_grids(&analysis.matrices);
    for pairs in grid::pairs(analysis) {
        page.grid(&pairs);
    }
    for group in grid::profile_groups(&analysis.profiles, 4) {
        page.grid(&grid::profiles(&group));
    }
    page.grid(&grid::bounds(analysis));
    for table in grid::tables(analysis) {
        page.grid(&table);
    }
    page.grid(&grid::published(analysis));
    page.grid(&grid::thresholds(analysis));
    page.source_list(&analysis.sources);
    page.out
}

/// Text under way.
pub(crate) struct Page {
    out: String,
    color: bool,
    width: usize,
}

impl Page {
    pub(crate) fn new(style: Style) -> Self {
        Self { out: String::new(), color: style.color, width: style.width.max(60) }
    }

    pub(crate) fn finish(self) -> String {
        self.out
    }

    /// The answer of an analysis in a word, and what it means. A difference is nobody's fault, so no color says so.
    pub(crate) fn outcome(&mut self, word: &str, means: &str) {
        self.answer(BOLD, word, means);
    }

    /// The answer about a claim.
    pub(crate) fn claim(&mut self, outcome: Outcome, means: &str) {
        let color = match outcome {
            Outcome::Consistent => "\x1b[1;32m",
            Outcome::Divergent => "\x1b[1;31m",
            Outcome::NotEnoughEvidence => "\x1b[1;33m",
        };
        self.answer(color, words::claim_outcome(outcome), means);
    }

    /// The answer about a drift.
    pub(crate) fn drift(&mut self, answer: DriftAnswer, means: &str) {
        let color = match answer {
            DriftAnswer::Equal | DriftAnswer::Explained => "\x1b[1;32m",
            DriftAnswer::WithinRounding => BOLD,
            DriftAnswer::NotLocalized => "\x1b[1;33m",
            DriftAnswer::Unexplained => "\x1b[1;31m",
        };
        self.answer(color, answer.words(), means);
    }

    fn answer(&mut self, color: &str, word: &str, means: &str) {
        let (on, off) = if self.color { (color, PLAIN) } else { ("", "") };
        let room = self.width.saturating_sub(word.chars().count() + 2);
        for (i, line) in wrap(&visible(means), room.max(20)).iter().enumerate() {
            let line = if i == 0 { format!("{on}{word}{off}  {line}") } else { format!("  {line}") };
            push(&mut self.out, format_args!("{line}\n"));
        }
    }

    pub(crate) fn field_list(&mut self, heading: &str, fields: &[(&str, String)]) {
        self.heading(heading);
        for (label, value) in fields {
            self.field(label, value);
        }
    }

    pub(crate) fn blank(&mut self) {
        self.out.push('\n');
    }

    pub(crate) fn heading(&mut self, text: &str) {
        self.blank();
        self.title(text);
    }

    /// A heading with nothing before it.
    pub(crate) fn title(&mut self, text: &str) {
        let (bold, plain) = if self.color { (BOLD, PLAIN) } else { ("", "") };
        for line in wrap(&visible(text), self.width) {
            push(&mut self.out, format_args!("{bold}{line}{plain}\n"));
        }
    }

    pub(crate) fn field(&mut self, label: &str, value: &str) {
        self.hanging(&format!("  {label:<12} "), value);
    }

    /// A paragraph whose further lines stand under the end of its first word.
    pub(crate) fn hanging(&mut self, first: &str, text: &str) {
        let indent = first.chars().count();
        let lines = wrap(&visible(text), self.width.saturating_sub(indent));
        for (i, line) in lines.iter().enumerate() {
            let before = if i == 0 { first.to_owned() } else { blank(indent) };
            push(&mut self.out, format_args!("{}\n", format!("{before}{line}").trim_end()));
        }
    }

    fn findings(&mut self, analysis: &Analysis) {
        self.heading("Findings");
        if analysis.findings.is_empty() {
            self.hanging("  ", "none");
        }
        for (i, finding) in analysis.findings.iter().enumerate() {
            let sentence = format!("{}: {}", words::finding(finding.kind), finding.sentence);
            self.hanging(&format!("{:>3}. ", i + 1), &sentence);
            if let Some(citation) = finding.citations.first() {
                let more = match finding.citations.len() - 1 {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                self.hanging("     ", &format!("[{}, {}{more}]", citation.source, citation.place));
            }
        }
    }

    pub(crate) fn grid(&mut self, grid: &Grid<'_>) {
        if grid.rows.is_empty() {
            return;
        }
        self.heading(&grid.caption);
        self.rows(grid);
    }

    /// A table without its caption.
    pub(crate) fn rows(&mut self, grid: &Grid<'_>) {
        let shown: Vec<usize> = (0..grid.columns.len()).filter(|&i| !grid.columns[i].wide).collect();
        let columns: Vec<Column> = shown.iter().map(|&i| grid.columns[i].clone()).collect();
        let row =
            |row: &Row<'_>| shown.iter().map(|&i| row.cells.get(i).cloned().unwrap_or_default()).collect();
        let rows: Vec<Vec<String>> = grid.rows.iter().map(row).collect();
        table(&mut self.out, &columns, &rows, self.width, self.color);
        if let Some(note) = &grid.note {
            self.hanging("  ", note);
        }
    }

    /// Matrices, cut into blocks of columns where they are too broad.
    pub(crate) fn matrix_grids(&mut self, matrices: &[Matrix]) {
        if matrices.is_empty() {
            return;
        }
        self.heading("Matrices");
        self.hanging("  ", words::LEGEND);
        for matrix in matrices {
            let grid = grid::matrix(matrix, 3);
            self.heading(&grid.caption);
            let columns = matrix.columns.len();
            let mut from = 0;
            while from < columns {
                let block = layout::fitting(&grid, from + 1, self.width);
                let until = (from + block).min(columns);
                if block < columns {
                    push(&mut self.out, format_args!("  columns {} to {until} of {columns}\n", from + 1));
                }
                let pick = |row: &[String]| {
                    let cells = row.iter().skip(from + 1).take(until - from);
                    row.iter().take(1).chain(cells).cloned().collect::<Vec<_>>()
                };
                let label = Column::new("", Kind::Words);
                let titles: Vec<Column> =
                    std::iter::once(label).chain(grid.columns[from + 1..=until].iter().cloned()).collect();
                let rows: Vec<Vec<String>> = grid.rows.iter().map(|row| pick(&row.cells)).collect();
                table(&mut self.out, &titles, &rows, self.width, self.color);
                from = until;
            }
        }
    }

    pub(crate) fn source_list(&mut self, sources: &[Source]) {
        self.heading("Sources");
        for source in sources {
            self.hanging("  ", &format!("{} ({}), blake3 {}", source.name, source.layout, source.digest));
            for warning in &source.warnings {
                self.hanging("    ! ", warning);
            }
        }
    }
}
