//! Storage formats of activations, caches and unquantized weights, and the one rounding that leads into them.
//!
//! Left out: quantized block layouts (see [`crate::block`]) and arithmetic.

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

/// A storage format of real numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE 754 binary32.
    F32,
    /// bfloat16: binary32 cut to 8 significand bits.
    Bf16,
    /// IEEE 754 binary16.
    F16,
}

impl Dtype {
    /// Every storage format, in the order documentation lists them.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::F16];

    /// Bytes of one value.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    /// The name used in flags and files: `f32`, `bf16`, `f16`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// Rounds `x` to the nearest value of this format, ties to even, and returns it as binary32.
    ///
    /// *Rounding:* round-to-nearest-even with gradual underflow; overflow gives infinity; a NaN stays a NaN
    /// (quiet, sign and leading payload bits kept), as PyTorch's `Tensor.to` does on the CPU.
    #[must_use]
    #[inline]
    pub fn round(self, x: f32) -> f32 {
        match self {
            Self::F32 => x,
            Self::Bf16 if !x.is_nan() => {
                // Half a unit less one, and one more where the unit is odd.
                let bits = x.to_bits();
                f32::from_bits((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000)
            }
            Self::Bf16 => bf16::from_f32(x).to_f32(),
            Self::F16 => round_to_f16(x),
        }
    }

    /// [`Dtype::round`] of each, in place.
    ///
    /// ```
    /// let mut x = [1.0, 1.001];
    /// mantissa_numerics::Dtype::Bf16.round_each(&mut x);
    /// assert_eq!(x, [1.0, 1.0]);
    /// ```
    #[inline]
    pub fn round_each(self, x: &mut [f32]) {
        match self {
            Self::F32 => {}
            Self::Bf16 => {
                for x in x {
                    let bits = x.to_bits();
                    let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000;
                    // A NaN becomes quiet and keeps its leading bits.
                    let nan = bits & 0xFFFF_0000 | 0x40_0000;
                    *x = f32::from_bits(if bits & 0x7FFF_FFFF > 0x7F80_0000 { nan } else { rounded });
                }
            }
            Self::F16 => {
                for x in x {
                    *x = round_to_f16(*x);
                }
            }
        }
    }

    /// The bit pattern of `x`, already rounded by [`Dtype::round`].
    ///
    /// ```
    /// use mantissa_numerics::Dtype;
    /// assert_eq!(Dtype::ALL.map(|dtype| dtype.pattern(1.0)), [0x3F80_0000, 0x3F80, 0x3C00]);
    /// ```
    #[must_use]
    pub fn pattern(self, x: f32) -> u32 {
        match self {
            Self::F32 => x.to_bits(),
            Self::Bf16 => bf16::from_f32(x).to_bits().into(),
            Self::F16 => f16::from_f32(x).to_bits().into(),
        }
    }

    /// Appends the bit pattern of `x`, already rounded by [`Dtype::round`], to `out`, little-endian.
    pub fn encode(self, x: f32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.pattern(x).to_le_bytes()[..self.size()]);
    }

    /// [`Dtype::encode`] of each of `x`, into `out`: as many as there is room for.
    ///
    /// ```
    /// let mut bytes = [0; 4];
    /// mantissa_numerics::Dtype::Bf16.encode_each(&[1.0, 2.0], &mut bytes);
    /// assert_eq!(bytes, [0x80, 0x3F, 0x00, 0x40]);
    /// ```
    pub fn encode_each(self, x: &[f32], out: &mut [u8]) {
        match self {
            Self::F32 => {
                for (bytes, x) in out.as_chunks_mut().0.iter_mut().zip(x) {
                    *bytes = x.to_le_bytes();
                }
            }
            Self::Bf16 => {
                for (bytes, x) in out.as_chunks_mut().0.iter_mut().zip(x) {
                    // Rounded already: the lower half is empty.
                    let [_, _, low, high] = x.to_le_bytes();
                    *bytes = [low, high];
                }
            }
            Self::F16 => {
                for (bytes, x) in out.as_chunks_mut().0.iter_mut().zip(x) {
                    *bytes = f16::from_f32(*x).to_le_bytes();
                }
            }
        }
    }

    /// Reads value `index` of a little-endian array of this format.
    ///
    /// # Panics
    /// When `index` lies outside `bytes`; a caller bounds it by `bytes.len() / self.size()`.
    #[must_use]
    pub fn decode(self, bytes: &[u8], index: usize) -> f32 {
        let at = index * self.size();
        match self {
            Self::F32 => f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]),
            Self::Bf16 => bf16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32(),
            Self::F16 => widened_f16(u16::from_le_bytes([bytes[at], bytes[at + 1]])),
        }
    }

    /// [`Dtype::decode`] of the first `out.len()` values, or as many as there are.
    ///
    /// ```
    /// let mut x = [0.0; 2];
    /// mantissa_numerics::Dtype::Bf16.decode_each(&[0x80, 0x3F, 0x00, 0x40], &mut x);
    /// assert_eq!(x, [1.0, 2.0]);
    /// ```
    pub fn decode_each(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Self::F32 => {
                for (x, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *x = f32::from_le_bytes(*bytes);
                }
            }
            Self::Bf16 => {
                for (x, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *x = bf16::from_le_bytes(*bytes).to_f32();
                }
            }
            Self::F16 => {
                for (x, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *x = widened_f16(u16::from_le_bytes(*bytes));
                }
            }
        }
    }
}

