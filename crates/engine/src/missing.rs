//! What keeps a kernel of a pass from being predicted, and the measurement that would change that.

use mantissa_numerics::Dtype;
use mantissa_numerics::setup::Attention;
use mantissa_numerics::site::Phase;

use crate::catalog::{Batched, Linear};
use crate::shape::PassShape;

/// The command that measures, with a model and a file to be named.
const BUILD: &str = "mantissa catalog build --model MODEL --out FILE";

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
    /// What the library picks for such products of this attention, where activations are stored so.
    Batched(Attention, Dtype, Batched),
    /// A kernel that was not compared, in words: what it is, or why only others were. No catalog lifts it.
    Kernel(&'static str),
}

impl Missing {
    /// The command that measures it for a pass, on the GPU that is meant; `None` where none does.
    #[must_use]
    pub fn command(&self, pass: PassShape) -> Option<String> {
        match self {
            Self::Linear(weight) => Some(Self::command_for_weights(weight.dtype)),
            Self::Batched(attention, dtype, _) => {
                let PassShape { phase, batch_size, keys, .. } = pass;
                let keys = keys.to_string();
                let (prompts, keys) = match phase {
                    Phase::Prefill => (Some(&keys), None),
                    Phase::Decode => (None, Some(&keys)),
                };
                Some(Self::command_for_attention(*attention, *dtype, batch_size, prompts, keys))
            }
            Self::Kernel(_) => None,
        }
    }

    /// The command that asks for every weight of a model in a format, and compares no more than that takes.
    #[must_use]
    pub fn command_for_weights(dtype: Dtype) -> String {
        format!("{BUILD}{} --attention none", flag(dtype))
    }

    /// The command that measures products of attention, with prompts and keys as lists of sizes.
    #[must_use]
    pub fn command_for_attention(
        attention: Attention,
        dtype: Dtype,
        batch_size: usize,
        prompts: Option<&String>,
        keys: Option<&String>,
    ) -> String {
        let [prompts, keys] = [prompts, keys].map(|sizes| sizes.map_or("none", String::as_str));
        // The math backend multiplies binary32, whatever is stored.
        let dtype = if attention == Attention::SdpaMath { Dtype::Bf16 } else { dtype };
        format!(
            "{BUILD}{} --no-weights --attention {} --batch-sizes {batch_size} --prompts {prompts} --keys {keys}",
            flag(dtype),
            attention.name()
        )
    }
}

/// The flag for a format, which bf16 does not need.
fn flag(dtype: Dtype) -> String {
    if dtype == Dtype::Bf16 { String::new() } else { format!(" --dtype {dtype}") }
}
