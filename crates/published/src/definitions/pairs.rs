//! Pairs of setups in a claimed × verified matrix: mirrored cells over their own two diagonal cells.

use super::arithmetic::{detectable_words, quotient};
use super::cutoffs;
use crate::json::numbers::Square;
use crate::python::printed;
use crate::sheet::Sheet;

/// Two setups.
pub(crate) struct Pair {
    pub(crate) a: String,
    pub(crate) b: String,
    /// Claimed `a`, verified `b`.
    pub(crate) forward: f64,
    /// Claimed `b`, verified `a`.
    pub(crate) backward: f64,
    /// Mean of the two.
    pub(crate) signal: f64,
    /// Mean of the pair's diagonal cells.
    pub(crate) noise: f64,
    /// `signal / noise`.
    pub(crate) snr: f64,
}

impl Pair {
    /// The larger direction over the smaller.
    pub(crate) fn asymmetry(&self) -> f64 {
        quotient(self.forward.max(self.backward), self.forward.min(self.backward))
    }
}

/// Every pair, in the order of the upper triangle.
pub(crate) fn of(labels: &[String], matrix: &Square) -> Vec<Pair> {
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
pub(crate) fn table(sheet: &mut Sheet, title: &str, pairs: &[Pair]) {
    let rows = pairs.iter().map(|pair| {
        let snr = if pair.snr.is_finite() { format!("{:.2}×", pair.snr) } else { "inf".to_owned() };
        let words = detectable_words(pair.snr).to_owned();
        vec![pair.a.clone(), pair.b.clone(), printed(pair.signal), printed(pair.noise), snr, words]
    });
    sheet.table(title, &["a", "b", "signal", "noise floor", "SNR", "words"], rows.collect());
    sheet.cutoffs(&cutoffs::detectable_words());
}

/// What one quotient over all pairs hides.
pub(crate) fn pooled(sheet: &mut Sheet, about: &str, snr: f64, pairs: &[Pair], places: &[&str]) {
    let below: Vec<String> = pairs
        .iter()
        .filter(|pair| pair.snr < cutoffs::DETECTABLE_RATIO && snr >= cutoffs::DETECTABLE_RATIO)
        .map(|pair| format!("{} against {} is {:.2}×", pair.a, pair.b, pair.snr))
        .collect();
    if !below.is_empty() {
        sheet.finding(
            format!("the pooled SNR of {snr:.2}× for {about} hides that {}", below.join(" and ")),
            places,
        );
    }
}
