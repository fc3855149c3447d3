//! Qwen2 and Qwen2.5: Llama with biases on q, k and v.

use serde_json::{Map, Value, json};

use super::definition::{Family, Windows, object};
use super::llama;
use crate::arch::Arch;
use crate::config::ModelConfig;
use crate::config_keys::Keys;
use crate::error::ModelError;

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
    graph: llama::graph,
    tiny: |base| ModelConfig { tie_word_embeddings: true, rope_theta: 1e6, qkv_bias: true, ..base },
    config_json,
};

/// The biases are there by definition; a sliding window is declared and, unless `use_sliding_window` says so, not used.
#[expect(clippy::unnecessary_wraps, reason = "other families refuse what they read")]
fn read(_keys: &Keys<'_>, config: &mut ModelConfig) -> Result<(), ModelError> {
    (config.qkv_bias, config.o_bias) = (true, false);
    Ok(())
}

fn config_json(config: &ModelConfig) -> Map<String, Value> {
    object(json!({
        "max_window_layers": config.num_hidden_layers,
        "sliding_window": null,
        "use_sliding_window": false,
    }))
}
