//! Quantization kernels, generated and verified, and attention implementations verified.

use serde_json::{Map, Value, json};

use super::numbers::{List, Square, diagonal, finite_mean, first_five, mean, off_diagonal, over, square};
use super::{matrices, matrix, number};

/// Configurations: name, model.
pub(crate) const CONFIGS: [(&str, &str); 3] =
    [("awq", "synthetic-AWQ"), ("awq_marlin", "synthetic-AWQ"), ("gptq", "synthetic-GPTQ")];
const POSITIONS: [i32; 3] = [-3, -2, -1];
/// Noise floors of decode: two repeat themselves, one does not.
pub(crate) const FLOORS: [f64; 3] = [0.0, 0.0, 0.0467];

/// Generation under three kernels on two references.
pub(crate) struct Quant {
    /// Distances of prefill and of decode, one matrix per reference.
    pub(crate) matrices: [Vec<Square>; 2],
}

fn prompt(reference: usize) -> Vec<u32> {
    (0..8).map(|i| 20 + 10 * reference as u32 + i).collect()
}

/// The weights decide the tokens.
fn output(reference: usize, config: usize) -> Vec<u32> {
    let start = if config == 2 { 400 } else { 200 };
    (0..6).map(|i| start + 10 * reference as u32 + i).collect()
}

/// Five candidates; where the prompt's own token is unlikely it stands before them.
fn list(decode: bool, reference: usize, config: usize, position: i32) -> List {
    let behind = position.unsigned_abs() as usize;
    let shift = [0.0, 0.03125, 2.0][config];
    let start = f64::from(position) * 0.125 - shift;
    let first = if decode { output(reference, config)[6 - behind] } else { prompt(reference)[8 - behind] };
    let others = if decode && config == 2 { 500 } else { 100 };
    let mut list = List {
        ids: std::iter::once(first).chain((1..5).map(|rank| others + rank)).collect(),
        values: (0..5).map(|rank| start - f64::from(rank)).collect(),
    };
    if !decode && position == -2 {
        list.values[0] = -20.0 - shift;
        list.ids.push(others + 5);
        list.values.push(start - 5.0);
    }
    list
}

impl Quant {
    /// The distances.
    pub(crate) fn new() -> Self {
        let of = |decode: bool| {
            let of_reference = |reference: usize| {
                square(3, |i, j| {
                    finite_mean(&POSITIONS.map(|at| {
                        first_five(&list(decode, reference, i, at), &list(decode, reference, j, at))
                    }))
                })
            };
            (0..2).map(of_reference).collect()
        };
        Self { matrices: [of(false), of(true)] }
    }

    /// The finite cells off the diagonal of an average.
    pub(crate) fn finite(&self, phase: usize) -> Vec<f64> {
        let all = off_diagonal(&over(&self.matrices[phase]), |_, _| true);
        all.into_iter().filter(|value| value.is_finite()).collect()
    }

    /// The file; an older writer leaves out pairs and quotient.
    pub(crate) fn generation(&self, older: bool) -> Value {
        let (mut configs, mut generations, mut floors) = (Map::new(), Map::new(), Map::new());
        for (config, (name, model)) in CONFIGS.iter().enumerate() {
            configs.insert(
                (*name).into(),
                json!({"model_name": model, "quantization": name, "dtype": "float16"}),
            );
            floors.insert((*name).into(), json!({"decode": FLOORS[config], "prefill": 0.0}));
            let runs = (0..2).map(|reference| {
                let signals = |decode: bool| {
                    let at = |position: i32| {
                        let list = list(decode, reference, config, position);
                        let value = json!({"logprobs": {"token_ids": list.ids, "log_probs": list.values}});
                        (format!("pos_{position}"), value)
                    };
                    POSITIONS.map(at).into_iter().collect::<Map<_, _>>()
                };
                json!({"ref_idx": reference, "prompt_ids": prompt(reference),
                    "generated_ids": output(reference, config), "prompt_length": 8,
                    "prefill_signals": signals(false), "decode_signals": signals(true), "num_generated": 6})
            });
            generations.insert((*name).into(), runs.collect());
        }
        let mut file = json!({
            "metadata": {"environment": {"hostname": "h", "torch_version": "2.9.0+cu128", "cuda_version": "12.8",
                "gpu_name": "NVIDIA A100-SXM4-80GB", "vllm_version": "0.11.2"}, "model_configs": configs,
                "max_new_tokens": 6, "tokens_per_slice": 4, "num_references": 2, "top_k_logprobs": 5,
                "timestamp": "20260101_000000"},
            "generations": generations, "prefill_sanity_check": self.sanity(0, older),
            "decode_sanity_check": self.sanity(1, older), "noise_floors": floors
        });
        if !older {
            let (noise, signal) = (mean(&FLOORS), mean(&self.finite(1)));
            file["snr_analysis"] = json!({"noise_floor": noise, "signal": signal, "snr": signal / noise});
        }
        file
    }

    fn sanity(&self, phase: usize, older: bool) -> Value {
        let average = over(&self.matrices[phase]);
        let classes: Vec<Vec<&str>> = CONFIGS.iter().map(|(name, _)| vec![*name]).collect();
        let mut check = json!({"matrix": matrix(&average), "per_reference_matrices": matrices(&self.matrices[phase]),
            "off_diagonal_mean": mean(&self.finite(phase)), "equivalent_pairs": [], "kernel_classes": classes});
        if !older {
            let mut pairs = Map::new();
            for (i, (a, _)) in CONFIGS.iter().enumerate() {
                for (j, (b, _)) in CONFIGS.iter().enumerate().skip(i + 1) {
                    let both = f64::midpoint(average[i][j], average[j][i]);
                    pairs.insert(format!("{a}_vs_{b}"), number(both));
                }
            }
            check["pairwise_distances"] = pairs.into();
        }
        check
    }
}

