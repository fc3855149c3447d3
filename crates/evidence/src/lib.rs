//! The record of a run: schema, JSON and binary containers, digests.
//!
//! [`Experiment`] is the one model in memory; [`json`] writes and reads the uniform experiment JSON, [`container`]
//! the directory of safetensors files, and either converts to the other without losing a bit. [`read`] takes
//! whichever it is given. The crate links neither engine nor model, judges nothing, and never asks a clock:
//! every time in a record was handed in by the caller.

pub mod catalog;
pub mod container;
pub mod digest;
pub mod error;
pub mod experiment;
mod files;
pub mod json;
pub mod lenient;
pub mod open;
pub mod published;
pub mod record;
pub mod reproducibility;
pub mod run;
pub mod schema;
mod strict;
mod validate;
pub mod verification;

use std::path::Path;

pub use catalog::{CatalogBasis, UsedCatalog};
pub use container::Container;
pub use digest::Digest;
pub use error::{EvidenceError, Result};
pub use experiment::{
    Configuration, ConfigurationExtras, Decoding, Environment, Experiment, ExperimentMetadata,
    ExtractionConfig, FixedParams, ModelIdentity, Provenance, Runtime, Setup,
};
pub use files::write_whole;
pub use open::{Content, Opened, open};
pub use published::Published;
pub use record::Record;
pub use reproducibility::{FirstDifference, Outcome, RepetitionDigest, Reproducibility, first_difference};
pub use run::{Logprobs, Neighbour, PhaseSignals, PromptSource, Run, SignalTensor};
pub use verification::Verification;

/// Version of both formats that this crate writes; it reads every version up to this one.
pub const FORMAT_VERSION: u32 = 1;

/// Reads a whole experiment: a container directory (or its `manifest.json`), an experiment JSON file, or a published
/// file that keeps signals, told apart by content.
///
/// Digests of a container's files and the digests stored with each run are checked.
pub fn read(path: &Path) -> Result<Experiment> {
    if let Some(directory) = container::root(path) {
        return Container::open(&directory)?.load();
    }
    let bytes = files::map(path)?;
    if published::is_experiment(&bytes) {
        return json::parse(&bytes, path);
    }
    match published::parse(&bytes, path)? {
        None => json::parse(&bytes, path),
        Some(published) => published.experiment().ok_or_else(|| EvidenceError::Invalid {
            path: path.to_owned(),
            place: format!("layout {}", published.layout()),
            problem: "it holds distances, not signals".to_owned(),
            remedy: "use `mantissa analyze`".to_owned(),
        }),
    }
}
