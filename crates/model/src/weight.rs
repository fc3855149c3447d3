//! One named matrix or vector of a checkpoint, as stored.

use std::borrow::Cow;

use mantissa_numerics::{BlockFormat, Dtype};
use serde::{Deserialize, Serialize};

/// How a weight is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WeightDtype {
    /// One value per element.
    Plain(Dtype),
    /// Blocks along the row.
    Block(BlockFormat),
}

/// A weight as the checkpoint stores it, borrowed from the memory map where that is possible.
///
/// *Shape:* `rows × cols`, row-major, `cols` the reduction axis (Hugging Face's `[out_features, in_features]`);
/// a vector has `rows == 1`. Rows of q and k are in Hugging Face order (rotary halves, not GGUF's interleaved pairs).
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
