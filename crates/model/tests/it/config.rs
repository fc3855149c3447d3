//! `config.json`: the spellings that mean the same, and the refusals.

use mantissa_model::{Arch, ModelConfig, RopeScaling};
use mantissa_numerics::Dtype;
use serde_json::{Value, json};

use crate::one_line;
use crate::tiny;

fn read(json: &Value) -> Result<ModelConfig, mantissa_model::ModelError> {
    ModelConfig::from_json("config.json", json.to_string().as_bytes())
}

fn with(arch: Arch, changes: &Value) -> Value {
    let mut json = tiny::config_json(arch);
    for (key, value) in changes.as_object().unwrap() {
        match value.as_str() {
            Some("(absent)") => drop(json.as_object_mut().unwrap().remove(key)),
            _ => json[key] = value.clone(),
        }
    }
    json
}

#[test]
fn both_generations_of_transformers_spell_the_same_model() {
    let base = tiny::config(Arch::LLAMA);
    let scaled = ModelConfig {
        rope_theta: 500_000.0,
        rope_scaling: Some(RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        }),
        ..base.clone()
    };
    let llama3 = json!({"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192, "rope_type": "llama3"});
    let mut llama3_5 = llama3.clone();
    llama3_5["rope_theta"] = json!(500_000.0);
    let linear = ModelConfig { rope_scaling: Some(RopeScaling::Linear { factor: 2.0 }), ..base.clone() };
    for (changes, want) in [
        (json!({"torch_dtype": "(absent)", "dtype": "bfloat16"}), base.clone()),
        (
            json!({"rope_theta": "(absent)", "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}}),
            base.clone(),
        ),
        (json!({"rope_theta": "(absent)"}), base.clone()),
        (json!({"rope_scaling": null, "head_dim": null, "sliding_window": null}), base.clone()),
        (json!({"architectures": null, "model_type": "llama"}), base.clone()),
        (json!({"rope_theta": 500_000, "rope_scaling": llama3}), scaled.clone()),
        (json!({"rope_theta": "(absent)", "rope_parameters": llama3_5}), scaled),
        (json!({"rope_scaling": {"type": "linear", "factor": 2.0}}), linear),
        (json!({"eos_token_id": [2, 7]}), ModelConfig { eos_token_ids: vec![2, 7], ..base.clone() }),
        (
            json!({"eos_token_id": null, "bos_token_id": null}),
            ModelConfig { eos_token_ids: vec![], bos_token_id: None, ..base.clone() },
        ),
        (json!({"attention_bias": true}), ModelConfig { qkv_bias: true, o_bias: true, ..base.clone() }),
        (json!({"torch_dtype": "float16"}), ModelConfig { torch_dtype: Some(Dtype::F16), ..base.clone() }),
        (json!({"torch_dtype": "(absent)"}), ModelConfig { torch_dtype: None, ..base.clone() }),
        (json!({"num_key_value_heads": "(absent)"}), ModelConfig { num_key_value_heads: 4, ..base.clone() }),
        (json!({"tie_word_embeddings": true}), ModelConfig { tie_word_embeddings: true, ..base }),
    ] {
        assert_eq!(read(&with(Arch::LLAMA, &changes)).unwrap(), want, "{changes}");
    }
}

#[test]
fn families_differ_where_they_should() {
    let qwen2 =
        read(&with(Arch::QWEN2, &json!({"use_sliding_window": false, "sliding_window": 4096}))).unwrap();
    assert!(qwen2.qkv_bias && !qwen2.o_bias && !qwen2.qk_norm);
    let qwen3 = read(&with(Arch::QWEN3, &json!({"head_dim": "(absent)"}))).unwrap();
    assert!(!qwen3.qkv_bias && qwen3.qk_norm && qwen3.head_dim == 128);
    let layers = json!({"layer_types": ["full_attention", "full_attention"]});
    let moe = read(&with(Arch::QWEN3_MOE, &layers)).unwrap();
    assert_eq!(moe.moe.as_ref().unwrap().num_experts, 4);
    let dense_first = json!({"mlp_only_layers": [0]});
    let moe = read(&with(Arch::QWEN3_MOE, &dense_first)).unwrap();
    let names: Vec<String> = moe.tensors().map(|spec| spec.name).collect();
    assert!(names.contains(&"model.layers.0.mlp.gate_proj.weight".to_owned()));
    assert!(names.contains(&"model.layers.1.mlp.experts.3.down_proj.weight".to_owned()));
    assert!(!names.iter().any(|name| name.contains("layers.0.mlp.experts")));
}

#[test]
fn what_would_be_computed_wrongly_is_refused_by_name() {
    for (arch, changes, want) in [
        (
            Arch::LLAMA,
            json!({"architectures": ["GemmaForCausalLM"]}),
            "architectures: 'GemmaForCausalLM' is not known",
        ),
        (Arch::LLAMA, json!({"sliding_window": 4096}), "sliding_window: a sliding window of 4096"),
        (Arch::QWEN2, json!({"use_sliding_window": true, "sliding_window": 4096}), "sliding_window"),
        (
            Arch::QWEN3,
            json!({"layer_types": ["full_attention", "sliding_attention"]}),
            "layer_types: \"sliding_attention\"",
        ),
        (
            Arch::LLAMA,
            json!({"rope_scaling": {"rope_type": "mrope", "factor": 4.0}}),
            "rope_scaling.rope_type: 'mrope'",
        ),
        (Arch::LLAMA, json!({"rope_scaling": {"type": "ntk", "factor": 4.0}}), "'ntk'"),
        (
            Arch::LLAMA,
            json!({"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}),
            "'per layer type'",
        ),
        (Arch::LLAMA, json!({"hidden_act": "gelu"}), "hidden_act: 'gelu'"),
        (Arch::LLAMA, json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor: rotating 0.5"),
        (Arch::LLAMA, json!({"quantization_config": {"quant_method": "awq"}}), "quantized by 'awq'"),
        (Arch::LLAMA, json!({"mlp_bias": true}), "mlp_bias"),
        (Arch::LLAMA, json!({"hidden_size": "(absent)"}), "hidden_size: must be present, is absent"),
        (Arch::LLAMA, json!({"hidden_size": -1}), "hidden_size: must be a size, is -1"),
        (Arch::LLAMA, json!({"hidden_size": 0}), "hidden_size: 0 is not in 1..="),
        (Arch::LLAMA, json!({"hidden_size": 1_u64 << 40}), "hidden_size: 1099511627776 is not in"),
        (Arch::LLAMA, json!({"num_hidden_layers": 1_u64 << 60}), "num_hidden_layers"),
        (Arch::LLAMA, json!({"num_key_value_heads": 3}), "num_key_value_heads: 3 does not divide 4"),
        (Arch::LLAMA, json!({"head_dim": 63}), "head_dim: 63 is odd"),
        (Arch::LLAMA, json!({"rope_theta": 0}), "rope_theta: 0 is not a positive number"),
        (Arch::LLAMA, json!({"rms_norm_eps": "1e-5"}), "rms_norm_eps: must be a number"),
        (Arch::LLAMA, json!({"eos_token_id": -1}), "eos_token_id: must be a token id"),
        (Arch::LLAMA, json!({"torch_dtype": "int8"}), "torch_dtype: must be float32, bfloat16 or float16"),
        (
            Arch::LLAMA,
            json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}),
            "rope_scaling.low_freq_factor",
        ),
        (
            Arch::LLAMA,
            json!({"rope_scaling": {"rope_type": "linear", "factor": 0.0}}),
            "rope_scaling.factor: 0 is not positive",
        ),
        (Arch::QWEN3_MOE, json!({"num_experts_per_tok": 5}), "num_experts_per_tok: 5 is not in 1..=4"),
        (Arch::QWEN3_MOE, json!({"decoder_sparse_step": 0}), "decoder_sparse_step"),
        (Arch::QWEN3_MOE, json!({"num_experts": 1_u64 << 40}), "num_experts"),
    ] {
        let e = one_line(read(&with(arch, &changes)));
        assert!(e.starts_with("config.json: ") && e.contains(want), "{e} / {want}");
    }
    for text in ["", "{", "[]", "{\"a\": NaN}", "nul"] {
        one_line(ModelConfig::from_json("config.json", text.as_bytes()));
    }
    one_line(ModelConfig::from_json("config.json", "[".repeat(100_000).as_bytes()));
}

#[test]
fn stretched_rotary_angles_of_every_kind_are_read() {
    use mantissa_numerics::rotary::{LongRope, Yarn};
    let dim = tiny::config(Arch::LLAMA).head_dim;
    let read_scaling = |rope: Value| {
        let both = ["rope_scaling", "rope_parameters"]
            .map(|key| read(&with(Arch::LLAMA, &json!({key: rope}))).map(|config| config.rope_scaling));
        let [old, new] = both.map(|found| found.expect("a configuration"));
        assert_eq!(old, new);
        old.expect("a stretching")
    };
    let dynamic = json!({"type": "dynamic", "factor": 2});
    assert_eq!(read_scaling(dynamic), RopeScaling::Dynamic { factor: 2.0 });
    let yarn = Yarn {
        factor: 32.0,
        original_max_position_embeddings: 4096,
        attention_factor: None,
        mscale: Some(0.707),
        mscale_all_dim: None,
        beta_fast: 32.0,
        beta_slow: 1.0,
        truncate: false,
    };
    let spelled = json!({"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096,
        "mscale": 0.707, "beta_fast": null, "beta_slow": 0, "truncate": false});
    assert_eq!(read_scaling(spelled), RopeScaling::Yarn(yarn));
    let (short, long) = (vec![1.5; dim / 2], vec![8.0; dim / 2]);
    let mut spelled = json!({"type": "longrope", "short_factor": short, "long_factor": long, "factor": 4.0,
        "original_max_position_embeddings": 64});
    let longrope = LongRope {
        short_factor: short,
        long_factor: long,
        factor: 4.0,
        attention_factor: None,
        original_max_position_embeddings: 64,
    };
    assert_eq!(read_scaling(spelled.clone()), RopeScaling::LongRope(longrope));
    spelled["long_factor"] = json!([1.0]);
    let error = one_line(read(&with(Arch::LLAMA, &json!({"rope_scaling": spelled}))));
    assert!(error.contains("long_factor"), "{error}");
    let slow = json!({"rope_type": "yarn", "factor": 2.0, "beta_fast": 1.0, "beta_slow": 32.0});
    let error = one_line(read(&with(Arch::LLAMA, &json!({"rope_scaling": slow}))));
    assert!(error.contains("beta_slow"), "{error}");
}
