//! What to ask of the evidence.

use std::collections::BTreeSet;

use crate::analysis::Signal;
use crate::thresholds;

/// What to ask of the evidence.
///
/// ```
/// use mantissa_verdict::analysis::Signal;
/// use mantissa_verdict::{Options, judge};
///
/// # let file = mantissa_published::open(&mantissa_testkit::synthetic("batch_generation.json"))?;
/// # let given = [((&file).into(), &file.content)];
/// let keys = Options { signals: Some([Signal::KeyVectors].into()), ..Options::default() };
/// let (all, keys) = (judge(&given, &Options::default())?, judge(&given, &keys)?);
/// assert!(keys.pairs.iter().all(|pair| pair.signal == Signal::KeyVectors));
/// assert!(keys.pairs.len() < all.pairs.len());
/// // A reference that is not in the evidence is refused, not ignored.
/// let unknown = Options { reference: Some("batch_size_99".into()), ..Options::default() };
/// assert!(judge(&given, &unknown).expect_err("no such setup").to_string().contains("batch_size_99"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The setup field that varies; by default the one the files declare.
    pub variable: Option<String>,
    /// The configuration that everything is measured against; by default that of the reference experiment,
    /// else none: all pairs count alike. Never the first of a file, nor the smallest value.
    pub reference: Option<String>,
    /// Signals to judge; by default all that are recorded.
    pub signals: Option<BTreeSet<Signal>>,
    /// Largest corrected p-value that tells two setups apart.
    pub alpha: f64,
    /// Confidence of intervals and bounds.
    pub confidence: f64,
    /// The difference that counts: setups are called not separable only where a distance of so many times their own
    /// floor is excluded.
    pub effect: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            variable: None,
            reference: None,
            signals: None,
            alpha: thresholds::ALPHA,
            confidence: thresholds::CONFIDENCE,
            effect: thresholds::EFFECT,
        }
    }
}

impl Options {
    pub(super) fn wants(&self, signal: Signal) -> bool {
        self.signals.as_ref().is_none_or(|signals| signals.contains(&signal))
    }
}
