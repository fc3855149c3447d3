//! Where evidence and replay first differ.

use mantissa_compare::SignalKind;
use mantissa_numerics::{Phase, Site};
use schemars::JsonSchema;
use serde::Serialize;

use crate::analysis::Signal;

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

impl Difference {
    /// The site, read; absent for a token and for log-probabilities.
    ///
    /// ```
    /// use mantissa_numerics::{Phase, Point, Site};
    /// use mantissa_verdict::analysis::Signal;
    /// use mantissa_verdict::audit::Difference;
    ///
    /// let at = |site: &str| Difference {
    ///     site: site.into(),
    ///     # run: "ref 0 rep 0".into(), phase: Phase::Decode, step: 0, position: Some(-1), element: Some(0),
    ///     # evidence: "0x3f80".into(), replay: "0x3f81".into(),
    ///     // ...
    /// };
    /// let keys = at("layer_4.k");
    /// assert_eq!((keys.place(), keys.signal()), (Some(Site::at(4, Point::K)), Some(Signal::KeyVectors)));
    /// let logprobs = at("logprobs");
    /// assert_eq!((logprobs.place(), logprobs.signal()), (None, Some(Signal::Logprobs)));
    /// // A token is no signal, and neither is what only a trace keeps.
    /// assert_eq!((at("output_token").signal(), at("layer_4.attn_out").signal()), (None, None));
    /// ```
    #[must_use]
    pub fn place(&self) -> Option<Site> {
        self.site.parse().ok()
    }

    /// The signal it lies in; absent for a token, and for a site that only a trace keeps.
    ///
    /// Example: [`Self::place`].
    #[must_use]
    pub fn signal(&self) -> Option<Signal> {
        if self.site == LOGPROBS {
            return Some(Signal::Logprobs);
        }
        SignalKind::of(self.place()?).map(Signal::from)
    }
}

/// What stands for a site where log-probabilities differ.
const LOGPROBS: &str = "logprobs";
