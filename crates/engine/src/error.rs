//! What can go wrong between a checkpoint and its logits.

use mantissa_model::ModelError;
use mantissa_numerics::setup::Hardware;

use crate::missing::Missing;

/// An error of the engine.
///
/// ```
/// use mantissa_engine::{Attention, Dispatch, EngineError, Hardware, plan::PassShape};
/// use mantissa_model::{Arch, synth::SynthSpec};
/// use mantissa_numerics::Dtype;
///
/// let graph = SynthSpec::tiny(Arch::LLAMA, 0).config().graph();
/// let dispatch = Dispatch::new(Hardware::H200, Dtype::F32, Attention::Eager);
/// let refused = dispatch.check(&graph, PassShape::prefill(1, 8)).expect_err("never measured");
/// assert!(matches!(refused, EngineError::Uncovered { .. }));
/// assert!(refused.to_string().ends_with("; docs/coverage.md lists what is"), "{refused}");
/// ```
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A weight could not be read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// No kernel multiplies by weights of this layout as they are stored.
    #[error(
        "weights quantized as {quantization}: products with them as stored are not computed; use --quantization none, \
         which decodes them first"
    )]
    Packed {
        /// The layout.
        quantization: mantissa_model::quantized::Quantization,
    },
    /// A token lies outside the vocabulary.
    #[error(
        "token {token} at position {position}: the vocabulary has {vocabulary} entries; feed ids of this model's own tokenizer"
    )]
    Token {
        /// The token.
        token: u32,
        /// Where it was fed.
        position: usize,
        /// Size of the vocabulary.
        vocabulary: usize,
    },
    /// The sequence outgrew what was planned.
    #[error(
        "position {position} does not fit a context of {context} positions; ask for a longer context or fewer tokens"
    )]
    Context {
        /// The first position without room.
        position: usize,
        /// Room there is.
        context: usize,
    },
    /// The instruction set is not there.
    #[error("this machine has no {isa}; use --isa auto")]
    Isa {
        /// What was asked for.
        isa: &'static str,
    },
    /// The system refused a thread.
    #[error("cannot start {threads} threads ({source}); use fewer --threads")]
    Threads {
        /// Threads asked for.
        threads: usize,
        /// What the system said.
        source: std::io::Error,
    },
    /// The batch is empty or its parts differ in number.
    #[error("a decode pass got {tokens} tokens for {sequences} sequences; give each sequence one token")]
    Batch {
        /// Tokens given.
        tokens: usize,
        /// Sequences given.
        sequences: usize,
    },
    /// No verified recipe says what the hardware would compute.
    #[error("{hardware}: {what} is not covered ({why}); {remedy}")]
    Uncovered {
        /// The hardware.
        hardware: &'static str,
        /// The operation and its shape.
        what: String,
        /// Why there is none.
        why: &'static str,
        /// What would have to be measured.
        missing: Box<Missing>,
        /// How, or where to look.
        remedy: String,
    },
    /// An empty prompt.
    #[error("the prompt is empty; feed at least one token")]
    EmptyPrompt,
}

impl EngineError {
    /// A kernel that was not compared, and what to call it without its sizes.
    pub(crate) fn kernel(hardware: Hardware, what: String, why: &'static str, kind: &'static str) -> Self {
        let remedy = "docs/coverage.md lists what is".to_owned();
        Self::Uncovered {
            hardware: hardware.name(),
            what,
            why,
            missing: Box::new(Missing::Kernel(kind)),
            remedy,
        }
    }
}
