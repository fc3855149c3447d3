//! Attention of query heads over a KV cache, for every [`AttentionRecipe`].
//!
//! Prefill works on blocks of query rows with the matrix product's panels; decode walks the cache row by row.
//! The two differ only in how partial sums are computed; the softmax between them is one code.

use mantissa_numerics::Dtype;
use mantissa_numerics::recipe::{AttentionRecipe, ReductionRecipe, SoftmaxRecipe, Summation};

use super::format::UNIT;
use super::matmul::{Format, K_BLOCK, Matrix, PANEL, PackedRows, Shared, fill_panel, sweep_panel};
use crate::cache::KvCache;
use crate::pool::{Buffer, Pool};
use crate::simd::{Isa, LANES, Simd, kernel};

/// Query positions of a prefill block.
const BLOCK: usize = 48;

/// Which heads there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    pub query: usize,
    pub kv: usize,
    pub dim: usize,
}

impl Heads {
    pub(crate) fn group(self) -> usize {
        self.query / self.kv
    }

    /// `head_dim^-0.5`, in binary64 and rounded to binary32.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "Hugging Face's own rounding"
    )]
    pub(super) fn scale(self) -> f32 {
        (self.dim as f64).powf(-0.5) as f32
    }
}

/// A task for each block of `block` query positions and each query head of a prefill whose first row stands at `first`. `attend` gets the
/// block's queries, how many keys each sees, and keys and values up to the block's last position.
///
/// *Shape:* `attend` returns `queries × head_dim`.
#[expect(clippy::too_many_arguments, reason = "how, where, and two matrices")]
pub(super) fn by_head(
    pool: &Pool,
    heads: Heads,
    block: usize,
    cache: &KvCache,
    layer: usize,
    first: usize,
    q: &[f32],
    out: &mut [f32],
    attend: impl Fn(&[&[f32]], &[usize], [Matrix<'_>; 2]) -> Vec<f32> + Sync,
) {
    let width = heads.query * heads.dim;
    let rows = q.len() / width;
    let to = Shared(out.as_mut_ptr());
    let blocks = rows.div_ceil(block);
    pool.run(blocks * heads.query, |task| {
        // Later blocks have more keys: take them first.
        let (number, head) = (blocks - 1 - task / heads.query, task % heads.query);
        let positions = number * block..rows.min((number + 1) * block);
        let at = |row: usize| row * width + head * heads.dim;
        let queries: Vec<&[f32]> = positions.clone().map(|row| &q[at(row)..][..heads.dim]).collect();
        let limits: Vec<usize> = positions.clone().map(|row| first + row + 1).collect();
        let kv = head / heads.group();
        let cached = [0, 1].map(|which| cache.head(layer, which, kv, first + positions.end));
        let found = attend(&queries, &limits, cached);
        for (row, values) in positions.zip(found.chunks_exact(heads.dim)) {
            // SAFETY: this head of these rows is this task's.
            unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), to.get().add(at(row)), heads.dim) };
        }
    });
}

/// A task for each sequence and KV head of a decode step. `attend` gets the queries of the head's group, and its keys and values.
///
/// *Shape:* queries are `group × head_dim`; `attend` returns a row for each, of which the first `head_dim` values count.
pub(super) fn by_group<R: std::ops::Deref<Target = [f32]>>(
    pool: &Pool,
    heads: Heads,
    caches: &[(&KvCache, usize)],
    layer: usize,
    q: &[f32],
    out: &mut [f32],
    attend: impl Fn(&[f32], [Matrix<'_>; 2]) -> R + Sync,
) {
    let part = heads.group() * heads.dim;
    let to = Shared(out.as_mut_ptr());
    pool.run(caches.len() * heads.kv, |task| {
        let (row, kv) = (task / heads.kv, task % heads.kv);
        let (cache, count) = caches[row];
        let at = task * part;
        let found = attend(&q[at..at + part], [0, 1].map(|which| cache.head(layer, which, kv, count)));
        for (head, values) in found.chunks_exact(found.len() / heads.group()).enumerate() {
            let to = to.get().wrapping_add(at + head * heads.dim);
            // SAFETY: this group of heads of this row is this task's.
            unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), to, heads.dim) };
        }
    });
}

