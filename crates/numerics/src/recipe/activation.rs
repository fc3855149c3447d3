//! The gated activation of a feed-forward block.

use crate::Dtype;

/// `round(round(silu(gate)) · up)`, `silu(x) = x / (1 + exp(−x))` in binary32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SwiGluRecipe {
    /// Whose SiLU.
    pub silu: Silu,
    /// Format of both roundings.
    pub output: Dtype,
}

/// Whose SiLU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Silu {
    /// With the engine's own exponential, sum and division correctly rounded.
    Own,
    /// PyTorch's CUDA kernel: [`crate::nvidia::functions::silu_each`].
    Cuda,
}

/// gpt-oss's gated unit of neighbours `(gate, up)`, each operation in binary32 and rounded to `output`: `gate` clamped
/// from above and `up` from both sides to the model's limit; `gate · sigmoid(alpha · gate)`, times `up + 1`. The
/// sigmoid is `1 / (1 + exp(−x))` with the engine's own exponential, rounded once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClampedSwiGluRecipe {
    /// Format of every rounding.
    pub output: Dtype,
}

/// `round(round(gelu(gate)) · up)` with the tanh form of GELU, the engine's own: in binary32, each operation rounded,
/// `inner = c · (x + 0.044715 · ((x · x) · x))` with `c = sqrt(2 / π)`; `gelu(x) = (0.5 · x) · (1 + tanh(inner))`, the
/// tanh computed in binary64 (by the `libm` crate) and rounded to binary32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GeGluRecipe {
    /// Format of both roundings.
    pub output: Dtype,
}
