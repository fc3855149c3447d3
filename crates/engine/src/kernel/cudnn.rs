//! Attention by [`TorchCudnn`]: cuDNN's kernels, with a tensor core's dot products.
//!
//! Rows share panels of keys and values and nothing else, so how rows are divided among tasks cannot change a bit.
//! Storage is bf16 or f16, whatever the steps multiply. Left out: what is done with scores
//! ([`mantissa_numerics::nvidia::cudnn`]), and which of the kernels is launched (`dispatch`).

use mantissa_numerics::nvidia::cudnn::{Online, Scale};
use mantissa_numerics::recipe::TorchCudnn;
use mantissa_numerics::tensor_core::dot::{Instructions, LANES, Panel, Row};

use super::flash::ROWS;
use super::heads::{Heads, by_block};
use super::matrix::CachedLayer;
use super::tensor_core::{instructions, row};
use super::tiles::{Cached, Query, Walk};
use crate::pool::Pool;
use crate::simd::Isa;

/// Attention of queries of one KV head, in ascending order of how much they see.
///
/// *Shape:* each sees at least one key, and none more than are cached; returns `rows × dim`. *Rounding:* as
/// [`TorchCudnn`].
pub(super) fn attend(
    instructions: Instructions,
    recipe: TorchCudnn,
    cached: Cached<'_>,
    queries: &[Query<'_>],
) -> Vec<f32> {
    let (TorchCudnn { block, kernel }, storage) = (recipe, recipe.storage());
    let (tile, scale) = (kernel.tile(), Scale::new(kernel, cached.scale));
    let rows: Vec<Row> = queries.iter().map(|(q, _)| row(instructions, block, q)).collect();
    let limits: Vec<usize> = queries.iter().map(|(_, limit)| *limit).collect();
    let mut states = vec![Online::default(); rows.len()];
    let walk = Walk { instructions, block, storage, cached, rows: &rows, limits: &limits };
    let (mut sums, mut panel) = (walk.sums(), Panel::default());
    let seen = limits.last().copied().unwrap_or(0);
    for from in (0..seen).step_by(tile) {
        let weights = |r: usize, scores: &mut [f32]| states[r].tile(scale, scores);
        walk.take([from, tile, seen], &mut panel, &mut sums, weights);
    }
    let mut out = vec![0.0; rows.len() * cached.dim];
    for (r, (out, state)) in out.chunks_exact_mut(cached.dim).zip(&states).enumerate() {
        let inverse = state.inverse();
        for (k, out) in out.iter_mut().enumerate() {
            *out = storage.round(sums[k / LANES][r][k % LANES] * inverse);
        }
    }
    out
}

/// Causal attention of `q`'s rows, as [`super::attention::prefill`].
#[expect(clippy::too_many_arguments, reason = "where, how, and three tensors")]
pub(super) fn prefill(
    isa: Isa,
    pool: &Pool,
    recipe: TorchCudnn,
    heads: Heads,
    cached: CachedLayer<'_>,
    first: usize,
    q: &[f32],
    out: &mut [f32],
) {
    by_block(pool, heads, ROWS, cached, first, q, out, |_, queries, limits, cached| {
        let queries: Vec<Query<'_>> = queries.iter().copied().zip(limits.iter().copied()).collect();
        attend(instructions(isa), recipe, Cached::new(heads, cached), &queries)
    });
}

#[cfg(test)]
mod tests;
