//! Evidence out of anybody's file, by a map: a few lines of TOML that say where prompts, tokens and signals are.
//!
//! ```text
//! FILE (JSON, JSONL, npz, safetensors) ── tree ──┐
//!                                                ├── build ──> Experiment
//! MAP.toml ── map ── path ───────────────────────┘
//! ```
//!
//! Left out: layouts that have a reader of their own ([`crate::open()`]), and anything a path cannot say.

mod build;
mod map;
mod path;
mod tree;

use std::path::Path;

use mantissa_evidence::error::Result;

pub use build::Imported;
pub use map::ImportMap;

/// Reads `file` as `map` says.
///
/// *Errors:* a file that cannot be read; a path that finds nothing; numbers that the stated format does not have; rows
/// that are not there for every step and position.
///
/// ```
/// use mantissa_numerics::{Phase, Point, Site};
/// use mantissa_published::import::{ImportMap, import};
///
/// let map = ImportMap::parse(r#"
///     [run]
///     prompt_ids = "prompt"
///     output_ids = "tokens"
///     [setup]
///     hardware = "h100"
///     batch_size = { path = "bs" }
///     [[signal]]
///     phase = "decode"
///     path = "steps[{step}].resid.{layer}"
///     site = "layer_{layer}.x_out"
///     layers_from = 0
///     layout = ["value"]
///     positions = [-1]
/// "#, "map.toml".as_ref())?;
/// let folder = tempfile::tempdir().expect("a folder");
/// let file = folder.path().join("dump.json");
/// let text = r#"{"prompt": [1, 2], "tokens": [3], "bs": 4, "steps": [{"resid": {"0": [0.5, -1.25], "5": [1, 2]}}]}"#;
/// std::fs::write(&file, text).expect("written");
/// let found = import(&map, &file)?;
/// let run = &found.experiment.runs[0];
/// assert_eq!((run.prompt_token_ids.as_slice(), run.output_token_ids.as_slice()), (&[1, 2][..], &[3][..]));
/// let decode = run.phase(Phase::Decode).expect("a step");
/// // Layers are counted from 1 here.
/// assert_eq!(decode.tensors[&Site::at(6, Point::XOut)].shape, [1, 1, 2]);
/// assert_eq!(found.experiment.configurations[0].hardware, "h100");
/// # Ok::<(), mantissa_evidence::EvidenceError>(())
/// ```
pub fn import(map: &ImportMap, file: &Path) -> Result<Imported> {
    let tree = tree::read(file)?;
    build::build(map, &tree, file)
}
