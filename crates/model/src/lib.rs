//! A checkpoint on disk as configuration, named weights and tokenizer; and synthetic checkpoints from a seed.
//!
//! Files are input, never trusted: every count, offset and shape is checked against the file's length before
//! it is used, and a fault is one line naming file, place and remedy ([`ModelError`]).
//! Left out: arithmetic on weights (engine), prompts (lab).
#![deny(unsafe_code)]

mod arch;
pub mod checkpoint;
pub mod config;
mod config_json;
mod config_keys;
pub mod decision;
pub mod error;
mod family;
mod folder;
pub mod generation;
pub mod gguf;
pub mod gguf_model;
pub mod graph;
mod hex;
mod mapped;
pub mod pull;
pub mod quantized;
pub mod safetensors_header;
mod shelf;
mod stored;
pub mod synth;
pub mod tensor_list;
pub mod tokenizer;
pub mod weight;

pub use arch::Arch;
pub use checkpoint::{Checkpoint, FileDigest, StoredAs, WeightsDigest};
pub use config::{ModelConfig, MoeConfig, RopeScaling};
pub use decision::Decision;
pub use error::ModelError;
pub use gguf::Gguf;
pub use graph::Graph;
pub use tensor_list::TensorSpec;
pub use tokenizer::{Message, Tokenizer};
pub use weight::{Weight, WeightDtype};
