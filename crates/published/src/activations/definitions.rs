//! `activations_*.json`: norms and distances of mean vectors, rounded to binary16.

use mantissa_evidence::verification::Relation;
use mantissa_numerics::{Dtype, Phase};

use super::reader::{File, Noise};
use crate::definitions::arithmetic::{count, l2, mean, std};
use crate::sheet::{Heading, Sheet, Signal};

/// Norms, spreads and distances of the mean vectors.
pub(crate) fn sheet(file: &File) -> Sheet {
    let mut sheet = Sheet::of("batch_size");
    let sizes = &file.config.batch_sizes;
    let repetitions =
        |size: u32| file.raw_activations.get(&File::key(size)).map(Vec::as_slice).unwrap_or_default();
    let means: Vec<Vec<f64>> = sizes.iter().map(|&size| mean_vector(repetitions(size))).collect();
    let note = "rounded to binary16, as stored";
    for (i, &size) in sizes.iter().enumerate() {
        let key = File::key(size);
        let spread: Vec<f64> = repetitions(size).iter().map(|row| l2(row, &means[i])).collect();
        if let Some(noise) = file.statistical_noise.get(&key) {
            let place = format!("statistical_noise.{key}");
            let note = "distances of repetitions to their mean; the definition is not stated, and with equal \
                        repetitions every one gives 0";
            let (name, mean) = (format!("statistical noise, batch size {size}: mean"), mean(&spread));
            sheet.noted(&name, noise.mean, mean, &format!("{place}.mean"), Some(note));
            let name = format!("statistical noise, batch size {size}: std");
            sheet.noted(&name, noise.std, std(&spread), &format!("{place}.std"), Some(note));
        }
        if let Some(&norm) = file.activation_norms.get(&key) {
            let zero = vec![0.0; means[i].len()];
            let name = format!("norm, batch size {size}");
            sheet.noted(
                &name,
                norm,
                half(l2(&means[i], &zero)),
                &format!("activation_norms.{key}"),
                Some(note),
            );
        }
    }
    let mut matrix = vec![vec![0.0; sizes.len()]; sizes.len()];
    let mut exact = Vec::new();
    for (i, &a) in sizes.iter().enumerate() {
        for (j, &b) in sizes.iter().enumerate().filter(|&(j, _)| j != i) {
            let key = format!("bs{a}_vs_bs{b}");
            let Some(&stored) = file.systematic_deviations.get(&key) else { continue };
            let distance = l2(&means[i], &means[j]);
            let place = format!("systematic_deviations.{key}");
            sheet.noted(
                &format!("distance, batch sizes {a} and {b}"),
                stored,
                half(distance),
                &place,
                Some(note),
            );
            matrix[i][j] = stored;
            if i < j && stored.to_bits() != distance.to_bits() {
                exact.push(format!("{stored} for {distance:.5} ({a} and {b})"));
            }
        }
    }
    let heading = Heading {
        title: "activations, batch size against batch size",
        relation: Relation::WithinMode,
        phase: Phase::Prefill,
        signal: Signal::HiddenStates,
        statistic: "L2 of mean vectors, rounded to binary16",
        place: "systematic_deviations",
    };
    let labels: Vec<String> = sizes.iter().map(u32::to_string).collect();
    sheet.matrix(&heading, &labels, &matrix, 1);
    if !exact.is_empty() {
        let sentence = format!(
            "systematic_deviations are L2 distances rounded to binary16, three significant digits of which are shown \
             as ten: {}",
            exact.join(", ")
        );
        sheet.finding(sentence, &["systematic_deviations"]);
    }
    resolution(&mut sheet, file, &means);
    let pairs = sizes.len() * sizes.len().saturating_sub(1);
    if file.systematic_deviations.len() == 0 {
        return sheet;
    }
    sheet.finding(
        format!(
            "{} repetitions of one prompt at one position are one unit: the {pairs} entries of systematic_deviations \
             are {} distances, each listed in both directions, and carry no uncertainty",
            file.raw_activations.values().map(Vec::len).max().unwrap_or_default(),
            pairs / 2
        ),
        &["config", "systematic_deviations"],
    );
    let silent = |noise: &Noise| noise.mean == Some(0.0) && noise.std.is_none_or(|std| std == 0.0);
    if file.statistical_noise.len() > 0 && file.statistical_noise.values().all(silent) {
        sheet.finding(
            "statistical_noise is exactly 0 because all repetitions have the same bits: against it any distance is \
             infinite, so the question is one of equality and not of signal to noise",
            &["statistical_noise"],
        );
    }
    sheet
}

/// Norms on the grid of binary16 cannot show what the batch size does.
fn resolution(sheet: &mut Sheet, file: &File, means: &[Vec<f64>]) {
    let norms: Vec<f64> = means.iter().map(|row| l2(row, &vec![0.0; row.len()])).collect();
    let low = norms.iter().copied().fold(f64::INFINITY, f64::min);
    let high = norms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // Neighbours in binary16 are 2^(e − 10) apart.
    let step = (high.log2().floor() - 10.0).exp2();
    if high.is_finite() && high > low && high - low <= step {
        let stored: Vec<String> = file.activation_norms.values().map(f64::to_string).collect();
        sheet.finding(
            format!(
                "activation_norms ({}) are multiples of {step}, coarser than the whole spread between batch sizes \
                 ({low:.4} to {high:.4}): equal norms do not mean equal activations, and different ones only where \
                 rounding fell",
                stored.join(", ")
            ),
            &["activation_norms"],
        );
    }
}

/// Mean of the repetitions, value by value, repetition after repetition.
fn mean_vector(rows: &[Vec<f64>]) -> Vec<f64> {
    let width = rows.first().map_or(0, Vec::len);
    let sum = |k: usize| rows.iter().fold(0.0, |sum, row| sum + row[k]);
    (0..width).map(|k| sum(k) / count(rows.len())).collect()
}

/// Nearest binary16.
fn half(value: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, reason = "on the way to 11 significand bits")]
    f64::from(Dtype::F16.round(value as f32))
}
