//! What is done about data that are not those their digests were made of: refused, or noted and read all the same.

use std::path::Path;

use crate::error::{Flaw, Result};

/// What is done about damage.
#[derive(Debug)]
pub(crate) enum Damage {
    /// The first one is an error.
    Refuse,
    /// Each one is noted, and reading goes on.
    Collect(Vec<String>),
}

impl Damage {
    /// Takes in what a check found; anything but damage is an error whatever is done about that.
    pub(crate) fn note(&mut self, found: std::result::Result<(), Flaw>, path: &Path) -> Result<()> {
        match (found, self) {
            (Ok(()), _) => Ok(()),
            (Err(flaw), Self::Collect(notes)) if flaw.altered => {
                notes.push(flaw.in_file(path).to_string());
                Ok(())
            }
            (Err(flaw), _) => Err(flaw.in_file(path)),
        }
    }

    /// As [`Self::note`], for each of several.
    pub(crate) fn notes(&mut self, found: impl IntoIterator<Item = Flaw>, path: &Path) -> Result<()> {
        found.into_iter().try_for_each(|flaw| self.note(Err(flaw), path))
    }

    /// What was noted.
    pub(crate) fn into_notes(self) -> Vec<String> {
        match self {
            Self::Refuse => Vec::new(),
            Self::Collect(notes) => notes,
        }
    }
}
