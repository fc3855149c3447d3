//! A file that contradicts itself gets no verdict: each statement that a file makes twice, changed in one place; what
//! settles it; and honest files of every kind, which contradict nothing.

use std::fs;
use std::io::Write as _;

use serde_json::{Value, json};

use crate::session::{Session, repository};

/// A record of a tiny model in binary32, as a container and as JSON.
fn with_record(more: &[&str]) -> (Session, Value) {
    let session = Session::new();
    assert!(session.output(&["synth", "--arch", "llama", "--seed", "3", "--out", "model"]).status.success());
    let document = repository().join("fixtures/documents/demo.pdf").display().to_string();
    let base =
        ["record", "--model", "model", "--document", &document, "--document-tokens", "24", "--decode", "3"];
    let rest = ["--reps", "2", "--dtype", "f32", "--out", "out", "--json", "out.json"];
    let output = session.output(&[&base[..], &rest, more].concat());
    assert!(output.status.success(), "{}", session.text(&base, &output));
    let tree = serde_json::from_slice(&fs::read(session.path("out.json")).unwrap()).unwrap();
    (session, tree)
}

/// Writes `tree` as `name`, with a value put at each JSON pointer.
fn changed(session: &Session, tree: &Value, name: &str, changes: &[(&str, Value)]) {
    let mut tree = tree.clone();
    for (pointer, value) in changes {
        *tree.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value.clone();
    }
    fs::write(session.path(name), serde_json::to_vec(&tree).unwrap()).unwrap();
}

fn verified(session: &Session, evidence: &str, more: &[&str]) -> (Option<i32>, Value) {
    let arguments = [&["--format", "json", "--quiet", "verify", evidence, "--model", "model"], more].concat();
    let output = session.output(&arguments);
    let audit = serde_json::from_slice(&output.stdout);
    (output.status.code(), audit.unwrap_or_else(|_| panic!("{}", session.text(&arguments, &output))))
}

#[test]
fn what_a_claim_can_settle_gets_its_verdict_then_and_the_conflict_stays_told() {
    let (session, tree) = with_record(&[]);
    let setup = "/configurations/0/mantissa/setup";
    let cases: [(&str, Value, &str, &str); 11] = [
        ("/configurations/0/variable_value", json!(4), "batch_size", "batch_size=1"),
        ("/configurations/0/fixed_params/attention_impl", json!("sdpa"), "attention", "attention=eager"),
        (&format!("{setup}/attention"), json!("sdpa"), "attention", "attention=eager"),
        ("/configurations/0/hardware", json!("NVIDIA H200"), "hardware", "hardware=cpu"),
        ("/configurations/0/fixed_params/compile", json!(true), "compile", "compile=false"),
        ("/configurations/0/fixed_params/tp_size", json!(2), "tp_size", "tp_size=1"),
        (&format!("{setup}/ep_size"), json!(8), "ep_size", "ep_size=1"),
        (
            "/configurations/0/fixed_params/concurrent_streams",
            json!(true),
            "concurrent_streams",
            "concurrent_streams=false",
        ),
        (&format!("{setup}/quantization"), json!("fp8"), "quantization", "quantization=auto"),
        ("/experiment_metadata/model", json!("Llama-3.1-70B"), "the model's name", "model=model"),
        (&format!("{setup}/model/id"), json!("Llama-3.1-70B"), "the model's name", "model=model"),
    ];
    for (pointer, value, about, claim) in cases {
        changed(&session, &tree, "x.json", &[(pointer, value.clone())]);
        let (code, audit) = verified(&session, "x.json", &[]);
        let verdict = &audit["claims"][0];
        assert_eq!((code, &verdict["answer"]), (Some(3), &json!("contradicts_itself")), "{pointer}: {audit}");
        let sentence = verdict["sentence"].as_str().unwrap();
        let field = pointer.rsplit('/').next().unwrap();
        let word = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        for words in [about, field, &format!("'{word}'"), "--claim"] {
            assert!(sentence.contains(words), "{pointer}, {words}: {sentence}");
        }
        assert!(verdict["replays"].as_array().unwrap().is_empty(), "nothing was replayed: {pointer}");
        // Settled: a verdict, and the conflict among what was found and the warnings of the source.
        if about == "quantization" {
            // The weights given say how they are stored; `fixed_params` still fits them.
            assert_eq!(verified(&session, "x.json", &["--claim", claim]).0, Some(0));
            continue;
        }
        let (code, audit) = verified(&session, "x.json", &["--claim", claim]);
        assert_eq!(
            (code, &audit["claims"][0]["answer"]),
            (Some(0), &json!("consistent")),
            "{pointer}: {audit}"
        );
        assert_eq!(audit["contested"][0]["settled"], json!(true), "{pointer}");
        let warnings = audit["sources"][0]["warnings"].to_string();
        assert!(warnings.contains("contradicts itself") && warnings.contains(about), "{pointer}: {warnings}");
        // Another claim settles something else.
        assert_eq!(verified(&session, "x.json", &["--claim", "padding=none"]).0, Some(3), "{pointer}");
    }
    // What is claimed instead is replayed as any claim.
    changed(&session, &tree, "x.json", &[("/configurations/0/variable_value", json!(4))]);
    let (code, audit) =
        verified(&session, "x.json", &["--claim", "batch_size=4", "--vary", "batch_size=1,4"]);
    assert_eq!((code, &audit["claims"][0]["answer"]), (Some(1), &json!("contradicted")), "{audit}");
}

