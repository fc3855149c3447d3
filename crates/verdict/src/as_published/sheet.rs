//! One file's part of an analysis: figures, matrices, tables and findings, each with its citation.

use mantissa_numerics::Phase;

use super::printed::LogFigures;
use crate::analysis::{
    Agreement, Analysis, Cell, Citation, Finding, FindingKind, Matrix, MatrixKind, PublishedFigure, Signal,
    Source, State, Table, Threshold,
};

/// What every table and matrix of this mode says about itself.
pub(super) const NOTE: &str = "published definition, not a verdict";

/// One file's part of an analysis.
pub(super) struct Sheet<'a> {
    source: &'a Source,
    analysis: &'a mut Analysis,
}

/// What a matrix is about.
pub(super) struct Heading<'a> {
    pub(super) title: &'a str,
    pub(super) kind: MatrixKind,
    pub(super) phase: Phase,
    pub(super) signal: Signal,
    pub(super) statistic: &'a str,
    /// Where its cells are stored.
    pub(super) place: &'a str,
}

impl<'a> Sheet<'a> {
    pub(super) const fn new(source: &'a Source, analysis: &'a mut Analysis) -> Self {
        Self { source, analysis }
    }

    pub(super) fn cite(&self, place: impl Into<String>) -> Citation {
        Citation { source: self.source.name.clone(), place: place.into() }
    }

    /// A title that is unique in the analysis.
    pub(super) fn title(&self, title: &str) -> String {
        format!("{}: {title}", self.source.name)
    }

    pub(super) fn signal(&mut self, signal: Signal) {
        if !self.analysis.question.signals.contains(&signal) {
            self.analysis.question.signals.push(signal);
        }
    }

    /// What a log prints, in full.
    pub(super) fn log(&mut self, figures: LogFigures, signals: &[Signal]) {
        for &signal in signals {
            self.signal(signal);
        }
        self.analysis.published.extend(figures.published);
        self.analysis.findings.extend(figures.findings);
        for table in figures.tables {
            let title = self.title(&table.title);
            self.analysis.tables.push(Table { title, ..table });
        }
    }

    /// A stored number, which its data have to give bit for bit.
    pub(super) fn figure(&mut self, name: &str, stored: f64, recomputed: f64, place: &str) {
        self.noted(name, stored, recomputed, place, None);
    }

    /// The same with a note.
    pub(super) fn noted(
        &mut self,
        name: &str,
        stored: f64,
        recomputed: f64,
        place: &str,
        note: Option<&str>,
    ) {
        let agreement =
            if same(stored, recomputed) { Agreement::EveryDigit } else { Agreement::DoesNotFollow };
        self.analysis.published.push(PublishedFigure {
            name: name.to_owned(),
            printed: stored.to_string(),
            recomputed: Some(recomputed.to_string()),
            agreement,
            note: note.map(str::to_owned),
            citation: self.cite(place),
        });
    }

    /// A figure or word as text, which has to come out letter for letter.
    pub(super) fn text(
        &mut self,
        name: &str,
        printed: String,
        recomputed: String,
        place: &str,
        note: Option<&str>,
    ) {
        let agreement = if printed == recomputed { Agreement::EveryDigit } else { Agreement::DoesNotFollow };
        self.analysis.published.push(PublishedFigure {
            name: name.to_owned(),
            printed,
            recomputed: Some(recomputed),
            agreement,
            note: note.map(str::to_owned),
            citation: self.cite(place),
        });
    }

    /// A figure that no data in the file can give.
    pub(super) fn not_in_file(&mut self, name: &str, stored: f64, place: &str, note: &str) {
        self.analysis.published.push(PublishedFigure {
            name: name.to_owned(),
            printed: stored.to_string(),
            recomputed: None,
            agreement: Agreement::NotInFile,
            note: Some(note.to_owned()),
            citation: self.cite(place),
        });
    }

    /// Stored cells as one figure: every bit of every cell has to come out.
    pub(super) fn cells(
        &mut self,
        name: &str,
        stored: &[Vec<f64>],
        recomputed: &[Vec<f64>],
        place: &str,
        note: Option<&str>,
    ) {
        let count: usize = stored.iter().map(Vec::len).sum();
        let pairs = stored.iter().flatten().zip(recomputed.iter().flatten());
        let agree = pairs.filter(|&(&a, &b)| same(a, b)).count();
        let whole = agree == count && recomputed.iter().map(Vec::len).sum::<usize>() == count;
        self.analysis.published.push(PublishedFigure {
            name: format!("{name} ({count} cells)"),
            printed: range(stored),
            recomputed: Some(format!("{}; {agree} of {count} cells agree in every bit", range(recomputed))),
            agreement: if whole { Agreement::EveryDigit } else { Agreement::DoesNotFollow },
            note: note.map(str::to_owned),
            citation: self.cite(place),
        });
    }

    pub(super) fn finding(&mut self, sentence: impl Into<String>, places: &[&str]) {
        self.kind(FindingKind::Published, sentence, places);
    }

    pub(super) fn kind(&mut self, kind: FindingKind, sentence: impl Into<String>, places: &[&str]) {
        let citations = places.iter().map(|&place| self.cite(place)).collect();
        self.analysis.findings.push(Finding { kind, sentence: sentence.into(), citations });
    }

    pub(super) fn threshold(&mut self, threshold: Threshold) {
        if !self.analysis.thresholds.contains(&threshold) {
            self.analysis.thresholds.push(threshold);
        }
    }

    pub(super) fn table(&mut self, title: &str, columns: &[&str], rows: Vec<Vec<String>>) {
        self.analysis.tables.push(Table {
            title: self.title(title),
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
            rows,
            note: Some(NOTE.to_owned()),
        });
    }

    /// A matrix by the published definition, `labels` for rows and columns. An infinite cell is shown as incomparable.
    pub(super) fn matrix(
        &mut self,
        heading: &Heading<'_>,
        labels: &[String],
        values: &[Vec<f64>],
        references: u64,
    ) {
        self.signal(heading.signal);
        let cells = values.iter().enumerate().map(|(i, row)| {
            let cells = row.iter().enumerate().map(|(j, &value)| Cell {
                state: if !value.is_finite() {
                    State::Incomparable
                } else if value == 0.0 {
                    State::Equal
                } else {
                    State::Different
                },
                value: value.is_finite().then_some(value),
                n: references,
                citation: Some(self.cite(format!("{}[{i}][{j}]", heading.place))),
            });
            cells.collect()
        });
        let cells = cells.collect();
        self.analysis.matrices.push(Matrix {
            title: self.title(heading.title),
            kind: heading.kind,
            phase: heading.phase,
            signal: heading.signal,
            reference: None,
            statistic: format!("{} ({NOTE})", heading.statistic),
            rows: labels.to_vec(),
            columns: labels.to_vec(),
            cells,
        });
    }
}

/// Equal as numbers, or both no number.
fn same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a == 0.0 && b == 0.0) || (a.is_nan() && b.is_nan())
}

/// Smallest and largest cell, as the logs print them.
fn range(cells: &[Vec<f64>]) -> String {
    let all = || cells.iter().flatten().copied();
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
    format!("{} … {}", super::definitions::printed(low), super::definitions::printed(high))
}
