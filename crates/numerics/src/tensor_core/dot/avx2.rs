//! Blocks of eight lanes with AVX2, twice.

use std::arch::x86_64::{
    __m256i, _mm256_abs_epi32, _mm256_add_epi16, _mm256_add_epi32, _mm256_add_epi64, _mm256_and_pd,
    _mm256_and_si256, _mm256_andnot_si256, _mm256_blendv_epi8, _mm256_castps_si256, _mm256_castsi256_pd,
    _mm256_castsi256_ps, _mm256_castsi256_si128, _mm256_cmpeq_epi32, _mm256_cmpgt_epi32,
    _mm256_cvtepi32_epi64, _mm256_cvtepi32_pd, _mm256_cvtpd_ps, _mm256_extracti128_si256, _mm256_loadu_ps,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_max_epi16, _mm256_max_epi32, _mm256_movemask_ps,
    _mm256_mul_pd, _mm256_or_si256, _mm256_set_m128, _mm256_set1_epi32, _mm256_set1_epi64x,
    _mm256_setzero_si256, _mm256_sign_epi32, _mm256_slli_epi32, _mm256_slli_epi64, _mm256_sllv_epi32,
    _mm256_srai_epi32, _mm256_srli_epi32, _mm256_srlv_epi32, _mm256_storeu_ps, _mm256_sub_epi16,
    _mm256_sub_epi32, _mm256_xor_si256,
};

use super::{LANES, View, ZERO};

/// See [`View::run`].
#[target_feature(enable = "avx2")]
pub(super) fn run<const PAIRS: usize>(view: &View<'_>, fraction_bits: u8, sums: &mut [f32; LANES]) -> u16 {
    let (low, high) = sums.split_at_mut(8);
    let low = half::<PAIRS>(view, fraction_bits, 0, low);
    let high = half::<PAIRS>(view, fraction_bits, 8, high);
    u16::from(low) | u16::from(high) << 8
}

