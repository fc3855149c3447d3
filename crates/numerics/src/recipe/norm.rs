//! RMSNorm.

use std::num::NonZeroU32;

use super::matmul::Lanes;
use crate::Dtype;
use crate::nvidia::reduce::TorchSum;
use crate::nvidia::vllm::VllmMean;

/// RMSNorm of a row: `x · (1 / sqrt(mean(x²) + eps))`, times the weight where [`NormRecipe::weight`] says.
///
/// ```
/// use mantissa_numerics::recipe::{NormRecipe, NormWeight, wire};
/// let json = r#"{"reduction":{"torch":{"threads":128},"rows":9},"output":"bf16","functions":"nvidia"}"#;
/// let flat: wire::NormRecipe = serde_json::from_str(json)?;
/// assert_eq!(NormRecipe::try_from(flat)?.weight, NormWeight::AfterCast);
/// // PyTorch's sum with the engine's own root is what no kernel computes.
/// let mixed = wire::NormRecipe { functions: wire::Functions::Engine, ..flat };
/// assert!(NormRecipe::try_from(mixed).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///
/// ```
/// use mantissa_numerics::nvidia::reduce::TorchSum;
/// // A row of 896 whose squares have the mean 3.
/// let squares = [1.0, 9.0, 1.0, 1.0].repeat(224);
/// let sum = TorchSum::of(1, 896).unwrap().sum(squares.into_iter());
/// // The engine divides; PyTorch multiplies by 1 / 896, which is rounded.
/// assert_eq!((sum / 896.0, sum * (1.0 / 896.0)), (3.0, 3.0_f32.next_up()));
/// ```
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
    /// vLLM's CUDA kernels: [`VllmMean`]; CUDA's `rsqrt`. The weight is multiplied before the one rounding
    /// ([`NormWeight::BeforeCast`]).
    Vllm(VllmMean),
}

/// Where RMSNorm's weight is applied.
///
/// ```
/// use mantissa_numerics::{Dtype, recipe::NormWeight};
/// let r = |x| Dtype::Bf16.round(x);
/// let weighted = |weight, y: f32, w: f32| match weight {
///     NormWeight::AfterCast => r(w * r(y)),
///     NormWeight::BeforeCast => r(w * y),
///     NormWeight::OnePlus => r(y * (1.0 + w)),
/// };
/// let y = 1.00390625; // x · scale, half way between two bf16s
/// assert_eq!(weighted(NormWeight::AfterCast, y, 1.0078125), 1.0078125);
/// assert_eq!(weighted(NormWeight::BeforeCast, y, 1.0078125), 1.015625);
/// assert_eq!(weighted(NormWeight::OnePlus, y, 0.0078125), 1.015625);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NormWeight {
    /// `round(w · round(x · scale))`: Hugging Face's `LlamaRMSNorm` casts before it multiplies by the weight.
    AfterCast,
    /// `round(w · (x · scale))`: one rounding, OLMo 2's.
    BeforeCast,
    /// `round((x · scale) · (1 + w))`, the sum and both products in binary32: Gemma's.
    OnePlus,
}
