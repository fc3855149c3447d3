//! Rotary embedding.

use crate::Dtype;

/// Rotary embedding: each product and the sum rounded to `output`, as Hugging Face's `apply_rotary_pos_emb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RotaryRecipe {
    /// Whose cosines and sines.
    pub functions: RotaryFunctions,
    /// Format of tables and results.
    pub output: Dtype,
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
