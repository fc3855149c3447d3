//! Tiles of keys and values of one KV head, the two products of flash attention with them, by steps of a tensor core,
//! and how a tile is taken in.
//!
//! Left out: the softmax between the products, and which tile comes when.

use std::ops::Range;

use mantissa_numerics::Dtype;
use mantissa_numerics::tensor_core::BlockRecipe;
use mantissa_numerics::tensor_core::dot::{Instructions, LANES, Panel, Row};

use super::heads::{Heads, by_group};
use super::matrix::{CachedLayer, Matrix};
use super::tensor_core::{bytes, row};
use crate::pool::Pool;

/// A query and how many keys it sees, from the first on.
pub(super) type Query<'a> = (&'a [f32], usize);

/// Attention of one query row per sequence, as [`super::attention::decode`]: each sees all keys of its sequence, whose
/// number `attend` gets.
pub(super) fn by_query(
    pool: &Pool,
    heads: Heads,
    caches: &[(CachedLayer<'_>, usize)],
    q: &[f32],
    out: &mut [f32],
    attend: impl Fn(Cached<'_>, usize, &[Query<'_>]) -> Vec<f32> + Sync,
) {
    by_group(pool, heads, caches, q, out, |_, queries, cached| {
        let keys = cached[0].rows;
        let queries: Vec<Query<'_>> = queries.chunks_exact(heads.dim).map(|q| (q, keys)).collect();
        attend(Cached::new(heads, cached), keys, &queries)
    });
}

/// Keys and values of one KV head.
#[derive(Clone, Copy)]
pub(super) struct Cached<'a> {
    keys: Matrix<'a>,
    values: Matrix<'a>,
    pub dim: usize,
    pub scale: f32,
}

impl<'a> Cached<'a> {
    pub(super) fn new(heads: Heads, [keys, values]: [Matrix<'a>; 2]) -> Self {
        Self { keys, values, dim: heads.dim, scale: heads.scale }
    }

    /// Scores of `rows` with the `tile` keys from `from` on, of which those from `seen` on are nobody's; −∞ for keys
    /// beyond a row's limit. *Shape:* returns `rows × tile`.
    fn scores(
        self,
        instructions: Instructions,
        block: BlockRecipe,
        [from, tile, seen]: [usize; 3],
        rows: &[Row],
        limits: &[usize],
        panel: &mut Panel,
    ) -> Vec<f32> {
        let mut scores = vec![f32::NEG_INFINITY; rows.len() * tile];
        let mut products = vec![[0.0; LANES]; rows.len()];
        for at in (from..seen.min(from + tile)).step_by(LANES) {
            let lanes = LANES.min(self.keys.rows - at);
            let keys: Vec<&[u8]> = (at..at + lanes).map(|key| bytes(self.keys, key, 0..self.dim)).collect();
            panel.fill_rows(instructions, block, &keys);
            products.fill([0.0; LANES]);
            block.dots_of_rows(instructions, rows, 0, panel, &mut products);
            for (r, products) in products.iter().enumerate() {
                let lanes = limits[r].saturating_sub(at).min(LANES);
                scores[r * tile + at - from..][..lanes].copy_from_slice(&products[..lanes]);
            }
        }
        scores
    }

    /// Adds the product of `weights` with some columns of the values from `from` on to `sums`. Beyond the last value
    /// are zeros.
    #[expect(clippy::too_many_arguments, reason = "how, where, and what")]
    fn weigh(
        self,
        instructions: Instructions,
        block: BlockRecipe,
        [from, count]: [usize; 2],
        columns: Range<usize>,
        weights: &[Row],
        panel: &mut Panel,
        sums: &mut [[f32; LANES]],
    ) {
        let lanes = columns.len();
        panel.fill_columns(instructions, block, lanes, count, |k| {
            if from + k < self.values.rows {
                bytes(self.values, from + k, columns.clone())
            } else {
                &[0; 2 * LANES][..2 * lanes]
            }
        });
        block.dots_of_rows(instructions, weights, 0, panel, sums);
    }
}

/// Rows of queries, in ascending order of how much they see, and the sums of values that tiles left of them so far.
pub(super) struct Walk<'a> {
    pub instructions: Instructions,
    pub block: BlockRecipe,
    /// What weights are rounded to.
    pub storage: Dtype,
    pub cached: Cached<'a>,
    pub rows: &'a [Row],
    pub limits: &'a [usize],
}

impl Walk<'_> {
    /// Sums of no tile: by sixteen elements of the head, and row.
    pub(super) fn sums(&self) -> Vec<Vec<[f32; LANES]>> {
        vec![vec![[0.0; LANES]; self.rows.len()]; self.cached.dim.div_ceil(LANES)]
    }

    /// Takes in a tile of keys, of which those from `seen` on are nobody's. `weights` makes weights of a row's scores
    /// and says what the row's sums so far are multiplied by. Rows that see nothing of the tile are left as they are.
    pub(super) fn take(
        &self,
        [from, tile, seen]: [usize; 3],
        panel: &mut Panel,
        sums: &mut [Vec<[f32; LANES]>],
        mut weights: impl FnMut(usize, &mut [f32]) -> f32,
    ) {
        let Self { instructions, block, cached, .. } = *self;
        let first = self.limits.partition_point(|limit| *limit <= from);
        let (rows, limits) = (&self.rows[first..], &self.limits[first..]);
        let mut scores = cached.scores(instructions, block, [from, tile, seen], rows, limits, panel);
        let mut weighing = Vec::with_capacity(rows.len());
        for (r, scores) in (first..).zip(scores.chunks_exact_mut(tile)) {
            let factor = weights(r, scores);
            for sums in &mut *sums {
                sums[r] = sums[r].map(|sum| sum * factor);
            }
            self.storage.round_each(scores);
            weighing.push(row(instructions, block, scores));
        }
        for (piece, sums) in sums.iter_mut().enumerate() {
            let columns = piece * LANES..cached.dim.min((piece + 1) * LANES);
            cached.weigh(instructions, block, [from, tile], columns, &weighing, panel, &mut sums[first..]);
        }
    }
}
