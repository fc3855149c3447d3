//! What is looked at, and the four states in which it is found.

use mantissa_compare::SignalKind;
use schemars::JsonSchema;
use serde::Serialize;

/// A kind of signal.
///
/// Example: [`Options`](crate::Options).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// Block outputs and the final norm.
    HiddenStates,
    /// Keys as cached.
    KeyVectors,
    /// Log-probabilities by token id.
    Logprobs,
}

impl From<SignalKind> for Signal {
    fn from(kind: SignalKind) -> Self {
        match kind {
            SignalKind::HiddenStates => Self::HiddenStates,
            SignalKind::KeyVectors => Self::KeyVectors,
            SignalKind::Logprobs => Self::Logprobs,
        }
    }
}

/// The four states of anything that was looked at.
///
/// ```
/// use mantissa_verdict::analysis::State;
///
/// # let file = mantissa_published::open(&mantissa_testkit::synthetic("batch_generation.json"))?;
/// # let given = [((&file).into(), &file.content)];
/// # let analysis = mantissa_verdict::judge(&given, &mantissa_verdict::Options::default())?;
/// // `analysis` is what `judge` makes of `batch_generation.json`.
/// // One run of each setup: nothing was repeated, so no setup is shown to repeat itself.
/// let found = &analysis.reproducibility[0];
/// assert_eq!((found.repetitions, found.state), (Some(1), State::Missing));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Same bits.
    Equal,
    /// Other bits.
    Different,
    /// Not recorded on one side.
    Missing,
    /// Recorded, but tokens, formats or shapes forbid a comparison, or something stands in for a value.
    Incomparable,
}
