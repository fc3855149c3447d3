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

/// A folder whose statements contradict each other, as `inspect` and `record` show it.
#[test]
fn what_was_decided_about_a_folder_is_shown() {
    let session = Session::new();
    assert!(session.output(&["synth", "--arch", "llama", "--out", "m"]).status.success());
    let config = session.path("m/config.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    json["rope_scaling"] = serde_json::json!({"type": "linear", "rope_type": "default", "factor": 4.0});
    fs::write(&config, json.to_string()).unwrap();
    fs::copy(session.path("m/model.safetensors"), session.path("m/model-00001-of-00002.safetensors"))
        .unwrap();
    insta::assert_snapshot!("inspect_decisions", session.run(&["inspect", "m"]));
    let output = session.output(&["inspect", "m", "--format", "json"]);
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shown["decisions"][0]["decided"], "rope_type is followed, type is not used");
    fs::write(session.path("doc.txt"), "one two three ".repeat(40)).unwrap();
    let record =
        "record --model m --document doc.txt --document-tokens 16 --decode 1 --dtype f32 --reps 1 --out o";
    let output = session.output(&record.split(' ').collect::<Vec<_>>());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.matches("rope_type is followed").count() == 1, "{said}");
    fs::write(session.path("m/adapter_config.json"), r#"{"peft_type": "LORA"}"#).unwrap();
    let line = session.failure(&["inspect", "m"]);
    assert!(line.contains("a LORA adapter"), "{line}");
}

#[test]
fn a_snapshot_of_the_hub_is_found_by_its_repository_and_revision() {
    let session = Session::new();
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let hub = session.path("hub/models--some--model");
    for folder in ["refs", "snapshots"] {
        fs::create_dir_all(hub.join(folder)).unwrap();
    }
    let snapshot = hub.join("snapshots").join(commit);
    assert!(
        session.output(&["synth", "--arch", "llama", "--out", snapshot.to_str().unwrap()]).status.success()
    );
    fs::write(hub.join("refs/main"), commit).unwrap();
    let path = hub.to_str().unwrap();
    for spec in
        [path.to_owned(), format!("{path}@main"), format!("{path}@0123456"), "some/model@main".to_owned()]
    {
        let output =
            session.command(&["inspect", &spec]).env("HF_HUB_CACHE", session.path("hub")).output().unwrap();
        assert!(output.status.success(), "{spec}: {output:?}");
    }
    let line = session.failure(&["inspect", &format!("{path}@v9")]);
    assert!(line.contains(&format!("no snapshot of revision v9 here; there are {commit}")), "{line}");
    fs::write(session.path("doc.txt"), "one two three ".repeat(40)).unwrap();
    let record =
        "record --document doc.txt --document-tokens 16 --decode 1 --dtype f32 --reps 1 --out o --model";
    let mut record: Vec<&str> = record.split(' ').collect();
    record.push(path);
    assert!(session.output(&record).status.success());
    let shown = session.output(&["inspect", "o", "--format", "json"]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert!(shown.to_string().contains(&format!("some/model@{commit}")), "{shown}");
}
