//! What a node of the graph runs in a pass.

use mantissa_model::graph::Node;
use mantissa_numerics::recipe::{KernelRecipe, ObservedKernel};

use crate::shape::PassShape;

/// What a node runs: its recipe, its outputs per row and the length of its sums.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Planned {
    pub n: usize,
    pub k: usize,
    pub recipe: KernelRecipe,
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
