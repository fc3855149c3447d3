//! Truncated, edited and lying files: one line, with file, place and remedy; never a panic.

use std::path::{Path, PathBuf};

use mantissa_evidence::{EvidenceError, Experiment, Outcome, container, json, read};

use crate::sample;

fn text() -> String {
    String::from_utf8(json::to_vec(&sample::fixture(), Path::new("memory")).unwrap()).unwrap()
}

fn parse(text: &str) -> Result<Experiment, EvidenceError> {
    json::parse(text.as_bytes(), Path::new("e.json"))
}

/// The message of a refusal, which is one line of bounded length with a remedy.
fn refusal<T>(result: Result<T, EvidenceError>) -> String {
    let message = result.err().expect("accepted").to_string();
    assert!(!message.contains(char::is_control), "{message:?}");
    assert!(message.len() < 2000 && message.contains("; "), "{message}");
    message
}

#[test]
fn every_truncation_of_a_json_is_refused() {
    let text = text();
    let text = text.trim_end();
    let step = (text.len() / 400).max(1);
    for end in (0..text.len()).step_by(step).chain(text.len() - 40..text.len()) {
        let Some(cut) = text.get(..end) else { continue };
        let message = refusal(parse(cut));
        assert!(message.starts_with("e.json: line "), "{message}");
        assert!(message.contains("ends too early") || message.contains("empty"), "{message}");
    }
}

#[test]
fn each_flaw_is_named_with_its_place() {
    let text = text();
    let first = |needle: &str, replacement: &str| {
        assert!(text.contains(needle), "{needle}");
        text.replacen(needle, replacement, 1)
    };
    let row_start = text.find("\"pos_-3\": [").unwrap() + 11;
    let with_row = |row: &str| format!("{}{row}{}", &text[..row_start], &text[row_start..]);
    let cases = [
        (first("\n  \"rep_id\": 1", "\n  \"rep_id\": 1, \"rep_id\": 1"), "duplicate field `rep_id`"),
        (with_row("0.5,"), "7 values instead of 6"),
        (with_row("Infinity,"), "NaN and Infinity are not JSON"),
        (with_row("NaN,"), "NaN and Infinity are not JSON"),
        (with_row("-Infinity,"), "NaN and Infinity are not JSON"),
        (with_row("1e40,"), "number out of range"),
        (with_row("\"x\","), "expected f32"),
        (with_row("[[[["), "expected f32"),
        (first("\"layer_12\": {", "\"layer_1\": {"), "duplicate key 'layer_1'"),
        (first("\"pos_-3\": [", "\"pos_3\": ["), "instead of the positions"),
        (first("\"pos_-3\": [", "\"p\\nos\": ["), "is not a position"),
        (first("\n  \"rep_id\": 1", "\n  \"rep_id\": 2"), "runs[2]: a second run"),
        (first("\n  \"rep_id\": 1", "\n  \"rep_id\": -1"), "invalid value"),
        (first("\"step\": 1", "\"step\": 2"), "decode_steps[1].step"),
        (
            first("\"decode\": {", "\"decode\": {\"first_step\": 1, "),
            "decode_steps[0].step: is 0; number steps",
        ),
        (first("\"token_id\": 1001", "\"token_id\": 1"), "token_id or token_text differs"),
        (first("\"token_text\": \" t1001\"", "\"token_text\": \"\""), "token_id or token_text differs"),
        (first("\"prompt_token_ids\": [1,", "\"prompt_token_ids\": [9,"), "prompt_ids_digest"),
        (
            first("\"output_token_ids\": [1000,1001,1002]", "\"output_token_ids\": [1000,1001]"),
            "output_ids_digest",
        ),
        (first("\"steps\": 2", "\"steps\": 18446744073709551615"), "states 18446744073709551615 steps"),
        (first("\"dim\": 6", "\"dim\": 18446744073709551615"), "instead of 18446744073709551615"),
        (first("\"format_version\": 1", "\"format_version\": 7"), "format version 7 is newer"),
        (
            first("\"format_version\": 1", "\"format_version\": 7, \"new_key\": []"),
            "format version 7 is newer",
        ),
        (first("\"format_version\": 1", "\"format_version\": 0"), "format version 0 is not known"),
        (first("\"bits\": [\"", "\"bits\": [\"0"), "hexadecimal digits"),
        (first("\"indices\": [", "\"indices\": [99,"), "indices and"),
        (first("\"config_id\": \"cpu bs/2\"", "\"config_id\": \"other\""), "is not among the configurations"),
        (first("\"runtime_seconds\": 0.1", "\"runtime_seconds\": 1e999"), "number out of range"),
        (first("\"variable_value\": 2", "\"variable_value\": {\"a\": 1, \"a\": 2}"), "duplicate key 'a'"),
        (
            first("\"variable_value\": 2", &format!("\"variable_value\": {}", "[".repeat(100_000))),
            "recursion limit",
        ),
        (
            first("\"variable_value\": 2", &format!("\"variable_value\": [0{}]", ",0".repeat(20_000))),
            "more than 10000 values",
        ),
        (first("\"decode_steps\": [{", "\"surprise\": 1, \"decode_steps\": [{"), "unknown field `surprise`"),
        (format!("{text}x"), "trailing characters"),
        (String::new(), "the file is empty"),
        ("[]".to_owned(), "invalid length 0"),
        ("{\"a\\u0000\\n\": 1}".to_owned(), "unknown field"),
        (format!("{{\"{}\": 1}}", "k".repeat(100_000)), "unknown field"),
    ];
    for (edited, expected) in cases {
        let message = refusal(parse(&edited));
        assert!(message.contains(expected), "expected '{expected}' in: {message}");
    }
}

