//! Tiny checkpoints and hostile files for tests.

pub mod gguf;
pub mod published;
pub mod safetensors;

pub use published::published;
