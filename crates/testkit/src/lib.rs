//! Tiny checkpoints, synthetic published files, hostile files and inputs of GPU measurements, for tests.

pub mod gguf;
pub mod gpu_inputs;
pub mod others;
pub mod published;
pub mod safetensors;

pub use published::{PUBLISHED, all_synthetic, published, synthetic};
