//! Settings of generation against transformers' logits processors, bit for bit, and against its `generate`
//! (`goldens/generation.json`).

use std::collections::BTreeSet;

use mantissa_engine::generation::{Generated, scores};
use mantissa_engine::{Engine, Hardware, NoTap, greedy};
use mantissa_model::Arch;
use mantissa_model::generation::settings;
use mantissa_numerics::Generation;
use serde_json::Value;

use crate::models;

fn golden() -> Value {
    serde_json::from_str(include_str!("../../../../goldens/generation.json")).expect("golden")
}

fn read(value: &Value, tokens: usize) -> Generation {
    let map = value.as_object().expect("settings");
    let stated = settings("golden", map, tokens, true).expect("settings");
    assert!(stated.unknown.is_empty() && stated.generation.not_computed().is_none(), "{value}");
    stated.generation
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).expect("ids")
}

#[test]
fn rows_of_scores_are_those_of_transformers() {
    let golden = golden();
    let mut seen = BTreeSet::new();
    let rows = golden["rows"].as_array().expect("rows");
    for (number, row) in rows.iter().enumerate() {
        let [prompt, output] = ["prompt", "output"].map(|key| ids(&row[key]));
        let longest = row["longest"].as_u64().and_then(|n| usize::try_from(n).ok()).expect("a length");
        let [logits, want] = ["logits", "scores"].map(|key| {
            let bits: Vec<String> = serde_json::from_value(row[key].clone()).expect("bits");
            bits.iter()
                .map(|hex| f32::from_bits(u32::from_str_radix(hex, 16).expect("hex")))
                .collect::<Vec<f32>>()
        });
        let settings = read(&row["settings"], logits.len());
        let at = Generated { prompt: &prompt, output: &output, longest };
        let found = scores(&settings, Hardware::Cpu, at, &logits);
        for (token, (found, want)) in found.iter().zip(&want).enumerate() {
            // A sum with 0 loses the sign of a zero, which no comparison sees.
            let zeros = found.abs().to_bits() == 0 && want.abs().to_bits() == 0;
            let same = found.to_bits() == want.to_bits() || (found.is_nan() && want.is_nan()) || zeros;
            assert!(same, "row {number}, token {token}: {found} and not {want}: {}", row["settings"]);
        }
        let changed = logits.iter().zip(&want).any(|(a, b)| a.to_bits() != b.to_bits());
        if changed {
            seen.extend(row["settings"].as_object().into_iter().flatten().map(|(name, _)| name.clone()));
        }
    }
    assert!(rows.len() > 150 && seen.len() == 15, "{}: {seen:?}", rows.len());
}

#[test]
fn greedy_tokens_are_those_of_generate() {
    let checkpoint = models::tiny(Arch::QWEN3);
    let setup = models::on_cpu(80);
    let engine = Engine::load(&checkpoint, setup).expect("engine");
    let golden = golden();
    let vocabulary = checkpoint.config().vocab_size;
    for case in golden["tokens"].as_array().expect("tokens") {
        let (prompt, mut want) = (ids(&case["prompt"]), ids(&case["tokens"]));
        let settings = read(&case["settings"], vocabulary);
        let mut caches = vec![engine.new_cache(80)];
        let mut logits = engine.prefill(&mut caches[0], &prompt, 1, 0, 1, &mut NoTap).expect("prefill");
        let mut output = Vec::new();
        // An end of its own stops `generate`, and not a record.
        want.truncate(16);
        while output.len() < want.len() {
            let at = Generated { prompt: &prompt, output: &output, longest: 16 };
            let token = greedy(&scores(&settings, Hardware::Cpu, at, &logits));
            output.push(token);
            logits = engine.decode(&mut caches, &[token], &mut NoTap).expect("decode");
        }
        assert_eq!(output, want, "{}", case["settings"]);
    }
}

/// On an H200 as `goldens/gpu/penalty.py` found it: neither a division nor the reciprocal of the rounded penalty.
#[test]
fn a_gpu_multiplies_by_the_reciprocal_of_the_penalty_as_it_was_given() {
    let settings = Generation { repetition_penalty: Some(1.05), ..Generation::default() };
    let at = Generated { prompt: &[0, 1, 2], output: &[], longest: 8 };
    let on = |hardware| scores(&settings, hardware, at, &[2.5, 11.0, -2.5, 2.5]).into_owned();
    let divided = [2.5_f32 / 1.05, 11.0 / 1.05, -2.5 * 1.05, 2.5];
    assert_eq!(on(Hardware::Cpu), divided);
    let reciprocal = 0.952_380_95_f32;
    assert_ne!(reciprocal.to_bits(), (1.0 / 1.05_f32).to_bits());
    assert_eq!(on(Hardware::H200), [2.5 * reciprocal, 11.0 * reciprocal, -2.5 * 1.05, 2.5]);
    assert_ne!(on(Hardware::H200)[0].to_bits(), divided[0].to_bits());
}
