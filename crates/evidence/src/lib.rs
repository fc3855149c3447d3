//! The record of a run: schema, JSON and binary containers, digests.
//!
//! [`Experiment`] is the one model in memory.

pub mod digest;
pub mod error;
pub mod experiment;
pub mod reproducibility;
pub mod run;
mod strict;

pub use digest::Digest;
pub use error::{EvidenceError, Result};
pub use experiment::{
    Configuration, ConfigurationExtras, Decoding, Environment, Experiment, ExperimentMetadata,
    ExtractionConfig, FixedParams, ModelIdentity, Provenance, Runtime, Setup,
};
pub use reproducibility::{FirstDifference, Outcome, RepetitionDigest, Reproducibility, first_difference};
pub use run::{Logprobs, Neighbour, PhaseSignals, PromptSource, Run, SignalTensor};

/// Version of both formats that this crate writes; it reads every version up to this one.
pub const FORMAT_VERSION: u32 = 1;
