//! Printed figures against the cells they were computed from, by interval arithmetic.
//!
//! A printed cell stands for every number within half a unit of its last digit. What follows from such cells is a
//! range; a printed average either has the digits that the cells give at face value, or lies in the range, or does
//! not follow. Left out: which figure comes from which cells (the modules of the logs).

use mantissa_evidence::published::log::Printed;

use crate::analysis::{Agreement, Citation, Finding, FindingKind, PublishedFigure, Table};

/// What a log contributes to an analysis with the published definitions.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LogFigures {
    /// Every printed figure and word against what it should follow from.
    pub published: Vec<PublishedFigure>,
    /// What does not follow, or does not mean what it says.
    pub findings: Vec<Finding>,
    /// The printed tables, marked as such.
    pub tables: Vec<Table>,
}

/// A number known to lie between two others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Range {
    /// Computed from figures at face value.
    pub(super) face: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Range {
    pub(super) const fn of(figure: &Printed) -> Self {
        Self {
            face: figure.value,
            low: figure.value - figure.half_unit,
            high: figure.value + figure.half_unit,
        }
    }

    pub(super) const fn exact(value: f64) -> Self {
        Self { face: value, low: value, high: value }
    }

    /// Arithmetic mean; `None` of nothing.
    pub(super) fn mean(of: &[Self]) -> Option<Self> {
        let count = f64::from(u32::try_from(of.len()).ok().filter(|&count| count > 0)?);
        let mean = |part: fn(&Self) -> f64| of.iter().map(part).sum::<f64>() / count;
        Some(Self { face: mean(|x| x.face), low: mean(|x| x.low), high: mean(|x| x.high) })
    }

    pub(super) fn max(of: &[Self]) -> Option<Self> {
        of.iter().copied().reduce(|a, b| Self {
            face: a.face.max(b.face),
            low: a.low.max(b.low),
            high: a.high.max(b.high),
        })
    }

    pub(super) fn min(of: &[Self]) -> Option<Self> {
        of.iter().copied().reduce(|a, b| Self {
            face: a.face.min(b.face),
            low: a.low.min(b.low),
            high: a.high.min(b.high),
        })
    }

    /// Standard deviation of the population.
    ///
    /// It moves by no more than the root of the mean square of what its numbers move by, which bounds the range.
    pub(super) fn deviation(of: &[Self]) -> Option<Self> {
        let mean = Self::mean(of)?.face;
        let count = f64::from(u32::try_from(of.len()).ok()?);
        let face = (of.iter().map(|x| (x.face - mean).powi(2)).sum::<f64>() / count).sqrt();
        let slack = of.iter().map(|x| (x.high - x.face).max(x.face - x.low).powi(2)).sum::<f64>() / count;
        Some(Self { face, low: (face - slack.sqrt()).max(0.0), high: face + slack.sqrt() })
    }

    /// Quotient of two positive numbers; `None` where the divisor may be zero.
    pub(super) fn over(self, divisor: Self) -> Option<Self> {
        (divisor.low > 0.0).then(|| Self {
            face: self.face / divisor.face,
            low: self.low / divisor.high,
            high: self.high / divisor.low,
        })
    }

    /// Whether a number of the range prints as `figure`.
    fn meets(self, figure: &Printed) -> bool {
        let printed = Self::of(figure);
        self.low <= printed.high && printed.low <= self.high
    }
}

