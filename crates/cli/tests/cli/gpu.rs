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

/// Prefill of 40 tokens and 30 decode steps through 30 layers, every site: on 2026-11-21 each value of this record was
/// compared with stock transformers on an H200, and none differed.
#[test]
fn a_prediction_is_what_the_gpu_left() {
    let report = fs::read(repository().join("goldens/gpu/h200_transformers.json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    let case = report["cases"]
        .as_array()
        .unwrap()
        .iter()
        .find(|case| case["case"] == "smollm2-135m:7:30:1")
        .unwrap();
    assert_eq!(case["differ"], 0);
    let session = Session::new();
    fs::write(session.path("document.txt"), document()).unwrap();
    let made = session.output(&["synth", "--arch", "llama", "--preset", "smollm2-135m", "--out", "model"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let layers: Vec<String> = (1..=30).map(|layer: u32| layer.to_string()).collect();
    let sites = "embed_out,final_norm,logits,x_in,q,k,v,attn_out,x_after_attn,ffn_norm,mlp_out,x_out";
    let command = "record --hardware h200 --model model --document document.txt --document-tokens 7 --decode 30 --reps 1";
    let mut arguments: Vec<&str> = command.split(' ').collect();
    let layers = layers.join(",");
    arguments.extend(["--layers", &layers, "--sites", sites, "--out", "record"]);
    let recorded = session.output(&arguments);
    assert!(recorded.status.success(), "{}", String::from_utf8_lossy(&recorded.stderr));
    let manifest = fs::read(session.path("record/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["runs"][0]["mantissa"]["signals_digest"], case["signals_digest"]);
    assert_eq!(manifest["configurations"][0]["hardware"], "h200");
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
    assert!(said.contains("h200: RoPE of base 10000 over 32 elements is not covered"), "{said}");
    let said = refused(&format!("{command} --attention sdpa --out b"));
    assert!(said.contains("h200: bf16 with sdpa attention is not covered"), "{said}");
    let said = refused(&format!("{command} --dtype f32 --out c"));
    assert!(said.contains("h200: f32 with eager attention is not covered"), "{said}");
    let said = refused("record --hardware b200 --model model --document document.txt --out d");
    assert!(said.contains("use one of cpu, h200, h100, a100, l40s"), "{said}");
    // Shapes that were measured for one model are not for another.
    let shape = "synth --arch llama --head-dim 64 --num-attention-heads 6 --num-key-value-heads 3 --hidden-size 384 --out other";
    session.output(&shape.split(' ').collect::<Vec<_>>());
    let said =
        refused("record --hardware h200 --model other --document document.txt --document-tokens 20 --out e");
    assert!(said.contains("h200: a product of") && said.contains("its split-K was not measured"), "{said}");
}
