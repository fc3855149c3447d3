//! DeepSeek-V2: keys and values from a compressed row that is cached in their place, a rotated part of the key that all
//! heads share, and routed experts beside shared ones.
//!
//! As transformers 5.17 computes it, whose cache holds what this one's does: the normed latent row where other models
//! have keys, the rotated shared part where they have values.

use mantissa_numerics::Point;
use serde_json::{Map, Value, json};

use super::definition::{Family, Windows, kinds, object};
use super::parts;
use crate::arch::Arch;
use crate::config::{ModelConfig, MoeConfig, RopeScaling};
use crate::config_keys::Keys;
use crate::error::ModelError;
use crate::graph::{
    Activation, Attention, Expand, Graph, Linear, Norm, Operation, Pairing, Rotary, Routing, RoutingWeights,
    Section, Slice, Slot, WeightName, Weighting, WideRouting,
};

impl Arch {
    /// DeepSeek-V2.
    pub const DEEPSEEK_V2: Self = Self(FAMILY.name);
}

pub(super) static FAMILY: Family = Family {
    name: "deepseek_v2",
    title: "DeepSeek-V2",
    architecture: "DeepseekV2ForCausalLM",
    gguf: None,
    keys: &[
        "q_lora_rank",
        "kv_lora_rank",
        "qk_nope_head_dim",
        "qk_rope_head_dim",
        "v_head_dim",
        "mlp_bias",
        "first_k_dense_replace",
        "n_routed_experts",
        "n_shared_experts",
        "moe_layer_freq",
        "scoring_func",
        "norm_topk_prob",
        "topk_method",
        "n_group",
        "topk_group",
        "routed_scaling_factor",
    ],
    windows: Windows::InCache,
    theta: 1e4,
    read,
    graph,
    // Every width differs from the others, and the angles are stretched within the first tokens.
    tiny: |base| ModelConfig {
        hidden_size: 64,
        intermediate_size: 160,
        num_key_value_heads: 4,
        head_dim: 16,
        rope_scaling: Some(RopeScaling::Yarn(mantissa_numerics::rotary::Yarn {
            factor: 4.0,
            original_max_position_embeddings: 64,
            attention_factor: None,
            mscale: Some(1.0),
            mscale_all_dim: Some(0.707),
            beta_fast: 32.0,
            beta_slow: 1.0,
            truncate: true,
        })),
        moe: Some(experts_of(16, 4, 48, 1)),
        extra: object(json!({
            "q_lora_rank": 48,
            "kv_lora_rank": 40,
            "qk_nope_head_dim": 24,
            "qk_rope_head_dim": 16,
            "v_head_dim": 20,
            "first_k_dense_replace": 1,
            "n_shared_experts": 2,
            "topk_method": "group_limited_greedy",
            "n_group": 4,
            "topk_group": 2,
            "routed_scaling_factor": 1.5,
        })),
        ..base
    },
    config_json,
};

/// Epsilon of the norms of compressed rows, whatever the model's own.
const LATENT_EPS: f64 = 1e-6;

/// Widest of the compressed rows and parts of heads.
const WIDEST: usize = 1 << 16;

fn experts_of(num_experts: usize, top: usize, width: usize, dense: usize) -> MoeConfig {
    MoeConfig {
        num_experts,
        num_experts_per_tok: top,
        moe_intermediate_size: width,
        norm_topk_prob: false,
        decoder_sparse_step: 1,
        mlp_only_layers: (0..dense).collect(),
    }
}

