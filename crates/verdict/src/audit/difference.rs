//! Where evidence and replay first differ.

use mantissa_numerics::Phase;
use schemars::JsonSchema;
use serde::Serialize;

/// Where evidence and replay first differ.
///
/// Example: [`ReplayVerdict`](super::ReplayVerdict).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Difference {
    /// The run: `ref 0 rep 2`.
    pub run: String,
    /// The phase.
    pub phase: Phase,
    /// Forward pass of the phase.
    pub step: u64,
    /// Position relative to the end; absent for a token.
    pub position: Option<i32>,
    /// The site, `layer_4.x_out`; `logprobs`; or `output_token`.
    pub site: String,
    /// Element of the row, or candidate.
    pub element: Option<u64>,
    /// In the evidence.
    pub evidence: String,
    /// In the replay.
    pub replay: String,
}
