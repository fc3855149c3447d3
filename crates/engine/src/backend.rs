//! What computes kernels: a backend is given recipes and reports what it ran.

use std::ops::Range;

use mantissa_model::graph::{Attention, Rotary, Routing};
use mantissa_numerics::recipe::{
    AttentionRecipe, BiasRecipe, CapRecipe, ClampedSwiGluRecipe, ExpertSumRecipe, GeGluRecipe, KernelRecipe,
    MatmulRecipe, NormRecipe, ResidualRecipe, RotaryRecipe, RouterRecipe, SwiGluRecipe,
};
use mantissa_numerics::site::Phase;

use crate::kernel::matrix::{CachedLayer, Matrix};

/// The experts that rows are sent to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chosen {
    /// Expert and routing weight of each slot; `top` slots for each row.
    pub slots: Vec<(usize, f32)>,
}

/// Queries of one run of rows, and where the keys and values they see are.
pub(crate) struct Queries<'q> {
    pub phase: Phase,
    /// What each row sees, and its place there; of a prefill, of one sequence and ascending.
    pub rows: &'q [(CachedLayer<'q>, usize)],
    /// Which sequence of the batch each row is of.
    pub sequences: &'q [usize],
    /// Keys of the whole pass.
    pub keys: usize,
    pub q: &'q [f32],
    /// A logit of each query head, if the node has them.
    pub sinks: &'q [f32],
}

/// Where rows stand in the tensor of their whole pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    /// The number of each row; none where no recipe asks for it. Of experts that are put into blocks, the number of
    /// the block's first row.
    pub rows: Vec<usize>,
    /// Rows of the pass, or blocks of experts.
    pub of: usize,
}

impl Places {
    /// Of rows whose products are summed the same wherever they are.
    pub(crate) const ANYWHERE: Self = Self { rows: Vec::new(), of: 0 };
}

/// Computes kernels on rows of binary32 values that are rounded to their storage format already. Each method computes
/// exactly the recipe it is handed and returns the recipe that ran, for comparison with what was planned.
pub(crate) trait Backend {
    /// Products of one `x` with several weights. *Shape:* `x` is `m × k`, each output `m × n`; `places` has the `m`
    /// rows, if the recipe asks where they are.
    fn products(
        &self,
        recipe: MatmulRecipe,
        places: &Places,
        x: &[f32],
        weights: &mut [(Matrix<'_>, &mut [f32])],
    ) -> KernelRecipe;
    /// `x = round(x + bias)` for each row.
    fn bias(&self, recipe: BiasRecipe, x: &mut [f32], bias: &[f32]) -> KernelRecipe;
    /// RMSNorm of runs as long as `weight`.
    fn norm(&self, recipe: NormRecipe, x: &[f32], weight: &[f32], eps: f64, out: &mut [f32]) -> KernelRecipe;
    /// Rotary embedding of rows of `width`, whole heads of the node; `tables[row]` holds cosines, then sines.
    fn rotary(
        &self,
        recipe: RotaryRecipe,
        node: &Rotary,
        x: &mut [f32],
        width: usize,
        tables: &[&[f32]],
    ) -> KernelRecipe;
    /// Attention of queries over their caches.
    fn attention(
        &self,
        recipe: AttentionRecipe,
        node: &Attention,
        queries: &Queries<'_>,
        out: &mut [f32],
    ) -> KernelRecipe;
    /// `x = round(x + y)`.
    fn add(&self, recipe: ResidualRecipe, x: &mut [f32], y: &[f32]) -> KernelRecipe;
    /// `gate = round(round(silu(gate)) · up)`.
    fn gate(&self, recipe: SwiGluRecipe, gate: &mut [f32], up: &[f32]) -> KernelRecipe;
    /// `gate = round(round(gelu(gate)) · up)`.
    fn gelu_gate(&self, recipe: GeGluRecipe, gate: &mut [f32], up: &[f32]) -> KernelRecipe;
    /// The clamped gated unit of neighbours in `pairs`; `bounds` are alpha and limit. *Shape:* `out` is half as long.
    fn clamped_gate(
        &self,
        recipe: ClampedSwiGluRecipe,
        bounds: [f64; 2],
        pairs: &[f32],
        out: &mut [f32],
    ) -> KernelRecipe;
    /// `x = cap · tanh(x / cap)`.
    fn cap(&self, recipe: CapRecipe, cap: f64, x: &mut [f32]) -> KernelRecipe;
    /// Chooses experts for each row of logits.
    fn route(&self, recipe: RouterRecipe, routing: &Routing, logits: &[f32]) -> (Chosen, KernelRecipe);
    /// The sum of a token's experts: `parts` holds the row of slot `s`, `width` long, at `place[s]`.
    fn expert_sum(
        &self,
        recipe: ExpertSumRecipe,
        width: usize,
        chosen: &[(usize, f32)],
        place: &[usize],
        parts: &[f32],
        out: &mut [f32],
    ) -> KernelRecipe;
}

/// Consecutive parts of rows.
pub(crate) fn part(rows: &Range<usize>, width: usize) -> Range<usize> {
    rows.start * width..rows.end * width
}