/// transformers' `DeepseekV2Config` where a key is absent; a `q_lora_rank` of null is none.
fn read(keys: &Keys<'_>, config: &mut ModelConfig) -> Result<(), ModelError> {
    for (key, usual) in [
        ("q_lora_rank", 1536),
        ("kv_lora_rank", 512),
        ("qk_nope_head_dim", 128),
        ("qk_rope_head_dim", 64),
        ("v_head_dim", 128),
        ("n_shared_experts", 2),
    ] {
        let size = match keys.size(key)? {
            None if key == "q_lora_rank" && keys.states(key) => continue,
            size => size.unwrap_or(usual),
        };
        if size == 0 || size > WIDEST {
            return Err(keys.wrong(key, &format!("in 1..={WIDEST}")));
        }
        config.extra.insert(key.to_owned(), json!(size));
    }
    config.head_dim = size(config, "qk_rope_head_dim");
    if !config.head_dim.is_multiple_of(2) {
        return Err(keys.wrong("qk_rope_head_dim", "even"));
    }
    if keys.size("num_key_value_heads")?.is_some_and(|heads| heads != config.num_attention_heads) {
        let fault = "key heads of other number than query heads are not computed";
        return keys.refuse("num_key_value_heads", fault, "use a model with as many of each");
    }
    config.num_key_value_heads = config.num_attention_heads;
    let bias = keys.flag("attention_bias")?.unwrap_or(false);
    (config.qkv_bias, config.o_bias) = (bias, bias);
    keys.flag("mlp_bias")?;
    if !matches!(config.rope_scaling, None | Some(RopeScaling::Yarn(_))) {
        return keys.refuse(
            "rope_scaling",
            "is not computed for this family",
            "use a model with none or yarn",
        );
    }
    experts(keys, config)
}

fn experts(keys: &Keys<'_>, config: &mut ModelConfig) -> Result<(), ModelError> {
    // transformers reads none of these and computes what is accepted here; the original program reads them.
    if keys.size("moe_layer_freq")?.is_some_and(|every| every != 1) {
        return keys.refuse(
            "moe_layer_freq",
            "dense blocks in between are not computed",
            "use a model with 1",
        );
    }
    if keys.text("scoring_func")?.is_some_and(|function| function != "softmax") {
        return keys.refuse("scoring_func", "is not computed", "use a model with softmax");
    }
    if keys.flag("norm_topk_prob")?.unwrap_or(false) {
        let fault = "weights that are divided by their sum are not computed";
        return keys.refuse("norm_topk_prob", fault, "use a model with false");
    }
    // Stated elsewhere, or what is always so.
    for key in ["n_routed_experts", "moe_layer_freq", "scoring_func", "norm_topk_prob"] {
        config.extra.remove(key);
    }
    let count = keys.size("n_routed_experts")?.unwrap_or(64);
    let width = keys.size("moe_intermediate_size")?.unwrap_or(1407);
    let dense = keys.size("first_k_dense_replace")?.unwrap_or(0).min(config.num_hidden_layers);
    config.moe = Some(experts_of(count, keys.required("num_experts_per_tok")?, width, dense));
    let factor = keys.number("routed_scaling_factor")?.unwrap_or(1.0);
    if !factor.is_finite() {
        return Err(keys.wrong("routed_scaling_factor", "a number"));
    }
    match keys.text("topk_method")? {
        None if !keys.states("topk_method") => Ok(()),
        Some("greedy") => Ok(()),
        Some("group_limited_greedy") => {
            let (groups, best) = (keys.required("n_group")?, keys.required("topk_group")?);
            if groups == 0 || !count.is_multiple_of(groups) {
                return Err(keys.wrong("n_group", "a divisor of the experts"));
            }
            if best == 0 || best > groups {
                return Err(keys.wrong("topk_group", "at most the groups"));
            }
            Ok(())
        }
        _ => keys.refuse("topk_method", "is not computed", "use greedy or group_limited_greedy"),
    }
}

/// A size that [`read`] has seen to.
fn size(config: &ModelConfig, key: &str) -> usize {
    config.extra_size(key).unwrap_or(1)
}

fn graph(config: &ModelConfig) -> Graph {
    let after = Weighting::AfterCast;
    let sparse: Vec<bool> = (0..config.num_hidden_layers).map(|layer| config.is_sparse(layer)).collect();
    let (kinds, blocks) = kinds(&sparse, |sparse| {
        let feed_forward = |section: &mut Section, input: usize| match &config.moe {
            Some(moe) if *sparse => mixture(section, config, moe, input),
            _ => mlp(section, config, config.intermediate_size, MLP, input),
        };
        let mut section = Section::of_block(config.hidden_size);
        let normed = section.norm("input_norm", 0, parts::norm(config, parts::INPUT_NORM, after));
        let attended = attention(&mut section, config, normed);
        parts::after_attention(&mut section, config, after, 0, attended, &feed_forward);
        section
    });
    Graph {
        stem: parts::stem(config, None),
        kinds,
        blocks,
        head: parts::head(config, after),
        tables: vec![parts::table(config)],
    }
}

