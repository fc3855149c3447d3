//! `synth`, `pull` and `inspect` of models, sound and hostile.

use std::fs;

use crate::session::{Session, repository};

const TINY: [&str; 7] = ["synth", "--arch", "qwen3_moe", "--seed", "7", "--out", "moe"];

#[test]
fn synth_makes_a_folder_that_inspect_reads_and_a_second_run_checks_it() {
    let session = Session::new();
    insta::assert_snapshot!("synth", session.run(&TINY));
    insta::assert_snapshot!("synth_again", session.run(&TINY));
    insta::assert_snapshot!("inspect_model", session.run(&["inspect", "moe", "--digest"]));
    let output = session.output(&["inspect", "moe", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["config"]["moe"]["num_experts"], 128);
    assert_eq!(
        json["tokenizer"],
        serde_json::json!({"state": "present", "vocabulary": 512, "chat_template": true})
    );
    let tensors = json["tensors"].as_array().unwrap();
    assert!(tensors.iter().any(|t| t["name"] == "model.layers.3.mlp.experts.127.down_proj.weight"));

    fs::write(session.path("moe/config.json"), "{}").unwrap();
    let line = session.failure(&TINY);
    assert!(line.contains("config.json: differs"), "{line}");
    let line = session.failure(&["synth", "--arch", "llama", "--out", "moe"]);
    assert!(line.contains("made from other settings"), "{line}");
}

#[test]
fn hostile_models_are_one_line() {
    let session = Session::new();
    assert!(session.output(&["synth", "--arch", "llama", "--out", "good"]).status.success());
    let shard = fs::read(session.path("good/model.safetensors")).unwrap();
    let header = |text: &str| {
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text.as_bytes());
        bytes
    };
    let folder = |name: &str, weights: &[u8]| {
        fs::create_dir(session.path(name)).unwrap();
        for file in ["config.json", "tokenizer.json"] {
            fs::copy(session.path("good").join(file), session.path(name).join(file)).unwrap();
        }
        fs::write(session.path(name).join("model.safetensors"), weights).unwrap();
        session.failure(&["inspect", name])
    };
    let file = |name: &str, bytes: &[u8]| {
        fs::write(session.path(name), bytes).unwrap();
        session.failure(&["inspect", name])
    };
    let lines = [
        folder("short", &shard[..shard.len() - 1]),
        folder("empty", b""),
        folder("huge_header", &[0xff; 16]),
        folder(
            "lying",
            &header(r#"{"a":{"dtype":"F32","shape":[1073741824,1073741824],"data_offsets":[0,9]}}"#),
        ),
        file("short.gguf", b"GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0"),
        file("magic.gguf", b"GG"),
        file("alone.safetensors", &shard),
        session.failure(&["inspect", "nowhere"]),
        session.failure(&["inspect", "/dev/null"]),
        session.failure(&["inspect", "."]),
    ];
    insta::assert_snapshot!("hostile_models", lines.join("\n"));
}

#[test]
fn a_pulled_model_is_found_by_name_and_left_as_it_is() {
    let session = Session::new();
    let folder = session.home().join("models/some/model");
    fs::create_dir_all(folder.parent().unwrap()).unwrap();
    assert!(
        session.output(&["synth", "--arch", "qwen2", "--out", folder.to_str().unwrap()]).status.success()
    );
    assert_eq!(
        session.run(&["pull", "some/model"]),
        "$ mantissa pull some/model\nexit 0\n--- stdout\n[DIR]/home/models/some/model\n--- stderr\n"
    );
    let output = session.output(&["inspect", "some/model"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("qwen2"));
}

#[test]
fn a_hub_that_does_not_answer_is_one_line() {
    let session = Session::new();
    // Nothing listens on the discard port of this machine.
    let mut command = session.command(&["--quiet", "pull", "org/name"]);
    let output = command.env("HF_ENDPOINT", "http://127.0.0.1:9").output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.starts_with("error: http://127.0.0.1:9/") && error.lines().count() == 1, "{error}");
    assert!(!session.home().join("models/org").exists());
}

/// Each layout is inspected as what it is, refused as stored with the remedy, and recorded decoded.
#[test]
fn quantized_folders_are_recorded_decoded() {
    let session = Session::new();
    let document = repository().join("fixtures/documents/demo.txt").display().to_string();
    for name in ["awq", "gptq", "bnb-nf4", "bnb-nf4-double", "fp8"] {
        let made = session.output(&["synth", "--arch", "qwen3", "--quantization", name, "--out", name]);
        assert!(made.status.success(), "{name}");
        let output = session.output(&["inspect", name, "--format", "json"]);
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["quantization"], name);
        assert_eq!(json["storage"][name]["tensors"], 28);
        let record = ["record", "--model", name, "--document", &document, "--document-tokens", "32"];
        let record = [&record[..], &["--decode", "2", "--reps", "1", "--format", "json"]].concat();
        let line = session.failure(&[&record[..], &["--out", &format!("{name}-kept")]].concat());
        assert!(
            line.contains(name) && line.ends_with("use --quantization none, which decodes them first"),
            "{line}"
        );
        let out = format!("{name}-record");
        let output = session.output(&[&record[..], &["--quantization", "none", "--out", &out]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", session.text(&record, &output));
        let output = session.output(&["inspect", &out, "--format", "json"]);
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["configurations"][0]["fixed_params"]["quantization"], format!("{name}-dequantized"));
        let output = session.output(&["verify", &out, "--model", name, "--format", "json"]);
        assert_eq!(output.status.code(), Some(0), "{}", session.text(&["verify"], &output));
    }
}
