//! Sixteen lanes in two 256-bit registers.
#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "every block is one intrinsic under the trait's contract: the instruction set is there and pointers are valid"
)]
#![expect(
    clippy::inline_always,
    reason = "a primitive must inline into its kernel to be compiled for its instruction set"
)]

use std::arch::x86_64::{
    __m256, __m256i, _CMP_UNORD_Q, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _MM_HINT_T0, _mm_add_ps,
    _mm_add_ss, _mm_cvtss_f32, _mm_loadu_si128, _mm_movehl_ps, _mm_prefetch, _mm_set1_epi16, _mm_shuffle_ps,
    _mm_srli_si128, _mm_storeu_ps, _mm_storeu_si128, _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256,
    _mm256_blendv_epi8, _mm256_blendv_ps, _mm256_castps_si256, _mm256_castps256_ps128, _mm256_castsi256_ps,
    _mm256_cmp_ps, _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32, _mm256_cvtepu16_epi32,
    _mm256_cvtph_ps, _mm256_cvtps_epi32, _mm256_cvtps_ph, _mm256_div_ps, _mm256_extractf128_ps,
    _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps, _mm256_or_si256,
    _mm256_packus_epi32, _mm256_permute4x64_epi64, _mm256_permutevar8x32_ps, _mm256_round_ps,
    _mm256_set1_epi32, _mm256_set1_ps, _mm256_shuffle_ps, _mm256_slli_epi32, _mm256_srai_epi32,
    _mm256_srli_epi32, _mm256_srlv_epi32, _mm256_storeu_ps, _mm256_storeu_si256, _mm256_sub_epi32,
    _mm256_sub_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps,
};

use super::Simd;

#[derive(Clone, Copy)]
pub(crate) struct Avx2;

type V = [__m256; 2];

macro_rules! lanewise {
    ($name:ident, $intrinsic:ident) => {
        #[inline(always)]
        unsafe fn $name(a: V, b: V) -> V {
            unsafe { [$intrinsic(a[0], b[0]), $intrinsic(a[1], b[1])] }
        }
    };
}

/// Both halves of 16 bytes, widened to 32 bits.
#[inline(always)]
unsafe fn bytes(p: *const u8) -> [__m256i; 2] {
    unsafe {
        let b = _mm_loadu_si128(p.cast());
        [_mm256_cvtepu8_epi32(b), _mm256_cvtepu8_epi32(_mm_srli_si128::<8>(b))]
    }
}

/// Looks the low four bits of each index up among 16 values.
#[inline(always)]
unsafe fn lookup(table: V, index: __m256i) -> __m256 {
    unsafe {
        let low = _mm256_permutevar8x32_ps(table[0], index);
        let high = _mm256_permutevar8x32_ps(table[1], index);
        _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32::<28>(index)))
    }
}

/// The last three levels of the halving tree, over eight lanes.
#[inline(always)]
pub(super) unsafe fn tree_sum8(a: __m256) -> f32 {
    unsafe {
        let a = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
        let a = _mm_add_ps(a, _mm_movehl_ps(a, a));
        _mm_cvtss_f32(_mm_add_ss(a, _mm_shuffle_ps::<1>(a, a)))
    }
}

#[inline(always)]
unsafe fn power2(e: __m256i) -> __m256 {
    unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(e, _mm256_set1_epi32(127)))) }
}

#[inline(always)]
unsafe fn scale2_8(a: __m256, n: __m256) -> __m256 {
    unsafe {
        // Half the exponent at a time: the first product is exact, so the second rounds once.
        let n = _mm256_cvtps_epi32(n);
        let first = _mm256_srai_epi32::<1>(n);
        _mm256_mul_ps(_mm256_mul_ps(a, power2(first)), power2(_mm256_sub_epi32(n, first)))
    }
}

#[inline(always)]
unsafe fn round_bf16_8(a: __m256) -> __m256 {
    unsafe {
        let bits = _mm256_castps_si256(a);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let nearest = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
        let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a);
        let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
        let rounded = _mm256_blendv_epi8(nearest, quiet, _mm256_castps_si256(nan));
        _mm256_castsi256_ps(_mm256_and_si256(rounded, _mm256_set1_epi32(-0x1_0000)))
    }
}

#[inline(always)]
unsafe fn q6<const HIGH: bool, const SHIFT: u32>(low: __m256i, high: __m256i) -> __m256 {
    unsafe {
        let low =
            if HIGH { _mm256_srli_epi32::<4>(low) } else { _mm256_and_si256(low, _mm256_set1_epi32(15)) };
        let shifted = _mm256_srlv_epi32(high, _mm256_set1_epi32(SHIFT.cast_signed()));
        let high = _mm256_and_si256(shifted, _mm256_set1_epi32(3));
        let q = _mm256_or_si256(low, _mm256_slli_epi32::<4>(high));
        _mm256_cvtepi32_ps(_mm256_sub_epi32(q, _mm256_set1_epi32(32)))
    }
}