#[test]
fn what_no_claim_can_settle_gets_no_verdict_at_all() {
    let (session, tree) = with_record(&[]);
    let number = |pointer: &str| tree.pointer(pointer).unwrap().as_f64().unwrap();
    let keys = "/runs/0/decode_steps/1/key_vectors/layer_4/pos_-2/3";
    let probability = "/runs/0/decode_steps/1/logprobs/pos_-2/log_probs/0";
    let other = |pointer: &str| json!(number(pointer) * 1.5);
    let source = "/runs/0/mantissa/prompt_source/end";
    let cases: [(&str, Value, &str); 12] = [
        ("/runs/0/prompt_text", json!("Say nothing of what was asked."), "prompt (its text and its ids)"),
        ("/runs/0/mantissa/output_token_texts/1", json!("zebra"), "output (its text and its ids)"),
        (keys, other(keys), "a row that two passes stored"),
        (probability, other(probability), "a row that two passes stored"),
        ("/experiment_metadata/sequence_length", json!(7), "tokens of the prompt"),
        ("/experiment_metadata/decode_steps", json!(9), "decode steps"),
        ("/experiment_metadata/extraction_config/layers", json!([1, 2]), "layers"),
        ("/experiment_metadata/extraction_config/positions", json!([-1]), "positions"),
        ("/experiment_metadata/extraction_config/hidden_dim", json!(64), "values of a hidden state"),
        ("/experiment_metadata/extraction_config/key_dim", json!(65), "values of a key"),
        ("/experiment_metadata/extraction_config/top_k_logprobs", json!(3), "candidates of a position"),
        (source, json!(tree.pointer(source).unwrap().as_u64().unwrap() + 1), "tokens of the prompt"),
    ];
    for (pointer, value, about) in cases {
        let mut sealed = vec![(pointer, value)];
        if pointer.ends_with("texts/1") {
            // The step says it too, or the file is refused for that.
            sealed.push(("/runs/0/decode_steps/1/token_text", json!("zebra")));
        }
        changed(&session, &tree, "x.json", &sealed);
        // What was altered is not what its digests say; here only the contents matter.
        let anyway = ["--despite-damage", "--claim", "batch_size=1"];
        let (_, audit) = verified(&session, "x.json", &anyway);
        let verdict = &audit["claims"][0];
        assert_eq!(verdict["answer"], json!("contradicts_itself"), "{pointer}: {audit}");
        let sentence = verdict["sentence"].as_str().unwrap();
        assert!(
            sentence.contains(about) && sentence.contains("no claim settles it"),
            "{pointer}: {sentence}"
        );
        assert_eq!(audit["contested"][0]["statements"].as_array().unwrap().len(), 2, "{pointer}: {audit}");
    }
}

