//! Hugging Face's `eager` attention on a GPU: [`TorchEager`].
//!
//! Products run as panels of sixteen emulated dot products, or by threads; everything else is row by row and scalar, because
//! the products take the time. Storage is bf16.

use std::num::NonZeroU16;

use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::products::{by_threads, remainder_first};
use mantissa_numerics::nvidia::reduce::{softmax_block, softmax_warp};
use mantissa_numerics::recipe::{BatchedSum, TorchEager, TorchSoftmax};
use mantissa_numerics::tensor_core::BlockRecipe;
use mantissa_numerics::tensor_core::dot::{LANES, Panel, Row};

use super::heads::{Heads, by_group, by_head};
use super::matrix::{CachedLayer, Matrix};
use super::tensor_core::{bits, element, instructions};
use crate::pool::Pool;
use crate::simd::Isa;

/// Query positions of an attention task.
const QUERIES: usize = 32;

/// Format of everything that is stored.
const STORAGE: Dtype = Dtype::Bf16;

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

    /// A row in this order.
    fn row(self, block: BlockRecipe, x: &[f32]) -> Row {
        let mut row = Row::default();
        row.fill(block, (0..self.length).map(|at| self.element(at).map_or(0, |k| bits(x[k]))));
        row
    }
}

/// Attention of one KV head for some query rows: row `r` sees the first `limits[r]` of `count` keys, which are the first of the
/// kernel's `total`.
///
/// *Shape:* returns `rows × head_dim`. *Rounding:* as Hugging Face's `eager`: scores, scaled scores, probabilities and outputs are
/// rounded; masked keys have probability 0, which adds nothing.
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
) -> Vec<f32> {
    let instructions = instructions(isa);
    let mut scores = vec![0.0_f32; queries.len() * count];
    match recipe.scores {
        BatchedSum::TensorCore { block, tile } => {
            let walk = Walk::new(block, tile, heads.dim, heads.dim);
            let rows: Vec<Row> = queries.iter().map(|q| walk.row(block, q)).collect();
            let mut panel = Panel::default();
            for first in (0..count).step_by(LANES) {
                let lanes = LANES.min(count - first);
                panel.fill(block, lanes, walk.length, |lane, at| {
                    walk.element(at).map_or(0, |k| element(keys, first + lane, k))
                });
                for (r, row) in rows.iter().enumerate().filter(|(r, _)| limits[*r] > first) {
                    let mut sums = [0.0; LANES];
                    block.dots(instructions, row, &panel, 0..walk.length, &mut sums);
                    scores[r * count + first..][..lanes].copy_from_slice(&sums[..lanes]);
                }
            }
        }
        BatchedSum::Threads(sum) => {
            for (r, q) in queries.iter().enumerate() {
                for key in 0..limits[r] {
                    let key_at = |k| f32::from_bits(element(keys, key, k) << 16);
                    scores[r * count + key] = by_threads(sum, heads.dim, |k| (q[k], key_at(k)));
                }
            }
        }
    }
    for (scores, limit) in scores.chunks_exact_mut(count).zip(limits) {
        let (seen, masked) = scores.split_at_mut(*limit);
        for score in &mut *seen {
            *score = STORAGE.round(STORAGE.round(*score) * heads.scale);
        }
        // The kernel's lanes are those of all keys; masked ones add zeros.
        masked.fill(f32::NEG_INFINITY);
        match recipe.softmax {
            TorchSoftmax::Warp => softmax_warp(scores),
            TorchSoftmax::Block => softmax_block(TorchSoftmax::BLOCK_THREADS, scores),
        }
        for p in scores {
            *p = STORAGE.round(*p);
        }
    }
    let mut out = vec![0.0_f32; queries.len() * heads.dim];
    match recipe.values {
        BatchedSum::TensorCore { block, tile } => {
            let walk = Walk::new(block, tile, total, count);
            let rows: Vec<Row> = scores.chunks_exact(count).map(|p| walk.row(block, p)).collect();
            let mut panel = Panel::default();
            for first in (0..heads.dim).step_by(LANES) {
                let lanes = LANES.min(heads.dim - first);
                panel.fill(block, lanes, walk.length, |lane, at| {
                    walk.element(at).map_or(0, |k| element(values, k, first + lane))
                });
                for (r, row) in rows.iter().enumerate() {
                    let mut sums = [0.0; LANES];
                    block.dots(instructions, row, &panel, 0..walk.length, &mut sums);
                    out[r * heads.dim + first..][..lanes].copy_from_slice(&sums[..lanes]);
                }
            }
        }
        BatchedSum::Threads(sum) => {
            for (p, out) in scores.chunks_exact(count).zip(out.chunks_exact_mut(heads.dim)) {
                for (column, out) in out.iter_mut().enumerate() {
                    let value_at = |k| f32::from_bits(element(values, k, column) << 16);
                    *out = by_threads(sum, count, |k| (p[k], value_at(k)));
                }
            }
        }
    }
    for x in &mut out {
        *x = STORAGE.round(*x);
    }
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
    [first, total]: [usize; 2],
    q: &[f32],
    out: &mut [f32],
) {
    by_head(pool, heads, QUERIES, cached, first, q, out, |queries, limits, [keys, values]| {
        attend(isa, recipe, heads, keys, values, keys.rows, total, queries, limits)
    });
}

/// Attention of one query row per sequence, as [`super::attention::decode`].
pub(super) fn decode(
    isa: Isa,
    pool: &Pool,
    recipe: TorchEager,
    heads: Heads,
    caches: &[(CachedLayer<'_>, usize)],
    q: &[f32],
    out: &mut [f32],
) {
    by_group(pool, heads, caches, q, out, |_, queries, [keys, values]| {
        let count = keys.rows;
        let queries: Vec<&[f32]> = queries.chunks_exact(heads.dim).collect();
        attend(isa, recipe, heads, keys, values, count, count, &queries, &vec![count; queries.len()])
    });
}
