//! The record of a run: schema, JSON and binary containers, digests.
//!
//! [`Experiment`] is the one model in memory. [`json`] writes and reads the uniform experiment JSON, [`container`] the
//! directory of safetensors files, and either converts to the other without losing a bit. [`read`] takes either of
//! them. The crate links neither engine nor model, judges nothing, and never asks a clock: every time in a record was
//! passed in by the caller. Left out: files of other programs (`mantissa-published`, which is also the entry point to
//! evidence of any kind).

pub mod catalog;
pub mod consistency;
pub mod container;
mod damage;
pub mod digest;
pub mod error;
pub mod experiment;
pub mod files;
pub mod json;
pub mod lenient;
pub mod observed;
pub mod record;
pub mod reproducibility;
pub mod run;
pub mod schema;
mod strict;
pub mod trace;
pub mod validate;
pub mod verification;
mod version;
pub mod words;

use std::path::Path;

pub use catalog::{CatalogBasis, UsedCatalog};
pub use consistency::{About, Conflict, Statement};
pub use container::Container;
pub use digest::Digest;
pub use error::{EvidenceError, Result};
pub use experiment::{
    Answers, Configuration, ConfigurationExtras, Decoding, Environment, Experiment, ExperimentMetadata,
    ExtractionConfig, FixedParams, ModelIdentity, NotFinite, Provenance, Runtime, Setup,
};
pub use files::write_whole;
pub use observed::{KernelCount, Observed, ObservedDevice, ObservedStep, StepRequest};
pub use record::Record;
pub use reproducibility::{FirstDifference, Outcome, RepetitionDigest, Reproducibility, first_difference};
pub use run::{Logprobs, Neighbour, PhaseSignals, PromptSource, Run, SignalTensor};
pub use verification::Verification;
pub use version::FORMAT_VERSION;

/// Reads a whole experiment: a container directory (or its `manifest.json`) or an experiment JSON file, told apart by
/// content.
///
/// Digests of a container's files and the digests stored with each run are checked.
///
/// ```
/// use std::path::Path;
///
/// let folder = Path::new("../../fixtures/evidence/v1");
/// let container = mantissa_evidence::read(&folder.join("container"))?;
/// assert_eq!(container, mantissa_evidence::read(&folder.join("experiment.json"))?);
/// # Ok::<(), mantissa_evidence::EvidenceError>(())
/// ```
pub fn read(path: &Path) -> Result<Experiment> {
    match container::root(path) {
        Some(directory) => Container::open(&directory)?.load(),
        None => json::parse(&files::map(path)?, path),
    }
}

/// As [`read`]; data that are not those their digests were made of are read all the same, and named in the list.
///
/// ```
/// let path = "../../fixtures/evidence/v1/experiment.json".as_ref();
/// let (experiment, damage) = mantissa_evidence::read_despite_damage(path)?;
/// assert_eq!((experiment.runs.len(), damage.len()), (3, 0));
/// # Ok::<(), mantissa_evidence::EvidenceError>(())
/// ```
pub fn read_despite_damage(path: &Path) -> Result<(Experiment, Vec<String>)> {
    let mut damage = damage::Damage::Collect(Vec::new());
    let experiment = match container::root(path) {
        Some(directory) => Container::open(&directory)?.load_with(&mut damage)?,
        None => json::parse_with(&files::map(path)?, path, &mut damage)?,
    };
    Ok((experiment, damage.into_notes()))
}
