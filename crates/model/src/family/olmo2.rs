//! OLMo 2: norms behind attention and MLP instead of before them, and over the whole of q and k.

use mantissa_numerics::Point;
use serde_json::{Map, Value, json};

use super::definition::{Family, Windows, object};
use super::parts;
use crate::arch::Arch;
use crate::config::ModelConfig;
use crate::config_keys::Keys;
use crate::error::ModelError;
use crate::graph::{Activation, Graph, Linear, Norm, Pairing, Section, Weighting};

impl Arch {
    /// OLMo 2.
    pub const OLMO2: Self = Self(FAMILY.name);
}

pub(super) static FAMILY: Family = Family {
    name: "olmo2",
    title: "OLMo 2",
    architecture: "Olmo2ForCausalLM",
    gguf: None,
    keys: &[],
    windows: Windows::InCache,
    theta: 1e4,
    read,
    graph,
    tiny: |base| ModelConfig { rms_norm_eps: 1e-5, rope_theta: 5e5, ..base },
    config_json,
};

/// Key/value heads default to query heads, epsilon to 1e-5; heads have no width of their own.
fn read(keys: &Keys<'_>, config: &mut ModelConfig) -> Result<(), ModelError> {
    let bias = keys.flag("attention_bias")?.unwrap_or(false);
    (config.qkv_bias, config.o_bias) = (bias, bias);
    config.rms_norm_eps = keys.number("rms_norm_eps")?.unwrap_or(1e-5);
    if keys.size("num_key_value_heads")?.is_none() {
        config.num_key_value_heads = config.num_attention_heads;
    }
    Ok(())
}

fn graph(config: &ModelConfig) -> Graph {
    Graph {
        stem: parts::stem(config, None),
        kinds: vec![block(config)],
        blocks: vec![0; config.num_hidden_layers],
        head: parts::head(config, Weighting::BeforeCast),
        tables: vec![parts::table(config)],
    }
}

fn block(config: &ModelConfig) -> Section {
    let hidden = config.hidden_size;
    let mut section = Section::of_block(hidden);
    let norm = |weight| parts::norm(config, weight, Weighting::BeforeCast);
    let attended = attention(&mut section, config);
    section.site(attended, Point::AttnOut);
    let normed = section.norm("post_attention_norm", attended, norm(parts::POST_ATTENTION_NORM));
    let stream = parts::residual(&mut section, 0, normed, hidden);
    section.site(stream, Point::XAfterAttn);
    let inner = config.intermediate_size;
    let out = parts::mlp(&mut section, config, Activation::Silu, inner, parts::MLP, stream);
    section.site(out, Point::MlpOut);
    let weight = "model.layers.{layer}.post_feedforward_layernorm.weight";
    let normed = section.norm("post_feedforward_norm", out, norm(weight));
    let stream = parts::residual(&mut section, stream, normed, hidden);
    section.site(stream, Point::XOut);
    section
}

/// Projections, norms over all heads of q and of k together, attention, output projection.
fn attention(section: &mut Section, config: &ModelConfig) -> usize {
    let hidden = config.hidden_size;
    let wide = config.num_attention_heads * config.head_dim;
    let narrow = config.num_key_value_heads * config.head_dim;
    let project =
        |weight, bias, n| Linear { weight, n, k: hidden, bias: config.qkv_bias.then_some(bias), wide: false };
    let q = project(
        "model.layers.{layer}.self_attn.q_proj.weight",
        "model.layers.{layer}.self_attn.q_proj.bias",
        wide,
    );
    let k = project(
        "model.layers.{layer}.self_attn.k_proj.weight",
        "model.layers.{layer}.self_attn.k_proj.bias",
        narrow,
    );
    let v = project(
        "model.layers.{layer}.self_attn.v_proj.weight",
        "model.layers.{layer}.self_attn.v_proj.bias",
        narrow,
    );
    let [q, k, v] = section.linears(0, [("q_proj", q), ("k_proj", k), ("v_proj", v)]);
    let norm = |weight, length| Norm {
        weight,
        groups: 1,
        length,
        eps: config.rms_norm_eps,
        weighting: Weighting::BeforeCast,
    };
    let q = section.norm("q_norm", q, norm("model.layers.{layer}.self_attn.q_norm.weight", wide));
    let k = section.norm("k_norm", k, norm("model.layers.{layer}.self_attn.k_norm.weight", narrow));
    // Tables stay in binary32 here, and so does what they are multiplied with.
    let turned =
        parts::AttentionParts { pairing: Pairing::WideHalves, ..parts::AttentionParts::plain(config) };
    let attended = parts::attended(section, config, turned, [q, k, v]);
    let bias = config.o_bias.then_some("model.layers.{layer}.self_attn.o_proj.bias");
    let weight = "model.layers.{layer}.self_attn.o_proj.weight";
    section.linear("o_proj", attended, Linear { weight, n: hidden, k: wide, bias, wide: false })
}

fn config_json(_config: &ModelConfig) -> Map<String, Value> {
    object(json!({"attention_bias": false}))
}
