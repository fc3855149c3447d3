//! What every instruction set offers: the primitives kernels are made of.

/// Lanes of one [`Simd::V`].
pub(crate) const LANES: usize = 16;

/// The primitives kernels are made of.
///
/// # Safety
/// Every method may be called only on a machine where the implementing instruction set is available, with pointers
/// valid for the stated number of elements (no alignment needed).
pub(crate) trait Simd: Copy + 'static {
    /// Sixteen binary32 lanes.
    type V: Copy;
    /// Whether registers hold twenty-four accumulators.
    const WIDE: bool;

    /// Asks for the cache line at `p`, which need not be valid.
    unsafe fn prefetch(_p: *const u8) {}

    unsafe fn splat(x: f32) -> Self::V;
    /// Reads 16 binary32 values.
    unsafe fn load(p: *const f32) -> Self::V;
    /// Reads 16 bfloat16 values, widened.
    unsafe fn load_bf16(p: *const u8) -> Self::V;
    /// Reads 16 binary16 values, widened.
    unsafe fn load_f16(p: *const u8) -> Self::V;
    /// Reads 16 signed bytes as numbers.
    unsafe fn load_i8(p: *const u8) -> Self::V;
    /// Reads 16 bytes and looks up in `table` their low nibbles and their high nibbles.
    unsafe fn nibbles(table: Self::V, p: *const u8) -> (Self::V, Self::V);
    /// `(nibble | two bits of high << 4) − 32` as numbers: Q6_K's values. `HIGH` picks the nibble of `low`, `SHIFT`
    /// the bits of `high`; 16 bytes are read from each.
    unsafe fn load_q6<const HIGH: bool, const SHIFT: u32>(low: *const u8, high: *const u8) -> Self::V;
    /// Reads one binary16 value and widens it into every lane.
    unsafe fn splat_f16(p: *const u8) -> Self::V;
    /// Reads two binary16 values at `a` and two at `b` and widens each into every lane of its own vector.
    unsafe fn splat_f16x4(a: *const u8, b: *const u8) -> [Self::V; 4];
    /// Writes 16 binary32 values.
    unsafe fn store(p: *mut f32, v: Self::V);
    /// Writes 16 bfloat16 values; lanes hold values already rounded to it.
    unsafe fn store_bf16(p: *mut u16, v: Self::V);
    /// Writes 16 binary16 values; lanes hold values already rounded to it.
    unsafe fn store_f16(p: *mut u16, v: Self::V);

    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c` with one rounding.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a > b ? a : b`: `b` when either is a NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// `a < b ? a : b`: `b` when either is a NaN.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// Nearest integer, ties to even.
    unsafe fn nearest(a: Self::V) -> Self::V;
    /// `a · 2^n`, rounded once, for integral `n` in −160..=160 and `a` in 0.5..=2.
    unsafe fn scale2(a: Self::V, n: Self::V) -> Self::V;
    /// [`mantissa_numerics::Dtype::round`] to bfloat16.
    unsafe fn round_bf16(a: Self::V) -> Self::V;
    /// [`mantissa_numerics::Dtype::round`] to binary16.
    unsafe fn round_f16(a: Self::V) -> Self::V;
    /// The halving tree: `a[i] += a[i + half]` for `half = 8, 4, 2, 1`.
    unsafe fn tree_sum(a: Self::V) -> f32;
    /// Transposes 16 rows of 16 read at `from` (row stride `stride`) to `to` (row stride `to_stride`).
    unsafe fn transpose16(from: *const f32, stride: usize, to: *mut f32, to_stride: usize);
}
