//! What PyTorch computes on an x86-64 CPU: `pow` of two binary32 numbers, and which elements of a tensor get which
//! `pow`.
//!
//! PyTorch's element-wise loop takes two vector registers at a time ([`CpuCapability::block`] elements) with SLEEF's
//! `powf`, and leaves what remains to the C library's. So the last elements of a tensor may differ between a
//! machine with AVX2 and one with AVX-512; the values of SLEEF's function itself do not.
//!
//! Left out: PyTorch's other functions, other instruction sets (`ATEN_CPU_CAPABILITY=default`, Arm), and results
//! that overflow or are subnormal.

pub mod glibc;

/// Vector instructions that PyTorch found on the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CpuCapability {
    /// Eight elements to a register.
    Avx2,
    /// Sixteen elements to a register.
    Avx512,
}

impl CpuCapability {
    /// Both that are defined here.
    pub const ALL: [Self; 2] = [Self::Avx2, Self::Avx512];

    /// Elements that one round of the vectorized loop takes: two registers.
    ///
    /// *Source:* `vectorized_loop` in PyTorch's `aten/src/ATen/native/cpu/Loops.h`.
    #[must_use]
    pub const fn block(self) -> usize {
        match self {
            Self::Avx2 => 16,
            Self::Avx512 => 32,
        }
    }

    /// Elements at the front of a contiguous tensor of `length` that are computed in vectors.
    ///
    /// ```
    /// use mantissa_numerics::torch_cpu::CpuCapability;
    /// assert_eq!(CpuCapability::Avx2.vectorized(48), 48);
    /// assert_eq!(CpuCapability::Avx512.vectorized(48), 32);
    /// ```
    #[must_use]
    pub const fn vectorized(self, length: usize) -> usize {
        length - length % self.block()
    }
}

/// `base ** exponents` of a Python number and a contiguous binary32 tensor.
///
/// *Rounding:* the base to binary32 first; then [`sleef_powf`] for the vectorized elements and [`glibc::powf`] for
/// the rest.
///
/// *Source:* `pow_tensor_tensor_kernel` in PyTorch's `PowKernel.cpp`; checked against PyTorch 2.15.
///
/// ```
/// use mantissa_numerics::torch_cpu::{CpuCapability, pow};
/// assert_eq!(pow(CpuCapability::Avx2, 100.0, &[0.0, 0.5, 1.0]), [1.0, 10.0, 100.0]);
/// ```
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "PyTorch wraps the number as a tensor of the other's dtype"
)]
pub fn pow(cpu: CpuCapability, base: f64, exponents: &[f32]) -> Vec<f32> {
    let base = base as f32;
    let vectorized = cpu.vectorized(exponents.len());
    let (front, rest) = exponents.split_at(vectorized);
    let front = front.iter().map(|&exponent| sleef_powf(base, exponent));
    front.chain(rest.iter().map(|&exponent| glibc::powf(base, exponent))).collect()
}

/// SLEEF's `powf` with a bound of 1.0 ULP, as its builds for AVX2 with FMA and for AVX-512 compute it.
///
/// *Shape:* a positive normal `base`, a finite `exponent`, a result that is normal or overflows.
///
/// *Rounding:* `exp(exponent · ln base)`, both in pairs of binary32 numbers, each operation below rounded once.
///
/// *Source:* SLEEF 3.6 to 3.9, `xpowf` with `logkf` and `expkf` in `sleefsimdsp.c`, and its double-float arithmetic.
///
/// ```
/// use mantissa_numerics::torch_cpu::sleef_powf;
/// assert_eq!(sleef_powf(10_000.0, 0.25), 10.0);
/// ```
#[must_use]
pub fn sleef_powf(base: f32, exponent: f32) -> f32 {
    if is_one(base) || exponent.abs() < f32::from_bits(1) {
        return 1.0;
    }
    exponential(logarithm(base).scaled(exponent))
}

fn is_one(x: f32) -> bool {
    x.to_bits() == 1.0_f32.to_bits()
}

/// A number as the sum of two binary32 numbers, the second small beside the first.
#[derive(Debug, Clone, Copy)]
struct Pair {
    high: f32,
    low: f32,
}

impl Pair {
    /// `a + b` without an error, whichever is larger.
    fn sum(a: f32, b: f32) -> Self {
        let high = a + b;
        let part = high - a;
        Self { high, low: (a - (high - part)) + (b - part) }
    }

    /// `self + other` for a larger `self`.
    fn plus(self, other: Self) -> Self {
        let high = self.high + other.high;
        Self { high, low: (((self.high - high) + other.high) + self.low) + other.low }
    }