/// Causal attention of `q`'s rows, which stand at positions `first..` of `cache` (already written).
///
/// *Shape:* `q` and `out` are `rows × query heads · head_dim`.
#[expect(
    clippy::too_many_arguments,
    reason = "an attention has a recipe, a cache, heads, a layer and two matrices"
)]
pub(crate) fn prefill(
    isa: Isa,
    pool: &Pool,
    recipe: AttentionRecipe,
    heads: Heads,
    cache: &KvCache,
    layer: usize,
    [first, keys]: [usize; 2],
    q: &[f32],
    out: &mut [f32],
) {
    let width = heads.query * heads.dim;
    let rows = q.len() / width;
    assert!(q.len() == out.len() && q.len() == rows * width, "attention: shapes differ");
    if let SoftmaxRecipe::Flash { .. } = recipe.softmax {
        let seen = [first, keys];
        return super::flash::prefill(isa, pool, recipe, heads, cache, layer, seen, q, out);
    }
    if recipe.scaled_operands {
        return super::sdpa_math::prefill(isa, pool, recipe, heads, cache, layer, first, q, out);
    }
    if recipe.values.is_some() {
        return super::nvidia::prefill_attention(
            isa,
            pool,
            recipe,
            heads,
            cache,
            layer,
            [first, keys],
            q,
            out,
        );
    }
    assert!(recipe.scores == Summation::FmaChain, "prefill attention sums scores as a chain");
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
        let limits: Vec<usize> = (0..group * count).map(|r| first + from + r % count + 1).collect();
        let source =
            Panels::new(isa, pool, heads.dim, cache.head(layer, 0, kv, keys), cache.head(layer, 1, kv, keys));
        let result = attend(isa, pool, recipe, heads, &source, &queries, &limits);
        for (r, values) in result.chunks_exact(source.values_stride()).enumerate() {
            let at = (from + r % count) * width + (kv * group + r / count) * heads.dim;
            // SAFETY: this task alone writes these heads of these rows.
            unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), to.get().add(at), heads.dim) };
        }
    });
}

/// Attention of one query row per sequence over the whole of its cache (the row's own position included).
///
/// *Shape:* `q` and `out` are `caches.len() × query heads · head_dim`.
#[expect(clippy::too_many_arguments, reason = "where, how, and four tensors")]
pub(crate) fn decode(
    isa: Isa,
    pool: &Pool,
    recipe: AttentionRecipe,
    heads: Heads,
    caches: &[(&KvCache, usize)],
    layer: usize,
    q: &[f32],
    out: &mut [f32],
) {
    let width = heads.query * heads.dim;
    assert!(q.len() == out.len() && q.len() == caches.len() * width, "attention: shapes differ");
    if let SoftmaxRecipe::Flash { .. } = recipe.softmax {
        return super::flash::decode(isa, pool, recipe, heads, caches, layer, q, out);
    }
    if recipe.scaled_operands {
        return super::sdpa_math::decode(isa, pool, recipe, heads, caches, layer, q, out);
    }
    if recipe.values.is_some() {
        return super::nvidia::decode_attention(isa, pool, recipe, heads, caches, layer, q, out);
    }
    assert!(
        recipe.scores == (Summation::LaneChains { lanes: 16 }),
        "decode attention sums scores by 16 lanes"
    );
    let part = heads.group() * heads.dim;
    let to = Shared(out.as_mut_ptr());
    pool.run(caches.len() * heads.kv, |task| {
        let (row, kv) = (task / heads.kv, task % heads.kv);
        let (cache, keys) = caches[row];
        let at = row * width + kv * part;
        let source = CacheRows {
            isa,
            pool,
            keys: cache.head(layer, 0, kv, keys),
            values: cache.head(layer, 1, kv, keys),
        };
        let result = attend(isa, pool, recipe, heads, &source, &q[at..at + part], &vec![keys; heads.group()]);
        for (r, values) in result.chunks_exact(source.values_stride()).enumerate() {
            // SAFETY: this task alone writes these heads of this row.
            unsafe {
                std::ptr::copy_nonoverlapping(values.as_ptr(), to.get().add(at + r * heads.dim), heads.dim);
            };
        }
    });
}

