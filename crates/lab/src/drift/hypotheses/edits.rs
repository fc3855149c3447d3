//! Another number or another edge in the graph.

use mantissa_engine::{Angle, Engine, EngineError, Variation};
use mantissa_model::graph::{Graph, Operation, Pairing, Section, Weighting};

use crate::drift::trial::{Outcome, Trial, left};
use crate::error::LabError;

/// Epsilons of norms that are in use, and those around them.
const EPSILONS: [f64; 11] = [0.0, 1e-12, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0];

/// Bases of rotary embeddings: 1, 2 and 5 times each power of ten that models have.
const BASES: [f64; 16] = [1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 2.5e5, 5e5, 1e6, 2e6, 5e6, 1e7, 1e8, 1e9];

pub(super) fn each_node(graph: &mut Graph, mut change: impl FnMut(&mut Operation)) {
    let Graph { stem, kinds, head, .. } = graph;
    for section in std::iter::once(stem).chain(kinds).chain(std::iter::once(head)) {
        section.nodes.iter_mut().for_each(|node| change(&mut node.operation));
    }
}

/// Tries each edit on all layers.
pub(super) fn outcomes(
    engine: &mut Engine<'_>,
    trial: &Trial<'_>,
    keep: &mut dyn FnMut(Outcome),
) -> Result<(), LabError> {
    let plain = engine.graph().clone();
    for (name, detail, graph, variation) in edits(&plain) {
        engine.vary(graph, variation);
        let found = left(engine, trial, None);
        engine.vary(plain.clone(), Variation::default());
        match found {
            // Angles that no recipe gives on this hardware.
            Err(LabError::Engine(EngineError::Uncovered { .. })) => {}
            found => keep(Outcome { name, detail, left: found? }),
        }
    }
    Ok(())
}

fn edits(plain: &Graph) -> Vec<(&'static str, String, Graph, Variation)> {
    let mut all = Vec::new();
    let usual = Variation::default();
    for eps in EPSILONS {
        let mut graph = plain.clone();
        each_node(&mut graph, |operation| {
            if let Operation::Norm(norm) = operation {
                norm.eps = eps;
            }
        });
        if graph != *plain {
            all.push(("norm_epsilon", format!("an epsilon of {eps:e} in the norm"), graph, usual));
        }
    }
    for (weighting, words) in [
        (Weighting::AfterCast, "the norm's weight applied after the cast"),
        (Weighting::BeforeCast, "the norm's weight applied before the cast"),
        (Weighting::OnePlus, "one added to the norm's weight"),
    ] {
        let mut graph = plain.clone();
        each_node(&mut graph, |operation| {
            if let Operation::Norm(norm) = operation {
                norm.weighting = weighting;
            }
        });
        let name = if weighting == Weighting::OnePlus { "norm_weight" } else { "cast_order" };
        if graph != *plain {
            all.push((name, words.to_owned(), graph, usual));
        }
    }
    for (pairing, name, words) in [
        (Pairing::WideHalves, "cast_order", "rotations in binary32, rounded once"),
        (Pairing::Halves, "cast_order", "rotations whose products are rounded each"),
    ] {
        let mut graph = plain.clone();
        each_node(&mut graph, |operation| {
            if let Operation::Rotary(rotary) = operation
                && rotary.pairing != Pairing::Neighbours
            {
                rotary.pairing = pairing;
            }
        });
        if graph != *plain {
            all.push((name, words.to_owned(), graph, usual));
        }
    }
    for base in BASES {
        let mut graph = plain.clone();
        graph.tables.iter_mut().for_each(|table| table.theta = base);
        if graph != *plain {
            all.push(("rope_base", format!("rotations of base {base:e}"), graph, usual));
        }
    }
    if plain.tables.iter().any(|table| table.scaling.is_some()) {
        let mut graph = plain.clone();
        graph.tables.iter_mut().for_each(|table| table.scaling = None);
        all.push(("rope_base", "rotations that are not stretched".to_owned(), graph, usual));
    }
    for (angle, words) in [(1, "positions one later"), (-1, "positions one earlier")] {
        let variation = Variation { angle: Angle::Moved(angle), ..usual };
        all.push(("rope_position", words.to_owned(), plain.clone(), variation));
    }
    let unturned = Variation { angle: Angle::Zero, ..usual };
    all.push(("rope_position", "every row turned as that of position 0".to_owned(), plain.clone(), unturned));
    if plain.nodes().any(|node| matches!(node.operation, Operation::Bias { .. })) {
        let bare = Variation { without_biases: true, ..usual };
        all.push(("missing_bias", "no bias after the product".to_owned(), plain.clone(), bare));
    }
    all.extend(residuals(plain));
    all
}

/// Residuals that take another node's rows for the stream.
fn residuals(plain: &Graph) -> Vec<(&'static str, String, Graph, Variation)> {
    let mut all = Vec::new();
    let deepest = plain.kinds.iter().map(|section| section.nodes.len()).max().unwrap_or(0);
    for back in 1..deepest {
        let mut graph = plain.clone();
        let mut words = None;
        for section in &mut graph.kinds {
            words = moved(section, back).or(words);
        }
        if let Some(words) = words {
            all.push(("residual_source", words, graph, Variation::default()));
        }
    }
    all
}

/// Lets each residual of a section add to the node `back` places before it, where that has rows of the same width.
fn moved(section: &mut Section, back: usize) -> Option<String> {
    let mut words = None;
    for place in 0..section.nodes.len() {
        let (Operation::Add, Some(source)) = (&section.nodes[place].operation, place.checked_sub(back))
        else {
            continue;
        };
        let other = &section.nodes[source];
        let stream = section.nodes[place].inputs[0];
        let rows = matches!(other.operation, Operation::Input | Operation::Norm(_) | Operation::Add);
        if rows && other.width == section.nodes[place].width && source != stream {
            let name = if other.name.is_empty() { "the block's input" } else { other.name };
            words = Some(format!("the residual taken from {name}"));
            section.nodes[place].inputs[0] = source;
        }
    }
    words
}
