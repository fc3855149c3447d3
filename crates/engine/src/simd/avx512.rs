//! Sixteen lanes in one 512-bit register.
#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "every block is one intrinsic under the trait's contract: the instruction set is there and pointers are valid"
)]
#![expect(
    clippy::inline_always,
    reason = "a primitive must inline into its kernel to be compiled for its instruction set"
)]

use std::arch::x86_64::{
    __m256i, __m512, __m512i, _CMP_UNORD_Q, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _MM_HINT_T0,
    _mm_cvtph_ps, _mm_cvtsi32_si128, _mm_insert_epi32, _mm_loadu_si128, _mm_prefetch, _mm_storeu_ps,
    _mm256_add_ps, _mm256_loadu_si256, _mm256_set1_epi16, _mm256_storeu_si256, _mm512_add_epi32,
    _mm512_add_ps, _mm512_and_si512, _mm512_castpd_ps, _mm512_castps_pd, _mm512_castps_si512,
    _mm512_castps512_ps256, _mm512_castsi512_ps, _mm512_cmp_ps_mask, _mm512_cvtepi8_epi32,
    _mm512_cvtepi32_epi16, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32, _mm512_cvtepu16_epi32, _mm512_cvtph_ps,
    _mm512_cvtps_ph, _mm512_div_ps, _mm512_extractf32x8_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_mask_blend_epi32, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_or_si512,
    _mm512_permutexvar_ps, _mm512_roundscale_ps, _mm512_scalef_ps, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_shuffle_f32x4, _mm512_slli_epi32, _mm512_srli_epi32, _mm512_storeu_ps,
    _mm512_sub_epi32, _mm512_sub_ps, _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd,
    _mm512_unpacklo_ps,
};

use super::Simd;

#[derive(Clone, Copy)]
pub(crate) struct Avx512;

type V = __m512;

#[inline(always)]
unsafe fn bytes(p: *const u8) -> __m512i {
    unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast())) }
}

#[inline(always)]
unsafe fn half_bits(p: *const u8) -> __m256i {
    unsafe { _mm256_loadu_si256(p.cast()) }
}

/// One value in every lane, by the load unit: the compiler would rather shuffle a register, and shuffles are what
/// decoding nibbles is short of.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn broadcast(p: *const f32) -> V {
    let v;
    unsafe {
        std::arch::asm!("vbroadcastss {v}, dword ptr [{p}]", v = lateout(zmm_reg) v, p = in(reg) p,
            options(pure, readonly, nostack, preserves_flags));
    }
    v
}