/// The two matrix products of attention, for one KV head and some query rows.
pub(super) trait Source {
    /// `scores[r · stride + j] = q[r] · key[j]` for every key; `stride ≥` the number of keys rounded up to 32.
    fn scores(&self, q: &[f32], rows: usize, scores: &mut [f32], stride: usize);
    /// `out[r] = Σ p[r, j] · value[j]` over the keys `from..until`, an `fma` chain; `out` rows `values_stride` apart.
    fn weigh(&self, p: &[f32], stride: usize, rows: usize, keys: (usize, usize), out: &mut [f32]);
    fn keys(&self) -> usize;
    fn values_stride(&self) -> usize;
}

/// Everything between the queries and the output, for rows that share a KV head. Row `r` sees `limits[r]` keys.
///
/// *Shape:* returns `rows × source.values_stride()`, of which the first `head_dim` of each row count.
fn attend<'p>(
    isa: Isa,
    pool: &'p Pool,
    recipe: AttentionRecipe,
    heads: Heads,
    source: &impl Source,
    q: &[f32],
    limits: &[usize],
) -> Buffer<'p> {
    let (rows, keys, width) = (limits.len(), source.keys(), source.values_stride());
    let stride = keys.next_multiple_of(PANEL);
    let mut scores = pool.buffer(rows * stride);
    source.scores(q, rows, &mut scores, stride);
    for (scores, limit) in scores.chunks_exact_mut(stride).zip(limits) {
        // SAFETY: `isa` is available.
        unsafe { scale_scores(isa, recipe.score_rounding, heads.scale(), &mut scores[..*limit]) };
        scores[*limit..].fill(f32::NEG_INFINITY);
    }
    let tile = recipe.key_tile.map_or(keys, |tile| usize::try_from(tile).unwrap_or(keys)).max(1);
    let (mut out, mut part) = (pool.buffer(rows * width), pool.buffer(rows * width));
    out.fill(0.0);
    let mut state = vec![RowState { max: f32::NEG_INFINITY, sum: 0.0, rescale: 0.0 }; rows];
    if let SoftmaxRecipe::Exact { reduction, normalize_first } = recipe.softmax {
        assert_eq!(reduction, ReductionRecipe::Lanes { lanes: 16 }, "attention sums by 16 lanes");
        for (scores, state) in scores.chunks_exact_mut(stride).zip(&mut state) {
            // SAFETY: `isa` is available.
            unsafe {
                exponentials(isa, scores, state);
                finish_probabilities(
                    isa,
                    recipe.probability_rounding,
                    normalize_first.then_some(state.sum),
                    scores,
                );
            }
        }
    }
    for from in (0..keys).step_by(tile) {
        let until = (from + tile).min(keys);
        if let SoftmaxRecipe::Online { reduction } = recipe.softmax {
            assert_eq!(reduction, ReductionRecipe::Lanes { lanes: 16 }, "attention sums by 16 lanes");
            for (scores, state) in scores.chunks_exact_mut(stride).zip(&mut state) {
                let tile = &mut scores[from..until];
                // SAFETY: `isa` is available.
                unsafe {
                    exponentials(isa, tile, state);
                    finish_probabilities(isa, recipe.probability_rounding, None, tile);
                }
            }
        }
        source.weigh(&scores, stride, rows, (from, until), &mut part);
        for (r, state) in state.iter().enumerate() {
            let range = r * width..(r + 1) * width;
            let rescale = matches!(recipe.softmax, SoftmaxRecipe::Online { .. }).then_some(state.rescale);
            // SAFETY: `isa` is available.
            unsafe { accumulate(isa, rescale, &mut out[range.clone()], &part[range]) };
        }
    }
    for (out, state) in out.chunks_exact_mut(width).zip(&state) {
        let divisor = match recipe.softmax {
            SoftmaxRecipe::Exact { normalize_first: true, .. } => None,
            _ => Some(state.sum),
        };
        // SAFETY: `isa` is available.
        unsafe { finish_output(isa, recipe.output, divisor, out) };
    }
    out
}

/// Running maximum and sum of a row, and the factor that the last tile put on what came before.
#[derive(Debug, Clone, Copy)]
struct RowState {
    max: f32,
    sum: f32,
    rescale: f32,
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

/// Prefill: keys and values as panels.
pub(super) struct Panels<'a> {
    isa: Isa,
    pool: &'a Pool,
    dim: usize,
    keys: Matrix<'a>,
    /// Values widened to binary32, `keys × stride`.
    values: Buffer<'a>,
}

