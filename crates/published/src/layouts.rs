//! The list of layouts: a new one is a folder and a line here.

use crate::layout::{FileSignature, Layout};
use crate::{
    activations, attention_log, attention_verification, batch_generation, batch_matrix_log,
    batch_verification, quant_generation, quant_verification, quantization_log,
};

/// Every published layout that is read.
///
/// ```
/// let names: Vec<&str> = mantissa_published::LAYOUTS.iter().map(|layout| layout.name).collect();
/// assert!(names.contains(&"activations") && names.contains(&"quantization_log"));
/// ```
pub static LAYOUTS: [Layout; 9] = [
    activations::LAYOUT,
    batch_generation::LAYOUT,
    batch_verification::LAYOUT,
    quant_generation::LAYOUT,
    quant_verification::LAYOUT,
    attention_verification::LAYOUT,
    batch_matrix_log::LAYOUT,
    attention_log::LAYOUT,
    quantization_log::LAYOUT,
];

/// What is known, for the error about everything else: `activations: raw_activations; … or one of the logs …`.
pub(crate) fn known() -> String {
    let mut keys: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut logs = Vec::new();
    for layout in &LAYOUTS {
        let key = match layout.signature {
            FileSignature::Keys(keys) => keys[0],
            FileSignature::ComparisonsOver(_) => "comparisons",
            FileSignature::Title(_) => {
                logs.push(layout.name);
                continue;
            }
        };
        match keys.iter_mut().find(|(other, _)| *other == key) {
            Some((_, names)) => names.push(layout.name),
            None => keys.push((key, vec![layout.name])),
        }
    }
    let json: Vec<String> =
        keys.into_iter().map(|(key, names)| format!("{}: {key}", names.join(" and "))).collect();
    format!("a published JSON ({}), or one of the logs {}", json.join("; "), logs.join(", "))
}
