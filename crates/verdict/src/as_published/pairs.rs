//! Pairs of setups in a claimed × verified matrix: mirrored cells over their own two diagonal cells.

use mantissa_evidence::published::Square;

use super::definitions::{detectable_words, printed, quotient};
use super::sheet::Sheet;
use crate::thresholds::published;

/// Two setups.
pub(super) struct Pair {
    pub(super) a: String,
    pub(super) b: String,
    /// Claimed `a`, verified `b`.
    pub(super) forward: f64,
    /// Claimed `b`, verified `a`.
    pub(super) backward: f64,
    /// Mean of the two.
    pub(super) signal: f64,
    /// Mean of the pair's diagonal cells.
    pub(super) noise: f64,
    /// `signal / noise`.
    pub(super) snr: f64,
}

impl Pair {
    /// The larger direction over the smaller.
    pub(super) fn asymmetry(&self) -> f64 {
        quotient(self.forward.max(self.backward), self.forward.min(self.backward))
    }
}

/// Every pair, in the order of the upper triangle.
pub(super) fn of(labels: &[String], matrix: &Square) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for i in 0..labels.len() {
        for j in i + 1..labels.len() {
            let (forward, backward) = (matrix[i][j], matrix[j][i]);
            let (signal, noise) =
                (f64::midpoint(forward, backward), f64::midpoint(matrix[i][i], matrix[j][j]));
            let (a, b) = (labels[i].clone(), labels[j].clone());
            pairs.push(Pair { a, b, forward, backward, signal, noise, snr: quotient(signal, noise) });
        }
    }
    pairs
}

/// Signal, noise, quotient and words of every pair.
pub(super) fn table(sheet: &mut Sheet<'_>, title: &str, pairs: &[Pair]) {
    let rows = pairs.iter().map(|pair| {
        let snr = if pair.snr.is_finite() { format!("{:.2}×", pair.snr) } else { "inf".to_owned() };
        let words = detectable_words(pair.snr).to_owned();
        vec![pair.a.clone(), pair.b.clone(), printed(pair.signal), printed(pair.noise), snr, words]
    });
    sheet.table(title, &["a", "b", "signal", "noise floor", "SNR", "words"], rows.collect());
    for threshold in published::detectable_words() {
        sheet.threshold(threshold);
    }
}

/// What one quotient over all pairs hides.
pub(super) fn pooled(sheet: &mut Sheet<'_>, about: &str, snr: f64, pairs: &[Pair], places: &[&str]) {
    let below: Vec<String> = pairs
        .iter()
        .filter(|pair| pair.snr < published::DETECTABLE_RATIO && snr >= published::DETECTABLE_RATIO)
        .map(|pair| format!("{} against {} is {:.2}×", pair.a, pair.b, pair.snr))
        .collect();
    if !below.is_empty() {
        sheet.finding(
            format!("the pooled SNR of {snr:.2}× for {about} hides that {}", below.join(" and ")),
            places,
        );
    }
}
