//! Rotary embedding.

use crate::Dtype;

/// Rotary embedding.
///
/// ```
/// use mantissa_numerics::Dtype;
/// use mantissa_numerics::recipe::{RotaryFunctions, RotaryPairs, RotaryRecipe};
/// let (functions, output) = (RotaryFunctions::Own, Dtype::Bf16);
/// let (cos, sin) = (1.0_f64.cos() as f32, 1.0_f64.sin() as f32);
/// let r = |x| output.round(x);
/// // The first element of (3, 1), turned by 1: 0.779436….
/// let turned = |recipe: RotaryRecipe| match recipe.pairs {
///     RotaryPairs::Halves => r(r(3.0 * r(cos)) - r(1.0 * r(sin))),
///     RotaryPairs::RoundedTables => r(3.0 * r(cos) - 1.0 * r(sin)),
///     RotaryPairs::WideHalves | RotaryPairs::Neighbours => r(3.0 * cos - 1.0 * sin),
/// };
/// assert_eq!(turned(RotaryRecipe { functions, pairs: RotaryPairs::Halves, output }), 0.77734375);
/// assert_eq!(turned(RotaryRecipe { functions, pairs: RotaryPairs::Neighbours, output }), 0.78125);
/// assert_eq!(turned(RotaryRecipe { functions, pairs: RotaryPairs::RoundedTables, output }), 0.77734375);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RotaryRecipe {
    /// Whose cosines and sines.
    pub functions: RotaryFunctions,
    /// Which elements are turned together, and what is rounded.
    pub pairs: RotaryPairs,
    /// Format of results.
    pub output: Dtype,
}

/// Which elements are turned together.
///
/// Example: [`RotaryRecipe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RotaryPairs {
    /// Those half a head apart: tables, each product and the sum rounded to `output`, as Hugging Face's
    /// `apply_rotary_pos_emb`.
    Halves,
    /// Those half a head apart: tables, products and sums in binary32, each rounded to it, the result once to `output`,
    /// as in Hugging Face's OLMo 2.
    WideHalves,
    /// Those half a head apart: tables rounded to `output`; in binary32 `fma(x, cos, −(y · sin))` and
    /// `fma(y, cos, x · sin)`, whose products are exact for tables and elements of 16 bits; the result once to
    /// `output`, as vLLM's CUDA kernel (compared with an H200).
    RoundedTables,
    /// Neighbours, as one complex number: tables, products and sums in binary32, each rounded to it, the result once to
    /// `output`, as in Hugging Face's DeepSeek.
    Neighbours,
}

/// Whose cosines and sines of angles that are binary32.
///
/// Example: [`cos`](crate::nvidia::functions::cos).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RotaryFunctions {
    /// Correctly rounded to binary32 by way of binary64; so are inverse frequencies.
    Own,
    /// Those of CUDA's library ([`crate::nvidia::functions`]), of inverse frequencies as PyTorch was measured to
    /// compute them.
    Cuda,
}
