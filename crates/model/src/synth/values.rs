//! The values of one tensor: a counter-based generator, exact up to one multiplication, one addition, one rounding.
//!
//! Left out: which tensor has which scale (`tensors`). docs/format/synth.md states the same in formulas.

use half::{bf16, f16};
use mantissa_numerics::Dtype;

/// Standard deviation of the sum of four uniform 16-bit integers: √((2³² − 1) / 3), correctly rounded.
const SUM_DEVIATION: f64 = 37837.22723720648;
/// Mean of that sum: 4 · 65535 / 2.
const SUM_MEAN: i32 = 131_070;
/// SplitMix64's increment, 2⁶⁴ divided by the golden ratio.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// A stream of values, each a function of its index alone.
///
/// *Source:* SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014) for the bits;
/// Irwin–Hall sum of four uniforms for the bell shape.
///
/// ```
/// use mantissa_model::synth::Values;
/// use mantissa_numerics::Dtype;
///
/// let values = Values::new(7, "model.embed_tokens.weight", 0.0, 0.5);
/// assert_eq!(values.at(0).to_bits(), 0xbdc4e99b);
/// // Any value can be made without those before it.
/// let mut bytes = [0; 4];
/// values.encode(Dtype::F32, 1000, &mut bytes);
/// assert_eq!(f32::from_le_bytes(bytes), values.at(1000));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Values {
    key: u64,
    centre: f32,
    step: f32,
}

impl Values {
    /// The stream of tensor `name` under `seed`: mean `centre`, standard deviation `deviation`.
    ///
    /// *Rounding:* the deviation is divided by the sum's in binary64 and rounded once to binary32.
    #[must_use]
    pub fn new(seed: u64, name: &str, centre: f32, deviation: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the one rounding to binary32 that the format states"
        )]
        let step = (deviation / SUM_DEVIATION) as f32;
        Self { key: key(seed, name), centre, step }
    }

    /// Value `index`, before the rounding to the storage dtype.
    ///
    /// *Rounding:* the centred sum is an exact integer; the product and the sum each round once to binary32.
    #[must_use]
    #[inline]
    pub fn at(&self, index: u64) -> f32 {
        let bits = mix(self.key.wrapping_add(index.wrapping_add(1).wrapping_mul(GAMMA)));
        let sum = (bits & 0xffff) + ((bits >> 16) & 0xffff) + ((bits >> 32) & 0xffff) + (bits >> 48);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "at most 262140, exact in i32 and in binary32"
        )]
        let centred = (sum as i32 - SUM_MEAN) as f32;
        self.centre + centred * self.step
    }

    /// Values `first..` in storage format `dtype`, little-endian, as many as fit in `out`.
    ///
    /// *Rounding:* [`Values::at`] rounded to nearest even into `dtype`. *Shape:* `out` holds whole values.
    pub fn encode(&self, dtype: Dtype, first: u64, out: &mut [u8]) {
        match dtype {
            Dtype::F32 => self.fill(first, out, |x| x.to_bits().to_le_bytes()),
            Dtype::Bf16 => self.fill(first, out, |x| bf16::from_f32(x).to_bits().to_le_bytes()),
            Dtype::F16 => self.fill(first, out, |x| f16::from_f32(x).to_bits().to_le_bytes()),
        }
    }

    fn fill<const SIZE: usize>(&self, first: u64, out: &mut [u8], store: impl Fn(f32) -> [u8; SIZE]) {
        debug_assert!(out.len().is_multiple_of(SIZE), "whole values");
        for (index, place) in (first..).zip(out.as_chunks_mut::<SIZE>().0) {
            *place = store(self.at(index));
        }
    }
}

/// Where a tensor's stream starts: FNV-1a over the seed (8 bytes, little-endian) and the name, then mixed.
fn key(seed: u64, name: &str) -> u64 {
    let hash =
        seed.to_le_bytes().iter().chain(name.as_bytes()).fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
    mix(hash)
}

/// SplitMix64's finalizer.
#[inline]
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SplitMix64 seeded with 1234567, as printed by its reference C implementation.
    #[test]
    fn the_bits_are_splitmix64() {
        let first: Vec<u64> =
            (1..=5_u64).map(|i| mix(1_234_567_u64.wrapping_add(i.wrapping_mul(GAMMA)))).collect();
        assert_eq!(
            first,
            [
                6457827717110365317,
                3203168211198807973,
                9817491932198370423,
                4593380528125082431,
                16408922859458223821
            ]
        );
    }

    /// The first values of a stream, computed from docs/format/synth.md in Python integers and numpy.
    #[test]
    fn an_independent_implementation_agrees() {
        let values = Values::new(7, "model.embed_tokens.weight", 0.0, 0.5);
        let bits: Vec<u32> = (0..4).map(|i| values.at(i).to_bits()).collect();
        assert_eq!(bits, [0xbdc4e99b, 0x3d8f380d, 0x3ddf762c, 0x3db1ea02], "{bits:#010x?}");
        let far = Values::new(u64::MAX, "lm_head.weight", 1.0, 0.1).at(1 << 40);
        assert_eq!(far.to_bits(), 0x3f8992da, "{:#010x}", far.to_bits());
    }

    #[test]
    fn mean_and_deviation_are_as_asked() {
        let values = Values::new(1, "w", 1.0, 0.25);
        let n = 1_000_000_u32;
        let (mut sum, mut squares) = (0.0_f64, 0.0_f64);
        for i in 0..n {
            let x = f64::from(values.at(u64::from(i))) - 1.0;
            sum += x;
            squares += x * x;
        }
        let n = f64::from(n);
        // Six standard errors of the mean; the deviation of a bell of kurtosis 2.7 is known to 0.1% at this n.
        assert!((sum / n).abs() < 6.0 * 0.25 / n.sqrt(), "{}", sum / n);
        assert!(((squares / n).sqrt() / 0.25 - 1.0).abs() < 0.005, "{}", (squares / n).sqrt());
    }

    #[test]
    fn pieces_join_without_a_seam() {
        let values = Values::new(3, "w", 0.0, 1.0);
        for dtype in Dtype::ALL {
            let size = dtype.size();
            let mut whole = vec![0; 1000 * size];
            values.encode(dtype, 0, &mut whole);
            let mut parts = vec![0; 1000 * size];
            let (head, tail) = parts.split_at_mut(333 * size);
            values.encode(dtype, 333, tail);
            values.encode(dtype, 0, head);
            assert_eq!(whole, parts);
            let read = dtype.decode(&whole, 999);
            assert_eq!(read.to_bits(), dtype.round(values.at(999)).to_bits());
        }
    }
}
