//! `mantissa import`: maps, and files that they fit or do not.

use std::fs;
use std::io::Write as _;

use serde_json::{Value, json};

use crate::session::{Session, repository};

fn map(name: &str) -> String {
    repository().join("maps").join(name).display().to_string()
}

fn read(session: &Session, file: &str) -> Value {
    serde_json::from_slice(&fs::read(session.path(file)).unwrap()).unwrap()
}

/// Runs on lines, several steps and layers, log-probabilities with a stand-in for minus infinity.
#[test]
fn lines_of_json_become_runs_that_compare_reads() {
    let session = Session::new();
    let line = |rep: u32, last: f64| {
        let step = |x: f64, id: u32| {
            json!({"h": {"layer0": [[x, 1.5]], "layer3": [[2.0, x]]},
                "top": {"ids": [id, 9, 4], "lp": [-0.25, -2.5, -9999.0]}})
        };
        json!({"rep": rep, "prompt": [5, 6, 7], "tokens": [8, 9], "steps": [step(0.1, 8), step(last, 7)]})
            .to_string()
    };
    fs::write(session.path("runs.jsonl"), format!("{}\n{}\n", line(0, 0.2), line(1, 0.3))).unwrap();
    let text = r#"
        [run]
        prompt_ids = "[{run}].prompt"
        output_ids = "[{run}].tokens"
        repetition = "[{run}].rep"
        reference = "[{run}].zero"
        [setup]
        hardware = "h100"
        attention = "eager"
        batch_size = 4
        [[signal]]
        phase = "decode"
        path = "[{run}].steps[{step}].h.layer{layer}"
        site = "layer_{layer}.x_out"
        layers_from = 0
        layout = ["position", "value"]
        [[logprobs]]
        phase = "decode"
        token_ids = "[{run}].steps[{step}].top.ids"
        log_probs = "[{run}].steps[{step}].top.lp"
        positions = [-1]
        missing = [-9999.0]
    "#;
    fs::write(session.path("map.toml"), text).unwrap();
    let lacking = session.failure(&["import", "--map", "map.toml", "runs.jsonl", "--out", "out"]);
    assert!(lacking.contains("[{run}].zero: leads to nothing; mend the path in the map"), "{lacking}");
    fs::write(session.path("map.toml"), text.replace("reference = \"[{run}].zero\"\n", "")).unwrap();
    let made =
        session.output(&["import", "--map", "map.toml", "runs.jsonl", "--out", "out", "--json", "out.json"]);
    let said = String::from_utf8_lossy(&[made.stdout, made.stderr].concat()).into_owned();
    assert!(made.status.success() && said.contains("4 candidates have no finite log-probability"), "{said}");
    let found = read(&session, "out.json");
    assert_eq!(found["configurations"][0]["fixed_params"]["attention_impl"], "eager");
    assert_eq!(found["runs"].as_array().unwrap().len(), 2);
    let step = &found["runs"][1]["decode_steps"][1];
    assert_eq!(step["hidden_states"]["layer_4"]["pos_-1"], json!([2.0, 0.3]), "{step}");
    assert_eq!(step["logprobs"]["pos_-1"]["token_ids"], json!([7, 9]), "{step}");
    let inspected = session.output(&["inspect", "out"]);
    assert!(inspected.status.success(), "{}", String::from_utf8_lossy(&inspected.stderr));
}

