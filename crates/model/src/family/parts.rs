//! What families share: the embedding, attention over cached heads, the gated MLP, routed experts, the head.
//!
//! Each function adds nodes to a section and returns the place of its result; names of kernels and weights are those of
//! Hugging Face's Llama, from which a family departs in its own file.

use mantissa_numerics::Point;
use serde_json::Value;

use crate::config::{ModelConfig, MoeConfig};
use crate::config_keys::Keys;
use crate::error::ModelError;
use crate::graph::{
    Activation, Attention, ExpertLinear, ExpertWeight, Linear, Norm, Operation, Pairing, Rotary, RotaryTable,
    Routing, RoutingWeights, Section, Slot, WeightName, Weighting, WideRouting,
};

pub(crate) const EMBEDDING: WeightName = "model.embed_tokens.weight";
pub(crate) const INPUT_NORM: WeightName = "model.layers.{layer}.input_layernorm.weight";
pub(crate) const POST_ATTENTION_NORM: WeightName = "model.layers.{layer}.post_attention_layernorm.weight";

/// Tokens to rows, times `scale` if there is one.
pub(crate) fn stem(config: &ModelConfig, scale: Option<f64>) -> Section {
    let mut section = Section::default();
    let operation = Operation::Embedding { weight: EMBEDDING, vocabulary: config.vocab_size, scale };
    let rows = section.add("embedding", operation, &[], config.hidden_size);
    section.site(rows, Point::EmbedOut);
    section
}

/// A norm over whole rows.
pub(crate) fn norm(config: &ModelConfig, weight: WeightName, weighting: Weighting) -> Norm {
    Norm { weight, groups: 1, length: config.hidden_size, eps: config.rms_norm_eps, weighting }
}

/// The one rotary table of most models.
pub(crate) fn table(config: &ModelConfig) -> RotaryTable {
    RotaryTable {
        dim: config.rotary_dim(),
        theta: config.rope_theta,
        scaling: config.rope_scaling.clone(),
        max_positions: config.max_position_embeddings,
    }
}

/// How a family's attention departs from Llama's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttentionParts {
    /// Norm of each query and key head before the rotation.
    pub head_norm: Option<Weighting>,
    /// Place in the graph's rotary tables.
    pub table: usize,
    /// How pairs are turned.
    pub pairing: Pairing,
    /// Factor of the scores.
    pub scale: f64,
    /// Positions that a query sees.
    pub window: Option<usize>,
    /// Bound of the scores.
    pub cap: Option<f64>,
    /// Logits without values.
    pub sinks: Option<WeightName>,
}

impl AttentionParts {
    /// Llama's.
    pub(crate) fn plain(config: &ModelConfig) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "Python's own conversion of a small integer")]
        let scale = (config.head_dim as f64).powf(-0.5);
        let pairing = Pairing::Halves;
        Self { head_norm: None, table: 0, pairing, scale, window: None, cap: None, sinks: None }
    }
}

/// Projections, head norms, rotation, cache, attention and output projection of normed rows at `input`.
pub(crate) fn attention(
    section: &mut Section,
    config: &ModelConfig,
    parts: AttentionParts,
    input: usize,
) -> usize {
    let hidden = config.hidden_size;
    let (wide, narrow) =
        (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim);
    let project =
        |weight, bias, n| Linear { weight, n, k: hidden, bias: config.qkv_bias.then_some(bias), wide: false };
    let [q, k, v] = section.linears(
        input,
        [
            (
                "q_proj",
                project(
                    "model.layers.{layer}.self_attn.q_proj.weight",
                    "model.layers.{layer}.self_attn.q_proj.bias",
                    wide,
                ),
            ),
            (
                "k_proj",
                project(
                    "model.layers.{layer}.self_attn.k_proj.weight",
                    "model.layers.{layer}.self_attn.k_proj.bias",
                    narrow,
                ),
            ),
            (
                "v_proj",
                project(
                    "model.layers.{layer}.self_attn.v_proj.weight",
                    "model.layers.{layer}.self_attn.v_proj.bias",
                    narrow,
                ),
            ),
        ],
    );
    let (mut q, mut k) = (q, k);
    if let Some(weighting) = parts.head_norm {
        let head_norm = |weight, groups| Norm {
            weight,
            groups,
            length: config.head_dim,
            eps: config.rms_norm_eps,
            weighting,
        };
        let of_q = head_norm("model.layers.{layer}.self_attn.q_norm.weight", config.num_attention_heads);
        q = section.norm("q_norm", q, of_q);
        let of_k = head_norm("model.layers.{layer}.self_attn.k_norm.weight", config.num_key_value_heads);
        k = section.norm("k_norm", k, of_k);
    }
    let attended = attended(section, config, parts, [q, k, v]);
    let bias: Option<WeightName> = config.o_bias.then_some("model.layers.{layer}.self_attn.o_proj.bias");
    let output = Linear {
        weight: "model.layers.{layer}.self_attn.o_proj.weight",
        n: hidden,
        k: wide,
        bias,
        wide: false,
    };
    section.linear("o_proj", attended, output)
}

