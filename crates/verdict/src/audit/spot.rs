//! A sample of single values: what was drawn, and how likely it would have missed a deviation.
//!
//! Left out: what follows for the claim (`sampled`).

use schemars::JsonSchema;
use serde::Serialize;

use super::difference::Difference;

/// What a sample of single values says.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct SpotCheck {
    /// Name of the configuration.
    pub config_id: String,
    /// Seed of the sample.
    pub seed: u64,
    /// Values that can be recomputed from recorded inputs.
    pub population: u64,
    /// Values that the evidence of this setup recorded.
    pub recorded: u64,
    /// Values drawn, uniformly and with replacement.
    pub drawn: u64,
    /// Distinct values among them.
    pub distinct: u64,
    /// Draws with other bits.
    pub different: u64,
    /// The first of them.
    pub first: Option<Difference>,
    /// How likely a deviation of each extent would have been missed: `(1 − extent)^drawn`.
    pub missed: Vec<MissedExtent>,
    /// Draws by what was recomputed: kernel and draws.
    pub kernels: Vec<(String, u64)>,
    /// What no draw could reach.
    pub out_of_reach: Vec<String>,
}

/// How likely a deviation would have been missed.
///
/// Example: [`SpotCheck::missed`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct MissedExtent {
    /// Share of the population that deviates.
    pub extent: f64,
    /// Probability that no draw met it.
    pub probability: f64,
}

impl SpotCheck {
    /// Extents that a report states, largest first.
    pub const EXTENTS: [f64; 4] = [0.1, 0.01, 0.001, 0.0001];

    /// How likely `draws` uniform draws miss a deviation of each of [`Self::EXTENTS`]: `(1 − extent)^draws`.
    ///
    /// ```
    /// use mantissa_verdict::audit::SpotCheck;
    ///
    /// let missed = SpotCheck::missed(100);
    /// // A deviation of one value in ten is missed by 0.9^100.
    /// assert!(missed[0].probability < 3e-5);
    /// ```
    #[must_use]
    pub fn missed(draws: u64) -> Vec<MissedExtent> {
        #[expect(clippy::cast_precision_loss, reason = "nobody draws 2^53 values")]
        let draws = draws as f64;
        let probability = |extent: f64| libm::exp(draws * libm::log1p(-extent));
        Self::EXTENTS.map(|extent| MissedExtent { extent, probability: probability(extent) }).to_vec()
    }
}
