//! Element-wise arithmetic with other roundings.

use std::collections::BTreeMap;

use mantissa_engine::{Engine, Leaving, SectionId};
use mantissa_model::graph::{Activation, Norm, Operation, Weighting};
use mantissa_numerics::Dtype;

use crate::drift::fed::Tamper;
use crate::drift::known::sections;
use crate::drift::trial::{Outcome, Trial, left};
use crate::error::LabError;

type NodeId = (SectionId, usize);

/// What is rounded otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cast {
    /// The activation stays in binary32 until it is multiplied.
    ActivationWide,
    /// The sigmoid is rounded before it is multiplied.
    SigmoidNarrow,
    /// Every step of a norm is rounded: squares, their mean, its root, the quotient.
    NormNarrow,
    /// The same, and the sum of the squares before it is divided.
    NormNarrowSum,
    /// A norm's factor is rounded before it is multiplied.
    FactorNarrow,
}

/// Tries each in all layers.
pub(super) fn outcomes(
    engine: &mut Engine<'_>,
    trial: &Trial<'_>,
    keep: &mut dyn FnMut(Outcome),
) -> Result<(), LabError> {
    for (cast, detail) in [
        (Cast::ActivationWide, "the activation not rounded before it is multiplied"),
        (Cast::SigmoidNarrow, "the sigmoid rounded before it is multiplied"),
        (Cast::NormNarrow, "every step of the norm rounded"),
        (Cast::NormNarrowSum, "every step of the norm rounded, the sum too"),
        (Cast::FactorNarrow, "the norm's factor rounded before it is multiplied"),
    ] {
        let Some(mut tamper) = Recast::of(engine, trial, cast)? else { continue };
        let found = left(engine, trial, Some(&mut tamper))?;
        keep(Outcome { name: "cast_order", detail: detail.to_owned(), left: found });
    }
    Ok(())
}

/// A node that is computed here.
enum Node {
    Gate { inputs: [NodeId; 2] },
    Norm { input: NodeId, norm: Norm, weight: Vec<f32> },
}

struct Recast {
    cast: Cast,
    nodes: BTreeMap<NodeId, Node>,
    seen: BTreeMap<NodeId, Vec<f32>>,
}

impl Recast {
    fn of(engine: &Engine<'_>, trial: &Trial<'_>, cast: Cast) -> Result<Option<Self>, LabError> {
        let mut nodes = BTreeMap::new();
        for (section, all) in sections(engine.graph()) {
            let layer = match section {
                SectionId::Block(layer) => layer,
                SectionId::Stem | SectionId::Head => 0,
            };
            for (place, node) in all.nodes.iter().enumerate() {
                let found = match (&node.operation, cast) {
                    (Operation::Gate(Activation::Silu), Cast::ActivationWide | Cast::SigmoidNarrow)
                        if node.inputs.len() == 2 =>
                    {
                        Node::Gate { inputs: [(section, node.inputs[0]), (section, node.inputs[1])] }
                    }
                    (Operation::Norm(norm), Cast::NormNarrow | Cast::NormNarrowSum | Cast::FactorNarrow) => {
                        let name = norm.weight.replace("{layer}", &layer.to_string());
                        let stored = trial.checkpoint.weight(&name)?;
                        let mut weight = vec![0.0; stored.cols];
                        stored.row_f32(0, &mut weight);
                        engine.setup().dtype.round_each(&mut weight);
                        Node::Norm { input: (section, node.inputs[0]), norm: *norm, weight }
                    }
                    _ => continue,
                };
                nodes.insert((section, place), found);
            }
        }
        Ok((!nodes.is_empty()).then_some(Self { cast, nodes, seen: BTreeMap::new() }))
    }

    fn reads(&self, id: NodeId) -> bool {
        self.nodes.values().any(|node| match node {
            Node::Gate { inputs } => inputs.contains(&id),
            Node::Norm { input, .. } => *input == id,
        })
    }
}

impl Tamper for Recast {
    fn wants(&self, section: SectionId, node: usize) -> bool {
        self.nodes.contains_key(&(section, node)) || self.reads((section, node))
    }

    fn change(&mut self, leaving: &mut Leaving<'_>) {
        let dtype = leaving.dtype;
        match self.nodes.get(&(leaving.section, leaving.node)) {
            Some(Node::Gate { inputs }) => {
                let [Some(gate), Some(up)] = inputs.map(|input| self.seen.get(&input)) else { return };
                for ((out, gate), up) in leaving.data.iter_mut().zip(gate).zip(up) {
                    let sigmoid = 1.0 / (1.0 + (-gate).exp());
                    *out = match self.cast {
                        Cast::SigmoidNarrow => dtype.round(dtype.round(gate * dtype.round(sigmoid)) * up),
                        _ => dtype.round(gate * sigmoid * up),
                    };
                }
            }
            Some(Node::Norm { input, norm, weight }) => {
                let Some(x) = self.seen.get(input) else { return };
                let runs = x.chunks_exact(norm.length).zip(leaving.data.chunks_exact_mut(norm.length));
                for (x, out) in runs {
                    normed(self.cast, norm, weight, dtype, x, out);
                }
            }
            None => {}
        }
    }

    fn see(&mut self, leaving: &Leaving<'_>) {
        let id = (leaving.section, leaving.node);
        if self.reads(id) {
            self.seen.insert(id, leaving.data.to_vec());
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "rounded to binary32 and below"
)]
fn normed(cast: Cast, norm: &Norm, weight: &[f32], dtype: Dtype, x: &[f32], out: &mut [f32]) {
    let round = |x: f64| f64::from(dtype.round(x as f32));
    let narrow = |x: f64| if cast == Cast::FactorNarrow { x } else { round(x) };
    let squares: f64 = x.iter().map(|x| narrow(f64::from(*x) * f64::from(*x))).sum();
    let squares = if cast == Cast::NormNarrowSum { round(squares) } else { squares };
    let mean = narrow(squares / x.len() as f64);
    let factor = dtype.round(1.0 / narrow(mean + norm.eps).sqrt() as f32);
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        let y = dtype.round(x * factor);
        *out = match norm.weighting {
            Weighting::AfterCast | Weighting::BeforeCast => dtype.round(y * weight),
            Weighting::OnePlus => dtype.round(y * (1.0 + weight)),
        };
    }
}
