//! The uniform experiment JSON: `docs/format/experiment-json.md`.
//!
//! [`write()`] streams one step at a time, [`read`] goes through serde_json, whose recursion limit bounds nesting and
//! whose memory is bounded by the file's length. Floats are the shortest decimals that give the same bits back;
//! NaN and infinities are `null` with their bits listed beside them. Files that only follow the ablation plan, with
//! nothing under `mantissa`, can be read as well; looser dialects are for importers.

mod assemble;
mod emit;
mod keys;
pub(crate) mod text;
pub(crate) mod wire;

use std::io::Write;
use std::path::Path;

use crate::FORMAT_VERSION;
use crate::damage::Damage;
use crate::error::{EvidenceError, Flaw, Result};
use crate::experiment::Experiment;
use crate::files::{self, Existing};
use crate::validate;
pub(crate) use assemble::{
    Placed, Sink, check_digest, check_ids, check_width, damage_of, damage_of_ids, fill, not_a_number_of,
    patterns, place,
};
use wire::Document;

/// Reads an experiment JSON file.
///
/// ```
/// let experiment = mantissa_evidence::json::read("../../fixtures/evidence/v1/experiment.json".as_ref())?;
/// assert_eq!((experiment.runs.len(), experiment.runs[0].prompt_token_ids.len()), (3, 4));
/// # Ok::<(), mantissa_evidence::EvidenceError>(())
/// ```
pub fn read(path: &Path) -> Result<Experiment> {
    parse(&files::map(path)?, path)
}

/// Reads experiment JSON from memory; `origin` names it in errors.
///
/// ```
/// let error = mantissa_evidence::json::parse(b"{\n}", "a.json".as_ref()).expect_err("nothing in it");
/// assert!(error.to_string().starts_with("a.json: line 2, column 1: missing field"), "{error}");
/// ```
pub fn parse(bytes: &[u8], origin: &Path) -> Result<Experiment> {
    parse_with(bytes, origin, &mut Damage::Refuse)
}

/// As [`parse`]; data that are not those their digests were made of are read all the same, and named in the list.
///
/// ```
/// let bytes = std::fs::read("../../fixtures/evidence/v1/experiment.json").expect("the file");
/// let (experiment, damage) = mantissa_evidence::json::parse_despite_damage(&bytes, "a.json".as_ref())?;
/// assert_eq!((experiment.runs.len(), damage.len()), (3, 0));
/// # Ok::<(), mantissa_evidence::EvidenceError>(())
/// ```
pub fn parse_despite_damage(bytes: &[u8], origin: &Path) -> Result<(Experiment, Vec<String>)> {
    let mut damage = Damage::Collect(Vec::new());
    let experiment = parse_with(bytes, origin, &mut damage)?;
    Ok((experiment, damage.into_notes()))
}

/// As [`parse`], with what is done about damage.
pub(crate) fn parse_with(bytes: &[u8], origin: &Path, damage: &mut Damage) -> Result<Experiment> {
    let document: Document<Vec<wire::ReadRun>> = text::parse(bytes, origin)?;
    let in_file = |flaw: Flaw| flaw.in_file(origin);
    let version =
        document.experiment_metadata.mantissa.as_ref().map_or(0, |provenance| provenance.format_version);
    if version > FORMAT_VERSION {
        let (path, found) = (origin.to_owned(), u64::from(version));
        return Err(EvidenceError::Version { path, found, known: FORMAT_VERSION });
    }
    let mut runs = Vec::with_capacity(document.runs.len());
    for (i, run) in document.runs.into_iter().enumerate() {
        let place = format!("runs[{i}]");
        let (run, altered) = assemble::run(run).map_err(|flaw| in_file(flaw.under(&place)))?;
        damage.notes(altered.into_iter().map(|flaw| flaw.under(&place)), origin)?;
        runs.push(run);
    }
    let experiment =
        Experiment { metadata: document.experiment_metadata, configurations: document.configurations, runs };
    damage.note(validate::experiment(&experiment), origin)?;
    Ok(experiment)
}

/// Writes an experiment as one JSON file, whole or not at all. An existing file is an error.
///
/// The bytes are a function of `experiment` alone.
///
/// ```
/// use mantissa_evidence::{Digest, json};
///
/// let path = "../../fixtures/evidence/v1/experiment.json".as_ref();
/// # let folder = tempfile::tempdir().expect("a folder");
/// let copy = folder.path().join("copy.json");
/// json::write(&copy, &json::read(path)?)?;
/// assert_eq!(Digest::of_file(&copy).ok(), Digest::of_file(path).ok());
/// # Ok::<(), mantissa_evidence::EvidenceError>(())
/// ```
pub fn write(path: &Path, experiment: &Experiment) -> Result<()> {
    validate::experiment(experiment).map_err(|flaw| flaw.in_file(path))?;
    files::write(path, Existing::Keep, |out| emit(experiment, out))
}

/// The JSON that [`write()`] would leave at `origin`, in memory.
///
/// ```
/// use mantissa_evidence::json;
///
/// let path = "../../fixtures/evidence/v1/experiment.json".as_ref();
/// let bytes = json::to_vec(&json::read(path)?, "copy.json".as_ref())?;
/// assert_eq!(bytes, std::fs::read(path).expect("the file"));
/// # Ok::<(), mantissa_evidence::EvidenceError>(())
/// ```
pub fn to_vec(experiment: &Experiment, origin: &Path) -> Result<Vec<u8>> {
    validate::experiment(experiment).map_err(|flaw| flaw.in_file(origin))?;
    let mut bytes = Vec::new();
    emit(experiment, &mut bytes)
        .map_err(|error| Flaw::new("experiment", error.to_string(), "report this").in_file(origin))?;
    Ok(bytes)
}

fn emit(experiment: &Experiment, out: &mut (impl Write + ?Sized)) -> std::io::Result<()> {
    let document = Document {
        experiment_metadata: experiment.metadata.clone(),
        configurations: experiment.configurations.clone(),
        runs: emit::Runs(experiment),
    };
    text::emit(&document, out)
}
