//! What one step of a tensor core computes, as a value: [`BlockRecipe`], and a readable reference of it.
//!
//! A step multiplies `width` pairs and adds them to a binary32 accumulator at once: significands are multiplied
//! exactly, every term is aligned to the largest exponent among them and cut (towards zero) to `fraction_bits` behind
//! it, the integers are added, and the sum is cut to binary32. Zeros take no part in the choice of the exponent. A dot
//! product is a chain of such steps.
//!
//! *Source:* Xie et al., arXiv 2511.10909; Khattak & Mikaitis, arXiv 2512.07004; parameters in [`Architecture::block`].
//! Left out: binary64 and integer instructions, accumulators in binary16, block scales. Many at once, fast: [`dot`].

use serde::{Deserialize, Serialize};

use crate::Dtype;

pub mod dot;

/// A format of tensor-core operands.
///
/// ```
/// use mantissa_numerics::tensor_core::{Architecture, Operand};
/// // tf32 is given as binary32, of which ten fraction bits count: 1 + 2^-11 is 1.
/// let tf32 = Architecture::Hopper.block(Operand::Tf32).unwrap();
/// let x = 1.0_f32 + 2.0_f32.powi(-11);
/// assert_eq!(tf32.step(&[x.to_bits()], &[1.0_f32.to_bits()], 0.0), 1.0);
/// // The largest FP8 with 4 exponent bits is 448; the next pattern is no infinity but a NaN.
/// let e4m3 = Architecture::Hopper.block(Operand::E4m3).unwrap();
/// assert_eq!(e4m3.step(&[0x7E], &[0x38], 0.0), 448.0);
/// assert!(e4m3.step(&[0x7F], &[0x38], 0.0).is_nan());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Operand {
    /// bfloat16.
    Bf16,
    /// IEEE 754 binary16.
    F16,
    /// The leading 19 bits of a binary32: 8 exponent and 10 fraction bits. What follows is ignored.
    Tf32,
    /// OCP FP8 with 4 exponent bits: no infinity, one NaN pattern per sign.
    E4m3,
    /// OCP FP8 with 5 exponent bits, as IEEE 754.
    E5m2,
}

impl Operand {
    /// Every format.
    pub const ALL: [Self; 5] = [Self::Bf16, Self::F16, Self::Tf32, Self::E4m3, Self::E5m2];

    /// Bits of the fraction, behind the leading one.
    #[must_use]
    pub const fn fraction_bits(self) -> u32 {
        match self {
            Self::Bf16 => 7,
            Self::F16 | Self::Tf32 => 10,
            Self::E4m3 => 3,
            Self::E5m2 => 2,
        }
    }

    /// Bits of the exponent.
    #[must_use]
    pub const fn exponent_bits(self) -> u32 {
        match self {
            Self::Bf16 | Self::Tf32 => 8,
            Self::F16 | Self::E5m2 => 5,
            Self::E4m3 => 4,
        }
    }

    /// The storage format that has these patterns.
    ///
    /// ```
    /// use mantissa_numerics::{Dtype, tensor_core::Operand};
    /// assert_eq!([Operand::F16, Operand::E4m3].map(Operand::dtype), [Some(Dtype::F16), None]);
    /// ```
    #[must_use]
    pub const fn dtype(self) -> Option<Dtype> {
        match self {
            Self::Bf16 => Some(Dtype::Bf16),
            Self::F16 => Some(Dtype::F16),
            Self::Tf32 | Self::E4m3 | Self::E5m2 => None,
        }
    }

    /// Takes a bit pattern apart. Bits above the format's width are ignored; of [`Operand::Tf32`] all 32 are given.
    #[must_use]
    pub(crate) const fn decode(self, bits: u32) -> Term {
        let bits = if matches!(self, Self::Tf32) { bits >> 13 } else { bits };
        let (fraction_bits, exponent_bits) = (self.fraction_bits(), self.exponent_bits());
        let fraction = bits & ((1 << fraction_bits) - 1);
        let largest = (1 << exponent_bits) - 1;
        let biased = (bits >> fraction_bits) & largest;
        let negative = (bits >> (fraction_bits + exponent_bits)) & 1 == 1;
        let special = match self {
            Self::E4m3 => biased == largest && fraction == 7,
            _ => biased == largest,
        };
        if special {
            let infinite = fraction == 0 && !matches!(self, Self::E4m3);
            return if infinite { Term::Infinite { negative } } else { Term::NotANumber };
        }
        let bias = (1_i32 << (exponent_bits - 1)) - 1;
        let (significand, exponent) = match biased {
            0 => (fraction, 1 - bias),
            _ => (fraction | 1 << fraction_bits, biased.cast_signed() - bias),
        };
        Term::Finite { negative, significand, exponent }
    }
}

/// An unpacked number. A finite one is `± significand · 2^(exponent − fraction bits)`; its significand has a leading
/// one unless it is subnormal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Term {
    Finite { negative: bool, significand: u32, exponent: i32 },
    Infinite { negative: bool },
    NotANumber,
}

