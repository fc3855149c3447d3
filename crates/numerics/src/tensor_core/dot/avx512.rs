//! Blocks of sixteen lanes with AVX-512, of doubles.

use std::arch::x86_64::{
    __m512d, __m512i, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEG_INF, _MM_FROUND_TO_ZERO, _mm_setr_epi8,
    _mm256_castpd_ps, _mm256_castps_pd, _mm512_add_epi32, _mm512_add_ps, _mm512_adds_epi8, _mm512_and_si512,
    _mm512_andnot_si512, _mm512_broadcast_i32x4, _mm512_castpd_ps, _mm512_castpd_si512,
    _mm512_castpd256_pd512, _mm512_castpd512_pd256, _mm512_castps_pd, _mm512_castps_si512,
    _mm512_castsi512_pd, _mm512_castsi512_ps, _mm512_cmp_epi32_mask, _mm512_cmp_pd_mask,
    _mm512_cmplt_epu32_mask, _mm512_cvt_roundpd_ps, _mm512_cvtpd_ps, _mm512_cvtps_pd, _mm512_extractf64x4_pd,
    _mm512_fmadd_round_pd, _mm512_insertf64x4, _mm512_loadu_pd, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_madd_epi16, _mm512_maddubs_epi16, _mm512_mask_add_epi32, _mm512_mask_max_epi32,
    _mm512_mask_mov_pd, _mm512_mask_or_epi64, _mm512_max_epi8, _mm512_max_epi32, _mm512_mul_ps,
    _mm512_or_si512, _mm512_permutexvar_epi32, _mm512_permutexvar_ps, _mm512_rol_epi32, _mm512_set1_epi8,
    _mm512_set1_epi16, _mm512_set1_epi32, _mm512_set1_epi64, _mm512_set1_pd, _mm512_setzero_ps,
    _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_shuffle_i32x4, _mm512_shuffle_ps, _mm512_slli_epi32,
    _mm512_srai_epi32, _mm512_srli_epi32, _mm512_storeu_ps, _mm512_storeu_si512, _mm512_sub_epi32,
    _mm512_sub_pd, _mm512_testn_epi32_mask, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64, _mm512_xor_si512,
};

use super::fill;
use super::operands::{LANES, NOTHING, ORDER, PLACE, Panel, Parts, Row, TILT};
use crate::tensor_core::BlockRecipe;

const DOWN: i32 = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
const TO_ZERO: i32 = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;

/// The bias of binary64.
const BIAS: i32 = 1023;

/// Biased exponent below that of any product of numbers and of any binary32.
const LOWEST: i32 = BIAS - 300;

/// Sums of sixteen lanes, in the order of [`ORDER`].
type Sums = [__m512d; 2];

