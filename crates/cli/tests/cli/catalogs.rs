//! Catalogs of a user's own: what they add, what they may not replace, and where a record and a verdict name them.

use std::fmt::Write as _;
use std::fs;

use mantissa_evidence::Digest;
use serde_json::Value;

use crate::session::{Session, repository};

/// A model of which no built-in catalog has a shape.
const MODEL: &str = "synth --arch llama --head-dim 64 --num-attention-heads 6 --num-key-value-heads 3 \
                     --hidden-size 384 --out model";

/// A session with that model, a document, and catalogs that cut its products into one part and into two.
fn session() -> Session {
    let session = Session::new();
    let made = session.output(&MODEL.split_whitespace().collect::<Vec<_>>());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut document = String::new();
    for i in 0_u32..400 {
        write!(document, "{} measured roundings of word {i}. ", i * 7919 % 1007).unwrap();
    }
    fs::write(session.path("document.txt"), document).unwrap();
    let config = fs::read(session.path("model/config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    let [hidden, inner, vocabulary] =
        ["hidden_size", "intermediate_size", "vocab_size"].map(|key| config[key].as_u64().unwrap());
    for (name, parts, cublas) in [("one", 1, "13.1.0"), ("two", 2, "13.1.0"), ("old", 2, "12.8.4")] {
        let shapes = [
            [384, hidden],
            [192, hidden],
            [hidden, 384],
            [inner, hidden],
            [hidden, inner],
            [vocabulary, hidden],
        ];
        let mut linear: Vec<String> = Vec::new();
        for [n, k] in shapes {
            let block = r#"{"operand":"bf16","width":16,"fraction_bits":25,"result_bits":23}"#;
            let recipe = format!(r#"{{"order":"tensor_core","block":{block},"parts":{parts}}}"#);
            let class = format!(r#"{{"sizes":"1-2000","recipe":{recipe}}}"#);
            let entry = format!(r#"{{"n":{n},"k":{k},"bias":false,"classes":[{class}]}}"#);
            if !linear.contains(&entry) {
                linear.push(entry);
            }
        }
        let origin = format!(
            r#"{{"gpu":"NVIDIA H200","multiprocessors":132,"cublas":"{cublas}","driver":"13.0","date":"2026-11-28"}}"#
        );
        let linear = linear.join(",");
        let text = format!(
            r#"{{"format":"mantissa-catalog/1","origin":{origin},"linear":[{linear}],"batched":[]}}"#
        );
        fs::write(session.path(&format!("{name}.json")), text).unwrap();
    }
    session
}

/// Arguments of a prediction of an H200 into the folder `out`.
fn record<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let command = "record --model model --document document.txt --document-tokens 20 --decode 2 --reps 1 \
                   --no-chat-template --hardware h200 --attention sdpa_flash --out";
    command.split_whitespace().chain([out]).chain(more.iter().copied()).collect()
}

fn digest(session: &Session, file: &str) -> String {
    Digest::of_file(&session.path(file)).unwrap().to_string()
}

fn json(session: &Session, file: &str) -> Value {
    serde_json::from_slice(&fs::read(session.path(file)).unwrap()).unwrap()
}

#[test]
fn a_record_names_the_catalog_it_used_and_is_no_other_with_another() {
    let session = session();
    let made = session.output(&record("record", &["--catalog", "one.json"]));
    let said = String::from_utf8_lossy(&made.stdout).into_owned();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let one = digest(&session, "one.json");
    assert!(said.contains(&one) && said.contains("measured by its user"), "{said}");
    assert!(!said.contains("compared with it"), "{said}");
    let manifest = json(&session, "record/manifest.json");
    let stated = &manifest["configurations"][0]["mantissa"]["catalogs"];
    let expected =
        serde_json::json!([{"hardware": "h200", "cublas": "13.1.0", "basis": "measured", "digest": one}]);
    assert_eq!((stated, &json(&session, "record/plan.json")["catalogs"]), (&expected, &expected));
    let shown = session.output(&["inspect", "record"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains(&one));

    // Finished, and as a killed run leaves it: the same catalog goes on, another is another record.
    for unfinished in [false, true] {
        if unfinished {
            fs::remove_file(session.path("record/manifest.json")).unwrap();
        }
        let refused = session.failure(&record("record", &["--catalog", "two.json"]));
        assert!(refused.contains("record"), "{refused}");
        let refused_without = session.failure(&record("record", &[]));
        assert_eq!(refused_without, refused);
        let again = session.output(&record("record", &["--catalog", "one.json"]));
        assert_eq!(again.status.code(), Some(0), "{}", String::from_utf8_lossy(&again.stderr));
    }

    // The built-in catalogs are named too, where they were used.
    let built_in = repository().join("catalogs/h200-cublas13.1.json");
    let golden = repository().join("goldens/gpu/evidence_h200").display().to_string();
    let made = session.output(&["synth", "--arch", "llama", "--preset", "smollm2-135m", "--out", "smollm2"]);
    assert!(made.status.success());
    let verify = ["verify", &golden, "--model", "smollm2", "--spot-check", "1", "--output", "built-in.json"];
    session.output(&verify);
    let audit = json(&session, "built-in.json");
    let expected = Digest::of_file(&built_in).unwrap().to_string();
    assert_eq!(audit["catalogs"][0]["digest"], expected.as_str(), "{audit}");
    assert_eq!((&audit["catalogs"][0]["basis"], &audit["catalogs"][1]), (&"verified".into(), &Value::Null));
}

#[test]
fn a_verdict_names_the_catalog_it_used() {
    let session = session();
    session.output(&record("record", &["--catalog", "one.json"]));
    let verify = |more: &[&str]| {
        let command = ["verify", "record", "--model", "model", "--output", "audit.json", "--force"];
        let output = session.output(&command.iter().chain(more).copied().collect::<Vec<_>>());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.code() != Some(2), "{}", String::from_utf8_lossy(&output.stderr));
        (output.status.code().unwrap(), said, json(&session, "audit.json"))
    };
    let [one, two] = ["one.json", "two.json"].map(|file| digest(&session, file));
    for method in [&[][..], &["--spot-check", "50"]] {
        let (code, said, audit) = verify(&[&["--catalog", "one.json"], method].concat());
        assert_eq!(code, 0, "{said}");
        assert_eq!(audit["catalogs"].as_array().unwrap().len(), 1);
        assert_eq!(audit["catalogs"][0]["digest"], one.as_str());
        assert_eq!(audit["catalogs"][0]["basis"], "measured");
        let sentence = audit["claims"][0]["sentence"].as_str().unwrap();
        let words = format!("measured by its user (blake3 {one})");
        assert!(sentence.contains(&words), "{sentence}");
        assert!(!said.contains("compared with it") && said.contains("measured by its user"), "{said}");
    }
    // With another catalog other bits are expected; the audit says whose, and that the evidence's own was not given.
    let (code, said, audit) = verify(&["--catalog", "two.json"]);
    assert_eq!(code, 1, "{said}");
    assert_eq!(audit["catalogs"][0]["digest"], two.as_str());
    let notes = audit["notes"].to_string();
    assert!(notes.contains(&one) && notes.contains("which was not given"), "{notes}");
    // Without one nothing can be said.
    let (code, _, audit) = verify(&[]);
    assert_eq!((code, &audit["catalogs"]), (3, &serde_json::json!([])));
    assert!(audit["notes"].to_string().contains(&one));
}

#[test]
fn catalogs_that_do_not_go_together_are_refused() {
    let session = session();
    let both = |more: &[&'static str]| record("record", &[&["--catalog", "one.json"], more].concat());
    let said = session.failure(&both(&["--catalog", "two.json"]));
    assert!(said.contains("two.json: a product of") && said.contains("has another recipe"), "{said}");
    let said = session.failure(&both(&["--catalog", "old.json"]));
    assert!(said.contains("--cublas"), "{said}");
    let said = session.failure(&both(&["--cublas", "9.0"]));
    assert!(said.contains("no catalog of cuBLAS 9.0") && said.contains("cuBLAS 13.1.0"), "{said}");
    let made = session.output(&both(&["--catalog", "old.json", "--cublas", "12.8.4"]));
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let manifest = json(&session, "record/manifest.json");
    let stated = &manifest["configurations"][0]["mantissa"]["catalogs"];
    assert_eq!(stated[0]["cublas"], "12.8.4", "{stated}");
    assert_eq!(stated[0]["digest"], digest(&session, "old.json").as_str());
}
