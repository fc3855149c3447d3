//! Which kernels a pass runs, without running it. This list puts candidates of a verification into one class before
//! anything is computed, and a run is compared with it afterwards.
//!
//! The list is the model's [`Graph`], each node with the recipe that [`Dispatch`] names for the pass.

use std::num::NonZeroU32;

use mantissa_model::graph::{Graph, Node, Section};
use mantissa_numerics::recipe::{KernelRecipe, NormMean, NormRecipe, ObservedKernel};
use mantissa_numerics::site::Phase;

use crate::dispatch::{Dispatch, Planned};
use crate::error::EngineError;

/// The shape of one pass, as dispatch sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PassShape {
    /// Prefill or decode.
    pub phase: Phase,
    /// Sequences of the batch.
    pub batch_size: usize,
    /// Positions of each that the pass feeds: 1 in decode.
    pub positions: usize,
    /// Positions cached after it.
    pub keys: usize,
}

impl PassShape {
    /// The pass over the whole of a prompt.
    ///
    /// ```
    /// let shape = mantissa_engine::plan::PassShape::prefill(4, 512);
    /// assert_eq!((shape.rows(), shape.keys), (2048, 512));
    /// ```
    #[must_use]
    pub const fn prefill(batch_size: usize, positions: usize) -> Self {
        Self { phase: Phase::Prefill, batch_size, positions, keys: positions }
    }

    /// The step that feeds the last of `keys` positions.
    #[must_use]
    pub const fn decode(batch_size: usize, keys: usize) -> Self {
        Self { phase: Phase::Decode, batch_size, positions: 1, keys }
    }

    /// Rows of the pass.
    #[must_use]
    pub const fn rows(self) -> usize {
        self.batch_size * self.positions
    }
}

/// The kernels of a pass in the order each first runs, without the log-softmax that follows it.
///
/// *Errors:* a shape that no verified recipe covers.
pub fn kernels(
    dispatch: Dispatch,
    graph: &Graph,
    shape: PassShape,
) -> Result<Vec<ObservedKernel>, EngineError> {
    let plan = Plan::new(dispatch, graph, shape)?;
    let mut kernels: Vec<ObservedKernel> = Vec::new();
    let sections = std::iter::once((&graph.stem, &plan.stem))
        .chain(graph.blocks.iter().map(|kind| (&graph.kinds[*kind], &plan.kinds[*kind])))
        .chain(std::iter::once((&graph.head, &plan.head)));
    let mut seen: Vec<*const Section> = Vec::new();
    for (section, planned) in sections {
        // A kind of block that was seen adds nothing.
        if seen.contains(&std::ptr::from_ref(section)) {
            continue;
        }
        seen.push(section);
        for (node, planned) in section.nodes.iter().zip(planned) {
            let Some(planned) = planned else { continue };
            let kernel = planned.observed(node, shape);
            if !kernels.contains(&kernel) {
                kernels.push(kernel);
            }
        }
    }
    Ok(kernels)
}

/// The recipe of every node of a pass, kind of block by kind of block; `None` for a node that computes nothing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub shape: PassShape,
    pub stem: Vec<Option<Planned>>,
    pub kinds: Vec<Vec<Option<Planned>>>,
    pub head: Vec<Option<Planned>>,
}

impl Plan {
    pub(crate) fn new(dispatch: Dispatch, graph: &Graph, shape: PassShape) -> Result<Self, EngineError> {
        dispatch.accepts(graph, shape)?;
        let section = |section: &Section| {
            section.nodes.iter().map(|node| dispatch.recipe(node, shape)).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            shape,
            stem: section(&graph.stem)?,
            kinds: graph.kinds.iter().map(section).collect::<Result<_, _>>()?,
            head: section(&graph.head)?,
        })
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

/// What a kernel computes, without the number of rows that chose its recipe: equal for two kernels only if they give
/// the same bits on the same row. Kernels that differ here may still agree on some evidence.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Computation {
    op: String,
    n: u64,
    k: u64,
    recipe: KernelRecipe,
    /// Bits of the factor of PyTorch's mean, of which alone its number of rows is part.
    factor: Option<u32>,
}

impl Computation {
    /// What `kernel` computes.
    #[must_use]
    pub fn of(kernel: &ObservedKernel) -> Self {
        let (mut recipe, mut factor) = (kernel.recipe, None);
        if let KernelRecipe::RmsNorm(NormRecipe { mean: NormMean::Torch { rows, .. }, .. }) = &mut recipe {
            #[expect(clippy::cast_precision_loss, reason = "PyTorch divides these as binary32")]
            let quotient = rows.get() as f32 / (u64::from(rows.get()) * kernel.k) as f32;
            factor = Some(quotient.to_bits());
            *rows = NonZeroU32::MIN;
        }
        Self { op: kernel.op.clone(), n: kernel.n, k: kernel.k, recipe, factor }
    }
}
