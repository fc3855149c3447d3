//! `batch_generation_*.json` and `batch_verification_*.json`.

use mantissa_evidence::published::batch_generation::{File as Generation, Measurement, Signals};
use mantissa_evidence::published::batch_verification::{BatchAnalysis, File as Verification, SignalAnalysis};
use mantissa_evidence::published::{BatchGeneration, BatchVerification, Square};
use mantissa_numerics::Phase;

use super::definitions::{
    FIRST, diagonal, finite_mean, first_five, l2, mean, off_diagonal, over_references, quotient, zero_classes,
};
use super::pairs;
use super::sheet::{Heading, Sheet};
use crate::analysis::{MatrixKind, Signal};

const PHASES: [Phase; 2] = [Phase::Prefill, Phase::Decode];
const SIGNALS: [Signal; 2] = [Signal::KeyVectors, Signal::Logprobs];

pub(super) fn generation(sheet: &mut Sheet<'_>, generation: &BatchGeneration) -> &'static str {
    let file = &generation.file;
    for phase in PHASES {
        let keys = within(sheet, file, phase, Signal::KeyVectors);
        let logprobs = within(sheet, file, phase, Signal::Logprobs);
        classes(sheet, file, phase, &keys, &logprobs);
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
    "batch_size"
}

fn within(sheet: &mut Sheet<'_>, file: &Generation, phase: Phase, signal: Signal) -> Square {
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
    let mut matrices = Vec::new();
    for (reference, stored) in references.iter().zip(each) {
        let rows: Vec<&Measurement> =
            sizes.iter().filter_map(|&size| Some(file.measurement(reference, size)?.1)).collect();
        let matrix: Square =
            rows.iter().map(|a| rows.iter().map(|b| distance(a, b, phase, signal)).collect()).collect();
        let index = matrices.len();
        let at = format!("{place}.per_reference_{short}_matrices[{index}]");
        sheet.cells(&format!("{about}, {reference}"), stored, &matrix, &at, None);
        matrices.push(matrix);
    }
    let matrix = over_references(&matrices);
    let matrix_place = format!("{place}.{short}_matrix");
    sheet.cells(&format!("{about}, mean over references"), stored, &matrix, &matrix_place, None);
    let upper = off_diagonal_half(&matrix, true);
    let note = "mean of the upper triangle";
    sheet.noted(
        &format!("mean distance of {about}"),
        figure,
        mean(&upper),
        &format!("{place}.{name}"),
        Some(note),
    );
    let labels: Vec<String> = sizes.iter().map(u32::to_string).collect();
    let title = format!("{about}, batch size against batch size");
    let heading = Heading {
        title: &title,
        kind: MatrixKind::WithinMode,
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

/// Mean over positions, in the order of the first file row.
fn distance(a: &Measurement, b: &Measurement, phase: Phase, signal: Signal) -> f64 {
    let others = b.signals(phase);
    let distances: Vec<f64> = a
        .signals(phase)
        .into_iter()
        .filter_map(|(position, row)| {
            let (_, other) = others.iter().find(|(other, _)| *other == position)?;
            Some(position_distance(row, other, signal))
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

fn classes(sheet: &mut Sheet<'_>, file: &Generation, phase: Phase, keys: &Square, logprobs: &Square) {
    let (check, place) = (file.sanity_check(phase), format!("{}_sanity_check", phase.name()));
    let sizes = &file.metadata.batch_sizes;
    let named: Vec<Vec<u32>> =
        zero_classes(keys).iter().map(|class| class.iter().map(|&index| sizes[index]).collect()).collect();
    let name = format!("kernel classes, {}", phase.name());
    let place_of = |field: &str| format!("{place}.{field}");
    sheet.text(
        &name,
        format!("{:?}", check.kernel_classes),
        format!("{named:?}"),
        &place_of("kernel_classes"),
        None,
    );
    let mut equal = Vec::new();
    let mut ids_only = Vec::new();
    for i in 0..sizes.len() {
        for j in i + 1..sizes.len() {
            let zero = |matrix: &Square| matrix[i][j].max(matrix[j][i]) <= 0.0;
            if zero(keys) {
                equal.push((sizes[i], sizes[j]));
            } else if zero(logprobs) {
                ids_only.push(format!("{} and {}", sizes[i], sizes[j]));
            }
        }
    }
    let name = format!("equivalent pairs, {}", phase.name());
    let printed = format!("{:?}", check.equivalent_pairs);
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

pub(super) fn verification(sheet: &mut Sheet<'_>, verification: &BatchVerification) -> &'static str {
    let file = &verification.file;
    for phase in PHASES {
        for signal in SIGNALS {
            claimed_verified(sheet, file, phase, signal);
        }
        let analysis = file.analysis(phase);
        let pairs = match phase {
            Phase::Prefill => &file.metadata.prefill_equivalent_pairs,
            Phase::Decode => &file.metadata.decode_equivalent_pairs,
        };
        let place = format!("{}_analysis.excluded_pairs", phase.name());
        let name = format!("excluded pairs, {}", phase.name());
        let note = "the generator's equivalent pairs in the metadata";
        sheet.text(&name, format!("{:?}", analysis.excluded_pairs), format!("{pairs:?}"), &place, Some(note));
        verifier_classes(sheet, file, phase);
    }
    sheet.finding(
        format!(
            "every average is over {} references at once: the published SNR has no uncertainty",
            file.references().len()
        ),
        &["comparisons"],
    );
    "batch_size"
}

fn parts(
    analysis: &BatchAnalysis,
    signal: Signal,
) -> (&'static str, &'static str, &[Square], &SignalAnalysis) {
    match signal {
        Signal::Logprobs => {
            ("log-probabilities", "logprob", &analysis.per_reference_logprob_matrices, &analysis.logprobs)
        }
        _ => ("key vectors", "key", &analysis.per_reference_key_matrices, &analysis.key_vectors),
    }
}

/// Distances of each reference as the comparisons state them.
fn by_reference(file: &Verification, phase: Phase, signal: Signal) -> Vec<Square> {
    let (sizes, references) = (&file.metadata.batch_sizes, file.references());
    let side = sizes.len();
    let mut matrices = vec![vec![vec![f64::NAN; side]; side]; references.len()];
    for one in &file.comparisons {
        let index = |size: u32| sizes.iter().position(|&other| other == size);
        let reference = references.iter().position(|&name| name == one.ref_name);
        let (Some(r), Some(i), Some(j)) =
            (reference, index(one.claimed_batch_size), index(one.verify_batch_size))
        else {
            continue;
        };
        let distances = one.distances(phase);
        matrices[r][i][j] = match signal {
            Signal::Logprobs => distances.logprobs_mean,
            _ => distances.key_vectors_mean,
        };
    }
    matrices
}

fn claimed_verified(sheet: &mut Sheet<'_>, file: &Verification, phase: Phase, signal: Signal) {
    let analysis = file.analysis(phase);
    let (word, short, each, stored) = parts(analysis, signal);
    let (about, place) = (format!("{word}, {}", phase.name()), format!("{}_analysis", phase.name()));
    let matrices = by_reference(file, phase, signal);
    for (r, (stored, matrix)) in each.iter().zip(&matrices).enumerate() {
        let at = format!("{place}.per_reference_{short}_matrices[{r}]");
        sheet.cells(&format!("{about}, {}", file.references()[r]), stored, matrix, &at, None);
    }
    let field = if short == "key" { "key_vectors" } else { "logprobs" };
    let place = format!("{place}.{field}");
    let matrix = over_references(&matrices);
    let matrix_place = format!("{place}.matrix");
    sheet.cells(&format!("{about}, mean over references"), &stored.matrix, &matrix, &matrix_place, None);
    let sizes = &file.metadata.batch_sizes;
    let excluded = |i: usize, j: usize| {
        let (a, b) = (sizes[i], sizes[j]);
        analysis.excluded_pairs.iter().any(|&pair| pair == (a, b) || pair == (b, a))
    };
    let noise = mean(&diagonal(&matrix));
    let all = mean(&off_diagonal(&matrix, |_, _| true));
    let kept = off_diagonal(&matrix, |i, j| !excluded(i, j));
    let meaningful = mean(&kept);
    let (snr_all, snr_meaningful) = (quotient(all, noise), quotient(meaningful, noise));
    for (name, stored, recomputed, field) in [
        ("baseline", stored.baseline_mean, noise, "baseline_mean"),
        ("signal", stored.signal_all_mean, all, "signal_all_mean"),
        (
            "signal without excluded pairs",
            stored.signal_meaningful_mean,
            meaningful,
            "signal_meaningful_mean",
        ),
        ("SNR", stored.snr_all, snr_all, "snr_all"),
        ("SNR without excluded pairs", stored.snr_meaningful, snr_meaningful, "snr_meaningful"),
    ] {
        sheet.figure(&format!("{name}, {about}"), stored, recomputed, &format!("{place}.{field}"));
    }
    let (printed, counted) = (stored.n_meaningful_pairs.to_string(), kept.len().to_string());
    let note = "ordered pairs";
    let at = format!("{place}.n_meaningful_pairs");
    sheet.text(&format!("pairs kept, {about}"), printed, counted, &at, Some(note));
    let labels: Vec<String> = sizes.iter().map(u32::to_string).collect();
    let title = format!("{about}, claimed against verified batch size");
    let heading = Heading {
        title: &title,
        kind: MatrixKind::ClaimedVerified,
        phase,
        signal,
        statistic: "L2, mean over positions and references",
        place: &matrix_place,
    };
    sheet.matrix(&heading, &labels, &matrix, matrices.len() as u64);
    let places = [matrix_place.as_str(), &format!("{place}.snr_all"), &format!("{place}.snr_meaningful")];
    if noise <= 0.0 {
        sheet.finding(
            format!(
                "snr_all and snr_meaningful of {about} are Infinity because the baseline is exactly 0: nothing was \
                 divided; replays at the claimed batch size have the same bits, so every other distance counts by \
                 itself"
            ),
            &places,
        );
        return;
    }
    if same_columns(&matrices) {
        sheet.finding(
            format!(
                "all columns of {about} are the same numbers: the verifier computes the same bits at every batch \
                 size, so the diagonal mean is the off-diagonal mean and the SNR ({snr_all}) is 1 by construction; \
                 snr_meaningful {snr_meaningful:.3} only reflects which rows the excluded pairs leave out"
            ),
            &places,
        );
        return;
    }
    let each: Vec<String> = matrices
        .iter()
        .map(|matrix| {
            let (signal, noise) = (mean(&off_diagonal(matrix, |_, _| true)), mean(&diagonal(matrix)));
            format!("{:.2}", quotient(signal, noise))
        })
        .collect();
    let pairs = pairs::of(&labels, &matrix);
    let below = pairs.iter().filter(|pair| pair.snr <= 1.0).count();
    let high = pairs.iter().map(|pair| pair.snr).fold(0.0, f64::max);
    sheet.finding(
        format!(
            "the SNR of {about} is {snr_all:.2} pooled; reference by reference it is {}, and of {} pairs against \
             their own two diagonal cells {below} lie at or below 1, the highest at {high:.2}",
            each.join(", "),
            pairs.len()
        ),
        &places,
    );
}

fn same_columns(matrices: &[Square]) -> bool {
    matrices.iter().flatten().all(|row| row.iter().all(|cell| cell.to_bits() == row[0].to_bits()))
}

/// What the excluded pairs leave in: batch sizes that the verifier computes alike.
fn verifier_classes(sheet: &mut Sheet<'_>, file: &Verification, phase: Phase) {
    let sizes = &file.metadata.batch_sizes;
    let matrices: Vec<Square> =
        SIGNALS.iter().flat_map(|&signal| by_reference(file, phase, signal)).collect();
    let excluded = &file.analysis(phase).excluded_pairs;
    let mut left_in = Vec::new();
    for i in 0..sizes.len() {
        for j in i + 1..sizes.len() {
            let alike = matrices.iter().flatten().all(|row| row[i].to_bits() == row[j].to_bits());
            let (a, b) = (sizes[i], sizes[j]);
            if alike && !excluded.iter().any(|&pair| pair == (a, b) || pair == (b, a)) {
                left_in.push(format!("{a}/{b}"));
            }
        }
    }
    if !left_in.is_empty() {
        sheet.finding(
            format!(
                "{}: the excluded pairs are those that the generator cannot tell apart; the verifier computes the \
                 same distances to every claim also for {}, which stay in the \"meaningful\" mean",
                phase.name(),
                left_in.join(", ")
            ),
            &[&format!("{}_analysis.excluded_pairs", phase.name()), "comparisons"],
        );
    }
}