/// Queries, by way of a compressed row where there is one; the compressed row of keys and values and the rotated part
/// of keys, both cached; what they expand to.
fn attention(section: &mut Section, config: &ModelConfig, input: usize) -> usize {
    let (hidden, heads) = (config.hidden_size, config.num_attention_heads);
    let latent = size(config, "kv_lora_rank");
    let [nope, rope, value] =
        ["qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"].map(|key| size(config, key));
    let key = nope + rope;
    let plain = |weight, n, k| Linear { weight, n, k, bias: None, wide: false };
    let biased = |weight, bias, n, k| Linear { bias: config.qkv_bias.then_some(bias), ..plain(weight, n, k) };
    let norm =
        |weight, length| Norm { weight, groups: 1, length, eps: LATENT_EPS, weighting: Weighting::AfterCast };
    let compressed = biased(
        "model.layers.{layer}.self_attn.kv_a_proj_with_mqa.weight",
        "model.layers.{layer}.self_attn.kv_a_proj_with_mqa.bias",
        latent + rope,
        hidden,
    );
    let (q, compressed) = match config.extra_size("q_lora_rank") {
        None => {
            let q = plain("model.layers.{layer}.self_attn.q_proj.weight", heads * key, hidden);
            let [q, compressed] = section.linears(input, [("q_proj", q), ("kv_a_proj", compressed)]);
            (q, compressed)
        }
        Some(rank) => {
            let q = biased(
                "model.layers.{layer}.self_attn.q_a_proj.weight",
                "model.layers.{layer}.self_attn.q_a_proj.bias",
                rank,
                hidden,
            );
            let [q, compressed] = section.linears(input, [("q_a_proj", q), ("kv_a_proj", compressed)]);
            let weight = "model.layers.{layer}.self_attn.q_a_layernorm.weight";
            let q = section.norm("q_a_norm", q, norm(weight, rank));
            let expanded = plain("model.layers.{layer}.self_attn.q_b_proj.weight", heads * key, rank);
            (section.linear("q_b_proj", q, expanded), compressed)
        }
    };
    let slice = |section: &mut Section, from, take| {
        let slice = Slice { groups: 1, stride: latent + rope, from, take };
        section.add("", Operation::Slice(slice), &[compressed], take)
    };
    let (row, shared) = (slice(section, 0, latent), slice(section, latent, rope));
    let weight = "model.layers.{layer}.self_attn.kv_a_layernorm.weight";
    let row = section.norm("kv_a_norm", row, norm(weight, latent));
    let rotary = |heads, width, from| {
        let rotary = Rotary { heads, width, from, rotated: rope, table: 0, pairing: Pairing::Neighbours };
        Operation::Rotary(rotary)
    };
    let q = section.add("rotary_q", rotary(heads, key, nope), &[q], heads * key);
    let shared = section.add("rotary_k", rotary(1, rope, 0), &[shared], rope);
    let row = section.append(row, Slot { heads: 1, width: latent });
    let shared = section.append(shared, Slot { heads: 1, width: rope });
    for (place, point) in [(q, Point::Q), (row, Point::K), (shared, Point::V)] {
        section.site(place, point);
    }
    let weight = "model.layers.{layer}.self_attn.kv_b_proj.weight";
    let expand = Operation::Expand(Expand { weight, heads, latent, nope, rope, value });
    let expanded = section.add("kv_b_proj", expand, &[row, shared], heads * (key + value));
    let attention = Attention {
        heads,
        kv_heads: heads,
        key_dim: key,
        value_dim: value,
        scale: scale(config, key),
        window: None,
        cap: None,
        sinks: None,
    };
    let attended = section.add("attention", Operation::Attention(attention), &[q, expanded], heads * value);
    let weight = "model.layers.{layer}.self_attn.o_proj.weight";
    let output = biased(weight, "model.layers.{layer}.self_attn.o_proj.bias", hidden, heads * value);
    section.linear("o_proj", attended, output)
}