/// See [`Parts`]. `WIDE` where a row's range is wide beside the panel's: exponents are those of the elements, and sums
/// may be subnormal.
///
/// # Safety
/// Rows and panel hold the same whole blocks of `2 · PAIRS` elements: that many of each of signs, a quarter of
/// exponents.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn run<const PAIRS: usize, const ROWS: usize, const WIDE: bool>(
    rows: &[Parts<'_, f64, u32>; ROWS],
    panel: &Parts<'_, [f64; LANES], [u32; LANES]>,
    recipe: BlockRecipe,
    sums: &mut [[f32; LANES]; ROWS],
) {
    if panel.signs.is_empty() {
        return;
    }
    let one = _mm512_set1_epi16(1);
    let tilt = _mm512_set1_pd(TILT);
    // From the largest exponent to the upper half of 1.5 · 2^52 units of the grid.
    let start = _mm512_set1_epi32((52 - i32::from(recipe.fraction_bits)) << 20 | 1 << 19);
    let upper = _mm512_set1_epi64(0xFFFF_FFFF << 32);
    // The 24 bits of a binary32.
    let kept = _mm512_set1_epi64(!0 << 29);
    // Bits of a number below 16.
    let ones = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    let lowest = _mm512_set1_epi32(LOWEST);
    let load = |from: &[[u32; LANES]], at: usize| -> __m512i {
        // SAFETY: within the slices, as the caller holds.
        unsafe { _mm512_loadu_si512(from.as_ptr().add(at).cast()) }
    };
    let spread = |from: &[u32], at: usize| -> __m512i {
        // SAFETY: as above.
        _mm512_set1_epi32(unsafe { *from.get_unchecked(at) }.cast_signed())
    };
    let elements = |at: usize| -> Sums {
        // SAFETY: as above.
        unsafe {
            let from = panel.elements.as_ptr().add(at).cast::<f64>();
            [_mm512_loadu_pd(from), _mm512_loadu_pd(from.add(8))]
        }
    };
    // Nothing here maps arrays: what a closure does is not instantiated for these instructions.
    let nothing = _mm512_set1_pd(0.0);
    let mut sum = [[nothing; 2]; ROWS];
    // Biased exponent of the largest product that there could be.
    let mut most = [0; ROWS];
    for r in 0..ROWS {
        sum[r] = widened(&sums[r]);
        most[r] = rows[r].range.largest + panel.range.largest + BIAS;
    }
    for at in 0..panel.signs.len() {
        // SAFETY: as the caller holds.
        let mut largest = unsafe {
            if WIDE {
                largest_of_elements::<PAIRS, ROWS>(rows, panel, recipe, at)
            } else {
                largest_of_bytes::<PAIRS, ROWS>(rows, panel, &most, at)
            }
        };
        let mut small = 0;
        // Upper halves of the sums so far.
        let mut old = [_mm512_setzero_si512(); ROWS];
        for r in 0..ROWS {
            old[r] = upper_halves(sum[r]);
            largest[r] = _mm512_max_epi32(largest[r], exponents_of(old[r]));
            if WIDE {
                // Where the grid is finer than binary32's.
                let above = _mm512_sub_epi32(largest[r], _mm512_set1_epi32(LOWEST + 1));
                small |= _mm512_cmplt_epu32_mask(above, _mm512_set1_epi32(BIAS - 124 - (LOWEST + 1)));
            }
        }
        if WIDE && small != 0 {
            for r in 0..ROWS {
                // A subnormal sum has the exponent of the least normal one.
                let there = _mm512_cmp_epi32_mask::<GREATER>(exponents_of(old[r]), lowest);
                let least = _mm512_set1_epi32(BIAS - 126);
                largest[r] = _mm512_mask_max_epi32(largest[r], there, largest[r], least);
            }
        }
        let signs = load(panel.signs, at);
        let (mut low, mut high) = ([nothing; ROWS], [nothing; ROWS]);
        let (mut from_low, mut from_high) = (low, high);
        for r in 0..ROWS {
            let negative = _mm512_shuffle_epi8(ones, _mm512_xor_si512(signs, spread(rows[r].signs, at)));
            let negative = _mm512_madd_epi16(_mm512_maddubs_epi16(negative, _mm512_set1_epi8(1)), one);
            let negative = _mm512_add_epi32(negative, _mm512_srli_epi32::<31>(old[r]));
            let grid = _mm512_add_epi32(_mm512_slli_epi32::<20>(largest[r]), start);
            let (first, second) =
                (_mm512_unpacklo_epi32(negative, grid), _mm512_unpackhi_epi32(negative, grid));
            from_low[r] = _mm512_castsi512_pd(_mm512_and_si512(first, upper));
            from_high[r] = _mm512_castsi512_pd(_mm512_and_si512(second, upper));
            low[r] = _mm512_fmadd_round_pd::<DOWN>(sum[r][0], tilt, _mm512_castsi512_pd(first));
            high[r] = _mm512_fmadd_round_pd::<DOWN>(sum[r][1], tilt, _mm512_castsi512_pd(second));
        }
        for k in 2 * PAIRS * at..2 * PAIRS * (at + 1) {
            let [first, second] = elements(k);
            for r in 0..ROWS {
                // SAFETY: within the slices, as the caller holds.
                let x = _mm512_set1_pd(unsafe { *rows[r].elements.get_unchecked(k) });
                low[r] = _mm512_fmadd_round_pd::<DOWN>(first, x, low[r]);
                high[r] = _mm512_fmadd_round_pd::<DOWN>(second, x, high[r]);
            }
        }
        for r in 0..ROWS {
            // Both exact.
            let total = [_mm512_sub_pd(low[r], from_low[r]), _mm512_sub_pd(high[r], from_high[r])];
            for half in 0..2 {
                sum[r][half] = if !WIDE || small == 0 {
                    _mm512_castsi512_pd(_mm512_and_si512(_mm512_castpd_si512(total[half]), kept))
                } else {
                    narrowed(total[half])
                };
            }
        }
    }
    for (sums, [low, high]) in sums.iter_mut().zip(sum) {
        let low = _mm512_castpd256_pd512(_mm256_castps_pd(_mm512_cvtpd_ps(low)));
        let both = _mm512_insertf64x4::<1>(low, _mm256_castps_pd(_mm512_cvtpd_ps(high)));
        let sum = _mm512_permutexvar_ps(indices(&FROM_ORDER), _mm512_castpd_ps(both));
        // SAFETY: sixteen values.
        unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), sum) };
    }
}

