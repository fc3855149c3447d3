//! Values of a setup's axes without recipes: they are refused in this one place.
//!
//! Left out: shapes, programs, ranks and combinations that recipes do not cover (the engine refuses those); other work
//! on the GPU, beside which the same bits are left (measured: docs/coverage.md).

use std::fmt;

use mantissa_numerics::Setup;
use mantissa_numerics::setup::{ModelRunner, Program};

/// Why a setup has no replay.
///
/// Example: [`uncovered`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// What is not offered or not stated.
    pub what: String,
    /// What would help.
    pub remedy: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

/// Refuses a setup with a value that there are no recipes for.
///
/// ```
/// use mantissa_lab::uncovered;
/// use mantissa_numerics::Setup;
///
/// assert!(uncovered(&Setup::default()).is_ok());
/// let compiled = Setup { compile: true, ..Setup::default() };
/// assert_eq!(
///     uncovered(&compiled).unwrap_err().to_string(),
///     "there are no recipes for a compiled model; only eager mode is covered"
/// );
/// ```
pub fn uncovered(setup: &Setup) -> Result<(), Unreadable> {
    if setup.compile {
        return Err(Unreadable {
            what: "there are no recipes for a compiled model".to_owned(),
            remedy: "only eager mode is covered".to_owned(),
        });
    }
    if setup.model_runner != ModelRunner::Auto && setup.engine != Program::Vllm024 {
        return Err(Unreadable {
            what: "a model runner is vLLM's".to_owned(),
            remedy: "claim engine=vllm-0.24 beside it, or leave it out".to_owned(),
        });
    }
    Ok(())
}
