//! Hugging Face's `eager` attention on a GPU: [`TorchEager`].
//!
//! Products run as panels of sixteen emulated dot products, or by threads; everything else is row by row and scalar,
//! because the products take the time. Storage is bf16 or f16.

use std::num::NonZeroU16;

use mantissa_numerics::nvidia::products::{by_threads_across, remainder_first};
use mantissa_numerics::recipe::{BatchedSum, TorchEager};
use mantissa_numerics::tensor_core::BlockRecipe;
use mantissa_numerics::tensor_core::dot::{Instructions, LANES, Panel, Row};

use super::heads::{Heads, by_block, by_group};
use super::matrix::{CachedLayer, Matrix};
use super::tensor_core::{bytes, element, instructions};
use crate::pool::Pool;
use crate::simd::Isa;

/// Query rows of a task.
const ROWS: usize = 64;

/// Where the elements of a sum go so that steps do not cross the borders of tiles.
#[derive(Clone, Copy)]
struct Walk {
    /// Elements that come first.
    early: usize,
    /// Where the others begin; what lies between is padding.
    late: usize,
    length: usize,
}

impl Walk {
    /// Over the first `count` of `total` elements: those behind add nothing.
    fn new(block: BlockRecipe, tile: Option<NonZeroU16>, total: usize, count: usize) -> Self {
        let (early, late) = remainder_first(block, tile, total);
        let length = if early == 0 { count } else { late + count.saturating_sub(early) };
        Self { early: early.min(count), late, length }
    }

    /// The element at a place; `None` is padding.
    fn element(self, at: usize) -> Option<usize> {
        match at {
            _ if at < self.early => Some(at),
            _ if at < self.late => None,
            _ => Some(at - self.late + self.early),
        }
    }

    /// Whether elements stand as they come.
    fn is_straight(self) -> bool {
        self.early == 0 && self.late == 0
    }

    /// A row in this order.
    fn row(self, instructions: Instructions, block: BlockRecipe, x: &[f32]) -> Row {
        let mut row = Row::default();
        if self.is_straight() {
            row.fill_rounded(instructions, block, &x[..self.length]);
            return row;
        }
        let x: Vec<f32> = (0..self.length).map(|at| self.element(at).map_or(0.0, |k| x[k])).collect();
        row.fill_rounded(instructions, block, &x);
        row
    }
}

