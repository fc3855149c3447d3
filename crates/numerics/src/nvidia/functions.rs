//! Functions as the hardware and CUDA's library compute them.
//!
//! `ex2.approx`, `rsqrt.approx` and `rcp.approx` interpolate in tables inside the chip. What is kept here is the
//! deviation of every mantissa's result from the correctly rounded one, two bits each, deflated to 0.65 MB (8 MB once
//! unpacked): made by `goldens/gpu/functions.py` and `goldens/gpu/reciprocal.cu`. A quadratic in 64 segments comes
//! within 0.05 units in the last place of the chip's and no nearer, because its multipliers drop columns, so the tables
//! are not smaller.
//!
//! Source of the rest: PTX of `expf`, `tanhf`, `cosf` and `sinf` in CUDA 13 (libdevice), restated.
//!
//! `tanhf` divides by `rcp.approx`. What becomes of it in bf16 and f16 was compared for every input ([`tanh`],
//! [`gelu_tanh`]).

#![expect(clippy::inline_always, reason = "inlined where an instruction set is enabled")]

use std::sync::LazyLock;

/// Deviations of one function, two bits per mantissa, and what the smallest code means.
struct Table {
    codes: Vec<u8>,
    low: i32,
}

impl Table {
    /// # Panics
    /// When the embedded table is damaged: it is part of the program.
    fn unpack(deflated: &[u8]) -> Self {
        let mut codes = miniz_oxide::inflate::decompress_to_vec(deflated).unwrap_or_default();
        assert!(!codes.is_empty(), "a table of the program is damaged");
        let low = i32::from(codes.remove(0).cast_signed());
        Self { codes, low }
    }

    fn deviation(&self, index: usize) -> i32 {
        i32::from(self.codes[index / 4] >> (2 * (index % 4)) & 3) + self.low
    }
}

static EX2: LazyLock<Ex2> = LazyLock::new(|| Ex2 {
    deviations: Table::unpack(include_bytes!("../../tables/ex2.deflate")),
    powers: std::array::from_fn(|i| {
        // From the middle of the 64th; `i` is below 64.
        libm::exp2(1.0 + f64::from(u8::try_from(2 * i + 1).unwrap_or(u8::MAX)) / 128.0)
    }),
});
static RSQRT: LazyLock<Table> = LazyLock::new(|| Table::unpack(include_bytes!("../../tables/rsqrt.deflate")));
static RCP: LazyLock<Table> = LazyLock::new(|| Table::unpack(include_bytes!("../../tables/rcp.deflate")));

/// The NaN that the hardware makes.
pub(super) const NOT_A_NUMBER: f32 = f32::from_bits(0x7FFF_FFFF);

#[expect(clippy::cast_possible_truncation, reason = "rounding to binary32 is meant")]
fn rounded(value: f64) -> f32 {
    value as f32
}

fn moved(value: f32, ulps: i32) -> f32 {
    f32::from_bits(value.to_bits().wrapping_add_signed(ulps))
}

/// 2^x, as `ex2.approx.ftz.f32`.
///
/// *Rounding:* `x` is cut to 23 fraction bits, negative ones in ones' complement unless nothing is left; then a table.
/// Subnormal results are zero.
#[must_use]
pub(crate) fn ex2(x: f32) -> f32 {
    ex2_by(&EX2, x)
}

#[inline(always)]
fn ex2_by(ex2: &Ex2, x: f32) -> f32 {
    let fixed = fixed_point(x);
    let fraction = (fixed & 0x7F_FFFF).cast_unsigned();
    ex2_of(x, fixed, ex2.powers[(fraction >> 17) as usize], ex2.deviations.deviation(fraction as usize))
}

/// Cut to an integer, as vectors can: a cast would ask each for NaNs and limits first. *Shape:* not negative, at most
/// `i32::MAX`.
#[inline(always)]
fn cut(x: f64) -> i32 {
    debug_assert!((0.0..=f64::from(i32::MAX)).contains(&x), "{x} is not within");
    // SAFETY: a finite number within the limits, which callers see to.
    unsafe { x.to_int_unchecked() }
}

/// `x` cut to 23 fraction bits.
#[inline(always)]
fn fixed_point(x: f32) -> i32 {
    // Below 2^31 where it counts; a NaN becomes the largest.
    let magnitude = cut((f64::from(x.abs()) * 8_388_608.0).min(f64::from(i32::MAX)));
    magnitude ^ -i32::from(magnitude != 0 && x < 0.0)
}

