//! What the engine is asked to run: the part of a setup that is arithmetic, and what is known of libraries' choices.

use mantissa_numerics::Dtype;
use mantissa_numerics::setup::{Attention, Hardware, QuantizedWeights};

use crate::catalogs::Catalogs;
use crate::dispatch::Dispatch;
use crate::serving::Serving;
use crate::simd::Isa;

/// The arithmetic of a run, and where it runs.
///
/// Example: [`crate::Engine`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineSetup {
    /// Whose arithmetic.
    pub hardware: Hardware,
    /// Storage format of activations, cache and unquantized weights.
    pub dtype: Dtype,
    /// Attention implementation.
    pub attention: Attention,
    /// The program, and its ranks.
    pub serving: Serving,
    /// Treatment of quantized weights.
    pub quantized: QuantizedWeights,
    /// What is known of libraries' choices.
    pub catalogs: Catalogs,
    /// Positions that rotary tables are made for; the longest sequence that can be run.
    pub context: usize,
    /// Threads; they change speed, never bits.
    pub threads: usize,
    /// Instruction set; it changes speed, never bits.
    pub isa: Isa,
}

impl EngineSetup {
    /// Its recipes.
    pub(crate) const fn dispatch(&self) -> Dispatch<'_> {
        let Self { hardware, dtype, attention, serving, quantized, catalogs, .. } = self;
        Dispatch {
            hardware: *hardware,
            dtype: *dtype,
            attention: *attention,
            serving: *serving,
            quantized: *quantized,
            catalogs,
        }
    }
}