/// One step of a tensor core.
///
/// ```
/// use mantissa_numerics::tensor_core::{Architecture, Operand};
/// let hopper = Architecture::Hopper.block(Operand::Bf16).unwrap();
/// let (one, rest) = (0x3F80, 1.5 * 2.0_f32.powi(-24));
/// // Cut towards zero where binary32 would round up.
/// assert_eq!(hopper.step(&[one], &[one], rest), 1.0);
/// assert_eq!(1.0 + rest, 1.0_f32.next_up());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BlockRecipe {
    /// Format of both operands.
    pub operand: Operand,
    /// Products that are added at once.
    pub width: u16,
    /// Bits kept behind the largest exponent when terms are aligned.
    pub fraction_bits: u8,
    /// Fraction bits of the result, which is a binary32 all the same: 23, or 13.
    pub result_bits: u8,
}

/// A generation of NVIDIA tensor cores.
///
/// ```
/// use mantissa_numerics::tensor_core::{Architecture, Operand};
/// let (mut x, ones) = ([0; 16], [0x3F80; 16]);
/// (x[0], x[1], x[8]) = (0x4B80, 0x3F80, 0x3F80); // 2^24, 1 and 1 as bf16
/// let sum = |gpu: Architecture| gpu.block(Operand::Bf16).unwrap().chain(&x, &ones, 0.0);
/// // Hopper adds sixteen products at once; Ampere takes two steps of eight and loses a 1 in each.
/// assert_eq!((sum(Architecture::Hopper), sum(Architecture::Ampere)), (16_777_218.0, 16_777_216.0));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// V100 (sm_70).
    Volta,
    /// T4, RTX 20 (sm_75).
    Turing,
    /// A100 (sm_80), RTX 30 (sm_86).
    Ampere,
    /// L40S, RTX 40 (sm_89).
    Ada,
    /// H100, H200 (sm_90).
    Hopper,
    /// B200 (sm_100).
    Blackwell,
}

impl Architecture {
    /// Every architecture, oldest first.
    pub const ALL: [Self; 6] =
        [Self::Volta, Self::Turing, Self::Ampere, Self::Ada, Self::Hopper, Self::Blackwell];

    /// The step of the instruction that matrix products use there (on Hopper `wgmma`, on Blackwell `tcgen05.mma`);
    /// `None` where there is none for the format.
    ///
    /// *Source:* Xie et al., arXiv 2511.10909, table of instructions, and the authors' MMA-Sim. Instructions of K = 16
    /// on Ampere and Ada are two chained steps of 8 (tf32: K = 8, steps of 4; fp8: K = 32, steps of 16). What was run
    /// against hardware here, docs/coverage.md says.
    #[must_use]
    pub const fn block(self, operand: Operand) -> Option<BlockRecipe> {
        use Operand::{Bf16, E4m3, E5m2, F16, Tf32};
        let (width, fraction_bits, result_bits) = match (self, operand) {
            (Self::Volta, F16) => (4, 23, 23),
            (Self::Turing, F16) | (Self::Ampere | Self::Ada, Bf16 | F16) => (8, 24, 23),
            (Self::Ampere | Self::Ada, Tf32) => (4, 24, 23),
            (Self::Ada, E4m3 | E5m2) => (16, 13, 13),
            (Self::Hopper | Self::Blackwell, Bf16 | F16) => (16, 25, 23),
            (Self::Hopper | Self::Blackwell, Tf32) => (8, 25, 23),
            (Self::Hopper, E4m3 | E5m2) => (32, 13, 13),
            (Self::Blackwell, E4m3 | E5m2) => (32, 25, 23),
            (Self::Volta | Self::Turing, Bf16 | Tf32 | E4m3 | E5m2) | (Self::Ampere, E4m3 | E5m2) => {
                return None;
            }
        };
        Some(BlockRecipe { operand, width, fraction_bits, result_bits })
    }
}

/// What the hardware returns for every invalid operation.
const NOT_A_NUMBER: f32 = f32::from_bits(0x7FFF_FFFF);

