//! Blocks of sixteen lanes with AVX-512.

use std::arch::x86_64::{
    __m512i, _MM_FROUND_NO_EXC, _MM_FROUND_TO_ZERO, _mm512_abs_epi32, _mm512_add_epi16, _mm512_add_epi32,
    _mm512_and_si512, _mm512_castps_si512, _mm512_cmpeq_epi32_mask, _mm512_cmpge_epu32_mask,
    _mm512_cmplt_epi32_mask, _mm512_cvt_roundepi32_ps, _mm512_cvtepi32_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_madd_epi16, _mm512_mask_add_epi32, _mm512_mask_mov_epi32,
    _mm512_mask_sub_epi32, _mm512_max_epi16, _mm512_max_epi32, _mm512_or_si512, _mm512_rol_epi32,
    _mm512_scalef_round_ps, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_slli_epi32, _mm512_sllv_epi32,
    _mm512_srai_epi32, _mm512_srli_epi32, _mm512_srlv_epi32, _mm512_storeu_ps, _mm512_sub_epi16,
    _mm512_sub_epi32,
};

use super::{LANES, View, ZERO};

const TO_ZERO: i32 = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;

/// See [`View::run`].
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn run<const PAIRS: usize>(view: &View<'_>, fraction_bits: u8, sums: &mut [f32; LANES]) -> u16 {
    let grid = _mm512_set1_epi32(i32::from(fraction_bits));
    let room = _mm512_set1_epi32(i32::from(fraction_bits) - 23);
    let low_half = _mm512_set1_epi32(0xFFFF);
    let none = _mm512_setzero_si512();
    // From this sum of magnitudes on, the sum with the accumulator may leave 31 bits.
    let limit = _mm512_set1_epi32(i32::MAX - (1 << 27));
    // SAFETY: sixteen values.
    let mut sum = unsafe { _mm512_loadu_ps(sums.as_ptr()) };
    let mut lost = 0_u16;
    for at in (0..view.even.len()).step_by(PAIRS) {
        let load = |from: &[[u32; LANES]], i: usize| -> __m512i {
            // SAFETY: `at + i` is a pair of the view, whose slices are of one length, a multiple of `PAIRS`.
            unsafe { _mm512_loadu_si512(from.as_ptr().add(at + i).cast()) }
        };
        let spread = |from: &[u32], i: usize| -> __m512i {
            // SAFETY: as above.
            _mm512_set1_epi32(unsafe { *from.get_unchecked(at + i) }.cast_signed())
        };
        let bits = _mm512_castps_si512(sum);
        let biased = _mm512_and_si512(_mm512_srli_epi32::<23>(bits), _mm512_set1_epi32(255));
        let fraction = _mm512_and_si512(bits, _mm512_set1_epi32(0x7F_FFFF));
        let normal = !_mm512_cmpeq_epi32_mask(biased, none);
        let significand = _mm512_mask_add_epi32(fraction, normal, fraction, _mm512_set1_epi32(1 << 23));
        let exponent =
            _mm512_sub_epi32(_mm512_max_epi32(biased, _mm512_set1_epi32(1)), _mm512_set1_epi32(127));
        let empty = _mm512_cmpeq_epi32_mask(significand, none);
        let exponent = _mm512_mask_mov_epi32(exponent, empty, _mm512_set1_epi32(2 * i32::from(ZERO)));
        let old_exponents =
            _mm512_or_si512(_mm512_and_si512(exponent, low_half), _mm512_slli_epi32::<16>(exponent));
        let mut largest = old_exponents;
        let mut exponents = [none; PAIRS];
        for (i, of_pair) in exponents.iter_mut().enumerate() {
            *of_pair = _mm512_add_epi16(spread(view.row_exponents, i), load(view.exponents, i));
            largest = _mm512_max_epi16(largest, *of_pair);
        }
        largest = _mm512_max_epi16(largest, _mm512_rol_epi32::<16>(largest));
        let (mut all, mut negative) = (none, none);
        for (i, of_pair) in exponents.iter().enumerate() {
            let weights = load(view.significands, i);
            let shift = _mm512_sub_epi16(largest, *of_pair);
            let even = _mm512_madd_epi16(weights, spread(view.even, i));
            let odd = _mm512_madd_epi16(weights, spread(view.odd, i));
            let x = _mm512_srlv_epi32(_mm512_abs_epi32(even), _mm512_and_si512(shift, low_half));
            let y = _mm512_srlv_epi32(_mm512_abs_epi32(odd), _mm512_srli_epi32::<16>(shift));
            all = _mm512_add_epi32(all, _mm512_add_epi32(x, y));
            negative = _mm512_mask_add_epi32(negative, _mm512_cmplt_epi32_mask(even, none), negative, x);
            negative = _mm512_mask_add_epi32(negative, _mm512_cmplt_epi32_mask(odd, none), negative, y);
        }
        lost |= _mm512_cmpge_epu32_mask(all, limit);
        let shift = _mm512_and_si512(_mm512_sub_epi16(largest, old_exponents), low_half);
        let old = _mm512_srlv_epi32(_mm512_sllv_epi32(significand, room), shift);
        let total = _mm512_sub_epi32(all, _mm512_slli_epi32::<1>(negative));
        let below = _mm512_cmplt_epi32_mask(bits, none);
        let total = _mm512_mask_sub_epi32(_mm512_add_epi32(total, old), below, total, old);
        let power = _mm512_sub_epi32(_mm512_srai_epi32::<16>(largest), grid);
        let value = _mm512_cvt_roundepi32_ps::<TO_ZERO>(total);
        sum = _mm512_scalef_round_ps::<TO_ZERO>(value, _mm512_cvtepi32_ps(power));
    }
    // SAFETY: sixteen values.
    unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), sum) };
    lost
}
