//! Llama 2, 3 and relatives (SmolLM2).

use serde_json::{Map, Value, json};

use super::definition::{Family, Windows, object};
use super::parts;
use crate::arch::Arch;
use crate::config::ModelConfig;
use crate::config_keys::Keys;
use crate::error::ModelError;
use crate::graph::{Activation, Graph, Weighting};

impl Arch {
    /// Llama 2, 3 and relatives.
    pub const LLAMA: Self = Self(FAMILY.name);
}

pub(super) static FAMILY: Family = Family {
    name: "llama",
    title: "Llama",
    architecture: "LlamaForCausalLM",
    gguf: Some("llama"),
    keys: &[],
    windows: Windows::InCache,
    theta: 1e4,
    read,
    graph,
    tiny: |base| base,
    config_json,
};

/// Key/value heads default to query heads; `attention_bias` gives all four projections a bias.
fn read(keys: &Keys<'_>, config: &mut ModelConfig) -> Result<(), ModelError> {
    let bias = keys.flag("attention_bias")?.unwrap_or(false);
    (config.qkv_bias, config.o_bias) = (bias, bias);
    if keys.size("num_key_value_heads")?.is_none() {
        config.num_key_value_heads = config.num_attention_heads;
    }
    Ok(())
}

pub(super) fn graph(config: &ModelConfig) -> Graph {
    let after = Weighting::AfterCast;
    let attention = parts::AttentionParts::plain(config);
    let block = parts::pre_norm_block(config, after, attention, &|section, input| {
        parts::mlp(section, config, Activation::Silu, config.intermediate_size, parts::MLP, input)
    });
    Graph {
        stem: parts::stem(config, None),
        kinds: vec![block],
        blocks: vec![0; config.num_hidden_layers],
        head: parts::head(config, after),
        tables: vec![parts::table(config)],
    }
}

fn config_json(_config: &ModelConfig) -> Map<String, Value> {
    object(json!({"mlp_bias": false, "pretraining_tp": 1, "attention_bias": false}))
}
