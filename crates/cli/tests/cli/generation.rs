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
        ("nonsense=4", "no setting that a record computes; use one"),
        ("repetion_penalty=1.1", "no setting that a record computes; did you mean repetition_penalty?"),
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

/// A file that nobody asked for refuses no model, and whoever asks for it is told how to go on without.
#[test]
fn a_damaged_generation_config_is_left_out_on_demand() {
    let session = session(&json!({}));
    let (_, plain) = record(&session, "plain", &[]);
    fs::write(session.path("m/generation_config.json"), "{\"repetition_penalty\": 0.4").unwrap();
    let refused: Vec<&str> = RECORD.split(' ').chain(["--quiet", "--out", "refused"]).collect();
    let line = session.failure(&refused);
    let want = "not a JSON object; download or convert it again, or leave it out with --no-generation-config";
    assert!(line.contains("generation_config.json: line 1: ") && line.ends_with(want), "{line}");
    assert_eq!(record(&session, "without", &["--no-generation-config"]).1, plain);
    let shown = String::from_utf8(session.output(&["inspect", "m"]).stdout).unwrap();
    assert!(shown.contains("generation    not known: m/generation_config.json: line 1: "), "{shown}");
    // Evidence that says nothing of settings may have been chosen by those that are not known.
    let verified = session.output(&["verify", "plain", "--model", "m"]);
    let text = String::from_utf8(verified.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(verified.status.code(), Some(0), "{text}");
    assert!(text.contains("the model's own settings are not known: "), "{text}");
    // Settings of draws that nothing can be drawn by are no damage.
    let settings = json!({"do_sample": true, "top_k": -1});
    fs::write(session.path("m/generation_config.json"), settings.to_string()).unwrap();
    let (said, drawn) = record(&session, "drawn", &[]);
    assert_eq!(drawn, plain);
    assert!(said.contains("top_k -1 with do_sample; kept as stated: transformers 5.17 refuses"), "{said}");
}

/// As `generate` of transformers 5.17: without a generation_config.json the ends are those of config.json.
#[test]
fn shortest_lengths_ban_the_ends_of_the_configuration() {
    let session = session(&json!({}));
    let (_, plain) = record(&session, "plain", &[]);
    let mut config: Value =
        serde_json::from_slice(&fs::read(session.path("m/config.json")).unwrap()).unwrap();
    config["eos_token_id"] = plain[0].into();
    fs::write(session.path("m/config.json"), config.to_string()).unwrap();
    let shortest = ["--generation", "min_new_tokens=12"];
    let refused: Vec<&str> =
        RECORD.split(' ').chain(["--quiet", "--out", "refused"]).chain(shortest).collect();
    let line = session.failure(&refused);
    assert!(line.contains("--generation min_new_tokens: acts on the tokens that end an output"), "{line}");
    fs::remove_file(session.path("m/generation_config.json")).unwrap();
    let (_, banned) = record(&session, "banned", &shortest);
    assert!(!banned.contains(&plain[0]), "{banned:?} / {plain:?}");
    let evidence: Value = serde_json::from_slice(&fs::read(session.path("banned.json")).unwrap()).unwrap();
    let stated = json!({"min_new_tokens": 12, "eos_token_id": [plain[0]], "ignore_eos": true});
    assert_eq!(evidence["configurations"][0]["mantissa"]["setup"]["generation"], stated);
    assert_eq!(session.output(&["verify", "banned", "--model", "m"]).status.code(), Some(0));
    // The file of settings is there, and leaves them out on demand.
    fs::write(session.path("m/generation_config.json"), "{}").unwrap();
    let without = ["--no-generation-config", "--generation", "min_new_tokens=12"];
    assert_eq!(record(&session, "left_out", &without).1, banned);
}

#[test]
fn settings_are_claimed_by_name() {
    let session = session(&json!({}));
    record(&session, "under", &["--generation", "repetition_penalty=0.4"]);
    let mut evidence: Value = serde_json::from_slice(&fs::read(session.path("under.json")).unwrap()).unwrap();
    let setup = &mut evidence["configurations"][0]["mantissa"]["setup"];
    setup.as_object_mut().unwrap().remove("generation");
    // As a capture declares tokens that are not those of the largest logits.
    setup["decoding"] = "teacher_forced".into();
    fs::write(session.path("silent.json"), evidence.to_string()).unwrap();
    let verify = |claims: &[&str]| {
        let claims = claims.iter().flat_map(|claim| ["--claim", claim]);
        let all: Vec<&str> = ["verify", "silent.json", "--model", "m"].into_iter().chain(claims).collect();
        let output = session.output(&all);
        let text = String::from_utf8(output.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        (output.status.code(), text)
    };
    let (code, text) = verify(&["repetition_penalty=0.4"]);
    assert!(code == Some(0) && text.contains("tokens are claimed under repetition_penalty 0.4"), "{text}");
    let (code, text) = verify(&["repetition_penalty=1.5"]);
    assert!(code == Some(1) && text.contains("output_token"), "{text}");
    let (code, text) = verify(&["do_sample=true"]);
    assert!(code == Some(0) && text.contains("they were sampled"), "{text}");
    for (claim, want) in [
        ("repetion_penalty=1.1", "did you mean repetition_penalty?"),
        ("repetition_penalty=high", "invalid type: string"),
        ("temperature=0.7", "claim do_sample=true"),
        ("nonsense=1", "or a setting of generation"),
    ] {
        let line = session.failure(&["verify", "silent.json", "--model", "m", "--claim", claim]);
        assert!(line.contains(want), "{claim}: {line}");
    }
    let tokens = ["verify", "silent.json", "--model", "m", "--quiet", "--claim", "bad_words_ids=[[9999]]"];
    assert_eq!(session.output(&tokens).status.code(), Some(2), "no token of the model");
    let twice = ["--claim", "repetition_penalty=1", "--claim", "repetition_penalty=2"];
    let line = session.failure(&[&["verify", "silent.json", "--model", "m", "--quiet"], &twice[..]].concat());
    assert!(line.contains("repetition_penalty is given twice"), "{line}");
    let drawn = ["verify", "silent.json", "--model", "m", "--quiet", "--spot-check", "5", "--claim"];
    let line = session.failure(&[&drawn[..], &["repetition_penalty=0.4"]].concat());
    assert!(line.contains("only a replay of passes here checks"), "{line}");
}
