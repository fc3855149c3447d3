//! What `--hardware h200` predicts, pinned by a record that was compared with an H200.

use std::fmt::Write as _;
use std::fs;

use crate::session::{Session, repository};

/// The document of `goldens/gpu/check_transformers.py`.
fn document() -> String {
    let mut text = String::new();
    for i in 0_u64..20_000 {
        if i > 0 {
            text.push('\n');
        }
        let (a, b) = ((i * 7919) % 10007, (i * 31) % 997);
        write!(text, "{a} measured roundings of word {i} differ from {b}.").unwrap();
    }
    text
}

/// Every site of every layer but the router's, prompt and 30 decode steps, as `goldens/gpu/cases.py` records them: on
/// 2026-11-21 each value of these records was compared with stock transformers on that GPU, and none differed.
fn predictions_are_what_was_compared(gpu: &str, model: &str, layers: u32, synth: &str, cases: &[&str]) {
    let report = fs::read(repository().join(format!("goldens/gpu/{gpu}_transformers.json"))).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    let session = Session::new();
    fs::write(session.path("document.txt"), document()).unwrap();
    let made = session.output(&format!("synth --out model {synth}").split(' ').collect::<Vec<_>>());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let layers = (1..=layers).map(|layer| layer.to_string()).collect::<Vec<_>>().join(",");
    for (number, name) in cases.iter().enumerate() {
        let name = format!("{model}:{name}");
        let case = report["cases"].as_array().unwrap().iter().find(|case| case["case"] == *name).unwrap();
        assert_eq!(case["differ"], 0, "{name}");
        let parts: Vec<&str> = name.split(':').collect();
        let out = format!("record{number}");
        let command = "record --model model --document document.txt --reps 1 --sites embed_out,final_norm,logits,x_in,q,k,v,attn_out,x_after_attn,ffn_norm,mlp_out,x_out";
        let mut arguments: Vec<&str> = command.split(' ').collect();
        let tokens = parts[1].trim_end_matches('r');
        arguments.extend(["--hardware", gpu, "--layers", &layers, "--document-tokens", tokens]);
        arguments.extend(["--decode", parts[2], "--batch-size", parts[3], "--out", &out]);
        if tokens != parts[1] {
            arguments.extend(["--no-chat-template", "--instruction", ""]);
        }
        arguments.extend(["--attention", parts.get(4).unwrap_or(&"eager")]);
        let recorded = session.output(&arguments);
        assert!(recorded.status.success(), "{name}: {}", String::from_utf8_lossy(&recorded.stderr));
        let manifest = fs::read(session.path(&format!("{out}/manifest.json"))).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        // Model, document and command are those of cases.py; if they drift, the number of tokens is likely to tell.
        let run = &manifest["runs"][0]["mantissa"];
        let tokens = run["prompt_token_ids"].as_array().unwrap().len();
        assert_eq!(case["prompt_tokens"], tokens, "{name}");
        assert_eq!(run["signals_digest"], case["signals_digest"], "{name}");
        assert_eq!(manifest["configurations"][0]["hardware"], gpu, "{name}");
    }
}

#[test]
fn predictions_of_a_llama_are_what_an_h200_left() {
    let cases = [
        "7:30:1",
        "29r:30:5",
        "29r:30:17",
        "29r:30:17:sdpa_flash",
        "29r:30:8:sdpa_math",
        "509r:30:2",
        "509r:30:1:sdpa_flash",
        "482:30:1:sdpa_math",
    ];
    predictions_are_what_was_compared("h200", "smollm2-135m", 30, "--preset smollm2-135m", &cases);
}

#[test]
fn predictions_of_a_qwen3_are_what_an_h100_left() {
    let synth = "--arch qwen3 --hidden-size 1024 --intermediate-size 3072 --num-hidden-layers 4 --num-attention-heads 16 \
                 --num-key-value-heads 8 --head-dim 128 --vocab-size 151936";
    predictions_are_what_was_compared("h100", "qwen3-0.6b", 4, synth, &["29r:30:9", "7:30:2"]);
}