/// Rotation, cache and attention of projected queries, keys and values.
pub(crate) fn attended(
    section: &mut Section,
    config: &ModelConfig,
    parts: AttentionParts,
    [q, k, v]: [usize; 3],
) -> usize {
    let (heads, kv_heads, dim) = (config.num_attention_heads, config.num_key_value_heads, config.head_dim);
    let rotary = |heads| {
        Operation::Rotary(Rotary {
            heads,
            width: dim,
            from: 0,
            rotated: config.rotary_dim(),
            table: parts.table,
            pairing: parts.pairing,
        })
    };
    let q = section.add("rotary_q", rotary(heads), &[q], heads * dim);
    let k = section.add("rotary_k", rotary(kv_heads), &[k], kv_heads * dim);
    let slot = Slot { heads: kv_heads, width: dim };
    let (k, v) = (section.append(k, slot), section.append(v, slot));
    for (place, point) in [(q, Point::Q), (k, Point::K), (v, Point::V)] {
        section.site(place, point);
    }
    let attention = Attention {
        heads,
        kv_heads,
        key_dim: dim,
        value_dim: dim,
        scale: parts.scale,
        window: parts.window,
        cap: parts.cap,
        sinks: parts.sinks,
    };
    section.add("attention", Operation::Attention(attention), &[q, k, v], heads * dim)
}

/// Gate, up and down projections of rows at `input`, `inner` wide.
pub(crate) fn mlp(
    section: &mut Section,
    config: &ModelConfig,
    activation: Activation,
    inner: usize,
    weights: [WeightName; 3],
    input: usize,
) -> usize {
    let hidden = config.hidden_size;
    let [gate, up, down] = weights;
    let inwards = |weight| Linear { weight, n: inner, k: hidden, bias: None, wide: false };
    let [gate, up] = section.linears(input, [("gate_proj", inwards(gate)), ("up_proj", inwards(up))]);
    let name = if activation == Activation::GeluTanh { "geglu" } else { "swiglu" };
    let gated = section.add(name, Operation::Gate(activation), &[gate, up], inner);
    section.linear("down_proj", gated, Linear { weight: down, n: hidden, k: inner, bias: None, wide: false })
}

/// Names of the dense MLP's weights.
pub(crate) const MLP: [WeightName; 3] = [
    "model.layers.{layer}.mlp.gate_proj.weight",
    "model.layers.{layer}.mlp.up_proj.weight",
    "model.layers.{layer}.mlp.down_proj.weight",
];

/// The router's logits of rows at `input`, and the choice.
pub(crate) fn route(section: &mut Section, routing: Routing, router: Linear, input: usize) -> usize {
    let logits = section.linear("router", input, router);
    section.site(logits, Point::RouterLogits);
    let route = section.add("router_topk", Operation::Route(routing), &[logits], 2 * routing.top);
    section.site(route, Point::RouterTopk);
    route
}

/// Routed experts of rows at `input`: router, choice, three products per expert, sum.
pub(crate) fn experts(
    section: &mut Section,
    config: &ModelConfig,
    moe: &MoeConfig,
    routing: Routing,
    router: WeightName,
    [gate, up, down]: [WeightName; 3],
    input: usize,
) -> usize {
    let (hidden, inner, experts) = (config.hidden_size, moe.moe_intermediate_size, moe.num_experts);
    let top = moe.num_experts_per_tok;
    let wide =
        matches!(routing.weights, RoutingWeights::SoftmaxThenTop { wide: WideRouting::LogitsAndWeights, .. });
    let router = Linear { weight: router, n: experts, k: hidden, bias: None, wide };
    let route = route(section, routing, router, input);
    let rows = section.add("", Operation::Gather, &[input, route], hidden);
    let product = |section: &mut Section, name, weight, input, n, k| {
        let weight = ExpertWeight::Each(weight);
        let linear = ExpertLinear { weight, experts, n, k, biased: false };
        section.add(name, Operation::ExpertLinear(linear), &[input, route], n)
    };
    let gate = product(section, "expert_gate", gate, rows, inner, hidden);
    let up = product(section, "expert_up", up, rows, inner, hidden);
    let gated = section.add("expert_swiglu", Operation::Gate(Activation::Silu), &[gate, up], inner);
    let down = product(section, "expert_down", down, gated, hidden, inner);
    let wide = routing.weights.are_wide();
    section.add("expert_sum", Operation::ExpertSum { top, wide }, &[down, route], hidden)
}

