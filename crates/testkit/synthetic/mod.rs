//! Small synthetic files of every published layout. Numbers are made up, averages follow from them by the authors'
//! definitions, and texts are ours.
//!
//! Written a second time from the definitions, not with the crate that reads them.

mod batch;
mod logs;
mod numbers;
mod quant;
mod repeated;
mod tensor_parallel;
mod vectors;

use serde_json::Value;

/// Name and content of every file.
pub(crate) fn files() -> Vec<(&'static str, String)> {
    let quant = quant::Quant::new();
    let mut files = vec![
        ("activations.json", json(&vectors::activations())),
        ("layer_sweep.json", json(&vectors::layer_sweep("11.8", 0.0))),
        ("layer_sweep_other.json", json(&vectors::layer_sweep("12.1", 0.5))),
        ("cuda_comparison.json", json(&vectors::cuda_comparison())),
        ("compile_summary.json", json(&vectors::compile_summary())),
        ("batch_generation.json", json(&batch::generation(true))),
        ("vllm_batch_generation.json", json(&batch::generation(false))),
        ("batch_verification.json", json(&batch::verification(false))),
        ("batch_verification_older.json", json(&batch::verification(true))),
        ("quant_generation.json", json(&quant.generation(false))),
        ("quant_generation_older.json", json(&quant.generation(true))),
        ("quant_verification.json", json(&quant::verification())),
        ("attention_verification.json", json(&quant::attention())),
        ("tp_generation.json", json(&tensor_parallel::generation())),
        ("tp_verification.json", json(&tensor_parallel::verification())),
        ("repeated_runs.json", json(&repeated::runs(false))),
        ("repeated_runs_top_k.json", json(&repeated::runs(true))),
        ("quant_investigation.json", json(&repeated::investigation())),
    ];
    files.extend(logs::files(&quant));
    files
}

/// Stands for an infinite number until it is written as Python writes it.
const INFINITE: &str = "an infinite number";

/// A number, infinite ones too.
fn number(value: f64) -> Value {
    if value.is_infinite() { Value::from(INFINITE) } else { Value::from(value) }
}

/// A matrix.
fn matrix(rows: &[Vec<f64>]) -> Value {
    rows.iter().map(|row| row.iter().map(|&value| number(value)).collect::<Value>()).collect()
}

/// Matrices.
fn matrices(all: &[Vec<Vec<f64>>]) -> Value {
    all.iter().map(|one| matrix(one)).collect()
}

/// As Python's `json` writes it.
fn json(value: &Value) -> String {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.replace(&format!("\"{INFINITE}\""), "Infinity")
}