impl<'a> Panels<'a> {
    pub(super) fn new(isa: Isa, pool: &'a Pool, dim: usize, keys: Matrix<'a>, values: Matrix<'_>) -> Self {
        let mut wide = pool.buffer(values.rows * values.cols);
        widened(isa, values, &mut wide);
        Self { isa, pool, dim, keys, values: wide }
    }

    /// Values in binary32. *Shape:* `keys × values_stride`.
    pub(super) fn values(&self) -> &[f32] {
        &self.values
    }
}

/// A cache's rows in binary32. *Shape:* `to` is `rows × cols`.
pub(super) fn widened(isa: Isa, from: Matrix<'_>, to: &mut [f32]) {
    // SAFETY: `isa` is available; lengths are checked there.
    unsafe { widen(isa, from, to) };
}

kernel! {
    fn widen<'a>(from: Matrix<'a>, to: &'a mut [f32]) = generic::widen
}

impl Source for Panels<'_> {
    fn scores(&self, q: &[f32], rows: usize, scores: &mut [f32], stride: usize) {
        let packed = PackedRows::pack(self.isa, self.pool, false, q, self.dim, rows, self.dim);
        let mut panel = self.pool.buffer(K_BLOCK.min(self.dim.next_multiple_of(UNIT)) * PANEL);
        for from in (0..self.keys.rows).step_by(PANEL) {
            for k in (0..self.dim).step_by(K_BLOCK) {
                let count = K_BLOCK.min(self.dim - k);
                // SAFETY: `isa` is available; the panel has room; rows of `scores` have room for whole panels.
                unsafe {
                    fill_panel(self.isa, self.keys, from, k, count, panel.as_mut_ptr());
                    let out = scores.as_mut_ptr().add(from);
                    sweep_panel(
                        self.isa,
                        &packed,
                        (k, count),
                        panel.as_ptr(),
                        PANEL,
                        PANEL,
                        out,
                        stride,
                        k == 0,
                    );
                }
            }
        }
    }

    fn weigh(&self, p: &[f32], stride: usize, rows: usize, (from, until): (usize, usize), out: &mut [f32]) {
        let width = self.values_stride();
        let packed = PackedRows::pack(self.isa, self.pool, false, &p[from..], stride, rows, until - from);
        for left in (0..width).step_by(PANEL) {
            for k in (from..until).step_by(K_BLOCK) {
                let count = K_BLOCK.min(until - k);
                // SAFETY: `isa` is available; `values` and `out` rows are `width`, a multiple of a panel.
                unsafe {
                    let panel = self.values.as_ptr().add(k * width + left);
                    let out = out.as_mut_ptr().add(left);
                    sweep_panel(
                        self.isa,
                        &packed,
                        (k - from, count),
                        panel,
                        width,
                        PANEL,
                        out,
                        width,
                        k == from,
                    );
                }
            }
        }
    }

    fn keys(&self) -> usize {
        self.keys.rows
    }

    fn values_stride(&self) -> usize {
        self.keys.cols
    }
}

/// Decode: keys and values straight from the cache.
struct CacheRows<'a> {
    isa: Isa,
    pool: &'a Pool,
    keys: Matrix<'a>,
    values: Matrix<'a>,
}

impl Source for CacheRows<'_> {
    fn scores(&self, q: &[f32], rows: usize, scores: &mut [f32], stride: usize) {
        let (dim, width) = (q.len() / rows, self.keys.cols);
        let mut padded = self.pool.buffer(rows * width);
        padded.fill(0.0);
        for (to, from) in padded.chunks_exact_mut(width).zip(q.chunks_exact(dim)) {
            to[..dim].copy_from_slice(from);
        }
        // SAFETY: `isa` is available.
        unsafe { cache_scores(self.isa, self.keys, &padded, scores, stride) }
    }

    fn weigh(&self, p: &[f32], stride: usize, _rows: usize, keys: (usize, usize), out: &mut [f32]) {
        // SAFETY: `isa` is available.
        unsafe { cache_weigh(self.isa, self.values, p, stride, keys, out) }
    }

    fn keys(&self) -> usize {
        self.keys.rows
    }

    fn values_stride(&self) -> usize {
        self.keys.cols
    }
}