/// What [`ex2`] makes of `x`, its fixed point, and what tables hold for the fraction.
#[inline(always)]
fn ex2_of(x: f32, fixed: i32, power: f64, deviation: i32) -> f32 {
    let value = moved(exact(fixed & 0x1_FFFF, power), deviation);
    // In binary64 the power is normal and the product exact; elsewhere it does not matter.
    let whole = (fixed >> 23).clamp(-200, 200);
    let scale = f64::from_bits(u64::from((whole + 1022).cast_unsigned()) << 52);
    let finite = rounded(f64::from(value) * scale);
    let finite = if x < -126.0 { 0.0 } else { finite };
    let value = if x >= 128.0 { f32::INFINITY } else { finite };
    if x.is_nan() { NOT_A_NUMBER } else { value }
}

/// 2^(1 + fraction / 2^23), correctly rounded, from the power at the middle of its 64th and what is left of the
/// fraction: the tests try every fraction.
#[inline(always)]
fn exact(rest: i32, power: f64) -> f32 {
    const LN_2: f64 = std::f64::consts::LN_2;
    let x = (f64::from(rest) - 65_536.0) * (LN_2 / 8_388_608.0);
    let series = 1.0 + x * (1.0 + x * (1.0 / 2.0 + x * (1.0 / 6.0 + x * (1.0 / 24.0 + x * (1.0 / 120.0)))));
    rounded(power * series)
}

/// Tables of [`ex2`].
struct Ex2 {
    deviations: Table,
    /// 2^(1 + (i + ½) / 64).
    powers: [f64; 64],
}

/// 1 / √x, as PyTorch's `rsqrt`: CUDA's `rsqrtf`, which is `rsqrt.approx` and scales subnormals.
///
/// ```
/// use mantissa_numerics::nvidia::functions::rsqrt;
/// assert_eq!(rsqrt(4.0), 0.5);
/// // Not the nearest value: three times this third is one step below 1.
/// assert_eq!((rsqrt(9.0).to_bits(), (1.0_f32 / 3.0).to_bits()), (0x3EAA_AAAA, 0x3EAA_AAAB));
/// assert_eq!(3.0 * rsqrt(9.0), 1.0_f32.next_down());
/// ```
#[must_use]
pub fn rsqrt(x: f32) -> f32 {
    if x.is_nan() || x < 0.0 {
        return NOT_A_NUMBER;
    }
    let bits = x.to_bits();
    match bits & 0x7FFF_FFFF {
        0 => return f32::INFINITY.copysign(x),
        0x7F80_0000 => return 0.0,
        1..0x80_0000 => return rsqrt(x * 16_777_216.0) * 4096.0,
        _ => {}
    }
    let exponent = (bits >> 23).cast_signed() - 127;
    let odd = exponent & 1;
    let mantissa = f32::from_bits(bits & 0x7F_FFFF | (127 + odd).cast_unsigned() << 23);
    let index = (bits & 0x7F_FFFF) as usize | usize::from(odd == 1) << 23;
    let value = moved(rounded(1.0 / f64::from(mantissa).sqrt()), RSQRT.deviation(index));
    rounded(libm::ldexp(f64::from(value), -((exponent - odd) / 2)))
}

/// 1 / x, as `rcp.approx.ftz.f32`: what divisions by a row's sum become where kernels are compiled with fast math.
///
/// *Rounding:* one step from the nearest value for 13 % of mantissas, by a table. Subnormal arguments are zeros, and so
/// are subnormal results. *Source:* every mantissa on an H200, with which all 2^32 arguments agree
/// (`goldens/gpu/reciprocal.cu`).
///
/// ```
/// use mantissa_numerics::nvidia::functions::reciprocal;
/// assert_eq!((reciprocal(4.0), reciprocal(-0.0)), (0.25, f32::NEG_INFINITY));
/// // Of 1,000 whole numbers, 123 do not have the nearest value, but one beside it.
/// let numbers = (1..=1000_u16).map(f32::from);
/// let missed: Vec<f32> = numbers.filter(|x| reciprocal(*x) != 1.0 / x).collect();
/// assert_eq!(missed.len(), 123);
/// assert!(missed.iter().all(|x| reciprocal(*x).to_bits().abs_diff((1.0 / x).to_bits()) == 1));
/// ```
#[must_use]
pub fn reciprocal(x: f32) -> f32 {
    if x.is_nan() {
        return NOT_A_NUMBER;
    }
    let bits = x.to_bits();
    let exponent = (bits >> 23 & 0xFF).cast_signed();
    let magnitude = match exponent {
        0 => f32::INFINITY,
        0xFF => 0.0,
        _ => {
            let mantissa = f32::from_bits(bits & 0x7F_FFFF | 0x3F80_0000);
            let of_one =
                moved(rounded(1.0 / f64::from(mantissa)), RCP.deviation((bits & 0x7F_FFFF) as usize));
            // Of 1 to 2 it is above a half, up to 1: the exponent's field stays below 255.
            let scaled = of_one.to_bits().cast_signed() - ((exponent - 127) << 23);
            if scaled < 1 << 23 { 0.0 } else { f32::from_bits(scaled.cast_unsigned()) }
        }
    };
    magnitude.copysign(x)
}

