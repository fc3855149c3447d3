//! Safetensors files from parts, honest and lying.

use mantissa_numerics::Dtype;
use serde_json::{Map, Value, json};

/// The bytes of `values`, rounded to `dtype`, little-endian.
///
/// ```
/// use mantissa_numerics::Dtype;
///
/// assert_eq!(mantissa_testkit::safetensors::encode(Dtype::Bf16, &[1.0]), [0x80, 0x3f]);
/// ```
#[must_use]
pub fn encode(dtype: Dtype, values: &[f32]) -> Vec<u8> {
    let mut out = Vec::with_capacity(values.len() * dtype.size());
    for &value in values {
        dtype.encode(value, &mut out);
    }
    out
}

/// One tensor to be written.
///
/// Example: [`build`].
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Name.
    pub name: String,
    /// Element type as the format spells it (`F32`).
    pub dtype: &'static str,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Data.
    pub data: Vec<u8>,
}

impl Tensor {
    /// A tensor of rounded `values`.
    #[must_use]
    pub fn new(name: &str, dtype: Dtype, shape: &[usize], values: &[f32]) -> Self {
        let spelled = match dtype {
            Dtype::F32 => "F32",
            Dtype::Bf16 => "BF16",
            Dtype::F16 => "F16",
        };
        Self { name: name.into(), dtype: spelled, shape: shape.to_vec(), data: encode(dtype, values) }
    }
}

/// A file of `tensors`, laid out in their order.
///
/// ```
/// use mantissa_numerics::Dtype;
/// use mantissa_testkit::safetensors::{Tensor, build};
///
/// let bytes = build(&[Tensor::new("t", Dtype::F32, &[1], &[1.0])]);
/// // The length of the header, the header, the values.
/// let length = usize::from(bytes[0]);
/// assert_eq!(bytes[8 + length..], 1.0_f32.to_le_bytes());
/// ```
#[must_use]
pub fn build(tensors: &[Tensor]) -> Vec<u8> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut data = Vec::new();
    for tensor in tensors {
        let from = data.len();
        data.extend_from_slice(&tensor.data);
        let entry = json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [from, data.len()]});
        header.insert(tensor.name.clone(), entry);
    }
    raw(&Value::Object(header).to_string(), &data)
}

/// A file of this header text, whatever it says, and this data.
///
/// ```
/// assert_eq!(mantissa_testkit::safetensors::raw("{}", &[7]), [2, 0, 0, 0, 0, 0, 0, 0, b'{', b'}', 7]);
/// ```
#[must_use]
pub fn raw(header: &str, data: &[u8]) -> Vec<u8> {
    let length = u64::try_from(header.len()).unwrap_or(u64::MAX);
    [&length.to_le_bytes(), header.as_bytes(), data].concat()
}
