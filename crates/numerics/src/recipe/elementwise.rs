//! Kernels that treat each element by itself.

use super::activation::Elementary;
use crate::Dtype;

/// `round(sum + bias)` after a product that was left in binary32.
///
/// ```
/// use mantissa_numerics::{Dtype, recipe::BiasRecipe};
/// let recipe = BiasRecipe { output: Dtype::Bf16 };
/// let round = |x| recipe.output.round(x);
/// // A product half a step above 1, and half a step more: a product that was rounded first would lose both.
/// let (sum, bias) = (1.0 + 2.0_f32.powi(-8), 2.0_f32.powi(-8));
/// assert_eq!((round(sum + bias), round(round(sum) + bias)), (1.0078125, 1.0));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BiasRecipe {
    /// Format of the one rounding.
    pub output: Dtype,
}

/// Residual addition, rounded once.
///
/// ```
/// use mantissa_numerics::{Dtype, recipe::ResidualRecipe};
/// let recipe = ResidualRecipe { output: Dtype::Bf16 };
/// // In bf16 a stream at 256 moves by 2 at a time, and ties go to even: it takes no 1, but it takes a 3 as 4.
/// assert_eq!(recipe.output.round(256.0 + 1.0), 256.0);
/// assert_eq!(recipe.output.round(256.0 + 3.0), 260.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ResidualRecipe {
    /// Format of the sum.
    pub output: Dtype,
}

/// A token's row of the embedding, decoded and rounded to `output`. Records do not state it.
///
/// ```
/// use mantissa_numerics::{Dtype, recipe::EmbeddingRecipe};
/// let recipe = EmbeddingRecipe { output: Dtype::Bf16 };
/// // A checkpoint of binary32 that is run in bf16.
/// let row = 0.1_f32.to_le_bytes();
/// assert_eq!(recipe.output.round(Dtype::F32.decode(&row, 0)), 0.10009765625);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EmbeddingRecipe {
    /// Format of the row.
    pub output: Dtype,
}

/// Values rounded to `output`, to nearest with ties to even. Records do not state it.
///
/// ```
/// use mantissa_numerics::{Dtype, recipe::CastRecipe};
/// let recipe = CastRecipe { output: Dtype::F16 };
/// // f16 ends at 65,504; half a step further is a tie, and even is what would be 65,536.
/// assert_eq!(recipe.output.round(65_519.0), 65_504.0);
/// assert_eq!(recipe.output.round(65_520.0), f32::INFINITY);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CastRecipe {
    /// Format of the values.
    pub output: Dtype,
}

/// `cap · tanh(x / cap)`: the quotient, the tanh and the product rounded each to binary32 and then to `output`. The
/// engine's own tanh is computed in binary64 (by the `libm` crate) and rounded. PyTorch on a GPU multiplies by the
/// rounded `1 / cap` instead of dividing, and its tanh is [`crate::nvidia::functions::tanh`].
///
/// ```
/// use mantissa_numerics::{Dtype, recipe::{CapRecipe, Elementary}};
/// let recipe = CapRecipe { functions: Elementary::Own, output: Dtype::Bf16 };
/// let round = |x| recipe.output.round(x);
/// let tanh = |x: f32| f64::from(x).tanh() as f32;
/// let capped = |x: f32| round(30.0 * round(tanh(round(x / 30.0))));
/// assert_eq!(capped(1e6), 30.0);
/// // Three roundings leave another bf16 than one would.
/// assert_eq!((capped(5.0), round(30.0 * tanh(5.0 / 30.0))), (4.9375, 4.96875));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CapRecipe {
    /// Whose tanh, and how the quotient is computed.
    pub functions: Elementary,
    /// Format of the three roundings.
    pub output: Dtype,
}