#[test]
fn what_is_not_covered_is_refused() {
    let session = Session::new();
    fs::write(session.path("document.txt"), document()).unwrap();
    session.output(&["synth", "--arch", "llama", "--out", "model"]);
    let refused = |arguments: &str| {
        let output = session.output(&arguments.split(' ').collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(2), "{arguments}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let command =
        "record --hardware h200 --model model --document document.txt --document-tokens 20 --reps 1";
    let said = refused(&format!("{command} --out a"));
    assert!(said.contains("h200: a product of") && said.contains("is not covered"), "{said}");
    let said = refused(&format!("{command} --attention sdpa --out b"));
    assert!(said.contains("h200: bf16 with sdpa attention is not covered"), "{said}");
    let said = refused(&format!("{command} --dtype f32 --out c"));
    assert!(said.contains("h200: f32 with eager attention is not covered"), "{said}");
    let said = refused("record --hardware b200 --model model --document document.txt --out d");
    assert!(said.contains("use one of cpu, h200, h100, literature-a100, literature-l40s"), "{said}");
    let said = refused("record --hardware a100 --model model --document document.txt --out d");
    assert!(said.contains("invalid value 'a100' for '--hardware <WHICH>': use literature-a100"), "{said}");
    let of_one_rank = "(this engine's own arithmetic is of one rank; name a GPU)";
    for (flag, why) in [
        ("--compile true", "there are no recipes for a compiled model; only eager mode is covered"),
        ("--tp-size 2", of_one_rank),
        ("--ep-size 2", of_one_rank),
        ("--engine vllm-0.24", of_one_rank),
        ("--all-reduce ring", "an all-reduce of one rank is not covered (there is nothing to add)"),
        ("--hardware h200 --ep-size 2", "(the model has no experts)"),
        ("--hardware h200 --engine vllm-0.24", "say attention=flash_attention_3)"),
        ("--hardware h200 --attention flash_attention_3", "say engine=vllm-0.24)"),
    ] {
        let command = "--model model --document document.txt --document-tokens 20 --reps 1 --out d";
        let said = refused(&format!("record {flag} {command}"));
        assert!(said.contains(why), "{flag}: {said}");
    }
    // Shapes that were measured for one model are not for another.
    let shape = "synth --arch llama --head-dim 64 --num-attention-heads 6 --num-key-value-heads 3 --hidden-size 384 --out other";
    session.output(&shape.split(' ').collect::<Vec<_>>());
    let said =
        refused("record --hardware h200 --model other --document document.txt --document-tokens 20 --out e");
    assert!(said.contains("h200: a product of") && said.contains("its split-K was not measured"), "{said}");
}

/// A sequence padded to the length of its batch leaves other bits than one that fills it, by where the padding stands;
/// evidence of it says so by itself, and names what fits. `--coverage` says beforehand what a replay covers.
#[test]
fn padding_is_recorded_replayed_and_told_apart() {
    let session = Session::new();
    fs::write(session.path("document.txt"), document()).unwrap();
    let run = |words: &str| {
        let made = session.output(&words.split(' ').collect::<Vec<_>>());
        (made.status.code(), String::from_utf8_lossy(&[made.stdout, made.stderr].concat()).into_owned())
    };
    let made = run("synth --out model --preset smollm2-135m --num-hidden-layers 2 --seed 3");
    assert_eq!(made.0, Some(0), "{}", made.1);
    let document = "--document document.txt --document-tokens 150 --no-chat-template";
    let kept = "--layers 1,2 --sites attn_out,x_out,k";
    let record = format!("record --model model {document} {kept} --decode 4 --reps 1");
    let of_h200 = format!("{record} --hardware h200 --batch-size 4 --padding left:24 --out padded");
    let before = run(&format!("{of_h200} --coverage"));
    assert_eq!((before.0, before.1.contains("1 of 1 (100.0%)")), (Some(0), true), "{}", before.1);
    assert!(!session.path("padded").exists(), "--coverage runs nothing");
    assert_eq!(run(&of_h200).0, Some(0));
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(session.path("padded/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["configurations"][0]["mantissa"]["setup"]["axes"]["padding"], "left:24");
    let varied = "--vary padding=none,left:8,right:24 --format json";
    let (code, audit) = run(&format!("verify padded --model model {varied} --quiet"));
    assert_eq!(code, Some(0), "{audit}");
    let audit: serde_json::Value = serde_json::from_str(&audit).unwrap();
    let claim = &audit["claims"][0];
    assert_eq!(claim["answer"], "consistent");
    let replays = claim["replays"].as_array().unwrap();
    let fits = |replay: &&serde_json::Value| replay["state"] == "equal";
    assert_eq!((replays.len(), replays.iter().filter(fits).count()), (4, 1), "{audit:#}");
    let told = run(
        "verify padded --model model --vary padding=none,left:8 --vary attention=eager,sdpa_flash --coverage",
    );
    assert!(
        told.0 == Some(0) && told.1.contains("refused") && told.1.contains("flash backend takes no mask"),
        "{}",
        told.1
    );
    // The flash backend has no mask.
    for (more, why) in [
        ("--hardware h200 --attention sdpa_flash --padding right:3", "takes no mask"),
        ("--hardware h200 --dtype f16 --padding left:24", "what the padding holds is unknown"),
    ] {
        let words = format!("{record} {more} --out other");
        let refused = session.failure(&words.split(' ').collect::<Vec<_>>());
        assert!(refused.contains(why), "{refused}");
    }
}
