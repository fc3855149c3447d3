//! Which runs consumed the same prompt, and so may be compared at all.

use std::collections::BTreeMap;

use mantissa_evidence::{Digest, Run};
use serde::Serialize;

use crate::facts::Member;

/// What is known about a prompt, and identifies it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "basis", rename_all = "snake_case")]
pub enum Prompt {
    /// By its exact ids.
    Ids {
        /// blake3 over the ids.
        digest: Digest,
        /// How many.
        tokens: usize,
    },
    /// By a text or a label, without ids: declared, not proved.
    Declared {
        /// The text or the label.
        text: String,
    },
    /// Not at all; such a run is a group of its own.
    Unknown {
        /// Index of the member.
        member: usize,
    },
}

impl Prompt {
    /// What `run` states about its prompt; `member` tells apart runs that state nothing.
    #[must_use]
    pub fn of(run: &Run, member: usize) -> Self {
        if !run.prompt_token_ids.is_empty() {
            let digest = Digest::of_ids(&run.prompt_token_ids);
            return Self::Ids { digest, tokens: run.prompt_token_ids.len() };
        }
        let label = run.prompt_label.as_deref().unwrap_or_default();
        match [run.prompt_text.as_str(), label].into_iter().find(|text| !text.is_empty()) {
            Some(text) => Self::Declared { text: text.to_owned() },
            None => Self::Unknown { member },
        }
    }
}

/// Runs that consumed one prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PromptGroup {
    /// The prompt.
    pub prompt: Prompt,
    /// Indices of the members, ascending.
    pub members: Vec<usize>,
}

/// Groups members by prompt, in the order in which each prompt first appears.
#[must_use]
pub fn by_prompt(members: &[Member<'_>]) -> Vec<PromptGroup> {
    let mut groups: Vec<PromptGroup> = Vec::new();
    let mut places: BTreeMap<Prompt, usize> = BTreeMap::new();
    for (index, member) in members.iter().enumerate() {
        let Some(run) = member.record.shell().runs.get(member.run) else { continue };
        let prompt = Prompt::of(run, index);
        let place = *places.entry(prompt.clone()).or_insert_with(|| {
            groups.push(PromptGroup { prompt, members: Vec::new() });
            groups.len() - 1
        });
        groups[place].members.push(index);
    }
    groups
}
