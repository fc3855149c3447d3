//! A matrix before, while and after it is quantized.

use mantissa_numerics::Dtype;

/// One stored tensor of a quantized matrix.
///
/// Example: [`super::Quantization`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What stands behind the module's name and a point.
    pub name: &'static str,
    /// Element type as safetensors spells it.
    pub dtype: &'static str,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
}

impl Part {
    pub(super) fn new(name: &'static str, dtype: &'static str, shape: &[usize]) -> Self {
        Self { name, dtype, shape: shape.to_vec() }
    }

    /// Bytes of one element.
    #[must_use]
    pub fn element_bytes(&self) -> usize {
        match self.dtype {
            "F32" | "I32" => 4,
            "F16" | "BF16" => 2,
            _ => 1,
        }
    }

    /// Bytes of the tensor.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shape.iter().map(|&n| n as u64).product::<u64>() * self.element_bytes() as u64
    }
}

/// A matrix to be quantized. *Shape:* `rows` outputs of `cols` inputs.
pub(crate) struct Matrix<'a> {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// What its values are rounded to, and what scales and decoded values have.
    pub(crate) dtype: Dtype,
    /// The value at an index, row-major.
    pub(crate) at: &'a (dyn Fn(usize) -> f32 + Sync),
}

/// Bytes of a part and where in it they belong.
pub(crate) struct Made {
    pub(crate) part: usize,
    pub(crate) at: usize,
    pub(crate) bytes: Vec<u8>,
}

/// A quantized matrix as it lies in files. *Shape:* `parts` in the order of the scheme's names, checked by
/// [`super::Scheme::check`].
#[derive(Debug, Clone)]
pub(crate) struct Packed<'a> {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) parts: Vec<&'a [u8]>,
}

/// The name of `dtype` in safetensors files.
pub(crate) const fn safetensors_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => "F32",
        Dtype::Bf16 => "BF16",
        Dtype::F16 => "F16",
    }
}

/// The little-endian binary32 number `index` of `bytes`.
pub(super) fn f32_at(bytes: &[u8], index: usize) -> f32 {
    Dtype::F32.decode(bytes, index)
}

/// The largest magnitude; NaN is not asked for.
pub(super) fn largest(values: impl Iterator<Item = f32>) -> f32 {
    values.fold(0.0, |most, x| most.max(x.abs()))
}
