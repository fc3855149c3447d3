//! Hugging Face's `eager` attention on a GPU: [`TorchEager`].
//!
//! Products run as panels of sixteen emulated dot products, or by threads; everything else is row by row and scalar,
//! because the products take the time. Storage is bf16 or f16.

use std::num::NonZeroU16;

use mantissa_numerics::nvidia::products::{by_threads_across, remainder_first};
use mantissa_numerics::recipe::{BatchedSum, Elementary, ScoreBound, TorchEager};
use mantissa_numerics::tensor_core::BlockRecipe;
use mantissa_numerics::tensor_core::dot::{Instructions, LANES, Panel, Row};

use super::heads::{Heads, by_block, by_group};
use super::matrix::{CachedLayer, Matrix};
use super::tanh;
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
/// `count` keys, which are the first of the kernel's `total`, but for those outside its window and for padding. Row
/// `r` has the sink `sinks[r mod group]` where there are any, and `before[r]` elements lie before its row of scores.
///
/// *Shape:* returns `rows × head_dim`. *Rounding:* as Hugging Face's `eager`: scores, scaled scores, probabilities and
/// outputs are rounded; masked keys have probability 0, which adds nothing.
#[expect(clippy::too_many_arguments, reason = "where, how, and the operands")]
fn attend(
    isa: Isa,
    recipe: TorchEager,
    heads: Heads,
    cached: CachedLayer<'_>,
    [keys, values]: [Matrix<'_>; 2],
    count: usize,
    total: usize,
    queries: &[&[f32]],
    limits: &[usize],
    sinks: &[f32],
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
    for (r, ((scores, limit), before)) in scores.chunks_exact_mut(count).zip(limits).zip(before).enumerate() {
        let sink = (!sinks.is_empty()).then(|| sinks[r % sinks.len()]);
        weigh(recipe, heads, cached, scores, *limit, [total, *before], sink);
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

/// From a row of products to its probabilities: the first `limit` of the kernel's `total` are seen, but for those
/// outside the window and padding. `before` elements lie before the row.
fn weigh(
    recipe: TorchEager,
    heads: Heads,
    cached: CachedLayer<'_>,
    scores: &mut [f32],
    limit: usize,
    [total, before]: [usize; 2],
    sink: Option<f32>,
) {
    let (first, storage) = (heads.first_seen(limit), recipe.storage);
    for score in &mut scores[first..limit] {
        *score = storage.round(storage.round(*score) * heads.scale);
    }
    if let (ScoreBound::Tanh, Some(cap)) = (recipe.bound, heads.cap) {
        tanh::bound(Elementary::Cuda, storage, cap, &mut scores[first..limit]);
    }
    scores[..first].fill(f32::NEG_INFINITY);
    cached.hide(scores, limit);
    if let Some(sink) = sink {
        let largest = scores[first..limit].iter().copied().fold(sink, f32::max);
        for score in &mut scores[first..limit] {
            *score = storage.round(*score - largest);
        }
        recipe.softmax.softmax_beside(storage.round(sink - largest), scores, limit, total, before);
    } else {
        recipe.softmax.softmax(scores, limit, total, before);
    }
    storage.round_each(scores);
}

/// Elements of a row that the softmax sees: one for each of so many keys, and a sink.
fn row_of_scores(recipe: TorchEager, keys: usize) -> usize {
    keys + usize::from(recipe.sinks)
}

/// The sinks of a KV head's queries.
fn of_group(heads: Heads, sinks: &[f32], kv: usize) -> &[f32] {
    if sinks.is_empty() { sinks } else { &sinks[kv * heads.group()..(kv + 1) * heads.group()] }
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
    sinks: &[f32],
    q: &[f32],
    out: &mut [f32],
) {
    let stride = row_of_scores(recipe, total);
    by_block(pool, heads, ROWS, cached, first, q, out, |places, queries, limits, of_head| {
        let before = |(row, head)| heads.before(sequence, head, [first + row, total], stride);
        let before: Vec<usize> = places.iter().copied().map(before).collect();
        let sinks = of_group(heads, sinks, places[0].1 / heads.group());
        let count = of_head[0].rows;
        attend(isa, recipe, heads, cached, of_head, count, total, queries, limits, sinks, &before)
    });
}

/// Attention of one query row per sequence, as [`super::attention::decode`].
#[expect(clippy::too_many_arguments, reason = "as prefill")]
pub(super) fn decode(
    isa: Isa,
    pool: &Pool,
    recipe: TorchEager,
    heads: Heads,
    caches: &[(CachedLayer<'_>, usize)],
    sequences: &[usize],
    sinks: &[f32],
    q: &[f32],
    out: &mut [f32],
) {
    by_group(pool, heads, caches, q, out, |[row, kv], queries, of_head| {
        let count = of_head[0].rows;
        let queries: Vec<&[f32]> = queries.chunks_exact(heads.dim).collect();
        let (limits, stride) = (vec![count; queries.len()], row_of_scores(recipe, count));
        let before: Vec<usize> = (kv * heads.group()..(kv + 1) * heads.group())
            .map(|head| heads.before(sequences[row], head, [0, 1], stride))
            .collect();
        let sinks = of_group(heads, sinks, kv);
        let cached = caches[row].0;
        attend(isa, recipe, heads, cached, of_head, count, count, &queries, &limits, sinks, &before)
    });
}

#[cfg(test)]
mod tests {
    use mantissa_model::graph::Slot;
    use mantissa_numerics::Dtype;
    use mantissa_numerics::nvidia::functions::tanh;
    use mantissa_numerics::recipe::{AttentionRecipe, TorchSoftmax};
    use mantissa_numerics::tensor_core::{Architecture, Operand};

    use super::super::attention;
    use super::super::heads::usual_heads;
    use super::*;
    use crate::cache::KvCache;

    const DIM: usize = 64;
    const STORAGE: Dtype = Dtype::Bf16;

    fn recipe(bound: ScoreBound, sinks: bool, softmax: TorchSoftmax) -> AttentionRecipe {
        let block = Architecture::Hopper.block(Operand::Bf16).unwrap();
        let sum = BatchedSum::TensorCore { block, tile: None };
        AttentionRecipe::TorchEager(TorchEager {
            scores: sum,
            bound,
            sinks,
            softmax,
            values: sum,
            storage: STORAGE,
        })
    }

    /// Whole numbers from −3 to 3.
    fn whole(i: usize) -> f32 {
        f32::from(u8::try_from(i * 7919 % 7).unwrap()) - 3.0
    }

    fn cache(keys: &[f32], values: &[f32]) -> KvCache {
        let slot = Slot { heads: 1, width: DIM };
        let mut cache = KvCache::of_slots(&[vec![slot; 2]], STORAGE, keys.len() / DIM);
        cache.write(Isa::Scalar, 0, 0, 0, keys);
        cache.write(Isa::Scalar, 0, 1, 0, values);
        cache
    }

    /// A cache of at most 64 positions whose values are ones on a diagonal, so that outputs are probabilities.
    fn probabilities(
        recipe: AttentionRecipe,
        heads: Heads,
        count: usize,
        sinks: &[f32],
        q: &[f32],
    ) -> Vec<f32> {
        let keys: Vec<f32> = (0..count * DIM).map(whole).collect();
        let values: Vec<f32> = (0..count * DIM).map(|i| f32::from(u8::from(i / DIM == i % DIM))).collect();
        let cache = cache(&keys, &values);
        let mut out = vec![0.0; q.len()];
        let (pool, caches) = (Pool::new(1).unwrap(), [(cache.layer(0, [0, 1]), count)]);
        attention::decode(Isa::detect(), &pool, recipe, heads, &caches, &[0], sinks, q, &mut out);
        out
    }

    /// gpt-oss's and Gemma 2's attention operation by operation, on sums that are exact.
    #[test]
    fn bounds_and_sinks_are_their_operations() {
        let heads = Heads { cap: Some(3.0), ..usual_heads(2, DIM) };
        let q: Vec<f32> = (5..5 + 2 * DIM).map(whole).collect();
        let sinks = [0.75, 2.5];
        let r = |x| STORAGE.round(x);
        let mut different = 0;
        for (bound, with_sinks) in
            [(ScoreBound::None, true), (ScoreBound::Tanh, false), (ScoreBound::Tanh, true)]
        {
            for count in [1, 5, 31, 32, 40] {
                let recipe = recipe(bound, with_sinks, TorchSoftmax::Warp);
                let sinks = if with_sinks { &sinks[..] } else { &[] };
                let found = probabilities(recipe, heads, count, sinks, &q);
                for head in 0..2 {
                    let score = |key: usize| -> f32 {
                        let sum: f32 = (0..DIM).map(|i| q[head * DIM + i] * whole(key * DIM + i)).sum();
                        let scaled = r(r(sum) * 0.125);
                        let bounded = r(3.0 * r(tanh(r(scaled * (1.0 / 3.0)))));
                        if bound == ScoreBound::Tanh { bounded } else { scaled }
                    };
                    let mut row: Vec<f32> = (0..count).map(score).collect();
                    row.extend(sinks.get(head));
                    if with_sinks {
                        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                        for x in &mut row {
                            *x = r(*x - largest);
                        }
                    }
                    let length = row.len();
                    TorchSoftmax::Warp.softmax(&mut row, length, length, 0);
                    let want: Vec<f32> = row[..count].iter().map(|p| r(*p)).collect();
                    assert_eq!(found[head * DIM..head * DIM + count], want, "{bound:?} {with_sinks} {count}");
                    different += usize::from(want.first() != want.last());
                }
            }
        }
        assert!(different > 20, "{different}");
    }

    /// Padding before the tokens hides what a window hides from the last of them, bit for bit, in prefill and decode;
    /// padding that the caller forgot would show.
    #[test]
    fn padding_hides_keys_as_a_window_does() {
        let (count, padding) = (75, 30);
        let whole_heads = usual_heads(2, DIM);
        let windowed = Heads { window: Some(count - padding), ..whole_heads };
        let keys: Vec<f32> = (0..count * DIM).map(|i| whole(i) / 5.0).collect();
        let values: Vec<f32> = (3..3 + count * DIM).map(|i| whole(i * i) / 3.0).collect();
        let q: Vec<f32> = (0..2 * DIM).map(|i| STORAGE.round(whole(i + 1) / 7.0)).collect();
        let pool = Pool::new(2).unwrap();
        let isa = Isa::detect();
        let all = cache(&keys, &values);
        let padded = all.clone().hiding(0..padding);
        for softmax in [TorchSoftmax::Warp, TorchSoftmax::Block] {
            let recipe = recipe(ScoreBound::None, false, softmax);
            let prefill = |cache: &KvCache, heads| {
                let mut out = vec![0.0; q.len()];
                let (layer, seen) = (cache.layer(0, [0, 1]), [count - 1, count]);
                attention::prefill(isa, &pool, recipe, heads, layer, 0, seen, &[], &q, &mut out);
                out
            };
            let decode = |cache: &KvCache| {
                let mut out = vec![0.0; q.len()];
                let caches = [(cache.layer(0, [0, 1]), count)];
                attention::decode(isa, &pool, recipe, whole_heads, &caches, &[0], &[], &q, &mut out);
                out
            };
            let wanted = prefill(&all, windowed);
            assert_eq!(prefill(&padded, whole_heads), wanted, "{softmax:?}");
            assert_eq!(decode(&padded), wanted, "{softmax:?}");
            assert_ne!(prefill(&all, whole_heads), wanted, "{softmax:?}");
        }
    }

    /// Padding between prompt and output is in the middle of a row: its keys have no weight, whatever they hold.
    #[test]
    fn padding_after_a_prompt_has_no_weight() {
        let (count, hidden) = (40, 11..29);
        let keys: Vec<f32> = (0..count * DIM).map(whole).collect();
        let values: Vec<f32> = (0..count * DIM).map(|i| f32::from(u8::from(i / DIM == i % DIM))).collect();
        let cache = cache(&keys, &values).hiding(hidden.clone());
        let q: Vec<f32> = (5..5 + DIM).map(whole).collect();
        let recipe = recipe(ScoreBound::None, false, TorchSoftmax::Warp);
        let (pool, caches) = (Pool::new(1).unwrap(), [(cache.layer(0, [0, 1]), count)]);
        let mut out = vec![0.0; DIM];
        attention::decode(
            Isa::detect(),
            &pool,
            recipe,
            usual_heads(1, DIM),
            &caches,
            &[0],
            &[],
            &q,
            &mut out,
        );
        let score = |key: usize| -> f32 {
            let sum: f32 = (0..DIM).map(|i| q[i] * whole(key * DIM + i)).sum();
            STORAGE.round(STORAGE.round(sum) * 0.125)
        };
        let hide = |key| if hidden.contains(&key) { f32::NEG_INFINITY } else { score(key) };
        let mut row: Vec<f32> = (0..count).map(hide).collect();
        TorchSoftmax::Warp.softmax(&mut row, count, count, 0);
        let want: Vec<f32> = row.iter().map(|p| STORAGE.round(*p)).collect();
        assert_eq!(out[..count], want);
        assert!(out[hidden].iter().all(|p| *p == 0.0) && out.iter().filter(|p| **p > 0.0).count() > 3);
    }

    /// Keys outside a window add nothing: the last row of a prefill is a decode over the window alone where that begins
    /// at a border of steps and of a warp.
    #[test]
    fn keys_outside_a_window_add_nothing() {
        let count = 96;
        let heads = Heads { window: Some(32), ..usual_heads(2, DIM) };
        let keys: Vec<f32> = (0..count * DIM).map(|i| whole(i) / 5.0).collect();
        let values: Vec<f32> = (3..3 + count * DIM).map(|i| whole(i * i) / 3.0).collect();
        let cache = cache(&keys, &values);
        let layer = cache.layer(0, [0, 1]);
        let q: Vec<f32> = (0..count * 2 * DIM).map(|i| STORAGE.round(whole(i + 1) / 7.0)).collect();
        let pool = Pool::new(2).unwrap();
        let isa = Isa::detect();
        for softmax in [TorchSoftmax::Warp, TorchSoftmax::Block] {
            let recipe = recipe(ScoreBound::None, false, softmax);
            let mut all = vec![0.0; q.len()];
            attention::prefill(isa, &pool, recipe, heads, layer, 0, [0, count], &[], &q, &mut all);
            let last = q.len() - 2 * DIM;
            let decoded = |heads| {
                let mut one = vec![0.0; 2 * DIM];
                let (caches, q) = ([(layer, count)], &q[last..]);
                attention::decode(isa, &pool, recipe, heads, &caches, &[0], &[], q, &mut one);
                one
            };
            assert_eq!(all[last..], decoded(heads), "{softmax:?}");
            assert_ne!(all[last..], decoded(usual_heads(2, DIM)), "{softmax:?}: a window is seen");
        }
    }
}