/// Attention of one KV head for some query rows in ascending order of what they see: row `r` the first `limits[r]` of
/// `count` keys, which are the first of the kernel's `total`. `before[r]` elements lie before its row of scores.
///
/// *Shape:* returns `rows × head_dim`. *Rounding:* as Hugging Face's `eager`: scores, scaled scores, probabilities and
/// outputs are rounded; masked keys have probability 0, which adds nothing.
#[expect(clippy::too_many_arguments, reason = "where, how, and the operands")]
fn attend(
    isa: Isa,
    recipe: TorchEager,
    heads: Heads,
    keys: Matrix<'_>,
    values: Matrix<'_>,
    count: usize,
    total: usize,
    queries: &[&[f32]],
    limits: &[usize],
    before: &[usize],
) -> Vec<f32> {
    let (instructions, storage) = (instructions(isa), recipe.storage);
    let mut scores = vec![0.0_f32; queries.len() * count];
    match recipe.scores {
        BatchedSum::TensorCore { block, tile } => {
            let walk = Walk::new(block, tile, heads.dim, heads.dim);
            let rows: Vec<Row> = queries.iter().map(|q| walk.row(instructions, block, q)).collect();
            let mut panel = Panel::default();
            let mut sums = vec![[0.0; LANES]; rows.len()];
            for first in (0..count).step_by(LANES) {
                let lanes = LANES.min(count - first);
                if walk.is_straight() {
                    let keys: Vec<&[u8]> =
                        (first..first + lanes).map(|key| bytes(keys, key, 0..heads.dim)).collect();
                    panel.fill_rows(instructions, block, &keys);
                } else {
                    panel.fill(instructions, block, lanes, walk.length, |lane, at| {
                        walk.element(at).map_or(0, |k| element(keys, first + lane, k))
                    });
                }
                // Rows before this one see none of these keys.
                let from = limits.partition_point(|limit| *limit <= first);
                let sums = &mut sums[from..];
                sums.fill([0.0; LANES]);
                block.dots_of_rows(instructions, &rows[from..], 0, &panel, sums);
                for (scores, sums) in scores.chunks_exact_mut(count).skip(from).zip(sums) {
                    scores[first..first + lanes].copy_from_slice(&sums[..lanes]);
                }
            }
        }
        BatchedSum::Threads(sum) => {
            let mut across = vec![[0.0_f32; LANES]; heads.dim];
            for first in (0..count).step_by(LANES) {
                let lanes = LANES.min(count - first);
                for lane in 0..lanes {
                    let key = bytes(keys, first + lane, 0..heads.dim);
                    for (k, across) in across.iter_mut().enumerate() {
                        across[lane] = storage.decode(key, k);
                    }
                }
                let from = limits.partition_point(|limit| *limit <= first);
                for (q, scores) in queries.iter().zip(scores.chunks_exact_mut(count)).skip(from) {
                    let sums = by_threads_across(sum, q, |k| across[k]);
                    scores[first..first + lanes].copy_from_slice(&sums[..lanes]);
                }
            }
        }
    }
    for ((scores, limit), before) in scores.chunks_exact_mut(count).zip(limits).zip(before) {
        for score in &mut scores[..*limit] {
            *score = storage.round(storage.round(*score) * heads.scale);
        }
        recipe.softmax.softmax(scores, *limit, total, *before);
        storage.round_each(scores);
    }
    let mut out = vec![0.0_f32; queries.len() * heads.dim];
    match recipe.values {
        BatchedSum::TensorCore { block, tile } => {
            let walk = Walk::new(block, tile, total, count);
            let rows: Vec<Row> =
                scores.chunks_exact(count).map(|p| walk.row(instructions, block, p)).collect();
            let mut panel = Panel::default();
            let mut sums = vec![[0.0; LANES]; rows.len()];
            for first in (0..heads.dim).step_by(LANES) {
                let lanes = LANES.min(heads.dim - first);
                panel.fill_columns(instructions, block, lanes, walk.length, |at| {
                    walk.element(at)
                        .map_or(&[0; 2 * LANES][..2 * lanes], |k| bytes(values, k, first..first + lanes))
                });
                sums.fill([0.0; LANES]);
                block.dots_of_rows(instructions, &rows, 0, &panel, &mut sums);
                for (out, sums) in out.chunks_exact_mut(heads.dim).zip(&sums) {
                    out[first..first + lanes].copy_from_slice(&sums[..lanes]);
                }
            }
        }
        BatchedSum::Threads(sum) => {
            for first in (0..heads.dim).step_by(LANES) {
                let lanes = LANES.min(heads.dim - first);
                let value = |k: usize| {
                    let mut value = [0.0; LANES];
                    let bytes = bytes(values, k, first..first + lanes);
                    for (lane, value) in value.iter_mut().enumerate().take(lanes) {
                        *value = storage.decode(bytes, lane);
                    }
                    value
                };
                for (p, out) in scores.chunks_exact(count).zip(out.chunks_exact_mut(heads.dim)) {
                    let sums = by_threads_across(sum, p, value);
                    out[first..first + lanes].copy_from_slice(&sums[..lanes]);
                }
            }
        }
    }
    storage.round_each(&mut out);
    out
}

/// Causal attention of `q`'s rows, as [`super::attention::prefill`].
#[expect(clippy::too_many_arguments, reason = "where, how, and four tensors")]
pub(super) fn prefill(
    isa: Isa,
    pool: &Pool,
    recipe: TorchEager,
    heads: Heads,
    cached: CachedLayer<'_>,
    sequence: usize,
    [first, total]: [usize; 2],
    q: &[f32],
    out: &mut [f32],
) {
    by_block(pool, heads, ROWS, cached, first, q, out, |places, queries, limits, [keys, values]| {
        let before = |(row, head)| heads.before(sequence, head, [first + row, total], total);
        let before: Vec<usize> = places.iter().copied().map(before).collect();
        attend(isa, recipe, heads, keys, values, keys.rows, total, queries, limits, &before)
    });
}

/// Attention of one query row per sequence, as [`super::attention::decode`].
pub(super) fn decode(
    isa: Isa,
    pool: &Pool,
    recipe: TorchEager,
    heads: Heads,
    caches: &[(CachedLayer<'_>, usize)],
    sequences: &[usize],
    q: &[f32],
    out: &mut [f32],
) {
    by_group(pool, heads, caches, q, out, |[row, kv], queries, [keys, values]| {
        let count = keys.rows;
        let queries: Vec<&[f32]> = queries.chunks_exact(heads.dim).collect();
        let limits = vec![count; queries.len()];
        let before: Vec<usize> = (kv * heads.group()..(kv + 1) * heads.group())
            .map(|head| heads.before(sequences[row], head, [0, 1], count))
            .collect();
        attend(isa, recipe, heads, keys, values, count, count, &queries, &limits, &before)
    });
}
