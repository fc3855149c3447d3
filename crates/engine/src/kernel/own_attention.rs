//! The engine's own attention: a softmax between the two products of [`super::source`].

use std::num::NonZeroU32;

use mantissa_numerics::Dtype;
use mantissa_numerics::recipe::{Elementary, OwnAttention, OwnScores, OwnSoftmax, ScoreBound};

use super::heads::{Heads, by_group};
use super::matrix::{CachedLayer, Matrix, PANEL};
use super::share::Shared;
use super::source::{CacheRows, Panels, Source};
use super::tanh;
use crate::pool::{Buffer, Pool};
use crate::simd::{Isa, LANES, Simd, kernel};

/// Query positions of a prefill block.
const BLOCK: usize = 48;

/// Causal attention of `q`'s rows, as [`super::attention::prefill`].
#[expect(clippy::too_many_arguments, reason = "where, how, and five tensors")]
pub(super) fn prefill(
    isa: Isa,
    pool: &Pool,
    recipe: OwnAttention,
    heads: Heads,
    cached: CachedLayer<'_>,
    first: usize,
    sinks: &[f32],
    q: &[f32],
    out: &mut [f32],
) {
    let width = heads.query * heads.dim;
    let rows = q.len() / width;
    let blocks = rows.div_ceil(BLOCK);
    let to = Shared(out.as_mut_ptr());
    pool.run(blocks * heads.kv, |task| {
        // Later blocks have more keys: take them first.
        let (block, kv) = (blocks - 1 - task / heads.kv, task % heads.kv);
        let from = block * BLOCK;
        let count = BLOCK.min(rows - from);
        let keys = first + from + count;
        let group = heads.group();
        // Row r of the block is query head r / count of the group, position from + r mod count.
        let mut queries = pool.buffer(group * count * heads.dim);
        for (r, to) in queries.chunks_exact_mut(heads.dim).enumerate() {
            let at = (from + r % count) * width + (kv * group + r / count) * heads.dim;
            to.copy_from_slice(&q[at..at + heads.dim]);
        }
        let sees = |r| Sees {
            keys: first + from + r % count + 1,
            hidden: cached.hidden,
            sink: sinks.get(kv * group + r / count).copied(),
        };
        let sees: Vec<Sees> = (0..group * count).map(sees).collect();
        let cached = cached.head(kv, keys);
        let result = attend(isa, pool, recipe, heads, cached, &queries, &sees);
        for (r, values) in result.chunks_exact(cached[1].cols).enumerate() {
            let at = ((from + r % count) * heads.query + kv * group + r / count) * heads.value;
            // SAFETY: this task alone writes these heads of these rows.
            unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), to.get().add(at), heads.value) };
        }
    });
}

