//! What the engine is asked to run: the part of a setup that is arithmetic.

use mantissa_numerics::Dtype;
pub use mantissa_numerics::setup::{Attention, Basis, Hardware, QuantizedWeights};

use crate::simd::Isa;

/// The arithmetic of a run, and where it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineSetup {
    /// Whose arithmetic.
    pub hardware: Hardware,
    /// Storage format of activations, cache and unquantized weights.
    pub dtype: Dtype,
    /// Attention implementation.
    pub attention: Attention,
    /// Treatment of quantized weights.
    pub quantized: QuantizedWeights,
    /// Positions that rotary tables are made for; the longest sequence that can be run.
    pub context: usize,
    /// Threads; they change speed, never bits.
    pub threads: usize,
    /// Instruction set; it changes speed, never bits.
    pub isa: Isa,
}
