//! SmolLM2 against llama.cpp's answers in `goldens/llama_cpp_smollm2.json`.
//!
//! The model is a download, so these tests are ignored unless asked for: `.ci/run smollm2` pulls it, names the GGUF
//! file by `MANTISSA_SMOLLM2` and runs them. Asked for without it, they fail.

use std::path::PathBuf;

use mantissa_engine::{Engine, EngineSetup, NoTap, QuantizedWeights, greedy};
use mantissa_model::Checkpoint;
use serde_json::Value;

use crate::models;

fn smollm2() -> PathBuf {
    std::env::var_os("MANTISSA_SMOLLM2").map(PathBuf::from).expect(
        "MANTISSA_SMOLLM2 names SmolLM2-135M-Instruct.Q4_1.gguf (`mantissa pull smollm2-135m-instruct`)",
    )
}

fn ids(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .expect("ids")
        .iter()
        .map(|v| u32::try_from(v.as_u64().expect("id")).expect("id"))
        .collect()
}

fn setup(quantized: QuantizedWeights) -> EngineSetup {
    EngineSetup { quantized, ..models::on_cpu(512) }
}

/// The golden's `f32` reference computes with the exact weights in binary32, as Mantissa does: every one of its 64
/// greedy tokens must come out, and the logits of its top five to within the rounding of two different orders of sums.
#[test]
#[ignore = "needs a model: `.ci/run smollm2`"]
fn greedy_continuations_equal_llama_cpp_in_f32() {
    let path = smollm2();
    let golden: Value = serde_json::from_slice(
        &std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../goldens/llama_cpp_smollm2.json"))
            .expect("golden"),
    )
    .expect("golden");
    let checkpoint = Checkpoint::open(&path).expect("model");
    let engine = Engine::load(&checkpoint, setup(QuantizedWeights::Keep)).expect("engine");
    let prompts = golden["prompts"].as_array().expect("prompts");
    assert!(!prompts.is_empty());
    for prompt in prompts {
        let name = &prompt["name"];
        let (prompt_ids, reference) = (ids(&prompt["ids"]), &prompt["f32"]);
        let continuation = ids(&reference["continuation_ids"]);
        let steps = reference["steps"].as_array().expect("steps");
        assert_eq!((continuation.len(), steps.len()), (64, 64), "{name}");
        let mut caches = vec![engine.new_cache(512)];
        let mut logits = engine.prefill(&mut caches[0], &prompt_ids, 1, 0, 1, &mut NoTap).expect("prefill");
        let mut worst = 0.0_f64;
        for (step, (expected, theirs)) in continuation.iter().zip(steps).enumerate() {
            let (top, theirs) = (ids(&theirs["top_ids"]), theirs["top_logits"].as_array().expect("logits"));
            assert_eq!((top.len(), theirs.len()), (5, 5), "{name}: step {step}");
            for (id, logit) in top.iter().zip(theirs) {
                worst = worst.max((f64::from(logits[*id as usize]) - logit.as_f64().expect("logit")).abs());
            }
            assert_eq!(greedy(&logits), *expected, "{name}: step {step}");
            logits = engine.decode(&mut caches, &[*expected], &mut NoTap).expect("decode");
        }
        println!("{name}: 64 tokens equal, largest difference of a top-five logit {worst:.2e}");
        // Both sides were measured within 6e-5 of binary64 (goldens/README.md).
        assert!(worst < 2e-4, "{name}: a logit differs by {worst:e}");
    }
}
