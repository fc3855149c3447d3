//! The program that runs the model, and the ranks it is divided among.

use mantissa_numerics::setup::{LinearBackend, ModelRunner, Program, Ranks};

/// The program that runs the model, and the ranks it is divided among.
///
/// ```
/// use mantissa_engine::Serving;
/// use mantissa_engine::{Program, Ranks};
///
/// let two = Serving { ranks: Ranks { tensor: 2, ..Ranks::default() }, ..Serving::default() };
/// assert!(two.program == Program::Transformers && !two.ranks.is_one());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Serving {
    /// The program.
    pub program: Program,
    /// Its ranks.
    pub ranks: Ranks,
    /// Its choice among kernels for packed weights.
    pub linear_backend: LinearBackend,
    /// Which of its model runners, of vLLM.
    pub runner: ModelRunner,
}

impl Default for Serving {
    /// transformers on one rank.
    fn default() -> Self {
        Self {
            program: Program::Transformers,
            ranks: Ranks::default(),
            linear_backend: LinearBackend::Auto,
            runner: ModelRunner::Auto,
        }
    }
}
