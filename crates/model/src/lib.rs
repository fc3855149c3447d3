//! A checkpoint on disk as configuration, named weights and tokenizer; and synthetic checkpoints from a seed.
//!
//! Left out: arithmetic on weights (engine), prompts (lab).

pub mod config;
pub mod weight;

pub use config::{Arch, ModelConfig, MoeConfig, RopeScaling};
pub use weight::{Weight, WeightDtype};
