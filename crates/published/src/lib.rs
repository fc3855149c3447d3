//! Result files that other programs published, and the entry point to evidence of any kind.
//!
//! Each layout has a folder: its description (`mod.rs`), its reader, and its authors' definitions, which compute their
//! figures again ([`Sheet`]). [`LAYOUTS`] lists them. A file is recognized by its content, never by its name, and
//! what it does not say is stated as a warning. Files of generation and activations give an [`Experiment`], files of
//! verification and logs give [`Verification`]s. `uniform` holds the definitions that apply to evidence of our own.
//! [`dump`] reads tensors that other programs left while they ran.
//! Left out: any opinion about setups (`mantissa-verdict`).
//!
//! [`Experiment`]: mantissa_evidence::Experiment
//! [`Verification`]: mantissa_evidence::Verification
#![deny(unsafe_code)]

mod activations;
pub mod answers;
mod attention_log;
mod attention_verification;
mod batch_generation;
mod batch_matrix_log;
mod batch_verification;
mod definitions;
pub mod dump;
mod gzip;
pub mod import;
mod json;
mod layer_sweep;
mod layout;
mod layouts;
mod log;
mod matrix_log;
mod named;
mod open;
mod published;
mod python;
mod quant_generation;
mod quant_investigation;
mod quant_verification;
mod quantization_log;
mod recognize;
mod repeated_runs;
mod sheet;
mod stated;
mod summary;
mod together;
mod tp_generation;
mod tp_verification;
mod uniform;

pub use layout::{FileSignature, Layout};
pub use layouts::LAYOUTS;
pub use open::{Content, Opened, open, open_despite_damage, read, read_despite_damage};
pub use published::{Published, parse};
pub use sheet::{Agreement, Cutoff, Figure, Finding, FindingTopic, Matrix, Overall, Sheet, Signal, Table};
pub use stated::{StatedRepeats, StatedTokens};
pub use together::together;
