//! Values that are not finite: a record finishes and names the first one, greedy takes the first NaN, stand-ins of other
//! programs are missing.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::session::{Session, repository};

/// Sets values of a tensor of a synthetic checkpoint (bf16), by their indices.
fn patch(model: &Path, tensor: &str, values: &[(usize, u16)]) {
    let path = model.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let entry = &header[tensor];
    assert_eq!(entry["dtype"], "BF16", "{tensor}");
    let start = 8 + length + usize::try_from(entry["data_offsets"][0].as_u64().unwrap()).unwrap();
    for (index, bits) in values {
        bytes[start + 2 * index..start + 2 * index + 2].copy_from_slice(&bits.to_le_bytes());
    }
    fs::write(path, bytes).unwrap();
}

const NAN: u16 = 0x7fc0;
/// 2^100: finite in bf16, infinite in f16.
const HUGE: u16 = 0x7180;

fn with_model(arch: &str) -> (Session, String) {
    let session = Session::new();
    let made = session.output(&["synth", "--arch", arch, "--seed", "3", "--dtype", "bf16", "--out", "model"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (session, repository().join("fixtures/documents/demo.pdf").display().to_string())
}

fn record(session: &Session, document: &str, more: &[&str]) -> Value {
    let base =
        ["--format", "json", "record", "--model", "model", "--document", document, "--document-tokens", "40"];
    let rest = ["--decode", "4", "--no-chat-template", "--out", "out", "--json", "out.json"];
    let arguments = [&base[..], &rest, more].concat();
    let output = session.output(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", session.text(&arguments, &output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What a record says of the first value that is not finite.
fn first(session: &Session) -> (Value, Value) {
    let output = session.output(&["--format", "json", "inspect", "out", "--model", "model"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    (
        shown["configurations"][0]["mantissa"]["not_finite"][0].clone(),
        shown["runs"][0]["output"]["ids"].clone(),
    )
}

/// Of one NaN weight in the embedding's row of token 5, where embeddings are not tied, nothing but that token suffers;
/// here the head has it, so logit 5 is NaN at every position.
#[test]
fn one_nan_logit_is_chosen_as_torch_chooses_it_and_said() {
    let (session, document) = with_model("qwen3");
    let config: Value =
        serde_json::from_slice(&fs::read(session.path("model/config.json")).unwrap()).unwrap();
    let tied = config["tie_word_embeddings"] == json!(true);
    let width = usize::try_from(config["hidden_size"].as_u64().unwrap()).unwrap();
    let head = if tied { "model.embed_tokens.weight" } else { "lm_head.weight" };
    patch(&session.path("model"), head, &[(5 * width, NAN)]);
    let summary = record(&session, &document, &["--dtype", "f32", "--reps", "2"]);
    assert_eq!(summary["reproducible"], true, "NaNs of equal bits are equal");
    let (first, ids) = first(&session);
    assert_eq!(ids[0], 5, "{first}");
    assert_eq!(first["value"], "NaN");
    assert!(first["nan_choices"].as_u64().unwrap() > 0, "{first}");
    if !tied {
        assert_eq!(first["site"], "logits");
        assert_eq!(ids, json!([5, 5, 5, 5]));
    }
    // The same in JSON: null, with its bits.
    let text = fs::read_to_string(session.path("out.json")).unwrap();
    assert!(text.contains("null") && text.contains("\"7fc00000\""));
    // Its own replay has the same bits.
    let output = session.output(&["--format", "json", "verify", "out", "--model", "model"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let said = session.output(&["verify", "out", "--model", "model"]);
    assert_eq!(said.status.code(), Some(0));
}

#[test]
fn an_overflow_in_a_block_is_named_by_site_layer_and_position() {
    let (session, document) = with_model("llama");
    // A row of the second block's down projection.
    let values: Vec<(usize, u16)> = (0..64).map(|index| (index, HUGE)).collect();
    patch(&session.path("model"), "model.layers.1.mlp.down_proj.weight", &values);
    let summary = record(&session, &document, &["--dtype", "f16", "--reps", "2"]);
    assert_eq!(summary["reproducible"], true);
    let (first, ids) = first(&session);
    assert_eq!((&first["phase"], &first["position"]), (&json!("prefill"), &json!(0)), "{first}");
    let site = first["site"].as_str().unwrap();
    assert!(site.starts_with("layer_2.") || site.starts_with("layer_3."), "{first}");
    assert_eq!(ids, json!([0, 0, 0, 0]), "torch.argmax of a row of NaN is 0");
    assert_eq!(first["nan_choices"], 4);
    let text = session.output(&["inspect", "out", "--model", "model"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("the first value that is not finite is"), "{text}");
    assert!(text.contains("the first NaN, as torch.argmax does"), "{text}");
    // Facts have no distance, and nothing is called different.
    let output = session.output(&["--format", "json", "compare", "out", "out.json"]);
    let facts: Value = serde_json::from_slice(&output.stdout).unwrap();
    let states: Vec<&Value> = facts["prompts"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|p| p["pairs"].as_array().unwrap())
        .map(|p| &p["state"])
        .collect();
    assert!(!states.is_empty() && states.iter().all(|state| **state == json!("equal")), "{states:?}");
}

/// A repetition that was on disk keeps what it said.
#[test]
fn a_record_without_such_values_says_nothing_of_them() {
    let (session, document) = with_model("llama");
    record(&session, &document, &["--dtype", "f32", "--reps", "1"]);
    let manifest = fs::read_to_string(session.path("out/manifest.json")).unwrap();
    assert!(!manifest.contains("not_finite"));
}

/// Two engines, the same numbers; one writes −∞ and the other a stand-in where a candidate has no probability.
#[test]
fn stand_ins_of_other_programs_are_missing_and_not_measured() {
    let session = Session::new();
    for (stand_in, other, state) in [
        ("-9999.0", "-Infinity", "equal"),
        ("-9999.0", "-1e30", "equal"),
        ("-1e38", "-Infinity", "equal"),
        ("null", "-9999.0", "equal"),
        // One side measured it: nothing differs, and the row is not shown to be equal.
        ("-9999.0", "-3.5", "incomparable"),
        ("-Infinity", "0.0", "incomparable"),
    ] {
        let run = |config: &str, value: &str| {
            let step = |n: u32, a: &str, b: &str| {
                format!(
                    r#"{{"step": {n}, "token_id": 7, "token_text": "a", "hidden_states": {{}}, "key_vectors": {{}},
                    "logprobs": {{"pos_-1": {{"token_ids": [7, 8, 9], "log_probs": [{a}, {b}, {value}]}}}}}}"#
                )
            };
            format!(
                r#"{{"config_id": "{config}", "rep_id": 0, "prompt_text": "hello", "decode_steps": [{}, {}]}}"#,
                step(0, "-0.125", "-2.25"),
                step(1, "-0.5", "-1.0")
            )
        };
        let configuration = |name: &str| {
            format!(
                r#"{{"config_id": "{name}", "hardware": "h100", "variable_value": "{name}", "fixed_params": {{"compile":
                false, "attention_impl": "eager", "quantization": "none", "tp_size": 1, "ep_size": 1,
                "concurrent_streams": false}}}}"#
            )
        };
        let text = format!(
            r#"{{"experiment_metadata": {{"experiment_type": "reference", "variable_tested": "engine", "model": "tiny",
            "model_size": "1M", "architecture": "dense", "sequence_length": 5, "decode_steps": 2, "extraction_config":
            {{"layers": [], "positions": [-1], "hidden_dim": 4, "key_dim": 4, "top_k_logprobs": 3}}}},
            "configurations": [{}, {}], "runs": [{}, {}]}}"#,
            configuration("transformers"),
            configuration("vllm"),
            run("transformers", other),
            run("vllm", stand_in)
        );
        fs::write(session.path("a.json"), text).unwrap();
        let output = session.output(&["--format", "json", "compare", "a.json"]);
        let shown = session.text(&["compare"], &output);
        let facts: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{shown}"));
        assert_eq!(facts["prompts"][0]["pairs"][0]["state"], state, "{stand_in} {other}: {shown}");
    }
}
