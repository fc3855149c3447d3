//! One setup run several times.

use serde_json::{Value, json};

use super::numbers::{l2, max_of, mean, min_of, std};

/// Log-probabilities of three runs of four tokens: the last one differs.
fn vectors(amount: f64) -> Vec<Vec<f64>> {
    let run = |shift: f64| vec![-0.5, -0.25 - shift, -1.5, -2.0 + shift];
    vec![run(0.0), run(0.0), run(amount)]
}

/// Three runs, with the emitted tokens alone or with three candidates of each.
pub(crate) fn runs(top_k: bool) -> Value {
    let vectors = vectors(0.125);
    let mut file = json!({
        "experiment": "repeated_runs_test", "timestamp": "2026-01-01T00:00:00", "hardware": "H100",
        "prompt_source": "file", "prompt_text": "a prompt of our own", "prompt_length_chars": 19,
        "prompt_length_tokens": 5,
        "config": {"model": "synthetic-int8", "quantization": "gptq", "tensor_parallel": 1, "max_tokens": 4,
            "repetitions": 3, "temperature": 0.0, "seed": 42, "top_logprobs": 3},
        "results": {"tokens_identical": true, "logprobs_exact": false, "distributions_exact": false,
            "perfect_reproducibility": false},
        "token_sequences": vec![[11, 12, 13, 14]; 3], "logprobs_vectors": vectors,
        "generated_texts": vec!["one two three four"; 3]
    });
    if top_k {
        let list = |id: usize, value: &f64| json!([[11 + id, value], [90, value - 1.0], [91, value - 2.0]]);
        let run =
            |run: &Vec<f64>| -> Value { run.iter().enumerate().map(|(i, value)| list(i, value)).collect() };
        file["top_k_distributions"] = vectors.iter().map(run).collect();
    }
    file
}

/// Three runs as they are, three with deterministic algorithms.
pub(crate) fn investigation() -> Value {
    let mode = |amount: f64| {
        let vectors = vectors(amount);
        let to_first: Vec<f64> = vectors[1..].iter().map(|run| l2(run, &vectors[0])).collect();
        json!({
            "stats": {"tokens_identical": true, "logprobs_exact": amount == 0.0, "l2_mean": mean(&to_first),
                "l2_std": std(&to_first), "l2_max": max_of(&to_first), "l2_min": min_of(&to_first)},
            "tokens": vec![[11, 12, 13, 14]; 3], "logprobs": vectors
        })
    };
    json!({
        "variant": "gptq", "experiment": "quantization_nondeterminism_investigation",
        "timestamp": "2026-01-01T00:00:00", "model": "synthetic-GPTQ", "quantization": "gptq",
        "config": {"tensor_parallel": 1, "repetitions": 3}, "prompt_length": 5, "baseline": mode(0.125),
        "deterministic": mode(0.0), "verdict": {"is_deterministic": false}
    })
}
