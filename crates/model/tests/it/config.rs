//! `config.json`: the spellings that mean the same, and the refusals.

use std::collections::BTreeSet;

use mantissa_model::graph::{Operation, Section};
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
        (Arch::LLAMA, json!({"sliding_window": 64}), "sliding_window: a sliding window of 64 is declared"),
        (
            Arch::QWEN3,
            json!({"layer_types": ["full_attention", "sliding_attention"]}),
            "layer_types: sliding_attention is named, and no window is in use",
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
        (
            Arch::LLAMA,
            json!({"quantization_config": {"quant_method": "awq"}}),
            "quantized by 'awq' are not read (not 4",
        ),
        (
            Arch::LLAMA,
            json!({"quantization_config": {"quant_method": "hqq"}}),
            "quantized by 'hqq' are not read; use",
        ),
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
fn what_transformers_would_mix_is_refused_by_name() {
    for (arch, changes, want) in [
        (
            Arch::LLAMA,
            json!({"sliding_window": 64, "use_sliding_window": false}),
            "sliding_window: a sliding window of 64 is declared, and transformers 5.17 gives the attention of this \
             family none, but cuts its cache there; remove the key",
        ),
        (
            Arch::QWEN2,
            json!({"layer_types": ["full_attention", "sliding_attention"]}),
            "layer_types: sliding_attention is named, and no window is in use",
        ),
        (
            Arch::QWEN3,
            json!({"use_sliding_window": true, "layer_types": ["full_attention", "chunked_attention"]}),
            "layer_types: \"chunked_attention\" is not computed",
        ),
        (
            Arch::QWEN3_MOE,
            json!({"use_sliding_window": true, "layer_types": ["full_attention", "sliding_attention"]}),
            "layer_types: \"sliding_attention\" is not computed",
        ),
        (
            Arch::LLAMA,
            json!({"architectures": ["MistralForCausalLM"], "layer_types": ["sliding_attention", "full_attention"]}),
            "layer_types: full_attention is not computed, and this family does not read it",
        ),
        (Arch::LLAMA, json!({"layer_types": ["full_attention"]}), "layer_types: must be full_attention or"),
        (
            Arch::LLAMA,
            json!({"text_config": {"hidden_size": 8}}),
            "text_config: a configuration within this one",
        ),
        (
            Arch::LLAMA,
            json!({"architectures": ["Gemma3ForConditionalGeneration"], "text_config": {"model_type": "gemma3_text"}}),
            "'Gemma3ForConditionalGeneration' is not known; its text_config is of \"gemma3_text\"; use a model of",
        ),
        (
            Arch::QWEN3_MOE,
            json!({"num_local_experts": 8}),
            "num_experts: is 4, and num_local_experts, another name of it, 8; remove the wrong one",
        ),
        (Arch::LLAMA, json!({"rope_scaling": {"rope_type": null}}), "rope_scaling.rope_type: must be a name"),
    ] {
        let e = one_line(read(&with(arch, &changes)));
        assert!(e.starts_with("config.json: ") && e.contains(want), "{e} / {want}");
    }
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

#[test]
fn an_unknown_architecture_is_named_beside_all_that_are_known() {
    let unknown = with(Arch::LLAMA, &json!({"architectures": ["FalconForCausalLM"]}));
    let refused = read(&unknown).unwrap_err().to_string();
    assert!(refused.contains("'FalconForCausalLM' is not known") && !refused.contains('\n'), "{refused}");
    // As many as were compared with transformers, each once.
    let golden = include_str!("../../../../goldens/transformers_f32.json");
    let golden: Value = serde_json::from_str(golden).unwrap();
    let (_, offered) = refused.rsplit_once("; use a model of ").unwrap();
    let offered: BTreeSet<&str> = offered.split(", ").collect();
    assert_eq!(offered.len(), golden["models"].as_object().unwrap().len(), "{refused}");
}

#[test]
fn absent_keys_have_the_defaults_of_each_class() {
    let of = |class: &str| {
        let changes = json!({"architectures": [class], "head_dim": "(absent)",
            "num_key_value_heads": "(absent)", "rope_theta": "(absent)", "rms_norm_eps": "(absent)",
            "tie_word_embeddings": "(absent)", "num_attention_heads": 8});
        read(&with(Arch::LLAMA, &changes)).unwrap()
    };
    let mistral = of("MistralForCausalLM");
    assert_eq!((mistral.extra_size("sliding_window"), mistral.num_key_value_heads), (Some(4096), 8));
    let mixtral = of("MixtralForCausalLM");
    assert_eq!((mixtral.extra_size("sliding_window"), mixtral.rms_norm_eps), (None, 1e-5));
    let gemma = of("Gemma2ForCausalLM");
    assert_eq!((gemma.head_dim, gemma.num_key_value_heads, gemma.tie_word_embeddings), (256, 4, true));
    assert_eq!(gemma.extra_number("attn_logit_softcapping"), Some(50.0));
    assert_eq!(gemma.extra_number("final_logit_softcapping"), Some(30.0));
    let gemma = of("Gemma3ForCausalLM");
    assert_eq!((gemma.rope_theta, gemma.extra_number("rope_local_base_freq")), (1e6, Some(1e4)));
    for class in ["Olmo2ForCausalLM", "Phi3ForCausalLM"] {
        assert_eq!((of(class).num_key_value_heads, of(class).rms_norm_eps), (8, 1e-5), "{class}");
    }
}

/// A configuration of another class, from the keys of the tiny Llama.
fn of_class(class: &str, changes: &Value) -> Value {
    let mut json = with(Arch::LLAMA, changes);
    json["architectures"] = json!([class]);
    json
}

#[test]
fn gpt_oss_has_the_defaults_of_transformers_and_refuses_the_rest() {
    let of = |changes: &Value| read(&of_class("GptOssForCausalLM", changes));
    let published = json!({"head_dim": "(absent)", "num_key_value_heads": "(absent)", "rope_theta": "(absent)",
        "rms_norm_eps": "(absent)", "num_attention_heads": 64, "swiglu_limit": 7.0});
    let config = of(&published).unwrap();
    assert_eq!((config.head_dim, config.num_key_value_heads, config.rms_norm_eps), (64, 8, 1e-5));
    assert!(config.qkv_bias && config.o_bias && config.extra_size("sliding_window") == Some(128));
    assert_eq!(config.moe.as_ref().map(|moe| (moe.num_experts, moe.num_experts_per_tok)), Some((128, 4)));
    let Some(RopeScaling::Yarn(yarn)) = &config.rope_scaling else { panic!("{:?}", config.rope_scaling) };
    assert_eq!((config.rope_theta, yarn.factor, yarn.truncate), (150_000.0, 32.0, false));
    assert_eq!(yarn.original_max_position_embeddings, 4096);
    // A window in the first of two blocks.
    let graph = config.graph();
    assert_eq!((graph.blocks.len(), graph.kinds.len()), (2, 2));
    let plain = of(&json!({"rope_parameters": {"rope_type": "default"}})).unwrap();
    assert_eq!((plain.rope_theta, &plain.rope_scaling), (10_000.0, &None));
    let plain = json!({"rope_theta": "(absent)", "rope_parameters": {"rope_type": "default"}});
    assert_eq!(of(&plain).unwrap().rope_theta.to_bits(), 150_000.0_f64.to_bits());
    for (changes, want) in [
        (json!({"swiglu_limit": 5.0}), "swiglu_limit: 5 is not computed; use a model with 7.0"),
        (json!({"sliding_window": null}), "sliding_window: must be a size, is null"),
        (json!({"layer_types": ["full_attention"]}), "layer_types"),
        (json!({"num_local_experts": 2}), "num_experts_per_tok: 4 is not in 1..=2"),
        (
            json!({"quantization_config": {"quant_method": "mxfp4"}}),
            "quantized by 'mxfp4' are not read; load it with transformers' Mxfp4Config(dequantize=True)",
        ),
    ] {
        let e = one_line(of(&changes));
        assert!(e.starts_with("config.json: ") && e.contains(want), "{e} / {want}");
    }
}

#[test]
fn deepseek_v2_has_the_defaults_of_transformers_and_refuses_the_rest() {
    let of = |changes: &Value| {
        let mut all = json!({"num_experts_per_tok": 6, "num_key_value_heads": "(absent)"});
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        read(&of_class("DeepseekV2ForCausalLM", &all))
    };
    let config = of(&json!({})).unwrap();
    assert_eq!((config.head_dim, config.num_key_value_heads), (64, 4));
    let sizes = ["q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "v_head_dim", "n_shared_experts"];
    assert_eq!(sizes.map(|key| config.extra_size(key)), [1536, 512, 128, 128, 2].map(Some));
    assert_eq!(config.moe.as_ref().map(|moe| moe.num_experts), Some(64));
    let names: Vec<String> = config.tensors().map(|spec| spec.name).collect();
    assert!(names.contains(&"model.layers.0.self_attn.q_b_proj.weight".to_owned()));
    assert!(names.contains(&"model.layers.0.mlp.shared_experts.up_proj.weight".to_owned()));
    // DeepSeek-V2-Lite's own keys.
    let lite = json!({"q_lora_rank": null, "first_k_dense_replace": 1, "moe_layer_freq": 1, "n_group": 1,
        "topk_group": 1, "topk_method": "greedy", "norm_topk_prob": false, "scoring_func": "softmax",
        "num_key_value_heads": 4, "attention_bias": true, "mlp_bias": true,
        "rope_scaling": {"type": "yarn", "factor": 40, "mscale": 0.707, "mscale_all_dim": 0.707,
            "beta_fast": 32, "beta_slow": 1, "original_max_position_embeddings": 4096}});
    let names: Vec<String> = of(&lite).unwrap().tensors().map(|spec| spec.name).collect();
    let has = |name: &str| names.iter().any(|found| found == &format!("model.layers.{name}"));
    assert!(has("0.self_attn.q_proj.weight") && !has("0.self_attn.q_proj.bias") && has("0.mlp.up_proj.bias"));
    assert!(has("0.self_attn.kv_a_proj_with_mqa.bias") && has("0.self_attn.o_proj.bias"));
    assert!(
        !has("0.mlp.gate.weight") && has("1.mlp.gate.weight") && has("1.mlp.shared_experts.up_proj.bias")
    );
    for (changes, want) in [
        (json!({"num_experts_per_tok": "(absent)"}), "num_experts_per_tok: must be present, is absent"),
        (json!({"kv_lora_rank": 0}), "kv_lora_rank: must be in 1..=65536, is 0"),
        (json!({"v_head_dim": 1_u64 << 40}), "v_head_dim: must be in 1..=65536"),
        (json!({"qk_rope_head_dim": 5}), "qk_rope_head_dim: must be even, is 5"),
        (json!({"num_key_value_heads": 2}), "num_key_value_heads: key heads of other number"),
        (json!({"moe_layer_freq": 2}), "moe_layer_freq: dense blocks in between are not computed"),
        (json!({"scoring_func": "sigmoid"}), "scoring_func: is not computed; use a model with softmax"),
        (json!({"norm_topk_prob": true}), "norm_topk_prob: weights that are divided by their sum"),
        (json!({"topk_method": "noaux_tc"}), "topk_method: is not computed; use greedy or"),
        (json!({"topk_method": "group_limited_greedy"}), "n_group: must be present"),
        (
            json!({"topk_method": "group_limited_greedy", "n_group": 5, "topk_group": 1}),
            "n_group: must be a divisor of the experts, is 5",
        ),
        (
            json!({"topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 5}),
            "topk_group: must be at most the groups, is 5",
        ),
        (json!({"rope_scaling": {"type": "linear", "factor": 2.0}}), "rope_scaling: is not computed for"),
    ] {
        let e = one_line(of(&changes));
        assert!(e.starts_with("config.json: ") && e.contains(want), "{e} / {want}");
    }
}

/// transformers refuses them too, or computes with a text: no number is guessed from one.
#[test]
fn a_number_in_quotes_is_called_one() {
    let sizes = [
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "vocab_size",
        "max_position_embeddings",
        "num_experts",
        "num_experts_per_tok",
        "moe_intermediate_size",
        "decoder_sparse_step",
    ];
    let quoted = |key: &str| read(&with(Arch::QWEN3_MOE, &json!({key: "8"})));
    for key in sizes {
        let e = one_line(quoted(key));
        assert!(e.contains(&format!("{key}: must be a size without quotes, is \"8\"")), "{e}");
    }
    for key in ["rms_norm_eps", "rope_theta", "partial_rotary_factor"] {
        let e = one_line(quoted(key));
        assert!(e.contains(&format!("{key}: must be a number without quotes, is \"8\"")), "{e}");
    }
    let all = |kind: &str| {
        let mut all = json!({"rope_type": kind, "factor": 4.0, "original_max_position_embeddings": 64});
        if kind == "llama3" {
            all["low_freq_factor"] = 1.into();
            all["high_freq_factor"] = 4.into();
        }
        all
    };
    for (kind, keys) in [
        ("linear", &["factor", "rope_theta", "partial_rotary_factor"][..]),
        ("dynamic", &["factor"]),
        ("llama3", &["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"]),
        ("yarn", &["factor", "attention_factor", "mscale", "mscale_all_dim", "beta_fast", "beta_slow"]),
    ] {
        for object in ["rope_scaling", "rope_parameters"] {
            for key in keys {
                let mut scaling = all(kind);
                scaling[*key] = "8.0".into();
                let e = one_line(read(&of_class("LlamaForCausalLM", &json!({object: scaling}))));
                let want = format!("config.json: {object}.{key}: must be a ");
                assert!(e.contains(&want) && e.contains("without quotes, is \"8.0\""), "{kind}: {e}");
            }
        }
    }
    let e = one_line(read(&of_class("LlamaForCausalLM", &json!({"rope_scaling": {"rope_type": 1}}))));
    assert!(e.contains("rope_scaling.rope_type: must be a name, is 1"), "{e}");
}

/// The window of a block's attention.
fn window_of(block: &Section) -> Option<u32> {
    let mut windows = block.nodes.iter().filter_map(|node| match &node.operation {
        Operation::Attention(attention) => {
            Some(attention.window.map(|window| u32::try_from(window).unwrap()))
        }
        _ => None,
    });
    windows.next().unwrap()
}

#[test]
fn windows_in_use_are_those_of_the_blocks_that_have_them() {
    let windows = |arch, changes: &Value| -> Vec<Option<u32>> {
        let graph = read(&with(arch, changes)).unwrap().graph();
        graph.blocks.iter().map(|kind| window_of(&graph.kinds[*kind])).collect()
    };
    let on = |more: Value| {
        let mut all = json!({"num_hidden_layers": 3, "use_sliding_window": true, "sliding_window": 64});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    for arch in [Arch::QWEN2, Arch::QWEN3] {
        let w = Some(64);
        assert_eq!(windows(arch, &on(json!({"max_window_layers": 1}))), [None, w, w]);
        let named = json!({"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]});
        assert_eq!(windows(arch, &on(named)), [w, None, w]);
        assert_eq!(windows(arch, &on(json!({}))), [None; 3], "from block 28 on");
        let absent = json!({"max_window_layers": 0, "sliding_window": "(absent)"});
        assert_eq!(windows(arch, &on(absent)), [Some(4096); 3], "the default of transformers");
        assert_eq!(
            windows(arch, &on(json!({"max_window_layers": 0, "use_sliding_window": false}))),
            [None; 3]
        );
        // What is kept is written, and reads back.
        let config = read(&with(arch, &on(json!({"max_window_layers": 2})))).unwrap();
        let kept = Value::Object(config.extra.clone());
        assert_eq!(kept, json!({"use_sliding_window": true, "sliding_window": 64, "max_window_layers": 2}));
    }
    assert_eq!(windows(Arch::QWEN3_MOE, &on(json!({}))), [Some(64); 3]);
}