/// Both places and both values, and what the other verbs say of them.
#[test]
fn every_verb_tells_a_conflict() {
    let (session, tree) = with_record(&[]);
    changed(&session, &tree, "x.json", &[("/configurations/0/variable_value", json!(4))]);
    let words =
        "configurations[0].variable_value says '4', configurations[0].mantissa.setup.batch_size says '1'";
    let whole = |output: &std::process::Output| {
        let text = session.text(&[], output);
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for arguments in [
        &["inspect", "x.json", "--model", "model"][..],
        &["analyze", "x.json", "out.json"],
        &["compare", "x.json", "out.json"],
        &["verify", "x.json", "--model", "model"],
        &["verify", "x.json"],
        &["--format", "markdown", "verify", "x.json", "--model", "model"],
    ] {
        let output = session.output(arguments);
        let text = whole(&output).replace("\\_", "_").replace("\\[", "[").replace("\\]", "]");
        assert!(text.contains(words), "{arguments:?}: {text}");
    }
    let text = whole(&session.output(&["verify", "x.json", "--model", "model"]));
    assert!(text.contains("no verdict until it is settled what is meant"), "{text}");
    let inspected = session.output(&["--format", "json", "inspect", "x.json", "--model", "model"]);
    let inspected: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(inspected["contested"].as_array().unwrap().len(), 1);
}

#[test]
fn honest_files_of_every_kind_contradict_nothing_and_the_claimed_name_stands_beside_the_digest() {
    let all = "embed_out,x_in,q,k,v,attn_out,x_after_attn,ffn_norm,mlp_out,x_out,logits";
    let (session, _) = with_record(&["--batch-size", "1,3", "--attention", "eager,sdpa", "--sites", all]);
    let text = fs::read(session.path("out.json")).unwrap();
    let file = fs::File::create(session.path("out.json.gz")).unwrap();
    let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    packed.write_all(&text).unwrap();
    packed.finish().unwrap();
    for evidence in ["out", "out.json", "out.json.gz"] {
        let (code, audit) = verified(&session, evidence, &[]);
        assert_eq!((code, audit["claims"].as_array().unwrap().len()), (Some(0), 4), "{audit}");
        assert_eq!(audit["contested"], json!([]), "{evidence}");
        assert_eq!(audit["model"]["claimed"], json!(["model"]), "{evidence}");
        for claim in audit["claims"].as_array().unwrap() {
            let rests_on = &claim["rests_on"];
            assert_eq!(rests_on["values"], rests_on["recorded"], "everything was compared: {claim}");
        }
    }
    let output = session.output(&["verify", "out", "--model", "model", "--claim", "model=someone's"]);
    let text = session.text(&[], &output);
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("as the evidence states; claimed to be someone's"), "{text}");
}

/// A replay in one pass sees the prompt's rows alone, and a spot check what has its inputs beside it.
#[test]
fn a_headline_says_of_how_much_it_speaks() {
    let (session, _) = with_record(&["--positions=-1"]);
    let (code, audit) = verified(&session, "out", &["--replay", "prefill"]);
    assert_eq!(code, Some(0), "{audit}");
    let claim = &audit["claims"][0];
    let (values, recorded) =
        (claim["rests_on"]["values"].as_u64().unwrap(), claim["rests_on"]["recorded"].as_u64().unwrap());
    assert!(values * 4 == recorded, "one of four passes: {values} of {recorded}");
    let words = format!("at the {values} of {recorded} recorded values (25.0%) that were compared");
    assert!(claim["sentence"].as_str().unwrap().ends_with(&words), "{claim}");
    let sites =
        ["--positions=-1", "--layers", "1,2", "--sites", "x_in,q,k,v,attn_out,x_after_attn,ffn_norm,mlp_out"];
    let (session, _) = with_record(&sites);
    let (code, audit) = verified(&session, "out", &["--spot-check", "50"]);
    assert_eq!(code, Some(0), "{audit}");
    let spot = &audit["spot_checks"][0];
    let of = |field: &str| spot[field].as_u64().unwrap();
    assert!(of("population") < of("recorded") && of("population") > of("recorded") / 2, "{spot}");
    let words = format!("drawn from {} of {} recorded values", of("population"), of("recorded"));
    assert!(audit["claims"][0]["sentence"].as_str().unwrap().contains(&words), "{audit}");
}

