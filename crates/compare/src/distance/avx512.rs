//! Sixteen lanes in two registers of binary64: AVX-512.
//!
//! The same operations in the same order as the reference, never fused; counts of what is not finite are taken only
//! where something is not. Left out: every other instruction set (see [`super::fast`]).
#![expect(unsafe_code, reason = "vector loads take pointers")]

use std::arch::x86_64::{
    __m512, __m512d, __m512i, _mm256_loadu_epi8, _mm512_abs_pd, _mm512_add_epi32, _mm512_add_pd,
    _mm512_and_si512, _mm512_castps512_ps256, _mm512_castsi512_ps, _mm512_cmpge_epu32_mask,
    _mm512_cmpgt_epu32_mask, _mm512_cmpneq_epi32_mask, _mm512_cvtepu16_epi32, _mm512_cvtph_ps,
    _mm512_cvtps_pd, _mm512_extractf32x8_ps, _mm512_loadu_epi8, _mm512_mask_blend_epi32,
    _mm512_maskz_mov_epi32, _mm512_maskz_mov_ps, _mm512_max_epu32, _mm512_max_pd, _mm512_min_epu32,
    _mm512_mul_pd, _mm512_reduce_max_epu32, _mm512_reduce_max_pd, _mm512_set1_epi32, _mm512_setzero_pd,
    _mm512_setzero_si512, _mm512_slli_epi32, _mm512_storeu_pd, _mm512_sub_epi32, _mm512_sub_pd,
    _mm512_testn_epi32_mask, _mm512_xor_si512,
};

use mantissa_numerics::Dtype;

use super::sums::{LANES, Sums, join};

const F32: u8 = 0;
const BF16: u8 = 1;
const F16: u8 = 2;

/// Sums over two rows; see [`super::different`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn different(dtype: Dtype, a: &[u8], b: &[u8]) -> Sums {
    match dtype {
        Dtype::F32 => sums::<F32>(a, b),
        Dtype::Bf16 => sums::<BF16>(a, b),
        Dtype::F16 => sums::<F16>(a, b),
    }
}

/// Sums over a row and itself; see [`super::equal`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn equal(dtype: Dtype, row: &[u8]) -> Sums {
    match dtype {
        Dtype::F32 => same::<F32>(row),
        Dtype::Bf16 => same::<BF16>(row),
        Dtype::F16 => same::<F16>(row),
    }
}

const fn size(format: u8) -> usize {
    if format == F32 { 4 } else { 2 }
}

/// Magnitude of an infinity; larger ones are NaN.
const fn infinity(format: u8) -> i32 {
    match format {
        F32 => 0x7f80_0000,
        BF16 => 0x7f80,
        _ => 0x7c00,
    }
}

const fn sign(format: u8) -> i32 {
    if format == F32 { i32::MIN } else { 0x8000 }
}

/// Sixteen lanes of a sum.
#[derive(Clone, Copy)]
struct Lanes([__m512d; 2]);

impl Lanes {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn zero() -> Self {
        Self([_mm512_setzero_pd(); 2])
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn join(self) -> f64 {
        let mut lanes = [0.0; LANES];
        // SAFETY: two times eight values lie in the array of sixteen.
        unsafe {
            _mm512_storeu_pd(lanes.as_mut_ptr(), self.0[0]);
            _mm512_storeu_pd(lanes.as_mut_ptr().add(8), self.0[1]);
        }
        join(lanes)
    }
}

/// Sixteen bit patterns and their values.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn load<const FORMAT: u8>(block: &[u8]) -> (__m512i, __m512) {
    assert!(block.len() >= LANES * size(FORMAT));
    let bytes = block.as_ptr().cast::<i8>();
    if FORMAT == F32 {
        // SAFETY: the block holds 64 bytes.
        let bits = unsafe { _mm512_loadu_epi8(bytes) };
        return (bits, _mm512_castsi512_ps(bits));
    }
    // SAFETY: the block holds 32 bytes.
    let halves = unsafe { _mm256_loadu_epi8(bytes) };
    let bits = _mm512_cvtepu16_epi32(halves);
    let values = if FORMAT == BF16 {
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
    } else {
        _mm512_cvtph_ps(halves)
    };
    (bits, values)
}

/// Lanes 0 to 7 and 8 to 15 in binary64.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn widen(values: __m512) -> [__m512d; 2] {
    let high = _mm512_extractf32x8_ps::<1>(values);
    [_mm512_cvtps_pd(_mm512_castps512_ps256(values)), _mm512_cvtps_pd(high)]
}

