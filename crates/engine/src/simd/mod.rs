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
mod lanes;
mod scalar;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
pub(crate) use lanes::{LANES, Simd};
pub(crate) use scalar::Scalar;

/// An instruction set to run kernels on. It changes speed, never bits.
///
/// ```
/// use mantissa_engine::Isa;
///
/// assert!(Isa::Scalar.is_available() && Isa::detect().is_available());
/// assert_eq!("avx2".parse(), Ok(Isa::Avx2));
/// assert_eq!(Isa::Avx512.name(), "avx512");
/// ```
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
