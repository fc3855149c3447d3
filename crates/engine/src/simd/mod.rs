//! Sixteen binary32 lanes as one value, on whatever vectors the machine has.
//!
//! A kernel is written once over [`Simd`] and instantiated for each instruction set. Every operation is defined
//! lane by lane in IEEE 754 terms (or on integers), so the instantiations agree bit for bit by construction;
//! `tests` below checks each primitive against [`Scalar`] all the same.
//! Left out: anything that would let the width of a register decide an order of sums.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
pub(crate) use scalar::Scalar;

/// Lanes of one [`Simd::V`].
pub(crate) const LANES: usize = 16;

/// An instruction set to run kernels on. It changes speed, never bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust: the reference.
    Scalar,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
}

impl Isa {
    /// The fastest instruction set of this machine.
    #[must_use]
    pub fn detect() -> Self {
        [Self::Avx512, Self::Avx2].into_iter().find(|isa| isa.is_available()).unwrap_or(Self::Scalar)
    }

    /// Whether this machine can run it.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// The name used in flags and files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }
}

impl std::str::FromStr for Isa {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        [Self::Scalar, Self::Avx2, Self::Avx512]
            .into_iter()
            .find(|isa| isa.name() == s)
            .ok_or_else(|| format!("unknown instruction set '{s}': use scalar, avx2 or avx512"))
    }
}

/// The primitives kernels are made of.
///
/// # Safety
/// Every method may be called only on a machine where the implementing instruction set is available, with pointers
/// valid for the stated number of elements (no alignment needed).
pub(crate) trait Simd: Copy + 'static {
    /// Sixteen binary32 lanes.
    type V: Copy;
    /// Whether registers hold twenty-four accumulators.
    const WIDE: bool;

    /// Asks for the cache line at `p`, which need not be valid.
    unsafe fn prefetch(_p: *const u8) {}

    unsafe fn splat(x: f32) -> Self::V;
    /// Reads 16 binary32 values.
    unsafe fn load(p: *const f32) -> Self::V;
    /// Reads 16 bfloat16 values, widened.
    unsafe fn load_bf16(p: *const u8) -> Self::V;
    /// Reads 16 binary16 values, widened.
    unsafe fn load_f16(p: *const u8) -> Self::V;
    /// Reads 16 signed bytes as numbers.
    unsafe fn load_i8(p: *const u8) -> Self::V;
    /// Reads 16 bytes and looks up in `table` their low nibbles and their high nibbles.
    unsafe fn nibbles(table: Self::V, p: *const u8) -> (Self::V, Self::V);
    /// `(nibble | two bits of high << 4) − 32` as numbers: Q6_K's values. `HIGH` picks the nibble of `low`, `SHIFT`
    /// the bits of `high`; 16 bytes are read from each.
    unsafe fn load_q6<const HIGH: bool, const SHIFT: u32>(low: *const u8, high: *const u8) -> Self::V;
    /// Reads one binary16 value and widens it into every lane.
    unsafe fn splat_f16(p: *const u8) -> Self::V;
    /// Reads two binary16 values at `a` and two at `b` and widens each into every lane of its own vector.
    unsafe fn splat_f16x4(a: *const u8, b: *const u8) -> [Self::V; 4];
    /// Writes 16 binary32 values.
    unsafe fn store(p: *mut f32, v: Self::V);
    /// Writes 16 bfloat16 values; lanes hold values already rounded to it.
    unsafe fn store_bf16(p: *mut u16, v: Self::V);
    /// Writes 16 binary16 values; lanes hold values already rounded to it.
    unsafe fn store_f16(p: *mut u16, v: Self::V);

    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c` with one rounding.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a > b ? a : b`: `b` when either is a NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// `a < b ? a : b`: `b` when either is a NaN.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// Nearest integer, ties to even.
    unsafe fn nearest(a: Self::V) -> Self::V;
    /// `a · 2^n`, rounded once, for integral `n` in −160..=160 and `a` in 0.5..=2.
    unsafe fn scale2(a: Self::V, n: Self::V) -> Self::V;
    /// [`mantissa_numerics::Dtype::round`] to bfloat16.
    unsafe fn round_bf16(a: Self::V) -> Self::V;
    /// [`mantissa_numerics::Dtype::round`] to binary16.
    unsafe fn round_f16(a: Self::V) -> Self::V;
    /// The halving tree: `a[i] += a[i + half]` for `half = 8, 4, 2, 1`.
    unsafe fn tree_sum(a: Self::V) -> f32;
    /// Transposes 16 rows of 16 read at `from` (row stride `stride`) to `to` (row stride `to_stride`).
    unsafe fn transpose16(from: *const f32, stride: usize, to: *mut f32, to_stride: usize);
}

/// Instantiates a generic kernel for each instruction set: `kernel!(fn name(arg: Type, …) = generic);` makes
/// `unsafe fn name(isa, args)` that runs `generic::<I>(args)` compiled for `isa`.
macro_rules! kernel {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $(<$lt:lifetime>)? ($($arg:ident : $ty:ty),* $(,)?) = $generic:path) => {
        $(#[$meta])*
        $vis unsafe fn $name $(<$lt>)? (isa: $crate::simd::Isa, $($arg: $ty),*) {
            use $generic as reference;
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
                unsafe fn avx512 $(<$lt>)? ($($arg: $ty),*) {
                    use $generic as generic;
                    // SAFETY: the caller's contract, with AVX-512 present as `Isa` was checked when it was chosen.
                    unsafe { generic::<$crate::simd::Avx512>($($arg),*) }
                }
                #[target_feature(enable = "avx2,fma,f16c")]
                unsafe fn avx2 $(<$lt>)? ($($arg: $ty),*) {
                    use $generic as generic;
                    // SAFETY: the caller's contract, with AVX2 present as `Isa` was checked when it was chosen.
                    unsafe { generic::<$crate::simd::Avx2>($($arg),*) }
                }
                match isa {
                    // SAFETY: the caller's contract.
                    $crate::simd::Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: the caller's contract.
                    $crate::simd::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::simd::Isa::Scalar => {}
                }
            }
            let _ = isa;
            // SAFETY: the caller's contract; the reference needs no instruction set.
            unsafe { reference::<$crate::simd::Scalar>($($arg),*) }
        }
    };
}
pub(crate) use kernel;
