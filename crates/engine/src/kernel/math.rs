//! Functions over sixteen lanes that no instruction computes.

use crate::simd::Simd;

/// `e^x`.
///
/// *Rounding:* `n = nearest(x · log2 e)`, `r = x − n · ln 2` in two fused steps, a polynomial of degree seven in `r`
/// in fused steps (coefficients of Cephes' `expf`), one scaling by `2^n`; within 1.5 ULP of `e^x` (the tests measure
/// it). Below −104 the result is 0, above 89 it is infinite; a NaN stays one.
///
/// # Safety
/// As [`Simd`]'s.
#[inline(always)]
#[expect(
    clippy::excessive_precision,
    reason = "the coefficient as Cephes prints it; it is exact in binary32"
)]
pub(crate) unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's contract.
    unsafe {
        let x = S::min(S::splat(89.0), S::max(S::splat(-104.0), x));
        let n = S::nearest(S::mul(x, S::splat(std::f32::consts::LOG2_E)));
        let r = S::fma(n, S::splat(-0.693_359_375), x);
        let r = S::fma(n, S::splat(2.121_944_4e-4), r);
        let p = S::splat(1.987_569_1e-4);
        let p = S::fma(p, r, S::splat(1.398_2e-3));
        let p = S::fma(p, r, S::splat(8.333_452e-3));
        let p = S::fma(p, r, S::splat(4.166_579_6e-2));
        let p = S::fma(p, r, S::splat(0.166_666_65));
        let p = S::fma(p, r, S::splat(0.5));
        let p = S::fma(S::mul(r, r), p, r);
        S::scale2(S::add(p, S::splat(1.0)), n)
    }
}

/// Rounds to a storage format.
///
/// # Safety
/// As [`Simd`]'s.
#[inline(always)]
pub(crate) unsafe fn round<S: Simd>(dtype: mantissa_numerics::Dtype, v: S::V) -> S::V {
    // SAFETY: the caller's contract.
    unsafe {
        match dtype {
            mantissa_numerics::Dtype::F32 => v,
            mantissa_numerics::Dtype::Bf16 => S::round_bf16(v),
            mantissa_numerics::Dtype::F16 => S::round_f16(v),
        }
    }
}

/// Reads `count ≤ 16` values, the other lanes `fill`.
///
/// # Safety
/// As [`Simd`]'s; `p` is valid for `count` values.
#[inline(always)]
pub(crate) unsafe fn load_part<S: Simd>(p: *const f32, count: usize, fill: f32) -> S::V {
    // SAFETY: the caller's contract.
    unsafe {
        if count == crate::simd::LANES {
            return S::load(p);
        }
        let mut lanes = [fill; crate::simd::LANES];
        std::ptr::copy_nonoverlapping(p, lanes.as_mut_ptr(), count);
        S::load(lanes.as_ptr())
    }
}

/// Writes the first `count ≤ 16` lanes.
///
/// # Safety
/// As [`Simd`]'s; `p` is valid for `count` values.
#[inline(always)]
pub(crate) unsafe fn store_part<S: Simd>(p: *mut f32, count: usize, v: S::V) {
    // SAFETY: the caller's contract.
    unsafe {
        if count == crate::simd::LANES {
            return S::store(p, v);
        }
        let mut lanes = [0.0; crate::simd::LANES];
        S::store(lanes.as_mut_ptr(), v);
        std::ptr::copy_nonoverlapping(lanes.as_ptr(), p, count);
    }
}

/// Adds the closing `+ 0` and rounds, when the sum is complete.
///
/// # Safety
/// As [`Simd`]'s.
#[inline(always)]
pub(crate) unsafe fn finish<S: Simd>(v: S::V, round: Option<mantissa_numerics::Dtype>) -> S::V {
    // SAFETY: the caller's contract.
    unsafe {
        match round {
            None => v,
            Some(mantissa_numerics::Dtype::F32) => S::add(v, S::splat(0.0)),
            Some(mantissa_numerics::Dtype::Bf16) => S::round_bf16(S::add(v, S::splat(0.0))),
            Some(mantissa_numerics::Dtype::F16) => S::round_f16(S::add(v, S::splat(0.0))),
        }
    }
}
