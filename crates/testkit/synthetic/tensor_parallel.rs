//! Tensor-parallel sizes, generated and verified.

use serde_json::{Map, Value, json};

use super::numbers::{List, Square, diagonal, finite_mean, first_five, mean, off_diagonal, over, square};
use super::{matrices, matrix};

pub(crate) const SIZES: [u32; 3] = [1, 2, 4];
const POSITIONS: [i32; 3] = [-3, -2, -1];

/// Five candidates of one position; one list has the prompt's own token before them.
fn list(reference: u32, size: usize, position: i32) -> List {
    let start = f64::from(position) * 0.125 - f64::from(reference) - 0.25 * size as f64;
    let mut list = List {
        ids: (0..5).map(|rank| 100 + 10 * reference + rank).collect(),
        values: (0..5).map(|rank| start - f64::from(rank)).collect(),
    };
    if position == -2 {
        list.ids.insert(0, 7);
        list.values.insert(0, -20.0 - 0.5 * size as f64);
    }
    list
}

/// Distances within one machine, one matrix per reference.
pub(crate) fn within() -> Vec<Square> {
    let of = |reference| {
        square(3, |i, j| {
            finite_mean(&POSITIONS.map(|at| first_five(&list(reference, i, at), &list(reference, j, at))))
        })
    };
    (0..2).map(of).collect()
}

fn analysis(each: &[Square]) -> Value {
    let average = over(each);
    let (noise, signal) = (mean(&diagonal(&average)), mean(&off_diagonal(&average, |_, _| true)));
    let snr = if noise > 0.0 { Value::from(signal / noise) } else { Value::Null };
    json!({"matrix": matrix(&average), "per_reference_matrices": matrices(each), "diagonal": noise,
        "off_diagonal": signal, "snr": snr, "equivalent_pairs": []})
}

fn environments(gpu: &str) -> Map<String, Value> {
    let of = |size: u32| {
        json!({"torch_version": "2.9.0+cu128", "cuda_version": "12.8", "gpu_name": gpu,
        "gpu_count": 4, "tensor_parallel_size": size, "vllm_version": "0.11.2"})
    };
    SIZES.iter().map(|size| (size.to_string(), of(*size))).collect()
}

/// Prefill under three sizes, two references.
pub(crate) fn generation() -> Value {
    let measured = |size: usize| -> Value {
        let of = |reference: u32| {
            let at = |position: i32| {
                let list = list(reference, size, position);
                (
                    format!("pos_{position}"),
                    json!({"logprobs": {"token_ids": list.ids, "log_probs": list.values}}),
                )
            };
            json!({"prefill_signals": POSITIONS.map(at).into_iter().collect::<Map<_, _>>()})
        };
        (0..2).map(of).collect()
    };
    let all: Map<_, _> = SIZES.iter().enumerate().map(|(i, size)| (size.to_string(), measured(i))).collect();
    json!({
        "metadata": {"model": "synthetic", "dtype": "bfloat16", "tp_sizes": SIZES, "tokens_per_slice": 10,
            "num_references": 2, "top_k_logprobs": 5, "reproducibility_test_passed": true,
            "environments": environments("NVIDIA A100-SXM4-80GB"), "timestamp": "20260101_000000"},
        "prompt_texts": ["one prompt", "another prompt"], "measurements": all,
        "within_hardware_analysis": analysis(&within())
    })
}

/// Replays on another machine, claimed × verified: nothing stands out.
pub(crate) fn across() -> Vec<Square> {
    (0..2)
        .map(|reference| {
            square(3, |i, j| {
                0.25 + 0.0625 * f64::from(reference) + if i == j { 0.0625 } else { 0.03125 * j as f64 }
            })
        })
        .collect()
}

/// Claimed × verified.
pub(crate) fn verification() -> Value {
    json!({
        "metadata": {"model": "synthetic", "dtype": "bfloat16", "tp_sizes": SIZES, "reference_file": "tp.json",
            "reproducibility_test_passed": true, "reference_environments": environments("NVIDIA A100-SXM4-80GB"),
            "verifier_environments": environments("NVIDIA H100 80GB HBM3"), "timestamp": "20260101_000000"},
        "within_hardware_analysis": analysis(&within()), "cross_hardware_analysis": analysis(&across())
    })
}
