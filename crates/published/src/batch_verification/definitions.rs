//! `batch_verification_*.json`: averages over replays, claimed against verified batch size.

use mantissa_evidence::verification::Relation;
use mantissa_numerics::Phase;

use super::reader::{BatchAnalysis, File, SignalAnalysis};
use crate::definitions::arithmetic::{diagonal, mean, off_diagonal, over_references, quotient};
use crate::definitions::pairs;
use crate::json::check::PHASES;
use crate::json::numbers::Square;
use crate::sheet::{Heading, Sheet, Signal};

const SIGNALS: [Signal; 2] = [Signal::KeyVectors, Signal::Logprobs];

/// Distances between claimed and verified batch size, their means and quotients.
pub(crate) fn sheet(file: &File) -> Sheet {
    let mut sheet = Sheet::of("batch_size");
    for phase in PHASES {
        for signal in SIGNALS {
            claimed_verified(&mut sheet, file, phase, signal);
        }
        let analysis = file.analysis(phase);
        let pairs = match phase {
            Phase::Prefill => &file.metadata.prefill_equivalent_pairs,
            Phase::Decode => &file.metadata.decode_equivalent_pairs,
        };
        let place = format!("{}_analysis.excluded_pairs", phase.name());
        let name = format!("excluded pairs, {}", phase.name());
        let note = "the generator's equivalent pairs in the metadata";
        if !(analysis.excluded_pairs.is_empty() && pairs.is_empty()) {
            let printed = format!("{:?}", analysis.excluded_pairs);
            sheet.text(&name, printed, format!("{pairs:?}"), &place, Some(note));
        }
        verifier_classes(&mut sheet, file, phase);
    }
    sheet.finding(
        format!(
            "every average is over {} references at once: the published SNR has no uncertainty",
            file.references().len()
        ),
        &["comparisons"],
    );
    sheet
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
fn by_reference(file: &File, phase: Phase, signal: Signal) -> Vec<Square> {
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
        }
        .unwrap_or(f64::NAN);
    }
    matrices
}

fn claimed_verified(sheet: &mut Sheet, file: &File, phase: Phase, signal: Signal) {
    let analysis = file.analysis(phase);
    let (word, short, each, stored) = parts(analysis, signal);
    let (about, place) = (format!("{word}, {}", phase.name()), format!("{}_analysis", phase.name()));
    let matrices = by_reference(file, phase, signal);
    if matrices.iter().flatten().flatten().all(|cell| cell.is_nan()) {
        return;
    }
    for (r, (stored, matrix)) in each.iter().zip(&matrices).enumerate() {
        let at = format!("{place}.per_reference_{short}_matrices[{r}]");
        sheet.cells(&format!("{about}, {}", file.references()[r]), stored, matrix, &at, None);
    }
    let field = if short == "key" { "key_vectors" } else { "logprobs" };
    let matrix_place =
        if stored.apart { format!("{place}.matrices.{field}") } else { format!("{place}.{field}.matrix") };
    let place = format!("{place}.{field}");
    let matrix = over_references(&matrices);
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
    let (printed, counted) =
        (stored.n_meaningful_pairs.map(|count| count.to_string()), kept.len().to_string());
    let note = "ordered pairs";
    let at = format!("{place}.n_meaningful_pairs");
    sheet.text(&format!("pairs kept, {about}"), printed, counted, &at, Some(note));
    let labels: Vec<String> = sizes.iter().map(u32::to_string).collect();
    let title = format!("{about}, claimed against verified batch size");
    let heading = Heading {
        title: &title,
        relation: Relation::ClaimedVerified,
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
fn verifier_classes(sheet: &mut Sheet, file: &File, phase: Phase) {
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
