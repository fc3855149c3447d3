//! Kernels of the recipes that say what an NVIDIA GPU computes.
//!
//! Products run as panels of sixteen emulated dot products; everything else is row by row and scalar, because the products
//! take the time. Storage is bf16 throughout. Left out: which recipe a GPU picks (`dispatch`).

use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::functions;
use mantissa_numerics::nvidia::products::{by_threads, remainder_first, split_k};
use mantissa_numerics::nvidia::reduce::{TorchSum, softmax_block, softmax_warp};
use mantissa_numerics::recipe::{AttentionRecipe, ReductionRecipe, SoftmaxRecipe, Summation};
use mantissa_numerics::tensor_core::BlockRecipe;
use mantissa_numerics::tensor_core::dot::{Instructions, LANES, Panel, Row};

use super::attention::{Heads, by_group, by_head};
use super::matmul::{Format, Matrix, Shared};
use super::rows::share;
use crate::cache::KvCache;
use crate::pool::Pool;
use crate::simd::Isa;

/// Rows of `x` that are taken apart at a time.
const ROWS: usize = 128;

/// Elements of `K` that a panel holds at a time: what the nearest cache holds of sixteen rows. A multiple of every step.
const DEPTH: usize = 256;

/// Query positions of an attention task.
const QUERIES: usize = 32;

pub(super) const fn instructions(isa: Isa) -> Instructions {
    match isa {
        Isa::Scalar => Instructions::Portable,
        Isa::Avx2 => Instructions::Avx2,
        Isa::Avx512 => Instructions::Avx512,
    }
}

/// The pattern of a value that is already rounded to bf16.
const fn bits(x: f32) -> u32 {
    x.to_bits() >> 16
}

/// The pattern of an element of a bf16 matrix.
pub(super) fn element(matrix: Matrix<'_>, row: usize, column: usize) -> u32 {
    let at = row * matrix.row_bytes + 2 * column;
    u32::from(u16::from_le_bytes([matrix.data[at], matrix.data[at + 1]]))
}

