//! Attention by [`TorchCudnn`]: cuDNN's kernels, with a tensor core's dot products.
//!
//! Rows share panels of keys and values and nothing else, so how rows are divided among tasks cannot change a bit.
//! Storage is bf16 or f16, whatever the steps multiply. Left out: what is done with scores
//! ([`mantissa_numerics::nvidia::cudnn`]), and which of the kernels is launched (`dispatch`).

use mantissa_numerics::nvidia::cudnn::{Online, Scale};
use mantissa_numerics::recipe::TorchCudnn;
use mantissa_numerics::tensor_core::dot::{Instructions, LANES, Panel, Row};

use super::flash::ROWS;
use super::heads::{Heads, by_block, by_group};
use super::matrix::CachedLayer;
use super::tensor_core::{instructions, row};
use super::tiles::{Cached, Query};
use crate::pool::Pool;
use crate::simd::Isa;

/// Attention of queries of one KV head, in ascending order of how much they see.
///
/// *Shape:* each sees at least one key, and none more than are cached; returns `rows × dim`. *Rounding:* as
/// [`TorchCudnn`].
fn attend(
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
    // By sixteen elements of the head, and row.
    let mut sums = vec![vec![[0.0; LANES]; rows.len()]; cached.dim.div_ceil(LANES)];
    let seen = limits.last().copied().unwrap_or(0);
    let mut panel = Panel::default();
    for from in (0..seen).step_by(tile) {
        // Rows before this one see nothing of the tile, which their kernels do not reach.
        let first = limits.partition_point(|limit| *limit <= from);
        let (rows, limits) = (&rows[first..], &limits[first..]);
        let mut scores = cached.scores(instructions, block, [from, tile, seen], rows, limits, &mut panel);
        let mut weights = Vec::with_capacity(rows.len());
        for (r, scores) in scores.chunks_exact_mut(tile).enumerate() {
            let factor = states[first + r].tile(scale, scores);
            for sums in &mut sums {
                sums[first + r] = sums[first + r].map(|sum| sum * factor);
            }
            storage.round_each(scores);
            weights.push(row(instructions, block, scores));
        }
        for (piece, sums) in sums.iter_mut().enumerate() {
            let columns = piece * LANES..cached.dim.min((piece + 1) * LANES);
            cached.weigh(
                instructions,
                block,
                [from, tile],
                columns,
                &weights,
                &mut panel,
                &mut sums[first..],
            );
        }
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

/// Attention of one query row per sequence, as [`super::attention::decode`].
pub(super) fn decode(
    isa: Isa,
    pool: &Pool,
    recipe: TorchCudnn,
    heads: Heads,
    caches: &[(CachedLayer<'_>, usize)],
    q: &[f32],
    out: &mut [f32],
) {
    by_group(pool, heads, caches, q, out, |_, queries, cached| {
        let count = cached[0].rows;
        let queries: Vec<Query<'_>> = queries.chunks_exact(heads.dim).map(|q| (q, count)).collect();
        attend(instructions(isa), recipe, Cached::new(heads, cached), &queries)
    });
}

#[cfg(test)]
mod tests;
