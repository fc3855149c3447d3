//! Layout `batch_verification`.

use crate::Verification;

/// A file of this layout.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchVerification {
    /// What was lenient or assumed in reading it.
    pub warnings: Vec<String>,
}

impl BatchVerification {
    /// What it holds, in this project's terms.
    #[must_use]
    pub fn verification(&self) -> Verification {
        unimplemented!()
    }
}
