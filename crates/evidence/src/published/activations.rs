//! Layout `activations`.

use crate::Experiment;

/// A file of this layout.
#[derive(Debug, Clone, PartialEq)]
pub struct Activations {
    /// What was lenient or assumed in reading it.
    pub warnings: Vec<String>,
}

impl Activations {
    /// What it holds, in this project's terms.
    #[must_use]
    pub fn experiment(&self) -> Experiment {
        unimplemented!()
    }
}
