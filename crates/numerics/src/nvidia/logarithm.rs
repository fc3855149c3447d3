//! Logarithms as the hardware and CUDA's library compute them; the hardware's of 1 to 2^16, of sums of exponentials of
//! which one is 1.
//!
//! `lg2.approx` interpolates in a table inside the chip. Kept here are a quadratic for each of 64 segments of a
//! mantissa and its difference from the result, deflated to 0.4 MB (8 MB once unpacked): made by
//! `goldens/gpu/logarithm.py`, which also says how the rest was compared with an H100, the H200's chip: every input of
//! these octaves, no difference.
//!
//! Left out: numbers below 1, where the instruction is no sum of exponent and fraction.

use std::sync::LazyLock;

use super::functions::NOT_A_NUMBER;

const SEGMENTS: usize = 64;

/// Mantissas of a segment.
const LENGTH: usize = (1 << 23) / SEGMENTS;

/// Mantissas of which more than a byte is missing.
const WIDE: usize = 1 << 16;

/// ln 2, rounded.
pub(super) const LN_2: f32 = f32::from_bits(0x3F31_7218);

static LG2: LazyLock<Lg2> =
    LazyLock::new(|| Lg2::unpack(include_bytes!("../../tables/lg2.deflate")).unwrap_or_else(damaged));

fn damaged() -> Lg2 {
    unreachable!("a table of the program is damaged")
}

/// What [`lg2`] makes of 1 to 2.
struct Lg2 {
    /// Highest power first, of the place within the segment, from 0 to 1.
    quadratics: Vec<[f64; 3]>,
    wide: Vec<i16>,
    narrow: Vec<i8>,
}

impl Lg2 {
    fn unpack(deflated: &[u8]) -> Option<Self> {
        let bytes = miniz_oxide::inflate::decompress_to_vec(deflated).ok()?;
        let (quadratics, rest) = bytes.split_at_checked(SEGMENTS * 24)?;
        let (wide, narrow) = rest.split_at_checked(2 * WIDE)?;
        let floats: Vec<f64> =
            quadratics.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
        (narrow.len() == (1 << 23) - WIDE).then(|| Self {
            quadratics: floats.as_chunks().0.to_vec(),
            wide: wide.as_chunks().0.iter().map(|bytes| i16::from_le_bytes(*bytes)).collect(),
            narrow: narrow.iter().map(|byte| byte.cast_signed()).collect(),
        })
    }

    /// Of `1 + mantissa / 2^23`, exact.
    fn fraction(&self, mantissa: usize) -> f64 {
        let [a, b, c] = self.quadratics[mantissa / LENGTH];
        #[expect(clippy::cast_precision_loss, reason = "17 bits")]
        let x = (mantissa % LENGTH) as f64 / LENGTH as f64;
        let near = (a * x + b) * x + c;
        // A unit in the last place of a binary32, but at least 2^-36.
        let exponent = (near.to_bits() >> 52 & 2047).max(1023 - 13) - 23;
        let unit = f64::from_bits(exponent << 52);
        let missing = match mantissa.checked_sub(WIDE) {
            Some(at) => f64::from(self.narrow[at]),
            None => f64::from(self.wide[mantissa]),
        };
        ((near / unit).floor() + missing) * unit
    }
}

/// Where [`lg2`] ends.
const LARGEST: f32 = 65_536.0;

/// log₂ x, as `lg2.approx`; `None` below 1, from 2^16 on, and of a NaN.
///
/// *Rounding:* a table from 1 to 2; beyond, its result cut to 23 fraction bits and added to the exponent, cut to
/// binary32.
#[must_use]
fn lg2(x: f32) -> Option<f32> {
    if !(1.0..LARGEST).contains(&x) {
        return None;
    }
    let bits = x.to_bits();
    let exponent = (bits >> 23) - 127;
    let fraction = LG2.fraction((bits & 0x7F_FFFF) as usize);
    #[expect(clippy::cast_possible_truncation, reason = "exact: cut to a binary32's bits")]
    if exponent == 0 {
        return Some(fraction as f32);
    }
    let unit = f64::from_bits(u64::from(1023 - 23 + exponent.ilog2()) << 52);
    let fraction = (fraction * 8_388_608.0).floor() / 8_388_608.0;
    let cut = ((f64::from(exponent) + fraction) / unit).floor() * unit;
    #[expect(clippy::cast_possible_truncation, reason = "exact: cut to a binary32's bits")]
    Some(cut as f32)
}

/// ln x, as CUDA's `__logf`; `None` where [`lg2`] is.
#[must_use]
pub(super) fn log_fast(x: f32) -> Option<f32> {
    Some(lg2(x)? * LN_2)
}

