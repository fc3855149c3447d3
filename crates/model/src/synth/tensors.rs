//! The spread of every tensor's values.
//!
//! Scales are chosen so that a forward pass through many random layers stays lively: unit-size projections, attention
//! that looks at few tokens, an MLP strong enough that greedy continuations wander. docs/format/synth.md has the table.
//! Left out: which tensors there are ([`ModelConfig::tensors`]) and where their bytes go (`shards`).

use mantissa_numerics::Dtype;

use super::spec::SynthSpec;
use super::values::Values;
use crate::config::ModelConfig;
use crate::tensor_list::TensorSpec;

/// Spread of q and k, or centre of their norms: scores with a deviation of its square.
const SHARPNESS: f32 = 1.5;
/// Spread of norm weights and biases.
const SMALL: f64 = 0.1;
/// Centre and spread of attention's sinks.
const SINKS: (f32, f64) = (2.0, 1.5);
/// Size of the logits.
const LOGITS: f32 = 3.0;

/// One tensor of a synthetic checkpoint.
///
/// Example: [`super::write()`].
#[derive(Debug, Clone, PartialEq)]
pub struct SynthTensor {
    /// Hugging Face name.
    pub name: String,
    /// `[out_features, in_features]` or `[features]`.
    pub shape: Vec<usize>,
    /// Its values, before rounding to the storage dtype.
    pub values: Values,
}

impl SynthTensor {
    /// Number of values.
    #[must_use]
    pub fn elements(&self) -> u64 {
        self.shape.iter().map(|&n| n as u64).product()
    }

    /// Bytes where it is not quantized.
    #[must_use]
    pub fn bytes(&self, dtype: Dtype) -> u64 {
        self.elements() * dtype.size() as u64
    }
}

impl SynthSpec {
    /// Every tensor, in the order of the checkpoint.
    pub fn tensors(&self) -> impl Iterator<Item = SynthTensor> + '_ {
        self.config().tensors().map(|TensorSpec { name, shape }| {
            let (centre, deviation) = spread(self.config(), &name, &shape);
            let values = Values::new(self.seed(), &name, centre, deviation);
            SynthTensor { name, shape, values }
        })
    }

    /// Number of values of all tensors together.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.tensors().map(|tensor| tensor.elements()).sum()
    }
}

/// Mean and standard deviation of tensor `name`.
fn spread(config: &ModelConfig, name: &str, shape: &[usize]) -> (f32, f64) {
    let (stem, kind) = name.rsplit_once('.').unwrap_or((name, ""));
    let part = stem.rsplit('.').next().unwrap_or(stem);
    // Experts in one tensor: the name's last word says what it is, and the second dimension is `fan_in` here too.
    let stacked = shape.len() == 3;
    let part = if stacked { kind } else { part };
    if kind.ends_with("_bias") {
        return (0.0, SMALL);
    }
    let (&[_, fan_in] | &[_, fan_in, _]) = shape else {
        // A vector: a norm's weight or a bias.
        let centre = match (part, kind) {
            ("q_norm" | "k_norm", _) => SHARPNESS,
            ("norm", _) if config.tie_word_embeddings => LOGITS,
            (_, "bias") => 0.0,
            // As large as the scores that it stands beside.
            (_, "sinks") => return SINKS,
            _ => 1.0,
        };
        return (centre, SMALL);
    };
    // What a projection makes of inputs of unit size.
    let gain = match part {
        // Read by row, not multiplied; when tied, a unit-gain projection that the final norm amplifies, lest a token's
        // own embedding win every argmax.
        "embed_tokens" if !config.tie_word_embeddings => return (0.0, 0.5),
        "lm_head" => f64::from(LOGITS),
        "q_proj" | "k_proj" | "q_b_proj" => f64::from(SHARPNESS),
        // Large enough that some are clamped; what that gives is made small again.
        "gate_up_proj" if stacked => 2.5,
        "down_proj" if stacked => 0.5,
        // Eight shares of about an eighth each: doubled, they add up to a dense MLP's size.
        "down_proj" if name.contains(".experts.") => 4.0,
        // The MLP's strength, and the router's decidedness.
        "down_proj" | "gate" | "router" => 2.0,
        _ => 1.0,
    };
    #[expect(clippy::cast_precision_loss, reason = "at most 2^20, exact")]
    let fan_in = fan_in as f64;
    (0.0, gain / fan_in.sqrt())
}
