//! Which kernels a pass runs, without running it. This list puts candidates of a verification into one class before
//! anything is computed, and a run is compared with it afterwards.
//!
//! The list is the model's [`Graph`], each node with the recipe that [`Dispatch`] names for the pass.

use std::num::NonZeroU32;

use mantissa_model::graph::Graph;
use mantissa_numerics::recipe::{KernelRecipe, NormMean, NormRecipe, ObservedKernel};

use crate::catalogs::CatalogUse;
use crate::dispatch::{Dispatch, InSection, Planned};
use crate::error::EngineError;

pub use crate::shape::PassShape;

/// The kernels of a pass in the order each first runs, without the log-softmax that follows it.
///
/// *Errors:* a shape that no verified recipe covers.
///
/// ```
/// use mantissa_engine::plan::{Computation, PassShape, kernels};
/// use mantissa_engine::{Attention, Dispatch, Hardware};
/// use mantissa_model::{Arch, synth::SynthSpec};
/// use mantissa_numerics::Dtype;
///
/// let graph = SynthSpec::tiny(Arch::LLAMA, 0).config().graph();
/// let dispatch = Dispatch::new(Hardware::Cpu, Dtype::Bf16, Attention::Eager);
/// let computed = |batch| -> Result<Vec<Computation>, mantissa_engine::EngineError> {
///     Ok(kernels(dispatch, &graph, PassShape::decode(batch, 100))?.iter().map(Computation::of).collect())
/// };
/// // Batches of two to four sequences cannot be told apart, one sequence can.
/// assert_eq!(computed(2)?, computed(4)?);
/// assert_ne!(computed(1)?, computed(2)?);
/// # Ok::<(), mantissa_engine::EngineError>(())
/// ```
pub fn kernels(
    dispatch: Dispatch<'_>,
    graph: &Graph,
    shape: PassShape,
) -> Result<Vec<ObservedKernel>, EngineError> {
    Ok(planned(dispatch, graph, shape)?.kernels)
}

/// What a pass runs and what that rests on.
///
/// Example: [`planned`].
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedPass {
    /// The kernels, as [`kernels`] lists them.
    pub kernels: Vec<ObservedKernel>,
    /// The catalogs that their recipes are from.
    pub catalog_use: CatalogUse,
}

/// The kernels of a pass, and the catalogs that have their recipes.
///
/// *Errors:* as [`kernels`].
///
/// ```
/// use mantissa_engine::plan::{PassShape, planned};
/// use mantissa_engine::{Attention, Basis, Dispatch, Hardware};
/// use mantissa_model::synth::{Preset, SynthRequest, SynthSpec};
/// use mantissa_numerics::Dtype;
///
/// let request = SynthRequest { preset: Some(Preset::SmolLm2_135M), ..SynthRequest::default() };
/// let graph = SynthSpec::new(&request)?.config().graph();
/// let of = |hardware| {
///     planned(Dispatch::new(hardware, Dtype::Bf16, Attention::Eager), &graph, PassShape::decode(1, 100))
/// };
/// let (gpu, cpu) = (of(Hardware::H200)?, of(Hardware::Cpu)?);
/// assert_eq!((gpu.catalog_use.basis, gpu.catalog_use.catalogs.len()), (Basis::Verified, 1));
/// assert_eq!((cpu.catalog_use.basis, cpu.catalog_use.catalogs.len()), (Basis::Own, 0));
/// assert_ne!(gpu.kernels, cpu.kernels);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn planned(dispatch: Dispatch<'_>, graph: &Graph, shape: PassShape) -> Result<PlannedPass, EngineError> {
    let plan = Plan::new(dispatch, graph, shape)?;
    let mut kernels: Vec<ObservedKernel> = Vec::new();
    let sections = std::iter::once((&graph.stem, &plan.stem))
        .chain(graph.block(0).map(|block| (block, &plan.first)))
        .chain(graph.blocks.iter().skip(1).map(|kind| (&graph.kinds[*kind], &plan.kinds[*kind])))
        .chain(std::iter::once((&graph.head, &plan.head)));
    let mut seen: Vec<*const Vec<Option<Planned>>> = Vec::new();
    for (section, planned) in sections {
        // A kind of block that was seen adds nothing.
        if seen.contains(&std::ptr::from_ref(planned)) {
            continue;
        }
        seen.push(planned);
        for (node, planned) in section.nodes.iter().zip(planned) {
            let Some(planned) = planned else { continue };
            let kernel = planned.observed(node, shape);
            if !kernels.contains(&kernel) {
                kernels.push(kernel);
            }
        }
    }
    Ok(PlannedPass { kernels, catalog_use: plan.catalog_use })
}