    /// `self + other`, whichever is larger.
    fn plus_any(self, other: Self) -> Self {
        let sum = Self::sum(self.high, other.high);
        Self { high: sum.high, low: sum.low + (self.low + other.low) }
    }

    /// `self + x`, whichever is larger.
    fn plus_single(self, x: f32) -> Self {
        let sum = Self::sum(self.high, x);
        Self { high: sum.high, low: sum.low + self.low }
    }

    fn scaled(self, x: f32) -> Self {
        let high = self.high * x;
        Self { high, low: self.low.mul_add(x, self.high.mul_add(x, -high)) }
    }

    fn times(self, other: Self) -> Self {
        let high = self.high * other.high;
        let error = self.high.mul_add(other.high, -high);
        Self { high, low: self.high.mul_add(other.low, self.low.mul_add(other.high, error)) }
    }

    fn squared(self) -> Self {
        let high = self.high * self.high;
        let error = self.high.mul_add(self.high, -high);
        Self { high, low: (self.high + self.high).mul_add(self.low, error) }
    }

    fn over(self, divisor: Self) -> Self {
        let reciprocal = 1.0 / divisor.high;
        let high = self.high * reciprocal;
        let error = reciprocal.mul_add(self.high, -high);
        let missing = (-divisor.low).mul_add(reciprocal, (-divisor.high).mul_add(reciprocal, 1.0));
        Self { high, low: high.mul_add(missing, self.low.mul_add(reciprocal, error)) }
    }

    fn doubled(self) -> Self {
        Self { high: self.high * 2.0, low: self.low * 2.0 }
    }

    fn normalized(self) -> Self {
        let high = self.high + self.low;
        Self { high, low: (self.high - high) + self.low }
    }
}

/// `ln x` for a positive normal `x`: `x = m · 2^e` with `m` from 0.75 to 1.5, then a series in `(m − 1) / (m + 1)`.
#[expect(clippy::excessive_precision, reason = "coefficients as their source prints them")]
fn logarithm(x: f32) -> Pair {
    const LN_2: Pair = Pair { high: 0.69314718246459960938, low: -1.904654323148236017e-09 };
    let exponent = (x * (1.0 / 0.75)).to_bits() >> 23 & 0xFF;
    let mantissa = f32::from_bits(x.to_bits().wrapping_sub(exponent.wrapping_sub(127) << 23));
    let ratio = Pair::sum(-1.0, mantissa).over(Pair::sum(1.0, mantissa));
    let square = ratio.squared();
    let series = 0.240320354700088500976562_f32
        .mul_add(square.high, 0.285112679004669189453125)
        .mul_add(square.high, 0.400007992982864379882812);
    let third = Pair { high: 0.66666662693023681640625, low: 3.69183861259614332084311e-09 };
    LN_2.scaled(whole(exponent) - 127.0)
        .plus(ratio.doubled())
        .plus(square.times(ratio).times(square.scaled(series).plus_any(third)))
}

/// `e^x`, flushed to 0 below −104: `x = q · ln 2 + s`, then a series in `s`.
#[expect(clippy::excessive_precision, reason = "coefficients as their source prints them")]
fn exponential(x: Pair) -> f32 {
    const LN_2: [f32; 2] = [0.693145751953125, 1.428606765330187045e-06];
    if x.high < -104.0 {
        return 0.0;
    }
    let quotient = ((x.high + x.low) * std::f32::consts::LOG2_E).round_ties_even();
    let rest = x.plus_single(quotient * -LN_2[0]).plus_single(quotient * -LN_2[1]).normalized();
    let series = 0.00136324646882712841033936_f32
        .mul_add(rest.high, 0.00836596917361021041870117)
        .mul_add(rest.high, 0.0416710823774337768554688)
        .mul_add(rest.high, 0.166665524244308471679688)
        .mul_add(rest.high, 0.499999850988388061523438);
    let tail = rest.plus(rest.squared().scaled(series));
    let sum = Pair { high: 1.0, low: 0.0 }.plus(tail);
    scale(sum.high + sum.low, quotient)
}

/// `x · 2^quotient`, rounded once.
#[expect(clippy::cast_possible_truncation, reason = "exact for normal results")]
fn scale(x: f32, quotient: f32) -> f32 {
    (f64::from(x) * libm::exp2(f64::from(quotient))) as f32
}

#[expect(clippy::cast_precision_loss, reason = "an exponent field has eight bits")]
fn whole(exponent: u32) -> f32 {
    exponent as f32
}
