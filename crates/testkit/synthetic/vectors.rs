//! Files of vectors: activations by batch size, layer sweeps and their comparison, a summary of compilation.

use half::{bf16, f16};
use serde_json::{Map, Value, json};

use super::numbers::{l2, max_of, mean};

/// Three batch sizes, three repetitions each, in binary16.
pub(crate) fn activations() -> Value {
    let vectors = [(1, [1.5, -2.0, 0.25, 3.0]), (2, [2.0, -2.0, 0.25, 3.0]), (4, [2.0, -1.75, 0.25, 3.0])];
    let half = |value: f64| f16::from_f64(value).to_f64();
    let mut noise = Map::new();
    let (mut norms, mut deviations, mut raw) = (Map::new(), Map::new(), Map::new());
    for (a, row) in &vectors {
        let key = format!("batch_size_{a}");
        noise.insert(key.clone(), json!({"mean": 0.0, "std": 0.0}));
        norms.insert(key.clone(), half(l2(row, &[0.0; 4])).into());
        raw.insert(key, json!([row, row, row]));
        for (b, other) in vectors.iter().filter(|(b, _)| b != a) {
            deviations.insert(format!("bs{a}_vs_bs{b}"), half(l2(row, other)).into());
        }
    }
    json!({
        "experiment": "synthetic_prefill", "timestamp": "2026-01-01T00:00:00", "model": "synthetic",
        "hardware": {"gpu": "NVIDIA L40S", "pytorch": "2.8.0+cu128", "cuda": "12.8", "hostname": "h"},
        "config": {"batch_sizes": [1, 2, 4], "repetitions": 3, "operation": "prefill", "dtype": "float16",
            "prompt_tokens": 12, "hidden_dim": 4},
        "statistical_noise": noise, "systematic_deviations": deviations, "activation_norms": norms,
        "raw_activations": raw
    })
}

/// Vectors of two layers, moved by `shift` in the first value of the second.
fn layers(shift: f64) -> [(u32, [f64; 4]); 2] {
    [(1, [0.5, -0.25, 1.0, 2.0]), (2, [8.0 + shift, -3.0, 1.5, 0.25])]
}

/// Two layers, two repetitions each, in bf16.
pub(crate) fn layer_sweep(cuda: &str, shift: f64) -> Value {
    let (mut statistics, mut raw) = (Map::new(), Map::new());
    for (layer, row) in layers(shift) {
        let norm = bf16::from_f64(l2(&row, &[0.0; 4])).to_f64();
        statistics.insert(format!("layer_{layer}"), json!({"mean_norm": norm, "std_within_reps": 0.0}));
        raw.insert(format!("layer_{layer}"), json!([row, row]));
    }
    json!({
        "experiment": "cuda_version_forensics", "timestamp": "2026-01-01T00:00:00", "model": "synthetic",
        "hardware": {"gpu": "NVIDIA A100 80GB PCIe", "hostname": "h"},
        "software": {"pytorch_version": "2.4.0", "cuda_runtime": cuda, "cuda_build": build(cuda),
            "attention_implementation": "eager"},
        "config": {"dtype": "bfloat16", "prompt_tokens": 12, "repetitions": 2, "layers_sampled": [1, 2],
            "hidden_dim": 4},
        "layer_statistics": statistics, "reproducibility": {"all_repetitions_identical": true},
        "raw_activations": raw
    })
}

fn build(cuda: &str) -> String {
    format!("cu{}", cuda.replace('.', ""))
}

/// The two sweeps compared.
pub(crate) fn cuda_comparison() -> Value {
    let mut deviations = Map::new();
    let mut distances = Vec::new();
    for ((layer, a), (_, b)) in layers(0.0).into_iter().zip(layers(0.5)) {
        let (distance, norm) = (l2(&a, &b), l2(&a, &[0.0; 4]));
        distances.push(distance);
        let apart: Vec<f64> = a.iter().zip(&b).map(|(x, y)| (x - y).abs()).collect();
        deviations.insert(
            layer.to_string(),
            json!({"l2_distance": distance, "relative_diff": distance / norm, "max_diff": max_of(&apart),
                "dims_affected": apart.iter().filter(|apart| **apart > 0.01).count(), "dims_total": 4,
                "norm1": norm, "norm2": l2(&b, &[0.0; 4])}),
        );
    }
    json!({
        "timestamp": "2026-01-01T00:00:00", "cuda_versions": {"cuda1": "cu118", "cuda2": "cu121"},
        "setup_verification": {"checks": {"GPU": {"value1": "NVIDIA A100 80GB PCIe",
            "value2": "NVIDIA A100 80GB PCIe", "match": true}}, "all_match": true},
        "reproducibility": {"cu118": true, "cu121": true}, "layer_deviations": deviations,
        "error_propagation": {"first_layer": 1, "last_layer": 2, "first_l2": distances[0], "last_l2": distances[1],
            "grows": true},
        "diagnosis": {"conclusion": "DISTINGUISHABLE"}
    })
}

/// Decode with and without compilation: four steps, in bf16.
pub(crate) fn compile_summary() -> Value {
    let steps = [0.5, 0.625, 0.375, 2.0];
    json!({
        "experiment": "compile_decode", "timestamp": "2026-01-01T00:00:00", "model": "synthetic",
        "hardware": {"gpu": "NVIDIA A100 80GB PCIe", "pytorch": "2.8.0+cu128", "cuda": "12.8"},
        "config": {"repetitions": 3, "dtype": "bfloat16"}, "reproducibility": {"eager": true, "compiled": true},
        "systematic_deviation": {"l2_per_step": steps, "mean_l2": bf16::from_f64(mean(&steps)).to_f64(),
            "max_l2": 2.0, "min_l2": 0.375},
        "token_divergence": {"tokens_match": true, "eager_tokens": [5, 6, 7, 8], "compiled_tokens": [5, 6, 7, 8]}
    })
}