/// The recipe of every node of a pass: of the first block, and kind of block by kind of block; `None` for a node that
/// computes nothing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub shape: PassShape,
    pub stem: Vec<Option<Planned>>,
    /// Of the first block, whose input is no sum.
    pub first: Vec<Option<Planned>>,
    pub kinds: Vec<Vec<Option<Planned>>>,
    pub head: Vec<Option<Planned>>,
    /// The catalogs that have them.
    pub catalog_use: CatalogUse,
}

impl Plan {
    pub(crate) fn new(dispatch: Dispatch<'_>, graph: &Graph, shape: PassShape) -> Result<Self, EngineError> {
        dispatch.accepts(graph, shape)?;
        let mut catalog_use = CatalogUse::new(dispatch.hardware);
        let mut section = |section, first| {
            let at = InSection { section, first };
            let nodes = section.nodes.iter();
            nodes
                .map(|node| dispatch.recipe(at, node, shape, &mut catalog_use))
                .collect::<Result<Vec<_>, _>>()
        };
        let stem = section(&graph.stem, false)?;
        let first = graph.block(0).map(|block| section(block, true)).transpose()?.unwrap_or_default();
        let kinds = graph.kinds.iter().map(|kind| section(kind, false)).collect::<Result<_, _>>()?;
        let head = section(&graph.head, false)?;
        Ok(Self { shape, stem, first, kinds, head, catalog_use })
    }
}

impl Dispatch<'_> {
    /// Whether verified recipes cover every kernel of a pass.
    ///
    /// *Errors:* the first that they do not.
    pub fn check(self, graph: &Graph, shape: PassShape) -> Result<(), EngineError> {
        self.catalog_use(graph, shape).map(|_| ())
    }

    /// The catalogs that a pass takes recipes from.
    ///
    /// *Errors:* as [`Self::check`].
    ///
    /// ```
    /// use mantissa_engine::plan::PassShape;
    /// use mantissa_engine::{Attention, Basis, Dispatch, Hardware};
    /// use mantissa_model::synth::{Preset, SynthRequest, SynthSpec};
    /// use mantissa_numerics::Dtype;
    ///
    /// let request = SynthRequest { preset: Some(Preset::SmolLm2_135M), ..SynthRequest::default() };
    /// let graph = SynthSpec::new(&request)?.config().graph();
    /// let dispatch = Dispatch::new(Hardware::H200, Dtype::Bf16, Attention::Eager);
    /// let found = dispatch.catalog_use(&graph, PassShape::decode(1, 100))?;
    /// assert_eq!((found.basis, found.catalogs.len()), (Basis::Verified, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn catalog_use(self, graph: &Graph, shape: PassShape) -> Result<CatalogUse, EngineError> {
        Ok(Plan::new(self, graph, shape)?.catalog_use)
    }
}

/// What a kernel computes, without the number of rows that chose its recipe: equal for two kernels only if they give
/// the same bits on the same row. Kernels that differ here may still agree on some evidence.
///
/// Example: [`kernels`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Computation {
    op: String,
    n: u64,
    k: u64,
    recipe: KernelRecipe,
    /// Bits of the factor of PyTorch's mean, of which alone its number of rows is part.
    factor: Option<u32>,
    /// Rows of a tensor that an all-reduce cuts into parts.
    rows: Option<u64>,
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
        let cut = matches!(recipe, KernelRecipe::Matmul(product) if product.reduces_by_place());
        let rows = cut.then_some(kernel.m);
        Self { op: kernel.op.clone(), n: kernel.n, k: kernel.k, recipe, factor, rows }
    }
}
