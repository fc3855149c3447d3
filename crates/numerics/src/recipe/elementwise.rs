//! Kernels that treat each element by itself.

use crate::Dtype;

/// `round(sum + bias)` after a product that was left in binary32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BiasRecipe {
    /// Format of the one rounding.
    pub output: Dtype,
}

/// Residual addition, rounded once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ResidualRecipe {
    /// Format of the sum.
    pub output: Dtype,
}

/// A token's row of the embedding, decoded and rounded to `output`. Records do not state it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EmbeddingRecipe {
    /// Format of the row.
    pub output: Dtype,
}

/// Values rounded to `output`, to nearest with ties to even. Records do not state it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CastRecipe {
    /// Format of the values.
    pub output: Dtype,
}

/// `cap · tanh(x / cap)`: the quotient, the tanh and the product rounded each to binary32 and then to `output`. The
/// tanh is computed in binary64 (by the `libm` crate) and rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CapRecipe {
    /// Format of the three roundings.
    pub output: Dtype,
}
