//! The published cut-offs: numbers that decide a word of the authors, and no judgement of this project.

use crate::sheet::Cutoff;

/// Below this a distance is printed as SMALL.
pub(crate) const SMALL: f64 = 0.1;

/// Below this, from [`SMALL`] on, a distance is printed as MODERATE; from here on as LARGE.
pub(crate) const MODERATE: f64 = 1.0;

/// Up to this a quotient is printed as NOT DETECTABLE.
pub(crate) const MARGINAL: f64 = 3.0;

/// Above this a quotient is printed as DETECTABLE; between the two as MARGINALLY detectable.
pub(crate) const DETECTABLE: f64 = 10.0;

/// The script's criterion: a cross-hardware distance of this many baselines is detectable.
pub(crate) const DETECTABLE_RATIO: f64 = 1.5;

/// Above this percentage of detectable pairs the script's summary says Strong.
pub(crate) const STRONG: f64 = 75.0;

/// Above this percentage the script's summary says Moderate, otherwise Weak.
pub(crate) const MODERATE_PERCENT: f64 = 50.0;

const WORDS: &str = "inferred: no cut-off is printed; sources/quantization_format_generation.log calls 8.58e-02 SMALL, \
    2.57e-01 MODERATE and 5.54e+00 LARGE, and this is the power of ten between";

/// [`SMALL`] and [`MODERATE`] with their source.
pub(crate) const fn size_words() -> [Cutoff; 2] {
    [
        cutoff("published_small", SMALL, "distances below it are printed as SMALL", WORDS),
        cutoff(
            "published_moderate",
            MODERATE,
            "distances below it are printed as MODERATE, others as LARGE",
            WORDS,
        ),
    ]
}

/// [`MARGINAL`] and [`DETECTABLE`] with their source.
pub(crate) const fn detectable_words() -> [Cutoff; 2] {
    let source = "sources/quantization_format_generation.log: 'MARGINALLY detectable (3 < SNR < 10)'";
    [
        cutoff("published_marginal", MARGINAL, "quotients up to it are printed as NOT DETECTABLE", source),
        cutoff("published_detectable", DETECTABLE, "quotients above it are printed as DETECTABLE", source),
    ]
}

/// The criteria of the comparison script, with their source.
pub(crate) const fn script() -> [Cutoff; 3] {
    let source = "compare_experiments.py in sources/ablation_plan.md";
    [
        cutoff(
            "published_detectable_ratio",
            DETECTABLE_RATIO,
            "cross-hardware distance in mean baselines from which a pair counts as detectable",
            source,
        ),
        cutoff(
            "published_strong",
            STRONG,
            "percentage of detectable pairs above which the word is Strong",
            source,
        ),
        cutoff(
            "published_moderate_percent",
            MODERATE_PERCENT,
            "percentage of detectable pairs above which the word is Moderate, else Weak",
            source,
        ),
    ]
}

const fn cutoff(name: &'static str, value: f64, decides: &'static str, source: &'static str) -> Cutoff {
    Cutoff { name, value, decides, source }
}
