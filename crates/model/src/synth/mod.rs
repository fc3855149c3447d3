//! Checkpoints made from a seed: real Hugging Face folders whose every byte follows from a [`SynthSpec`].
//!
//! For tests, demonstrations and machines without a model at hand. The values come from a counter-based generator
//! (docs/format/synth.md gives it bit for bit), so any machine, any thread count and any order of writing makes the
//! same files, and one weight can be made without the ones before it.
//!
//! Left out: training. The models are well behaved (activations keep their size through many layers, greedy
//! continuations wander instead of repeating one token), but they know nothing.

mod error;
mod files;
mod items;
mod presets;
#[cfg(test)]
mod quantized_tests;
mod shards;
mod spec;
mod tensors;
#[cfg(test)]
mod tests;
mod tokenizer;
mod values;
mod write;

pub use error::SynthError;
pub use presets::Preset;
pub use spec::{SynthRequest, SynthSpec, config_of, parse_arch};
pub use tensors::SynthTensor;
pub use values::Values;
pub use write::{Written, write};
