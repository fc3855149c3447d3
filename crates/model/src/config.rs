//! The dimensions and switches of a decoder-only transformer, read from `config.json` or GGUF metadata.

use std::num::NonZeroUsize;

use mantissa_numerics::Dtype;
pub use mantissa_numerics::rotary::RopeScaling;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::arch::Arch;
use crate::quantized::Int4;

/// Routing of a mixture-of-experts layer.
///
/// Example: [`ModelConfig`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MoeConfig {
    /// Number of experts per layer.
    pub num_experts: usize,
    /// Experts that each token is sent to.
    pub num_experts_per_tok: usize,
    /// Inner width of one expert.
    pub moe_intermediate_size: usize,
    /// Whether the chosen routing weights are scaled to sum to one.
    pub norm_topk_prob: bool,
    /// Every how many layers are sparse (`decoder_sparse_step`).
    pub decoder_sparse_step: usize,
    /// Layers that keep a dense MLP (`mlp_only_layers`).
    pub mlp_only_layers: Vec<usize>,
}

/// Everything the engine has to know about a model besides its weights. Sizes count elements.
///
/// ```
/// use mantissa_model::{Arch, synth::SynthSpec};
///
/// let spec = SynthSpec::tiny(Arch::QWEN3_MOE, 0);
/// let config = spec.config();
/// let moe = config.moe.as_ref().expect("experts");
/// assert!(moe.num_experts_per_tok <= moe.num_experts && config.is_sparse(0));
/// assert!(config.num_attention_heads.is_multiple_of(config.num_key_value_heads));
/// assert_eq!(config.rotary_dim(), config.head_dim);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "one switch per key of config.json, under its name")]
pub struct ModelConfig {
    /// Family.
    pub arch: Arch,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Inner width of the dense MLP.
    pub intermediate_size: usize,
    /// Number of decoder blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key/value heads; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Width of one head; even.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Longest context the model was trained for, in tokens.
    pub max_position_embeddings: usize,
    /// Epsilon of every RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary angles.
    pub rope_theta: f64,
    /// Stretching of the rotary angles, if any.
    pub rope_scaling: Option<RopeScaling>,
    /// Whether q, k and v have biases (Qwen2) .
    pub qkv_bias: bool,
    /// Whether o has a bias (Llama's `attention_bias: true` gives all four).
    pub o_bias: bool,
    /// Whether q and k are normalized per head (Qwen3).
    pub qk_norm: bool,
    /// Whether the output projection is the embedding.
    pub tie_word_embeddings: bool,
    /// Experts, for mixture-of-experts models.
    pub moe: Option<MoeConfig>,
    /// Dtype the checkpoint declares (`torch_dtype`/`dtype`), if it does.
    pub torch_dtype: Option<Dtype>,
    /// Token put in front of a text, if the tokenizer wants one.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a generation; may be empty.
    pub eos_token_ids: Vec<u32>,
    /// Values that share a scale, where the matrices of the blocks are stored as nf4; files of weights say so.
    #[serde(skip)]
    pub nf4_block: Option<NonZeroUsize>,
    /// How they are stored where that is as integers of 4 bits.
    #[serde(skip)]
    pub int4: Option<Int4>,
    /// The family's own keys of `config.json`, as they stand there.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
}

impl ModelConfig {
    /// The family's own number under `key`; `None` where it is absent or null.
    #[must_use]
    pub fn extra_number(&self, key: &str) -> Option<f64> {
        self.extra.get(key).and_then(Value::as_f64)
    }

    /// The family's own size under `key`; `None` where it is absent or null.
    #[must_use]
    pub fn extra_size(&self, key: &str) -> Option<usize> {
        self.extra.get(key).and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok())
    }

    /// Elements of a head that are rotated.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "transformers' own int(head_dim * factor); the factor is checked where it is read"
    )]
    pub fn rotary_dim(&self) -> usize {
        match self.extra_number("partial_rotary_factor") {
            Some(factor) => (self.head_dim as f64 * factor) as usize,
            None => self.head_dim,
        }
    }

    /// Whether block `layer` (counted from 0) routes to experts.
    #[must_use]
    pub fn is_sparse(&self, layer: usize) -> bool {
        self.moe.as_ref().is_some_and(|moe| {
            !moe.mlp_only_layers.contains(&layer)
                && (layer + 1).is_multiple_of(moe.decoder_sparse_step.max(1))
        })
    }
}
