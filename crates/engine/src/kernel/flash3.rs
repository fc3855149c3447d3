//! Attention by [`VllmFlash3`]: FlashAttention-3's kernels as vLLM runs them, with a tensor core's dot products.
//!
//! Rows share panels of keys and values, and where keys are cut, how many are; so how rows are divided among tasks
//! cannot change a bit. Left out: what is done with scores, and how keys are cut
//! ([`mantissa_numerics::nvidia::flash3`]).

use mantissa_numerics::nvidia::flash::Scale;
use mantissa_numerics::nvidia::flash3::{Online, combined};
use mantissa_numerics::recipe::VllmFlash3;
use mantissa_numerics::tensor_core::dot::{Instructions, Row};

use super::flash::{ROWS, RowSoftmax, joined, part_of};
use super::heads::{Heads, by_block};
use super::matrix::CachedLayer;
use super::tensor_core::{instructions, row};
use super::tiles::{Cached, Query, Walk};
use crate::pool::Pool;
use crate::simd::Isa;

impl RowSoftmax for Online {
    fn tile(&mut self, scale: Scale, scores: &mut [f32]) -> f32 {
        Self::tile(self, scale, scores)
    }

    fn finish(self, scale: Scale) -> (f32, f32) {
        Self::finish(self, scale)
    }
}

/// Keys of a tile.
pub(super) fn tile_of(recipe: VllmFlash3) -> usize {
    usize::try_from(recipe.key_tile.get()).unwrap_or(usize::MAX)
}

/// Attention of queries of one KV head, in ascending order of how much they see, which share a tile of queries where
/// keys are cut.
///
/// *Shape:* of `tiles` tiles of keys in all the kernel walks the first `seen`; returns `rows × dim`. *Rounding:* as
/// [`VllmFlash3`].
pub(super) fn attend(
    instructions: Instructions,
    recipe: VllmFlash3,
    cached: Cached<'_>,
    [seen, tiles]: [usize; 2],
    queries: &[Query<'_>],
) -> Vec<f32> {
    let (VllmFlash3 { block, cut, .. }, storage, tile) = (recipe, recipe.storage(), tile_of(recipe));
    let rows: Vec<Row> = queries.iter().map(|(q, _)| row(instructions, block, q)).collect();
    let limits: Vec<usize> = queries.iter().map(|(_, limit)| *limit).collect();
    let walk = Walk { instructions, block, storage, cached, rows: &rows, limits: &limits };
    let number = cut.map_or(1, |cut| cut.parts(tiles));
    let length = seen.div_ceil(number);
    let parts: Vec<_> = (0..number)
        .map(|part| {
            let [from, until] = [part, part + 1].map(|part| (part * length).min(seen) * tile);
            part_of::<Online>(&walk, tile, from..until)
        })
        .collect();
    joined(&parts, cached.dim, storage, |logs| combined(cached.dim, logs))
}

/// Causal attention of `q`'s rows, as [`super::attention::prefill`]; the request's first query is its first token.
#[expect(clippy::too_many_arguments, reason = "where, how, and four tensors")]
pub(super) fn prefill(
    isa: Isa,
    pool: &Pool,
    recipe: VllmFlash3,
    heads: Heads,
    cached: CachedLayer<'_>,
    [first, total]: [usize; 2],
    q: &[f32],
    out: &mut [f32],
) {
    let (tile, group) = (tile_of(recipe), heads.group());
    let tiles = total.div_ceil(tile);
    by_block(pool, heads, ROWS, cached, first, q, out, |places, queries, limits, cached| {
        let cached = Cached::new(heads, cached);
        let queries: Vec<Query<'_>> = queries.iter().copied().zip(limits.iter().copied()).collect();
        let seen = |(position, head): (usize, usize)| {
            let row = (first + position) * group + head % group;
            recipe.cut.map_or(tiles, |cut| cut.seen(row, group, 0, tile, tiles))
        };
        let (mut found, mut at) = (Vec::with_capacity(queries.len() * heads.dim), 0);
        for run in places.chunk_by(|a, b| seen(*a) == seen(*b)) {
            let queries = &queries[at..at + run.len()];
            found.extend(attend(instructions(isa), recipe, cached, [seen(run[0]), tiles], queries));
            at += run.len();
        }
        found
    });
}

#[cfg(test)]
mod tests;
