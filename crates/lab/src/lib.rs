//! Prompts, setups and records: where the engine meets the evidence.

pub mod document;
pub mod error;
pub mod prompt;
