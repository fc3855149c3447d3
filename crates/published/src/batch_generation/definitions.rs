//! `batch_generation_*.json`: distances between batch sizes, and the classes of those without any.

use mantissa_evidence::verification::Relation;
use mantissa_numerics::Phase;

use super::reader::{File, Measurement, Signals};
use mantissa_evidence::lenient::Number;

use crate::definitions::arithmetic::{
    FIRST, finite_mean, first_five, l2, mean, over_references, zero_classes,
};
use crate::definitions::order;
use crate::json::check::PHASES;
use crate::json::entries::Position;
use crate::json::numbers::Square;
use crate::sheet::{Heading, Sheet, Signal};

/// Distances between batch sizes, their means and classes.
pub(crate) fn sheet(file: &File) -> Sheet {
    let mut sheet = Sheet::of("batch_size");
    for phase in PHASES {
        if file.measurements.iter().all(|one| one.signals(phase).is_empty()) {
            continue;
        }
        let logprobs = within(&mut sheet, file, phase, Signal::Logprobs);
        let keys = file.has_keys().then(|| within(&mut sheet, file, phase, Signal::KeyVectors));
        classes(&mut sheet, file, phase, keys.as_ref(), &logprobs);
    }
    let stored = file.measurements.iter().flat_map(|one| one.signals(Phase::Prefill));
    let listed = stored.map(|(_, signals)| signals.logprobs.token_ids.len()).max().unwrap_or(0);
    if listed > FIRST {
        sheet.finding(
            format!(
                "{listed} candidates are stored per position, but a distance takes only the first {FIRST} of the row: \
                 the other {} never count",
                listed - FIRST
            ),
            &["measurements[0].prefill_signals"],
        );
    }
    sheet
}

fn within(sheet: &mut Sheet, file: &File, phase: Phase, signal: Signal) -> Square {
    let check = file.sanity_check(phase);
    let (word, short, each, stored, figure, name) = match signal {
        Signal::Logprobs => (
            "log-probabilities",
            "logprob",
            &check.per_reference_logprob_matrices,
            &check.logprob_matrix,
            check.logprobs_mean,
            "logprobs_mean",
        ),
        _ => (
            "key vectors",
            "key",
            &check.per_reference_key_matrices,
            &check.key_matrix,
            check.key_vectors_mean,
            "key_vectors_mean",
        ),
    };
    let (about, place) = (format!("{word}, {}", phase.name()), format!("{}_sanity_check", phase.name()));
    let sizes = &file.metadata.batch_sizes;
    let references = file.references();
    let by_reference = |order: &[Position]| {
        let matrix = |reference: &&str| -> Square {
            let rows: Vec<&Measurement> =
                sizes.iter().filter_map(|&size| Some(file.measurement(reference, size)?.1)).collect();
            rows.iter().map(|a| rows.iter().map(|b| distance(a, b, phase, signal, order)).collect()).collect()
        };
        references.iter().map(matrix).collect::<Vec<Square>>()
    };
    let first = file.measurements.first();
    let own: Vec<Position> =
        first.into_iter().flat_map(|one| one.signals(phase)).map(|(position, _)| position).collect();
    let (order, matrices, in_file_order) = order::best(own, each, by_reference);
    // Where keys are kept beside them, log-probabilities have names of their own.
    let named = if file.has_keys() { format!("{short}_") } else { String::new() };
    for (index, (reference, matrix)) in references.iter().zip(&matrices).enumerate() {
        let at = format!("{place}.per_reference_{named}matrices[{index}]");
        let stored = each.get(index).map(Vec::as_slice).unwrap_or_default();
        sheet.cells(&format!("{about}, {reference}"), stored, matrix, &at, None);
    }
    let cells = matrices.iter().flatten().map(Vec::len).sum();
    order::say(sheet, phase, &order, in_file_order, cells, &format!("{place}.per_reference_{named}matrices"));
    let matrix = over_references(&matrices);
    let matrix_place = format!("{place}.{named}matrix");
    sheet.cells(&format!("{about}, mean over references"), stored, &matrix, &matrix_place, None);
    let upper = off_diagonal_half(&matrix, true);
    if let Some((Number(low), Number(high))) = check.off_diagonal_range.filter(|_| signal == Signal::Logprobs)
    {
        let at = format!("{place}.off_diagonal_range");
        let least = upper.iter().copied().fold(f64::INFINITY, f64::min);
        let most = upper.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        sheet.figure(&format!("smallest distance of {about}"), low, least, &format!("{at}[0]"));
        sheet.figure(&format!("largest distance of {about}"), high, most, &format!("{at}[1]"));
    }
    let note = "mean of the upper triangle";
    sheet.noted(
        &format!("mean distance of {about}"),
        figure,
        mean(&upper),
        &format!("{place}.{}", if file.has_keys() { name } else { "off_diagonal_mean" }),
        Some(note),
    );
    let labels: Vec<String> = sizes.iter().map(u32::to_string).collect();
    let title = format!("{about}, batch size against batch size");
    let heading = Heading {
        title: &title,
        relation: Relation::WithinMode,
        phase,
        signal,
        statistic: "L2, mean over positions and references",
        place: &matrix_place,
    };
    sheet.matrix(&heading, &labels, &matrix, references.len() as u64);
    let lower = off_diagonal_half(&matrix, false);
    let uneven = upper.iter().zip(&lower).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    if uneven > 0 {
        sheet.finding(
            format!(
                "the matrix of {about} is not symmetric ({uneven} of {} pairs): the first {FIRST} ids of the row are \
                 looked up in the column, and ids missing there are dropped; {name} takes the upper triangle, {:.6}, \
                 and the lower one would give {:.6}",
                upper.len(),
                mean(&upper),
                mean(&lower)
            ),
            &[&matrix_place, &format!("{place}.{name}")],
        );
    }
    matrix
}