/// e^x, as CUDA's `expf`.
///
/// ```
/// use mantissa_numerics::nvidia::functions::exp;
/// assert_eq!((exp(0.0), exp(f32::NEG_INFINITY)), (1.0, 0.0));
/// // Not the nearest value: e^10 = 22026.46579… is one step above it.
/// assert_eq!(exp(10.0), (10.0_f64.exp() as f32).next_up());
/// ```
#[must_use]
pub fn exp(x: f32) -> f32 {
    exp_by(&EX2, x)
}

#[inline(always)]
fn exp_by(ex2: &Ex2, x: f32) -> f32 {
    let (scale, rest) = exp_parts(x);
    scale * ex2_by(ex2, rest)
}

/// A power of two, and the exponent of what it is to be multiplied with.
#[inline(always)]
fn exp_parts(x: f32) -> (f32, f32) {
    const PER_STEP: f32 = f32::from_bits(0x3BBB_989D);
    const LOG2_E: f32 = f32::from_bits(0x3FB8_AA3B);
    const LOG2_E_REST: f32 = f32::from_bits(0x32A5_7060);
    // `fma.rn.sat`; a NaN saturates to 0, the last product is a NaN all the same.
    #[expect(clippy::manual_clamp, reason = "which would keep a NaN")]
    let saturated = x.mul_add(PER_STEP, 0.5).max(0.0).min(1.0);
    // `fma.rm` near 1.5 · 2^23, where one unit is 1. Not negative, so that cutting is rounding down; below 2^24.
    #[expect(clippy::cast_precision_loss, reason = "said above")]
    let shifted = cut(f64::from(saturated) * 252.0 + 12_582_913.0) as f32;
    let whole = shifted - 12_583_039.0;
    let rest = x.mul_add(LOG2_E, -whole);
    (f32::from_bits(shifted.to_bits() << 23), x.mul_add(LOG2_E_REST, rest))
}

/// tanh x, as CUDA's `tanhf`.
///
/// *Rounding:* below 0.6 a polynomial in fused steps; from there on `1 − 2 / (1 + 2^(2 |x| log₂ e))`, and 1 from 9.01.
///
/// ```
/// use mantissa_numerics::nvidia::functions::tanh;
/// assert_eq!((tanh(0.0), tanh(10.0), tanh(-10.0)), (0.0, 1.0, -1.0));
/// assert!(tanh(-0.0).is_sign_negative());
/// assert!((f64::from(tanh(0.5)) - 0.5_f64.tanh()).abs() < 1e-7);
/// ```
#[must_use]
pub fn tanh(x: f32) -> f32 {
    const TWICE_LOG2_E: f32 = f32::from_bits(0x4038_AA3B);
    /// From here on the result is 1.
    const LARGEST: f32 = f32::from_bits(0x4110_2CB4);
    const COEFFICIENTS: [u32; 5] = [0x3C80_F082, 0xBD56_3CAE, 0x3E08_5941, 0xBEAA_A9ED, 0];
    let magnitude = x.abs();
    if magnitude < f32::from_bits(0x3F19_999A) {
        let [first, rest @ ..] = COEFFICIENTS.map(f32::from_bits);
        let square = x * x;
        return rest.iter().fold(first, |sum, c| sum.mul_add(square, *c)).mul_add(x, x);
    }
    if x.is_nan() {
        return NOT_A_NUMBER;
    }
    let power = ex2(magnitude * TWICE_LOG2_E) + 1.0;
    let value = if magnitude >= LARGEST { 1.0 } else { reciprocal(power).mul_add(-2.0, 1.0) };
    value.copysign(x)
}