/// ln x, as CUDA's `logf` and PyTorch's `log`.
///
/// *Rounding:* a polynomial of the number between 2/3 and 4/3 that a power of two leaves. *Source:* PTX of `logf` in
/// CUDA 13 (libdevice), restated.
///
/// ```
/// use mantissa_numerics::nvidia::logarithm::log;
/// assert_eq!((log(1.0), log(0.0), log(f32::INFINITY)), (0.0, f32::NEG_INFINITY, f32::INFINITY));
/// // Not the nearest value.
/// assert_eq!(log(0.7), (0.7_f32 as f64).ln() as f32);
/// assert!(log(-1.0).is_nan());
/// ```
#[must_use]
pub fn log(x: f32) -> f32 {
    const COEFFICIENTS: [u32; 8] = [
        0xBE05_5027,
        0x3E10_39F6,
        0xBDF8_CDCC,
        0x3E0F_2955,
        0xBE2A_D8B9,
        0x3E4C_ED0B,
        0xBE7F_FF22,
        0x3EAA_AA78,
    ];
    let (x, power) = if x < f32::MIN_POSITIVE { (x * 8_388_608.0, -23.0) } else { (x, 0.0) };
    if x == 0.0 {
        return f32::NEG_INFINITY;
    }
    if x.to_bits() >= f32::INFINITY.to_bits() {
        return if x == f32::INFINITY { x } else { NOT_A_NUMBER };
    }
    // The power of two that leaves a number between 2/3 and 4/3.
    let exponent = (x.to_bits().wrapping_sub(0x3F2A_AAAB) & 0xFF80_0000).cast_signed();
    let f = f32::from_bits(x.to_bits().wrapping_sub(exponent.cast_unsigned())) - 1.0;
    #[expect(clippy::cast_precision_loss, reason = "a multiple of 2^23 below 2^31")]
    let power = (exponent as f32).mul_add(1.0 / 8_388_608.0, power);
    let [first, rest @ ..] = COEFFICIENTS.map(f32::from_bits);
    let r = rest.iter().fold(first, |r, c| r.mul_add(f, *c)).mul_add(f, -0.5);
    power.mul_add(LN_2, (f * r).mul_add(f, f))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FNV-1a over the patterns of all results from 1 to 2, as `goldens/gpu/logarithm.py` measured them.
    #[test]
    fn every_result_from_1_to_2_is_the_chips() {
        let mut hash = 0xCBF2_9CE4_8422_2325_u64;
        for bits in 0x3F80_0000..0x4000_0000 {
            let y = lg2(f32::from_bits(bits)).unwrap().to_bits();
            for byte in y.to_le_bytes() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
            }
        }
        assert_eq!(hash, MEASURED, "{hash:#x}");
    }

    /// Digests of `goldens/gpu/long_rows.py`: of a whole octave inside what is known, and of the two last.
    #[test]
    fn octaves_of_fast_logarithms_are_the_chips() {
        let mixed = |place: u32| {
            let h = place.wrapping_add(0x9E37_79B1);
            let h = (h ^ h >> 16).wrapping_mul(0x7FEB_352D);
            let h = (h ^ h >> 15).wrapping_mul(0x846C_A68B);
            u64::from(h ^ h >> 16)
        };
        for (octave, measured) in
            [(13, 0x87AB_8F02_51B7_7392_u64), (14, 0xA7EF_309C_BE94_6CC7), (15, 0xB0CD_9804_E704_FBDF)]
        {
            let digest = (0..1 << 23).fold(0_u64, |sum, place| {
                let y = log_fast(f32::from_bits(((127 + octave) << 23) + place)).unwrap().to_bits();
                let weight = mixed(place).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
                sum.wrapping_add(u64::from(y).wrapping_mul(weight))
            });
            assert_eq!(digest, measured, "{octave}");
        }
    }

    const MEASURED: u64 = 0x85E2_7082_74AA_4BAD;

    #[test]
    fn logarithms_are_near_and_have_bounds() {
        for bits in (0x3F80_0000..0x4680_0000).step_by(4099) {
            let x = f32::from_bits(bits);
            let exact = f64::from(x).ln();
            for y in [log_fast(x).unwrap(), log(x)] {
                let y = f64::from(y);
                assert!((y - exact).abs() <= 3e-7 * exact.max(1.0), "{x}: {y} for {exact}");
            }
        }
        assert_eq!((lg2(1.0), log_fast(1.0), log(1.0)), (Some(0.0), Some(0.0), 0.0));
        assert_eq!(lg2(8192.0), Some(13.0));
        for x in [0.999, LARGEST, f32::INFINITY, f32::NAN, -1.0] {
            assert_eq!((lg2(x), log_fast(x)), (None, None));
        }
        for x in [1e-45, 1e-40, 1e-30, 0.499, 1e30, f32::MAX] {
            let exact = f64::from(x).ln();
            assert!((f64::from(log(x)) - exact).abs() <= 2e-7 * exact.abs(), "{x}: {} for {exact}", log(x));
        }
        assert_eq!([-0.0, 0.0].map(|x| log(x).to_bits()), [f32::NEG_INFINITY.to_bits(); 2]);
        for x in [-1.0, -1e-40, f32::NEG_INFINITY, f32::NAN] {
            assert_eq!(log(x).to_bits(), 0x7FFF_FFFF);
        }
    }
}
