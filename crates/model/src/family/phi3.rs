//! Phi-3, 3.5 and 4: Llama with one product for q, k and v, one for gate and up, and rotations of a part of each head.

use serde_json::{Map, Value, json};

use super::definition::{Family, Windows, object};
use super::{mistral, parts};
use crate::arch::Arch;
use crate::config::{ModelConfig, RopeScaling};
use crate::config_keys::Keys;
use crate::error::ModelError;
use crate::graph::{Activation, Graph, Linear, Operation, Section, Slice, Weighting};

impl Arch {
    /// Phi-3, 3.5 and 4.
    pub const PHI3: Self = Self(FAMILY.name);
}

pub(super) static FAMILY: Family = Family {
    name: "phi3",
    title: "Phi-3",
    architecture: "Phi3ForCausalLM",
    gguf: None,
    keys: &["sliding_window", "partial_rotary_factor", "original_max_position_embeddings"],
    windows: Windows::Everywhere { absent: None },
    theta: 1e4,
    read,
    graph,
    tiny: |base| ModelConfig {
        rms_norm_eps: 1e-5,
        extra: object(json!({
            "sliding_window": 30,
            "partial_rotary_factor": 0.75,
            "original_max_position_embeddings": 4096,
        })),
        ..base
    },
    config_json,
};

/// Key/value heads default to query heads, epsilon to 1e-5. The part that is rotated stands on top or in
/// `rope_parameters`.
fn read(keys: &Keys<'_>, config: &mut ModelConfig) -> Result<(), ModelError> {
    mistral::window(keys, config, None)?;
    config.rms_norm_eps = keys.number("rms_norm_eps")?.unwrap_or(1e-5);
    if keys.size("num_key_value_heads")?.is_none() {
        config.num_key_value_heads = config.num_attention_heads;
    }
    let angles = keys.angles(&FAMILY)?;
    let partial = keys.inside_or_top(&angles, "partial_rotary_factor", "partial_rotary_factor")?;
    config.extra.remove("partial_rotary_factor");
    if let Some(factor) = partial.filter(|factor| factor.to_bits() != 1.0_f64.to_bits()) {
        config.extra.insert("partial_rotary_factor".to_owned(), json!(factor));
        let rotated = config.rotary_dim();
        if !(factor > 0.0 && factor < 1.0 && rotated > 0 && rotated.is_multiple_of(2)) {
            return Err(keys.wrong("partial_rotary_factor", "a part of each head, of an even width"));
        }
    }
    match &config.rope_scaling {
        None => Ok(()),
        Some(RopeScaling::LongRope(_)) if keys.states("original_max_position_embeddings") => Ok(()),
        Some(RopeScaling::LongRope(_)) => {
            Err(keys.wrong("original_max_position_embeddings", "present beside longrope"))
        }
        // transformers reads yarn as longrope here, and refuses the others.
        Some(_) => keys.refuse("rope_scaling", "is not longrope", "use longrope or none"),
    }
}

fn graph(config: &ModelConfig) -> Graph {
    let after = Weighting::AfterCast;
    let mut block = Section::of_block(config.hidden_size);
    let normed = block.norm("input_norm", 0, parts::norm(config, parts::INPUT_NORM, after));
    let attended = attention(&mut block, config, normed);
    parts::after_attention(&mut block, config, after, 0, attended, &|section, input| {
        mlp(section, config, input)
    });
    Graph {
        stem: parts::stem(config, None),
        kinds: vec![block],
        blocks: vec![0; config.num_hidden_layers],
        head: parts::head(config, after),
        tables: vec![parts::table(config)],
    }
}

fn slice(section: &mut Section, input: usize, stride: usize, from: usize, take: usize) -> usize {
    section.add("", Operation::Slice(Slice { groups: 1, stride, from, take }), &[input], take)
}

fn attention(section: &mut Section, config: &ModelConfig, input: usize) -> usize {
    let hidden = config.hidden_size;
    let wide = config.num_attention_heads * config.head_dim;
    let narrow = config.num_key_value_heads * config.head_dim;
    let all = wide + 2 * narrow;
    let weight = "model.layers.{layer}.self_attn.qkv_proj.weight";
    let fused =
        section.linear("qkv_proj", input, Linear { weight, n: all, k: hidden, bias: None, wide: false });
    let q = slice(section, fused, all, 0, wide);
    let k = slice(section, fused, all, wide, narrow);
    let v = slice(section, fused, all, wide + narrow, narrow);
    let attended = parts::attended(section, config, mistral::attention(config), [q, k, v]);
    let weight = "model.layers.{layer}.self_attn.o_proj.weight";
    section.linear("o_proj", attended, Linear { weight, n: hidden, k: wide, bias: None, wide: false })
}

fn mlp(section: &mut Section, config: &ModelConfig, input: usize) -> usize {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let weight = "model.layers.{layer}.mlp.gate_up_proj.weight";
    let fused = Linear { weight, n: 2 * inner, k: hidden, bias: None, wide: false };
    let fused = section.linear("gate_up_proj", input, fused);
    let gate = slice(section, fused, 2 * inner, 0, inner);
    let up = slice(section, fused, 2 * inner, inner, inner);
    let gated = section.add("swiglu", Operation::Gate(Activation::Silu), &[gate, up], inner);
    let weight = "model.layers.{layer}.mlp.down_proj.weight";
    section.linear("down_proj", gated, Linear { weight, n: hidden, k: inner, bias: None, wide: false })
}

fn config_json(_config: &ModelConfig) -> Map<String, Value> {
    object(json!({"pad_token_id": null, "sliding_window": null, "partial_rotary_factor": 1.0}))
}
