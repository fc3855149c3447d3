//! Named dimensions: a tiny model of every family, and the true shapes of published ones.
//!
//! Left out: overriding and checking them (`spec`).

use super::error::SynthError;
use super::tokenizer;
use crate::arch::Arch;
use crate::config::{ModelConfig, MoeConfig, RopeScaling};

/// A named set of dimensions.
///
/// Example: [`super::SynthRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// A few megabytes of any family, in seconds; the default.
    Tiny,
    /// SmolLM2-135M (llama, tied).
    SmolLm2_135M,
    /// Qwen2.5-7B (qwen2).
    Qwen2_5_7B,
    /// Qwen3-30B-A3B (qwen3_moe).
    Qwen3_30BA3B,
    /// Llama-3.1-8B (llama, stretched rotary angles).
    Llama3_1_8B,
    /// Mistral-7B-v0.3 (mistral, no window).
    Mistral7B,
}

impl Preset {
    /// Every preset, smallest first.
    pub const ALL: [Self; 6] = [
        Self::Tiny,
        Self::SmolLm2_135M,
        Self::Mistral7B,
        Self::Qwen2_5_7B,
        Self::Llama3_1_8B,
        Self::Qwen3_30BA3B,
    ];

    /// The name used in flags.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::SmolLm2_135M => "smollm2-135m",
            Self::Qwen2_5_7B => "qwen2.5-7b",
            Self::Qwen3_30BA3B => "qwen3-30b-a3b",
            Self::Llama3_1_8B => "llama3.1-8b",
            Self::Mistral7B => "mistral-7b",
        }
    }

    /// The family of a preset that has only one.
    #[must_use]
    pub const fn arch(self) -> Option<Arch> {
        match self {
            Self::Tiny => None,
            Self::SmolLm2_135M | Self::Llama3_1_8B => Some(Arch::LLAMA),
            Self::Mistral7B => Some(Arch::MISTRAL),
            Self::Qwen2_5_7B => Some(Arch::QWEN2),
            Self::Qwen3_30BA3B => Some(Arch::QWEN3_MOE),
        }
    }
}

impl std::str::FromStr for Preset {
    type Err = SynthError;

    fn from_str(name: &str) -> Result<Self, SynthError> {
        Self::ALL.into_iter().find(|preset| preset.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            SynthError::setting(
                "preset",
                format!("'{name}'"),
                "no such preset",
                format!("use one of {names}"),
            )
        })
    }
}

/// The dimensions of `preset` for family `arch`.
pub(super) fn dimensions(preset: Preset, arch: Arch) -> ModelConfig {
    let base = base(arch);
    match preset {
        // Each differs from the others in something an engine can get wrong: ties, biases, a head width of its own.
        Preset::Tiny => (arch.family().tiny)(base),
        Preset::SmolLm2_135M => ModelConfig {
            hidden_size: 576,
            intermediate_size: 1536,
            num_hidden_layers: 30,
            num_attention_heads: 9,
            num_key_value_heads: 3,
            head_dim: 64,
            vocab_size: 49_152,
            max_position_embeddings: 8192,
            rms_norm_eps: 1e-5,
            rope_theta: 100_000.0,
            tie_word_embeddings: true,
            ..base
        },
        Preset::Qwen2_5_7B => ModelConfig {
            qkv_bias: true,
            hidden_size: 3584,
            intermediate_size: 18_944,
            num_hidden_layers: 28,
            num_attention_heads: 28,
            num_key_value_heads: 4,
            head_dim: 128,
            vocab_size: 152_064,
            max_position_embeddings: 32_768,
            rope_theta: 1e6,
            ..base
        },
        Preset::Qwen3_30BA3B => ModelConfig {
            qk_norm: true,
            hidden_size: 2048,
            intermediate_size: 6144,
            num_hidden_layers: 48,
            num_attention_heads: 32,
            num_key_value_heads: 4,
            head_dim: 128,
            vocab_size: 151_936,
            max_position_embeddings: 40_960,
            rope_theta: 1e6,
            moe: Some(experts(768)),
            ..base
        },
        Preset::Mistral7B => ModelConfig {
            hidden_size: 4096,
            intermediate_size: 14_336,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            num_key_value_heads: 8,
            head_dim: 128,
            vocab_size: 32_768,
            max_position_embeddings: 32_768,
            rms_norm_eps: 1e-5,
            rope_theta: 1e6,
            ..base
        },
        Preset::Llama3_1_8B => ModelConfig {
            hidden_size: 4096,
            intermediate_size: 14_336,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            num_key_value_heads: 8,
            head_dim: 128,
            vocab_size: 128_256,
            max_position_embeddings: 131_072,
            rms_norm_eps: 1e-5,
            rope_theta: 500_000.0,
            rope_scaling: Some(RopeScaling::Llama3 {
                factor: 8.0,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_max_position_embeddings: 8192,
            }),
            ..base
        },
    }
}

/// What tiny models have in common, and where the others start.
fn base(arch: Arch) -> ModelConfig {
    let ids = tokenizer::special_ids();
    ModelConfig {
        arch,
        hidden_size: 128,
        intermediate_size: 384,
        num_hidden_layers: 4,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 32,
        vocab_size: 512,
        max_position_embeddings: 4096,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: None,
        qkv_bias: false,
        o_bias: false,
        qk_norm: false,
        tie_word_embeddings: false,
        moe: None,
        torch_dtype: None,
        bos_token_id: Some(ids.end_of_text),
        eos_token_ids: vec![ids.turn_end],
        nf4_block: None,
        int4: None,
        extra: serde_json::Map::new(),
    }
}

fn experts(moe_intermediate_size: usize) -> MoeConfig {
    MoeConfig {
        num_experts: 128,
        num_experts_per_tok: 8,
        moe_intermediate_size,
        norm_topk_prob: true,
        decoder_sparse_step: 1,
        mlp_only_layers: Vec::new(),
    }
}
