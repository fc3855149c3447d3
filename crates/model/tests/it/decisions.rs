//! What is decided about folders: told where a rule exists, refused where none does. That the decisions are those of
//! transformers is tested with the engine (`goldens/decisions.json`).

use std::path::Path;

use mantissa_model::{Arch, Checkpoint};
use mantissa_numerics::Dtype;
use mantissa_testkit::safetensors::{Tensor, build};
use serde_json::{Value, json};

use crate::one_line;
use crate::tiny;

const DOWN: &str = "model.layers.0.mlp.down_proj.weight";

/// A folder of a tiny Llama with these changes of its configuration and these files.
fn folder(changes: &Value, files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut json = tiny::config_json(Arch::LLAMA);
    json.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    std::fs::write(folder.path().join("config.json"), json.to_string()).unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn all() -> Vec<Tensor> {
    tiny::tensors(&tiny::config(Arch::LLAMA), Dtype::F32)
}

/// One tensor alone, with its values turned around if `other`.
fn alone(name: &str, other: bool) -> Vec<u8> {
    let mut tensor = all().into_iter().find(|tensor| tensor.name == name).unwrap();
    if other {
        tensor.data = tensor.data.chunks_exact(4).rev().flatten().copied().collect();
    }
    build(&[tensor])
}

fn index(place: &dyn Fn(&str) -> &'static str) -> Vec<u8> {
    let map: serde_json::Map<_, _> =
        all().into_iter().map(|t| (t.name.clone(), place(&t.name).into())).collect();
    json!({"metadata": {}, "weight_map": map}).to_string().into_bytes()
}

fn told(folder: &Path) -> Vec<String> {
    Checkpoint::open(folder).unwrap().decisions().iter().map(ToString::to_string).collect()
}

#[test]
fn a_plain_folder_has_nothing_to_decide() {
    for arch in [Arch::LLAMA, Arch::QWEN2, Arch::QWEN3, Arch::QWEN3_MOE] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), tiny::config_json(arch).to_string()).unwrap();
        let weights = build(&tiny::tensors(&tiny::config(arch), Dtype::F32));
        std::fs::write(folder.path().join("model.safetensors"), weights).unwrap();
        assert_eq!(told(folder.path()), [""; 0]);
    }
}

