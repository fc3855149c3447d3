//! Gemma 2: norms around attention and MLP that weigh by 1 + w, bounds of scores and logits, GELU, a scaled embedding,
//! and a window in every other block.

use mantissa_numerics::Point;
use serde_json::{Map, Value, json};

use super::definition::{Family, Windows, kinds, object};
use super::parts;
use crate::arch::Arch;
use crate::config::ModelConfig;
use crate::config_keys::Keys;
use crate::error::ModelError;
use crate::graph::{Activation, Graph, Operation, Section, Weighting};

impl Arch {
    /// Gemma 2.
    pub const GEMMA2: Self = Self(FAMILY.name);
}

pub(super) static FAMILY: Family = Family {
    name: "gemma2",
    title: "Gemma 2",
    architecture: "Gemma2ForCausalLM",
    gguf: None,
    keys: &[
        "hidden_act",
        "hidden_activation",
        "sliding_window",
        "layer_types",
        "query_pre_attn_scalar",
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "use_bidirectional_attention",
    ],
    windows: Windows::ByLayerTypes,
    theta: 1e4,
    read,
    graph,
    // A window that keys fall out of, and bounds that bite.
    tiny: |base| ModelConfig {
        tie_word_embeddings: true,
        extra: object(json!({
            "hidden_activation": GELU,
            "sliding_window": 17,
            "query_pre_attn_scalar": 24,
            "attn_logit_softcapping": 4.0,
            "final_logit_softcapping": 6.0,
        })),
        ..base
    },
    config_json,
};

/// The activation that is computed, under transformers' name.
pub(super) const GELU: &str = "gelu_pytorch_tanh";

/// transformers' `Gemma2Config`: bounds of 50 and 30 where none are mentioned.
fn read(keys: &Keys<'_>, config: &mut ModelConfig) -> Result<(), ModelError> {
    read_blocks(keys, config)?;
    for (key, usual) in [("attn_logit_softcapping", 50.0), ("final_logit_softcapping", 30.0)] {
        let cap = if keys.states(key) { keys.number(key)? } else { Some(usual) };
        if let Some(cap) = cap {
            if !(cap.is_finite() && cap > 0.0) {
                return Err(keys.wrong(key, "a positive number"));
            }
            config.extra.insert(key.to_owned(), json!(cap));
        }
    }
    Ok(())
}

/// What Gemma 2 and 3 have in common: heads of 256, 4 key/value heads, a tied output, a window of 4,096.
pub(super) fn read_blocks(keys: &Keys<'_>, config: &mut ModelConfig) -> Result<(), ModelError> {
    match keys.text("hidden_activation")? {
        None | Some(GELU) => {}
        Some(_) => return keys.refuse("hidden_activation", "is not computed", "use gelu_pytorch_tanh"),
    }
    if keys.flag("use_bidirectional_attention")?.unwrap_or(false) {
        let fault = "attention to later tokens is not computed";
        return keys.refuse("use_bidirectional_attention", fault, "use a causal model");
    }
    // Left out below: what transformers does not read.
    config.extra.remove("hidden_act");
    config.extra.remove("use_bidirectional_attention");
    config.extra.insert("hidden_activation".to_owned(), json!(GELU));
    let bias = keys.flag("attention_bias")?.unwrap_or(false);
    (config.qkv_bias, config.o_bias) = (bias, bias);
    config.tie_word_embeddings = keys.flag("tie_word_embeddings")?.unwrap_or(true);
    if keys.size("head_dim")?.is_none() {
        keys.assume("head_dim", 256);
        config.head_dim = 256;
    }
    if keys.size("num_key_value_heads")?.is_none() {
        config.num_key_value_heads = 4;
    }
    let scalar = keys.number("query_pre_attn_scalar")?.unwrap_or(256.0);
    if !(scalar.is_finite() && scalar > 0.0) {
        return Err(keys.wrong("query_pre_attn_scalar", "a positive number"));
    }
    // As it stands there: transformers wants it to be an integer.
    if !keys.states("query_pre_attn_scalar") {
        config.extra.insert("query_pre_attn_scalar".to_owned(), json!(256));
    }
    if let Some(window) = keys.window(Some(4096))? {
        config.extra.insert("sliding_window".to_owned(), json!(window));
    }
    parts::check_layer_types(keys, config)
}

/// Gemma's attention in blocks that have the window and in those that do not.
pub(super) fn attention(config: &ModelConfig, windowed: bool) -> parts::AttentionParts {
    let scalar = config.extra_number("query_pre_attn_scalar").unwrap_or(256.0);
    parts::AttentionParts {
        scale: scalar.powf(-0.5),
        window: config.extra_size("sliding_window").filter(|_| windowed),
        cap: config.extra_number("attn_logit_softcapping"),
        ..parts::AttentionParts::plain(config)
    }
}

/// The embedding, times the root of its width.
pub(super) fn stem(config: &ModelConfig) -> Section {
    #[expect(clippy::cast_precision_loss, reason = "Python's own conversion of a small integer")]
    let scale = (config.hidden_size as f64).sqrt();
    parts::stem(config, Some(scale))
}

/// A block with four norms.
pub(super) fn block(config: &ModelConfig, attention: parts::AttentionParts) -> Section {
    let hidden = config.hidden_size;
    let mut section = Section::of_block(hidden);
    let norm = |weight| parts::norm(config, weight, Weighting::OnePlus);
    let normed = section.norm("input_norm", 0, norm(parts::INPUT_NORM));
    let attended = parts::attention(&mut section, config, attention, normed);
    section.site(attended, Point::AttnOut);
    let normed = section.norm("post_attention_norm", attended, norm(parts::POST_ATTENTION_NORM));
    let stream = parts::residual(&mut section, 0, normed, hidden);
    section.site(stream, Point::XAfterAttn);
    let weight = "model.layers.{layer}.pre_feedforward_layernorm.weight";
    let normed = section.norm("pre_feedforward_norm", stream, norm(weight));
    section.site(normed, Point::FfnNorm);
    let inner = config.intermediate_size;
    let out = parts::mlp(&mut section, config, Activation::GeluTanh, inner, parts::MLP, normed);
    section.site(out, Point::MlpOut);
    let weight = "model.layers.{layer}.post_feedforward_layernorm.weight";
    let normed = section.norm("post_feedforward_norm", out, norm(weight));
    let stream = parts::residual(&mut section, stream, normed, hidden);
    section.site(stream, Point::XOut);
    section
}

fn graph(config: &ModelConfig) -> Graph {
    let windowed = parts::windowed(config, 2);
    let (kinds, blocks) = kinds(&windowed, |windowed| block(config, attention(config, *windowed)));
    let mut head = parts::head(config, Weighting::OnePlus);
    if let Some(cap) = config.extra_number("final_logit_softcapping") {
        let last = head.nodes.len() - 1;
        head.nodes[last].site = None;
        let capped = head.add("logit_cap", Operation::Cap { cap }, &[last], config.vocab_size);
        head.site(capped, Point::Logits);
    }
    Graph { stem: stem(config), kinds, blocks, head, tables: vec![parts::table(config)] }
}

fn config_json(_config: &ModelConfig) -> Map<String, Value> {
    object(json!({
        "hidden_act": GELU,
        "attention_bias": false,
        "sliding_window": null,
        "attn_logit_softcapping": null,
        "final_logit_softcapping": null,
    }))
}
