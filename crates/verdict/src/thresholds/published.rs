//! The published cut-offs, for `--as-published` only.

use super::threshold;
use crate::analysis::Threshold;

/// Below this a distance is printed as SMALL.
pub const SMALL: f64 = 0.1;

/// Below this, from [`SMALL`] on, a distance is printed as MODERATE; from here on as LARGE.
pub const MODERATE: f64 = 1.0;

/// Up to this a quotient is printed as NOT DETECTABLE.
pub const MARGINAL: f64 = 3.0;

/// Above this a quotient is printed as DETECTABLE; between the two as MARGINALLY detectable.
pub const DETECTABLE: f64 = 10.0;

/// The script's criterion: a cross-hardware distance of this many baselines is detectable.
pub const DETECTABLE_RATIO: f64 = 1.5;

/// Above this percentage of detectable pairs the script's summary says Strong.
pub const STRONG: f64 = 75.0;

/// Above this percentage the script's summary says Moderate, otherwise Weak.
pub const MODERATE_PERCENT: f64 = 50.0;

const WORDS: &str = "inferred: no cut-off is printed; sources/quantization_format_generation.log calls 8.58e-02 SMALL, \
    2.57e-01 MODERATE and 5.54e+00 LARGE, and this is the power of ten between";

/// [`SMALL`] and [`MODERATE`] with their source.
#[must_use]
pub fn size_words() -> [Threshold; 2] {
    [
        threshold("published_small", SMALL, "distances below it are printed as SMALL", WORDS),
        threshold(
            "published_moderate",
            MODERATE,
            "distances below it are printed as MODERATE, others as LARGE",
            WORDS,
        ),
    ]
}

/// [`MARGINAL`] and [`DETECTABLE`] with their source.
#[must_use]
pub fn detectable_words() -> [Threshold; 2] {
    let source = "sources/quantization_format_generation.log: 'MARGINALLY detectable (3 < SNR < 10)'";
    [
        threshold("published_marginal", MARGINAL, "quotients up to it are printed as NOT DETECTABLE", source),
        threshold("published_detectable", DETECTABLE, "quotients above it are printed as DETECTABLE", source),
    ]
}

/// The criteria of the comparison script, with their source.
#[must_use]
pub fn script() -> [Threshold; 3] {
    let source = "compare_experiments.py in sources/ablation_plan.md";
    [
        threshold(
            "published_detectable_ratio",
            DETECTABLE_RATIO,
            "cross-hardware distance in mean baselines from which a pair counts as detectable",
            source,
        ),
        threshold(
            "published_strong",
            STRONG,
            "percentage of detectable pairs above which the word is Strong",
            source,
        ),
        threshold(
            "published_moderate_percent",
            MODERATE_PERCENT,
            "percentage of detectable pairs above which the word is Moderate, else Weak",
            source,
        ),
    ]
}
