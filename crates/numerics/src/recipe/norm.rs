//! RMSNorm.

use std::num::NonZeroU32;

use super::matmul::Lanes;
use crate::Dtype;
use crate::nvidia::reduce::TorchSum;

/// RMSNorm of a row: `x · (1 / sqrt(mean(x²) + eps))`, times the weight where [`NormRecipe::weight`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NormRecipe {
    /// The mean of squares, and whose `1 / sqrt`.
    pub mean: NormMean,
    /// Where the weight is applied.
    pub weight: NormWeight,
    /// Format of the roundings.
    pub output: Dtype,
}

/// How the mean of squares is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NormMean {
    /// The engine's own: lane `k mod lanes` takes element `k` by `fma(x, x, acc)`, then the halving tree; divided by
    /// the length; square root and division correctly rounded.
    Lanes {
        /// Lanes.
        lanes: Lanes,
    },
    /// PyTorch's CUDA kernel: squares rounded, their sum, times `rows / (rows · length)`; CUDA's `rsqrt`.
    Torch {
        /// The sum.
        sum: TorchSum,
        /// Rows of the kernel.
        rows: NonZeroU32,
    },
}

/// Where RMSNorm's weight is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NormWeight {
    /// `round(w · round(x · scale))`: Hugging Face's `LlamaRMSNorm` casts before it multiplies by the weight.
    AfterCast,
    /// `round(w · (x · scale))`: one rounding, OLMo 2's.
    BeforeCast,
    /// `round((x · scale) · (1 + w))`, the sum and both products in binary32: Gemma's.
    OnePlus,
}
