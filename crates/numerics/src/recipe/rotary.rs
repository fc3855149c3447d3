//! Rotary embedding.

use crate::Dtype;

/// Rotary embedding.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RotaryPairs {
    /// Those half a head apart: tables, each product and the sum rounded to `output`, as Hugging Face's
    /// `apply_rotary_pos_emb`.
    Halves,
    /// Neighbours, as one complex number: tables, products and sums in binary32, each rounded to it, the result once to
    /// `output`, as in Hugging Face's DeepSeek.
    Neighbours,
}

/// Whose cosines and sines of angles that are binary32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RotaryFunctions {
    /// Correctly rounded to binary32 by way of binary64; so are inverse frequencies.
    Own,
    /// Those of CUDA's library ([`crate::nvidia::functions`]), of inverse frequencies as PyTorch was measured to
    /// compute them.
    Cuda,
}
