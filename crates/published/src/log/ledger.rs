//! Printed figures against the cells they were computed from.
//!
//! A printed average either has the digits that the cells give at face value, or lies in the range that they leave, or
//! does not follow. Left out: which figure comes from which cells (the layouts of the logs).

use super::printed::{Printed, PrintedMatrix};
use super::range::{Range, digits};
use crate::sheet::{Agreement, Figure, Finding, FindingTopic, Sheet, Signal, Table};

/// Collects the figures of one log.
pub(crate) struct Ledger {
    sheet: Sheet,
}

impl Ledger {
    /// An empty one about `variable`, for a log that shows `signals`.
    pub(crate) fn new(variable: &str, signals: &[Signal]) -> Self {
        let mut sheet = Sheet::of(variable);
        for &signal in signals {
            sheet.signal(signal);
        }
        Self { sheet }
    }

    /// Everything collected.
    pub(crate) fn finish(self) -> Sheet {
        self.sheet
    }

    /// A printed figure against the range that its inputs leave.
    pub(crate) fn figure(
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
        let (place, printed) = (at(printed.line), printed.text.clone());
        self.push(Figure { name: name.into(), printed, recomputed, agreement, note, place });
    }

    /// A printed word, count or list against the one that follows.
    pub(crate) fn word(
        &mut self,
        name: impl Into<String>,
        printed: impl Into<String>,
        follows: impl Into<String>,
        line: usize,
    ) {
        let (printed, follows) = (printed.into(), follows.into());
        let agreement = if printed == follows { Agreement::EveryDigit } else { Agreement::DoesNotFollow };
        let (place, recomputed) = (at(line), Some(follows));
        self.push(Figure { name: name.into(), printed, recomputed, agreement, note: None, place });
    }

    /// A printed statement whose grounds the log does not hold.
    pub(crate) fn unfounded(
        &mut self,
        name: impl Into<String>,
        printed: impl Into<String>,
        lacks: impl Into<String>,
        line: usize,
    ) {
        self.push(Figure {
            name: name.into(),
            printed: printed.into(),
            recomputed: None,
            agreement: Agreement::NotInFile,
            note: Some(lacks.into()),
            place: at(line),
        });
    }

    pub(crate) fn finding(&mut self, sentence: impl Into<String>, lines: &[usize]) {
        let places = lines.iter().map(|&line| at(line)).collect();
        self.sheet.findings.push(Finding { about: FindingTopic::Figure, sentence: sentence.into(), places });
    }

    fn push(&mut self, figure: Figure) {
        if figure.agreement == Agreement::DoesNotFollow {
            let recomputed = figure.recomputed.clone().unwrap_or_default();
            let sentence = format!(
                "{} is printed as {}, and its own data give {recomputed}.",
                figure.name, figure.printed
            );
            self.sheet.finding(sentence, &[&figure.place]);
        }
        self.sheet.figures.push(figure);
    }

    /// The printed matrix as a table.
    pub(crate) fn matrix(&mut self, title: &str, matrix: &PrintedMatrix) {
        let mut columns = vec![String::new()];
        columns.extend(matrix.columns.iter().cloned());
        let rows = matrix.rows.iter().zip(&matrix.cells).map(|(label, cells)| {
            let mut row = vec![label.clone()];
            row.extend(cells.iter().map(|figure| figure.text.clone()));
            row
        });
        self.sheet.tables.push(Table {
            title: title.to_owned(),
            columns,
            rows: rows.collect(),
            printed_at: Some(matrix.line),
        });
    }
}

/// The place of a line.
fn at(line: usize) -> String {
    format!("line {line}")
}
