//! Steps of one kernel that are not rounded in between: what compilers fuse, and what hand-written kernels do.

use std::collections::BTreeMap;

use mantissa_engine::{Engine, EngineError, Leaving, SectionId, Variation};
use mantissa_model::graph::{Graph, Norm, Operation, Pairing, Rotary, Weighting};
use mantissa_numerics::{Dtype, Site};

use super::edits::each_node;
use crate::column::Column;
use crate::drift::fed::Tamper;
use crate::drift::known::{before, sections, site};
use crate::drift::sheet::Sheet;
use crate::drift::trial::{Outcome, Trial, left};
use crate::error::LabError;

type NodeId = (SectionId, usize);

/// The longest chain of residual sums that is tried.
const DEEPEST: usize = 6;

/// How a norm and a rotation are computed, and how many residual sums before them stay in binary32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fusion {
    /// A norm's weight is applied before its one rounding.
    norm: bool,
    rotation: Rotation,
    sums: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rotation {
    /// Rounded once, by angles that were rounded.
    Once,
    /// Rounded once, by angles in binary32.
    Wide,
}

impl Fusion {
    fn all() -> Vec<Self> {
        let of = |norm, rotation, sums| Self { norm, rotation, sums };
        let mut all =
            vec![of(false, Rotation::Once, 0), of(true, Rotation::Once, 0), of(true, Rotation::Wide, 0)];
        all.extend((1..=DEEPEST).map(|sums| of(true, Rotation::Wide, sums)));
        all
    }

    fn words(self) -> String {
        let rotation = match self.rotation {
            Rotation::Once => "rotations by rounded angles",
            Rotation::Wide => "rotations by angles in binary32",
        };
        let rounded = format!("{}{rotation} rounded once", if self.norm { "norms and " } else { "" });
        match self.sums {
            0 => rounded,
            1 => format!("{rounded}, the residual sum before a norm not rounded"),
            sums => format!("{rounded}, {sums} residual sums in a row not rounded"),
        }
    }

    /// The graph with what it can say of this.
    fn graph(self, plain: &Graph) -> Graph {
        let mut graph = plain.clone();
        each_node(&mut graph, |operation| match operation {
            Operation::Norm(norm) if self.norm && norm.weighting == Weighting::AfterCast => {
                norm.weighting = Weighting::BeforeCast;
            }
            Operation::Rotary(rotary)
                if self.rotation == Rotation::Wide && rotary.pairing == Pairing::Halves =>
            {
                rotary.pairing = Pairing::WideHalves;
            }
            _ => {}
        });
        graph
    }
}

/// Tries each in all layers.
pub(super) fn outcomes(
    engine: &mut Engine<'_>,
    trial: &Trial<'_>,
    keep: &mut dyn FnMut(Outcome),
) -> Result<(), LabError> {
    let plain = engine.graph().clone();
    if engine.setup().dtype == Dtype::F32 {
        return Ok(());
    }
    for fusion in Fusion::all() {
        let mut tamper = Fused::of(engine, trial, &plain, fusion)?;
        engine.vary(fusion.graph(&plain), Variation::default());
        let found = left(engine, trial, Some(&mut tamper));
        engine.vary(plain.clone(), Variation::default());
        match found {
            // Angles that no recipe gives on this hardware.
            Err(LabError::Engine(EngineError::Uncovered { .. })) => {}
            found => keep(Outcome { name: "cast_order", detail: fusion.words(), left: found? }),
        }
    }
    Ok(())
}

/// A node that is computed here.
enum Node {
    Norm { input: usize, norm: Norm, weight: Vec<f32> },
    Sum,
    Rotary { input: NodeId, rotary: Rotary, angles: Vec<Vec<f32>> },
}

struct Fused<'g> {
    graph: &'g Graph,
    sums: usize,
    nodes: BTreeMap<NodeId, Node>,
    /// Recorded rows of the prompt under trial.
    columns: BTreeMap<Site, Column>,
    seen: BTreeMap<NodeId, Vec<f32>>,
}

