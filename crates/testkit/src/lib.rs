//! Tiny checkpoints and hostile files for tests.

pub mod gguf;
pub mod safetensors;
