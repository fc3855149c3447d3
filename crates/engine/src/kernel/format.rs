//! Reading weights of every storage format as units of 64 binary32 values.
//!
//! The values are those of [`mantissa_numerics::BlockFormat::dequantize`], element for element: the products that
//! are grouped differently here are exact, so the bits agree (the tests compare them).

use crate::simd::{LANES, Simd};

/// Elements of a unit.
pub(crate) const UNIT: usize = 64;

/// Bytes that hold one unit of any format, for the zero-padded copy of a row's tail.
pub(crate) const UNIT_BYTES: usize = 256;

/// A storage format read 64 elements at a time.
pub(crate) trait Units {
    /// Bytes that the first `elements` of a row take; `elements` is a whole number of blocks.
    fn bytes(elements: usize) -> usize;
    /// Elements `64·u..64·u + 64` of the row that starts at `row`.
    ///
    /// # Safety
    /// As [`Simd`]'s; the unit lies within the row.
    unsafe fn unit<S: Simd>(row: *const u8, u: usize) -> [S::V; 4];
}

pub(crate) struct F32;
pub(crate) struct Bf16;
pub(crate) struct F16;
pub(crate) struct Q8_0;
pub(crate) struct Q4_0;
pub(crate) struct Q4_1;
pub(crate) struct Q4K;
pub(crate) struct Q6K;

macro_rules! plain {
    ($name:ident, $size:literal, |$p:ident| $load:expr) => {
        impl Units for $name {
            fn bytes(elements: usize) -> usize {
                elements * $size
            }
            #[inline(always)]
            unsafe fn unit<S: Simd>(row: *const u8, u: usize) -> [S::V; 4] {
                // SAFETY: the trait's contract.
                unsafe {
                    let at = row.add(u * UNIT * $size);
                    [
                        {
                            let $p = at;
                            $load
                        },
                        {
                            let $p = at.add(LANES * $size);
                            $load
                        },
                        {
                            let $p = at.add(2 * LANES * $size);
                            $load
                        },
                        {
                            let $p = at.add(3 * LANES * $size);
                            $load
                        },
                    ]
                }
            }
        }
    };
}
plain!(F32, 4, |p| S::load(p.cast()));
plain!(Bf16, 2, |p| S::load_bf16(p));
plain!(F16, 2, |p| S::load_f16(p));

/// Sixteen values `index · d + m`. `index · d` is exact (4 + 17 bits at most), so there is one rounding.
///
/// # Safety
/// As [`Simd`]'s.
#[inline(always)]
unsafe fn affine<S: Simd>(d: S::V, m: S::V) -> S::V {
    const INDEX: [f32; LANES] = [0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.];
    // SAFETY: the caller's contract.
    unsafe { S::fma(S::load(INDEX.as_ptr()), d, m) }
}

/// A unit of two blocks of 32.
macro_rules! pair {
    ($name:ident, $bytes:literal, $block:ident) => {
        impl Units for $name {
            fn bytes(elements: usize) -> usize {
                elements / 32 * $bytes
            }
            #[inline(always)]
            unsafe fn unit<S: Simd>(row: *const u8, u: usize) -> [S::V; 4] {
                // SAFETY: the trait's contract.
                unsafe {
                    let at = row.add(2 * u * $bytes);
                    let (a, b) = ($block::<S>(at), $block::<S>(at.add($bytes)));
                    [a.0, a.1, b.0, b.1]
                }
            }
        }
    };
}
pair!(Q8_0, 34, q8_0);
pair!(Q4_0, 18, q4_0);

impl Units for Q4_1 {
    fn bytes(elements: usize) -> usize {
        elements / 32 * 20
    }
    #[inline(always)]
    unsafe fn unit<S: Simd>(row: *const u8, u: usize) -> [S::V; 4] {
        // SAFETY: the trait's contract.
        unsafe {
            let (a, b) = (row.add(40 * u), row.add(40 * u + 20));
            let scales = S::splat_f16x4(a, b);
            let (first, second) = (affine::<S>(scales[0], scales[1]), affine::<S>(scales[2], scales[3]));
            let (first, second) = (S::nibbles(first, a.add(4)), S::nibbles(second, b.add(4)));
            [first.0, first.1, second.0, second.1]
        }
    }
}

/// # Safety
/// As [`Units::unit`]'s, for one block.
#[inline(always)]
unsafe fn q8_0<S: Simd>(at: *const u8) -> (S::V, S::V) {
    // SAFETY: the caller's contract.
    unsafe {
        let d = S::splat_f16(at);
        (S::mul(S::load_i8(at.add(2)), d), S::mul(S::load_i8(at.add(18)), d))
    }
}