#[test]
fn arrays_of_safetensors_and_npz_are_read_by_their_names() {
    let session = Session::new();
    // Two steps, one position, two numbers of bf16.
    let bits: Vec<u8> = [0x3F80_u16, 0x4000, 0xBF00, 0x3E80].iter().flat_map(|x| x.to_le_bytes()).collect();
    let ids: Vec<u8> = [3_i64, 4, 5].iter().flat_map(|x| x.to_le_bytes()).collect();
    let header = json!({"hidden.2": {"dtype": "BF16", "shape": [2, 1, 2], "data_offsets": [0, 8]},
        "prompt": {"dtype": "I64", "shape": [3], "data_offsets": [8, 32]},
        "output": {"dtype": "I64", "shape": [1, 2], "data_offsets": [32, 48]}})
    .to_string();
    let length = (header.len() as u64).to_le_bytes();
    let file = [&length[..], header.as_bytes(), &bits, &ids, &ids[..16]].concat();
    fs::write(session.path("h.safetensors"), file).unwrap();
    let map_of = map("hidden-states.toml");
    let made = session.output(&["import", "--map", &map_of, "h.safetensors", "--json", "h.json"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let found = read(&session, "h.json");
    assert_eq!(
        found["runs"][0]["decode_steps"][1]["hidden_states"]["layer_2"]["pos_-1"],
        json!([-0.5, 0.25])
    );

    let array = |kind: &str, shape: &str, data: &[u8]| {
        let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}\n");
        let length = u16::try_from(header.len()).unwrap().to_le_bytes();
        [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat()
    };
    let floats: Vec<u8> = [1.0_f32, 2.5, -3.0, 0.1].iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut archive = zip::ZipWriter::new(fs::File::create(session.path("c.npz")).unwrap());
    for (name, data) in
        [("tokens.npy", array("<i8", "1, 3", &ids)), ("resid_post.0.npy", array("<f4", "1, 2, 2", &floats))]
    {
        archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(&data).unwrap();
    }
    archive.finish().unwrap();
    let map_of = map("transformer-lens.toml");
    let made = session.output(&["import", "--map", &map_of, "c.npz", "--json", "c.json"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let found = read(&session, "c.json");
    assert_eq!(found["runs"][0]["mantissa"]["prompt_token_ids"], json!([3, 4, 5]));
    assert!(session.output(&["inspect", "c.json"]).status.success());
}

#[test]
fn what_does_not_fit_is_said_in_one_line() {
    let session = Session::new();
    fs::write(
        session.path("f.json"),
        r#"{"a": {"x": [[1.0, 2.0]], "y": [[1.0], [2.0, 3.0]], "z": [[0.1]]}}"#,
    )
    .unwrap();
    let with = |signal: &str| {
        fs::write(session.path("m.toml"), format!("[[signal]]\nphase = \"prefill\"\n{signal}\n")).unwrap();
        session.failure(&["import", "--map", "m.toml", "f.json", "--out", "o"])
    };
    for (signal, said) in [
        ("path = \"a.w\"\nsite = \"final_norm\"", "a.w: leads to nothing"),
        ("path = \"a.y\"\nsite = \"final_norm\"", "lists of 1 and of 2 beside each other"),
        ("path = \"a.x\"\nsite = \"norm\"", "mend 'site' or 'layers_from' in the map"),
        ("path = \"a.x[\"\nsite = \"final_norm\"", "'[' is not closed"),
        ("path = \"a.{n}\"\nsite = \"final_norm\"", "leads to nothing"),
        ("path = \"a.z\"\nsite = \"final_norm\"\ndtype = \"bf16\"", "0.1 is no bf16"),
        (
            "path = \"a.x\"\nsite = \"final_norm\"\nlayout = [\"value\", \"step\"]",
            "whose last axis is not 'value'",
        ),
        ("path = \"a.x\"\nsite = \"final_norm\"\nposition = [-1]", "unknown field `position`"),
    ] {
        let found = with(signal);
        assert!(found.contains(said), "{signal}: {found}");
        assert!(!session.path("o").exists());
    }
    fs::write(session.path("f.json"), "PK\x03\x04 no archive").unwrap();
    assert!(with("path = \"a\"\nsite = \"final_norm\"").contains("no npz archive"));
    fs::write(session.path("f.json"), "garbage").unwrap();
    assert!(with("path = \"a\"\nsite = \"final_norm\"").contains("give JSON, JSON Lines, an npz archive"));
}
