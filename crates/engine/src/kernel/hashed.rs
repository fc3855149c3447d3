//! Inputs of measurements on a GPU, made again, and digests of outputs: `goldens/gpu/inputs.py`, `long_rows.py` and
//! `cudnn_slice.py`.

use mantissa_numerics::Dtype;

fn mixed(place: u64, seed: u64) -> u64 {
    const MASK: u64 = 0xFFFF_FFFF;
    let mut h = (place + (seed.wrapping_mul(0x9E37_79B1) & MASK)) & MASK;
    h = ((h ^ h >> 16) * 0x7FEB_352D) & MASK;
    h = ((h ^ h >> 15) * 0x846C_A68B) & MASK;
    h ^ h >> 16
}

/// `count` elements of a tensor from `first` on.
pub(super) fn hashed(dtype: Dtype, first: usize, count: usize, seed: u64, spread: f32) -> Vec<f32> {
    let value = |place| {
        let h = mixed(place, seed);
        #[expect(clippy::cast_precision_loss, reason = "17 bits")]
        let halves = ((h & 0xFFFF) + (h >> 16)) as f32 - 65_535.0;
        dtype.round(halves * (spread / 65_536.0))
    };
    (first as u64..).take(count).map(value).collect()
}

/// Values as bytes of a matrix, past the last row of which a panel may read.
pub(super) fn bytes_of(dtype: Dtype, values: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 * values.len() + (1 << 14));
    for x in values {
        dtype.encode(*x, &mut bytes);
    }
    bytes.resize(2 * values.len() + (1 << 14), 0);
    bytes
}

pub(super) fn digest(dtype: Dtype, values: &[f32]) -> String {
    let sum = values.iter().zip(0..).fold(0_u64, |sum, (x, place)| {
        let weight = mixed(place, 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        sum.wrapping_add(u64::from(dtype.pattern(*x)).wrapping_mul(weight))
    });
    format!("{sum:016x}")
}