/// Cells above the diagonal row by row, or those below it in the same order of pairs.
fn off_diagonal_half(matrix: &Square, upper: bool) -> Vec<f64> {
    let pairs = (0..matrix.len()).flat_map(|i| (i + 1..matrix.len()).map(move |j| (i, j)));
    pairs.map(|(i, j)| if upper { matrix[i][j] } else { matrix[j][i] }).collect()
}

/// Mean over positions, added in `order`.
fn distance(a: &Measurement, b: &Measurement, phase: Phase, signal: Signal, order: &[Position]) -> f64 {
    let (rows, others) = (a.signals(phase), b.signals(phase));
    let at = |signals: &[(Position, &Signals)], position: Position| {
        signals.iter().find(|(other, _)| *other == position).map(|(_, row)| (*row).clone())
    };
    let distances: Vec<f64> = order
        .iter()
        .filter_map(|&position| {
            Some(position_distance(&at(&rows, position)?, &at(&others, position)?, signal))
        })
        .collect();
    finite_mean(&distances)
}

fn position_distance(a: &Signals, b: &Signals, signal: Signal) -> f64 {
    if signal == Signal::Logprobs {
        return first_five(&a.logprobs, &b.logprobs);
    }
    let layers = a.key_vectors.iter().filter_map(|(layer, row)| Some(l2(row, b.key_vectors.get(layer)?)));
    mean(&layers.collect::<Vec<f64>>())
}

/// Classes of batch sizes without a distance of keys; of log-probabilities where those alone are kept.
fn classes(sheet: &mut Sheet, file: &File, phase: Phase, keys: Option<&Square>, logprobs: &Square) {
    let (check, place) = (file.sanity_check(phase), format!("{}_sanity_check", phase.name()));
    let sizes = &file.metadata.batch_sizes;
    let decides = keys.unwrap_or(logprobs);
    let named: Vec<Vec<u32>> =
        zero_classes(decides).iter().map(|class| class.iter().map(|&index| sizes[index]).collect()).collect();
    let name = format!("kernel classes, {}", phase.name());
    let place_of = |field: &str| format!("{place}.{field}");
    sheet.text(
        &name,
        check.kernel_classes.as_ref().map(|printed| format!("{printed:?}")),
        format!("{named:?}"),
        &place_of("kernel_classes"),
        None,
    );
    let mut equal = Vec::new();
    let mut ids_only = Vec::new();
    for i in 0..sizes.len() {
        for j in i + 1..sizes.len() {
            let zero = |matrix: &Square| matrix[i][j].max(matrix[j][i]) <= 0.0;
            if zero(decides) {
                equal.push((sizes[i], sizes[j]));
            } else if zero(logprobs) {
                ids_only.push(format!("{} and {}", sizes[i], sizes[j]));
            }
        }
    }
    let name = format!("equivalent pairs, {}", phase.name());
    let printed = check.equivalent_pairs.as_ref().map(|printed| format!("{printed:?}"));
    sheet.text(&name, printed, format!("{equal:?}"), &place_of("equivalent_pairs"), None);
    sheet.table(
        &format!("kernel classes, {}", phase.name()),
        &["class", "batch sizes"],
        (1..).zip(&named).map(|(n, class)| vec![n.to_string(), format!("{class:?}")]).collect(),
    );
    if !ids_only.is_empty() {
        sheet.finding(
            format!(
                "{}: batch sizes {} have log-probability distance 0 and other keys: log-probabilities cannot show a \
                 class by themselves",
                phase.name(),
                ids_only.join(", ")
            ),
            &[&place_of("logprob_matrix")],
        );
    }
}
