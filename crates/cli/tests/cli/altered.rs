//! Evidence that was altered is an answer of its own: exit code 4, which part, what its digest says; what its contents
//! say only on request.

use std::fs;

use serde_json::Value;

use crate::session::{Session, repository};

fn with_record() -> Session {
    let session = Session::new();
    assert!(session.output(&["synth", "--arch", "llama", "--seed", "3", "--out", "model"]).status.success());
    let document = repository().join("fixtures/documents/demo.pdf").display().to_string();
    let base =
        ["record", "--model", "model", "--document", &document, "--document-tokens", "40", "--decode", "2"];
    let rest = ["--reps", "1", "--dtype", "f32", "--positions=-1", "--out", "out", "--json", "out.json"];
    assert!(session.output(&[&base[..], &rest].concat()).status.success());
    session
}

/// Flips one bit of a key in the run's file.
fn flip(session: &Session) {
    let run = fs::read_dir(session.path("out")).unwrap().map(|entry| entry.unwrap().path());
    let run = run.into_iter().find(|path| path.extension().is_some_and(|end| end == "safetensors")).unwrap();
    let mut bytes = fs::read(&run).unwrap();
    let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let (name, entry) =
        header.as_object().unwrap().iter().find(|(name, _)| name.starts_with("decode/layer_")).unwrap();
    assert!(name.contains('.'));
    let at = 8 + length + usize::try_from(entry["data_offsets"][0].as_u64().unwrap()).unwrap();
    bytes[at] ^= 1;
    fs::write(run, bytes).unwrap();
}

#[test]
fn an_altered_value_ends_every_verb_with_4_and_names_the_part() {
    let session = with_record();
    flip(&session);
    for verb in [
        &["inspect", "out"][..],
        &["verify", "out", "--model", "model"],
        &["verify", "out"],
        &["analyze", "out"],
        &["compare", "out", "out.json"],
        &["convert", "out", "there.json"],
    ] {
        let line = session.failure_of(4, &[&["--quiet"], verb].concat());
        assert!(line.contains("altered or damaged") && line.contains("run-"), "{verb:?}: {line}");
        assert!(line.contains("its blake3 is") && line.contains("the manifest states"), "{line}");
    }
    // Usage stays 2, beside it too.
    session.failure(&["inspect", "nowhere.json"]);
    let output = session.output(&["verify", "out", "--no-such-flag"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn despite_damage_shows_what_the_contents_say_and_still_ends_with_4() {
    let session = with_record();
    flip(&session);
    let shown = |arguments: &[&str]| {
        let output = session.output(&[&["--format", "json"], arguments].concat());
        assert_eq!(output.status.code(), Some(4), "{}", session.text(arguments, &output));
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        (value, String::from_utf8(output.stderr).unwrap())
    };
    let (audit, _) = shown(&["verify", "out", "--model", "model", "--despite-damage"]);
    assert_eq!(audit["claims"][0]["answer"], "fits_none");
    let warnings = audit["sources"][0]["warnings"].to_string();
    assert!(warnings.contains("altered or damaged"), "{warnings}");
    let (inspected, notes) = shown(&["inspect", "out", "--despite-damage", "--model", "model"]);
    assert_eq!(inspected["digests"]["state"], "altered");
    assert!(notes.contains("altered or damaged"), "{notes}");
    let (_, _) = shown(&["analyze", "out", "--despite-damage"]);
    let (facts, _) = shown(&["compare", "out", "out.json", "--despite-damage"]);
    assert_eq!(facts["prompts"][0]["pairs"][0]["state"], "different");
    // Sound evidence ends as it would without the flag.
    let output = session.output(&["verify", "out.json", "--model", "model", "--despite-damage"]);
    assert_eq!(output.status.code(), Some(0), "{}", session.text(&[], &output));
}

/// One alteration of each kind in the JSON: a value, a prompt id, an output id, a digest.
#[test]
fn each_part_of_a_json_that_was_altered_is_named_by_its_digest() {
    let session = with_record();
    let text = fs::read_to_string(session.path("out.json")).unwrap();
    let tree: Value = serde_json::from_str(&text).unwrap();
    let extras = |tree: &mut Value, field: &str| -> Value { tree["runs"][0]["mantissa"][field].clone() };
    let mut cases: Vec<(&str, Value)> = Vec::new();
    let mut altered = tree.clone();
    altered["runs"][0]["mantissa"]["prompt_token_ids"][3] = 1.into();
    cases.push(("prompt_ids_digest", altered));
    let mut altered = tree.clone();
    let (prompt, output) =
        (extras(&mut altered, "prompt_ids_digest"), extras(&mut altered, "output_ids_digest"));
    assert_ne!(prompt, output);
    altered["runs"][0]["mantissa"]["output_ids_digest"] = prompt;
    cases.push(("output_ids_digest", altered));
    let mut altered = tree.clone();
    altered["runs"][0]["mantissa"]["signals_digest"] = output;
    cases.push(("signals_digest", altered));
    for (digest, altered) in cases {
        fs::write(session.path("x.json"), serde_json::to_vec(&altered).unwrap()).unwrap();
        for verb in ["inspect", "analyze"] {
            let line = session.failure_of(4, &["--quiet", verb, "x.json"]);
            assert!(line.contains(digest) && line.contains("the data has"), "{verb} {digest}: {line}");
        }
        let output = session.output(&["--quiet", "analyze", "x.json", "--despite-damage"]);
        assert_eq!(output.status.code(), Some(4), "{digest}");
    }
    // A directory with one altered file: the others are judged, and the code is 4.
    fs::create_dir(session.path("all")).unwrap();
    fs::copy(session.path("out.json"), session.path("all/a.json")).unwrap();
    fs::copy(session.path("x.json"), session.path("all/b.json")).unwrap();
    let output = session.output(&["--quiet", "analyze", "--all", "all"]);
    assert_eq!(output.status.code(), Some(4), "{}", session.text(&[], &output));
}

/// A run's file that lost its end cannot be read, whatever is asked for.
#[test]
fn a_cut_file_of_a_record_is_damaged_and_nothing_goes_on() {
    let session = with_record();
    let run = fs::read_dir(session.path("out")).unwrap().map(|entry| entry.unwrap().path());
    let run = run.into_iter().find(|path| path.extension().is_some_and(|end| end == "safetensors")).unwrap();
    let bytes = fs::read(&run).unwrap();
    fs::write(&run, &bytes[..bytes.len() - 8]).unwrap();
    for more in [&[][..], &["--despite-damage"]] {
        let line = session.failure_of(4, &[&["--quiet", "inspect", "out"], more].concat());
        assert!(line.contains("bytes, the manifest states"), "{line}");
    }
}