/// Exponents of the largest products of a block, from the bytes that tell them; `most` is that of the largest there can
/// be.
///
/// # Safety
/// Rows and panel hold block `at`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn largest_of_bytes<const PAIRS: usize, const ROWS: usize>(
    rows: &[Parts<'_, f64, u32>; ROWS],
    panel: &Parts<'_, [f64; LANES], [u32; LANES]>,
    most: &[i32; ROWS],
    at: usize,
) -> [__m512i; ROWS] {
    let lowest = _mm512_set1_epi32(LOWEST);
    let mut bytes = [_mm512_set1_epi8(i8::MIN); ROWS];
    for at in at * (PAIRS / 2)..(at + 1) * (PAIRS / 2) {
        // SAFETY: within the slices, as the caller holds.
        let of_panel = unsafe { _mm512_loadu_si512(panel.exponents.as_ptr().add(at).cast()) };
        for r in 0..ROWS {
            // SAFETY: as above.
            let of_row = unsafe { rows[r].exponents.get_unchecked(at) };
            let exponents = _mm512_adds_epi8(_mm512_set1_epi32(of_row.cast_signed()), of_panel);
            bytes[r] = _mm512_max_epi8(bytes[r], exponents);
        }
    }
    let mut largest = [lowest; ROWS];
    for r in 0..ROWS {
        let two = _mm512_max_epi8(bytes[r], _mm512_rol_epi32::<16>(bytes[r]));
        let all = _mm512_srai_epi32::<24>(_mm512_max_epi8(two, _mm512_rol_epi32::<8>(two)));
        // Only zeros are that far.
        let there = _mm512_cmp_epi32_mask::<GREATER>(all, _mm512_set1_epi32(i8::MIN.into()));
        largest[r] = _mm512_mask_add_epi32(lowest, there, all, _mm512_set1_epi32(most[r]));
    }
    largest
}

/// Exponents of the largest products of a block, from the elements.
///
/// # Safety
/// Rows and panel hold block `at`.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn largest_of_elements<const PAIRS: usize, const ROWS: usize>(
    rows: &[Parts<'_, f64, u32>; ROWS],
    panel: &Parts<'_, [f64; LANES], [u32; LANES]>,
    recipe: BlockRecipe,
    at: usize,
) -> [__m512i; ROWS] {
    // A subnormal element has the exponent of the least normal one.
    let least = _mm512_set1_epi32(BIAS + 2 - (1 << (recipe.operand.exponent_bits() - 1)));
    let lowest = _mm512_set1_epi32(LOWEST);
    let exponents = |of: Sums| -> __m512i {
        let exponents = exponents_of(upper_halves(of));
        let there = _mm512_cmp_epi32_mask::<GREATER>(exponents, lowest);
        _mm512_mask_max_epi32(exponents, there, exponents, least)
    };
    let mut largest = [lowest; ROWS];
    for k in 2 * PAIRS * at..2 * PAIRS * (at + 1) {
        // SAFETY: within the slices, as the caller holds.
        let of_panel = unsafe {
            let from = panel.elements.as_ptr().add(k).cast::<f64>();
            [_mm512_loadu_pd(from), _mm512_loadu_pd(from.add(8))]
        };
        let of_panel = _mm512_sub_epi32(exponents(of_panel), _mm512_set1_epi32(BIAS));
        for r in 0..ROWS {
            // SAFETY: as above.
            let x = _mm512_set1_pd(unsafe { *rows[r].elements.get_unchecked(k) });
            largest[r] = _mm512_max_epi32(largest[r], _mm512_add_epi32(exponents([x; 2]), of_panel));
        }
    }
    largest
}

/// Signed greater than, of [`_mm512_cmp_epi32_mask`].
const GREATER: i32 = 6;

/// Ordered equality, of [`_mm512_cmp_pd_mask`].
const EQUAL: i32 = 0;

/// Places as a permutation takes them.
const fn places(of: [usize; LANES]) -> [u32; LANES] {
    let mut places = [0; LANES];
    let mut lane = 0;
    while lane < LANES {
        #[expect(clippy::cast_possible_truncation, reason = "below sixteen")]
        {
            places[lane] = of[lane] as u32;
        }
        lane += 1;
    }
    places
}

static TO_ORDER: [u32; LANES] = places(ORDER);
static FROM_ORDER: [u32; LANES] = places(PLACE);

#[inline]
#[target_feature(enable = "avx512f")]
fn indices(of: &[u32; LANES]) -> __m512i {
    // SAFETY: sixteen values.
    unsafe { _mm512_loadu_si512(of.as_ptr().cast()) }
}

