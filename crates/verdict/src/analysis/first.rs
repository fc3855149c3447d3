//! Where setups first differ.
//!
//! Left out: by how much (`pair`, `matrix`).

use mantissa_numerics::Phase;
use schemars::JsonSchema;
use serde::Serialize;

use super::signal::Signal;

/// Where setups first differ in one phase and signal, by layer and token.
///
/// ```
/// use mantissa_numerics::Phase;
/// use mantissa_verdict::analysis::Signal;
///
/// # let file = mantissa_published::open(&mantissa_testkit::synthetic("batch_generation.json"))?;
/// # let given = [((&file).into(), &file.content)];
/// # let analysis = mantissa_verdict::judge(&given, &mantissa_verdict::Options::default())?;
/// // `analysis` is what `judge` makes of `batch_generation.json`.
/// let mut maps = analysis.first_differences.iter();
/// let keys = maps.find(|map| (map.phase, map.signal) == (Phase::Decode, Signal::KeyVectors)).expect("a map");
/// // On either prompt batch sizes 2 and 4 leave the bits of batch size 1 at the first step that is stored.
/// assert!(keys.found.iter().all(|first| first.a == "batch_size_1" && Some(&first.token) == keys.tokens.first()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FirstDifferences {
    /// The phase.
    pub phase: Phase,
    /// The signal.
    pub signal: Signal,
    /// Decoder blocks that were recorded, counted from 1; empty for log-probabilities.
    pub layers: Vec<u32>,
    /// Tokens that were recorded, by their place in the sequence: 0 is the first output token, −1 the prompt's last.
    pub tokens: Vec<i64>,
    /// One per pair of setups and reference prompt whose bits differ.
    pub found: Vec<FirstDifference>,
}

/// Where two setups first differ on one reference prompt, in the order of computation.
///
/// Example: [`FirstDifferences`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FirstDifference {
    /// The first setup.
    pub a: String,
    /// The second.
    pub b: String,
    /// The reference prompt.
    pub reference: String,
    /// The site; absent for log-probabilities.
    pub site: Option<String>,
    /// Its decoder block, counted from 1; absent for what stands before or after the blocks.
    pub layer: Option<u32>,
    /// The token.
    pub token: i64,
}
