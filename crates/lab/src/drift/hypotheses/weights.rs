//! A product with another matrix: the weight transposed, or with scales of other groups.

use std::collections::BTreeMap;

use mantissa_engine::{Engine, Leaving, SectionId};
use mantissa_model::graph::Operation;
use mantissa_model::quantized::OtherScales;

use crate::drift::fed::Tamper;
use crate::drift::known::sections;
use crate::drift::trial::{Outcome, Trial, left};
use crate::error::LabError;

type NodeId = (SectionId, usize);

/// A matrix in place of a weight. *Shape:* `n × k`.
struct Matrix {
    input: NodeId,
    k: usize,
    values: Vec<f32>,
}

/// Tries each at the products of unexplained layers.
pub(super) fn outcomes(
    engine: &mut Engine<'_>,
    trial: &Trial<'_>,
    keep: &mut dyn FnMut(Outcome),
) -> Result<(), LabError> {
    let scales = [
        (OtherScales::Next, "each group with the scale of the next"),
        (OtherScales::Previous, "each group with the scale of the one before"),
        (OtherScales::LastFromPrevious, "the last group with the scale of the one before"),
    ];
    // One product at a time, so that each is tried by itself; the same one in every layer.
    let graph = engine.graph().clone();
    let layers = trial.layers();
    let mut names: Vec<&'static str> = Vec::new();
    for node in graph.nodes() {
        if matches!(node.operation, Operation::Linear(_)) && !names.contains(&node.name) {
            names.push(node.name);
        }
    }
    for name in names {
        for other in std::iter::once(None).chain(scales.map(Some)) {
            let mut matrices = BTreeMap::new();
            for (section, nodes) in sections(&graph) {
                let SectionId::Block(layer) = section else { continue };
                if !layers.contains(&layer) {
                    continue;
                }
                for (place, node) in nodes.nodes.iter().enumerate().filter(|(_, node)| node.name == name) {
                    let Operation::Linear(linear) = &node.operation else { continue };
                    let weight = linear.weight.replace("{layer}", &layer.to_string());
                    let values = match other {
                        None if linear.n == linear.k => transposed(trial, &weight)?,
                        None => continue,
                        Some((other, _)) => match scaled(trial, &weight, other)? {
                            Some(values) => values,
                            None => continue,
                        },
                    };
                    let mut values = values;
                    engine.setup().dtype.round_each(&mut values);
                    let input = (section, node.inputs[0]);
                    matrices.insert((section, place), Matrix { input, k: linear.k, values });
                }
            }
            if matrices.is_empty() {
                continue;
            }
            let (kind, detail) = match other {
                None => ("transposed_weight", format!("the weight of {name} transposed")),
                Some((_, words)) => ("quantization_scale", format!("{name}: {words}")),
            };
            let mut tamper = Replaced { matrices, seen: BTreeMap::new() };
            keep(Outcome { name: kind, detail, left: left(engine, trial, Some(&mut tamper))? });
        }
    }
    Ok(())
}

fn transposed(trial: &Trial<'_>, name: &str) -> Result<Vec<f32>, LabError> {
    let weight = trial.checkpoint.weight(name)?;
    let (rows, cols) = (weight.rows, weight.cols);
    let mut row = vec![0.0; cols];
    let mut out = vec![0.0; rows * cols];
    for r in 0..rows {
        weight.row_f32(r, &mut row);
        for (c, value) in row.iter().enumerate() {
            out[c * rows + r] = *value;
        }
    }
    Ok(out)
}

fn scaled(trial: &Trial<'_>, name: &str, other: OtherScales) -> Result<Option<Vec<f32>>, LabError> {
    let Some(weight) = trial.checkpoint.weight_with(name, other)? else { return Ok(None) };
    let mut out = vec![0.0; weight.rows * weight.cols];
    for (r, row) in out.chunks_exact_mut(weight.cols.max(1)).enumerate() {
        weight.row_f32(r, row);
    }
    Ok(Some(out))
}

/// Products with these matrices.
struct Replaced {
    matrices: BTreeMap<NodeId, Matrix>,
    /// What their inputs left.
    seen: BTreeMap<NodeId, Vec<f32>>,
}

impl Tamper for Replaced {
    fn wants(&self, section: SectionId, node: usize) -> bool {
        let id = (section, node);
        self.matrices.contains_key(&id) || self.matrices.values().any(|matrix| matrix.input == id)
    }

    fn change(&mut self, leaving: &mut Leaving<'_>) {
        let Some(matrix) = self.matrices.get(&(leaving.section, leaving.node)) else { return };
        let Some(x) = self.seen.get(&matrix.input) else { return };
        let n = matrix.values.len() / matrix.k.max(1);
        for (x, out) in x.chunks_exact(matrix.k).zip(leaving.data.chunks_exact_mut(n)) {
            for (row, out) in matrix.values.chunks_exact(matrix.k).zip(out) {
                let dot: f64 = row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                #[expect(clippy::cast_possible_truncation, reason = "rounded to what the product leaves")]
                let dot = dot as f32;
                *out = leaving.dtype.round(dot);
            }
        }
    }

    fn see(&mut self, leaving: &Leaving<'_>) {
        let id = (leaving.section, leaving.node);
        if self.matrices.values().any(|matrix| matrix.input == id) {
            self.seen.insert(id, leaving.data.to_vec());
        }
    }
}
