//! The map's file.

use std::collections::BTreeMap;
use std::path::Path as File;

use mantissa_evidence::error::{Flaw, Result};
use mantissa_numerics::{Dtype, Phase};
use serde::Deserialize;

use super::path::Path;

/// Where things are in somebody's file.
///
/// Example: [`super::import()`].
#[derive(Debug, Clone)]
pub struct ImportMap {
    pub(super) run: RunPaths,
    pub(super) setup: BTreeMap<String, Given>,
    pub(super) signals: Vec<SignalMap>,
    pub(super) logprobs: Vec<LogprobMap>,
}

/// Where the parts of a run are.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RunPaths {
    pub(super) prompt_ids: Option<String>,
    pub(super) prompt_text: Option<String>,
    pub(super) prompt_label: Option<String>,
    pub(super) output_ids: Option<String>,
    pub(super) output_texts: Option<String>,
    pub(super) repetition: Option<String>,
    pub(super) reference: Option<String>,
}

/// A constant, or where it is.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Given {
    At { path: String },
    Constant(toml::Value),
}

/// Where a signal is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignalMap {
    pub(super) phase: Phase,
    pub(super) path: String,
    /// Its site, with `{layer}` for a layer that the path names.
    pub(super) site: String,
    /// What the file's first block is counted as.
    #[serde(default = "one")]
    pub(super) layers_from: i64,
    /// What the axes of the numbers are, outermost first: `step`, `position`, `value`.
    #[serde(default = "value")]
    pub(super) layout: Vec<Dim>,
    /// Positions from the end of the sequence; absent for the last ones, as many as there are.
    pub(super) positions: Option<Vec<i32>>,
    /// Format that the numbers were computed in.
    #[serde(default = "binary32")]
    pub(super) dtype: Dtype,
}

/// Where log-probabilities are.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogprobMap {
    pub(super) phase: Phase,
    pub(super) token_ids: String,
    pub(super) log_probs: String,
    #[serde(default = "value")]
    pub(super) layout: Vec<Dim>,
    pub(super) positions: Option<Vec<i32>>,
    /// Numbers that stand for minus infinity: they are missing, not measured.
    #[serde(default)]
    pub(super) missing: Vec<f64>,
}

/// An axis of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Dim {
    Step,
    Position,
    Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    run: RunPaths,
    #[serde(default)]
    setup: BTreeMap<String, Given>,
    #[serde(default)]
    signal: Vec<SignalMap>,
    #[serde(default)]
    logprobs: Vec<LogprobMap>,
}

const fn one() -> i64 {
    1
}

fn value() -> Vec<Dim> {
    vec![Dim::Value]
}

const fn binary32() -> Dtype {
    Dtype::F32
}

/// Fields of a setup that a map may state.
pub(super) const SETUP: [&str; 14] = [
    "model",
    "hardware",
    "provider",
    "engine",
    "engine_version",
    "dtype",
    "batch_size",
    "attention",
    "quantization",
    "compile",
    "concurrent_streams",
    "tp_size",
    "ep_size",
    "cuda_version",
];

impl ImportMap {
    /// A map from its text; `file` is its name in errors.
    ///
    /// *Errors:* a text that is none, with its place.
    ///
    /// Example: [`super::import()`].
    pub fn parse(text: &str, file: &File) -> Result<Self> {
        let written: Written = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let remedy = "docs/import.md has the form of a map";
            Flaw::new(format!("line {line}"), error.message(), remedy).in_file(file)
        })?;
        let Written { run, setup, signal, logprobs } = written;
        let flaw =
            |place: String, problem: String, remedy| Err(Flaw::new(place, problem, remedy).in_file(file));
        if let Some(name) = setup.keys().find(|name| !SETUP.contains(&name.as_str())) {
            return flaw(
                format!("setup.{name}"),
                "there is no such field".to_owned(),
                "docs/import.md lists them",
            );
        }
        if signal.is_empty() && logprobs.is_empty() {
            return flaw(
                "signal".to_owned(),
                "nothing is mapped".to_owned(),
                "say where a signal is: [[signal]]",
            );
        }
        for (number, signal) in signal.iter().enumerate() {
            let place = format!("signal[{number}]");
            if signal.layout.last() != Some(&Dim::Value) {
                let problem = "a layout whose last axis is not 'value'".to_owned();
                return flaw(place, problem, "name the axes outermost first, the row's own numbers last");
            }
            if let Some(Err(problem)) = Some(&signal.path).map(|path| Path::parse(path)) {
                return flaw(format!("{place}.path"), problem, "docs/import.md has the form of a path");
            }
        }
        let paths =
            [&run.prompt_ids, &run.prompt_text, &run.prompt_label, &run.output_ids, &run.output_texts];
        let more = [&run.repetition, &run.reference];
        let of_logprobs = logprobs.iter().flat_map(|map| [&map.token_ids, &map.log_probs]);
        let of_setup = setup.values().filter_map(|given| match given {
            Given::At { path } => Some(path),
            Given::Constant(_) => None,
        });
        for path in paths.into_iter().chain(more).flatten().chain(of_logprobs).chain(of_setup) {
            if let Err(problem) = Path::parse(path) {
                return flaw(path.clone(), problem, "docs/import.md has the form of a path");
            }
        }
        Ok(Self { run, setup, signals: signal, logprobs })
    }

    /// Reads a map.
    ///
    /// *Errors:* as [`Self::parse`]; a file that cannot be read.
    pub fn read(file: &File) -> Result<Self> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| mantissa_evidence::files::unreadable(file, source))?;
        Self::parse(&text, file)
    }
}
