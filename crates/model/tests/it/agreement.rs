//! The same model through every door gives the same weights.

use std::path::Path;

use mantissa_model::{Arch, Checkpoint, ModelConfig, WeightDtype};
use mantissa_numerics::{BlockFormat, Dtype};
use mantissa_testkit::gguf::Encoding;
use mantissa_testkit::safetensors::{Tensor, build};
use serde_json::json;

use crate::one_line;
use crate::tiny::{self, ARCHS};

fn write_folder(folder: &Path, json: &serde_json::Value, files: &[(&str, Vec<u8>)]) {
    std::fs::write(folder.join("config.json"), json.to_string()).unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

/// Every weight of the checkpoint, as f32, against what was written.
fn check(checkpoint: &Checkpoint, expected: impl Fn(&str, Vec<f32>) -> Vec<f32>) {
    let config = checkpoint.config();
    let mut count = 0;
    for spec in config.tensors() {
        let weight = checkpoint.weight(&spec.name).unwrap();
        let cols = *spec.shape.last().unwrap();
        assert_eq!(
            (weight.rows * weight.cols, weight.cols),
            (spec.shape.iter().product(), cols),
            "{}",
            spec.name
        );
        let want = expected(&spec.name, tiny::values(&spec));
        let mut row = vec![0.0; cols];
        for r in 0..weight.rows {
            weight.row_f32(r, &mut row);
            let same = row.iter().zip(&want[r * cols..]).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{} row {r}", spec.name);
        }
        count += 1;
    }
    assert_eq!(checkpoint.weight_names().count(), count);
}

fn same(_: &str, values: Vec<f32>) -> Vec<f32> {
    values
}

#[test]
fn safetensors_and_gguf_of_every_family_hold_the_same_weights() {
    for arch in ARCHS {
        let config = tiny::config(arch);
        for dtype in Dtype::ALL {
            let folder = tempfile::tempdir().unwrap();
            let file = build(&tiny::tensors(&config, dtype));
            write_folder(folder.path(), &tiny::config_json(arch), &[("model.safetensors", file)]);
            let checkpoint = Checkpoint::open(folder.path()).unwrap();
            check(&checkpoint, same);
            assert_eq!(checkpoint.quantization(), None);

            let path = folder.path().join("m.gguf");
            std::fs::write(&path, tiny::gguf(&config, Encoding::Plain(dtype)).build()).unwrap();
            let other = Checkpoint::open(&path).unwrap();
            check(&other, same);
            let eps = f64::from(1e-5_f32);
            let want = ModelConfig { torch_dtype: None, rms_norm_eps: eps, ..config.clone() };
            assert_eq!(*other.config(), want);
        }
    }
}

#[test]
fn quantized_weights_keep_their_blocks_through_reordering() {
    for arch in [Arch::LLAMA, Arch::QWEN3_MOE] {
        let config = tiny::config(arch);
        for format in BlockFormat::ALL {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("m.gguf");
            let mut file = tiny::gguf(&config, Encoding::Block(format));
            file.alignment = 64;
            std::fs::write(&path, file.build()).unwrap();
            // A folder with one GGUF file is that file.
            let checkpoint = Checkpoint::open(folder.path()).unwrap();
            assert_eq!(checkpoint.quantization(), Some(format));
            let q = checkpoint.weight("model.layers.1.self_attn.q_proj.weight").unwrap();
            assert_eq!(q.dtype, WeightDtype::Block(format));
            check(&checkpoint, |name, values| {
                if name.contains("norm") || name.contains("bias") {
                    return values;
                }
                let mut out = vec![0.0; values.len()];
                format.dequantize(&mantissa_testkit::gguf::quantize(format, &values), &mut out);
                out
            });
        }
    }
}

#[test]
fn shards_and_fused_experts_are_one_model() {
    let arch = Arch::QWEN3_MOE;
    let config = tiny::config(arch);
    let all = tiny::tensors(&config, Dtype::Bf16);
    let mut fused: Vec<Tensor> = Vec::new();
    for tensor in &all {
        let Some((prefix, rest)) = tensor.name.split_once(".experts.") else {
            fused.push(tensor.clone());
            continue;
        };
        // Experts come as gate, up, down of expert 0, then of expert 1, …: append to the layer's two tensors.
        let part = if rest.contains("down") { "down_proj" } else { "gate_up_proj" };
        let name = format!("{prefix}.experts.{part}");
        let shape = if part == "down_proj" { [4, 256, 256] } else { [4, 512, 256] };
        match fused.iter_mut().find(|t| t.name == name) {
            Some(whole) => whole.data.extend_from_slice(&tensor.data),
            None => fused.push(Tensor { name, shape: shape.to_vec(), ..tensor.clone() }),
        }
    }
    assert!(fused.len() < all.len());
    for tensors in [all, fused] {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = tensors.split_at(tensors.len() / 2);
        let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        let map = first.iter().map(|t| (t.name.clone(), json!(shards[0])));
        let map: serde_json::Map<_, _> =
            map.chain(second.iter().map(|t| (t.name.clone(), json!(shards[1])))).collect();
        let index = json!({"metadata": {}, "weight_map": map}).to_string().into_bytes();
        let files =
            [(shards[0], build(first)), (shards[1], build(second)), ("model.safetensors.index.json", index)];
        write_folder(folder.path(), &tiny::config_json(arch), &files);
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        check(&checkpoint, same);
        assert_eq!(checkpoint.files().count(), 3);

        std::fs::remove_file(folder.path().join(shards[1])).unwrap();
        let e = one_line(Checkpoint::open(folder.path()));
        assert!(e.contains(shards[1]) && e.contains("cannot open"), "{e}");
    }
}

#[test]
fn tied_models_have_no_output_weight() {
    let arch = Arch::QWEN2;
    let mut json = tiny::config_json(arch);
    json["tie_word_embeddings"] = json!(true);
    let untied = tiny::config(arch);
    let folder = tempfile::tempdir().unwrap();
    // A stored copy of the embedding is one matrix with it, as in transformers.
    let mut tensors = tiny::tensors(&untied, Dtype::F16);
    let embedding =
        tensors.iter().find(|tensor| tensor.name == "model.embed_tokens.weight").unwrap().data.clone();
    tensors.iter_mut().find(|tensor| tensor.name == "lm_head.weight").unwrap().data = embedding;
    write_folder(folder.path(), &json, &[("model.safetensors", build(&tensors))]);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert!(!checkpoint.has("lm_head.weight") && checkpoint.has("model.embed_tokens.weight"));
    let e = one_line(checkpoint.weight("lm_head.weight"));
    assert!(e.contains("tensor 'lm_head.weight': absent"), "{e}");

    let tied = ModelConfig { tie_word_embeddings: true, ..untied };
    let path = folder.path().join("m.gguf");
    std::fs::write(&path, tiny::gguf(&tied, Encoding::Plain(Dtype::F16)).build()).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert!(checkpoint.config().tie_word_embeddings && !checkpoint.has("lm_head.weight"));
}

#[test]
fn generation_config_adds_the_tokens_that_end_a_turn() {
    let arch = Arch::LLAMA;
    let folder = tempfile::tempdir().unwrap();
    let files = [
        ("model.safetensors", build(&tiny::tensors(&tiny::config(arch), Dtype::F32))),
        ("generation_config.json", json!({"eos_token_id": [5, 6]}).to_string().into_bytes()),
    ];
    write_folder(folder.path(), &tiny::config_json(arch), &files);
    assert_eq!(Checkpoint::open(folder.path()).unwrap().config().eos_token_ids, [5, 6]);
    let own = |text: &str| {
        std::fs::write(folder.path().join("generation_config.json"), text).unwrap();
        Checkpoint::open(folder.path()).unwrap()
    };
    // A damaged file concerns those alone who ask for its settings.
    for (text, want) in [
        (r#"{"eos_token_id": "x"}"#, "generation_config.json: eos_token_id: must be a token id"),
        (r#"{"repetition_penalty": "high"}"#, "generation_config.json: repetition_penalty: invalid type"),
        ("{cut", "generation_config.json: line 1: not a JSON object"),
    ] {
        let checkpoint = own(text);
        let e = checkpoint.generation().unwrap_err().to_string();
        assert!(e.contains(want), "{e}");
        assert_eq!(checkpoint.generation_without_file().eos_token_id, checkpoint.config().eos_token_ids);
    }
}

/// As transformers 5.17 loads these files: its own `from_pretrained` left the same ends.
#[test]
fn ends_are_those_of_the_file_and_those_of_the_configuration_only_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let weights = build(&tiny::tensors(&tiny::config(Arch::LLAMA), Dtype::F32));
    let mut json = tiny::config_json(Arch::LLAMA);
    json["eos_token_id"] = 7.into();
    write_folder(folder.path(), &json, &[("model.safetensors", weights)]);
    let ends = || Checkpoint::open(folder.path()).unwrap().generation().unwrap().eos_token_id.clone();
    assert_eq!(ends(), [7]);
    for (text, want) in
        [(r#"{"repetition_penalty": 1.1}"#, &[][..]), (r#"{"eos_token_id": [5, 6]}"#, &[5, 6])]
    {
        std::fs::write(folder.path().join("generation_config.json"), text).unwrap();
        assert_eq!(ends(), want, "{text}");
        assert_eq!(Checkpoint::open(folder.path()).unwrap().generation_without_file().eos_token_id, [7]);
    }
}

#[test]
fn settings_of_draws_refuse_no_model_and_are_told_where_transformers_would_not_draw_by_them() {
    let folder = tempfile::tempdir().unwrap();
    let weights = build(&tiny::tensors(&tiny::config(Arch::LLAMA), Dtype::F32));
    write_folder(folder.path(), &tiny::config_json(Arch::LLAMA), &[("model.safetensors", weights)]);
    for (settings, want) in [
        (
            json!({"do_sample": false, "top_k": -1, "temperature": 0}),
            "top_k, temperature without do_sample; not read",
        ),
        (json!({"top_p": "high"}), "top_p without do_sample; not read: transformers 5.17 reads it only with"),
        (
            json!({"do_sample": true, "top_k": -1}),
            "top_k -1 with do_sample; kept as stated: transformers 5.17 refuses",
        ),
        (json!({"do_sample": true, "temperature": 0}), "temperature 0 with do_sample; kept as stated"),
        (json!({"top_k": 50, "temperature": 1.0, "top_p": 1.0}), ""),
        (json!({"do_sample": true, "top_k": 0, "temperature": 0.6}), ""),
    ] {
        std::fs::write(folder.path().join("generation_config.json"), settings.to_string()).unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let told: Vec<String> = checkpoint.decisions().iter().map(ToString::to_string).collect();
        assert!(told.len() == usize::from(!want.is_empty()), "{settings}: {told:?}");
        assert!(told.concat().contains(want), "{settings}: {told:?}");
        assert!(checkpoint.generation().unwrap().greedy().is_plain(), "{settings}");
    }
}

#[test]
fn llama3_scaling_is_recognized_from_its_divisors() {
    // Divisors as convert_hf_to_gguf.py writes them for Llama 3.2 (theta 500000, factor 32, context 8192).
    let config = ModelConfig { rope_theta: 500_000.0, ..tiny::config(Arch::LLAMA) };
    let divisors: Vec<f32> = (0..32_u8)
        .map(|pair| {
            let wavelength = std::f32::consts::TAU * 500_000_f32.powf(f32::from(2 * pair) / 64.0);
            if wavelength < 8192.0 / 4.0 {
                1.0
            } else if wavelength > 8192.0 {
                32.0
            } else {
                let smooth = (8192.0 / wavelength - 1.0) / 3.0;
                1.0 / ((1.0 - smooth) / 32.0 + smooth)
            }
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let build = |divisors: &[f32]| {
        // The last of two equal keys would be refused: leave the base out of the tiny file's own keys.
        let file = tiny::gguf(&config, Encoding::Plain(Dtype::F32));
        let file = file.tensor("rope_freqs.weight", &[32], Encoding::Plain(Dtype::F32), divisors);
        let bytes = file.build();
        let theta = 10000_f32.to_le_bytes();
        let at = bytes.windows(4).position(|window| window == theta).unwrap();
        let mut bytes = bytes;
        bytes[at..at + 4].copy_from_slice(&500_000_f32.to_le_bytes());
        bytes
    };
    std::fs::write(&path, build(&divisors)).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!(
        checkpoint.config().rope_scaling,
        Some(mantissa_model::RopeScaling::Llama3 {
            factor: 32.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        })
    );
    let mut other = divisors;
    other[20] *= 1.01;
    std::fs::write(&path, build(&other)).unwrap();
    let e = one_line(Checkpoint::open(&path));
    assert!(e.contains("rope_freqs.weight: its frequency divisors fit no known llama3 scaling"), "{e}");
}

#[test]
fn the_digest_covers_every_byte_and_reports_progress() {
    let arch = Arch::QWEN3;
    let folder = tempfile::tempdir().unwrap();
    let mut file = build(&tiny::tensors(&tiny::config(arch), Dtype::F32));
    write_folder(folder.path(), &tiny::config_json(arch), &[("model.safetensors", file.clone())]);
    let done = std::cell::Cell::new(0);
    let digest = Checkpoint::open(folder.path()).unwrap().digest(&|bytes| done.set(bytes)).unwrap();
    assert_eq!(done.get(), u64::try_from(file.len()).unwrap());
    assert_eq!(
        digest.files.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(),
        ["config.json", "model.safetensors"]
    );
    assert_eq!(digest.files[1].blake3, blake3::hash(&file).to_hex().as_str());
    let mut whole = blake3::Hasher::new();
    for file in &digest.files {
        whole.update(&u64::try_from(file.name.len()).unwrap().to_le_bytes());
        whole.update(file.name.as_bytes());
        whole.update(&file.size.to_le_bytes());
        whole.update(blake3::Hash::from_hex(&file.blake3).unwrap().as_bytes());
    }
    assert_eq!(digest.digest, whole.finalize().to_hex().as_str());

    *file.last_mut().unwrap() ^= 1;
    std::fs::write(folder.path().join("model.safetensors"), &file).unwrap();
    let other = Checkpoint::open(folder.path()).unwrap().digest(&|_| {}).unwrap();
    assert_ne!(other.digest, digest.digest);
    assert_eq!(other.files[0], digest.files[0]);
}
