//! `manifest.json` and `timing.json` of a container.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::run_file_name;
use crate::FORMAT_VERSION;
use crate::digest::Digest;
use crate::error::{EvidenceError, Flaw, Result};
use crate::experiment::{Configuration, Experiment, ExperimentMetadata, Runtime};
use crate::json::text;
use crate::json::wire::RunExtras;
use crate::run::Run;
use crate::strict::Unique;

/// What a manifest is recognized by.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) enum Format {
    #[default]
    #[serde(rename = "mantissa-container")]
    Container,
}

/// Everything of an experiment but tensors and clocks.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// Always `mantissa-container`.
    pub(crate) format: Format,
    /// Version of the container's format.
    pub(crate) format_version: u32,
    /// As in the experiment JSON, without `date_created`.
    pub(crate) experiment_metadata: ExperimentMetadata,
    /// As in the experiment JSON, without `runtime`.
    pub(crate) configurations: Vec<Configuration>,
    /// One entry per run file.
    pub(crate) runs: Vec<ManifestRun>,
}

/// A run and the file that holds its tensors.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ManifestRun {
    /// The configuration it belongs to.
    pub(crate) config_id: String,
    /// Repetition, counted from 0.
    pub(crate) rep_id: u32,
    /// The prompt, decoded.
    pub(crate) prompt_text: String,
    /// The file that holds its tensors.
    pub(crate) file: FileEntry,
    /// As in the experiment JSON.
    pub(crate) mantissa: RunExtras,
}

/// A file of the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Name in the directory.
    pub name: String,
    /// Size.
    pub bytes: u64,
    /// Digest of its bytes.
    pub blake3: Digest,
}

/// The clocks of an experiment.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Timing {
    /// When the experiment was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    date_created: Option<String>,
    /// Runtimes by configuration.
    #[serde(default)]
    configurations: Unique<String, Runtime>,
    /// Times by run file.
    #[serde(default)]
    runs: Unique<String, RunClock>,
}

/// The clocks of a run.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RunClock {
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    /// How long it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    runtime_seconds: Option<f64>,
}

impl Manifest {
    pub(super) fn of(experiment: &Experiment, runs: Vec<ManifestRun>) -> Self {
        let mut experiment_metadata = experiment.metadata.clone();
        experiment_metadata.date_created = None;
        let mut configurations = experiment.configurations.clone();
        for extras in configurations.iter_mut().filter_map(|configuration| configuration.mantissa.as_mut()) {
            extras.runtime = None;
        }
        Self {
            format: Format::Container,
            format_version: FORMAT_VERSION,
            experiment_metadata,
            configurations,
            runs,
        }
    }

    pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        let manifest: Self = text::parse(bytes, path)?;
        let (found, known) = (manifest.format_version, FORMAT_VERSION);
        if found > known {
            return Err(EvidenceError::Version { path: path.to_owned(), found: u64::from(found), known });
        }
        let clock = manifest.experiment_metadata.date_created.is_some()
            || manifest
                .configurations
                .iter()
                .any(|c| c.mantissa.as_ref().is_some_and(|m| m.runtime.is_some()));
        if clock || found == 0 {
            let problem = "has a format version of 0, or a time, which belongs into timing.json";
            return Err(Flaw::new("manifest", problem, "record it again").in_file(path));
        }
        Ok(manifest)
    }
}

impl ManifestRun {
    /// The run without signals, its file, and what was stated about both.
    pub(super) fn split(self) -> (Run, FileEntry, RunExtras) {
        let extras = self.mantissa;
        let run = Run {
            config_id: self.config_id,
            rep_id: self.rep_id,
            reference_id: extras.reference_id,
            timestamp: None,
            runtime_seconds: None,
            prompt_text: self.prompt_text,
            prompt_label: extras.prompt_label.clone(),
            prompt_token_ids: extras.prompt_token_ids.clone(),
            output_token_ids: extras.output_token_ids.clone(),
            output_token_texts: extras.output_token_texts.clone(),
            neighbours: extras.neighbours.clone(),
            prompt_source: extras.prompt_source.clone(),
            prefill: None,
            decode: None,
        };
        (run, self.file, extras)
    }
}

impl Timing {
    pub(super) fn of(experiment: &Experiment) -> Self {
        let runtimes = experiment.configurations.iter().filter_map(|configuration| {
            let runtime = configuration.mantissa.as_ref()?.runtime.clone()?;
            Some((configuration.config_id.clone(), runtime))
        });
        let clocks =
            experiment.runs.iter().filter(|run| run.timestamp.is_some() || run.runtime_seconds.is_some());
        let clocks = clocks.map(|run| {
            let clock = RunClock { timestamp: run.timestamp.clone(), runtime_seconds: run.runtime_seconds };
            (run_file_name(run), clock)
        });
        Self {
            date_created: experiment.metadata.date_created.clone(),
            configurations: Unique(runtimes.collect()),
            runs: Unique(clocks.collect()),
        }
    }

    pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        text::parse(bytes, path)
    }

    /// Puts the clocks back where the experiment JSON has them.
    pub(super) fn restore(mut self, experiment: &mut Experiment) -> std::result::Result<(), Flaw> {
        experiment.metadata.date_created = self.date_created;
        for configuration in &mut experiment.configurations {
            if let Some(extras) = &mut configuration.mantissa {
                extras.runtime = self.configurations.0.remove(&configuration.config_id);
            }
        }
        for run in &mut experiment.runs {
            if let Some(clock) = self.runs.0.remove(&run_file_name(run)) {
                run.timestamp = clock.timestamp;
                run.runtime_seconds = clock.runtime_seconds;
            }
        }
        match self.configurations.0.into_keys().chain(self.runs.0.into_keys()).next() {
            None => Ok(()),
            Some(name) => {
                let problem = format!("gives times of '{name}', which the manifest does not have");
                Err(Flaw::new("timing", problem, "remove timing.json to read the record without its times"))
            }
        }
    }
}
