//! What keeps a kernel of a pass from being predicted, and the measurement that would change that.

use mantissa_numerics::setup::Attention;
use mantissa_numerics::site::Phase;

use crate::catalog::{Batched, Linear};
use crate::shape::PassShape;

/// What is missing where no recipe covers a kernel.
///
/// ```
/// use mantissa_engine::catalog::Linear;
/// use mantissa_engine::plan::PassShape;
/// use mantissa_engine::{Attention, Dispatch, Hardware, Missing};
/// use mantissa_model::{Arch, synth::SynthSpec};
/// use mantissa_numerics::Dtype;
///
/// let graph = SynthSpec::tiny(Arch::LLAMA, 0).config().graph();
/// let dispatch = Dispatch::new(Hardware::H200, Dtype::Bf16, Attention::SdpaFlash);
/// let missing: Vec<Missing> = dispatch.refusals(&graph, PassShape::prefill(1, 8)).into_iter().collect();
/// assert!(missing.iter().any(|missing| matches!(missing, Missing::Linear(Linear { .. }))));
/// // A measurement would lift those, and `mantissa catalog build` makes it.
/// let command = missing[0].command(PassShape::prefill(1, 8)).expect("a measurement");
/// assert!(command.starts_with("mantissa catalog build --model "), "{command}");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Missing {
    /// What the library picks for products with this weight.
    Linear(Linear),
    /// What the library picks for such products of this attention.
    Batched(Attention, Batched),
    /// A kernel that was not compared; the reason. No catalog lifts it.
    Kernel(&'static str),
}

impl Missing {
    /// The command that measures it for a pass, on the GPU that is meant; `None` where none does.
    #[must_use]
    pub fn command(&self, pass: PassShape) -> Option<String> {
        let build = "mantissa catalog build --model MODEL --out FILE";
        match self {
            Self::Linear(_) => Some(format!("{build} --attention none")),
            Self::Batched(attention, _) => {
                let PassShape { phase, batch_size, keys, .. } = pass;
                let (prompts, keys) = match phase {
                    Phase::Prefill => (keys.to_string(), "none".to_owned()),
                    Phase::Decode => ("none".to_owned(), keys.to_string()),
                };
                let attention = attention.name();
                Some(format!(
                    "{build} --attention {attention} --batch-sizes {batch_size} --prompts {prompts} --keys {keys}"
                ))
            }
            Self::Kernel(_) => None,
        }
    }
}
