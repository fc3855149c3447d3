//! Tiny models of every family, as a Hugging Face folder and as the GGUF file a converter would make of it.

use mantissa_model::{Arch, ModelConfig, TensorSpec};
use mantissa_numerics::Dtype;
use mantissa_testkit::gguf::{Builder, Encoding};
use mantissa_testkit::safetensors::Tensor;
use serde_json::{Value, json};

pub(crate) const ARCHS: [Arch; 4] = [Arch::LLAMA, Arch::QWEN2, Arch::QWEN3, Arch::QWEN3_MOE];
pub(crate) const HIDDEN: usize = 256;

/// The `config.json` of a tiny model.
pub(crate) fn config_json(arch: Arch) -> Value {
    let mut json = json!({
        "hidden_size": HIDDEN, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 16, "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": false,
        "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "bfloat16",
    });
    let class = match arch {
        Arch::LLAMA => "LlamaForCausalLM",
        Arch::QWEN2 => "Qwen2ForCausalLM",
        Arch::QWEN3 => "Qwen3ForCausalLM",
        Arch::QWEN3_MOE => {
            for (key, value) in
                [("num_experts", 4), ("num_experts_per_tok", 2), ("moe_intermediate_size", 256)]
            {
                json[key] = json!(value);
            }
            json["norm_topk_prob"] = json!(true);
            "Qwen3MoeForCausalLM"
        }
        other => panic!("no tiny {other:?}"),
    };
    json["architectures"] = json!([class]);
    json
}

pub(crate) fn config(arch: Arch) -> ModelConfig {
    ModelConfig::from_json("config.json", config_json(arch).to_string().as_bytes()).unwrap()
}

/// Values of a tensor, different for each name and element, exact in every plain dtype.
pub(crate) fn values(spec: &TensorSpec) -> Vec<f32> {
    let seed = spec.name.bytes().fold(7_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    let count = u32::try_from(spec.shape.iter().product::<usize>()).unwrap();
    (0..count)
        .map(|i| {
            let mixed = seed.wrapping_add(i).wrapping_mul(0x9E37_79B9) >> 25;
            (f32::from(u8::try_from(mixed).unwrap()) - 64.0) / 64.0
        })
        .collect()
}

pub(crate) fn tensors(config: &ModelConfig, dtype: Dtype) -> Vec<Tensor> {
    config.tensors().map(|spec| Tensor::new(&spec.name, dtype, &spec.shape, &values(&spec))).collect()
}

/// The GGUF file that llama.cpp's converter makes of the model: other names, experts stacked, and for Llama
/// the rows of q and k in rotary pairs.
pub(crate) fn gguf(config: &ModelConfig, encoding: Encoding) -> Builder {
    let arch = match config.arch {
        Arch::LLAMA => "llama",
        Arch::QWEN2 => "qwen2",
        Arch::QWEN3 => "qwen3",
        Arch::QWEN3_MOE => "qwen3moe",
        other => panic!("no GGUF of {other:?}"),
    };
    let size = |n: usize| u32::try_from(n).unwrap();
    let key = |key: &str| format!("{arch}.{key}");
    let mut builder = Builder::default()
        .text("general.architecture", arch)
        .u32(&key("block_count"), size(config.num_hidden_layers))
        .u32(&key("context_length"), size(config.max_position_embeddings))
        .u32(&key("embedding_length"), size(config.hidden_size))
        .u32(&key("feed_forward_length"), size(config.intermediate_size))
        .u32(&key("attention.head_count"), size(config.num_attention_heads))
        .u32(&key("attention.head_count_kv"), size(config.num_key_value_heads))
        .u32(&key("attention.key_length"), size(config.head_dim))
        .f32(&key("attention.layer_norm_rms_epsilon"), 1e-5)
        .f32(&key("rope.freq_base"), 10000.0)
        .u32("tokenizer.ggml.bos_token_id", 1)
        .u32("tokenizer.ggml.eos_token_id", 2);
    if let Some(moe) = &config.moe {
        builder = builder
            .u32(&key("expert_count"), size(moe.num_experts))
            .u32(&key("expert_used_count"), size(moe.num_experts_per_tok))
            .u32(&key("expert_feed_forward_length"), size(moe.moe_intermediate_size));
    }
    let mut stacked: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    for spec in config.tensors() {
        let mut data = values(&spec);
        if config.arch == Arch::LLAMA && (spec.name.contains("q_proj") || spec.name.contains("k_proj")) {
            data = permuted(&data, spec.shape[0], config.head_dim);
        }
        let name = gguf_name(&spec.name);
        if name.contains("_exps") {
            match stacked.last_mut().filter(|last| last.0 == name) {
                Some(last) => {
                    last.1[0] += 1;
                    last.2.extend(data);
                }
                None => match stacked.iter_mut().find(|other| other.0 == name) {
                    Some(other) => {
                        other.1[0] += 1;
                        other.2.extend(data);
                    }
                    None => stacked.push((name, [&[1], &spec.shape[..]].concat(), data)),
                },
            }
            continue;
        }
        // As converters do: vectors stay in f32.
        let encoding = if spec.shape.len() == 1 { Encoding::Plain(Dtype::F32) } else { encoding };
        builder = builder.tensor(&name, &spec.shape, encoding, &data);
    }
    for (name, shape, data) in stacked {
        builder = builder.tensor(&name, &shape, encoding, &data);
    }
    builder
}

/// `w.reshape(heads, 2, head/2, …).swapaxes(1, 2)` of convert_hf_to_gguf.py.
fn permuted(data: &[f32], rows: usize, head: usize) -> Vec<f32> {
    let cols = data.len() / rows;
    let mut out = vec![0.0; data.len()];
    for h in 0..rows / head {
        for half in 0..2 {
            for i in 0..head / 2 {
                let from = (h * head + half * head / 2 + i) * cols;
                let to = (h * head + 2 * i + half) * cols;
                out[to..to + cols].copy_from_slice(&data[from..from + cols]);
            }
        }
    }
    out
}

fn gguf_name(name: &str) -> String {
    let name = name.replace("model.layers.", "blk.");
    if let Some((layer, rest)) = name.split_once(".mlp.experts.") {
        let part = rest.split('.').nth(1).unwrap().trim_end_matches("_proj");
        return format!("{layer}.ffn_{part}_exps.weight");
    }
    let mut name = name;
    for (from, to) in [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("post_attention_layernorm", "ffn_norm"),
        ("input_layernorm", "attn_norm"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.", "attn_"),
        ("mlp.gate.weight", "ffn_gate_inp.weight"),
        ("mlp.", "ffn_"),
        ("_proj", ""),
    ] {
        name = name.replace(from, to);
    }
    name
}
