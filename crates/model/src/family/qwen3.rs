//! Qwen3: Llama with RMSNorm over each head of q and k.

use serde_json::{Map, Value, json};

use super::definition::{Family, Windows, object};
use super::{parts, qwen2};
use crate::arch::Arch;
use crate::config::ModelConfig;
use crate::config_keys::Keys;
use crate::error::ModelError;
use crate::graph::Weighting;

impl Arch {
    /// Qwen3.
    pub const QWEN3: Self = Self(FAMILY.name);
}

pub(super) static FAMILY: Family = Family {
    name: "qwen3",
    title: "Qwen3",
    architecture: "Qwen3ForCausalLM",
    gguf: Some("qwen3"),
    keys: &[],
    windows: Windows::FromLayer,
    theta: 1e4,
    read,
    graph: |config| qwen2::graph(config, &attention(config)),
    tiny: |base| ModelConfig {
        head_dim: 64,
        tie_word_embeddings: true,
        rope_theta: 1e6,
        qk_norm: true,
        ..base
    },
    config_json,
};

/// transformers' `Qwen3Config` defaults to heads of 128.
fn read(keys: &Keys<'_>, config: &mut ModelConfig) -> Result<(), ModelError> {
    read_attention(keys, config)?;
    config.extra.extend(keys.window_from_layer()?);
    if !keys.states("head_dim") {
        keys.assume("head_dim", 128);
        config.head_dim = 128;
    }
    Ok(())
}

/// What Qwen3 and Qwen3-MoE have in common.
pub(super) fn read_attention(keys: &Keys<'_>, config: &mut ModelConfig) -> Result<(), ModelError> {
    let bias = keys.flag("attention_bias")?.unwrap_or(false);
    (config.qkv_bias, config.o_bias, config.qk_norm) = (bias, bias, true);
    Ok(())
}

/// Llama's attention with a norm over each head.
pub(super) fn attention(config: &ModelConfig) -> parts::AttentionParts {
    let head_norm = Some(Weighting::AfterCast);
    parts::AttentionParts { head_norm, ..parts::AttentionParts::plain(config) }
}

pub(super) fn config_json(config: &ModelConfig) -> Map<String, Value> {
    object(json!({
        "max_window_layers": config.num_hidden_layers,
        "sliding_window": null,
        "use_sliding_window": false,
        "attention_bias": false,
    }))
}
