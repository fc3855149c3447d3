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
    document(&session);
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
        write_catalog(&session, &format!("{name}.json"), cublas, &linear.join(","));
    }
    session
}

fn document(session: &Session) {
    let mut document = String::new();
    for i in 0_u32..400 {
        write!(document, "{} measured roundings of word {i}. ", i * 7919 % 1007).unwrap();
    }
    fs::write(session.path("document.txt"), document).unwrap();
}

/// A catalog of the H200 with these entries.
fn write_catalog(session: &Session, file: &str, cublas: &str, linear: &str) {
    let origin = format!(
        r#"{{"gpu":"NVIDIA H200","multiprocessors":132,"cublas":"{cublas}","driver":"13.0","date":"2026-11-28"}}"#
    );
    let text =
        format!(r#"{{"format":"mantissa-catalog/1","origin":{origin},"linear":[{linear}],"batched":[]}}"#);
    fs::write(session.path(file), text).unwrap();
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
        let two = digest(&session, "two.json");
        let [place, names] = ["error: record/plan.json: the record there uses the catalog of h200", &one];
        assert!(refused.starts_with(place) && refused.contains(names) && refused.contains(&two), "{refused}");
        assert!(
            refused.ends_with("; give the same --catalog and --cublas, or choose another folder"),
            "{refused}"
        );
        let refused = session.failure(&record("record", &[]));
        assert!(
            refused.starts_with(place) && refused.contains("and this one uses no catalog; "),
            "{refused}"
        );
        let again = session.output(&record("record", &["--catalog", "one.json"]));
        assert_eq!(again.status.code(), Some(0), "{}", String::from_utf8_lossy(&again.stderr));
    }

    // What differs otherwise is another setup, whatever the catalogs.
    let other = session.failure(&record("record", &["--catalog", "two.json", "--batch-size", "2"]));
    assert!(other.contains("holds a record of another setup"), "{other}");

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
fn evidence_of_one_library_version_is_not_replayed_by_another() {
    let session = session();
    session.output(&record("record", &["--catalog", "old.json"]));
    let verify = |more: &[&str]| {
        let command = ["verify", "record", "--model", "model", "--output", "audit.json", "--force"];
        let output = session.output(&command.iter().chain(more).copied().collect::<Vec<_>>());
        (output.status.code(), json(&session, "audit.json"))
    };
    let [one, old] = [&["--catalog", "one.json"][..], &["--catalog", "old.json"]];
    for catalogs in [&[][..], one, &[one, old, &["--cublas", "13.1.0"]].concat()] {
        let (code, audit) = verify(catalogs);
        let claim = &audit["claims"][0];
        assert_eq!((code, &claim["answer"]), (Some(3), &"not_enough_evidence".into()), "{audit}");
        let sentence = claim["sentence"].as_str().unwrap();
        assert!(
            sentence.contains("with cuBLAS 12.8.4") && sentence.contains("cuBLAS 13.1.0 are meant"),
            "{audit}"
        );
        assert!(sentence.contains("--catalog FILE") && sentence.contains("--cublas 12.8.4"), "{sentence}");
    }
    for catalogs in [old, &[one, old, &["--cublas", "12.8.4"]].concat()] {
        let (code, audit) = verify(catalogs);
        assert_eq!((code, &audit["catalogs"][0]["cublas"]), (Some(0), &"12.8.4".into()), "{audit}");
    }
    // Whoever claims the hardware claims what is meant by it here.
    let (code, audit) = verify(&[one, &["--claim", "hardware=h200"]].concat());
    assert_eq!((code, &audit["claims"][0]["answer"]), (Some(1), &"fits_none".into()), "{audit}");
}

/// A prediction in f16 rests on products of f16, of weights and of eager attention; verify finds it again.
#[test]
fn a_record_of_f16_needs_a_catalog_of_f16() {
    let session = session();
    let bf16 = fs::read_to_string(session.path("one.json")).unwrap();
    let threads = r#"[{"sizes":"1-2000","recipe":{"order":"threads","threads":16,"vector":4}}]"#;
    let steps = r#"[{"sizes":"1-2000","recipe":{"order":"tensor_core","block":{"operand":"f16","width":16,"fraction_bits":25,"result_bits":23},"parts":1,"tile":32}}]"#;
    let batched = [
        ("scores", "prefill", steps),
        ("values", "prefill", steps),
        ("scores", "decode", threads),
        ("values", "decode", threads),
    ];
    let batched = batched.map(|(product, phase, classes)| {
        format!(r#"{{"product":"{product}","dtype":"f16","phase":"{phase}","heads":6,"dim":64,"classes":{classes}}}"#)
    });
    let f16 = bf16.replace("catalog/1", "catalog/2").replace(r#""operand":"bf16""#, r#""operand":"f16""#);
    let f16 = f16.replace(r#""bias":false"#, r#""bias":false,"dtype":"f16""#);
    fs::write(
        session.path("f16.json"),
        f16.replace(r#""batched":[]"#, &format!(r#""batched":[{}]"#, batched.join(","))),
    )
    .unwrap();
    let arguments = |out, catalog, attention| {
        let mut arguments = record(out, &["--dtype", "f16", "--catalog", catalog]);
        let at = arguments.iter().position(|argument| *argument == "sdpa_flash").unwrap();
        arguments[at] = attention;
        arguments
    };
    let refused = session.failure(&arguments("refused", "one.json", "sdpa_flash"));
    assert!(refused.contains(" of f16 is not covered (its split-K was not measured)"), "{refused}");
    assert!(refused.contains("`mantissa catalog build --model MODEL --out FILE --dtype f16 "), "{refused}");
    let mut digests = Vec::new();
    for attention in ["sdpa_flash", "eager"] {
        let made = session.output(&arguments(attention, "f16.json", attention));
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let manifest = json(&session, &format!("{attention}/manifest.json"));
        let stated = &manifest["configurations"][0];
        assert_eq!(
            (&stated["mantissa"]["setup"]["dtype"], &stated["config_id"]),
            (&"f16".into(), &format!("h200_bs1_{attention}_f16").into())
        );
        let kernels = serde_json::to_string(&manifest).unwrap();
        assert!(kernels.contains(r#""operand":"f16""#) && !kernels.contains("bf16"), "{kernels}");
        digests.push(manifest["runs"][0]["mantissa"]["signals_digest"].clone());
        let output = format!("{attention}.json");
        let verify = ["verify", attention, "--model", "model", "--catalog", "f16.json", "--output", &output];
        let verified = session.output(&verify);
        assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stderr));
        assert_eq!(json(&session, &output)["outcome"], "consistent");
    }
    assert_ne!(digests[0], digests[1]);
}

/// A prediction may rest on entries of several catalogs: each says what it rests on.
#[test]
fn entries_of_a_user_stand_beside_verified_ones() {
    let session = Session::new();
    let synth =
        "synth --arch llama --preset smollm2-135m --num-hidden-layers 1 --vocab-size 50000 --out model";
    let made = session.output(&synth.split_whitespace().collect::<Vec<_>>());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    document(&session);
    // The built-in catalog has no head of 50,000 tokens; of the other weights the heuristic was asked for the 667 rows
    // of the document and 23 tokens around it.
    let block = r#"{"operand":"bf16","width":16,"fraction_bits":25,"result_bits":23}"#;
    let recipe = format!(r#"{{"order":"tensor_core","block":{block},"parts":1}}"#);
    let class = format!(r#"{{"sizes":"1,667","recipe":{recipe}}}"#);
    let shapes = [[50_000, 576]];
    let new = shapes.map(|[n, k]| format!(r#"{{"n":{n},"k":{k},"bias":false,"classes":[{class}]}}"#));
    write_catalog(&session, "more.json", "13.1.0", &new.join(","));
    let command = "record --model model --document document.txt --document-tokens 644 --decode 1 --reps 1 \
                   --no-chat-template --hardware h200 --attention sdpa_flash --out record";
    let command: Vec<&str> = command.split_whitespace().collect();
    let refused = session.failure(&command);
    assert!(
        refused.contains("its split-K was not measured") && !session.path("record").exists(),
        "{refused}"
    );
    let made = session.output(&[&command[..], &["--catalog", "more.json"]].concat());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let built_in = Digest::of_file(&repository().join("catalogs/h200-cublas13.1.json")).unwrap().to_string();
    let entry = |basis: &str, digest: &str| {
        let mut entry = serde_json::json!({"hardware": "h200", "cublas": "13.1.0", "basis": basis});
        entry["digest"] = digest.into();
        entry
    };
    let mut expected = [entry("verified", &built_in), entry("measured", &digest(&session, "more.json"))];
    expected[0]["asked"] = true.into();
    let manifest = json(&session, "record/manifest.json");
    assert_eq!(manifest["configurations"][0]["mantissa"]["catalogs"], serde_json::json!(expected));
    let verify = ["verify", "record", "--model", "model", "--catalog", "more.json", "--output", "audit.json"];
    let page = session.output(&[&verify[..], &["--format", "markdown"]].concat());
    let page = String::from_utf8_lossy(&page.stdout).into_owned();
    assert!(page.contains(&format!("blake3 {built_in}, part of Mantissa")), "{page}");
    assert!(
        page.contains(&format!("blake3 {}, measured by its user", digest(&session, "more.json"))),
        "{page}"
    );
    let audit = json(&session, "audit.json");
    assert_eq!((&audit["outcome"], &audit["catalogs"]), (&"consistent".into(), &serde_json::json!(expected)));
}

/// A built-in entry keeps its recipe: a file that says otherwise is refused and named, with the entry.
#[test]
fn no_file_replaces_a_verified_recipe() {
    let session = session();
    let built_in = Digest::of_file(&repository().join("catalogs/h200-cublas13.1.json")).unwrap().to_string();
    let block = r#"{"operand":"bf16","width":16,"fraction_bits":25,"result_bits":23}"#;
    let recipe = format!(r#"{{"order":"tensor_core","block":{block},"parts":61}}"#);
    let entry = format!(r#"{{"n":128,"k":2048,"bias":false,"classes":[{{"sizes":"1","recipe":{recipe}}}]}}"#);
    write_catalog(&session, "wrong.json", "13.1.0", &entry);
    for command in
        [record("out", &["--catalog", "wrong.json"]), vec!["verify", "model", "--catalog", "wrong.json"]]
    {
        let said = session.failure(&command);
        let expected = "error: wrong.json: a product of 1 × 2048 with 128 × 2048 has another recipe in the built-in \
                        catalog";
        assert!(said.starts_with(expected) && said.contains(&built_in), "{said}");
        assert!(said.ends_with("a file replaces nothing: measure it again, or leave one out"), "{said}");
        assert!(!session.path("out").exists());
    }
}

#[test]
fn a_catalog_that_cannot_be_read_is_one_line() {
    let session = session();
    let whole = fs::read_to_string(session.path("one.json")).unwrap();
    for (text, why) in [
        (whole[..whole.len() / 2].to_owned(), "not a catalog (EOF while parsing"),
        (whole.replace("mantissa-catalog/1", "mantissa-catalog/9"), "format is 'mantissa-catalog/9'"),
        (whole.replace("1-2000", "2000-1"), "'2000-1' is no list of sizes"),
        (
            whole.replace("\"parts\":1", "\"parts\":65"),
            "sizes 1-2000: a product with a weight has 1 to 64 parts",
        ),
        (
            whole.replace("NVIDIA H200", "NVIDIA B200"),
            "the catalog is of NVIDIA B200 with 132 multiprocessors",
        ),
    ] {
        fs::write(session.path("damaged.json"), text).unwrap();
        let said = session.failure(&record("out", &["--catalog", "damaged.json"]));
        assert!(said.starts_with(&format!("error: damaged.json: {why}")), "{said}");
    }
    let said = session.failure(&record("out", &["--catalog", "absent.json"]));
    assert!(said.starts_with("error: absent.json: cannot read it ("), "{said}");
    assert!(!session.path("out").exists());
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