kernel! {
    fn cache_scores<'a>(keys: Matrix<'a>, q: &'a [f32], scores: &'a mut [f32], stride: usize) = generic::cache_scores
}
kernel! {
    fn cache_weigh<'a>(
        values: Matrix<'a>, p: &'a [f32], stride: usize, keys: (usize, usize), out: &'a mut [f32]
    ) = generic::cache_weigh
}

/// The kernels themselves, over any instruction set.
mod generic {
    use super::super::math::{exp, load_part, round, store_part};
    use super::{Dtype, Format, LANES, Matrix, RowState, Simd};

    #[inline(always)]
    unsafe fn load<S: Simd>(dtype: Dtype, p: *const u8) -> S::V {
        // SAFETY: the caller's contract.
        unsafe {
            match dtype {
                Dtype::F32 => S::load(p.cast()),
                Dtype::Bf16 => S::load_bf16(p),
                Dtype::F16 => S::load_f16(p),
            }
        }
    }

    fn dtype_of(matrix: Matrix<'_>) -> Dtype {
        match matrix.format {
            Format::Plain(dtype) => dtype,
            Format::Block(_) => unreachable!("a cache is not quantized"),
        }
    }

    #[inline(always)]
    pub(super) unsafe fn widen<S: Simd>(from: Matrix<'_>, to: &mut [f32]) {
        let dtype = dtype_of(from);
        assert!(to.len() == from.rows * from.cols && from.data.len() >= from.rows * from.row_bytes);
        let mut at = 0;
        while at < to.len() {
            // SAFETY: rows are whole multiples of 16 and lie one behind the other.
            unsafe {
                S::store(
                    to.as_mut_ptr().add(at),
                    load::<S>(dtype, from.data.as_ptr().add(at * dtype.size())),
                );
            };
            at += LANES;
        }
    }

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

    #[inline(always)]
    pub(super) unsafe fn cache_scores<S: Simd>(
        keys: Matrix<'_>,
        q: &[f32],
        scores: &mut [f32],
        stride: usize,
    ) {
        let (dtype, width) = (dtype_of(keys), keys.cols);
        let rows = q.len() / width;
        assert!(
            scores.len() >= rows * stride
                && stride >= keys.rows
                && keys.data.len() >= keys.rows * keys.row_bytes
        );
        for j in 0..keys.rows {
            for r in 0..rows {
                // SAFETY: rows of the cache and of `q` are `width`, a multiple of 32.
                unsafe {
                    let key = keys.data.as_ptr().add(j * keys.row_bytes);
                    let q = q.as_ptr().add(r * width);
                    let mut acc = S::splat(0.0);
                    let mut at = 0;
                    while at < width {
                        acc = S::fma(S::load(q.add(at)), load::<S>(dtype, key.add(at * dtype.size())), acc);
                        at += LANES;
                    }
                    scores[r * stride + j] = S::tree_sum(acc) + 0.0;
                }
            }
        }
    }

    #[inline(always)]
    pub(super) unsafe fn cache_weigh<S: Simd>(
        values: Matrix<'_>,
        p: &[f32],
        stride: usize,
        (from, until): (usize, usize),
        out: &mut [f32],
    ) {
        let (dtype, width) = (dtype_of(values), values.cols);
        assert!(until <= values.rows && values.data.len() >= values.rows * values.row_bytes);
        for (r, out) in out.chunks_exact_mut(width).enumerate() {
            let p = &p[r * stride..(r + 1) * stride];
            let mut left = 0;
            while left < width {
                // SAFETY: rows of the cache are `width`, a multiple of 32.
                unsafe {
                    let (mut a, mut b) = (S::splat(0.0), S::splat(0.0));
                    for (j, p) in p.iter().enumerate().take(until).skip(from) {
                        let value = values.data.as_ptr().add(j * values.row_bytes + left * dtype.size());
                        let p = S::splat(*p);
                        a = S::fma(p, load::<S>(dtype, value), a);
                        b = S::fma(p, load::<S>(dtype, value.add(LANES * dtype.size())), b);
                    }
                    S::store(out.as_mut_ptr().add(left), a);
                    S::store(out.as_mut_ptr().add(left + LANES), b);
                }
                left += 2 * LANES;
            }
        }
    }
}