/// `1 / (1 + e^(−x))`, as PyTorch's `sigmoid` computes it before it rounds to the storage format.
///
/// ```
/// use mantissa_numerics::nvidia::functions::sigmoid;
/// assert_eq!([sigmoid(0.0), sigmoid(100.0), sigmoid(-100.0)], [0.5, 1.0, 0.0]);
/// ```
#[must_use]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The tanh form of GELU, as PyTorch's CUDA kernel computes it before it rounds to the storage format.
///
/// *Rounding:* `inner = c · fma(0.044715, (x · x) · x, x)` with `c = √(2 / π)`; `(0.5 · x) · (1 + tanh(inner))`.
///
/// *Source:* PyTorch 2.11, aten/src/ATen/native/cuda/ActivationGeluKernel.cu, as nvcc fuses it; rounded to bf16 or f16,
/// the same for every input whether that is fused or not.
///
/// ```
/// use mantissa_numerics::nvidia::functions::gelu_tanh;
/// assert_eq!([gelu_tanh(0.0), gelu_tanh(10.0), gelu_tanh(-10.0)], [0.0, 10.0, 0.0]);
/// assert!((gelu_tanh(1.0) - 0.841_192).abs() < 1e-6);
/// ```
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "PyTorch's rounding of its constants")]
pub fn gelu_tanh(x: f32) -> f32 {
    const ROOT: f32 = (std::f64::consts::SQRT_2 * std::f64::consts::FRAC_2_SQRT_PI * 0.5) as f32;
    let inner = ROOT * (x * x * x).mul_add(0.044_715, x);
    0.5 * x * (1.0 + tanh(inner))
}

/// Largest magnitude that [`cos`] and [`sin`] reduce by multiplication.
pub const LARGEST_ANGLE: f32 = 105_615.0;

/// cos x, as CUDA's `cosf`; `None` above [`LARGEST_ANGLE`], where the library goes another way.
///
/// ```
/// use mantissa_numerics::nvidia::functions::{cos, sin};
/// // The binary32 nearest to π/2 is a little more than π/2.
/// assert_eq!(cos(std::f32::consts::FRAC_PI_2), Some(-4.371139e-8));
/// // One step from the nearest value: a rotary table of a GPU is not one of a CPU.
/// assert_eq!(sin(1.0), Some((1.0_f64.sin() as f32).next_up()));
/// assert_eq!(cos(110_000.0), None, "beyond what is reduced by multiplication");
/// ```
#[must_use]
pub fn cos(x: f32) -> Option<f32> {
    let (rest, quadrant) = reduced(x)?;
    Some(kernel(rest, quadrant + 1))
}

/// sin x, as CUDA's `sinf`; `None` above [`LARGEST_ANGLE`], where the library goes another way.
///
/// Example: [`cos`].
#[must_use]
pub fn sin(x: f32) -> Option<f32> {
    if x == 0.0 {
        return Some(x);
    }
    let (rest, quadrant) = reduced(x)?;
    Some(kernel(rest, quadrant))
}

/// `x − quadrant · π/2` in three steps.
fn reduced(x: f32) -> Option<(f32, i32)> {
    if x.is_nan() || x.abs() > LARGEST_ANGLE {
        return None;
    }
    let quadrant = (x * f32::from_bits(0x3F22_F983)).round_ties_even();
    let rest = quadrant.mul_add(f32::from_bits(0xBFC9_0FDA), x);
    let rest = quadrant.mul_add(f32::from_bits(0xB3A2_2168), rest);
    let rest = quadrant.mul_add(f32::from_bits(0xA7C2_34C5), rest);
    #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^17")]
    Some((rest, quadrant as i32))
}

/// The sine of `x + quadrant · π/2` for |x| ≤ π/4.
fn kernel(x: f32, quadrant: i32) -> f32 {
    let square = x * x;
    let polynomial = |coefficients: [u32; 3]| {
        let [a, b, c] = coefficients.map(f32::from_bits);
        a.mul_add(square, b).mul_add(square, c)
    };
    let value = if quadrant & 1 == 1 {
        let cosine = polynomial([0x37CB_AC00, 0xBAB6_07ED, 0x3D2A_AABB]);
        cosine.mul_add(square, f32::from_bits(0xBEFF_FFFF)).mul_add(square, 1.0)
    } else {
        polynomial([0xB94D_4153, 0x3C08_85E4, 0xBE2A_AAA8]).mul_add(square * x, x)
    };
    if quadrant & 2 == 2 { -value } else { value }
}