fn verified(decode: bool, reference: usize, claimed: usize, verified: usize) -> f64 {
    let weights = |index: usize| usize::from(index == 2);
    let apart = if weights(claimed) == weights(verified) { 0.0 } else { 4.0 };
    0.25 + 0.125 * reference as f64 + apart + f64::from(u8::from(decode)) * 0.5
}

/// Claimed × verified on two references.
pub(crate) fn verification() -> Value {
    let mut comparisons = Vec::new();
    for reference in 0..2 {
        for (i, (claimed, _)) in CONFIGS.iter().enumerate() {
            for (j, (verify, _)) in CONFIGS.iter().enumerate() {
                let of = |decode| {
                    let distance = verified(decode, reference, i, j);
                    json!({"logprobs_mean": distance, "logprobs_max": distance * 1.5})
                };
                comparisons
                    .push(json!({"ref_idx": reference, "claimed_config": claimed, "verify_config": verify,
                    "is_diagonal": i == j, "prefill_distances": of(false), "decode_distances": of(true)}));
            }
        }
    }
    let analysis = |decode: bool| {
        let each: Vec<Square> =
            (0..2).map(|reference| square(3, |i, j| verified(decode, reference, i, j))).collect();
        let average = over(&each);
        let noise = mean(&diagonal(&average));
        let signal = mean(&off_diagonal(&average, |_, _| true));
        let mut pairs = Map::new();
        for (i, (a, _)) in CONFIGS.iter().enumerate() {
            for (j, (b, _)) in CONFIGS.iter().enumerate().skip(i + 1) {
                let signal = f64::midpoint(average[i][j], average[j][i]);
                let floor = f64::midpoint(average[i][i], average[j][j]);
                pairs.insert(
                    format!("{a}_vs_{b}"),
                    json!({"signal": signal, "noise_floor": floor, "snr": signal / floor}),
                );
            }
        }
        json!({"matrix": matrix(&average), "per_reference_matrices": matrices(&each), "baseline_mean": noise,
            "signal_all_mean": signal, "signal_meaningful_mean": signal, "snr_all": signal / noise,
            "snr_meaningful": signal / noise, "excluded_pairs": [], "n_excluded_cells": 0, "n_meaningful_pairs": 6,
            "pairwise_snr": pairs})
    };
    let configs: Map<_, _> = CONFIGS
        .iter()
        .map(|(name, model)| {
            ((*name).to_owned(), json!({"model_name": model, "quantization": name, "dtype": "float16"}))
        })
        .collect();
    let environment = |gpu: &str, torch: &str| {
        json!({"torch_version": torch, "cuda_version": "12.8",
        "gpu_name": gpu, "vllm_version": "0.11.2"})
    };
    let (own, other) = ("NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3");
    json!({
        "metadata": {"reference_gpu": own, "verifier_gpu": other, "reference_file": "quant_generate.json",
            "reference_environment": environment(own, "2.9.1+cu128"),
            "verifier_environment": environment(other, "2.9.0+cu128"),
            "environment_validation": {"valid": false, "mismatches": [["torch_version", "2.9.1+cu128", "2.9.0+cu128"]]},
            "model_configs": configs, "timestamp": "20260101_000000", "prefill_equivalent_pairs": [],
            "decode_equivalent_pairs": []},
        "comparisons": comparisons, "prefill_analysis": analysis(false), "decode_analysis": analysis(true)
    })
}

/// Attention implementations.
pub(crate) const IMPLEMENTATIONS: [&str; 3] = ["eager", "sdpa", "flash_attention_2"];

/// Keys and log-probabilities, claimed × verified: `eager` stands apart, the others do not.
pub(crate) fn attention_matrix(decode: bool, keys: bool) -> Square {
    let far = if keys { 12.0 } else { 4.0 };
    let scale = if decode { 0.5 } else { 1.0 };
    let cells = [[0.75, far, far + 0.5], [far + 0.25, 0.75, 0.5], [far - 0.25, 0.75, 1.0]];
    cells.iter().map(|row| row.iter().map(|cell| cell * scale).collect()).collect()
}

/// Averages over references, claimed × verified attention.
pub(crate) fn attention() -> Value {
    let phase = |decode: bool| {
        let mut of = Map::new();
        for (short, keys) in [("key", true), ("logprob", false)] {
            let cells = attention_matrix(decode, keys);
            let (noise, signal) = (mean(&diagonal(&cells)), mean(&off_diagonal(&cells, |_, _| true)));
            of.insert(format!("{short}_matrix"), matrix(&cells));
            of.insert(format!("diagonal_{short}"), noise.into());
            of.insert(format!("off_diagonal_{short}"), signal.into());
            of.insert(format!("{short}_snr"), (signal / noise).into());
        }
        Value::from(of)
    };
    let environments = |gpu: &str| -> Map<String, Value> {
        let of = |name: &str| {
            json!({"torch_version": "2.8.0+cu128", "transformers_version": "4.57.3",
            "cuda_version": "12.8", "attn_implementation": name, "gpu_name": gpu})
        };
        IMPLEMENTATIONS.iter().map(|name| ((*name).to_owned(), of(name))).collect()
    };
    json!({
        "metadata": {"reference_file": "H100_generate.json",
            "reference_environments": environments("NVIDIA H100 NVL"),
            "verifier_environments": environments("NVIDIA A100-SXM4-80GB")},
        "cross_hardware": {"prefill": phase(false), "decode": phase(true)}
    })
}
