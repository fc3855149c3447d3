//! The CPU as a backend: kernels over whatever instruction set and threads there are, with the same bits on all.

use mantissa_model::graph::{Attention, Rotary, Routing};
use mantissa_numerics::recipe::{
    AttentionRecipe, BiasRecipe, CapRecipe, ClampedSwiGluRecipe, ExpertSumRecipe, GeGluRecipe, KernelRecipe,
    MatmulRecipe, NormRecipe, ResidualRecipe, RotaryRecipe, RouterRecipe, SwiGluRecipe,
};
use mantissa_numerics::site::Phase;

use crate::backend::{Backend, Chosen, Places, Queries, part};
use crate::kernel::attention;
use crate::kernel::heads::Heads;
use crate::kernel::matmul::matmul;
use crate::kernel::matrix::{CachedLayer, Matrix};
use crate::kernel::{moe, rows, tanh};
use crate::pool::Pool;
use crate::simd::Isa;

/// Threads and an instruction set.
#[derive(Debug)]
pub(crate) struct Cpu {
    pub isa: Isa,
    pub pool: Pool,
}

impl Backend for Cpu {
    fn products(
        &self,
        recipe: MatmulRecipe,
        places: &Places,
        x: &[f32],
        weights: &mut [(Matrix<'_>, &mut [f32])],
    ) -> KernelRecipe {
        matmul(self.isa, &self.pool, recipe, places, x, weights);
        KernelRecipe::Matmul(recipe)
    }

    fn bias(&self, recipe: BiasRecipe, x: &mut [f32], bias: &[f32]) -> KernelRecipe {
        rows::add_bias(self.isa, &self.pool, recipe, x, bias);
        KernelRecipe::Bias(recipe)
    }

    fn norm(&self, recipe: NormRecipe, x: &[f32], weight: &[f32], eps: f64, out: &mut [f32]) -> KernelRecipe {
        #[expect(clippy::cast_possible_truncation, reason = "PyTorch adds epsilon to a binary32 tensor")]
        let eps = eps as f32;
        rows::rms_norm(self.isa, &self.pool, recipe, x, weight, eps, out);
        KernelRecipe::RmsNorm(recipe)
    }

    fn rotary(
        &self,
        recipe: RotaryRecipe,
        node: &Rotary,
        x: &mut [f32],
        width: usize,
        tables: &[&[f32]],
    ) -> KernelRecipe {
        rows::rotary(self.isa, &self.pool, recipe, x, [width, node.width, node.from], tables);
        KernelRecipe::Rotary(recipe)
    }

    fn attention(
        &self,
        recipe: AttentionRecipe,
        node: &Attention,
        queries: &Queries<'_>,
        out: &mut [f32],
    ) -> KernelRecipe {
        let heads = Heads::of(node);
        match queries.phase {
            Phase::Prefill => {
                let mut row = 0;
                for stretch in queries.rows.chunk_by(|(_, a), (_, b)| a + 1 == *b) {
                    let (cached, first) = stretch[0];
                    let rows = row..row + stretch.len();
                    attention::prefill(
                        self.isa,
                        &self.pool,
                        recipe,
                        heads,
                        cached,
                        queries.sequences[row],
                        [first, queries.keys],
                        queries.sinks,
                        &queries.q[part(&rows, heads.query * heads.dim)],
                        &mut out[part(&rows, heads.query * heads.value)],
                    );
                    row = rows.end;
                }
            }
            Phase::Decode => {
                let views: Vec<(CachedLayer<'_>, usize)> =
                    queries.rows.iter().map(|(cached, position)| (*cached, position + 1)).collect();
                let Queries { sequences, sinks, q, .. } = queries;
                attention::decode(self.isa, &self.pool, recipe, heads, &views, sequences, sinks, q, out);
            }
        }
        KernelRecipe::Attention(recipe)
    }

    fn add(&self, recipe: ResidualRecipe, x: &mut [f32], y: &[f32]) -> KernelRecipe {
        rows::add(self.isa, &self.pool, recipe, x, y);
        KernelRecipe::Residual(recipe)
    }

    fn gate(&self, recipe: SwiGluRecipe, gate: &mut [f32], up: &[f32]) -> KernelRecipe {
        rows::swiglu(self.isa, &self.pool, recipe, gate, up);
        KernelRecipe::SwiGlu(recipe)
    }

    fn gelu_gate(&self, recipe: GeGluRecipe, gate: &mut [f32], up: &[f32]) -> KernelRecipe {
        tanh::geglu(&self.pool, recipe, gate, up);
        KernelRecipe::GeGlu(recipe)
    }

    fn clamped_gate(
        &self,
        recipe: ClampedSwiGluRecipe,
        bounds: [f64; 2],
        pairs: &[f32],
        out: &mut [f32],
    ) -> KernelRecipe {
        #[expect(clippy::cast_possible_truncation, reason = "PyTorch's rounding of a number beside a tensor")]
        let bounds = bounds.map(|bound| bound as f32);
        rows::clamped_swiglu(self.isa, &self.pool, recipe, bounds, pairs, out);
        KernelRecipe::ClampedSwiGlu(recipe)
    }

    fn cap(&self, recipe: CapRecipe, cap: f64, x: &mut [f32]) -> KernelRecipe {
        #[expect(clippy::cast_possible_truncation, reason = "PyTorch's rounding of a number beside a tensor")]
        let cap = cap as f32;
        tanh::cap(&self.pool, recipe, cap, x);
        KernelRecipe::Cap(recipe)
    }

    fn route(&self, recipe: RouterRecipe, routing: &Routing, logits: &[f32]) -> (Chosen, KernelRecipe) {
        let rows = logits.chunks_exact(routing.experts);
        let slots = rows.flat_map(|logits| moe::route(self.isa, recipe, routing, logits)).collect();
        (Chosen { slots }, KernelRecipe::Router(recipe))
    }

    fn expert_sum(
        &self,
        recipe: ExpertSumRecipe,
        width: usize,
        chosen: &[(usize, f32)],
        place: &[usize],
        parts: &[f32],
        out: &mut [f32],
    ) -> KernelRecipe {
        moe::expert_sum(self.isa, recipe, width, chosen, place, parts, out);
        KernelRecipe::ExpertSum(recipe)
    }
}
