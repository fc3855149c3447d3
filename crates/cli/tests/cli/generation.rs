//! Settings of generation on the command line: applied, said, recorded, and applied again by `verify`.

use std::fs;

use serde_json::{Value, json};

use crate::session::Session;

const RECORD: &str = "record --model m --document doc.txt --document-tokens 24 --decode 12 --dtype f32 --reps 1 \
                      --positions=-1 --layers last --no-chat-template";

/// A tiny model with these settings of its own.
fn session(settings: &Value) -> Session {
    let session = Session::new();
    let synth = ["synth", "--arch", "qwen3", "--seed", "1", "--out", "m"];
    assert!(session.output(&synth).status.success());
    fs::write(session.path("m/generation_config.json"), settings.to_string()).unwrap();
    fs::write(session.path("doc.txt"), "the quick brown fox jumps over a lazy dog ".repeat(20)).unwrap();
    session
}

/// Records, and returns what was said and the tokens.
fn record(session: &Session, out: &str, more: &[&str]) -> (String, Vec<u64>) {
    let json = format!("{out}.json");
    let arguments: Vec<&str> =
        RECORD.split(' ').chain(["--out", out, "--json", &json]).chain(more.iter().copied()).collect();
    let output = session.output(&arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let evidence: Value = serde_json::from_slice(&fs::read(session.path(&json)).unwrap()).unwrap();
    let tokens = &evidence["runs"][0]["mantissa"]["output_token_ids"];
    (said, serde_json::from_value(tokens.clone()).unwrap())
}

#[test]
fn the_models_own_settings_are_applied_unless_left_out() {
    let session = session(
        &json!({"repetition_penalty": 0.4, "do_sample": true, "temperature": 0.6, "eos_token_id": 3}),
    );
    let (said, own) = record(&session, "own", &[]);
    assert!(
        said.contains("tokens are chosen under repetition_penalty 0.4 (generation_config.json; "),
        "{said}"
    );
    assert!(said.contains("do_sample, temperature 0.6"), "{said}");
    let (said, plain) = record(&session, "plain", &["--no-generation-config"]);
    assert!(!said.contains("chosen"), "{said}");
    assert_ne!(own, plain);
    let (said, stated) =
        record(&session, "stated", &["--no-generation-config", "--generation", "repetition_penalty=0.4"]);
    assert!(said.contains("tokens are chosen under repetition_penalty 0.4\n"), "{said}");
    assert_eq!(stated, own);
    let (_, present) =
        record(&session, "present", &["--no-generation-config", "--generation", "presence_penalty=-30"]);
    assert!(present[1..].iter().all(|token| *token == present[0]), "{present:?}");
    // What differs in a setting is said to, and is no setup that does not repeat itself.
    let analyzed = session.output(&["analyze", "plain", "present"]);
    let text = String::from_utf8(analyzed.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(!text.contains("does not repeat itself"), "{text}");
    assert!(!text.contains("told apart"), "no bit that was compared differs: {text}");
    assert!(text.contains("generation none and presence_penalty -30"), "{text}");
    for (setting, want) in [
        ("repetition_penalty", "no value; write NAME=VALUE"),
        ("repetition_penalty=high", "repetition_penalty: invalid type: string \"high\""),
        ("repetition_penalty=-1", "must be above 0"),
        ("max_new_tokens=3", "say with --decode how many"),
        ("stop_strings=[\"a\"]", "no setting that a record computes"),
        ("typical_p=0.2", "acts on draws, and a record chooses greedily"),
        ("forced_bos_token_id=900", "must be a token of a vocabulary of 512"),
        ("temperature=0.7", "acts on draws, and a record chooses greedily"),
        ("num_beams=4", "nothing here computes num_beams 4"),
        ("nonsense=4", "no setting that a record computes"),
        ("bad_words_ids=[[99999]]", "must be tokens of a vocabulary of 512"),
    ] {
        let arguments: Vec<&str> =
            RECORD.split(' ').chain(["--quiet", "--out", "refused", "--generation", setting]).collect();
        let line = session.failure(&arguments);
        assert!(line.contains(want), "{setting}: {line}");
    }
    let shown = session.output(&["inspect", "m"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("generation    do_sample, temperature 0.6, repetition_penalty 0.4"), "{shown}");
}

#[test]
fn verify_applies_what_is_stated_or_says_what_fits() {
    let session = session(&json!({"repetition_penalty": 0.4}));
    record(&session, "own", &[]);
    let verify = |file: &str| {
        let output = session.output(&["verify", file, "--model", "m"]);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(verify("own.json").0, Some(0));
    // As a file of another program, or of an earlier version, that says nothing of settings.
    let mut evidence: Value = serde_json::from_slice(&fs::read(session.path("own.json")).unwrap()).unwrap();
    let setup = &mut evidence["configurations"][0]["mantissa"]["setup"];
    assert_eq!(setup["generation"], json!({"repetition_penalty": 0.4}));
    setup.as_object_mut().unwrap().remove("generation");
    fs::write(session.path("silent.json"), evidence.to_string()).unwrap();
    let (code, text) = verify("silent.json");
    assert!(code == Some(0) && text.contains("the evidence states no settings of generation"), "{text}");
    fs::write(session.path("m/generation_config.json"), "{}").unwrap();
    let (code, text) = verify("silent.json");
    assert!(code == Some(1) && text.contains("output_token"), "{text}");
    // Drawn tokens are no contradiction.
    evidence["configurations"][0]["mantissa"]["setup"]["decoding"] = "sampled".into();
    fs::write(session.path("drawn.json"), evidence.to_string()).unwrap();
    let (code, text) = verify("drawn.json");
    assert!(code == Some(0) && text.contains("they were sampled"), "{text}");
}