/// Adds `change` to the residual stream at `stream`.
pub(crate) fn residual(section: &mut Section, stream: usize, change: usize, width: usize) -> usize {
    section.add("residual", Operation::Add, &[stream, change], width)
}

/// Final norm and logits.
pub(crate) fn head(config: &ModelConfig, weighting: Weighting) -> Section {
    let mut section = Section::default();
    let input = section.add("", Operation::Input, &[], config.hidden_size);
    let normed = section.norm("final_norm", input, norm(config, "model.norm.weight", weighting));
    section.site(normed, Point::FinalNorm);
    let weight = if config.tie_word_embeddings { EMBEDDING } else { "lm_head.weight" };
    let linear = Linear { weight, n: config.vocab_size, k: config.hidden_size, bias: None, wide: false };
    let logits = section.linear("lm_head", normed, linear);
    section.site(logits, Point::Logits);
    section
}

/// What follows attention in a block.
pub(crate) type FeedForward<'f> = &'f dyn Fn(&mut Section, usize) -> usize;

/// A block that norms before attention and before the feed-forward part, as Llama's.
pub(crate) fn pre_norm_block(
    config: &ModelConfig,
    weighting: Weighting,
    parts: AttentionParts,
    feed_forward: FeedForward<'_>,
) -> Section {
    let hidden = config.hidden_size;
    let mut section = Section::of_block(hidden);
    let normed = section.norm("input_norm", 0, norm(config, INPUT_NORM, weighting));
    let attended = attention(&mut section, config, parts, normed);
    after_attention(&mut section, config, weighting, 0, attended, feed_forward);
    section
}

/// The rest of such a block: residual, norm, feed-forward part, residual.
pub(crate) fn after_attention(
    section: &mut Section,
    config: &ModelConfig,
    weighting: Weighting,
    stream: usize,
    attended: usize,
    feed_forward: FeedForward<'_>,
) {
    let hidden = config.hidden_size;
    section.site(attended, Point::AttnOut);
    let stream = residual(section, stream, attended, hidden);
    section.site(stream, Point::XAfterAttn);
    let normed = section.norm("post_attention_norm", stream, norm(config, POST_ATTENTION_NORM, weighting));
    section.site(normed, Point::FfnNorm);
    let out = feed_forward(section, normed);
    section.site(out, Point::MlpOut);
    let stream = residual(section, stream, out, hidden);
    section.site(stream, Point::XOut);
}

/// Experts in every block, the weights of those chosen divided by their sum.
pub(super) fn experts_of(num_experts: usize, num_experts_per_tok: usize, width: usize) -> MoeConfig {
    MoeConfig {
        num_experts,
        num_experts_per_tok,
        moe_intermediate_size: width,
        norm_topk_prob: true,
        decoder_sparse_step: 1,
        mlp_only_layers: Vec::new(),
    }
}

/// Refuses `layer_types` that do not say of each block whether it has the window.
pub(super) fn check_layer_types(keys: &Keys<'_>, config: &ModelConfig) -> Result<(), ModelError> {
    if let Some(value) = keys.value("layer_types") {
        let known = |kind: &Value| matches!(kind.as_str(), Some("full_attention" | "sliding_attention"));
        let fits = |list: &Vec<Value>| list.len() == config.num_hidden_layers && list.iter().all(known);
        if !value.as_array().is_some_and(fits) {
            let want = "full_attention or sliding_attention for each layer";
            return Err(keys.wrong("layer_types", want));
        }
    }
    Ok(())
}

/// The window of each block where a configuration keeps one: of the blocks that `layer_types` names, else of those from
/// `max_window_layers` on.
pub(super) fn windows(config: &ModelConfig) -> Vec<Option<usize>> {
    let stated = config.extra.get("layer_types").and_then(Value::as_array);
    let first = config.extra_size("max_window_layers").unwrap_or(0);
    let window = config.extra_size("sliding_window");
    let of_layer = |layer: usize| match stated.and_then(|list| list.get(layer)) {
        Some(kind) => window.filter(|_| kind.as_str() == Some("sliding_attention")),
        None => window.filter(|_| layer >= first),
    };
    (0..config.num_hidden_layers).map(of_layer).collect()
}

/// Whether each block has the window: as `layer_types` says, else all but every `pattern`-th.
pub(super) fn windowed(config: &ModelConfig, pattern: usize) -> Vec<bool> {
    let stated = config.extra.get("layer_types").and_then(Value::as_array);
    let of_layer = |layer: usize| match stated.and_then(|list| list.get(layer)) {
        Some(kind) => kind.as_str() == Some("sliding_attention"),
        None => !(layer + 1).is_multiple_of(pattern),
    };
    (0..config.num_hidden_layers).map(of_layer).collect()
}
