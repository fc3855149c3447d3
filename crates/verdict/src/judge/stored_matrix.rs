//! Matrices of stored distances, as they are and averaged over references that can be compared.

use mantissa_evidence::verification::Relation;

use super::distances::Stored;
use super::measure::Lane;
use super::parts::Parts;
use super::values::{is_zero, mean};
use crate::analysis::{Cell, Matrix, MatrixKind, State};
use crate::said::words;

/// Adds a matrix per phase, signal and reference, then the average over references.
pub(super) fn add(stored: &Stored<'_>, parts: &mut Parts) {
    for &lane in &stored.lanes {
        let references = stored.references(lane);
        for reference in &references {
            let cells = table(stored, |row, column| single(stored, lane, reference.as_ref(), row, column));
            parts.matrices.push(matrix(stored, lane, reference.clone(), None, cells));
        }
        let named: Vec<&String> = references.iter().flatten().collect();
        if named.len() > 1 {
            let agreeing: Vec<&String> =
                named.iter().copied().filter(|reference| !parts_on(stored, lane, reference)).collect();
            let over = format!("average over {}", words::list(&agreeing));
            let cells = table(stored, |row, column| average(stored, lane, &agreeing, row, column));
            parts.matrices.push(matrix(stored, lane, None, Some(over), cells));
        }
    }
}

/// Whether any two setups emitted other tokens on a reference, as stated or as distances show.
fn parts_on(stored: &Stored<'_>, lane: Lane, reference: &String) -> bool {
    stored.diverged.iter().any(|one| one.phase == lane.0 && one.reference == *reference)
        || stored.values().any(|a| stored.values().any(|b| stored.tokens_part(lane.0, Some(reference), a, b)))
}

fn matrix(
    stored: &Stored<'_>,
    lane: Lane,
    reference: Option<String>,
    over: Option<String>,
    cells: Vec<Vec<Cell>>,
) -> Matrix {
    let kind = match stored.verification.relation {
        Relation::ClaimedVerified => MatrixKind::ClaimedVerified,
        Relation::DecodePrefill => MatrixKind::DecodePrefill,
        Relation::WithinMode => MatrixKind::WithinMode,
    };
    let relation = match kind {
        MatrixKind::ClaimedVerified => "claimed × verified",
        MatrixKind::DecodePrefill => "decode × prefill",
        _ => "within mode",
    };
    let what = over.or_else(|| reference.clone()).unwrap_or_else(|| "average as stored".to_owned());
    Matrix {
        title: format!(
            "{}: {}, {relation}, {what}",
            stored.evidence.source.name,
            words::lane(lane.0, lane.1)
        ),
        kind,
        phase: lane.0,
        signal: lane.1,
        reference,
        statistic: statistic(stored).to_owned(),
        rows: stored.verification.values.clone(),
        columns: stored.verification.values.clone(),
        cells,
    }
}

/// Logs print the largest distance over positions, files store the mean.
fn statistic(stored: &Stored<'_>) -> &'static str {
    let mut cells = stored.verification.cells.values();
    let printed = cells.clone().any(|cell| cell.rounding > 0.0);
    if printed && cells.all(|cell| cell.max.is_some_and(|max| max.total_cmp(&cell.mean).is_eq())) {
        "largest L2 over positions, as printed"
    } else {
        "mean L2 over positions, as stored"
    }
}

fn table(stored: &Stored<'_>, cell: impl Fn(usize, usize) -> Cell) -> Vec<Vec<Cell>> {
    stored.values().map(|row| stored.values().map(|column| cell(row, column)).collect()).collect()
}

/// One stored cell. A within-mode table that stores one triangle is read both ways.
fn single(stored: &Stored<'_>, lane: Lane, reference: Option<&String>, row: usize, column: usize) -> Cell {
    let within = stored.verification.relation == Relation::WithinMode;
    let mirrored = || within.then(|| stored.cell(lane, reference, column, row)).flatten();
    let Some(found) = stored.cell(lane, reference, row, column).or_else(mirrored) else {
        return Cell { state: State::Missing, value: None, n: 0, citation: None };
    };
    let other_tokens = within && stored.tokens_part(lane.0, reference, row, column);
    let (state, value) = if other_tokens || !found.mean.is_finite() {
        (State::Incomparable, None)
    } else if is_zero(found.mean) {
        (State::Equal, Some(0.0))
    } else {
        (State::Different, Some(found.mean))
    };
    let n = u64::from(value.is_some() && reference.is_some());
    Cell { state, value, n, citation: Some(stored.evidence.cite(found.place.clone())) }
}

fn average(stored: &Stored<'_>, lane: Lane, references: &[&String], row: usize, column: usize) -> Cell {
    let cells: Vec<Cell> =
        references.iter().map(|reference| single(stored, lane, Some(reference), row, column)).collect();
    let values: Vec<f64> = cells.iter().filter_map(|cell| cell.value).collect();
    let value = mean(&values);
    let state = match value {
        Some(mean) if is_zero(mean) => State::Equal,
        Some(_) => State::Different,
        None if cells.iter().any(|cell| cell.state == State::Incomparable) => State::Incomparable,
        None => State::Missing,
    };
    let citation = cells.into_iter().find_map(|cell| cell.citation);
    Cell { state, value, n: values.len() as u64, citation }
}