/// `value` with as many digits, and in the same notation, as `like`.
pub(super) fn digits(value: f64, like: &str) -> String {
    if value.is_infinite() {
        return "inf".to_owned();
    }
    let (mantissa, scientific) = match like.split_once('e') {
        Some((mantissa, _)) => (mantissa, true),
        None => (like, false),
    };
    let decimals = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    if !scientific {
        return if like == "inf" { format!("{value:.2e}") } else { format!("{value:.decimals$}") };
    }
    let text = format!("{value:.decimals$e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
            format!("{mantissa}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

/// Collects the figures of one source.
pub(super) struct Ledger<'a> {
    source: &'a str,
    pub(super) found: LogFigures,
}

impl<'a> Ledger<'a> {
    pub(super) fn new(source: &'a str) -> Self {
        Self { source, found: LogFigures::default() }
    }

    pub(super) fn cite(&self, line: usize) -> Citation {
        Citation { source: self.source.to_owned(), place: format!("line {line}") }
    }

    /// A printed figure against the range that its inputs leave.
    pub(super) fn figure(
        &mut self,
        name: impl Into<String>,
        printed: &Printed,
        from: Option<Range>,
        inputs: &str,
    ) {
        let (agreement, recomputed, note) = match from {
            None => (Agreement::NotInFile, None, Some(inputs.to_owned())),
            Some(range) => {
                let face = digits(range.face, &printed.text);
                let agreement = if face == printed.text {
                    Agreement::EveryDigit
                } else if range.meets(printed) {
                    Agreement::WithinRounding
                } else {
                    Agreement::DoesNotFollow
                };
                let note = (agreement != Agreement::EveryDigit)
                    .then(|| format!("{inputs} leave {:.6e} to {:.6e}", range.low, range.high));
                (agreement, Some(face), note)
            }
        };
        let citation = self.cite(printed.line);
        let printed = printed.text.clone();
        self.push(PublishedFigure { name: name.into(), printed, recomputed, agreement, note, citation });
    }

    /// A printed word, count or list against the one that follows.
    pub(super) fn word(
        &mut self,
        name: impl Into<String>,
        printed: impl Into<String>,
        follows: impl Into<String>,
        line: usize,
    ) {
        let (printed, follows) = (printed.into(), follows.into());
        let agreement = if printed == follows { Agreement::EveryDigit } else { Agreement::DoesNotFollow };
        let citation = self.cite(line);
        let recomputed = Some(follows);
        self.push(PublishedFigure {
            name: name.into(),
            printed,
            recomputed,
            agreement,
            note: None,
            citation,
        });
    }

    /// A printed statement whose grounds the log does not hold.
    pub(super) fn unfounded(
        &mut self,
        name: impl Into<String>,
        printed: impl Into<String>,
        lacks: impl Into<String>,
        line: usize,
    ) {
        let citation = self.cite(line);
        self.push(PublishedFigure {
            name: name.into(),
            printed: printed.into(),
            recomputed: None,
            agreement: Agreement::NotInFile,
            note: Some(lacks.into()),
            citation,
        });
    }

    pub(super) fn finding(&mut self, sentence: impl Into<String>, lines: &[usize]) {
        let citations = lines.iter().map(|&line| self.cite(line)).collect();
        self.found.findings.push(Finding {
            kind: FindingKind::Published,
            sentence: sentence.into(),
            citations,
        });
    }

    fn push(&mut self, figure: PublishedFigure) {
        if figure.agreement == Agreement::DoesNotFollow {
            let recomputed = figure.recomputed.clone().unwrap_or_default();
            let sentence = format!(
                "{} is printed as {}, and its own data give {recomputed}.",
                figure.name, figure.printed
            );
            self.found.findings.push(Finding {
                kind: FindingKind::Published,
                sentence,
                citations: vec![figure.citation.clone()],
            });
        }
        self.found.published.push(figure);
    }

    /// The printed matrix as a table.
    pub(super) fn matrix(&mut self, title: &str, matrix: &mantissa_evidence::published::log::PrintedMatrix) {
        let mut columns = vec![String::new()];
        columns.extend(matrix.columns.iter().cloned());
        let rows = matrix.rows.iter().zip(&matrix.cells).map(|(label, cells)| {
            let mut row = vec![label.clone()];
            row.extend(cells.iter().map(|figure| figure.text.clone()));
            row
        });
        self.found.tables.push(Table {
            title: title.to_owned(),
            columns,
            rows: rows.collect(),
            note: Some(format!("As printed, {} line {}.", self.source, matrix.line)),
        });
    }
}

/// Cells on and off the diagonal.
pub(super) fn split(cells: &[Vec<Range>]) -> (Vec<Range>, Vec<Range>) {
    let mut parts = (Vec::new(), Vec::new());
    for (row, cells) in cells.iter().enumerate() {
        for (column, &cell) in cells.iter().enumerate() {
            if row == column { parts.0.push(cell) } else { parts.1.push(cell) }
        }
    }
    parts
}

/// Printed cells as ranges.
pub(super) fn ranges(cells: &[Vec<Printed>]) -> Vec<Vec<Range>> {
    cells.iter().map(|row| row.iter().map(Range::of).collect()).collect()
}

/// The mean of several matrices, cell by cell.
pub(super) fn mean_matrix(matrices: &[Vec<Vec<Range>>]) -> Vec<Vec<Range>> {
    let first = matrices.first().map_or(&[][..], Vec::as_slice);
    let cell = |row: usize, column: usize| {
        let cells: Vec<Range> =
            matrices.iter().filter_map(|matrix| matrix.get(row)?.get(column).copied()).collect();
        Range::mean(&cells)
    };
    first
        .iter()
        .enumerate()
        .map(|(row, cells)| (0..cells.len()).filter_map(|column| cell(row, column)).collect())
        .collect()
}
