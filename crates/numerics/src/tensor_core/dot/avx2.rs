//! Blocks of eight lanes with AVX2, twice.

use std::arch::x86_64::{
    __m256i, _mm_setr_epi8, _mm256_abs_epi32, _mm256_add_epi16, _mm256_add_epi32, _mm256_and_si256,
    _mm256_andnot_si256, _mm256_blendv_epi8, _mm256_broadcastsi128_si256, _mm256_castps_si256,
    _mm256_castsi256_ps, _mm256_cmpeq_epi32, _mm256_cmpgt_epi32, _mm256_cvtepi32_ps, _mm256_loadu_ps,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_max_epi16, _mm256_max_epi32,
    _mm256_movemask_ps, _mm256_mul_ps, _mm256_or_ps, _mm256_or_si256, _mm256_permute2x128_si256,
    _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_shuffle_epi8,
    _mm256_sign_epi32, _mm256_slli_epi32, _mm256_sllv_epi32, _mm256_srai_epi32, _mm256_srav_epi32,
    _mm256_srli_epi32, _mm256_srlv_epi32, _mm256_storeu_ps, _mm256_storeu_si256, _mm256_sub_epi16,
    _mm256_sub_epi32, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64, _mm256_unpacklo_epi32,
    _mm256_unpacklo_epi64, _mm256_xor_si256,
};

use super::fill;
use super::operands::{LANES, Panel, Parts, Row, ZERO};
use crate::tensor_core::BlockRecipe;

/// See [`Parts`].
///
/// # Safety
/// Rows and panel hold the same whole blocks: `PAIRS` exponents and twice as many elements for each of signs.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn run<const PAIRS: usize, const ROWS: usize>(
    rows: &[Parts<'_, u32, u32>; ROWS],
    panel: &Parts<'_, [u32; LANES], [u32; LANES]>,
    fraction_bits: u8,
    sums: &mut [[f32; LANES]; ROWS],
) -> [u16; ROWS] {
    // SAFETY: as the caller holds.
    let low = unsafe { half::<PAIRS, ROWS, 0>(rows, panel, fraction_bits, sums) };
    // SAFETY: as above.
    let high = unsafe { half::<PAIRS, ROWS, 8>(rows, panel, fraction_bits, sums) };
    std::array::from_fn(|r| u16::from(low[r]) | u16::from(high[r]) << 8)
}

