//! Every threshold of this crate, in one place, each with its source.
//!
//! A threshold decides where no bit can. [`Analysis::thresholds`](crate::Analysis::thresholds) repeats the ones that an
//! analysis used. None was chosen on data. Left out: the constants of statistical methods, which are part of those
//! methods, and the published cut-offs, which are part of the published definitions.

use crate::analysis::Threshold;

/// Largest corrected p-value that tells two setups apart.
pub const ALPHA: f64 = 0.05;

/// Confidence of intervals and of bounds on false alarms.
pub const CONFIDENCE: f64 = 0.95;

/// The difference that counts, as a quotient of mismatched by matching distance: setups are "not separable" only where
/// it is excluded.
pub const EFFECT: f64 = 2.0;

/// The level that a corrected p-value is compared with.
///
/// ```
/// use mantissa_verdict::thresholds::alpha;
/// use mantissa_verdict::{Options, judge};
///
/// # let file = mantissa_published::open(&mantissa_testkit::synthetic("quant_verification.json"))?;
/// // An analysis states the level at which it was made.
/// let analysis = judge(&[((&file).into(), &file.content)], &Options { alpha: 0.01, ..Options::default() })?;
/// assert!(analysis.thresholds.contains(&alpha(0.01)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn alpha(value: f64) -> Threshold {
    threshold(
        "alpha",
        value,
        "largest Holm-corrected p-value that tells two setups apart",
        "convention (Fisher 1925)",
    )
}

/// The confidence of intervals and bounds.
pub(crate) fn confidence(value: f64) -> Threshold {
    threshold(
        "confidence",
        value,
        "confidence of bootstrap intervals and of bounds on false alarms",
        "convention; 1 minus alpha",
    )
}

/// The difference that counts.
pub(crate) fn effect(value: f64) -> Threshold {
    threshold(
        "effect",
        value,
        "quotient of mismatched by matching distance that has to be excluded before setups are called not separable",
        "convention: from 2 on, half of the distance and more is due to the setups; `--effect` sets it",
    )
}

pub(crate) fn threshold(name: &str, value: f64, decides: &str, source: &str) -> Threshold {
    Threshold { name: name.to_owned(), value, decides: decides.to_owned(), source: source.to_owned() }
}