/// What sums of two rows need.
struct Running {
    squares: Lanes,
    absolute: Lanes,
    max_abs: Lanes,
    norm_a: Lanes,
    norm_b: Lanes,
    dot: Lanes,
    max_ulps: __m512i,
    different: u64,
    left_out: u64,
    non_finite: u64,
    with_nan: u64,
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn sums<const FORMAT: u8>(a: &[u8], b: &[u8]) -> Sums {
    let block = LANES * size(FORMAT);
    let mut running = Running {
        squares: Lanes::zero(),
        absolute: Lanes::zero(),
        max_abs: Lanes::zero(),
        norm_a: Lanes::zero(),
        norm_b: Lanes::zero(),
        dot: Lanes::zero(),
        max_ulps: _mm512_setzero_si512(),
        different: 0,
        left_out: 0,
        non_finite: 0,
        with_nan: 0,
    };
    let (mut blocks_a, mut blocks_b) = (a.chunks_exact(block), b.chunks_exact(block));
    for (x, y) in blocks_a.by_ref().zip(blocks_b.by_ref()) {
        add::<FORMAT>(&mut running, x, y);
    }
    let (x, y) = (blocks_a.remainder(), blocks_b.remainder());
    if !x.is_empty() {
        // Zeros on both sides change no sum.
        let (mut padded_x, mut padded_y) = ([0; LANES * 4], [0; LANES * 4]);
        padded_x[..x.len()].copy_from_slice(x);
        padded_y[..y.len()].copy_from_slice(y);
        add::<FORMAT>(&mut running, &padded_x, &padded_y);
    }
    let [low, high] = running.max_abs.0;
    Sums {
        values: (a.len() / size(FORMAT)) as u64,
        different: running.different,
        left_out: running.left_out,
        non_finite: running.non_finite,
        with_nan: running.with_nan,
        max_ulps: _mm512_reduce_max_epu32(running.max_ulps),
        squares: running.squares.join(),
        absolute: running.absolute.join(),
        max_abs: _mm512_reduce_max_pd(_mm512_max_pd(low, high)),
        norm_a: running.norm_a.join(),
        norm_b: running.norm_b.join(),
        dot: running.dot.join(),
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn add<const FORMAT: u8>(running: &mut Running, a: &[u8], b: &[u8]) {
    let ((bits_a, mut x), (bits_b, mut y)) = (load::<FORMAT>(a), load::<FORMAT>(b));
    let sign = _mm512_set1_epi32(sign(FORMAT));
    let magnitude = _mm512_set1_epi32(sign_free(FORMAT));
    let infinity = _mm512_set1_epi32(infinity(FORMAT));
    let (magnitude_a, magnitude_b) =
        (_mm512_and_si512(bits_a, magnitude), _mm512_and_si512(bits_b, magnitude));
    let larger = _mm512_max_epu32(magnitude_a, magnitude_b);
    let smaller = _mm512_min_epu32(magnitude_a, magnitude_b);
    let differ = _mm512_cmpneq_epi32_mask(bits_a, bits_b);
    running.different += u64::from(differ.count_ones());
    let same_sign = _mm512_testn_epi32_mask(_mm512_xor_si512(bits_a, bits_b), sign);
    let mut ulps = _mm512_mask_blend_epi32(
        same_sign,
        _mm512_add_epi32(larger, smaller),
        _mm512_sub_epi32(larger, smaller),
    );
    let left_out = _mm512_cmpge_epu32_mask(larger, infinity);
    if left_out != 0 {
        let nan = _mm512_cmpgt_epu32_mask(larger, infinity);
        running.left_out += u64::from(left_out.count_ones());
        running.non_finite += u64::from((left_out & differ).count_ones());
        running.with_nan += u64::from((nan & differ).count_ones());
        ulps = _mm512_maskz_mov_epi32(!nan, ulps);
        (x, y) = (_mm512_maskz_mov_ps(!left_out, x), _mm512_maskz_mov_ps(!left_out, y));
    }
    running.max_ulps = _mm512_max_epu32(running.max_ulps, ulps);
    let (x, y) = (widen(x), widen(y));
    for half in 0..2 {
        let (x, y) = (x[half], y[half]);
        let difference = _mm512_sub_pd(x, y);
        let absolute = _mm512_abs_pd(difference);
        let add = |lanes: &mut Lanes, value| lanes.0[half] = _mm512_add_pd(lanes.0[half], value);
        add(&mut running.squares, _mm512_mul_pd(difference, difference));
        add(&mut running.absolute, absolute);
        running.max_abs.0[half] = _mm512_max_pd(running.max_abs.0[half], absolute);
        add(&mut running.norm_a, _mm512_mul_pd(x, x));
        add(&mut running.norm_b, _mm512_mul_pd(y, y));
        add(&mut running.dot, _mm512_mul_pd(x, y));
    }
}

const fn sign_free(format: u8) -> i32 {
    if format == F32 { i32::MAX } else { 0x7fff }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn same<const FORMAT: u8>(row: &[u8]) -> Sums {
    let block = LANES * size(FORMAT);
    let mut squares = Lanes::zero();
    let mut left_out = 0;
    let mut blocks = row.chunks_exact(block);
    for x in blocks.by_ref() {
        add_square::<FORMAT>(&mut squares, &mut left_out, x);
    }
    let x = blocks.remainder();
    if !x.is_empty() {
        let mut padded = [0; LANES * 4];
        padded[..x.len()].copy_from_slice(x);
        add_square::<FORMAT>(&mut squares, &mut left_out, &padded);
    }
    let norm = squares.join();
    let values = (row.len() / size(FORMAT)) as u64;
    Sums { values, left_out, norm_a: norm, norm_b: norm, dot: norm, ..Sums::default() }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn add_square<const FORMAT: u8>(squares: &mut Lanes, left_out: &mut u64, row: &[u8]) {
    let (bits, mut x) = load::<FORMAT>(row);
    let magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(sign_free(FORMAT)));
    let out = _mm512_cmpge_epu32_mask(magnitude, _mm512_set1_epi32(infinity(FORMAT)));
    if out != 0 {
        *left_out += u64::from(out.count_ones());
        x = _mm512_maskz_mov_ps(!out, x);
    }
    for (lanes, x) in squares.0.iter_mut().zip(widen(x)) {
        *lanes = _mm512_add_pd(*lanes, _mm512_mul_pd(x, x));
    }
}
