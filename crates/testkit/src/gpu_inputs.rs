//! Inputs of measurements on a GPU, made again on any machine, and digests of what came out: as `goldens/gpu/inputs.py`
//! and the scripts that cut goldens (`long_rows.py`, `cudnn_slice.py`) make them.

use mantissa_numerics::Dtype;

/// 32 bits of a place in a tensor.
///
/// ```
/// use mantissa_testkit::gpu_inputs::mixed;
///
/// assert!(mixed(0, 11) < 1 << 32 && mixed(0, 11) != mixed(1, 11));
/// ```
#[must_use]
pub fn mixed(place: u64, seed: u64) -> u64 {
    const MASK: u64 = 0xFFFF_FFFF;
    let mut h = (place + (seed.wrapping_mul(0x9E37_79B1) & MASK)) & MASK;
    h = ((h ^ h >> 16) * 0x7FEB_352D) & MASK;
    h = ((h ^ h >> 15) * 0x846C_A68B) & MASK;
    h ^ h >> 16
}

/// `count` elements of a tensor from place `first` on: a tensor may be made in parts.
///
/// ```
/// use mantissa_numerics::Dtype;
/// use mantissa_testkit::gpu_inputs::hashed;
///
/// let whole = hashed(Dtype::Bf16, 0, 8, 3, 2.0);
/// assert_eq!(hashed(Dtype::Bf16, 5, 3, 3, 2.0), whole[5..]);
/// assert_ne!(hashed(Dtype::Bf16, 0, 8, 4, 2.0), whole, "another seed");
/// ```
#[must_use]
pub fn hashed(dtype: Dtype, first: usize, count: usize, seed: u64, spread: f32) -> Vec<f32> {
    let value = |place| {
        let h = mixed(place, seed);
        #[expect(clippy::cast_precision_loss, reason = "17 bits")]
        let halves = ((h & 0xFFFF) + (h >> 16)) as f32 - 65_535.0;
        dtype.round(halves * (spread / 65_536.0))
    };
    (first as u64..).take(count).map(value).collect()
}

/// A digest of bit patterns in their order.
///
/// ```
/// use mantissa_testkit::gpu_inputs::digest;
///
/// assert_ne!(digest([0x3F80, 0x4000].into_iter()), digest([0x4000, 0x3F80].into_iter()));
/// ```
#[must_use]
pub fn digest(patterns: impl Iterator<Item = u32>) -> String {
    let weight = |place| mixed(place, 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let sum = patterns
        .zip(0..)
        .fold(0_u64, |sum, (bits, place)| sum.wrapping_add(u64::from(bits).wrapping_mul(weight(place))));
    format!("{sum:016x}")
}
