//! What a reader of dumps finds: prompts, events, and what is no event.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mantissa_evidence::EvidenceError;
use mantissa_evidence::trace::{StageTrace, TracedPrompt};
use mantissa_numerics::{Dtype, Site};

use super::pickle::TensorRef;

/// What was found of a dump.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub prompts: Vec<TracedPrompt>,
    pub events: Vec<Held>,
    /// Names of tensors without a site, layers replaced by `*`, and how many there are.
    pub left_out: BTreeMap<String, u64>,
}

/// An event whose values are elsewhere, or that has none.
#[derive(Debug)]
pub(super) enum Held {
    Shown(Box<StageTrace>),
    Stored(Box<Stored>),
}

/// A tensor in a file.
#[derive(Debug)]
pub(super) struct Stored {
    pub prompt_id: String,
    pub step: u64,
    pub seq_len: u64,
    pub site: Site,
    /// Position and token of each row.
    pub rows: Vec<(u64, Option<u32>)>,
    pub dtype: Dtype,
    pub file: PathBuf,
    pub tensor: TensorRef,
}

impl Found {
    /// Counts a tensor that has no site.
    pub(super) fn leave_out(&mut self, name: &str) {
        let parts: Vec<&str> =
            name.split('.').map(|part| if part.parse::<u32>().is_ok() { "*" } else { part }).collect();
        *self.left_out.entry(parts.join(".")).or_default() += 1;
    }
}

/// A dump that cannot be used, and why.
pub(super) fn refused(path: &Path, what: &str, remedy: &str) -> EvidenceError {
    EvidenceError::NotEvidence { path: path.to_owned(), what: what.to_owned(), remedy: remedy.to_owned() }
}
