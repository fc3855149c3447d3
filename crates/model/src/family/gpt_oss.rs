//! gpt-oss: attention with sinks and a window in every other block, norms that weigh before the cast, and experts of
//! clamped units whose router chooses by logits.

use mantissa_numerics::rotary::Yarn;
use serde_json::{Map, Value, json};

use super::definition::{Family, Windows, kinds, object};
use super::parts;
use crate::arch::Arch;
use crate::config::{ModelConfig, MoeConfig, RopeScaling};
use crate::config_keys::Keys;
use crate::error::ModelError;
use crate::graph::{
    Activation, ExpertLinear, ExpertWeight, Graph, Linear, Operation, Routing, RoutingWeights, Section,
    WeightName, Weighting,
};

impl Arch {
    /// gpt-oss.
    pub const GPT_OSS: Self = Self(FAMILY.name);
}

pub(super) static FAMILY: Family = Family {
    name: "gpt_oss",
    title: "gpt-oss",
    architecture: "GptOssForCausalLM",
    gguf: None,
    keys: &["sliding_window", "layer_types", "swiglu_limit"],
    windows: Windows::ByLayerTypes,
    theta: THETA,
    read,
    graph,
    // A window that keys fall out of, and angles that are stretched within the first tokens.
    tiny: |base| ModelConfig {
        hidden_size: 64,
        intermediate_size: 96,
        rms_norm_eps: 1e-5,
        rope_theta: THETA,
        rope_scaling: Some(RopeScaling::Yarn(yarn(4.0, 64))),
        qkv_bias: true,
        o_bias: true,
        moe: Some(parts::experts_of(16, 4, 96)),
        extra: object(json!({"sliding_window": 16})),
        ..base
    },
    config_json,
};

/// The base of the rotary angles where none is given.
const THETA: f64 = 150_000.0;

/// The factor inside the sigmoid and the bound, which transformers does not read from a configuration.
const ACTIVATION: Activation = Activation::ClampedSwiGlu { alpha: 1.702, limit: LIMIT };
const LIMIT: f64 = 7.0;

/// transformers' stretching where none is given, but for factor and context.
fn yarn(factor: f64, original_max_position_embeddings: usize) -> Yarn {
    Yarn {
        factor,
        original_max_position_embeddings,
        attention_factor: None,
        mscale: None,
        mscale_all_dim: None,
        beta_fast: 32.0,
        beta_slow: 1.0,
        truncate: false,
    }
}

/// transformers' defaults: heads of 64, 8 key/value heads, biases, 4 of 128 experts, a window of 128 in every other
/// block, YaRN from a context of 4,096.
fn read(keys: &Keys<'_>, config: &mut ModelConfig) -> Result<(), ModelError> {
    if !keys.states("head_dim") {
        keys.assume("head_dim", 64);
        config.head_dim = 64;
    }
    if keys.size("num_key_value_heads")?.is_none() {
        let stated = keys.states("num_key_value_heads");
        config.num_key_value_heads = if stated { config.num_attention_heads } else { 8 };
    }
    config.rms_norm_eps = keys.number("rms_norm_eps")?.unwrap_or(1e-5);
    let bias = keys.flag("attention_bias")?.unwrap_or(true);
    (config.qkv_bias, config.o_bias) = (bias, bias);
    if let Some(limit) = keys.number("swiglu_limit")?
        && limit.to_bits() != LIMIT.to_bits()
    {
        return keys.refuse("swiglu_limit", format!("{limit} is not computed"), "use a model with 7.0");
    }
    config.extra.remove("swiglu_limit");
    let Some(window) = keys.window(Some(128))? else {
        return Err(keys.wrong("sliding_window", "a size"));
    };
    config.extra.insert("sliding_window".to_owned(), json!(window));
    parts::check_layer_types(keys, config)?;
    // transformers puts its own in the place of a `rope_parameters` that is null or absent.
    if keys.value("rope_parameters").is_none() && keys.object("rope_scaling")?.is_none() {
        keys.assume("rope_parameters", "yarn by 32 from a context of 4096");
        config.rope_scaling = Some(RopeScaling::Yarn(yarn(32.0, 4096)));
    }
    let experts = keys.experts()?.unwrap_or(128);
    let top = keys.size("num_experts_per_tok")?.unwrap_or(4);
    config.moe = Some(parts::experts_of(experts, top, config.intermediate_size));
    Ok(())
}