/// Lanes `first..first + 8`.
#[target_feature(enable = "avx2")]
fn half<const PAIRS: usize>(view: &View<'_>, fraction_bits: u8, first: usize, sums: &mut [f32]) -> u8 {
    assert_eq!(sums.len(), 8);
    let grid = _mm256_set1_epi32(i32::from(fraction_bits));
    let room = _mm256_set1_epi32(i32::from(fraction_bits) - 23);
    let low_half = _mm256_set1_epi32(0xFFFF);
    let none = _mm256_setzero_si256();
    // SAFETY: eight values.
    let mut sum = unsafe { _mm256_loadu_ps(sums.as_ptr()) };
    let mut lost = none;
    for at in (0..view.even.len()).step_by(PAIRS) {
        let load = |from: &[[u32; LANES]], i: usize| -> __m256i {
            // SAFETY: `at + i` is a pair of the view, whose slices are of one length, a multiple of `PAIRS`; `first` is 0 or 8.
            unsafe { _mm256_loadu_si256(from.as_ptr().add(at + i).cast::<u32>().add(first).cast()) }
        };
        let spread = |from: &[u32], i: usize| -> __m256i {
            // SAFETY: as above.
            _mm256_set1_epi32(unsafe { *from.get_unchecked(at + i) }.cast_signed())
        };
        let bits = _mm256_castps_si256(sum);
        let biased = _mm256_and_si256(_mm256_srli_epi32::<23>(bits), _mm256_set1_epi32(255));
        let fraction = _mm256_and_si256(bits, _mm256_set1_epi32(0x7F_FFFF));
        let hidden = _mm256_andnot_si256(_mm256_cmpeq_epi32(biased, none), _mm256_set1_epi32(1 << 23));
        let significand = _mm256_or_si256(fraction, hidden);
        let exponent =
            _mm256_sub_epi32(_mm256_max_epi32(biased, _mm256_set1_epi32(1)), _mm256_set1_epi32(127));
        let empty = _mm256_cmpeq_epi32(significand, none);
        let exponent = _mm256_blendv_epi8(exponent, _mm256_set1_epi32(2 * i32::from(ZERO)), empty);
        let old_exponents =
            _mm256_or_si256(_mm256_and_si256(exponent, low_half), _mm256_slli_epi32::<16>(exponent));
        let mut largest = old_exponents;
        let mut exponents = [none; PAIRS];
        for (i, of_pair) in exponents.iter_mut().enumerate() {
            *of_pair = _mm256_add_epi16(spread(view.row_exponents, i), load(view.exponents, i));
            largest = _mm256_max_epi16(largest, *of_pair);
        }
        let turned = _mm256_or_si256(_mm256_slli_epi32::<16>(largest), _mm256_srli_epi32::<16>(largest));
        largest = _mm256_max_epi16(largest, turned);
        // Two sums that cannot leave 31 bits.
        let (mut evens, mut odds) = (none, none);
        for (i, of_pair) in exponents.iter().enumerate() {
            let weights = load(view.significands, i);
            let shift = _mm256_sub_epi16(largest, *of_pair);
            let even = _mm256_madd_epi16(weights, spread(view.even, i));
            let odd = _mm256_madd_epi16(weights, spread(view.odd, i));
            let x = _mm256_srlv_epi32(_mm256_abs_epi32(even), _mm256_and_si256(shift, low_half));
            let y = _mm256_srlv_epi32(_mm256_abs_epi32(odd), _mm256_srli_epi32::<16>(shift));
            evens = _mm256_add_epi32(evens, _mm256_sign_epi32(x, even));
            odds = _mm256_add_epi32(odds, _mm256_sign_epi32(y, odd));
        }
        let shift = _mm256_and_si256(_mm256_sub_epi16(largest, old_exponents), low_half);
        let old = _mm256_srlv_epi32(_mm256_sllv_epi32(significand, room), shift);
        // The sign of the accumulator, made odd so that it is never 0.
        let sign = _mm256_or_si256(bits, _mm256_set1_epi32(1));
        evens = _mm256_add_epi32(evens, _mm256_sign_epi32(old, sign));
        let total = _mm256_add_epi32(evens, odds);
        let left = _mm256_and_si256(_mm256_xor_si256(total, evens), _mm256_xor_si256(total, odds));
        let largest = _mm256_srai_epi32::<16>(largest);
        let power = _mm256_sub_epi32(largest, grid);
        // Results that may be subnormal: exact in binary64 below, but rounded once too often.
        let small = _mm256_cmpgt_epi32(_mm256_set1_epi32(-100), largest);
        let small = _mm256_andnot_si256(_mm256_cmpeq_epi32(total, none), small);
        lost = _mm256_or_si256(lost, _mm256_or_si256(left, small));
        sum = scaled(total, _mm256_max_epi32(power, _mm256_set1_epi32(-1000)));
    }
    // SAFETY: eight values.
    unsafe { _mm256_storeu_ps(sums.as_mut_ptr(), sum) };
    u8::try_from(_mm256_movemask_ps(_mm256_castsi256_ps(lost))).unwrap_or(u8::MAX)
}

/// `value · 2^power`, cut to 24 bits: exact in binary64, then its last 29 bits are cleared.
#[target_feature(enable = "avx2")]
fn scaled(value: __m256i, power: __m256i) -> std::arch::x86_64::__m256 {
    let keep = _mm256_castsi256_pd(_mm256_set1_epi64x(!((1 << 29) - 1)));
    let bias = _mm256_set1_epi64x(1023);
    let quarter = |value: std::arch::x86_64::__m128i, power: std::arch::x86_64::__m128i| {
        let scale = _mm256_slli_epi64::<52>(_mm256_add_epi64(_mm256_cvtepi32_epi64(power), bias));
        let exact = _mm256_mul_pd(_mm256_cvtepi32_pd(value), _mm256_castsi256_pd(scale));
        _mm256_cvtpd_ps(_mm256_and_pd(exact, keep))
    };
    let low = quarter(_mm256_castsi256_si128(value), _mm256_castsi256_si128(power));
    let high = quarter(_mm256_extracti128_si256::<1>(value), _mm256_extracti128_si256::<1>(power));
    _mm256_set_m128(high, low)
}
