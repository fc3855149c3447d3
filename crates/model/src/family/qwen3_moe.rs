//! Qwen3-MoE: Qwen3 with routed experts in all or some blocks.

use serde_json::{Map, Value, json};

use super::definition::{Family, Windows, kinds, object};
use super::{parts, qwen3};
use crate::arch::Arch;
use crate::config::{ModelConfig, MoeConfig};
use crate::config_keys::Keys;
use crate::error::ModelError;
use crate::graph::{Activation, Graph, Routing, RoutingWeights, Section, Weighting, WideRouting};

impl Arch {
    /// Qwen3-MoE.
    pub const QWEN3_MOE: Self = Self(FAMILY.name);
}

pub(super) static FAMILY: Family = Family {
    name: "qwen3_moe",
    title: "Qwen3-MoE",
    architecture: "Qwen3MoeForCausalLM",
    gguf: Some("qwen3moe"),
    keys: &[],
    windows: Windows::BySwitch,
    theta: 1e4,
    read,
    graph,
    tiny: |base| ModelConfig {
        hidden_size: 64,
        intermediate_size: 192,
        rope_theta: 1e6,
        qk_norm: true,
        moe: Some(MoeConfig {
            num_experts: 128,
            num_experts_per_tok: 8,
            moe_intermediate_size: 32,
            norm_topk_prob: true,
            decoder_sparse_step: 1,
            mlp_only_layers: Vec::new(),
        }),
        ..base
    },
    config_json,
};

fn read(keys: &Keys<'_>, config: &mut ModelConfig) -> Result<(), ModelError> {
    qwen3::read_attention(keys, config)?;
    config.extra.extend(keys.window_by_switch()?);
    config.moe = Some(MoeConfig {
        norm_topk_prob: keys.flag("norm_topk_prob")?.unwrap_or(false),
        decoder_sparse_step: keys.size("decoder_sparse_step")?.unwrap_or(1),
        mlp_only_layers: keys.sizes("mlp_only_layers", "a list of layers")?.unwrap_or_default(),
        ..keys.moe()?
    });
    Ok(())
}

fn config_json(config: &ModelConfig) -> Map<String, Value> {
    let mut keys = qwen3::config_json(config);
    if let Some(moe) = &config.moe {
        keys.extend(object(json!({
            "decoder_sparse_step": moe.decoder_sparse_step,
            "mlp_only_layers": moe.mlp_only_layers,
            "moe_intermediate_size": moe.moe_intermediate_size,
            "norm_topk_prob": moe.norm_topk_prob,
            "num_experts": moe.num_experts,
            "num_experts_per_tok": moe.num_experts_per_tok,
            "output_router_logits": false,
            "router_aux_loss_coef": 0.001,
        })));
    }
    keys
}

fn graph(config: &ModelConfig) -> Graph {
    let block = |sparse: bool| {
        let feed_forward = |section: &mut Section, input: usize| match &config.moe {
            Some(moe) if sparse => experts(section, config, moe, input),
            _ => parts::mlp(section, config, Activation::Silu, config.intermediate_size, parts::MLP, input),
        };
        let attention =
            parts::AttentionParts { window: config.extra_size("sliding_window"), ..qwen3::attention(config) };
        parts::pre_norm_block(config, Weighting::AfterCast, attention, &feed_forward)
    };
    let sparse: Vec<bool> = (0..config.num_hidden_layers).map(|layer| config.is_sparse(layer)).collect();
    let (kinds, blocks) = kinds(&sparse, |sparse| block(*sparse));
    Graph {
        stem: parts::stem(config, None),
        kinds,
        blocks,
        head: parts::head(config, Weighting::AfterCast),
        tables: vec![parts::table(config)],
    }
}

fn experts(section: &mut Section, config: &ModelConfig, moe: &MoeConfig, input: usize) -> usize {
    let weights = RoutingWeights::SoftmaxThenTop {
        renormalize: moe.norm_topk_prob,
        scale: 1.0,
        wide: WideRouting::Nothing,
        groups: None,
    };
    let routing = Routing { experts: moe.num_experts, top: moe.num_experts_per_tok, weights };
    let expert = [
        "model.layers.{layer}.mlp.experts.{expert}.gate_proj.weight",
        "model.layers.{layer}.mlp.experts.{expert}.up_proj.weight",
        "model.layers.{layer}.mlp.experts.{expert}.down_proj.weight",
    ];
    parts::experts(section, config, moe, routing, "model.layers.{layer}.mlp.gate.weight", expert, input)
}
