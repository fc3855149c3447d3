//! What can go wrong with a judgement, each as one line that names the quantity and the remedy.
//!
//! Left out: "too few units", which is an answer (an absent interval, a large p-value) and not an error.

/// Result of this crate.
pub type Result<T> = std::result::Result<T, VerdictError>;

/// Why a judgement could not be made.
///
/// ```
/// use mantissa_verdict::stats::conformal_p;
///
/// let error = conformal_p(1.0, &[]).expect_err("no honest unit");
/// assert_eq!(error.to_string(), "calibration is empty; a test needs at least one unit of it");
/// ```
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum VerdictError {
    /// A score that is no number, or infinite where only finite ones can be averaged.
    #[error("{what}[{index}] is {value}; leave out units that could not be compared and state their count")]
    NotANumber {
        /// Which list.
        what: &'static str,
        /// Position in it.
        index: usize,
        /// The value.
        value: f64,
    },
    /// A list without any unit.
    #[error("{what} is empty; a test needs at least one unit of it")]
    Empty {
        /// Which list.
        what: &'static str,
    },
    /// A parameter outside its range.
    #[error("{what} is {value}; it must lie {range}")]
    OutOfRange {
        /// Which parameter.
        what: &'static str,
        /// Its value.
        value: f64,
        /// The allowed range: `between 0 and 1, both excluded`.
        range: &'static str,
    },
    /// Evidence that cannot be read or compared.
    #[error("{message}")]
    Evidence {
        /// What the reader says, with file, place and remedy.
        message: String,
    },
    /// A variable that no configuration states.
    #[error("no configuration states '{variable}'; use one of {known}", known = known.join(", "))]
    UnknownVariable {
        /// What was asked for.
        variable: String,
        /// What configurations state.
        known: Vec<String>,
    },
    /// Files that declare different variables, and nothing that chooses one.
    #[error("the files vary {declared}; name one as the variable, or analyze them apart", declared = declared.join(" and "))]
    SeveralVariables {
        /// The declared variables.
        declared: Vec<String>,
    },
    /// A reference configuration that is not there.
    #[error("no configuration is called '{reference}'; use one of {known}", known = known.join(", "))]
    UnknownReference {
        /// What was asked for.
        reference: String,
        /// The configurations.
        known: Vec<String>,
    },
}
