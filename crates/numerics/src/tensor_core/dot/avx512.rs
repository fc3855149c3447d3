//! Blocks of sixteen lanes with AVX-512.

use std::arch::x86_64::{
    __m512i, _MM_FROUND_NO_EXC, _MM_FROUND_TO_ZERO, _mm_setr_epi8, _mm512_add_epi16, _mm512_add_epi32,
    _mm512_and_si512, _mm512_broadcast_i32x4, _mm512_castps_si512, _mm512_cmpeq_epi32_mask,
    _mm512_cmplt_epi32_mask, _mm512_cvt_roundepi32_ps, _mm512_cvtepi32_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_madd_epi16, _mm512_maddubs_epi16, _mm512_mask_add_epi32,
    _mm512_mask_mov_epi32, _mm512_mask_sub_epi32, _mm512_max_epi16, _mm512_max_epi32, _mm512_or_si512,
    _mm512_rol_epi32, _mm512_scalef_round_ps, _mm512_set1_epi8, _mm512_set1_epi16, _mm512_set1_epi32,
    _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_shuffle_i32x4, _mm512_slli_epi32, _mm512_sllv_epi32,
    _mm512_srai_epi32, _mm512_srav_epi32, _mm512_srli_epi32, _mm512_srlv_epi32, _mm512_storeu_ps,
    _mm512_storeu_si512, _mm512_sub_epi16, _mm512_sub_epi32, _mm512_ternarylogic_epi32,
    _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
    _mm512_xor_si512,
};

use super::{LANES, Panel, Parts, Row, ZERO, fill};
use crate::tensor_core::BlockRecipe;

const TO_ZERO: i32 = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;

/// See [`Parts`].
///
/// # Safety
/// Rows and panel hold the same whole blocks: `PAIRS` exponents and twice as many elements for each of signs.
#[expect(clippy::needless_range_loop, reason = "pairs and rows number several arrays at once")]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn run<const PAIRS: usize, const ROWS: usize>(
    rows: &[Parts<'_, u32>; ROWS],
    panel: &Parts<'_, [u32; LANES]>,
    fraction_bits: u8,
    sums: &mut [[f32; LANES]; ROWS],
) -> [u16; ROWS] {
    let grid = _mm512_set1_epi32(i32::from(fraction_bits));
    let room = _mm512_set1_epi32(i32::from(fraction_bits) - 23);
    let low_half = _mm512_set1_epi32(0xFFFF);
    let one = _mm512_set1_epi16(1);
    let none = _mm512_setzero_si512();
    // Bits of a number below 16.
    let ones = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    let load = |from: &[[u32; LANES]], at: usize| -> __m512i {
        // SAFETY: within the slices, as the caller holds.
        unsafe { _mm512_loadu_si512(from.as_ptr().add(at).cast()) }
    };
    let spread = |from: &[u32], at: usize| -> __m512i {
        // SAFETY: as above.
        _mm512_set1_epi32(unsafe { *from.get_unchecked(at) }.cast_signed())
    };
    // SAFETY: sixteen values.
    let mut sum = sums.each_ref().map(|sums| unsafe { _mm512_loadu_ps(sums.as_ptr()) });
    let mut lost = [none; ROWS];
    for at in 0..panel.signs.len() {
        let mut largest = [_mm512_set1_epi32(i32::from(i16::MIN) << 16 | 0x8000); ROWS];
        let mut exponents = [[none; PAIRS]; ROWS];
        for i in 0..PAIRS {
            let of_panel = load(panel.exponents, at * PAIRS + i);
            for r in 0..ROWS {
                exponents[r][i] = _mm512_add_epi16(spread(rows[r].exponents, at * PAIRS + i), of_panel);
                largest[r] = _mm512_max_epi16(largest[r], exponents[r][i]);
            }
        }
        let mut old = [none; ROWS];
        let mut shifts = [none; ROWS];
        for r in 0..ROWS {
            let bits = _mm512_castps_si512(sum[r]);
            let biased = _mm512_and_si512(_mm512_srli_epi32::<23>(bits), _mm512_set1_epi32(255));
            let fraction = _mm512_and_si512(bits, _mm512_set1_epi32(0x7F_FFFF));
            let normal = !_mm512_cmpeq_epi32_mask(biased, none);
            let significand = _mm512_mask_add_epi32(fraction, normal, fraction, _mm512_set1_epi32(1 << 23));
            let exponent =
                _mm512_sub_epi32(_mm512_max_epi32(biased, _mm512_set1_epi32(1)), _mm512_set1_epi32(127));
            let empty = _mm512_cmpeq_epi32_mask(significand, none);
            let exponent = _mm512_mask_mov_epi32(exponent, empty, _mm512_set1_epi32(2 * i32::from(ZERO)));
            let both =
                _mm512_or_si512(_mm512_and_si512(exponent, low_half), _mm512_slli_epi32::<16>(exponent));
            largest[r] = _mm512_max_epi16(largest[r], _mm512_rol_epi32::<16>(largest[r]));
            largest[r] = _mm512_max_epi16(largest[r], both);
            // Products are doubled.
            shifts[r] = _mm512_add_epi16(largest[r], one);
            let shift = _mm512_and_si512(_mm512_sub_epi16(largest[r], both), low_half);
            let magnitude = _mm512_srlv_epi32(_mm512_sllv_epi32(significand, room), shift);
            let below = _mm512_cmplt_epi32_mask(bits, none);
            old[r] = _mm512_mask_sub_epi32(magnitude, below, none, magnitude);
        }
        let (mut evens, mut odds) = ([none; ROWS], [none; ROWS]);
        for i in 0..PAIRS {
            let k = 2 * (at * PAIRS + i);
            let (even, odd) = (load(panel.elements, k), load(panel.elements, k + 1));
            for r in 0..ROWS {
                let shift = _mm512_sub_epi16(shifts[r], exponents[r][i]);
                let x = _mm512_madd_epi16(even, spread(rows[r].elements, k));
                let y = _mm512_madd_epi16(odd, spread(rows[r].elements, k + 1));
                let x = _mm512_srav_epi32(x, _mm512_and_si512(shift, low_half));
                let y = _mm512_srav_epi32(y, _mm512_srli_epi32::<16>(shift));
                evens[r] = _mm512_add_epi32(evens[r], x);
                odds[r] = _mm512_add_epi32(odds[r], y);
            }
        }
        let signs = load(panel.signs, at);
        for r in 0..ROWS {
            let negative = _mm512_shuffle_epi8(ones, _mm512_xor_si512(signs, spread(rows[r].signs, at)));
            let negative = _mm512_madd_epi16(_mm512_maddubs_epi16(negative, _mm512_set1_epi8(1)), one);
            // Cannot leave 31 bits, unlike the sum with the accumulator.
            let products = _mm512_add_epi32(_mm512_add_epi32(evens[r], odds[r]), negative);
            let total = _mm512_add_epi32(products, old[r]);
            // (total ^ products) & (total ^ old)
            let left = _mm512_ternarylogic_epi32::<0x18>(total, products, old[r]);
            lost[r] = _mm512_or_si512(lost[r], left);
            let power = _mm512_sub_epi32(_mm512_srai_epi32::<16>(largest[r]), grid);
            let value = _mm512_cvt_roundepi32_ps::<TO_ZERO>(total);
            sum[r] = _mm512_scalef_round_ps::<TO_ZERO>(value, _mm512_cvtepi32_ps(power));
        }
    }
    for (sums, sum) in sums.iter_mut().zip(sum) {
        // SAFETY: sixteen values.
        unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), sum) };
    }
    lost.map(|lost| _mm512_cmplt_epi32_mask(lost, none))
}