impl Simd for Avx512 {
    type V = V;
    const WIDE: bool = true;

    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> V {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> V {
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u8) -> V {
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half_bits(p)))) }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u8) -> V {
        unsafe { _mm512_cvtph_ps(half_bits(p)) }
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const u8) -> V {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn nibbles(table: V, p: *const u8) -> (V, V) {
        unsafe {
            // The permutation reads only the low four bits of an index.
            let bytes = bytes(p);
            let high = _mm512_srli_epi32::<4>(bytes);
            (_mm512_permutexvar_ps(bytes, table), _mm512_permutexvar_ps(high, table))
        }
    }
    #[inline(always)]
    unsafe fn load_q6<const HIGH: bool, const SHIFT: u32>(low: *const u8, high: *const u8) -> V {
        unsafe {
            let low = if HIGH {
                _mm512_srli_epi32::<4>(bytes(low))
            } else {
                _mm512_and_si512(bytes(low), _mm512_set1_epi32(15))
            };
            let high = _mm512_and_si512(_mm512_srli_epi32::<SHIFT>(bytes(high)), _mm512_set1_epi32(3));
            let q = _mm512_or_si512(low, _mm512_slli_epi32::<4>(high));
            _mm512_cvtepi32_ps(_mm512_sub_epi32(q, _mm512_set1_epi32(32)))
        }
    }
    #[inline(always)]
    unsafe fn splat_f16(p: *const u8) -> V {
        unsafe { _mm512_cvtph_ps(_mm256_set1_epi16(p.cast::<i16>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn splat_f16x4(a: *const u8, b: *const u8) -> [V; 4] {
        unsafe {
            let low = _mm_cvtsi32_si128(a.cast::<i32>().read_unaligned());
            let halves = _mm_insert_epi32::<1>(low, b.cast::<i32>().read_unaligned());
            let mut wide = [0.0_f32; 4];
            _mm_storeu_ps(wide.as_mut_ptr(), _mm_cvtph_ps(halves));
            let p = wide.as_ptr();
            [broadcast(p), broadcast(p.add(1)), broadcast(p.add(2)), broadcast(p.add(3))]
        }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: V) {
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: V) {
        unsafe {
            let bits = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(_mm512_castps_si512(v)));
            _mm256_storeu_si256(p.cast(), bits);
        }
    }
    #[inline(always)]
    unsafe fn store_f16(p: *mut u16, v: V) {
        unsafe { _mm256_storeu_si256(p.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v)) }
    }
    #[inline(always)]
    unsafe fn add(a: V, b: V) -> V {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: V, b: V) -> V {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: V, b: V) -> V {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: V, b: V) -> V {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: V, b: V, c: V) -> V {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: V, b: V) -> V {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: V, b: V) -> V {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn nearest(a: V) -> V {
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    unsafe fn scale2(a: V, n: V) -> V {
        unsafe { _mm512_scalef_ps(a, n) }
    }
    #[inline(always)]
    unsafe fn round_bf16(a: V) -> V {
        unsafe {
            let bits = _mm512_castps_si512(a);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let nearest = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a);
            let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x0040_0000));
            let rounded = _mm512_mask_blend_epi32(nan, nearest, quiet);
            _mm512_castsi512_ps(_mm512_and_si512(rounded, _mm512_set1_epi32(-0x1_0000)))
        }
    }
    #[inline(always)]
    unsafe fn round_f16(a: V) -> V {
        unsafe { _mm512_cvtph_ps(_mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a)) }
    }
    #[inline(always)]
    unsafe fn tree_sum(a: V) -> f32 {
        unsafe {
            let a = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
            super::avx2::tree_sum8(a)
        }
    }
    #[inline(always)]
    unsafe fn transpose16(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
        unsafe {
            // Pairs of rows, then pairs of pairs, then 128-bit quarters twice.
            let mut u = [_mm512_setzero_ps(); 16];
            let mut g = 0;
            while g < 4 {
                let from = from.add(4 * g * stride);
                let (r0, r1) = (_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(stride)));
                let (r2, r3) = (_mm512_loadu_ps(from.add(2 * stride)), _mm512_loadu_ps(from.add(3 * stride)));
                let a = _mm512_castps_pd(_mm512_unpacklo_ps(r0, r1));
                let b = _mm512_castps_pd(_mm512_unpackhi_ps(r0, r1));
                let c = _mm512_castps_pd(_mm512_unpacklo_ps(r2, r3));
                let d = _mm512_castps_pd(_mm512_unpackhi_ps(r2, r3));
                // u[4g + j] holds, in quarter q, column 4q + j of rows 4g..4g+4.
                u[4 * g] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
                u[4 * g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
                u[4 * g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
                u[4 * g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
                g += 1;
            }
            let mut j = 0;
            while j < 4 {
                let low = _mm512_shuffle_f32x4::<0x88>(u[j], u[4 + j]);
                let high = _mm512_shuffle_f32x4::<0xdd>(u[j], u[4 + j]);
                let low2 = _mm512_shuffle_f32x4::<0x88>(u[8 + j], u[12 + j]);
                let high2 = _mm512_shuffle_f32x4::<0xdd>(u[8 + j], u[12 + j]);
                _mm512_storeu_ps(to.add(j * to_stride), _mm512_shuffle_f32x4::<0x88>(low, low2));
                _mm512_storeu_ps(to.add((8 + j) * to_stride), _mm512_shuffle_f32x4::<0xdd>(low, low2));
                _mm512_storeu_ps(to.add((4 + j) * to_stride), _mm512_shuffle_f32x4::<0x88>(high, high2));
                _mm512_storeu_ps(to.add((12 + j) * to_stride), _mm512_shuffle_f32x4::<0xdd>(high, high2));
                j += 1;
            }
        }
    }
}