/// Attention of one query row per sequence, as [`super::attention::decode`].
#[expect(clippy::too_many_arguments, reason = "as prefill")]
pub(super) fn decode(
    isa: Isa,
    pool: &Pool,
    recipe: OwnAttention,
    heads: Heads,
    caches: &[(CachedLayer<'_>, usize)],
    sinks: &[f32],
    q: &[f32],
    out: &mut [f32],
) {
    by_group(pool, heads, caches, q, out, |[row, kv], queries, cached| {
        let first = kv * heads.group();
        let hidden = caches[row].0.hidden;
        let sees = |head| Sees { keys: cached[0].rows, hidden, sink: sinks.get(head).copied() };
        let sees: Vec<Sees> = (first..first + heads.group()).map(sees).collect();
        attend(isa, pool, recipe, heads, cached, queries, &sees)
    });
}

/// What a query row sees.
#[derive(Debug, Clone, Copy)]
struct Sees {
    /// Keys, from the first.
    keys: usize,
    /// The first place of padding among them, and the first after it.
    hidden: [usize; 2],
    /// A logit beside them.
    sink: Option<f32>,
}

/// Attention of rows that share a KV head. Row `r` sees what `sees[r]` says.
///
/// *Shape:* returns rows of the cached values' padded width, of which the first, as many as a value has, count.
fn attend<'p>(
    isa: Isa,
    pool: &'p Pool,
    recipe: OwnAttention,
    heads: Heads,
    [keys, values]: [Matrix<'_>; 2],
    q: &[f32],
    sees: &[Sees],
) -> Buffer<'p> {
    match recipe.scores {
        OwnScores::FmaChain => {
            let source = Panels::new(isa, pool, heads.dim, keys, values);
            weighed(isa, pool, recipe, heads, &source, q, sees)
        }
        OwnScores::Lanes16 => {
            let source = CacheRows { isa, pool, keys, values };
            weighed(isa, pool, recipe, heads, &source, q, sees)
        }
    }
}

/// Everything between the queries and the output.
fn weighed<'p>(
    isa: Isa,
    pool: &'p Pool,
    recipe: OwnAttention,
    heads: Heads,
    source: &impl Source,
    q: &[f32],
    sees: &[Sees],
) -> Buffer<'p> {
    let stride = source.keys().next_multiple_of(PANEL);
    let mut scores = pool.buffer(sees.len() * stride);
    source.scores(q, sees.len(), &mut scores, stride);
    let rounding = match recipe.softmax {
        OwnSoftmax::Eager => recipe.storage,
        OwnSoftmax::Tiled { .. } | OwnSoftmax::Online { .. } => Dtype::F32,
    };
    let mut states = Vec::with_capacity(sees.len());
    for (scores, Sees { keys, hidden, sink }) in scores.chunks_exact_mut(stride).zip(sees) {
        // SAFETY: `isa` is available.
        unsafe { scale_scores(isa, rounding, heads.scale, &mut scores[..*keys]) };
        let from = heads.window.map_or(0, |window| keys.saturating_sub(window));
        if let (ScoreBound::Tanh, Some(cap)) = (recipe.bound, heads.cap) {
            tanh::bound(Elementary::Own, rounding, cap, &mut scores[from..*keys]);
        }
        scores[..from].fill(f32::NEG_INFINITY);
        scores[*keys..].fill(f32::NEG_INFINITY);
        let [padding, behind] = hidden.map(|place| place.min(*keys));
        scores[padding..behind].fill(f32::NEG_INFINITY);
        let sink = sink.filter(|_| recipe.sinks).map(|sink| {
            if recipe.softmax == OwnSoftmax::Eager {
                below_maximum(recipe.storage, sink, scores)
            } else {
                sink
            }
        });
        states.push(RowState::new(sink));
    }
    let rows = Rows { isa, pool, storage: recipe.storage, count: sees.len(), stride };
    match recipe.softmax {
        OwnSoftmax::Eager => rows.eager(source, &mut scores, states),
        OwnSoftmax::Tiled { key_tile } => rows.tiled(source, &mut scores, states, length_of(key_tile)),
        OwnSoftmax::Online { key_tile } => rows.online(source, &mut scores, states, length_of(key_tile)),
    }
}

fn length_of(key_tile: NonZeroU32) -> usize {
    usize::try_from(key_tile.get()).unwrap_or(usize::MAX)
}

/// Rows whose scores are scaled and masked.
#[derive(Clone, Copy)]
struct Rows<'p> {
    isa: Isa,
    pool: &'p Pool,
    storage: Dtype,
    count: usize,
    /// Elements between rows of scores.
    stride: usize,
}

impl<'p> Rows<'p> {
    /// See [`OwnSoftmax::Eager`].
    fn eager(self, source: &impl Source, scores: &mut [f32], mut states: Vec<RowState>) -> Buffer<'p> {
        for (scores, state) in scores.chunks_exact_mut(self.stride).zip(&mut states) {
            // SAFETY: `isa` is available.
            unsafe {
                exponentials(self.isa, scores, state);
                finish_probabilities(self.isa, self.storage, Some(state.sum), scores);
            }
        }
        let mut sums = Sums::new(self, source);
        sums.add(source, scores, (0, source.keys()), |_| None);
        sums.finished(|_| None)
    }

    /// See [`OwnSoftmax::Tiled`].
    fn tiled(
        self,
        source: &impl Source,
        scores: &mut [f32],
        mut states: Vec<RowState>,
        tile: usize,
    ) -> Buffer<'p> {
        for (scores, state) in scores.chunks_exact_mut(self.stride).zip(&mut states) {
            // SAFETY: `isa` is available.
            unsafe {
                exponentials(self.isa, scores, state);
                finish_probabilities(self.isa, self.storage, None, scores);
            }
        }
        let mut sums = Sums::new(self, source);
        for from in (0..source.keys()).step_by(tile) {
            sums.add(source, scores, (from, source.keys().min(from + tile)), |_| None);
        }
        sums.finished(|r| Some(states[r].sum))
    }

    /// See [`OwnSoftmax::Online`].
    fn online(
        self,
        source: &impl Source,
        scores: &mut [f32],
        mut states: Vec<RowState>,
        tile: usize,
    ) -> Buffer<'p> {
        let mut sums = Sums::new(self, source);
        for from in (0..source.keys()).step_by(tile) {
            let until = source.keys().min(from + tile);
            for (scores, state) in scores.chunks_exact_mut(self.stride).zip(&mut states) {
                let tile = &mut scores[from..until];
                // SAFETY: `isa` is available.
                unsafe {
                    exponentials(self.isa, tile, state);
                    finish_probabilities(self.isa, self.storage, None, tile);
                }
            }
            sums.add(source, scores, (from, until), |r| Some(states[r].rescale));
        }
        sums.finished(|r| Some(states[r].sum))
    }
}