/// # Safety
/// As [`Units::unit`]'s, for one block.
#[inline(always)]
unsafe fn q4_0<S: Simd>(at: *const u8) -> (S::V, S::V) {
    const CENTERED: [f32; LANES] = [-8., -7., -6., -5., -4., -3., -2., -1., 0., 1., 2., 3., 4., 5., 6., 7.];
    // SAFETY: the caller's contract.
    unsafe {
        let table = S::mul(S::load(CENTERED.as_ptr()), S::splat_f16(at));
        S::nibbles(table, at.add(2))
    }
}

/// Factor and addend of a group of 32 of a Q4_K super-block: six-bit scale and minimum, both exact times d.
///
/// # Safety
/// `at` points to a super-block.
#[inline(always)]
unsafe fn q4k_scales<S: Simd>(at: *const u8, group: usize) -> (S::V, S::V) {
    // SAFETY: the caller's contract: twelve packed bytes follow d and dmin.
    unsafe {
        let packed = at.add(4);
        let (s, m) = if group < 4 {
            (*packed.add(group) & 63, *packed.add(group + 4) & 63)
        } else {
            let high = *packed.add(group + 4);
            (high & 15 | *packed.add(group - 4) >> 6 << 4, high >> 4 | *packed.add(group) >> 6 << 4)
        };
        let (s, m) = (S::splat(f32::from(s)), S::splat(-f32::from(m)));
        (S::mul(S::splat_f16(at), s), S::mul(S::splat_f16(at.add(2)), m))
    }
}

impl Units for Q4K {
    fn bytes(elements: usize) -> usize {
        elements / 256 * 144
    }
    #[inline(always)]
    unsafe fn unit<S: Simd>(row: *const u8, u: usize) -> [S::V; 4] {
        // SAFETY: the trait's contract: super-block u / 4 holds the unit.
        unsafe {
            let at = row.add(u / 4 * 144);
            let group = u % 4;
            let (low, high) = (q4k_scales::<S>(at, 2 * group), q4k_scales::<S>(at, 2 * group + 1));
            let q = at.add(16 + 32 * group);
            let (low, high) = (affine::<S>(low.0, low.1), affine::<S>(high.0, high.1));
            let second = q.add(16);
            [
                S::nibbles(low, q).0,
                S::nibbles(low, second).0,
                S::nibbles(high, q).1,
                S::nibbles(high, second).1,
            ]
        }
    }
}

impl Units for Q6K {
    fn bytes(elements: usize) -> usize {
        elements / 256 * 210
    }
    #[inline(always)]
    unsafe fn unit<S: Simd>(row: *const u8, u: usize) -> [S::V; 4] {
        // SAFETY: the trait's contract: super-block u / 4 holds the unit.
        unsafe {
            let at = row.add(u / 4 * 210);
            let d = S::splat_f16(at.add(208));
            let quarter = u % 4;
            // 64 low-nibble bytes and 32 high-bit bytes serve each half of the super-block.
            let (low, high) = (at.add(quarter / 2 * 64), at.add(128 + quarter / 2 * 32));
            let scales = at.add(192 + 4 * quarter).cast::<i8>();
            let q = if quarter.is_multiple_of(2) {
                [
                    S::load_q6::<false, 0>(low, high),
                    S::load_q6::<false, 0>(low.add(16), high.add(16)),
                    S::load_q6::<false, 2>(low.add(32), high),
                    S::load_q6::<false, 2>(low.add(48), high.add(16)),
                ]
            } else {
                [
                    S::load_q6::<true, 4>(low, high),
                    S::load_q6::<true, 4>(low.add(16), high.add(16)),
                    S::load_q6::<true, 6>(low.add(32), high),
                    S::load_q6::<true, 6>(low.add(48), high.add(16)),
                ]
            };
            // d · scale is exact (11 + 8 bits); the product with the value rounds once.
            [
                S::mul(q[0], S::mul(d, S::splat(f32::from(*scales)))),
                S::mul(q[1], S::mul(d, S::splat(f32::from(*scales.add(1))))),
                S::mul(q[2], S::mul(d, S::splat(f32::from(*scales.add(2))))),
                S::mul(q[3], S::mul(d, S::splat(f32::from(*scales.add(3))))),
            ]
        }
    }
}
