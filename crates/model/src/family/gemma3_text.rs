//! Gemma 3's text models: Gemma 2 with norms over each head of q and k, no bounds, a window in all but every sixth
//! block, and rotary angles of their own in blocks that have it.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::definition::{Family, Windows, kinds, object};
use super::{gemma2, parts};
use crate::arch::Arch;
use crate::config::ModelConfig;
use crate::config_json::rope::Angles;
use crate::config_keys::Keys;
use crate::error::ModelError;
use crate::graph::{Graph, RotaryTable, Weighting};

impl Arch {
    /// Gemma 3, text.
    pub const GEMMA3_TEXT: Self = Self(FAMILY.name);
}

pub(super) static FAMILY: Family = Family {
    name: "gemma3_text",
    title: "Gemma 3 (text)",
    architecture: "Gemma3ForCausalLM",
    gguf: None,
    keys: &[
        "hidden_act",
        "hidden_activation",
        "sliding_window",
        "sliding_window_pattern",
        "layer_types",
        "query_pre_attn_scalar",
        "use_bidirectional_attention",
        "rope_local_base_freq",
        "rope_parameters",
    ],
    windows: Windows::ByLayerTypes,
    theta: 1e6,
    read,
    graph,
    // One block of six sees everything.
    tiny: |base| ModelConfig {
        num_hidden_layers: 6,
        head_dim: 48,
        num_key_value_heads: 1,
        tie_word_embeddings: true,
        rope_theta: 1e6,
        qk_norm: true,
        extra: object(json!({
            "hidden_activation": gemma2::GELU,
            "sliding_window": 12,
            "query_pre_attn_scalar": 400,
            "rope_local_base_freq": 1e4,
        })),
        ..base
    },
    config_json,
};

/// Bases of 1,000,000 and, in blocks with the window, 10,000; in `rope_parameters` they stand by kind of block.
fn read(keys: &Keys<'_>, config: &mut ModelConfig) -> Result<(), ModelError> {
    gemma2::read_blocks(keys, config)?;
    config.qk_norm = true;
    config.extra.remove("rope_parameters");
    let parameters = keys.object("rope_parameters")?;
    if parameters.is_some_and(|map| !map.values().any(Value::is_object)) {
        let fault = "does not tell kinds of blocks apart";
        return keys.refuse("rope_parameters", fault, "use a model of transformers 5");
    }
    let sliding = match parameters.and_then(|map| map.get("sliding_attention")) {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(map)) => map.clone(),
        Some(_) => return Err(keys.wrong("rope_parameters", "an object for each kind of block")),
    };
    let sliding = Angles { key: "rope_parameters.sliding_attention", map: Cow::Owned(sliding) };
    if keys.scaling(&sliding)?.is_some() {
        let fault = "stretched angles beside a window are not computed";
        return keys.refuse("rope_parameters", fault, "use a model without");
    }
    let local = keys.inside_or_top(&sliding, "rope_theta", "rope_local_base_freq")?.unwrap_or(1e4);
    if !(local.is_finite() && local > 0.0) {
        return Err(keys.wrong("rope_local_base_freq", "a positive number"));
    }
    config.extra.insert("rope_local_base_freq".to_owned(), json!(local));
    if keys.size("sliding_window_pattern")? == Some(0) {
        return Err(keys.wrong("sliding_window_pattern", "at least 1"));
    }
    Ok(())
}

fn graph(config: &ModelConfig) -> Graph {
    let windowed = parts::windowed(config, config.extra_size("sliding_window_pattern").unwrap_or(6));
    let (kinds, blocks) = kinds(&windowed, |windowed| {
        let attention = parts::AttentionParts {
            head_norm: Some(Weighting::OnePlus),
            table: usize::from(*windowed),
            ..gemma2::attention(config, *windowed)
        };
        gemma2::block(config, attention)
    });
    let local = RotaryTable {
        theta: config.extra_number("rope_local_base_freq").unwrap_or(1e4),
        scaling: None,
        ..parts::table(config)
    };
    Graph {
        stem: gemma2::stem(config),
        kinds,
        blocks,
        head: parts::head(config, Weighting::OnePlus),
        tables: vec![parts::table(config), local],
    }
}

fn config_json(_config: &ModelConfig) -> Map<String, Value> {
    object(json!({"hidden_act": gemma2::GELU, "attention_bias": false, "sliding_window": null}))
}