#[test]
fn statements_that_contradict_each_other_are_told_with_the_one_that_is_followed() {
    let weights = [("model.safetensors", build(&all()))];
    for (changes, want) in [
        (
            json!({"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"},
                "rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
            "config.json: rope_scaling and rope_parameters are both there and differ; rope_scaling is followed, \
             rope_parameters (rope_theta 1000000.0, rope_type \"default\") is not used: transformers 5.17 puts \
             rope_scaling in the place of rope_parameters",
        ),
        (
            json!({"rope_scaling": {"type": "linear", "rope_type": "dynamic", "factor": 4.0}}),
            "config.json: rope_scaling.rope_type is dynamic, rope_scaling.type linear; rope_type is followed, type is \
             not used: transformers 5.17 reads type where rope_type is absent (Llama of 4.57: the other way)",
        ),
        (
            json!({"rope_scaling": {"rope_type": "default", "factor": 4.0}}),
            "config.json: rope_scaling.factor beside rope_type default; not used: transformers 5.17 reads none of them \
             for that type",
        ),
        (
            json!({"rope_parameters": {"rope_theta": 500.0}}),
            "config.json: rope_parameters.rope_theta is 500, rope_theta on top 10000; that of rope_parameters is \
             followed: transformers 5.17 sets the one inside first",
        ),
        (
            json!({"dtype": "float16"}),
            "config.json: dtype is \"float16\", torch_dtype \"bfloat16\"; dtype is followed: transformers 5.17 keeps \
             dtype where both are there",
        ),
        (
            json!({"model_type": "mistral", "sliding_window": null}),
            "config.json: architectures is LlamaForCausalLM, model_type mistral; model_type is followed: transformers \
             5.17 (AutoModelForCausalLM) chooses by it",
        ),
        (
            json!({"model_type": "qwen2", "use_sliding_window": true, "sliding_window": 8, "max_window_layers": 2}),
            "config.json: use_sliding_window is true, sliding_window 8; no block uses the window: transformers 5.17 \
             gives the window to the blocks from max_window_layers (2) on, of 2",
        ),
        (
            json!({"auto_map": {"AutoModelForCausalLM": "own.Model"}}),
            "config.json: auto_map names code of its own; computed as llama: mantissa runs no code of a model's \
             folder; transformers 5.17 does with trust_remote_code",
        ),
        (
            json!({"tie_word_embeddings": true}),
            "config.json: tie_word_embeddings is true, and lm_head.weight is stored with values of its own; the output \
             is lm_head.weight: transformers 5.17 does not tie what differs (4.57 does)",
        ),
    ] {
        let mut weights = weights.clone();
        if changes["model_type"] == "qwen2" {
            let mut json = tiny::config_json(Arch::QWEN2);
            json["num_hidden_layers"] = 2.into();
            let config =
                mantissa_model::ModelConfig::from_json("config.json", json.to_string().as_bytes()).unwrap();
            weights[0].1 = build(&tiny::tensors(&config, Dtype::F32));
        }
        let told = told(folder(&changes, &weights).path());
        assert!(told.iter().any(|told| told == want), "{told:#?}\n{want}");
    }
}

#[test]
fn files_that_are_not_read_are_told() {
    let whole = build(&all());
    let files = [
        ("model.safetensors", whole.clone()),
        ("model.safetensors.index.json", index(&|_| "model-00001-of-00001.safetensors")),
        ("model-00001-of-00001.safetensors", whole.clone()),
    ];
    assert_eq!(
        told(folder(&json!({}), &files).path()),
        [
            "model.safetensors.index.json: beside model.safetensors; model.safetensors is read; the index and what it \
         names are not: transformers 5.17 looks for the single file first",
            "model-00001-of-00001.safetensors: weights that are no part of the model; not read: transformers 5.17 \
         reads model.safetensors",
        ]
    );
    let mut more = all();
    more.push(Tensor::new("model.layers.7.mlp.up_proj.weight", Dtype::F32, &[1], &[0.0]));
    more.push(Tensor { dtype: "I32", ..Tensor::new("position_ids", Dtype::F32, &[1], &[0.0]) });
    more.push(Tensor::new("model.layers.0.self_attn.rotary_emb.inv_freq", Dtype::F32, &[1], &[0.0]));
    assert_eq!(
        told(folder(&json!({}), &[("model.safetensors", build(&more))]).path()),
        [
            "model.safetensors: model.layers.7.mlp.up_proj.weight, position_ids has no place in a model of this \
         configuration; not used: transformers 5.17 warns of such tensors and does without them"
        ]
    );
    let named = [("model.safetensors", whole.clone()), ("b.safetensors", whole)];
    let folder = folder(&json!({"transformers_weights": "b.safetensors"}), &named);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert!(checkpoint.files().any(|file| file.ends_with("b.safetensors")));
    assert!(!checkpoint.files().any(|file| file.ends_with("model.safetensors")));
    std::fs::remove_file(folder.path().join("b.safetensors")).unwrap();
    let e = one_line(Checkpoint::open(folder.path()));
    assert!(e.contains("config.json: transformers_weights: names no file of this folder"), "{e}");
}

#[test]
fn of_several_tensors_of_a_name_the_one_that_index_and_order_agree_on_is_used() {
    let open = |named: &'static str, other: bool| {
        let place = move |name: &str| if name == DOWN { named } else { "a.safetensors" };
        let files = [
            ("a.safetensors", build(&all())),
            ("b.safetensors", alone(DOWN, other)),
            ("model.safetensors.index.json", index(&place)),
        ];
        folder(&json!({}), &files)
    };
    let overlay = open("b.safetensors", true);
    assert_eq!(
        told(overlay.path()),
        [
            "a.safetensors: model.layers.0.mlp.down_proj.weight is also in b.safetensors, with other values; that of \
         b.safetensors is used: the index says so, and transformers 5.17 takes the last file"
        ]
    );
    let used = Checkpoint::open(overlay.path()).unwrap().weight(DOWN).unwrap().data.into_owned();
    let original = all().into_iter().find(|tensor| tensor.name == DOWN).unwrap().data;
    assert_eq!(used, original.chunks_exact(4).rev().flatten().copied().collect::<Vec<_>>());
    // Where they do not agree the values must be the same.
    let e = one_line(Checkpoint::open(open_two(&open).0.path()));
    assert!(
        e.contains(
            "a.safetensors: tensor 'model.layers.0.mlp.down_proj.weight': other values here and in \
                    b.safetensors: \
                    the index says a.safetensors, and transformers 5.17 takes the last file; remove it"
        ),
        "{e}"
    );
    let told = told(open_two(&open).1.path());
    assert!(
        told[0].contains("with the same values; that of b.safetensors is used: they are the same"),
        "{told:?}"
    );
}