/// Lanes `FIRST..FIRST + 8`.
///
/// # Safety
/// As [`run`]; `FIRST` is 0 or 8.
#[expect(clippy::needless_range_loop, reason = "pairs and rows number several arrays at once")]
#[target_feature(enable = "avx2")]
unsafe fn half<const PAIRS: usize, const ROWS: usize, const FIRST: usize>(
    rows: &[Parts<'_, u32, u32>; ROWS],
    panel: &Parts<'_, [u32; LANES], [u32; LANES]>,
    fraction_bits: u8,
    sums: &mut [[f32; LANES]; ROWS],
) -> [u8; ROWS] {
    // What makes a power of two of an exponent on the grid.
    let bias = _mm256_set1_epi32(127 - i32::from(fraction_bits));
    let room = _mm256_set1_epi32(i32::from(fraction_bits) - 23);
    let low_half = _mm256_set1_epi32(0xFFFF);
    let one = _mm256_set1_epi16(1);
    let none = _mm256_setzero_si256();
    // Bits of a number below 16.
    let ones = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    let load = |from: &[[u32; LANES]], at: usize| -> __m256i {
        // SAFETY: within the slices, as the caller holds.
        unsafe { _mm256_loadu_si256(from.as_ptr().add(at).cast::<u32>().add(FIRST).cast()) }
    };
    let spread = |from: &[u32], at: usize| -> __m256i {
        // SAFETY: as above.
        _mm256_set1_epi32(unsafe { *from.get_unchecked(at) }.cast_signed())
    };
    // SAFETY: eight values from `FIRST` on.
    let mut sum = sums.each_ref().map(|sums| unsafe { _mm256_loadu_ps(sums.as_ptr().add(FIRST)) });
    let mut lost = [none; ROWS];
    for at in 0..panel.signs.len() {
        let mut largest = [_mm256_set1_epi32(i32::from(i16::MIN) << 16 | 0x8000); ROWS];
        let mut exponents = [[none; PAIRS]; ROWS];
        for i in 0..PAIRS {
            let of_panel = load(panel.exponents, at * PAIRS + i);
            for r in 0..ROWS {
                exponents[r][i] = _mm256_add_epi16(spread(rows[r].exponents, at * PAIRS + i), of_panel);
                largest[r] = _mm256_max_epi16(largest[r], exponents[r][i]);
            }
        }
        let mut old = [none; ROWS];
        let mut shifts = [none; ROWS];
        for r in 0..ROWS {
            let bits = _mm256_castps_si256(sum[r]);
            let biased = _mm256_and_si256(_mm256_srli_epi32::<23>(bits), _mm256_set1_epi32(255));
            let fraction = _mm256_and_si256(bits, _mm256_set1_epi32(0x7F_FFFF));
            let hidden = _mm256_andnot_si256(_mm256_cmpeq_epi32(biased, none), _mm256_set1_epi32(1 << 23));
            let significand = _mm256_or_si256(fraction, hidden);
            let exponent =
                _mm256_sub_epi32(_mm256_max_epi32(biased, _mm256_set1_epi32(1)), _mm256_set1_epi32(127));
            let empty = _mm256_cmpeq_epi32(significand, none);
            let exponent = _mm256_blendv_epi8(exponent, _mm256_set1_epi32(2 * i32::from(ZERO)), empty);
            let both =
                _mm256_or_si256(_mm256_and_si256(exponent, low_half), _mm256_slli_epi32::<16>(exponent));
            let turned =
                _mm256_or_si256(_mm256_slli_epi32::<16>(largest[r]), _mm256_srli_epi32::<16>(largest[r]));
            largest[r] = _mm256_max_epi16(_mm256_max_epi16(largest[r], turned), both);
            // Products are doubled.
            shifts[r] = _mm256_add_epi16(largest[r], one);
            let shift = _mm256_and_si256(_mm256_sub_epi16(largest[r], both), low_half);
            let magnitude = _mm256_srlv_epi32(_mm256_sllv_epi32(significand, room), shift);
            // The sign of the accumulator, made odd so that it is never 0.
            old[r] = _mm256_sign_epi32(magnitude, _mm256_or_si256(bits, _mm256_set1_epi32(1)));
        }
        let (mut evens, mut odds) = ([none; ROWS], [none; ROWS]);
        for i in 0..PAIRS {
            let k = 2 * (at * PAIRS + i);
            let (even, odd) = (load(panel.elements, k), load(panel.elements, k + 1));
            for r in 0..ROWS {
                let shift = _mm256_sub_epi16(shifts[r], exponents[r][i]);
                let x = _mm256_madd_epi16(even, spread(rows[r].elements, k));
                let y = _mm256_madd_epi16(odd, spread(rows[r].elements, k + 1));
                let x = _mm256_srav_epi32(x, _mm256_and_si256(shift, low_half));
                let y = _mm256_srav_epi32(y, _mm256_srli_epi32::<16>(shift));
                evens[r] = _mm256_add_epi32(evens[r], x);
                odds[r] = _mm256_add_epi32(odds[r], y);
            }
        }
        let signs = load(panel.signs, at);
        for r in 0..ROWS {
            let negative = _mm256_shuffle_epi8(ones, _mm256_xor_si256(signs, spread(rows[r].signs, at)));
            let negative = _mm256_madd_epi16(_mm256_maddubs_epi16(negative, _mm256_set1_epi8(1)), one);
            // Cannot leave 31 bits, unlike the sum with the accumulator.
            let products = _mm256_add_epi32(_mm256_add_epi32(evens[r], odds[r]), negative);
            let total = _mm256_add_epi32(products, old[r]);
            let left = _mm256_and_si256(_mm256_xor_si256(total, products), _mm256_xor_si256(total, old[r]));
            let exponent = _mm256_srai_epi32::<16>(largest[r]);
            // Results that may be subnormal.
            let small = _mm256_cmpgt_epi32(_mm256_set1_epi32(-100), exponent);
            let small = _mm256_andnot_si256(_mm256_cmpeq_epi32(total, none), small);
            lost[r] = _mm256_or_si256(lost[r], _mm256_or_si256(left, small));
            // Without the bit that decides on rounding, where there are more than 24, to nearest is towards zero.
            let magnitude = _mm256_abs_epi32(total);
            let cut = _mm256_andnot_si256(_mm256_srli_epi32::<24>(magnitude), magnitude);
            let power = _mm256_max_epi32(_mm256_add_epi32(exponent, bias), _mm256_set1_epi32(1));
            let scale = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(power));
            let value = _mm256_mul_ps(_mm256_cvtepi32_ps(cut), scale);
            let sign = _mm256_and_si256(total, _mm256_set1_epi32(i32::MIN));
            sum[r] = _mm256_or_ps(value, _mm256_castsi256_ps(sign));
        }
    }
    for (sums, sum) in sums.iter_mut().zip(sum) {
        // SAFETY: eight values from `FIRST` on.
        unsafe { _mm256_storeu_ps(sums.as_mut_ptr().add(FIRST), sum) };
    }
    lost.map(|lost| u8::try_from(_mm256_movemask_ps(_mm256_castsi256_ps(lost))).unwrap_or(u8::MAX))
}