impl<'g> Fused<'g> {
    fn of(
        engine: &Engine<'_>,
        trial: &Trial<'_>,
        graph: &'g Graph,
        fusion: Fusion,
    ) -> Result<Self, LabError> {
        let tokens = trial.prompts.iter().map(|prompt| prompt.sheets[trial.side].ids.len()).max();
        let mut nodes = BTreeMap::new();
        for (section, all) in sections(graph) {
            let layer = match section {
                SectionId::Block(layer) => layer,
                SectionId::Stem | SectionId::Head => 0,
            };
            for (place, node) in all.nodes.iter().enumerate() {
                let found = match &node.operation {
                    Operation::Norm(norm) if fusion.sums > 0 && norm.groups == 1 => {
                        let name = norm.weight.replace("{layer}", &layer.to_string());
                        let stored = trial.checkpoint.weight(&name)?;
                        let mut weight = vec![0.0; stored.cols];
                        stored.row_f32(0, &mut weight);
                        engine.setup().dtype.round_each(&mut weight);
                        if norm.weighting == Weighting::OnePlus {
                            for weight in &mut weight {
                                *weight += 1.0;
                            }
                        }
                        Node::Norm { input: node.inputs[0], norm: *norm, weight }
                    }
                    Operation::Add if fusion.sums > 1 => Node::Sum,
                    Operation::Rotary(rotary)
                        if fusion.rotation == Rotation::Once && rotary.pairing == Pairing::Halves =>
                    {
                        let angles = |position| engine.angles(rotary.table, position).to_vec();
                        let angles = (0..tokens.unwrap_or(0)).map(angles).collect();
                        Node::Rotary { input: (section, node.inputs[0]), rotary: *rotary, angles }
                    }
                    _ => continue,
                };
                nodes.insert((section, place), found);
            }
        }
        Ok(Self { graph, sums: fusion.sums, nodes, columns: BTreeMap::new(), seen: BTreeMap::new() })
    }

    fn reads(&self, id: NodeId) -> bool {
        self.nodes.values().any(|node| matches!(node, Node::Rotary { input, .. } if *input == id))
    }

    fn recorded(&self, site: Site, position: usize) -> Option<Vec<f32>> {
        self.columns.get(&site)?.row(position).map(<[f32]>::to_vec)
    }

    /// What a node leaves, its last `depth` sums not rounded to the storage format.
    fn wide(&self, (section, place): NodeId, position: usize, depth: usize) -> Option<Vec<f32>> {
        let nodes = sections(self.graph).find(|(id, _)| *id == section)?.1;
        let node = &nodes.nodes[place];
        match &node.operation {
            Operation::Add if depth > 0 => {
                let mut sum = self.wide((section, node.inputs[0]), position, depth - 1)?;
                let other = self.wide((section, node.inputs[1]), position, 0)?;
                for (sum, other) in sum.iter_mut().zip(other) {
                    *sum += other;
                }
                Some(sum)
            }
            Operation::Input => {
                let (earlier, last) = match section {
                    SectionId::Stem => return None,
                    SectionId::Block(0) => (SectionId::Stem, self.graph.stem.nodes.len()),
                    SectionId::Block(layer) => {
                        (SectionId::Block(layer - 1), self.graph.block(layer - 1)?.nodes.len())
                    }
                    SectionId::Head => {
                        let layer = self.graph.blocks.len().checked_sub(1)?;
                        (SectionId::Block(layer), self.graph.block(layer)?.nodes.len())
                    }
                };
                let through =
                    (depth > 0).then(|| self.wide((earlier, last.checked_sub(1)?), position, depth));
                through.flatten().or_else(|| self.recorded(before(self.graph, section)?, position))
            }
            _ => self.recorded(site(section, node.site?), position),
        }
    }
}

