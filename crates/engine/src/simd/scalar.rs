//! The reference: sixteen lanes in an array, one IEEE operation at a time.
#![expect(
    clippy::inline_always,
    reason = "a primitive must inline into its kernel to be compiled for its instruction set"
)]

use half::{bf16, f16};

use super::{LANES, Simd};

#[derive(Clone, Copy)]
pub(crate) struct Scalar;

type V = [f32; LANES];

#[inline(always)]
fn each(f: impl FnMut(usize) -> f32) -> V {
    std::array::from_fn(f)
}

/// # Safety
/// `p` is valid for 16 reads of `T`.
#[inline(always)]
unsafe fn read<T: Copy>(p: *const T) -> [T; LANES] {
    // SAFETY: the caller's contract; unaligned reads are allowed.
    unsafe { p.cast::<[T; LANES]>().read_unaligned() }
}

impl Simd for Scalar {
    type V = V;
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn splat(x: f32) -> V {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> V {
        // SAFETY: the trait's contract.
        unsafe { read(p) }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u8) -> V {
        // SAFETY: the trait's contract.
        unsafe { read::<[u8; 2]>(p.cast()) }.map(|bits| bf16::from_le_bytes(bits).to_f32())
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u8) -> V {
        // SAFETY: the trait's contract.
        unsafe { read::<[u8; 2]>(p.cast()) }.map(|bits| f16::from_le_bytes(bits).to_f32())
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const u8) -> V {
        // SAFETY: the trait's contract.
        unsafe { read(p.cast::<i8>()) }.map(f32::from)
    }
    #[inline(always)]
    unsafe fn nibbles(table: V, p: *const u8) -> (V, V) {
        // SAFETY: the trait's contract.
        let bytes = unsafe { read(p) };
        (bytes.map(|byte| table[usize::from(byte & 15)]), bytes.map(|byte| table[usize::from(byte >> 4)]))
    }
    #[inline(always)]
    unsafe fn load_q6<const HIGH: bool, const SHIFT: u32>(low: *const u8, high: *const u8) -> V {
        // SAFETY: the trait's contract.
        let (low, high) = unsafe { (read(low), read(high)) };
        each(|i| {
            let nibble = if HIGH { low[i] >> 4 } else { low[i] & 15 };
            f32::from(i16::from(nibble | ((high[i] >> SHIFT) & 3) << 4) - 32)
        })
    }
    #[inline(always)]
    unsafe fn splat_f16(p: *const u8) -> V {
        // SAFETY: the trait's contract.
        [f16::from_bits(unsafe { p.cast::<u16>().read_unaligned() }).to_f32(); LANES]
    }
    #[inline(always)]
    unsafe fn splat_f16x4(a: *const u8, b: *const u8) -> [V; 4] {
        // SAFETY: the trait's contract.
        unsafe {
            [Self::splat_f16(a), Self::splat_f16(a.add(2)), Self::splat_f16(b), Self::splat_f16(b.add(2))]
        }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: V) {
        // SAFETY: the trait's contract.
        unsafe { p.cast::<V>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: V) {
        // SAFETY: the trait's contract.
        unsafe { p.cast::<[u16; LANES]>().write_unaligned(v.map(|x| bf16::from_f32(x).to_bits())) }
    }
    #[inline(always)]
    unsafe fn store_f16(p: *mut u16, v: V) {
        // SAFETY: the trait's contract.
        unsafe { p.cast::<[u16; LANES]>().write_unaligned(v.map(|x| f16::from_f32(x).to_bits())) }
    }
    #[inline(always)]
    unsafe fn add(a: V, b: V) -> V {
        each(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: V, b: V) -> V {
        each(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: V, b: V) -> V {
        each(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn div(a: V, b: V) -> V {
        each(|i| a[i] / b[i])
    }
    #[inline(always)]
    unsafe fn fma(a: V, b: V, c: V) -> V {
        each(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    unsafe fn max(a: V, b: V) -> V {
        each(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn min(a: V, b: V) -> V {
        each(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn nearest(a: V) -> V {
        a.map(f32::round_ties_even)
    }
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "n is integral and small")]
    unsafe fn scale2(a: V, n: V) -> V {
        // Half the exponent at a time: the first product is exact, so the second rounds once.
        let power = |e: i32| f32::from_bits(((e + 127) as u32) << 23);
        each(|i| {
            let n = n[i] as i32;
            a[i] * power(n >> 1) * power(n - (n >> 1))
        })
    }
    #[inline(always)]
    unsafe fn round_bf16(a: V) -> V {
        a.map(|x| bf16::from_f32(x).to_f32())
    }
    #[inline(always)]
    unsafe fn round_f16(a: V) -> V {
        a.map(|x| f16::from_f32(x).to_f32())
    }
    #[inline(always)]
    unsafe fn tree_sum(mut a: V) -> f32 {
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                a[i] += a[i + half];
            }
        }
        a[0]
    }
    #[inline(always)]
    unsafe fn transpose16(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
        for row in 0..LANES {
            for column in 0..LANES {
                // SAFETY: the trait's contract: both squares are valid.
                unsafe { *to.add(column * to_stride + row) = *from.add(row * stride + column) };
            }
        }
    }
}