/// `out[i, j] = round(Σ_k x[i, k] · w[j, k])` by steps of a tensor core; see [`Summation::TensorCore`].
#[expect(clippy::too_many_arguments, reason = "where, how, and the operands")]
pub(crate) fn products(
    isa: Isa,
    pool: &Pool,
    block: BlockRecipe,
    parts: u16,
    output: Dtype,
    m: usize,
    x: &[f32],
    weights: &mut [(Matrix<'_>, &mut [f32])],
) {
    let k = x.len() / m.max(1);
    let cuts = split_k(k, parts);
    let mut panels = Vec::new();
    for (index, (w, _)) in weights.iter().enumerate() {
        assert_eq!(w.format, Format::Plain(Dtype::Bf16), "a tensor core multiplies bf16 here");
        panels.extend((0..w.rows).step_by(LANES).map(|first| (index, first)));
    }
    let targets: Vec<(Matrix<'_>, Shared<f32>)> =
        weights.iter_mut().map(|(w, out)| (*w, Shared(out.as_mut_ptr()))).collect();
    let instructions = instructions(isa);
    for from in (0..m).step_by(ROWS) {
        let rows: Vec<Row> = x[from * k..m.min(from + ROWS) * k]
            .chunks_exact(k.max(1))
            .map(|x| {
                let mut row = Row::default();
                row.fill_bf16(instructions, block, x);
                row
            })
            .collect();
        pool.run(panels.len(), |task| {
            let (index, first) = panels[task];
            let (w, to) = targets[index];
            let count = LANES.min(w.rows - first);
            let sums = sums(block, instructions, &rows, w, first, &cuts);
            for (i, sums) in sums.iter().enumerate() {
                for (lane, sum) in sums[..count].iter().enumerate() {
                    // SAFETY: these columns of this weight's output are this task's.
                    unsafe { *to.get().add((from + i) * w.rows + first + lane) = output.round(*sum) };
                }
            }
        });
    }
}

pub(super) fn row(block: BlockRecipe, x: &[f32]) -> Row {
    let mut row = Row::default();
    row.fill(block, x.iter().map(|x| bits(*x)));
    row
}

/// Dot products of all `rows` with up to sixteen rows of `w` from `first` on.
fn sums(
    block: BlockRecipe,
    instructions: Instructions,
    rows: &[Row],
    w: Matrix<'_>,
    first: usize,
    cuts: &[std::ops::Range<usize>],
) -> Vec<[f32; LANES]> {
    let lanes: Vec<&[u8]> =
        w.data.chunks_exact(w.row_bytes).skip(first).take(LANES.min(w.rows - first)).collect();
    let mut panel = Panel::default();
    let mut total = Vec::new();
    for cut in cuts {
        let mut sums = vec![[0.0; LANES]; rows.len()];
        for from in cut.clone().step_by(DEPTH) {
            let until = cut.end.min(from + DEPTH);
            let part: Vec<&[u8]> = lanes.iter().map(|lane| &lane[2 * from..2 * until]).collect();
            panel.fill_rows(instructions, block, &part);
            block.dots_of_rows(instructions, rows, from, &panel, &mut sums);
        }
        if total.is_empty() {
            total = sums;
        } else {
            for (total, sum) in total.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
                *total += sum;
            }
        }
    }
    total
}

/// RMSNorm with PyTorch's mean: `round(w · round(x · rsqrt(sum · (rows / (rows · length)) + eps)))`.
#[expect(clippy::too_many_arguments, reason = "where, how, and the operands")]
pub(crate) fn rms_norm(
    pool: &Pool,
    output: Dtype,
    torch: TorchSum,
    rows: u32,
    x: &[f32],
    weight: &[f32],
    eps: f32,
    out: &mut [f32],
) {
    let width = weight.len();
    #[expect(clippy::cast_precision_loss, reason = "PyTorch divides these as binary32")]
    let factor = rows as f32 / (rows as usize * width) as f32;
    let to = Shared(out.as_mut_ptr());
    share(pool, x.len() / width, width, |from, until| {
        for i in from..until {
            let x = &x[i * width..(i + 1) * width];
            let scale = functions::rsqrt(torch.sum(x.iter().map(|x| x * x)) * factor + eps);
            for (j, (x, w)) in x.iter().zip(weight).enumerate() {
                // SAFETY: row `i` of `out` is this task's.
                unsafe { *to.get().add(i * width + j) = output.round(w * output.round(x * scale)) };
            }
        }
    });
}

/// `gate = round(round(silu(gate)) · up)`.
pub(crate) fn swiglu(pool: &Pool, output: Dtype, gate: &mut [f32], up: &[f32]) {
    let (length, to) = (gate.len(), Shared(gate.as_mut_ptr()));
    share(pool, length.div_ceil(LANES), LANES * 16, |from, until| {
        let (from, until) = (from * LANES, length.min(until * LANES));
        // SAFETY: this run of `gate` is this task's.
        let gate = unsafe { std::slice::from_raw_parts_mut(to.get().add(from), until - from) };
        functions::silu_each(gate);
        for (gate, up) in gate.iter_mut().zip(&up[from..until]) {
            *gate = output.round(output.round(*gate) * up);
        }
    });
}

/// In place, in the kernel's order.
fn softmax(recipe: SoftmaxRecipe, scores: &mut [f32]) {
    match recipe {
        SoftmaxRecipe::Exact { reduction: ReductionRecipe::Warp { .. }, .. } => softmax_warp(scores),
        SoftmaxRecipe::Exact { reduction: ReductionRecipe::Block { block }, .. } => {
            softmax_block(block, scores);
        }
        other => unreachable!("a GPU's eager softmax is not {other:?}"),
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
    recipe: AttentionRecipe,
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
        Summation::TensorCore { block, tile, .. } => {
            assert_eq!(remainder_first(block, tile, heads.dim).0, 0, "heads are whole tiles");
            let rows: Vec<Row> = queries.iter().map(|q| row(block, q)).collect();
            let mut panel = Panel::default();
            for first in (0..count).step_by(LANES) {
                let lanes = LANES.min(count - first);
                panel.fill(block, lanes, heads.dim, |lane, k| element(keys, first + lane, k));
                for (r, row) in rows.iter().enumerate().filter(|(r, _)| limits[*r] > first) {
                    let mut sums = [0.0; LANES];
                    block.dots(instructions, row, &panel, 0..heads.dim, &mut sums);
                    scores[r * count + first..][..lanes].copy_from_slice(&sums[..lanes]);
                }
            }
        }
        Summation::Threads { threads, vector, in_order } => {
            for (r, q) in queries.iter().enumerate() {
                for key in 0..limits[r] {
                    let key_at = |k| f32::from_bits(element(keys, key, k) << 16);
                    scores[r * count + key] =
                        by_threads(threads, vector, in_order, heads.dim, |k| (q[k], key_at(k)));
                }
            }
        }
        other => unreachable!("a GPU's scores are not summed by {other:?}"),
    }
    for (scores, limit) in scores.chunks_exact_mut(count).zip(limits) {
        let (seen, masked) = scores.split_at_mut(*limit);
        for score in &mut *seen {
            *score = recipe.score_rounding.round(recipe.score_rounding.round(*score) * heads.scale());
        }
        // The kernel's lanes are those of all keys; masked ones add zeros.
        masked.fill(f32::NEG_INFINITY);
        softmax(recipe.softmax, scores);
        for p in scores {
            *p = recipe.probability_rounding.round(*p);
        }
    }
    let mut out = vec![0.0_f32; queries.len() * heads.dim];
    match recipe.values {
        Some(Summation::TensorCore { block, tile, .. }) => {
            let (early, late) = remainder_first(block, tile, total);
            // Masked keys behind `count` add nothing.
            let length = if early == 0 { count } else { late + count.saturating_sub(early) };
            // `None` is padding.
            let key_at = |at: usize| match at {
                _ if at < early => (at < count).then_some(at),
                _ if at < late => None,
                _ => Some(at - late + early),
            };
            let rows: Vec<Row> = scores
                .chunks_exact(count)
                .map(|p| {
                    let mut row = Row::default();
                    row.fill(block, (0..length).map(|at| key_at(at).map_or(0, |k| bits(p[k]))));
                    row
                })
                .collect();
            let mut panel = Panel::default();
            for first in (0..heads.dim).step_by(LANES) {
                let lanes = LANES.min(heads.dim - first);
                panel.fill(block, lanes, length, |lane, at| {
                    key_at(at).map_or(0, |k| element(values, k, first + lane))
                });
                for (r, row) in rows.iter().enumerate() {
                    let mut sums = [0.0; LANES];
                    block.dots(instructions, row, &panel, 0..length, &mut sums);
                    out[r * heads.dim + first..][..lanes].copy_from_slice(&sums[..lanes]);
                }
            }
        }
        Some(Summation::Threads { threads, vector, in_order }) => {
            for (p, out) in scores.chunks_exact(count).zip(out.chunks_exact_mut(heads.dim)) {
                for (column, out) in out.iter_mut().enumerate() {
                    let value_at = |k| f32::from_bits(element(values, k, column) << 16);
                    *out = by_threads(threads, vector, in_order, count, |k| (p[k], value_at(k)));
                }
            }
        }
        other => unreachable!("a GPU's values are not summed by {other:?}"),
    }
    for x in &mut out {
        *x = recipe.output.round(*x);
    }
    out
}

/// Causal attention of `q`'s rows, as [`super::attention::prefill`].
#[expect(clippy::too_many_arguments, reason = "where, how, and four tensors")]
pub(crate) fn prefill_attention(
    isa: Isa,
    pool: &Pool,
    recipe: AttentionRecipe,
    heads: Heads,
    cache: &KvCache,
    layer: usize,
    [first, total]: [usize; 2],
    q: &[f32],
    out: &mut [f32],
) {
    by_head(pool, heads, QUERIES, cache, layer, first, q, out, |queries, limits, [keys, values]| {
        attend(isa, recipe, heads, keys, values, keys.rows, total, queries, limits)
    });
}

/// Attention of one query row per sequence, as [`super::attention::decode`].
#[expect(clippy::too_many_arguments, reason = "where, how, and four tensors")]
pub(crate) fn decode_attention(
    isa: Isa,
    pool: &Pool,
    recipe: AttentionRecipe,
    heads: Heads,
    caches: &[(&KvCache, usize)],
    layer: usize,
    q: &[f32],
    out: &mut [f32],
) {
    by_group(pool, heads, caches, layer, q, out, |queries, [keys, values]| {
        let count = keys.rows;
        let queries: Vec<&[f32]> = queries.chunks_exact(heads.dim).collect();
        attend(isa, recipe, heads, keys, values, count, count, &queries, &vec![count; queries.len()])
    });
}
