//! Prompts, setups and records: where the engine meets the evidence.
