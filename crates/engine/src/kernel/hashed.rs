//! Values of GPU measurements as a cache holds them, and digests of outputs in a storage format.

use mantissa_numerics::Dtype;
use mantissa_testkit::gpu_inputs;
pub(super) use mantissa_testkit::gpu_inputs::hashed;

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
    gpu_inputs::digest(values.iter().map(|value| dtype.pattern(*value)))
}
