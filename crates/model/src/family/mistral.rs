//! Mistral: Llama with a sliding window in every block, unless it is null.

use serde_json::{Map, Value, json};

use super::definition::{Family, Windows, object};
use super::parts;
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
    windows: Windows::Everywhere { absent: Some(4096) },
    theta: 1e4,
    read,
    graph,
    // Shorter than the prompts of the tests, so that keys fall out of it.
    tiny: |base| ModelConfig { extra: object(json!({"sliding_window": 20})), ..base },
    config_json,
};

/// transformers' `MistralConfig` has a window of 4,096 where none is mentioned, and 8 key/value heads.
fn read(keys: &Keys<'_>, config: &mut ModelConfig) -> Result<(), ModelError> {
    window(keys, config, Some(4096))?;
    if keys.size("num_key_value_heads")?.is_none() {
        config.num_key_value_heads = 8;
    }
    Ok(())
}

/// Keeps the window of a configuration; `absent` is the one where it is not mentioned.
pub(super) fn window(
    keys: &Keys<'_>,
    config: &mut ModelConfig,
    absent: Option<usize>,
) -> Result<(), ModelError> {
    if let Some(window) = keys.window(absent)? {
        config.extra.insert("sliding_window".to_owned(), json!(window));
    }
    Ok(())
}

/// Llama's attention with the window.
pub(super) fn attention(config: &ModelConfig) -> parts::AttentionParts {
    parts::AttentionParts {
        window: config.extra_size("sliding_window"),
        ..parts::AttentionParts::plain(config)
    }
}

fn graph(config: &ModelConfig) -> Graph {
    let after = Weighting::AfterCast;
    let block = parts::pre_norm_block(config, after, attention(config), &|section, input| {
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
    object(json!({"sliding_window": null}))
}
