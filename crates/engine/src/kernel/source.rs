//! The two matrix products of the engine's attention: over panels, or over a cache's rows as they lie.

use mantissa_numerics::Dtype;

use super::chain::{K_BLOCK, PackedRows, fill_panel, sweep_panel};
use super::format::UNIT;
use super::matrix::{Format, Matrix, PANEL};
use crate::pool::{Buffer, Pool};
use crate::simd::{Isa, LANES, Simd, kernel};

/// The two matrix products of attention, for one KV head and some query rows.
pub(super) trait Source {
    /// `scores[r · stride + j] = q[r] · key[j]` for every key; `stride ≥` the number of keys rounded up to 32.
    fn scores(&self, q: &[f32], rows: usize, scores: &mut [f32], stride: usize);
    /// `out[r] = Σ p[r, j] · value[j]` over the keys `from..until`, an `fma` chain; `out` rows `values_stride` apart.
    fn weigh(&self, p: &[f32], stride: usize, rows: usize, keys: (usize, usize), out: &mut [f32]);
    fn keys(&self) -> usize;
    fn values_stride(&self) -> usize;
}

/// Keys and values as panels: sums over the head are one chain. What prefill does.
pub(super) struct Panels<'a> {
    isa: Isa,
    pool: &'a Pool,
    dim: usize,
    keys: Matrix<'a>,
    /// Values widened to binary32, `keys × stride`.
    values: Buffer<'a>,
    stride: usize,
}

impl<'a> Panels<'a> {
    pub(super) fn new(isa: Isa, pool: &'a Pool, dim: usize, keys: Matrix<'a>, values: Matrix<'_>) -> Self {
        let mut wide = pool.buffer(values.rows * values.cols);
        widened(isa, values, &mut wide);
        Self { isa, pool, dim, keys, values: wide, stride: values.cols }
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
        self.stride
    }
}

/// Keys and values straight from the cache: sums over the head are 16 lanes. What decode does.
pub(super) struct CacheRows<'a> {
    pub isa: Isa,
    pub pool: &'a Pool,
    pub keys: Matrix<'a>,
    pub values: Matrix<'a>,
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
        self.values.cols
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
    use super::{Dtype, Format, LANES, Matrix, Simd};

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