/// [`exp`] of `x − offset`, of each, in place.
pub(crate) fn exp_each(x: &mut [f32], offset: f32) {
    for x in x.chunks_mut(MANY) {
        let mut arguments = [0.0; MANY];
        for (argument, x) in arguments.iter_mut().zip(&*x) {
            *argument = x - offset;
        }
        exp_many(&mut arguments);
        x.copy_from_slice(&arguments[..x.len()]);
    }
}

/// `x / (1 + e^(−x))` of each, in place, as PyTorch's `silu` computes it before it rounds to the storage format.
///
/// ```
/// use mantissa_numerics::nvidia::functions::silu_each;
/// let mut x = [0.0, 100.0, -100.0];
/// silu_each(&mut x);
/// assert_eq!(x, [0.0, 100.0, 0.0]);
/// // e^100 is beyond binary32: −100 over infinity is −0, not the −3.7e-42 that binary32 could hold.
/// assert!(x[2].is_sign_negative());
/// ```
pub fn silu_each(x: &mut [f32]) {
    for x in x.chunks_mut(MANY) {
        let mut arguments = [0.0; MANY];
        for (argument, x) in arguments.iter_mut().zip(&*x) {
            *argument = -x;
        }
        exp_many(&mut arguments);
        for (x, exp) in x.iter_mut().zip(arguments) {
            *x /= 1.0 + exp;
        }
    }
}

/// Values that go through the steps of an exponential together.
const MANY: usize = 64;

/// [`exp`] of each, in place.
fn exp_many(x: &mut [f32; MANY]) {
    let ex2 = &*EX2;
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the machine has the instructions.
        return unsafe { exp_many_wide(ex2, x) };
    }
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: as above.
        return unsafe { exp_many_fused(ex2, x) };
    }
    exp_many_by(ex2, x);
}

/// The same as vectors, with the fused operation as an instruction: elsewhere each is a call.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn exp_many_fused(ex2: &Ex2, x: &mut [f32; MANY]) {
    exp_many_by(ex2, x);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn exp_many_wide(ex2: &Ex2, x: &mut [f32; MANY]) {
    exp_many_by(ex2, x);
}