/// Products with the values, added up over tiles of keys.
struct Sums<'p> {
    rows: Rows<'p>,
    width: usize,
    out: Buffer<'p>,
    part: Buffer<'p>,
}

impl<'p> Sums<'p> {
    fn new(rows: Rows<'p>, source: &impl Source) -> Self {
        let width = source.values_stride();
        let [mut out, part] = [0, 1].map(|_| rows.pool.buffer(rows.count * width));
        out.fill(0.0);
        Self { rows, width, out, part }
    }

    /// Adds a tile of keys to what there is, which `rescale` says the factor of.
    fn add(
        &mut self,
        source: &impl Source,
        p: &[f32],
        keys: (usize, usize),
        rescale: impl Fn(usize) -> Option<f32>,
    ) {
        let Rows { isa, count, stride, .. } = self.rows;
        source.weigh(p, stride, count, keys, &mut self.part);
        for r in 0..count {
            let range = r * self.width..(r + 1) * self.width;
            // SAFETY: `isa` is available.
            unsafe { accumulate(isa, rescale(r), &mut self.out[range.clone()], &self.part[range]) };
        }
    }

    /// Rows divided by what `divisor` says of each, and rounded.
    fn finished(mut self, divisor: impl Fn(usize) -> Option<f32>) -> Buffer<'p> {
        let Rows { isa, storage, .. } = self.rows;
        for (r, out) in self.out.chunks_exact_mut(self.width).enumerate() {
            // SAFETY: `isa` is available.
            unsafe { finish_output(isa, storage, divisor(r), out) };
        }
        self.out
    }
}

/// Running maximum and sum of a row, and the factor that the last tile put on what came before.
#[derive(Debug, Clone, Copy)]
struct RowState {
    max: f32,
    sum: f32,
    rescale: f32,
}

impl RowState {
    /// Before any key: nothing, or the sink, whose exponential is 1 below its own maximum.
    fn new(sink: Option<f32>) -> Self {
        match sink {
            None => Self { max: f32::NEG_INFINITY, sum: 0.0, rescale: 0.0 },
            Some(sink) => Self { max: sink, sum: 1.0, rescale: 0.0 },
        }
    }
}

/// Scores, and the sink that is returned, less the largest of them, rounded.
fn below_maximum(rounding: Dtype, sink: f32, scores: &mut [f32]) -> f32 {
    let max = scores.iter().fold(sink, |max, v| if *v > max { *v } else { max });
    for score in scores {
        *score = rounding.round(*score - max);
    }
    rounding.round(sink - max)
}

kernel! {
    fn scale_scores<'a>(rounding: Dtype, scale: f32, scores: &'a mut [f32]) = generic::scale_scores
}
kernel! {
    fn exponentials<'a>(scores: &'a mut [f32], state: &'a mut RowState) = generic::exponentials
}
kernel! {
    fn finish_probabilities<'a>(rounding: Dtype, divisor: Option<f32>, p: &'a mut [f32]) = generic::finish_probabilities
}
kernel! {
    fn accumulate<'a>(rescale: Option<f32>, out: &'a mut [f32], part: &'a [f32]) = generic::accumulate
}
kernel! {
    fn finish_output<'a>(rounding: Dtype, divisor: Option<f32>, out: &'a mut [f32]) = generic::finish_output
}

/// The kernels themselves, over any instruction set.
mod generic {
    use super::super::math::{exp, load_part, round, store_part};
    use super::{Dtype, LANES, RowState, Simd};