/// Fills a panel; see [`fill::panel`].
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn fill(panel: &mut Panel, recipe: BlockRecipe, from: &impl fill::Source) -> u32 {
    fill::panel(panel, recipe, from, |rows| transposed(rows))
}

/// Fills a row; see [`fill::row`].
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn fill_row(row: &mut Row, recipe: BlockRecipe, x: &[f32]) -> u32 {
    fill::row(row, recipe, x)
}

/// [`fill::transposed`] in registers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn transposed(rows: &[&[u8; 4 * LANES]; LANES]) -> fill::Pairs {
    // SAFETY: 64 bytes.
    let row = |i: usize| unsafe { _mm512_loadu_si512(rows[i].as_ptr().cast()) };
    // Rows 4g..4g + 4 of pairs i + 4j in quarter j: `fours[4g + i]`.
    let mut fours = [_mm512_setzero_si512(); LANES];
    for g in 0..4 {
        let [a, b, c, d] = [row(4 * g), row(4 * g + 1), row(4 * g + 2), row(4 * g + 3)];
        let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        fours[4 * g] = _mm512_unpacklo_epi64(ab_low, cd_low);
        fours[4 * g + 1] = _mm512_unpackhi_epi64(ab_low, cd_low);
        fours[4 * g + 2] = _mm512_unpacklo_epi64(ab_high, cd_high);
        fours[4 * g + 3] = _mm512_unpackhi_epi64(ab_high, cd_high);
    }
    let mut pairs = [[0; LANES]; LANES];
    for i in 0..4 {
        let [a, b, c, d] = [fours[i], fours[4 + i], fours[8 + i], fours[12 + i]];
        let (ab_low, ab_high) = (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0xEE>(a, b));
        let (cd_low, cd_high) = (_mm512_shuffle_i32x4::<0x44>(c, d), _mm512_shuffle_i32x4::<0xEE>(c, d));
        let found = [
            _mm512_shuffle_i32x4::<0x88>(ab_low, cd_low),
            _mm512_shuffle_i32x4::<0xDD>(ab_low, cd_low),
            _mm512_shuffle_i32x4::<0x88>(ab_high, cd_high),
            _mm512_shuffle_i32x4::<0xDD>(ab_high, cd_high),
        ];
        for (j, found) in found.into_iter().enumerate() {
            // SAFETY: sixteen values.
            unsafe { _mm512_storeu_si512(pairs[4 * j + i].as_mut_ptr().cast(), found) };
        }
    }
    pairs
}
