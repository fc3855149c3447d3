//! What a published file states without showing it: distances of repetitions, output tokens.

use mantissa_numerics::Phase;

/// Distances between repetitions of one setup, stated without the repetitions.
///
/// ```
/// # use std::path::Path;
/// # let path = mantissa_testkit::synthetic("quant_generation.json");
/// let file = mantissa_published::parse(&std::fs::read(path)?, Path::new("a.json"))?.expect("a published file");
/// let first = &file.repeats()[0];
/// assert_eq!((first.setup.as_str(), first.place.as_str()), ("awq", "noise_floors.awq.prefill"));
/// assert_eq!((first.repetitions, first.distances.as_slice()), (None, &[0.0][..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct StatedRepeats {
    /// The setup, as the file names it.
    pub setup: String,
    /// The phase.
    pub phase: Phase,
    /// Repetitions made, where stated.
    pub repetitions: Option<u64>,
    /// Distances of pairs of repetitions, `inf` where their tokens parted; or the mean alone.
    pub distances: Vec<f64>,
    /// JSON path or line.
    pub place: String,
}

/// Output tokens of one setup on one reference prompt: their ids, or their text where ids are not stated.
///
/// ```
/// # use std::path::Path;
/// # let path = mantissa_testkit::synthetic("batch_matrix.log");
/// let file = mantissa_published::parse(&std::fs::read(path)?, Path::new("a.log"))?.expect("a published file");
/// let first = &file.tokens()[0];
/// assert_eq!((first.reference.as_str(), first.value.as_str(), first.ids.len()), ("ref_0", "4", 4));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatedTokens {
    /// The reference prompt.
    pub reference: String,
    /// The setup's value of the variable.
    pub value: String,
    /// The ids; empty where only a text is stated.
    pub ids: Vec<u32>,
    /// The text; empty where ids are stated.
    pub text: String,
    /// Phases whose distances are over these outputs: a prefill of the prompt alone is not.
    pub consumed_by: Vec<Phase>,
    /// JSON path or line.
    pub place: String,
}