/// [`Dtype::round`] to binary16, without a branch, so that compilers vectorize it.
#[inline]
fn round_to_f16(x: f32) -> f32 {
    let bits = x.to_bits();
    let magnitude = bits & 0x7FFF_FFFF;
    // Half a unit less one, and one more where the unit is odd.
    let normal = (magnitude + 0xFFF + (magnitude >> 13 & 1)) & 0xFFFF_E000;
    let normal = if normal > 0x477F_E000 { 0x7F80_0000 } else { normal };
    // A sum with ½ is rounded to multiples of 2^-24.
    let subnormal = (f32::from_bits(magnitude) + 0.5 - 0.5).to_bits();
    let finite = if magnitude < 0x3880_0000 { subnormal } else { normal };
    // A NaN becomes quiet and keeps its leading bits.
    let nan = magnitude & 0xFFFF_E000 | 0x40_0000;
    f32::from_bits(bits & 0x8000_0000 | if magnitude > 0x7F80_0000 { nan } else { finite })
}

/// A binary16 in binary32; a NaN becomes quiet.
#[inline]
fn widened_f16(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7FFF);
    // At its place in binary32, times the difference of biases.
    let finite = f32::from_bits(magnitude << 13) * f32::from_bits((127 + 112) << 23);
    let quiet = u32::from(magnitude > 0x7C00) << 22;
    let special = 0x7F80_0000 | (magnitude & 0x3FF) << 13 | quiet;
    let magnitude = if magnitude < 0x7C00 { finite.to_bits() } else { special };
    f32::from_bits(u32::from(bits & 0x8000) << 16 | magnitude)
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Dtype {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "f32" | "fp32" | "float32" => Ok(Self::F32),
            "bf16" | "bfloat16" => Ok(Self::Bf16),
            "f16" | "fp16" | "float16" => Ok(Self::F16),
            other => Err(format!("unknown dtype '{other}': use f32, bf16 or f16")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every upper part with the lower parts that decide; of small numbers, the ties of subnormals too.
    #[test]
    fn rounding_to_f16_is_that_of_half() {
        let numbers = (0..=0x7_FFFF_u32)
            .flat_map(|upper| [0, 1, 0xFFF, 0x1000, 0x1001, 0x1FFF].map(|lower| upper << 13 | lower));
        let small = (0..0x1_0000_u32).flat_map(|number| {
            let tie = (f64::from(number) + 0.5) / 33_554_432.0;
            #[expect(clippy::cast_possible_truncation, reason = "17 bits")]
            let tie = (tie as f32).to_bits();
            [tie - 1, tie, tie + 1, tie | 1 << 31]
        });
        for bits in numbers.chain(small) {
            let x = f32::from_bits(bits);
            let expected = f16::from_f32(x).to_f32().to_bits();
            assert_eq!(Dtype::F16.round(x).to_bits(), expected, "{x:e}");
            let mut each = [x];
            Dtype::F16.round_each(&mut each);
            assert_eq!(each[0].to_bits(), expected, "{x:e}");
        }
    }

    #[test]
    fn every_f16_is_decoded_as_half_does() {
        for bits in 0..=0xFFFF_u16 {
            let found = Dtype::F16.decode(&bits.to_le_bytes(), 0).to_bits();
            assert_eq!(found, f16::from_bits(bits).to_f32().to_bits(), "{bits:04x}");
        }
    }

    /// Every pattern of 16 bits; for binary32, two of them behind each other.
    #[test]
    fn all_are_decoded_as_one_is() {
        let bytes: Vec<u8> = (0..=0xFFFF_u16).flat_map(u16::to_le_bytes).collect();
        for dtype in Dtype::ALL {
            let count = bytes.len() / dtype.size();
            let mut all = vec![0.0; count];
            dtype.decode_each(&bytes, &mut all);
            let same = |(i, x): (usize, &f32)| x.to_bits() == dtype.decode(&bytes, i).to_bits();
            assert!(all.iter().enumerate().all(same), "{dtype:?}");
        }
    }

    /// Every upper half with the lower halves that decide: the tie, its neighbours, and the ends.
    #[test]
    fn rounding_to_bf16_is_that_of_half() {
        for upper in 0..=0xFFFF_u32 {
            for lower in [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF] {
                let x = f32::from_bits(upper << 16 | lower);
                let expected = bf16::from_f32(x).to_f32().to_bits();
                assert_eq!(Dtype::Bf16.round(x).to_bits(), expected, "{x:e}");
                let mut each = [x];
                Dtype::Bf16.round_each(&mut each);
                assert_eq!(each[0].to_bits(), expected, "{x:e}");
            }
        }
    }
}
