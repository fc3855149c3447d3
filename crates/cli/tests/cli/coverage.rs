//! `mantissa coverage`, and what rests on a heuristic that was asked.

use std::fmt::Write as _;
use std::fs;

use serde_json::Value;

use crate::session::Session;

/// Llama-3.1-8B's configuration, of which no weight is here.
const LLAMA: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,
    "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "vocab_size": 128256, "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "max_position_embeddings": 131072,
    "tie_word_embeddings": false, "torch_dtype": "bfloat16", "bos_token_id": 128000, "eos_token_id": 128001}"#;

fn coverage(session: &Session, words: &str) -> Value {
    let words: Vec<&str> = words.split_whitespace().collect();
    let made = session.output(&[&["coverage", "--format", "json"], &words[..]].concat());
    assert_eq!(made.status.code(), Some(0), "{}", String::from_utf8_lossy(&made.stderr));
    let answer: Value = serde_json::from_slice(&made.stdout).unwrap();
    answer["hardware"][0].clone()
}

#[test]
fn a_configuration_is_enough_to_say_what_is_covered() {
    let session = Session::new();
    fs::write(session.path("llama.json"), LLAMA).unwrap();
    // cuBLASLt was asked for these weights on the H100: 2 batch sizes × 2 prompts.
    let model = "--model llama.json --attention sdpa_flash --batch-sizes 1,8 --prompts 512,1024";
    let h100 = coverage(&session, &format!("{model} --hardware h100"));
    assert_eq!(
        (&h100["runs"], &h100["asked"], &h100["refused"]),
        (&4.into(), &4.into(), &0.into()),
        "{h100}"
    );
    // Of a prompt of 513 tokens nothing is known there: the weights are the one cause, and one command asks for them.
    let one = "--model llama.json --hardware h100 --batch-sizes 1";
    let odd = coverage(&session, &format!("{one} --attention sdpa_flash --prompts 513"));
    assert_eq!((&odd["refused"], &odd["causes"].as_array().unwrap().len()), (&1.into(), &1), "{odd}");
    let cause = &odd["causes"][0];
    assert!(cause["what"].as_str().unwrap().starts_with("products with 1024 × 4096, 4096 × 4096"), "{cause}");
    assert_eq!(
        cause["command"],
        "mantissa catalog build --model llama.json --out h100.json --attention none"
    );
    // cuDNN's attention is no catalog's.
    let left_alone = coverage(&session, &format!("{one} --attention sdpa --prompts 512"));
    let cause = &left_alone["causes"][0];
    assert!(cause["what"].as_str().unwrap().contains("cuDNN") && cause.get("command").is_none(), "{cause}");
    // On the H200 it is known, but for a kernel of long decodes that does not repeat itself.
    let of_h200 = |words: &str| {
        let model = "--model llama.json --hardware h200 --attention sdpa --batch-sizes 1,9";
        coverage(&session, &format!("{model} {words}"))
    };
    assert_eq!(of_h200("--prompts 512 --decode 0")["refused"], 0);
    // Four sequences have 128 query heads, nine have 288.
    let long = of_h200("--prompts 120 --decode 30");
    assert_eq!((&long["runs"], &long["refused"]), (&2.into(), &1.into()), "{long}");
    assert!(long["causes"][0]["what"].as_str().unwrap().contains("an order that is not fixed"), "{long}");
    // The same seed draws the same runs, another draws others.
    let drawn = |seed: u32| {
        let words = format!("--model llama.json --hardware h200 --runs 50 --decode 2 --seed {seed}");
        coverage(&session, &words)
    };
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1), drawn(2));
    assert_eq!(drawn(1)["runs"], 50);
}

#[test]
fn coverage_for_people_names_the_command_that_adds_most() {
    let session = Session::new();
    fs::write(session.path("llama.json"), LLAMA).unwrap();
    let words = "coverage --model llama.json --hardware h200 --attention eager --batch-sizes 1009 --prompts 40 \
                 --decode 3";
    let made = session.output(&words.split_whitespace().collect::<Vec<_>>());
    insta::assert_snapshot!(String::from_utf8_lossy(&made.stdout));
    for (words, said) in [
        ("coverage --model nothing-there", "neither a path nor a pulled model"),
        ("coverage --model llama.json --prompts 9-1", "--prompts: '9-1' is no list of sizes"),
        ("coverage --model llama.json --hardware h300", "invalid value 'h300' for '--hardware <LIST>'"),
    ] {
        let refused = session.failure(&words.split(' ').collect::<Vec<_>>());
        assert!(refused.contains(said) && refused.trim_end().lines().count() == 1, "{refused}");
    }
}

/// 201 rows on an H100: the heuristic was asked, no product compared.
#[test]
fn a_record_and_a_verdict_say_that_they_rest_on_a_heuristic() {
    let session = Session::new();
    let synth = ["synth", "--preset", "smollm2-135m", "--num-hidden-layers", "1", "--out", "model"];
    let made = session.output(&synth);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut document = String::new();
    for i in 0_u32..400 {
        write!(document, "{} measured roundings of word {i}. ", i * 7919 % 1007).unwrap();
    }
    fs::write(session.path("document.txt"), document).unwrap();
    let command = "record --model model --document document.txt --document-tokens 198 --decode 1 --reps 1 \
                   --no-chat-template --hardware h100 --attention sdpa_flash --out record";
    let mut arguments: Vec<&str> = command.split_whitespace().collect();
    arguments.extend(["--instruction", ""]);
    let made = session.output(&arguments);
    let said = String::from_utf8_lossy(&made.stdout).into_owned();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(said.contains("is what cuBLAS itself names"), "{said}");
    let manifest: Value =
        serde_json::from_slice(&fs::read(session.path("record/manifest.json")).unwrap()).unwrap();
    let tokens = manifest["runs"][0]["mantissa"]["prompt_token_ids"].as_array().unwrap().len();
    assert_eq!(tokens, 201);
    let stated = &manifest["configurations"][0]["mantissa"]["catalogs"][0];
    assert_eq!((&stated["basis"], &stated["asked"]), (&"verified".into(), &true.into()));
    let verified = session.output(&["verify", "record", "--model", "model", "--output", "verdict.json"]);
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stderr));
    let verdict: Value = serde_json::from_slice(&fs::read(session.path("verdict.json")).unwrap()).unwrap();
    let sentence = verdict["claims"][0]["sentence"].as_str().unwrap();
    assert!(sentence.contains("such sums were compared at other sizes, not at theirs"), "{sentence}");
    assert_eq!(verdict["catalogs"][0]["asked"], true);
}