/// Fills a panel; see [`fill::panel`].
#[target_feature(enable = "avx2")]
pub(super) fn fill(
    panel: &mut Panel,
    recipe: BlockRecipe,
    from: &impl fill::Source,
) -> fill::Magnitudes<u32> {
    fill::panel(panel, recipe, from, |rows| transposed(rows), fill::no_doubles)
}

/// Fills a row; see [`fill::row`].
#[target_feature(enable = "avx2")]
pub(super) fn fill_row(row: &mut Row, recipe: BlockRecipe, x: &[f32]) -> fill::Magnitudes<u32> {
    fill::row(row, recipe, x)
}

/// [`fill::transposed`] in registers, eight by eight.
#[inline]
#[target_feature(enable = "avx2")]
fn transposed(rows: &[&[u8; 4 * LANES]; LANES]) -> fill::Pairs {
    let mut pairs = [[0; LANES]; LANES];
    for (lanes, first) in [(0, 0), (0, 8), (8, 0), (8, 8)] {
        // SAFETY: the half of 64 bytes from pair `first` on.
        let row = |i: usize| unsafe { _mm256_loadu_si256(rows[lanes + i].as_ptr().add(4 * first).cast()) };
        let mut fours = [_mm256_setzero_si256(); 8];
        for g in 0..2 {
            let [a, b, c, d] = [row(4 * g), row(4 * g + 1), row(4 * g + 2), row(4 * g + 3)];
            let (ab_low, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
            let (cd_low, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
            fours[4 * g] = _mm256_unpacklo_epi64(ab_low, cd_low);
            fours[4 * g + 1] = _mm256_unpackhi_epi64(ab_low, cd_low);
            fours[4 * g + 2] = _mm256_unpacklo_epi64(ab_high, cd_high);
            fours[4 * g + 3] = _mm256_unpackhi_epi64(ab_high, cd_high);
        }
        for i in 0..4 {
            let found = [
                _mm256_permute2x128_si256::<0x20>(fours[i], fours[4 + i]),
                _mm256_permute2x128_si256::<0x31>(fours[i], fours[4 + i]),
            ];
            for (j, found) in found.into_iter().enumerate() {
                // SAFETY: eight values from `lanes` on.
                unsafe {
                    let to = pairs[first + 4 * j + i].as_mut_ptr().add(lanes);
                    _mm256_storeu_si256(to.cast(), found);
                }
            }
        }
    }
    pairs
}