/// Upper halves of sixteen doubles, lane by lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn upper_halves([low, high]: Sums) -> __m512i {
    _mm512_castps_si512(_mm512_shuffle_ps::<0xDD>(_mm512_castpd_ps(low), _mm512_castpd_ps(high)))
}

/// Biased exponents, of upper halves.
#[inline]
#[target_feature(enable = "avx512f")]
fn exponents_of(upper: __m512i) -> __m512i {
    _mm512_and_si512(_mm512_srli_epi32::<20>(upper), _mm512_set1_epi32(0x7FF))
}

/// Sums in binary64, zeros positive.
#[inline]
#[target_feature(enable = "avx512f")]
fn widened(sums: &[f32; LANES]) -> Sums {
    // SAFETY: sixteen values.
    let sums = _mm512_permutexvar_ps(indices(&TO_ORDER), unsafe { _mm512_loadu_ps(sums.as_ptr()) });
    let sums = _mm512_castps_pd(_mm512_add_ps(sums, _mm512_setzero_ps()));
    let (low, high) = (_mm512_castpd512_pd256(sums), _mm512_extractf64x4_pd::<1>(sums));
    [_mm512_cvtps_pd(_mm256_castpd_ps(low)), _mm512_cvtps_pd(_mm256_castpd_ps(high))]
}

/// Cut to a binary32, subnormals among them; −0 as the negative [`NOTHING`], which adds nothing and is −0 in the end.
#[inline]
#[target_feature(enable = "avx512f")]
fn narrowed(total: __m512d) -> __m512d {
    let sum = _mm512_cvtps_pd(_mm512_cvt_roundpd_ps::<TO_ZERO>(total));
    let zero = _mm512_set1_pd(0.0);
    let gone = _mm512_cmp_pd_mask::<EQUAL>(sum, zero) & _mm512_cmp_pd_mask::<LESS>(total, zero);
    _mm512_mask_mov_pd(sum, gone, _mm512_set1_pd(-NOTHING))
}

/// Ordered less than, of [`_mm512_cmp_pd_mask`].
const LESS: i32 = 1;

/// Fills a panel; see [`fill::panel`].
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn fill(
    panel: &mut Panel,
    recipe: BlockRecipe,
    from: &impl fill::Source,
) -> fill::Magnitudes<u32> {
    fill::panel(panel, recipe, from, |rows| transposed(rows), |both, bits, to| doubles(both, bits, to))
}

/// [`Elements::Doubles`](super::operands::Elements::Doubles) of sixteen lanes' pairs: the even elements, then the odd.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn doubles(both: &[u32; LANES], fraction_bits: u32, to: &mut [[f64; LANES]; 2]) {
    // SAFETY: sixteen values.
    let both =
        _mm512_permutexvar_epi32(indices(&TO_ORDER), unsafe { _mm512_loadu_si512(both.as_ptr().cast()) });
    let patterns = [_mm512_slli_epi32::<16>(both), _mm512_and_si512(both, _mm512_set1_epi32(!0 << 16))];
    let sign = _mm512_set1_epi32(i32::MIN);
    for (pattern, to) in patterns.into_iter().zip(to) {
        let zero = _mm512_testn_epi32_mask(pattern, _mm512_set1_epi32(i32::MAX));
        let value = if fraction_bits == 7 {
            _mm512_castsi512_ps(pattern)
        } else {
            // The magnitude at its place in binary32, times the difference of biases.
            let magnitude = _mm512_srli_epi32::<3>(_mm512_andnot_si512(sign, pattern));
            let value = _mm512_mul_ps(
                _mm512_castsi512_ps(magnitude),
                _mm512_castsi512_ps(_mm512_set1_epi32((127 + 112) << 23)),
            );
            _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(value), _mm512_and_si512(sign, pattern)))
        };
        let value = _mm512_castps_pd(value);
        let halves = [_mm512_castpd512_pd256(value), _mm512_extractf64x4_pd::<1>(value)];
        let zeros = zero.to_le_bytes();
        for half in 0..2 {
            let value = _mm512_castpd_si512(_mm512_cvtps_pd(_mm256_castpd_ps(halves[half])));
            let nothing = _mm512_castpd_si512(_mm512_set1_pd(NOTHING));
            let value = _mm512_mask_or_epi64(value, zeros[half], value, nothing);
            // SAFETY: eight values.
            unsafe { _mm512_storeu_si512(to.as_mut_ptr().add(8 * half).cast(), value) };
        }
    }
}

/// Fills a row; see [`fill::row`].
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn fill_row(row: &mut Row, recipe: BlockRecipe, x: &[f32]) -> fill::Magnitudes<u32> {
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