/// A value changed within its format, a swapped null and a changed name are found by the digest or by its bits.
#[test]
fn edited_values_are_found() {
    let text = text();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let row = value["runs"][2]["decode_steps"][0]["key_vectors"]["layer_2"]["pos_-2"].as_array().unwrap();
    let mut edited = value.clone();
    let at = row.iter().position(serde_json::Value::is_number).unwrap();
    edited["runs"][2]["decode_steps"][0]["key_vectors"]["layer_2"]["pos_-2"][at] = 0.25.into();
    assert!(refusal(parse(&edited.to_string())).contains("runs[2].mantissa.signals_digest"));
    let mut edited = value.clone();
    edited["runs"][2]["decode_steps"][0]["key_vectors"]["layer_2"]["pos_-2"][at] = serde_json::Value::Null;
    let message = refusal(parse(&edited.to_string()));
    assert!(message.contains("runs[2].decode_steps[0].layer_2.k.pos_-2.values"), "{message}");
    let mut edited = value.clone();
    edited["runs"][0]["decode_steps"][0]["hidden_states"]["layer_1"]["pos_-1"][0] = 0.123_456_79.into();
    assert!(refusal(parse(&edited.to_string())).contains("is not a bf16 number"));
    // Reordered keys and another layout are the same record.
    assert_eq!(parse(&value.to_string()).unwrap(), sample::fixture());
}

fn written() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let container = directory.path().join("c");
    container::write(&container, &sample::fixture()).unwrap();
    (directory, container)
}

#[test]
fn damaged_containers_are_refused() {
    let run = container::run_file_name(&sample::fixture().runs[1]);
    assert_eq!(run, "run-cpu%20bs%2f2-ref0-rep1.safetensors");
    let edit = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let (_keep, container) = written();
        let mut bytes = std::fs::read(container.join(name)).unwrap();
        change(&mut bytes);
        std::fs::write(container.join(name), bytes).unwrap();
        refusal(read(&container))
    };
    let replace = |from: &'static str, to: &'static str| {
        move |bytes: &mut Vec<u8>| {
            let text = String::from_utf8(std::mem::take(bytes)).unwrap();
            assert!(text.contains(from), "{from}");
            *bytes = text.replacen(from, to, 1).into_bytes();
        }
    };
    let message = edit(&run, &|bytes| bytes.truncate(bytes.len() - 1));
    assert!(message.contains(&run) && message.contains("the manifest states"), "{message}");
    let message = edit(&run, &|bytes| *bytes.last_mut().unwrap() ^= 1);
    assert!(message.contains("its blake3 is"), "{message}");
    let message = edit(&run, &|bytes| bytes[6] = 0xff);
    assert!(message.contains("safetensors header"), "{message}");
    for (from, to, expected) in [
        ("mantissa-container", "other", "unknown variant"),
        ("\"format_version\": 1", "\"format_version\": 2", "format version 2 is newer"),
        ("\"dtype\": \"f16\"", "\"dtype\": \"bf16\"", "the manifest states BF16"),
        ("\"dim\": 6", "\"dim\": 7", "the manifest states"),
        ("\"steps\": 1", "\"steps\": 18446744073709551615", "the manifest states"),
        ("run-cpu", "../run-cpu", "file.name is"),
        ("\n  \"rep_id\": 1", "\n  \"rep_id\": 0", "instead of 'run-"),
        ("\"model\": \"SmolLM2-135M-Instruct\"", "\"model\": 1", "invalid type"),
    ] {
        let message = edit("manifest.json", &replace(from, to));
        assert!(message.contains(expected), "expected '{expected}' in: {message}");
    }
    let message = edit("timing.json", &replace("ref0-rep1", "ref0-rep9"));
    assert!(message.contains("timing.json") && message.contains("does not have"), "{message}");
    let message = edit("timing.json", &|bytes| bytes.truncate(bytes.len() / 2));
    assert!(message.contains("ends too early"), "{message}");

    let (_keep, container) = written();
    std::fs::remove_file(container.join(&run)).unwrap();
    assert!(refusal(read(&container)).contains("cannot read it"));
    std::fs::create_dir(container.join(&run)).unwrap();
    assert!(refusal(read(&container)).contains("not a regular file"));
    assert!(refusal(read(&container.join("absent.json"))).contains("cannot read it"));
}

