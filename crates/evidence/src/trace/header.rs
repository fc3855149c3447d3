//! The first line of a trace: what was traced, and by which rules.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalog::UsedCatalog;
use crate::digest::Digest;
use crate::experiment::{ModelIdentity, Setup};

/// Version of the format.
pub const TRACE_VERSION: u32 = 2;

/// The last line of a trace, which says that nothing was cut off. Version 1 has none.
///
/// Example: [`TraceWriter`](super::TraceWriter).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TraceEnd {
    /// How many events there are.
    pub events: u64,
    /// Blake3 of every line before this one, line ends included.
    pub digest: Digest,
}

/// What a trace is of.
///
/// ```
/// use mantissa_evidence::ModelIdentity;
/// use mantissa_evidence::trace::{TraceHeader, TracedPrompt};
///
/// let model = ModelIdentity { id: "tiny".to_owned(), weights_digest: None };
/// let mut header = TraceHeader::new("mantissa 0.1.0", model);
/// header.prompts.push(TracedPrompt::of_ids("p0", vec![1, 2, 3]));
/// assert_eq!(header.prompt("p0").map(|prompt| prompt.token_ids.len()), Some(3));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TraceHeader {
    /// Version of the format, [`TRACE_VERSION`] when written here.
    pub version: u32,
    /// Program and version that wrote the trace.
    pub program: String,
    /// The model.
    pub model: ModelIdentity,
    /// The setup as evidence declares it; absent where nothing is known of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup: Option<Setup>,
    /// The catalogs that a prediction of a GPU took recipes from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub catalogs: Vec<UsedCatalog>,
    /// How values were hashed.
    pub hash: HashRule,
    /// How statistics were computed.
    pub statistics: StatisticsRule,
    /// The prompts, in the order of their events.
    pub prompts: Vec<TracedPrompt>,
}

/// How values were hashed.
///
/// Example: [`TraceHeader`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HashRule {
    /// Blake3 of the values in their storage format, little-endian, row after row.
    #[serde(rename = "blake3 of little-endian values in the storage format")]
    Blake3,
}

/// How statistics were computed.
///
/// Example: [`TraceHeader`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StatisticsRule {
    /// As [`Statistics`](super::Statistics) says.
    #[serde(rename = "binary64, sixteen lanes joined by a tree, rows in order")]
    Lanes,
}

/// A prompt that was traced.
///
/// Example: [`TraceHeader`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TracedPrompt {
    /// Name that events refer to, unique in the trace.
    pub prompt_id: String,
    /// The exact ids fed; empty where they are not known.
    pub token_ids: Vec<u32>,
    /// Digest of the ids; null where they are not known.
    pub digest: Option<Digest>,
}

impl TracedPrompt {
    /// A prompt with its ids and their digest; without ids it has none.
    #[must_use]
    pub fn of_ids(prompt_id: &str, token_ids: Vec<u32>) -> Self {
        let digest = (!token_ids.is_empty()).then(|| Digest::of_ids(&token_ids));
        Self { prompt_id: prompt_id.to_owned(), token_ids, digest }
    }
}

impl TraceHeader {
    /// A header by the rules of this program, without prompts.
    #[must_use]
    pub fn new(program: &str, model: ModelIdentity) -> Self {
        Self {
            version: TRACE_VERSION,
            program: program.to_owned(),
            model,
            setup: None,
            catalogs: Vec::new(),
            hash: HashRule::Blake3,
            statistics: StatisticsRule::Lanes,
            prompts: Vec::new(),
        }
    }

    /// A prompt by its name.
    #[must_use]
    pub fn prompt(&self, prompt_id: &str) -> Option<&TracedPrompt> {
        self.prompts.iter().find(|prompt| prompt.prompt_id == prompt_id)
    }
}