    #[inline(always)]
    pub(super) unsafe fn scale_scores<S: Simd>(rounding: Dtype, scale: f32, scores: &mut [f32]) {
        let mut at = 0;
        while at < scores.len() {
            let count = LANES.min(scores.len() - at);
            // SAFETY: `count` values are there.
            unsafe {
                let p = scores.as_mut_ptr().add(at);
                let s = round::<S>(rounding, load_part::<S>(p, count, 0.0));
                store_part::<S>(p, count, round::<S>(rounding, S::mul(s, S::splat(scale))));
            }
            at += LANES;
        }
    }

    /// Raises the row's maximum to cover `scores`, replaces them by `exp(score − max)` and adds up their sum.
    /// A tile without a key that the row sees (all −∞) changes nothing.
    #[inline(always)]
    pub(super) unsafe fn exponentials<S: Simd>(scores: &mut [f32], state: &mut RowState) {
        // SAFETY: every access is within `scores`.
        unsafe {
            let mut max = S::splat(f32::NEG_INFINITY);
            let mut at = 0;
            while at < scores.len() {
                let v =
                    load_part::<S>(scores.as_ptr().add(at), LANES.min(scores.len() - at), f32::NEG_INFINITY);
                max = S::max(v, max);
                at += LANES;
            }
            let mut lanes = [0.0; LANES];
            S::store(lanes.as_mut_ptr(), max);
            let max = lanes.iter().fold(state.max, |max, v| if *v > max { *v } else { max });
            if max == f32::NEG_INFINITY {
                // Only keys before the row's window so far.
                scores.fill(0.0);
                state.rescale = 1.0;
                return;
            }
            S::store(lanes.as_mut_ptr(), exp::<S>(S::splat(state.max - max)));
            state.rescale = lanes[0];
            state.max = max;
            let mut sum = S::splat(0.0);
            let mut at = 0;
            while at < scores.len() {
                let (count, p) = (LANES.min(scores.len() - at), scores.as_mut_ptr().add(at));
                let e = exp::<S>(S::sub(load_part::<S>(p, count, f32::NEG_INFINITY), S::splat(max)));
                store_part::<S>(p, count, e);
                sum = S::add(sum, e);
                at += LANES;
            }
            let mut fused = [0.0; LANES];
            S::store(
                fused.as_mut_ptr(),
                S::fma(S::splat(state.sum), S::splat(state.rescale), S::splat(S::tree_sum(sum))),
            );
            state.sum = fused[0];
        }
    }

    #[inline(always)]
    pub(super) unsafe fn finish_probabilities<S: Simd>(rounding: Dtype, divisor: Option<f32>, p: &mut [f32]) {
        if divisor.is_none() && rounding == Dtype::F32 {
            return;
        }
        let mut at = 0;
        while at < p.len() {
            let count = LANES.min(p.len() - at);
            // SAFETY: `count` values are there.
            unsafe {
                let p = p.as_mut_ptr().add(at);
                let mut v = load_part::<S>(p, count, 0.0);
                if let Some(divisor) = divisor {
                    v = S::div(v, S::splat(divisor));
                }
                store_part::<S>(p, count, round::<S>(rounding, v));
            }
            at += LANES;
        }
    }

    #[inline(always)]
    pub(super) unsafe fn accumulate<S: Simd>(rescale: Option<f32>, out: &mut [f32], part: &[f32]) {
        assert!(out.len() == part.len() && out.len().is_multiple_of(LANES));
        let mut at = 0;
        while at < out.len() {
            // SAFETY: both are as long and a multiple of 16.
            unsafe {
                let (p, v) = (out.as_mut_ptr().add(at), S::load(part.as_ptr().add(at)));
                let acc = S::load(p);
                S::store(
                    p,
                    match rescale {
                        Some(rescale) => S::fma(acc, S::splat(rescale), v),
                        None => S::add(acc, v),
                    },
                );
            }
            at += LANES;
        }
    }

    #[inline(always)]
    pub(super) unsafe fn finish_output<S: Simd>(rounding: Dtype, divisor: Option<f32>, out: &mut [f32]) {
        assert!(out.len().is_multiple_of(LANES));
        let mut at = 0;
        while at < out.len() {
            // SAFETY: the length is a multiple of 16.
            unsafe {
                let p = out.as_mut_ptr().add(at);
                let mut v = S::add(S::load(p), S::splat(0.0));
                if let Some(divisor) = divisor {
                    v = S::div(v, S::splat(divisor));
                }
                S::store(p, round::<S>(rounding, v));
            }
            at += LANES;
        }
    }
}
