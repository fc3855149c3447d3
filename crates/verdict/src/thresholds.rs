//! Every threshold of this crate, in one place, each with its source.
//!
//! A threshold decides where no bit and no test can. [`Analysis::thresholds`](crate::Analysis::thresholds) repeats the
//! ones that an analysis used. Left out: the constants of statistical methods, which are part of those methods, and the
//! published cut-offs, which are part of the published definitions.

use crate::analysis::Threshold;

/// Largest corrected p-value that tells two setups apart.
pub const ALPHA: f64 = 0.05;

/// Confidence of intervals and of bounds on false alarms.
pub const CONFIDENCE: f64 = 0.95;

/// Smallest quotient of a mismatched by a matching distance that tells two setups apart where only averages over
/// references are stored, so that no test is possible. It never overrules a test.
pub const CLEAR_MARGIN: f64 = 3.0;

/// Where only averages over references are stored, a quotient below this, of either member, tells nothing apart.
pub const WITHIN_FLOOR: f64 = 1.5;

/// A distance between setups that declare other weights is no rounding from this many times the largest distance
/// between kernels that share weights in the same file.
pub const OTHER_WEIGHTS: f64 = 10.0;

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

/// [`CLEAR_MARGIN`] with its source.
pub(crate) fn clear_margin() -> Threshold {
    threshold(
        "clear_margin",
        CLEAR_MARGIN,
        "smallest quotient of mismatched by matching distance, over both members, that tells setups apart where only \
         averages are stored",
        "signal-to-noise ratio of a detection limit, 3:1 (ICH Q2(R1), 6.2); chosen after the published files had been \
         seen",
    )
}

/// [`WITHIN_FLOOR`] with its source.
pub(crate) fn within_floor() -> Threshold {
    threshold(
        "within_floor",
        WITHIN_FLOOR,
        "quotient of mismatched by matching distance, of the member that tells less, below which setups are not told \
         apart where only averages are stored",
        "the published 1.5x rule",
    )
}

/// [`OTHER_WEIGHTS`] with its source.
pub(crate) fn other_weights() -> Threshold {
    threshold(
        "other_weights",
        OTHER_WEIGHTS,
        "distance between setups that declare other weights, in largest distances between kernels that share \
         weights, from which it is no rounding",
        "one order of magnitude; chosen after quant_generation.json had been seen, where AWQ against GPTQ is 25.7 \
         of the larger of its two plain-against-Marlin distances in prefill",
    )
}

fn threshold(name: &str, value: f64, decides: &str, source: &str) -> Threshold {
    Threshold { name: name.to_owned(), value, decides: decides.to_owned(), source: source.to_owned() }
}