impl Tamper for Fused<'_> {
    fn begin(&mut self, sheet: &Sheet) {
        if self.sums > 0 {
            self.columns.clone_from(&sheet.columns);
        }
    }

    fn wants(&self, section: SectionId, node: usize) -> bool {
        self.nodes.contains_key(&(section, node)) || self.reads((section, node))
    }

    fn change(&mut self, leaving: &mut Leaving<'_>) {
        let (section, dtype) = (leaving.section, leaving.dtype);
        let Some(node) = self.nodes.get(&(section, leaving.node)) else { return };
        let width = (leaving.data.len() / leaving.rows.len().max(1)).max(1);
        for (number, (row, out)) in leaving.rows.iter().zip(leaving.data.chunks_exact_mut(width)).enumerate()
        {
            match node {
                Node::Norm { input, norm, weight } => {
                    if let Some(x) = self.wide((section, *input), row.position, self.sums) {
                        normed(norm, weight, dtype, &x, out);
                    }
                }
                Node::Sum => {
                    if let Some(sum) = self.wide((section, leaving.node), row.position, self.sums) {
                        for (out, sum) in out.iter_mut().zip(sum) {
                            *out = dtype.round(sum);
                        }
                    }
                }
                Node::Rotary { input, rotary, angles } => {
                    let x = self.seen.get(input).and_then(|x| x.get(number * width..(number + 1) * width));
                    if let (Some(x), Some(angles)) = (x, angles.get(row.position)) {
                        turned(rotary, angles, dtype, x, out);
                    }
                }
            }
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
fn normed(norm: &Norm, weight: &[f32], dtype: Dtype, x: &[f32], out: &mut [f32]) {
    let squares: f64 = x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    let factor = 1.0 / (squares / x.len() as f64 + norm.eps).sqrt() as f32;
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = dtype.round(x * factor * weight);
    }
}

/// Pairs `i` and `i + rotated / 2`, rounded once.
fn turned(rotary: &Rotary, angles: &[f32], dtype: Dtype, x: &[f32], out: &mut [f32]) {
    let half = rotary.rotated / 2;
    if angles.len() < 2 * half {
        return;
    }
    for (x, out) in x.chunks_exact(rotary.width).zip(out.chunks_exact_mut(rotary.width)) {
        for pair in 0..half {
            let (first, second) = (rotary.from + pair, rotary.from + pair + half);
            let (cosine, sine) = (angles[pair], angles[half + pair]);
            out[first] = dtype.round(x[first] * cosine - x[second] * sine);
            out[second] = dtype.round(x[second] * cosine + x[first] * sine);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_is_rounded_once_and_a_norm_too() {
        let rotary = Rotary { heads: 1, width: 2, from: 0, rotated: 2, table: 0, pairing: Pairing::Halves };
        let mut out = [0.0; 2];
        // 1.0078125 · 0.50390625 = 0.507843…: rounded by itself it would be 0.5078125.
        turned(&rotary, &[0.503_906_25, 0.863_281_25], Dtype::Bf16, &[1.007_812_5, 3.0], &mut out);
        let left = 1.007_812_5_f32 * 0.503_906_25 - 3.0 * 0.863_281_25;
        assert_eq!(out[0].to_bits(), Dtype::Bf16.round(left).to_bits());
        let norm = Norm { weight: "w", groups: 1, length: 2, eps: 0.0, weighting: Weighting::AfterCast };
        normed(&norm, &[3.0, 1.0], Dtype::Bf16, &[1.0, 1.0], &mut out);
        assert_eq!(out.map(f32::to_bits), [3.0_f32, 1.0].map(f32::to_bits));
    }

    #[test]
    fn words_name_what_is_not_rounded() {
        let words: Vec<String> = Fusion::all().into_iter().map(Fusion::words).collect();
        assert_eq!(words[0], "rotations by rounded angles rounded once");
        assert_eq!(words[1], "norms and rotations by rounded angles rounded once");
        let first = "norms and rotations by angles in binary32 rounded once";
        assert_eq!(words[3], format!("{first}, the residual sum before a norm not rounded"));
        assert_eq!(words[4], format!("{first}, 2 residual sums in a row not rounded"));
    }
}
