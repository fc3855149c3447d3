//! What evidence states twice and not alike, as an audit tells it.

use mantissa_evidence::Conflict;
use schemars::JsonSchema;
use serde::Serialize;

use crate::said;

/// Something that the evidence states twice and not alike.
///
/// Example: [`Audit`](super::Audit).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Contested {
    /// What it is about: `the batch_size`, `a row that two passes stored`, …
    pub about: String,
    /// The configuration; absent where it concerns the whole file.
    pub config_id: Option<String>,
    /// Who says what: place and value.
    pub statements: Vec<[String; 2]>,
    /// How many more conflicts of this kind there are in the same run.
    pub more: u64,
    /// Whether a claim said what is meant. If not, there is no verdict on the configuration.
    pub settled: bool,
    /// It in a sentence that stands alone.
    pub sentence: String,
}

impl Contested {
    pub(super) fn of(found: &Conflict, settled: bool) -> Self {
        let statements = found.statements.iter();
        Self {
            about: said::about(found.about),
            config_id: found.config_id.clone(),
            statements: statements.map(|stated| [stated.place.clone(), stated.value.clone()]).collect(),
            more: found.more,
            settled,
            sentence: said::conflict(found),
        }
    }
}
