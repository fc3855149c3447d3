//! Mistral: Llama whose queries may see a window of positions only.

use serde_json::{Map, Value, json};

use super::definition::{Family, object};
use super::{llama, parts};
use crate::arch::Arch;
use crate::config::ModelConfig;
use crate::config_keys::Keys;
use crate::error::ModelError;
use crate::graph::{Activation, Graph, Weighting};

impl Arch {
    /// Mistral.
    pub const MISTRAL: Self = Self(FAMILY.name);
}

pub(super) static FAMILY: Family = Family {
    name: "mistral",
    title: "Mistral",
    architecture: "MistralForCausalLM",
    gguf: None,
    keys: &["sliding_window"],
    window_in_use: true,
    read,
    graph,
    tiny: |base| ModelConfig { rope_theta: 1e6, rms_norm_eps: 1e-5, ..base },
    config_json,
};

/// Every projection is without a bias; key/value heads default to 8, as transformers' `MistralConfig`.
fn read(keys: &Keys<'_>, config: &mut ModelConfig) -> Result<(), ModelError> {
    if keys.size("num_key_value_heads")?.is_none() {
        config.num_key_value_heads = 8;
    }
    if keys.size("sliding_window")? == Some(0) {
        return keys.refuse(
            "sliding_window",
            "a window of no position",
            "use a positive size, or null for none",
        );
    }
    Ok(())
}

fn graph(config: &ModelConfig) -> Graph {
    let window = config.extra_size("sliding_window");
    if window.is_none() {
        return llama::graph(config);
    }
    let attention = parts::AttentionParts { window, ..parts::AttentionParts::plain(config) };
    let block = parts::pre_norm_block(config, Weighting::AfterCast, attention, &|section, input| {
        parts::mlp(section, config, Activation::Silu, config.intermediate_size, parts::MLP, input)
    });
    Graph { kinds: vec![block], ..llama::graph(config) }
}

fn config_json(_config: &ModelConfig) -> Map<String, Value> {
    object(json!({"sliding_window": null}))
}
