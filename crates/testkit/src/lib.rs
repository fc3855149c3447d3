//! Tiny checkpoints, synthetic published files and hostile files for tests.

pub mod gguf;
pub mod others;
pub mod published;
pub mod safetensors;

pub use published::{PUBLISHED, all_synthetic, published, synthetic};
