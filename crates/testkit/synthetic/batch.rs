//! Batch sizes: generation by transformers with keys, by vLLM without, and verification by newer and older writers.

use serde_json::{Map, Value, json};

use super::numbers::{
    List, Square, classes, diagonal, finite_mean, first_five, l2, max_of, mean, min_of, off_diagonal, over,
    square, upper,
};
use super::{matrices, matrix};

const SIZES: [u32; 3] = [1, 2, 4];
const POSITIONS: [i32; 3] = [-3, -2, -1];

/// Prompt of a reference, eight ids.
fn prompt(reference: u32) -> Vec<u32> {
    (0..8).map(|i| 20 + 10 * reference + i).collect()
}

/// Six ids that follow it.
fn output(reference: u32) -> Vec<u32> {
    (0..6).map(|i| 200 + 10 * reference + i).collect()
}

/// How far a size's arithmetic moves things: in decode the first is a class of its own, in prefill all are one.
fn moved(decode: bool, size: u32) -> f64 {
    f64::from(u8::from(decode && size > 1)) * 0.25
}

fn keys(reference: u32, position: i32, decode: bool, size: u32) -> Vec<f64> {
    let start = f64::from(reference) + f64::from(position) * 0.5;
    vec![start, 1.0, start - moved(decode, size), -2.0]
}

/// Six candidates, `first` the most likely.
fn list(first: u32, position: i32, decode: bool, size: u32) -> List {
    let start = f64::from(position) * 0.125 - moved(decode, size) * 0.5;
    List {
        ids: vec![first, 101, 102, 103, 104, 105],
        values: (0..6).map(|rank| start - f64::from(rank)).collect(),
    }
}

/// The token that a list at `position` has first: what follows, or the prompt's own where an engine lists that.
fn first(reference: u32, position: i32, decode: bool, own: bool) -> u32 {
    let behind = position.unsigned_abs() as usize;
    match (decode, own) {
        (false, true) => prompt(reference)[8 - behind],
        (false, false) if position < -1 => prompt(reference)[9 - behind],
        (false, false) => output(reference)[0],
        (true, _) => output(reference)[6 - behind],
    }
}

/// Three batch sizes, two references.
pub(crate) fn generation(with_keys: bool) -> Value {
    let mut measurements = Vec::new();
    for reference in 0..2 {
        for size in SIZES {
            let signals = |position: i32, decode: bool| {
                let list = list(first(reference, position, decode, !with_keys), position, decode, size);
                let logprobs = json!({"token_ids": list.ids, "log_probs": list.values});
                match with_keys {
                    true => json!({"key_vectors": {"layer_2": keys(reference, position, decode, size)},
                        "logprobs": logprobs}),
                    false => json!({"logprobs": logprobs}),
                }
            };
            let by_position = |decode: bool| {
                let at = |position: i32| {
                    let signals = signals(position, decode);
                    // The list at -p predicts output 6 - p, by the step that consumed the one before.
                    let step = 6 - i64::from(position.unsigned_abs());
                    let value = match decode && with_keys {
                        true => json!({"step": step, "absolute_position": 8 + step - 1, "signals": signals}),
                        false => signals,
                    };
                    (format!("pos_{position}"), value)
                };
                POSITIONS.map(at).into_iter().collect::<Map<_, _>>()
            };
            measurements.push(json!({
                "ref_name": format!("ref_{reference}"), "batch_size": size, "generated_ids": output(reference),
                "prompt_token_ids": (0..size).map(|row| prompt(reference + row)).collect::<Vec<_>>(),
                "prefill_signals": by_position(false), "decode_signals": by_position(true),
                "all_batch_generated_ids": (0..size).map(|row| output(reference + row)).collect::<Vec<_>>()
            }));
        }
    }
    let mut environment = json!({"hostname": "h", "platform": "Linux", "python_version": "3.12.3",
        "torch_version": "2.9.0+cu128", "cuda_version": "12.8", "transformers_version": "4.57.3",
        "gpu_name": "NVIDIA H100 80GB HBM3", "gpu_count": 1});
    let metadata = if with_keys {
        environment["attn_implementation"] = "sdpa".into();
        json!({"environment": environment, "batch_sizes": SIZES, "layer_indices": [2]})
    } else {
        environment["vllm_version"] = "0.11.2".into();
        json!({"environment": environment, "model": "synthetic", "batch_sizes": SIZES, "max_new_tokens": 6,
            "top_k_logprobs": 6, "timestamp": "20260101_000000"})
    };
    json!({
        "metadata": metadata, "measurements": measurements,
        "prefill_sanity_check": sanity(false, with_keys), "decode_sanity_check": sanity(true, with_keys)
    })
}

/// Distances of log-probabilities, one matrix per reference.
pub(crate) fn logprob_matrices(decode: bool, own: bool) -> Vec<Square> {
    let of = |reference: u32| {
        square(3, |i, j| {
            let distances = POSITIONS.map(|position| {
                let at = |size| list(first(reference, position, decode, own), position, decode, size);
                first_five(&at(SIZES[i]), &at(SIZES[j]))
            });
            finite_mean(&distances)
        })
    };
    (0..2).map(of).collect()
}

