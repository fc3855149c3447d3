//! Where a number came from: a file, and a place in it.

use mantissa_published::Opened;
use schemars::JsonSchema;
use serde::Serialize;

use crate::said;

/// A file that was analyzed.
///
/// Example: [`Analysis`](super::Analysis).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Source {
    /// Name without folder, unique in the analysis.
    pub name: String,
    /// blake3 of its bytes (of a container: of its manifest), in hexadecimal.
    pub digest: String,
    /// What it is: `experiment_json`, `container`, `activations`, …
    pub layout: String,
    /// What was lenient or assumed in reading it.
    pub warnings: Vec<String>,
}

impl From<&Opened> for Source {
    fn from(file: &Opened) -> Self {
        Self {
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