/// [`exp_by`], step by step, so that only look-ups are one by one.
#[inline(always)]
fn exp_many_by(ex2: &Ex2, x: &mut [f32; MANY]) {
    let (mut scales, mut rests, mut fixed) = ([0.0_f32; MANY], [0.0_f32; MANY], [0_i32; MANY]);
    for i in 0..MANY {
        (scales[i], rests[i]) = exp_parts(x[i]);
        fixed[i] = fixed_point(rests[i]);
    }
    let (mut powers, mut deviations) = ([0.0_f64; MANY], [0_i32; MANY]);
    for i in 0..MANY {
        let fraction = (fixed[i] & 0x7F_FFFF).cast_unsigned();
        powers[i] = ex2.powers[(fraction >> 17) as usize];
        deviations[i] = ex2.deviations.deviation(fraction as usize);
    }
    for i in 0..MANY {
        let power = ex2_of(rests[i], fixed[i], powers[i], deviations[i]);
        x[i] = scales[i] * power;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_power_is_correctly_rounded() {
        for fraction in 0..1_u32 << 23 {
            let exact = rounded(libm::exp2(1.0 + f64::from(fraction) / 8_388_608.0));
            let power = EX2.powers[fraction as usize >> 17];
            let found = super::exact((fraction & 0x1_FFFF).cast_signed(), power);
            assert_eq!(found.to_bits(), exact.to_bits(), "{fraction}");
        }
    }

    /// As counted on an H200.
    #[test]
    fn reciprocals_deviate_as_measured() {
        let mut counts = [0; 3];
        for mantissa in 0..1_u32 << 23 {
            let x = f32::from_bits(0x3F80_0000 | mantissa);
            let (found, nearest) = (reciprocal(x), 1.0 / x);
            let off = found.to_bits().cast_signed() - nearest.to_bits().cast_signed();
            counts[usize::try_from(off + 1).unwrap()] += 1;
            // Powers of two and signs change nothing.
            let far = f32::from_bits(x.to_bits() ^ 0xA280_0000);
            assert_eq!(reciprocal(far).to_bits() ^ 0x8000_0000, (found / (far.abs() / x)).to_bits(), "{x:e}");
        }
        assert_eq!(counts, [374_723, 7_280_086, 733_799]);
    }

    /// As it was first written and compared with an H200.
    #[test]
    fn scaling_is_exact() {
        let first = |x: f32| {
            #[expect(clippy::cast_possible_truncation, reason = "as in `ex2`")]
            let fixed = |magnitude: f32| (f64::from(magnitude) * 8_388_608.0) as i32;
            let fixed = if x < 0.0 { !fixed(-x) } else { fixed(x) };
            let (whole, fraction) = (fixed >> 23, fixed & 0x7F_FFFF);
            let exact = rounded(libm::exp2(1.0 + f64::from(fraction) / 8_388_608.0));
            let value = moved(exact, EX2.deviations.deviation(fraction.unsigned_abs() as usize));
            rounded(libm::ldexp(f64::from(value), whole - 1))
        };
        for bits in (0..=0x42FF_FFFF_u32).step_by(4099).chain((0xB400_0000..=0xC2FC_0000).step_by(4099)) {
            let x = f32::from_bits(bits);
            assert_eq!(ex2(x).to_bits(), first(x).to_bits(), "{x:e}");
        }
        for x in [-126.0, -125.999_99, 127.999_99, 127.0, 1e-45] {
            assert_eq!(ex2(x).to_bits(), first(x).to_bits(), "{x:e}");
        }
    }

    #[test]
    fn many_at_once_are_one_by_one() {
        let x: Vec<f32> = (0..=0xFFFF_u32).map(|bits| f32::from_bits(bits << 16 | bits)).collect();
        let same = |name: &str, many: Vec<f32>, one: &dyn Fn(f32) -> f32| {
            for (x, many) in x.iter().zip(many) {
                assert_eq!(many.to_bits(), one(*x).to_bits(), "{name}({x:e})");
            }
        };
        let through = |f: &dyn Fn(&mut [f32])| {
            let mut many = x.clone();
            f(&mut many);
            many
        };
        same("exp", through(&|x| exp_each(x, 0.0)), &exp);
        same("exp", through(&|x| exp_each(x, 1.5)), &|x| exp(x - 1.5));
        same("silu", through(&silu_each), &|x| x / (1.0 + exp(-x)));
    }

    #[test]
    fn special_values_are_those_of_the_library() {
        assert_eq!(exp(0.0).to_bits(), 1.0_f32.to_bits());
        assert_eq!(exp(f32::NEG_INFINITY).to_bits(), 0);
        assert_eq!(exp(f32::INFINITY).to_bits(), f32::INFINITY.to_bits());
        assert!(exp(f32::NAN).is_nan());
        assert_eq!(rsqrt(4.0).to_bits(), 0.5_f32.to_bits());
        assert_eq!(rsqrt(0.0).to_bits(), f32::INFINITY.to_bits());
        assert_eq!(rsqrt(-0.0).to_bits(), f32::NEG_INFINITY.to_bits());
        assert_eq!(rsqrt(-1.0).to_bits(), 0x7FFF_FFFF);
        assert_eq!(reciprocal(f32::INFINITY).to_bits(), 0);
        assert_eq!(reciprocal(f32::NEG_INFINITY).to_bits(), (-0.0_f32).to_bits());
        assert_eq!(reciprocal(f32::NAN).to_bits(), 0x7FFF_FFFF);
        // Subnormal numbers are zeros, and the reciprocals that would be subnormal.
        assert_eq!(reciprocal(-f32::from_bits(0x7F_FFFF)).to_bits(), f32::NEG_INFINITY.to_bits());
        assert_eq!(reciprocal(2.0_f32.powi(126)).to_bits(), f32::MIN_POSITIVE.to_bits());
        assert_eq!(reciprocal(2.0_f32.powi(127)).to_bits(), 0);
        assert_eq!(reciprocal(f32::MIN_POSITIVE).to_bits(), 2.0_f32.powi(126).to_bits());
        assert_eq!((sin(0.0), cos(0.0), cos(2e5)), (Some(0.0), Some(1.0), None));
        // Read off an H200: a negative number of which nothing is left in fixed point counts as zero.
        assert_eq!(ex2(f32::from_bits(0xB3FF_FFFF)).to_bits(), 0x3F80_0000);
        assert_eq!(ex2(f32::from_bits(0xB400_0000)).to_bits(), 0x3F7F_FFFE);
        assert_eq!(exp(f32::from_bits(0xB000_0000)).to_bits(), 0x3F80_0000);
    }
}
