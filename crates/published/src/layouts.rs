//! The list of layouts: a new one is a folder and a line here.

use crate::layout::{FileSignature, Layout};
use crate::{
    activations, attention_log, attention_verification, batch_generation, batch_matrix_log,
    batch_verification, layer_sweep, matrix_log, quant_generation, quant_investigation, quant_verification,
    quantization_log, repeated_runs, summary, tp_generation, tp_verification,
};

/// Every published layout that is read.
///
/// ```
/// let names: Vec<&str> = mantissa_published::LAYOUTS.iter().map(|layout| layout.name).collect();
/// assert!(names.contains(&"activations") && names.contains(&"quantization_log"));
/// ```
pub static LAYOUTS: [Layout; 17] = [
    activations::LAYOUT,
    batch_generation::LAYOUT,
    batch_verification::LAYOUT,
    quant_generation::LAYOUT,
    quant_verification::LAYOUT,
    attention_verification::LAYOUT,
    layer_sweep::LAYOUT,
    tp_generation::LAYOUT,
    tp_verification::LAYOUT,
    repeated_runs::LAYOUT,
    quant_investigation::LAYOUT,
    summary::compile::LAYOUT,
    summary::cuda::LAYOUT,
    batch_matrix_log::LAYOUT,
    attention_log::LAYOUT,
    quantization_log::LAYOUT,
    matrix_log::LAYOUT,
];

/// What is known, for the error about everything else: `activations (raw_activations), … or one of the logs …`.
pub(crate) fn known() -> String {
    let (mut json, mut logs) = (Vec::new(), Vec::new());
    for layout in &LAYOUTS {
        match layout.signature {
            FileSignature::Keys(sets) => json.push(format!("{} ({})", layout.name, sets[0].join(" and "))),
            FileSignature::Titles(_) => logs.push(layout.name),
        }
    }
    format!(
        "a published JSON, known by its keys: {}, or one of the logs {}",
        json.join(", "),
        logs.join(", ")
    )
}