#[test]
fn draws_and_ends_that_contradict_what_else_is_stated_get_no_verdict_before_a_claim() {
    let (session, tree) = with_record(&["--generation", "repetition_penalty=0.4"]);
    let setup = "/configurations/0/mantissa/setup";
    let (decoding, generation) = (format!("{setup}/decoding"), format!("{setup}/generation"));
    let engine = format!("{setup}/engine");
    let tokens = tree.pointer("/runs/0/mantissa/output_token_ids").unwrap().clone();
    let end = |more: Value| {
        let mut all = json!({"repetition_penalty": 0.4});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let open = |changes: &[(&str, Value)], words: &[&str]| {
        changed(&session, &tree, "x.json", changes);
        let (code, audit) = verified(&session, "x.json", &[]);
        assert_eq!((code, &audit["claims"][0]["answer"]), (Some(3), &json!("contradicts_itself")), "{audit}");
        let sentence = audit["claims"][0]["sentence"].as_str().unwrap();
        for word in words {
            assert!(sentence.contains(word), "{word}: {sentence}");
        }
    };
    let settled = |claim: &str, want: i32| {
        let (code, audit) = verified(&session, "x.json", &["--claim", claim]);
        assert_eq!(code, Some(want), "{claim}: {audit}");
        assert_eq!(audit["contested"][0]["settled"], json!(want != 3), "{claim}: {audit}");
    };
    let words = ["whether tokens were drawn", "setup.decoding says 'sampled'", "do_sample says 'false'"];
    open(&[(&decoding, json!("sampled"))], &words);
    settled("do_sample=false", 0);
    settled("do_sample=true", 0);
    settled("ignore_eos=true", 3);
    open(&[(&generation, end(json!({"do_sample": true})))], &["setup.decoding says 'greedy'"]);
    let first = tokens[0].as_u64().unwrap();
    let words = ["the end of an output", &format!("says '{first} as output token 1 of"), "ignore_eos=true"];
    // This engine's own records go on behind an end; another program's outputs do not.
    let theirs = (engine.as_str(), json!("transformers"));
    open(&[(&generation, end(json!({"eos_token_id": [first]}))), theirs.clone()], &words);
    settled("ignore_eos=true", 0);
    settled("ignore_eos=false", 3);
    // The settings say why.
    for more in [json!({"eos_token_id": [first], "ignore_eos": true}), json!({"eos_token_id": [511]})] {
        changed(&session, &tree, "x.json", &[(&generation, end(more)), theirs.clone()]);
        assert_eq!(verified(&session, "x.json", &[]).1["contested"], json!([]));
    }
    // By the model's own ends: what another program's `generate` left, but no record of as many tokens as were asked
    // for.
    let mut config: Value =
        serde_json::from_slice(&fs::read(session.path("model/config.json")).unwrap()).unwrap();
    let weights = format!("{setup}/model/weights_digest");
    config["eos_token_id"] = first.into();
    fs::write(session.path("model/config.json"), config.to_string()).unwrap();
    fs::remove_file(session.path("model/generation_config.json")).unwrap();
    let mut tree = tree.clone();
    *tree.pointer_mut(&weights).unwrap() = Value::Null;
    tree["experiment_metadata"]["mantissa"]["weights_digest"] = Value::Null;
    changed(&session, &tree, "own.json", &[]);
    assert_eq!(verified(&session, "own.json", &[]).1["contested"], json!([]));
    changed(&session, &tree, "theirs.json", &[theirs]);
    let (code, audit) = verified(&session, "theirs.json", &[]);
    assert_eq!(code, Some(3), "{audit}");
    let sentence = audit["claims"][0]["sentence"].as_str().unwrap();
    assert!(sentence.contains(&format!("eos_token_id of the model says '{first}'")), "{sentence}");
    assert_eq!(verified(&session, "theirs.json", &["--claim", "ignore_eos=true"]).0, Some(0));
    // A file of settings that names no end goes before the configuration: `generate` then has none.
    fs::write(session.path("model/generation_config.json"), "{}").unwrap();
    assert_eq!(verified(&session, "theirs.json", &[]).1["contested"], json!([]));
}
