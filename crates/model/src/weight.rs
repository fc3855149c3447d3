//! One named matrix or vector of a checkpoint, as stored.

use std::borrow::Cow;

use mantissa_numerics::{BlockFormat, Dtype};
use serde::{Deserialize, Serialize};

/// How a weight is stored.
///
/// ```
/// use mantissa_model::WeightDtype;
/// use mantissa_numerics::{BlockFormat, Dtype};
///
/// let (plain, block) = (WeightDtype::Plain(Dtype::Bf16), WeightDtype::Block(BlockFormat::Q4_1));
/// assert_eq!((plain.row_bytes(32), block.row_bytes(32), block.row_bytes(33)), (Some(64), Some(20), None));
/// let mut value = [0.0];
/// plain.decode(&[0x80, 0x3f], &mut value);
/// assert_eq!(value, [1.0]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WeightDtype {
    /// One value per element.
    Plain(Dtype),
    /// Blocks along the row.
    Block(BlockFormat),
}

impl WeightDtype {
    /// The name used in files and messages: `bf16`, `q4_1`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain(dtype) => dtype.name(),
            Self::Block(format) => format.name(),
        }
    }

    /// Bytes of a row of `cols` elements; `None` when the size overflows or `cols` is not whole blocks.
    #[must_use]
    pub const fn row_bytes(self, cols: usize) -> Option<usize> {
        match self {
            Self::Plain(dtype) => cols.checked_mul(dtype.size()),
            Self::Block(format) => format.row_bytes(cols),
        }
    }

    /// The f32 value of every element of one or more rows.
    ///
    /// *Rounding:* widening is exact for plain dtypes; see [`BlockFormat::dequantize`] for blocks.
    ///
    /// # Panics
    /// When `bytes` does not hold exactly `out.len()` elements.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Self::Plain(dtype) => {
                assert_eq!(bytes.len(), out.len() * dtype.size(), "elements of {dtype}");
                for (i, value) in out.iter_mut().enumerate() {
                    *value = dtype.decode(bytes, i);
                }
            }
            Self::Block(format) => format.dequantize(bytes, out),
        }
    }
}

impl std::fmt::Display for WeightDtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A weight as the checkpoint stores it, borrowed from the memory map where that is possible.
///
/// *Shape:* `rows × cols`, row-major, `cols` the reduction axis (Hugging Face's `[out_features, in_features]`);
/// a vector has `rows == 1`, stacked experts stand one below the other. Rows of q and k are in Hugging Face order
/// (rotary halves, not GGUF's interleaved pairs).
///
/// Example: [`crate::Checkpoint`].
#[derive(Debug, Clone)]
pub struct Weight<'a> {
    /// Storage format of `data`.
    pub dtype: WeightDtype,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
    /// `rows` rows of equal size, little-endian, no padding between rows.
    pub data: Cow<'a, [u8]>,
}

impl Weight<'_> {
    /// Bytes of one row.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        self.data.len().checked_div(self.rows).unwrap_or(0)
    }

    /// The stored bytes of row `row`.
    ///
    /// # Panics
    /// When there is no such row.
    #[must_use]
    pub fn row(&self, row: usize) -> &[u8] {
        let size = self.row_bytes();
        &self.data[row * size..][..size]
    }

    /// Row `row` as f32, exactly as [`WeightDtype::decode`] defines it.
    ///
    /// # Panics
    /// When there is no such row or `out` has not `cols` elements.
    pub fn row_f32(&self, row: usize, out: &mut [f32]) {
        self.dtype.decode(self.row(row), out);
    }
}
