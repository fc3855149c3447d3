//! Tensor-parallel sizes: distances between them, and what the authors average.

use mantissa_evidence::verification::Relation;
use mantissa_numerics::Phase;

use super::reader::{Analysis, File};
use crate::definitions::arithmetic::{diagonal, mean, off_diagonal, over_references};
use crate::definitions::order;
use crate::json::entries::Position;
use crate::json::numbers::{Candidates, Square};
use crate::sheet::{Heading, Sheet, Signal};

/// Distances between tensor-parallel sizes.
pub(crate) fn sheet(file: &File) -> Sheet {
    let mut sheet = Sheet::of("tp_size");
    let names: Vec<String> = file.measurements.keys().cloned().collect();
    let references = file.references();
    let by_reference = |order: &[Position]| {
        let matrix = |reference: usize| -> Square {
            let rows = |name: &String| -> Vec<(Position, &Candidates)> {
                let one = file.measurements.get(name).and_then(|all| all.get(reference));
                one.map(|one| one.lists()).unwrap_or_default()
            };
            let each: Vec<_> = names.iter().map(rows).collect();
            each.iter().map(|a| each.iter().map(|b| order::distance(a, b, order)).collect()).collect()
        };
        (0..references).map(matrix).collect::<Vec<Square>>()
    };
    let first = file.measurements.values().next().and_then(|all| all.first());
    let own = first.into_iter().flat_map(|one| one.lists()).map(|(position, _)| position).collect();
    let empty = Analysis::default();
    let stored = file.within_hardware_analysis.as_ref().unwrap_or(&empty);
    let (order, matrices, in_file_order) = order::best(own, &stored.per_reference_matrices, by_reference);
    let note = order::note(&order);
    let place = "within_hardware_analysis";
    let cells = matrices.iter().flatten().map(Vec::len).sum();
    order::say(
        &mut sheet,
        Phase::Prefill,
        &order,
        in_file_order,
        cells,
        &format!("{place}.per_reference_matrices"),
    );
    averages(&mut sheet, &names, stored, &matrices, Some(&note), place, Relation::WithinMode);
    sheet
}

/// Stored averages over `matrices`, the distances of each reference.
pub(crate) fn averages(
    sheet: &mut Sheet,
    names: &[String],
    stored: &Analysis,
    matrices: &[Square],
    note: Option<&str>,
    place: &str,
    relation: Relation,
) {
    let about = match relation {
        Relation::WithinMode => "within one machine",
        _ => "claimed against verified",
    };
    for (r, (stored, matrix)) in stored.per_reference_matrices.iter().zip(matrices).enumerate() {
        let at = format!("{place}.per_reference_matrices[{r}]");
        sheet.cells(&format!("log-probabilities, {about}, ref_{r}"), stored, matrix, &at, note);
    }
    let matrix = if matrices.is_empty() { stored.matrix.clone() } else { over_references(matrices) };
    let at = format!("{place}.matrix");
    sheet.cells(
        &format!("log-probabilities, {about}, mean over references"),
        &stored.matrix,
        &matrix,
        &at,
        None,
    );
    let (noise, signal) = (mean(&diagonal(&matrix)), mean(&off_diagonal(&matrix, |_, _| true)));
    sheet.figure(&format!("diagonal, {about}"), stored.diagonal, noise, &format!("{place}.diagonal"));
    sheet.figure(
        &format!("off-diagonal, {about}"),
        stored.off_diagonal,
        signal,
        &format!("{place}.off_diagonal"),
    );
    sheet.figure(&format!("SNR, {about}"), stored.snr, signal / noise, &format!("{place}.snr"));
    if stored.snr.is_none() && noise.abs() <= 0.0 && signal > 0.0 {
        sheet.finding(
            format!(
                "{about}: no SNR is stored because every size repeats itself exactly: against that, any distance \
                 between sizes counts by itself, and nothing is left to divide by"
            ),
            &[&format!("{place}.snr")],
        );
    }
    let title = format!("log-probabilities, {about}, tensor-parallel size against size");
    let heading = Heading {
        title: &title,
        relation,
        phase: Phase::Prefill,
        signal: Signal::Logprobs,
        statistic: "L2 over the first five ids, mean over positions and references",
        place: &at,
    };
    sheet.matrix(&heading, names, &matrix, matrices.len() as u64);
}
