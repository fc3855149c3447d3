//! Where a number came from: a file, and a place in it.

use std::collections::BTreeSet;

use mantissa_evidence::{Configuration, ExperimentMetadata};
use mantissa_published::{Content, Opened};
use schemars::JsonSchema;
use serde::Serialize;

use crate::said;

/// A file that was analyzed.
///
/// Example: [`Analysis`](super::Analysis).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct Source {
    /// Name without folder, unique in the analysis.
    pub name: String,
    /// blake3 of its bytes (of a container: of its manifest), in hexadecimal.
    pub digest: String,
    /// What it is: `experiment_json`, `container`, `activations`, …
    pub layout: String,
    /// Models that it names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Hardware that it names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hardware: Vec<String>,
    /// When it was made, as it states.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// What was lenient or assumed in reading it.
    pub warnings: Vec<String>,
}

impl From<&Opened> for Source {
    fn from(file: &Opened) -> Self {
        let (models, hardware, date) = stated(&file.content);
        Self {
            models,
            hardware,
            date,
            name: file.name.clone(),
            digest: file.digest.to_string(),
            layout: file.content.layout().to_owned(),
            warnings: file
                .warnings
                .iter()
                .cloned()
                .chain(file.conflicts.iter().map(said::conflict))
                .collect(),
        }
    }
}

/// Models, hardware and date that evidence states.
fn stated(content: &Content) -> (Vec<String>, Vec<String>, Option<String>) {
    match content {
        Content::Record(record) => {
            let shell = record.shell();
            of_experiment(&shell.metadata, &shell.configurations)
        }
        Content::Published(file) => {
            let (models, hardware, date) = file.experiment().map_or_else(Default::default, |experiment| {
                of_experiment(&experiment.metadata, &experiment.configurations)
            });
            let verifications = file.verifications();
            let machines = verifications.iter().flat_map(|one| [&one.generator.gpu, &one.verifier.gpu]);
            let models = models.into_iter().chain(file.models().into_values());
            (once_each(models), once_each(hardware.into_iter().chain(machines.cloned())), date)
        }
    }
}

fn of_experiment(
    metadata: &ExperimentMetadata,
    configurations: &[Configuration],
) -> (Vec<String>, Vec<String>, Option<String>) {
    let hardware = configurations.iter().map(|configuration| configuration.hardware.clone());
    let date = metadata.date_created.clone().filter(|date| !date.is_empty());
    (once_each(std::iter::once(metadata.model.clone())), once_each(hardware), date)
}

/// Each once, where it first stands; nothing that is empty.
fn once_each(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    names.filter(|name| !name.is_empty() && seen.insert(name.clone())).collect()
}

/// Where a number came from.
///
/// Example: [`Finding`](super::Finding).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Citation {
    /// [`Source::name`].
    pub source: String,
    /// Place in it: `runs[3] layer_28.k`, `comparisons[17].prefill_distances.logprobs_mean`, `line 412`.
    pub place: String,
}