type Change = fn(&mut Experiment);

#[test]
fn a_record_that_contradicts_itself_is_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("e.json");
    let changes: [(&str, Change); 14] = [
        ("2 decode steps from step 2 consumed only 3 output ids", |e| {
            e.runs[0].decode.as_mut().unwrap().first_step = 2;
        }),
        ("the prefill is step 0, not 1", |e| e.runs[0].prefill.as_mut().unwrap().first_step = 1),
        ("runs[0].decode.layer_1.k", |e| {
            let decode = e.runs[0].decode.as_mut().unwrap();
            decode.tensors.get_mut(&"layer_1.k".parse().unwrap()).unwrap().data.pop();
        }),
        ("runs[1].decode", |e| {
            e.runs[1].output_token_ids.truncate(1);
            e.runs[1].output_token_texts.clear();
        }),
        ("runs[0].prefill.positions", |e| e.runs[0].prefill.as_mut().unwrap().positions.reverse()),
        ("runs[0].prefill", |e| e.runs[0].prefill = e.runs[0].decode.clone()),
        ("listed twice", |e| e.runs[0].decode.as_mut().unwrap().logprobs.as_mut().unwrap().token_ids.fill(3)),
        ("outside the vocabulary", |e| {
            e.runs[0].decode.as_mut().unwrap().logprobs.as_mut().unwrap().vocab_size = Some(3);
        }),
        ("runtime_seconds", |e| e.runs[0].runtime_seconds = Some(f64::NAN)),
        ("configurations[1]", |e| e.configurations.push(e.configurations[0].clone())),
        ("runs[2]", |e| e.runs[2].config_id.clear()),
        ("runs[1]: altered or damaged: its digests are not", |e| e.runs[1].output_token_ids[2] += 1),
        ("are not identical", |e| {
            e.configurations[0].mantissa.as_mut().unwrap().reproducibility.outcome = Outcome::Identical;
        }),
        ("states repetition 1 of reference 0 twice", |e| {
            let reproducibility = &mut e.configurations[0].mantissa.as_mut().unwrap().reproducibility;
            reproducibility.digests[0].rep_id = 1;
        }),
    ];
    for (expected, change) in changes {
        let mut experiment = sample::fixture();
        change(&mut experiment);
        for result in [json::write(&path, &experiment), container::write(&path, &experiment)] {
            let message = refusal(result);
            assert!(message.contains(expected), "expected '{expected}' in: {message}");
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
    json::write(&path, &sample::fixture()).unwrap();
    assert!(refusal(json::write(&path, &sample::fixture())).contains("already exists"));
    assert!(
        refusal(json::write(&directory.path().join("no/e.json"), &sample::fixture()))
            .contains("cannot write it")
    );
    assert!(refusal(container::write(&path, &sample::fixture())).contains("make the directory"));
}

/// A write that fails leaves nothing new.
#[test]
fn a_failed_write_leaves_no_half_container() {
    let directory = tempfile::tempdir().unwrap();
    let mut experiment = sample::fixture();
    let long = "x".repeat(300);
    experiment.configurations[0].mantissa = None;
    experiment.configurations[0].config_id.clone_from(&long);
    for run in &mut experiment.runs {
        run.config_id.clone_from(&long);
    }
    // The name of a run file is too long for the file system.
    assert!(refusal(container::write(&directory.path().join("c"), &experiment)).contains("cannot write it"));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