fn sanity(decode: bool, with_keys: bool) -> Value {
    let logprobs = logprob_matrices(decode, !with_keys);
    let keys: Vec<Square> = (0..2)
        .map(|reference| {
            square(3, |i, j| {
                mean(&POSITIONS.map(|at| {
                    l2(&keys(reference, at, decode, SIZES[i]), &keys(reference, at, decode, SIZES[j]))
                }))
            })
        })
        .collect();
    let (key, logprob) = (over(&keys), over(&logprobs));
    let classes: Vec<Vec<u32>> = classes(if with_keys { &key } else { &logprob })
        .iter()
        .map(|class| class.iter().map(|&index| SIZES[index]).collect())
        .collect();
    let pairs: Vec<[u32; 2]> = classes
        .iter()
        .flat_map(|class| {
            (0..class.len())
                .flat_map(|i| (i + 1..class.len()).map(move |j| (i, j)))
                .map(|(i, j)| [class[i], class[j]])
        })
        .collect();
    if with_keys {
        return json!({
            "key_matrix": matrix(&key), "logprob_matrix": matrix(&logprob),
            "per_reference_key_matrices": matrices(&keys), "per_reference_logprob_matrices": matrices(&logprobs),
            "key_vectors_mean": mean(&upper(&key)), "logprobs_mean": mean(&upper(&logprob)),
            "equivalent_pairs": pairs, "kernel_classes": classes
        });
    }
    json!({
        "matrix": matrix(&logprob), "per_reference_matrices": matrices(&logprobs),
        "off_diagonal_mean": mean(&upper(&logprob)),
        "off_diagonal_range": [min_of(&upper(&logprob)), max_of(&upper(&logprob))],
        "equivalent_pairs": pairs, "kernel_classes": classes
    })
}

/// Distances of a replay: the verifier computes 2 and 4 alike, and is never the generator.
pub(crate) fn distance(decode: bool, keys: bool, reference: usize, claimed: usize, verified: usize) -> f64 {
    let class = |index: usize| usize::from(index > 0);
    let apart = if class(claimed) == class(verified) { 0.0 } else { 0.5 };
    let scale = if keys { 2.0 } else { 1.0 };
    scale * (0.25 + 0.125 * reference as f64 + apart + 0.0625 * f64::from(u8::from(decode)) * claimed as f64)
}

/// Claimed × verified, two references; an older writer leaves out what follows.
pub(crate) fn verification(older: bool) -> Value {
    let mut comparisons = Vec::new();
    for reference in 0..2 {
        for claimed in 0..3 {
            for verified in 0..3 {
                let of = |decode: bool| {
                    let (keys, logprobs) = (
                        distance(decode, true, reference, claimed, verified),
                        distance(decode, false, reference, claimed, verified),
                    );
                    json!({"key_vectors_max": keys * 1.5, "key_vectors_mean": keys, "logprobs_max": logprobs * 1.5,
                        "logprobs_mean": logprobs})
                };
                comparisons.push(
                    json!({"ref_name": format!("ref_{reference}"), "claimed_batch_size": SIZES[claimed],
                    "verify_batch_size": SIZES[verified], "prefill_distances": of(false),
                    "decode_distances": of(true)}),
                );
            }
        }
    }
    let environment = |gpu: &str| {
        json!({"hostname": "h", "torch_version": "2.8.0+cu128", "cuda_version": "12.8",
        "attn_implementation": "sdpa", "gpu_name": gpu, "gpu_count": 1})
    };
    json!({
        "metadata": {"reference_environment": environment("NVIDIA A100 80GB PCIe"),
            "verifier_environment": environment("NVIDIA H100 PCIe"), "batch_sizes": SIZES, "layer_indices": [2],
            "prefill_equivalent_pairs": [[2, 4]], "decode_equivalent_pairs": [[2, 4]]},
        "comparisons": comparisons, "prefill_analysis": analysis(false, older),
        "decode_analysis": analysis(true, older)
    })
}

fn analysis(decode: bool, older: bool) -> Value {
    let of = |keys: bool| -> Vec<Square> {
        (0..2).map(|reference| square(3, |i, j| distance(decode, keys, reference, i, j))).collect()
    };
    let signal = |keys: bool| {
        let matrix_of = over(&of(keys));
        let noise = mean(&diagonal(&matrix_of));
        let all = mean(&off_diagonal(&matrix_of, |_, _| true));
        let kept = off_diagonal(&matrix_of, |i, j| i == 0 || j == 0);
        let meaningful = mean(&kept);
        if older {
            return json!({"diagonal_mean": noise, "off_diagonal_mean": all, "snr": all / noise,
                "snr_meaningful": meaningful / noise});
        }
        json!({"matrix": matrix(&matrix_of), "baseline_mean": noise, "signal_all_mean": all,
            "signal_meaningful_mean": meaningful, "snr_all": all / noise, "snr_meaningful": meaningful / noise,
            "n_meaningful_pairs": kept.len()})
    };
    let mut analysis =
        json!({"key_vectors": signal(true), "logprobs": signal(false), "excluded_pairs": [[2, 4]]});
    if older {
        analysis["matrices"] =
            json!({"key_vectors": matrix(&over(&of(true))), "logprobs": matrix(&over(&of(false)))});
    } else {
        analysis["per_reference_key_matrices"] = matrices(&of(true));
        analysis["per_reference_logprob_matrices"] = matrices(&of(false));
    }
    analysis
}