fn graph(config: &ModelConfig) -> Graph {
    let before = Weighting::BeforeCast;
    let (kinds, blocks) = kinds(&parts::windowed(config, 2), |windowed| {
        let attention = parts::AttentionParts {
            window: config.extra_size("sliding_window").filter(|_| *windowed),
            sinks: Some("model.layers.{layer}.self_attn.sinks"),
            ..parts::AttentionParts::plain(config)
        };
        let feed_forward = |section: &mut Section, input: usize| match &config.moe {
            Some(moe) => experts(section, config, moe, input),
            None => input,
        };
        parts::pre_norm_block(config, before, attention, &feed_forward)
    });
    Graph {
        stem: parts::stem(config, None),
        kinds,
        blocks,
        head: parts::head(config, before),
        tables: vec![parts::table(config)],
    }
}

/// A stacked product and its bias, `n × k` for each expert.
struct Product {
    name: &'static str,
    weight: WeightName,
    bias: WeightName,
    n: usize,
    k: usize,
}

fn experts(section: &mut Section, config: &ModelConfig, moe: &MoeConfig, input: usize) -> usize {
    let (hidden, inner, experts) = (config.hidden_size, moe.moe_intermediate_size, moe.num_experts);
    let top = moe.num_experts_per_tok;
    let router = Linear {
        weight: "model.layers.{layer}.mlp.router.weight",
        n: experts,
        k: hidden,
        bias: Some("model.layers.{layer}.mlp.router.bias"),
        wide: false,
    };
    let routing = Routing { experts, top, weights: RoutingWeights::TopThenSoftmax };
    let route = parts::route(section, routing, router, input);
    let rows = section.add("", Operation::Gather, &[input, route], hidden);
    let product = |section: &mut Section, of: Product, input| {
        let stacked = |name, transposed| ExpertWeight::Stacked { name, transposed };
        let linear =
            ExpertLinear { weight: stacked(of.weight, true), experts, n: of.n, k: of.k, biased: true };
        let sums = section.add(of.name, Operation::ExpertLinear(linear), &[input, route], of.n);
        let bias = Operation::ExpertBias { weight: stacked(of.bias, false) };
        section.add("expert_bias", bias, &[sums, route], of.n)
    };
    let gate_up = Product {
        name: "expert_gate_up",
        weight: "model.layers.{layer}.mlp.experts.gate_up_proj",
        bias: "model.layers.{layer}.mlp.experts.gate_up_proj_bias",
        n: 2 * inner,
        k: hidden,
    };
    let gate_up = product(section, gate_up, rows);
    let gated = section.add("expert_swiglu", Operation::Gate(ACTIVATION), &[gate_up], inner);
    let down = Product {
        name: "expert_down",
        weight: "model.layers.{layer}.mlp.experts.down_proj",
        bias: "model.layers.{layer}.mlp.experts.down_proj_bias",
        n: hidden,
        k: inner,
    };
    let down = product(section, down, gated);
    section.add("expert_sum", Operation::ExpertSum { top, wide: false }, &[down, route], hidden)
}

fn config_json(config: &ModelConfig) -> Map<String, Value> {
    let mut keys = object(json!({
        "attention_bias": config.qkv_bias,
        "output_router_logits": false,
        "swiglu_limit": LIMIT,
    }));
    if let Some(moe) = &config.moe {
        keys.extend(object(json!({
            "intermediate_size": moe.moe_intermediate_size,
            "num_local_experts": moe.num_experts,
            "num_experts_per_tok": moe.num_experts_per_tok,
        })));
    }
    keys
}