impl BlockRecipe {
    /// `accumulator + a · b` in one step.
    ///
    /// *Shape:* `a` and `b` have equal length, at most `width` (a shorter block is one padded with zeros). *Rounding:*
    /// towards zero, twice: each term to the common grid, the sum to `result_bits`; a result beyond binary32 is
    /// infinite. NaN operands, `0 · ∞` and `∞ − ∞` give the NaN 0x7FFFFFFF. A sum of zero is `+0`.
    ///
    /// # Panics
    /// When the lengths differ or exceed the width.
    #[must_use]
    pub fn step(&self, a: &[u32], b: &[u32], accumulator: f32) -> f32 {
        assert!(a.len() == b.len() && a.len() <= usize::from(self.width), "a block of {}", self.width);
        let mut infinite = Infinities::default();
        let mut terms: Vec<Aligned> = Vec::with_capacity(a.len() + 1);
        match decode_f32(accumulator) {
            Term::NotANumber => return NOT_A_NUMBER,
            Term::Infinite { negative } => infinite.add(negative),
            Term::Finite { significand: 0, .. } => {}
            Term::Finite { negative, significand, exponent } => {
                terms.push(Aligned {
                    value: signed(negative, significand.into()),
                    exponent,
                    fraction_bits: 23,
                });
            }
        }
        let fraction_bits = 2 * self.operand.fraction_bits().cast_signed();
        for (&a, &b) in a.iter().zip(b) {
            match (self.operand.decode(a), self.operand.decode(b)) {
                (Term::NotANumber, _) | (_, Term::NotANumber) => return NOT_A_NUMBER,
                (Term::Infinite { negative }, Term::Infinite { negative: other }) => {
                    infinite.add(negative != other);
                }
                (Term::Infinite { negative }, Term::Finite { negative: other, significand, .. })
                | (Term::Finite { negative: other, significand, .. }, Term::Infinite { negative }) => {
                    if significand == 0 {
                        return NOT_A_NUMBER;
                    }
                    infinite.add(negative != other);
                }
                (Term::Finite { significand: 0, .. }, _) | (_, Term::Finite { significand: 0, .. }) => {}
                (
                    Term::Finite { negative: na, significand: sa, exponent: ea },
                    Term::Finite { negative: nb, significand: sb, exponent: eb },
                ) => {
                    let value = signed(na != nb, u64::from(sa) * u64::from(sb));
                    terms.push(Aligned { value, exponent: ea + eb, fraction_bits });
                }
            }
        }
        if let Some(value) = infinite.result() {
            return value;
        }
        let grid = i32::from(self.fraction_bits);
        let Some(largest) = terms.iter().map(|term| term.exponent).max() else { return 0.0 };
        let cut_to_grid =
            |term: &Aligned| cut(term.value, grid - term.fraction_bits - (largest - term.exponent));
        let sum: i64 = terms.iter().map(cut_to_grid).sum();
        self.result(sum, largest - grid)
    }

    /// A dot product: steps along `K` from `accumulator`.
    ///
    /// *Shape:* `a` and `b` have equal length; the last block may be short.
    ///
    /// # Panics
    /// When the lengths differ.
    #[must_use]
    pub fn chain(&self, a: &[u32], b: &[u32], accumulator: f32) -> f32 {
        let width = usize::from(self.width);
        assert_eq!(a.len(), b.len(), "a dot product of two lengths");
        a.chunks(width).zip(b.chunks(width)).fold(accumulator, |sum, (a, b)| self.step(a, b, sum))
    }

    /// `sum · 2^exponent`, cut to the result's bits.
    fn result(self, sum: i64, exponent: i32) -> f32 {
        let magnitude = sum.unsigned_abs();
        if magnitude == 0 {
            return 0.0;
        }
        let leading = 63 - magnitude.leading_zeros().cast_signed();
        // The exponent of the result, and of its last bit.
        let normal = (leading + exponent).max(-126);
        let last = normal - i32::from(self.result_bits);
        let kept = cut(magnitude.cast_signed(), exponent - last);
        if normal > 127 {
            return if sum < 0 { f32::NEG_INFINITY } else { f32::INFINITY };
        }
        #[expect(clippy::cast_precision_loss, reason = "at most 24 bits are kept")]
        let value = libm::ldexp(kept as f64, last);
        #[expect(clippy::cast_possible_truncation, reason = "a binary32, by construction")]
        let value = value as f32;
        if sum < 0 { -value } else { value }
    }
}

/// A finite term of the sum: `value · 2^(exponent − fraction_bits)`.
struct Aligned {
    value: i64,
    exponent: i32,
    fraction_bits: i32,
}

/// Signs of infinite terms.
#[derive(Default)]
struct Infinities {
    positive: bool,
    negative: bool,
}

impl Infinities {
    const fn add(&mut self, negative: bool) {
        if negative { self.negative = true } else { self.positive = true }
    }

    const fn result(&self) -> Option<f32> {
        match (self.positive, self.negative) {
            (false, false) => None,
            (true, false) => Some(f32::INFINITY),
            (false, true) => Some(f32::NEG_INFINITY),
            (true, true) => Some(NOT_A_NUMBER),
        }
    }
}

const fn decode_f32(value: f32) -> Term {
    let bits = value.to_bits();
    let negative = bits >> 31 == 1;
    let (biased, fraction) = ((bits >> 23) & 255, bits & 0x7F_FFFF);
    match (biased, fraction) {
        (255, 0) => Term::Infinite { negative },
        (255, _) => Term::NotANumber,
        (0, _) => Term::Finite { negative, significand: fraction, exponent: -126 },
        _ => Term::Finite { negative, significand: fraction | 1 << 23, exponent: biased.cast_signed() - 127 },
    }
}

const fn signed(negative: bool, magnitude: u64) -> i64 {
    let value = magnitude.cast_signed();
    if negative { -value } else { value }
}

/// `value · 2^shift`, cut towards zero.
const fn cut(value: i64, shift: i32) -> i64 {
    if shift >= 0 {
        value << shift
    } else if shift <= -63 {
        0
    } else {
        let magnitude = value.unsigned_abs() >> -shift;
        signed(value < 0, magnitude)
    }
}
