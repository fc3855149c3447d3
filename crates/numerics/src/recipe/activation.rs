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
