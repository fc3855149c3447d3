//! What a node of the graph runs in a pass.

use mantissa_model::graph::{Graph, Node, Section};
use mantissa_numerics::recipe::{KernelRecipe, ObservedKernel};

use crate::shape::PassShape;

/// What a node runs: its recipe, its outputs per row and the length of its sums.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Planned {
    pub n: usize,
    pub k: usize,
    pub recipe: KernelRecipe,
}

/// Where a node stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InSection<'g> {
    /// The section that the node is of.
    pub section: &'g Section,
    /// Whether the section's input is the embedding, and not a sum.
    pub first: bool,
}

impl<'g> InSection<'g> {
    /// Every section of a graph once for each recipe that it may have.
    pub(crate) fn all(graph: &'g Graph) -> impl Iterator<Item = Self> {
        let of = |section, first| Self { section, first };
        let first = graph.block(0).map(|section| of(section, true));
        let rest = std::iter::once(&graph.stem).chain(&graph.kinds).chain(std::iter::once(&graph.head));
        first.into_iter().chain(rest.map(move |section| of(section, false)))
    }
}

impl Planned {
    pub(crate) fn observed(self, node: &Node, shape: PassShape) -> ObservedKernel {
        ObservedKernel {
            phase: shape.phase,
            op: node.name.to_owned(),
            m: shape.rows() as u64,
            n: self.n as u64,
            k: self.k as u64,
            recipe: self.recipe,
        }
    }
}