/// The inverse root of a key's width, times YaRN's factor twice, in Python's order.
fn scale(config: &ModelConfig, key: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "Python's own conversion of a small integer")]
    let root = (key as f64).powf(-0.5);
    match &config.rope_scaling {
        Some(RopeScaling::Yarn(yarn)) => root * yarn.score_factor() * yarn.score_factor(),
        _ => root,
    }
}

/// Weights and biases of an MLP: gate, up, down.
type MlpNames = [(WeightName, WeightName); 3];

const MLP: MlpNames = [
    ("model.layers.{layer}.mlp.gate_proj.weight", "model.layers.{layer}.mlp.gate_proj.bias"),
    ("model.layers.{layer}.mlp.up_proj.weight", "model.layers.{layer}.mlp.up_proj.bias"),
    ("model.layers.{layer}.mlp.down_proj.weight", "model.layers.{layer}.mlp.down_proj.bias"),
];

const SHARED: MlpNames = [
    (
        "model.layers.{layer}.mlp.shared_experts.gate_proj.weight",
        "model.layers.{layer}.mlp.shared_experts.gate_proj.bias",
    ),
    (
        "model.layers.{layer}.mlp.shared_experts.up_proj.weight",
        "model.layers.{layer}.mlp.shared_experts.up_proj.bias",
    ),
    (
        "model.layers.{layer}.mlp.shared_experts.down_proj.weight",
        "model.layers.{layer}.mlp.shared_experts.down_proj.bias",
    ),
];

fn mlp(section: &mut Section, config: &ModelConfig, inner: usize, names: MlpNames, input: usize) -> usize {
    let hidden = config.hidden_size;
    let has_bias = config.extra.get("mlp_bias").and_then(Value::as_bool).unwrap_or(false);
    let linear = |(weight, bias): (WeightName, WeightName), n, k| Linear {
        weight,
        n,
        k,
        bias: has_bias.then_some(bias),
        wide: false,
    };
    let [gate, up, down] = names;
    let inwards = [("gate_proj", linear(gate, inner, hidden)), ("up_proj", linear(up, inner, hidden))];
    let [gate, up] = section.linears(input, inwards);
    let gated = section.add("swiglu", Operation::Gate(Activation::Silu), &[gate, up], inner);
    section.linear("down_proj", gated, linear(down, hidden, inner))
}

/// Routed experts plus the shared ones, which are one wide MLP.
fn mixture(section: &mut Section, config: &ModelConfig, moe: &MoeConfig, input: usize) -> usize {
    let method = config.extra.get("topk_method").and_then(Value::as_str);
    let groups = config.extra_size("n_group").zip(config.extra_size("topk_group"));
    let weights = RoutingWeights::SoftmaxThenTop {
        renormalize: false,
        scale: config.extra_number("routed_scaling_factor").unwrap_or(1.0),
        wide: WideRouting::LogitsAndWeights,
        groups: groups.filter(|_| method == Some("group_limited_greedy")),
    };
    let routing = Routing { experts: moe.num_experts, top: moe.num_experts_per_tok, weights };
    let expert = [
        "model.layers.{layer}.mlp.experts.{expert}.gate_proj.weight",
        "model.layers.{layer}.mlp.experts.{expert}.up_proj.weight",
        "model.layers.{layer}.mlp.experts.{expert}.down_proj.weight",
    ];
    let router = "model.layers.{layer}.mlp.gate.weight";
    let routed = parts::experts(section, config, moe, routing, router, expert, input);
    let inner = moe.moe_intermediate_size * size(config, "n_shared_experts");
    let shared = mlp(section, config, inner, SHARED, input);
    section.add("shared_sum", Operation::Add, &[routed, shared], config.hidden_size)
}

fn config_json(config: &ModelConfig) -> Map<String, Value> {
    let mut keys = object(json!({
        "attention_bias": config.qkv_bias,
        "norm_topk_prob": false,
        "q_lora_rank": null,
        "scoring_func": "softmax",
    }));
    if let Some(moe) = &config.moe {
        keys.extend(object(json!({
            "moe_intermediate_size": moe.moe_intermediate_size,
            "n_routed_experts": moe.num_experts,
            "num_experts_per_tok": moe.num_experts_per_tok,
        })));
    }
    keys
}
