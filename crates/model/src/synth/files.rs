//! The small files of a synthetic checkpoint: configuration, generation defaults, tokenizer, and what it was made from.
//!
//! `config.json` spells its keys as transformers 4 does; transformers 5 reads them too. Left out: tensors (`shards`).

use mantissa_numerics::Dtype;
use serde_json::{Map, Value, json};

use super::shards::Shard;
use super::spec::SynthSpec;
use super::tokenizer;
use crate::config::RopeScaling;

/// Name of the file that says what the folder was made from.
pub(super) const SPEC_FILE: &str = "synth.json";
/// Version of docs/format/synth.md: any change of a byte raises it.
const VERSION: u32 = 1;

/// A file held in memory.
pub(super) struct SmallFile {
    pub(super) name: &'static str,
    pub(super) bytes: Vec<u8>,
}

/// The specification, written before anything else.
pub(super) fn spec_file(spec: &SynthSpec) -> SmallFile {
    let mut json = json!({
        "format": "mantissa-synth",
        "version": VERSION,
        "generator": "splitmix64-irwin-hall4",
        "seed": spec.seed(),
        "dtype": spec.dtype(),
        "max_shard_bytes": spec.max_shard_bytes(),
        "config": config_json(spec),
    });
    if let Some(quantization) = spec.quantization() {
        json["quantization"] = quantization.name().into();
    }
    small(SPEC_FILE, &json)
}

/// Everything else but the shards; `config.json` last, so that a folder loads only when it is whole.
pub(super) fn small_files(spec: &SynthSpec, shards: &[Shard]) -> Vec<SmallFile> {
    let longest = spec.config().max_position_embeddings;
    let mut files = vec![
        small("tokenizer.json", &tokenizer::tokenizer_json()),
        small("tokenizer_config.json", &tokenizer::tokenizer_config_json(longest)),
        small("special_tokens_map.json", &tokenizer::special_tokens_map_json()),
        small("generation_config.json", &generation_config_json()),
    ];
    if shards.len() > 1 {
        files.push(small("model.safetensors.index.json", &index_json(spec, shards)));
    }
    files.push(small("config.json", &config_json(spec)));
    files
}

fn small(name: &'static str, json: &Value) -> SmallFile {
    // A Value has string keys and finite numbers only: writing it to memory cannot fail.
    let mut bytes = serde_json::to_vec_pretty(json).unwrap_or_default();
    bytes.push(b'\n');
    SmallFile { name, bytes }
}

fn config_json(spec: &SynthSpec) -> Value {
    let config = spec.config();
    let ids = tokenizer::special_ids();
    let dtype = match spec.dtype() {
        Dtype::F32 => "float32",
        Dtype::Bf16 => "bfloat16",
        Dtype::F16 => "float16",
    };
    let mut json = json!({
        "architectures": [config.arch.family().architecture],
        "model_type": config.arch.name(),
        "attention_dropout": 0.0,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": ids.turn_end,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.hidden_size,
        "initializer_range": 0.02,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_position_embeddings,
        "num_attention_heads": config.num_attention_heads,
        "num_hidden_layers": config.num_hidden_layers,
        "num_key_value_heads": config.num_key_value_heads,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_scaling": rope_scaling(config.rope_scaling.as_ref()),
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tie_word_embeddings,
        "torch_dtype": dtype,
        "use_cache": true,
        "vocab_size": config.vocab_size,
    });
    if let Value::Object(json) = &mut json {
        json.extend((config.arch.family().config_json)(config));
        json.extend(config.extra.clone());
        if let Some(quantization) = spec.quantization() {
            let kept = spec.routers();
            json.insert("quantization_config".into(), quantization.config_json(spec.dtype(), &kept));
        }
    }
    json
}

fn rope_scaling(scaling: Option<&RopeScaling>) -> Value {
    match scaling {
        None => Value::Null,
        Some(RopeScaling::Linear { factor }) => json!({"rope_type": "linear", "factor": factor}),
        Some(RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        }) => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": original_max_position_embeddings,
        }),
        Some(other) => json!(other),
    }
}

fn generation_config_json() -> Value {
    let ids = tokenizer::special_ids();
    json!({
        "bos_token_id": ids.end_of_text,
        "do_sample": false,
        "eos_token_id": [ids.turn_end, ids.end_of_text],
        "pad_token_id": ids.end_of_text,
    })
}

fn index_json(spec: &SynthSpec, shards: &[Shard]) -> Value {
    let map: Map<String, Value> = shards
        .iter()
        .flat_map(|shard| shard.entries.iter().map(|e| (e.name.clone(), Value::from(shard.name.as_str()))))
        .collect();
    json!({"metadata": {"total_size": spec.total_bytes()}, "weight_map": map})
}
