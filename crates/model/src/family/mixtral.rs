//! Mixtral: Mistral with routed experts in every block, whose chosen weights always add up to one and stay in binary32.

use serde_json::{Map, Value, json};

use super::definition::{Family, Windows, object};
use super::{mistral, parts};
use crate::arch::Arch;
use crate::config::{ModelConfig, MoeConfig};
use crate::config_keys::Keys;
use crate::error::ModelError;
use crate::graph::{Graph, Routing, RoutingWeights, Section, Weighting, WideRouting};

impl Arch {
    /// Mixtral.
    pub const MIXTRAL: Self = Self(FAMILY.name);
}

pub(super) static FAMILY: Family = Family {
    name: "mixtral",
    title: "Mixtral",
    architecture: "MixtralForCausalLM",
    gguf: None,
    keys: &["sliding_window"],
    windows: Windows::Everywhere { absent: None },
    theta: 1e6,
    read,
    graph,
    tiny: |base| ModelConfig {
        hidden_size: 64,
        intermediate_size: 96,
        head_dim: 16,
        rms_norm_eps: 1e-5,
        rope_theta: 1e6,
        moe: Some(parts::experts_of(8, 2, 96)),
        ..base
    },
    config_json,
};

/// transformers' defaults: 8 key/value heads, 2 of 8 experts, an epsilon of 1e-5, no window.
fn read(keys: &Keys<'_>, config: &mut ModelConfig) -> Result<(), ModelError> {
    mistral::window(keys, config, None)?;
    if keys.size("num_key_value_heads")?.is_none() {
        config.num_key_value_heads = 8;
    }
    config.rms_norm_eps = keys.number("rms_norm_eps")?.unwrap_or(1e-5);
    let experts = keys.experts()?.unwrap_or(8);
    let top = keys.size("num_experts_per_tok")?.unwrap_or(2);
    config.moe = Some(parts::experts_of(experts, top, config.intermediate_size));
    Ok(())
}

fn graph(config: &ModelConfig) -> Graph {
    let after = Weighting::AfterCast;
    let feed_forward = |section: &mut Section, input: usize| match &config.moe {
        Some(moe) => experts(section, config, moe, input),
        None => input,
    };
    let block = parts::pre_norm_block(config, after, mistral::attention(config), &feed_forward);
    Graph {
        stem: parts::stem(config, None),
        kinds: vec![block],
        blocks: vec![0; config.num_hidden_layers],
        head: parts::head(config, after),
        tables: vec![parts::table(config)],
    }
}

fn experts(section: &mut Section, config: &ModelConfig, moe: &MoeConfig, input: usize) -> usize {
    let weights = RoutingWeights::SoftmaxThenTop {
        renormalize: true,
        scale: 1.0,
        wide: WideRouting::Weights,
        groups: None,
    };
    let routing = Routing { experts: moe.num_experts, top: moe.num_experts_per_tok, weights };
    let expert = [
        "model.layers.{layer}.block_sparse_moe.experts.{expert}.w1.weight",
        "model.layers.{layer}.block_sparse_moe.experts.{expert}.w3.weight",
        "model.layers.{layer}.block_sparse_moe.experts.{expert}.w2.weight",
    ];
    let router = "model.layers.{layer}.block_sparse_moe.gate.weight";
    parts::experts(section, config, moe, routing, router, expert, input)
}

fn config_json(config: &ModelConfig) -> Map<String, Value> {
    let mut keys = object(json!({"sliding_window": null, "output_router_logits": false}));
    if let Some(moe) = &config.moe {
        keys.extend(object(json!({
            "intermediate_size": moe.moe_intermediate_size,
            "num_local_experts": moe.num_experts,
            "num_experts_per_tok": moe.num_experts_per_tok,
        })));
    }
    keys
}
