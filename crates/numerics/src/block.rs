//! Block-quantized weight layouts of GGUF and the exact value of every element in them.
//!
//! Left out: choosing quantized values (Mantissa reads quantized weights, it does not make them outside tests).

use serde::{Deserialize, Serialize};

/// A block-quantized layout of GGUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum BlockFormat {
    /// 32 signed bytes with one scale.
    #[serde(rename = "q8_0")]
    Q8_0,
    /// 32 nibbles around 8 with one scale.
    #[serde(rename = "q4_0")]
    Q4_0,
    /// 32 nibbles with scale and minimum.
    #[serde(rename = "q4_1")]
    Q4_1,
    /// 256 nibbles in eight groups with six-bit scales and minima.
    #[serde(rename = "q4_k")]
    Q4K,
    /// 256 six-bit values in sixteen groups with eight-bit scales.
    #[serde(rename = "q6_k")]
    Q6K,
}