/// The index names the first of two files; they differ, and they do not.
fn open_two(
    open: &dyn Fn(&'static str, bool) -> tempfile::TempDir,
) -> (tempfile::TempDir, tempfile::TempDir) {
    // The second file is read only if the index names it for something.
    let (differ, same) = (open("a.safetensors", true), open("a.safetensors", false));
    for folder in [&differ, &same] {
        let place = |name: &str| if name == "model.norm.weight" { "b.safetensors" } else { "a.safetensors" };
        std::fs::write(folder.path().join("model.safetensors.index.json"), index(&place)).unwrap();
    }
    (differ, same)
}

#[test]
fn an_index_that_misses_its_files_is_followed_as_far_as_there_is_something() {
    let place = |name: &str| if name == DOWN { "b.safetensors" } else { "a.safetensors" };
    let rest: Vec<Tensor> = all().into_iter().filter(|tensor| tensor.name != "model.norm.weight").collect();
    let norm = ("b.safetensors", alone("model.norm.weight", false));
    let files = [("a.safetensors", build(&rest)), norm, ("model.safetensors.index.json", index(&place))];
    let told = told(folder(&json!({}), &files).path());
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(
        told[0].starts_with("a.safetensors: model.norm.weight is here by the index, and is not; read from b")
    );
    let files =
        [("a.safetensors", build(&rest)), ("model.safetensors.index.json", index(&|_| "a.safetensors"))];
    let e = one_line(Checkpoint::open(folder(&json!({}), &files).path()));
    assert!(e.contains("tensor 'model.norm.weight': absent"), "{e}");
}

#[test]
fn an_output_that_would_be_random_is_refused() {
    let without: Vec<Tensor> = all().into_iter().filter(|tensor| tensor.name != "lm_head.weight").collect();
    let files = [("model.safetensors", build(&without))];
    let e = one_line(Checkpoint::open(folder(&json!({}), &files).path()));
    assert!(
        e.contains("'lm_head.weight': absent, and tie_word_embeddings is not true: transformers 5.17"),
        "{e}"
    );
    let tied = folder(&json!({"tie_word_embeddings": true}), &files);
    assert_eq!(told(tied.path()), [""; 0]);
    let without: Vec<Tensor> =
        all().into_iter().filter(|tensor| tensor.name != "model.embed_tokens.weight").collect();
    let files = [("model.safetensors", build(&without))];
    let tied = folder(&json!({"tie_word_embeddings": true}), &files);
    let checkpoint = Checkpoint::open(tied.path()).unwrap();
    let head = all().into_iter().find(|tensor| tensor.name == "lm_head.weight").unwrap().data;
    assert_eq!(checkpoint.weight("model.embed_tokens.weight").unwrap().data, head);
    assert!(checkpoint.config().tie_word_embeddings && !checkpoint.has("lm_head.weight"));
}

#[test]
fn pointers_and_adapters_are_named_for_what_they_are() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4665\nsize 12345\n".to_vec();
    let refused = |files: &[(&str, Vec<u8>)], changes: &Value| {
        let folder = folder(changes, files);
        one_line(Checkpoint::open(folder.path()))
    };
    let e = refused(&[("model.safetensors", pointer.clone())], &json!({}));
    assert!(
        e.ends_with(
            "model.safetensors: line 1: a pointer of Git LFS, not the file itself; run `git lfs pull` in its \
                     repository"
        ),
        "{e}"
    );
    let e = refused(&[("config.json", pointer.clone()), ("model.safetensors", build(&all()))], &json!({}));
    assert!(e.contains("config.json: line 1: a pointer of Git LFS"), "{e}");
    let gguf = tempfile::tempdir().unwrap();
    std::fs::write(gguf.path().join("m.gguf"), &pointer).unwrap();
    assert!(one_line(Checkpoint::open(gguf.path())).contains("m.gguf: line 1: a pointer of Git LFS"));

    let adapter = json!({"peft_type": "LORA", "base_model_name_or_path": "meta/llama", "r": 8}).to_string();
    let beside =
        [("adapter_config.json", adapter.clone().into_bytes()), ("model.safetensors", build(&all()))];
    let e = refused(&beside, &json!({}));
    assert!(
        e.contains(
            "adapter_config.json: peft_type: a LORA adapter of 'meta/llama', which is neither merged nor \
                    computed \
                    beside its model; merge it with PEFT (merge_and_unload, then save_pretrained)"
        ),
        "{e}"
    );
    assert!(e.ends_with("or move adapter_config.json away if the model beside it is meant alone"), "{e}");
    let lone = tempfile::tempdir().unwrap();
    std::fs::write(lone.path().join("adapter_config.json"), adapter).unwrap();
    let e = one_line(Checkpoint::open(lone.path()));
    assert!(e.ends_with("and give the merged folder"), "{e}");
}
