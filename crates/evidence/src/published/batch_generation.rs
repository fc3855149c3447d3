//! Layout `batch_generation`.

use crate::Experiment;

/// A file of this layout.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchGeneration {
    /// What was lenient or assumed in reading it.
    pub warnings: Vec<String>,
}

impl BatchGeneration {
    /// What it holds, in this project's terms.
    #[must_use]
    pub fn experiment(&self) -> Experiment {
        unimplemented!()
    }
}
