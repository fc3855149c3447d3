//! How rotary angles are stretched beyond the trained context: the parameters, and what is computed from them alone.

use serde::{Deserialize, Serialize};

/// How rotary angles are stretched beyond the trained context.
///
/// ```
/// use mantissa_numerics::rotary::{Arithmetic, Rope, RopeScaling};
/// let rope = |scaling| Rope { base: 10_000.0, dim: 4, scaling, max_position_embeddings: 4096 };
/// let at = |scaling, length| rope(Some(scaling)).frequencies(Arithmetic::Engine, Some(length)).inverse;
/// assert_eq!(rope(None).frequencies(Arithmetic::Engine, None).inverse, [1.0, 0.01]);
/// assert_eq!(at(&RopeScaling::Linear { factor: 2.0 }, 5000), [0.5, 0.005]);
/// // `Dynamic` changes nothing up to 4096 positions; the fastest pair stays as it is beyond them too.
/// let dynamic = RopeScaling::Dynamic { factor: 2.0 };
/// assert_eq!(at(&dynamic, 4096), [1.0, 0.01]);
/// assert!(at(&dynamic, 5000)[0] == 1.0 && at(&dynamic, 5000)[1] < 0.01);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "lowercase")]
pub enum RopeScaling {
    /// Positions divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1's smooth interpolation between scaled and unscaled frequencies.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Wavelength bound of the scaled range.
        low_freq_factor: f64,
        /// Wavelength bound of the unscaled range.
        high_freq_factor: f64,
        /// Context length before scaling.
        original_max_position_embeddings: usize,
    },
    /// A base that grows with the sequence once it is longer than `max_position_embeddings` (NTK).
    Dynamic {
        /// How much.
        factor: f64,
    },
    /// YaRN: high frequencies stay, low ones are divided, a ramp between.
    Yarn(Yarn),
    /// LongRoPE: a divisor for each frequency, one list for short and one for long sequences.
    LongRope(LongRope),
}

/// Parameters of YaRN.
///
/// ```
/// use mantissa_numerics::rotary::RopeScaling;
/// let json = r#"{"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096,
///     "beta_fast": 32.0, "beta_slow": 1.0, "truncate": false}"#;
/// let RopeScaling::Yarn(mut yarn) = serde_json::from_str(json)? else { panic!("another type") };
/// assert_eq!(yarn.attention_factor(), 0.1 * 32.0_f64.ln() + 1.0);
/// // DeepSeek gives both weights: they cancel here, and scores get the factor instead.
/// (yarn.mscale, yarn.mscale_all_dim) = (Some(1.0), Some(1.0));
/// assert_eq!((yarn.attention_factor(), yarn.score_factor()), (1.0, 0.1 * 32.0_f64.ln() + 1.0));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Yarn {
    /// Divisor of the low frequencies.
    pub factor: f64,
    /// Context length before scaling.
    pub original_max_position_embeddings: usize,
    /// Factor of cosines and sines; computed from `factor` where it is absent.
    pub attention_factor: Option<f64>,
    /// Weight of the factor's logarithm in `attention_factor`, where both `mscale`s are given and none is 0.
    pub mscale: Option<f64>,
    /// Likewise, in its denominator.
    pub mscale_all_dim: Option<f64>,
    /// Rotations within the original context above which a frequency stays; transformers' default is 32.
    pub beta_fast: f64,
    /// Rotations below which it is divided; transformers' default is 1.
    pub beta_slow: f64,
    /// Whether the ramp begins and ends at whole pairs; transformers' default.
    pub truncate: bool,
}

impl Yarn {
    /// What cosines and sines are multiplied by.
    ///
    /// *Rounding:* binary64.
    #[must_use]
    pub fn attention_factor(&self) -> f64 {
        let scale = |weight: f64| {
            if self.factor <= 1.0 { 1.0 } else { 0.1 * weight * libm::log(self.factor) + 1.0 }
        };
        let given = |weight: Option<f64>| weight.filter(|weight| weight.abs() > 0.0);
        match (self.attention_factor, given(self.mscale), given(self.mscale_all_dim)) {
            (Some(factor), ..) => factor,
            (None, Some(above), Some(below)) => scale(above) / scale(below),
            (None, ..) => scale(1.0),
        }
    }

    /// What DeepSeek's scores are multiplied by twice, beside the angles' own factor.
    ///
    /// *Rounding:* binary64. *Source:* `yarn_apply_mscale` of transformers' `modeling_deepseek_v2.py`, 5.17.0.
    #[must_use]
    pub fn score_factor(&self) -> f64 {
        match self.mscale_all_dim {
            Some(weight) if self.factor > 1.0 => 0.1 * weight * libm::log(self.factor) + 1.0,
            _ => 1.0,
        }
    }

    /// Pairs between which the ramp runs.
    pub(super) fn range(&self, base: f64, dim: f64) -> [f64; 2] {
        #[expect(clippy::cast_precision_loss, reason = "a context length, far below 2^53")]
        let context = self.original_max_position_embeddings as f64;
        let pair = |rotations: f64| {
            let ratio = context / (rotations * 2.0 * std::f64::consts::PI);
            dim * libm::log(ratio) / (2.0 * libm::log(base))
        };
        let (low, high) = (pair(self.beta_fast), pair(self.beta_slow));
        let (low, high) = if self.truncate { (low.floor(), high.ceil()) } else { (low, high) };
        [low.max(0.0), high.min(dim - 1.0)]
    }
}

/// Parameters of LongRoPE.
///
/// ```
/// use mantissa_numerics::rotary::{Arithmetic, LongRope, Rope, RopeScaling};
/// let long = LongRope {
///     short_factor: vec![1.0, 1.0],
///     long_factor: vec![1.0, 4.0],
///     factor: 32.0,
///     attention_factor: None,
///     original_max_position_embeddings: 4096,
/// };
/// // √(1 + log₄₀₉₆ 32) = √(1 + 5/12)
/// assert!((long.attention_factor() - (17.0_f64 / 12.0).sqrt()).abs() < 1e-15);
/// let scaling = RopeScaling::LongRope(long);
/// let rope = Rope { base: 10_000.0, dim: 4, scaling: Some(&scaling), max_position_embeddings: 131_072 };
/// let slowest = |length| rope.frequencies(Arithmetic::Engine, Some(length)).inverse[1];
/// assert_eq!((slowest(4096), slowest(4097)), (0.01, 0.0025));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LongRope {
    /// Divisor of each frequency up to the original context.
    pub short_factor: Vec<f64>,
    /// Divisor of each frequency beyond it.
    pub long_factor: Vec<f64>,
    /// Context length over the original one.
    pub factor: f64,
    /// Factor of cosines and sines; computed from `factor` where it is absent.
    pub attention_factor: Option<f64>,
    /// Context length before scaling: up to here a sequence is short.
    pub original_max_position_embeddings: usize,
}

impl LongRope {
    /// What cosines and sines are multiplied by, whether short or long.
    ///
    /// *Rounding:* binary64.
    #[must_use]
    pub fn attention_factor(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a context length, far below 2^53")]
        let original = self.original_max_position_embeddings as f64;
        match self.attention_factor {
            Some(factor) => factor,
            None if self.factor <= 1.0 => 1.0,
            None => (1.0 + libm::log(self.factor) / libm::log(original)).sqrt(),
        }
    }
}
