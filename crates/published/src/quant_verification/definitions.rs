//! `quant_verification_*.json`: averages over replays, claimed against verified quantization kernel.

use mantissa_evidence::verification::Relation;
use mantissa_numerics::Phase;

use super::reader::File;
use crate::definitions::arithmetic::{diagonal, mean, off_diagonal, over_references, quotient};
use crate::definitions::pairs;
use crate::json::check::PHASES;
use crate::json::numbers::Square;
use crate::quant_generation::definitions::models;
use crate::sheet::{Heading, Sheet, Signal};

/// Distances between claimed and verified kernel, their means and quotients.
pub(crate) fn sheet(file: &File) -> Sheet {
    let mut sheet = Sheet::of("quantization");
    for phase in PHASES {
        claimed_verified(&mut sheet, file, phase);
    }
    models(&mut sheet, &file.metadata.model_configs);
    let validation = file.metadata.environment_validation.as_ref();
    if let Some(validation) = validation.filter(|validation| !validation.valid) {
        let fields: Vec<String> =
            validation.mismatches.iter().map(|(name, a, b)| format!("{name} {a} against {b}")).collect();
        sheet.finding(
            format!(
                "environment_validation says valid: false ({}), so the diagonal is not hardware alone, and the \
                 analysis went on without saying so",
                fields.join(", ")
            ),
            &["metadata.environment_validation"],
        );
    }
    sheet
}

fn claimed_verified(sheet: &mut Sheet, file: &File, phase: Phase) {
    let analysis = file.analysis(phase);
    let labels: Vec<String> = file.metadata.model_configs.keys().cloned().collect();
    let references = file.references();
    let matrices = verified(file, phase, &labels);
    let (name, place) = (phase.name(), format!("{}_analysis", phase.name()));
    for (r, (stored, matrix)) in analysis.per_reference_matrices.iter().zip(&matrices).enumerate() {
        let at = format!("{place}.per_reference_matrices[{r}]");
        sheet.cells(
            &format!("log-probabilities, {name}, reference {}", references[r]),
            stored,
            matrix,
            &at,
            None,
        );
    }
    let matrix = over_references(&matrices);
    let matrix_place = format!("{place}.matrix");
    let title = format!("log-probabilities, {name}, mean over references");
    sheet.cells(&title, &analysis.matrix, &matrix, &matrix_place, None);
    let excluded = |i: usize, j: usize| {
        let pair =
            |a: &String, b: &String| *a == labels[i] && *b == labels[j] || *a == labels[j] && *b == labels[i];
        analysis.excluded_pairs.iter().any(|(a, b)| pair(a, b))
    };
    let noise = mean(&diagonal(&matrix));
    let off = off_diagonal(&matrix, |_, _| true);
    let kept = off_diagonal(&matrix, |i, j| !excluded(i, j));
    let (all, meaningful) = (mean(&off), mean(&kept));
    for (what, stored, recomputed, field) in [
        ("baseline", analysis.baseline_mean, noise, "baseline_mean"),
        ("signal", analysis.signal_all_mean, all, "signal_all_mean"),
        (
            "signal without excluded pairs",
            analysis.signal_meaningful_mean,
            meaningful,
            "signal_meaningful_mean",
        ),
        ("SNR", analysis.snr_all, quotient(all, noise), "snr_all"),
        (
            "SNR without excluded pairs",
            analysis.snr_meaningful,
            quotient(meaningful, noise),
            "snr_meaningful",
        ),
    ] {
        sheet.figure(&format!("{what}, {name}"), stored, recomputed, &format!("{place}.{field}"));
    }
    for (what, stored, counted, field) in [
        ("cells left out", analysis.n_excluded_cells, off.len() - kept.len(), "n_excluded_cells"),
        ("pairs kept", analysis.n_meaningful_pairs, kept.len(), "n_meaningful_pairs"),
    ] {
        let (stored, counted) = (stored.map(|count| count.to_string()), counted.to_string());
        sheet.text(
            &format!("{what}, {name}"),
            stored,
            counted,
            &format!("{place}.{field}"),
            Some("ordered pairs"),
        );
    }
    let snr = quotient(all, noise);
    pair_by_pair(sheet, file, phase, &labels, &matrix, snr);
    let heading_title = format!("log-probabilities, {name}, claimed against verified kernel");
    let heading = Heading {
        title: &heading_title,
        relation: Relation::ClaimedVerified,
        phase,
        signal: Signal::Logprobs,
        statistic: "L2, mean over positions and references",
        place: &matrix_place,
    };
    sheet.matrix(&heading, &labels, &matrix, references.len() as u64);
    let floors = diagonal(&matrix);
    let low = floors.iter().copied().fold(f64::INFINITY, f64::min);
    let high = floors.iter().copied().fold(0.0, f64::max);
    if low > 0.0 && high / low > 2.0 {
        sheet.finding(
            format!(
                "{name}: the diagonal ranges from {low:.3} to {high:.3}, and its mean {noise:.3} is the noise of no \
                 kernel: too high for the quietest, too low for the loudest"
            ),
            &[&matrix_place, &format!("{place}.baseline_mean")],
        );
    }
}

/// Distances of each reference as the comparisons state them.
fn verified(file: &File, phase: Phase, labels: &[String]) -> Vec<Square> {
    let (references, side) = (file.references(), labels.len());
    let mut matrices = vec![vec![vec![f64::NAN; side]; side]; references.len()];
    for one in &file.comparisons {
        let index = |name: &String| labels.iter().position(|label| label == name);
        let reference = references.iter().position(|&reference| reference == one.ref_idx);
        if let (Some(r), Some(i), Some(j)) =
            (reference, index(&one.claimed_config), index(&one.verify_config))
        {
            matrices[r][i][j] = one.distances(phase).logprobs_mean;
        }
    }
    matrices
}

/// Stored quotients of each pair, and what the pooled one, `snr`, hides.
fn pair_by_pair(sheet: &mut Sheet, file: &File, phase: Phase, labels: &[String], matrix: &Square, snr: f64) {
    let (name, place) = (phase.name(), format!("{}_analysis", phase.name()));
    let pairs = pairs::of(labels, matrix);
    for (key, stored) in file.analysis(phase).pairwise_snr.iter() {
        let place = format!("{place}.pairwise_snr.{key}");
        let Some(pair) = pairs.iter().find(|pair| format!("{}_vs_{}", pair.a, pair.b) == *key) else {
            if let Some(snr) = stored.snr {
                let name = format!("SNR {key}, {name}");
                sheet.not_in_file(&name, snr, &place, "no such pair of configurations");
            }
            continue;
        };
        for (what, stored, recomputed, field) in [
            ("signal", stored.signal, pair.signal, "signal"),
            ("noise floor", stored.noise_floor, pair.noise, "noise_floor"),
            ("SNR", stored.snr, pair.snr, "snr"),
        ] {
            sheet.figure(&format!("{what} {key}, {name}"), stored, recomputed, &format!("{place}.{field}"));
        }
    }
    pairs::table(sheet, &format!("pair by pair, {name}"), &pairs);
    let places = [format!("{place}.snr_all"), format!("{place}.pairwise_snr")];
    let about = format!("log-probabilities, {name}");
    pairs::pooled(sheet, &about, snr, &pairs, &[places[0].as_str(), places[1].as_str()]);
}
