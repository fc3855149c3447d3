//! Finished replays on disk: a verification that was killed continues from them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mantissa_compare::ReplayFacts;
use mantissa_evidence::{Digest, write_whole};
use serde::{Deserialize, Serialize};

use crate::error::LabError;

/// The file.
#[derive(Serialize, Deserialize)]
struct File {
    /// What was asked for, by content.
    question: String,
    finished: Vec<Kept>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    run: usize,
    class: usize,
    facts: ReplayFacts,
}

/// Facts by run and class, and where they are kept.
pub(super) struct State {
    path: Option<PathBuf>,
    question: String,
    pub(super) facts: BTreeMap<(usize, usize), ReplayFacts>,
}

impl State {
    /// What `path` holds of the same question; a file about another is refused.
    pub(super) fn open(path: Option<&Path>, question: &str) -> Result<Self, LabError> {
        let question = Digest::of_bytes(question.as_bytes()).to_string();
        let mut facts = BTreeMap::new();
        if let Some(path) = path.filter(|path| path.exists()) {
            let bytes = std::fs::read(path)
                .map_err(|source| LabError::StateRead { path: path.to_owned(), source })?;
            let file: File = serde_json::from_slice(&bytes)
                .map_err(|source| LabError::StateMalformed { path: path.to_owned(), source })?;
            if file.question != question {
                return Err(LabError::OtherState { path: path.to_owned() });
            }
            facts.extend(file.finished.into_iter().map(|kept| ((kept.run, kept.class), kept.facts)));
        }
        Ok(Self { path: path.map(Path::to_owned), question, facts })
    }

    /// Adds a replay that is done, and puts all of them on disk.
    pub(super) fn add(&mut self, run: usize, class: usize, facts: &ReplayFacts) -> Result<(), LabError> {
        self.facts.insert((run, class), facts.clone());
        let Some(path) = &self.path else { return Ok(()) };
        let finished = self.facts.iter();
        let file = File {
            question: self.question.clone(),
            finished: finished
                .map(|(&(run, class), facts)| Kept { run, class, facts: facts.clone() })
                .collect(),
        };
        write_whole(path, true, |out| {
            serde_json::to_writer(&mut *out, &file).map_err(std::io::Error::from)?;
            out.write_all(b"\n")
        })?;
        Ok(())
    }
}