impl Simd for Avx2 {
    type V = V;
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> V {
        unsafe { [_mm256_set1_ps(x); 2] }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> V {
        unsafe { [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))] }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u8) -> V {
        unsafe {
            let (a, b) = (_mm_loadu_si128(p.cast()), _mm_loadu_si128(p.add(16).cast()));
            [
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(a))),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(b))),
            ]
        }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u8) -> V {
        unsafe {
            [_mm256_cvtph_ps(_mm_loadu_si128(p.cast())), _mm256_cvtph_ps(_mm_loadu_si128(p.add(16).cast()))]
        }
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const u8) -> V {
        unsafe {
            let b = _mm_loadu_si128(p.cast());
            [
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b)),
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128::<8>(b))),
            ]
        }
    }
    #[inline(always)]
    unsafe fn nibbles(table: V, p: *const u8) -> (V, V) {
        unsafe {
            let [a, b] = bytes(p);
            let (c, d) = (_mm256_srli_epi32::<4>(a), _mm256_srli_epi32::<4>(b));
            ([lookup(table, a), lookup(table, b)], [lookup(table, c), lookup(table, d)])
        }
    }
    #[inline(always)]
    unsafe fn load_q6<const HIGH: bool, const SHIFT: u32>(low: *const u8, high: *const u8) -> V {
        unsafe {
            let (low, high) = (bytes(low), bytes(high));
            [q6::<HIGH, SHIFT>(low[0], high[0]), q6::<HIGH, SHIFT>(low[1], high[1])]
        }
    }
    #[inline(always)]
    unsafe fn splat_f16(p: *const u8) -> V {
        unsafe { [_mm256_cvtph_ps(_mm_set1_epi16(p.cast::<i16>().read_unaligned())); 2] }
    }
    #[inline(always)]
    unsafe fn splat_f16x4(a: *const u8, b: *const u8) -> [V; 4] {
        unsafe {
            [Self::splat_f16(a), Self::splat_f16(a.add(2)), Self::splat_f16(b), Self::splat_f16(b.add(2))]
        }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: V) {
        unsafe {
            _mm256_storeu_ps(p, v[0]);
            _mm256_storeu_ps(p.add(8), v[1]);
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: V) {
        unsafe {
            let a = _mm256_srli_epi32::<16>(_mm256_castps_si256(v[0]));
            let b = _mm256_srli_epi32::<16>(_mm256_castps_si256(v[1]));
            let packed = _mm256_permute4x64_epi64::<0xd8>(_mm256_packus_epi32(a, b));
            _mm256_storeu_si256(p.cast(), packed);
        }
    }
    #[inline(always)]
    unsafe fn store_f16(p: *mut u16, v: V) {
        unsafe {
            _mm_storeu_si128(p.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v[0]));
            _mm_storeu_si128(p.add(8).cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v[1]));
        }
    }
    lanewise!(add, _mm256_add_ps);
    lanewise!(sub, _mm256_sub_ps);
    lanewise!(mul, _mm256_mul_ps);
    lanewise!(div, _mm256_div_ps);
    lanewise!(max, _mm256_max_ps);
    lanewise!(min, _mm256_min_ps);
    #[inline(always)]
    unsafe fn fma(a: V, b: V, c: V) -> V {
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }
    #[inline(always)]
    unsafe fn nearest(a: V) -> V {
        unsafe {
            [
                _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a[0]),
                _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a[1]),
            ]
        }
    }
    #[inline(always)]
    unsafe fn scale2(a: V, n: V) -> V {
        unsafe { [scale2_8(a[0], n[0]), scale2_8(a[1], n[1])] }
    }
    #[inline(always)]
    unsafe fn round_bf16(a: V) -> V {
        unsafe { [round_bf16_8(a[0]), round_bf16_8(a[1])] }
    }
    #[inline(always)]
    unsafe fn round_f16(a: V) -> V {
        unsafe {
            [
                _mm256_cvtph_ps(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a[0])),
                _mm256_cvtph_ps(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a[1])),
            ]
        }
    }
    #[inline(always)]
    unsafe fn tree_sum(a: V) -> f32 {
        unsafe { tree_sum8(_mm256_add_ps(a[0], a[1])) }
    }
    #[inline(always)]
    unsafe fn transpose16(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
        unsafe {
            transpose8(from, stride, to, to_stride);
            transpose8(from.add(8), stride, to.add(8 * to_stride), to_stride);
            transpose8(from.add(8 * stride), stride, to.add(8), to_stride);
            transpose8(from.add(8 * stride + 8), stride, to.add(8 * to_stride + 8), to_stride);
        }
    }
}

#[inline(always)]
unsafe fn transpose8(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
    unsafe {
        let mut g = 0;
        while g < 8 {
            let from = from.add(g * stride);
            let (r0, r1) = (_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(stride)));
            let (r2, r3) = (_mm256_loadu_ps(from.add(2 * stride)), _mm256_loadu_ps(from.add(3 * stride)));
            let (a, b) = (_mm256_unpacklo_ps(r0, r1), _mm256_unpackhi_ps(r0, r1));
            let (c, d) = (_mm256_unpacklo_ps(r2, r3), _mm256_unpackhi_ps(r2, r3));
            // Columns j and 4 + j of these four rows in the two halves of each.
            let quad = [
                _mm256_shuffle_ps::<0x44>(a, c),
                _mm256_shuffle_ps::<0xee>(a, c),
                _mm256_shuffle_ps::<0x44>(b, d),
                _mm256_shuffle_ps::<0xee>(b, d),
            ];
            let mut j = 0;
            while j < 4 {
                _mm_storeu_ps(to.add(j * to_stride + g), _mm256_castps256_ps128(quad[j]));
                _mm_storeu_ps(to.add((4 + j) * to_stride + g), _mm256_extractf128_ps::<1>(quad[j]));
                j += 1;
            }
            g += 4;
        }
    }
}
