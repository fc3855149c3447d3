//! Qwen2 and Qwen2.5: Llama with biases on q, k and v.

use serde_json::{Map, Value, json};

use super::definition::{Family, Windows, kinds, object};
use super::parts;
use crate::arch::Arch;
use crate::config::ModelConfig;
use crate::config_keys::Keys;
use crate::error::ModelError;
use crate::graph::{Activation, Graph, Weighting};

impl Arch {
    /// Qwen2 and Qwen2.5.
    pub const QWEN2: Self = Self(FAMILY.name);
}

pub(super) static FAMILY: Family = Family {
    name: "qwen2",
    title: "Qwen2",
    architecture: "Qwen2ForCausalLM",
    gguf: Some("qwen2"),
    keys: &[],
    windows: Windows::FromLayer,
    theta: 1e4,
    read,
    graph: |config| graph(config, &parts::AttentionParts::plain(config)),
    tiny: |base| ModelConfig { tie_word_embeddings: true, rope_theta: 1e6, qkv_bias: true, ..base },
    config_json,
};

/// The biases are there by definition; a sliding window is declared and, unless `use_sliding_window` says so, not used.
fn read(keys: &Keys<'_>, config: &mut ModelConfig) -> Result<(), ModelError> {
    (config.qkv_bias, config.o_bias) = (true, false);
    config.extra.extend(keys.window_from_layer()?);
    Ok(())
}

/// Llama's, with this attention, and a window in some blocks.
pub(super) fn graph(config: &ModelConfig, attention: &parts::AttentionParts) -> Graph {
    let after = Weighting::AfterCast;
    let (kinds, blocks) = kinds(&parts::windows(config), |window| {
        let attention = parts::AttentionParts { window: *window, ..*attention };
        parts::pre_norm_block(config, after, attention, &|section, input| {
            parts::mlp(section, config, Activation::Silu, config.intermediate_size, parts::MLP, input)
        })
    });
    Graph {
        stem: parts::stem(config, None),
        kinds,
        blocks,
        head: parts::head(config, after),
        tables: vec![parts::table(config)],
    }
}

fn config_json(config: &ModelConfig) -> Map<String, Value> {
    object(json!({
        "max_window_layers": config.num_hidden_layers,
        "sliding_window": null,
        "use_sliding_window": false,
    }))
}
