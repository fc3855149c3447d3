//! What can go wrong while facts are gathered.

use mantissa_evidence::EvidenceError;

/// Why facts could not be gathered.
///
/// Example: [`crate::PairFacts`].
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A row could not be read.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// A pair names a member that was not given.
    #[error("pair ({a}, {b}) names a member that is not there; {count} members were given, counted from 0")]
    NoSuchMember {
        /// The first of the pair.
        a: usize,
        /// The second.
        b: usize,
        /// Members given.
        count: usize,
    },
    /// A member names a run that its record does not have.
    #[error("{origin}: has no run {run}; it holds {runs} runs, counted from 0")]
    NoSuchRun {
        /// The record.
        origin: String,
        /// The run asked for.
        run: usize,
        /// Runs of the record.
        runs: usize,
    },
    /// A row does not have the width that its record states.
    #[error(
        "{origin}: runs[{run}] {place}: the row has {found} bytes instead of {expected}; record it again"
    )]
    Row {
        /// The record.
        origin: String,
        /// Index of the run.
        run: usize,
        /// Phase, site, step and position.
        place: String,
        /// Bytes found.
        found: usize,
        /// Bytes of the stated width.
        expected: usize,
    },
    /// More runs of one prompt than their pairs can be compared.
    #[error(
        "{origin}: {count} runs of one prompt are more than {limit}; compare fewer files, or split this one"
    )]
    TooManyRuns {
        /// The first of the records.
        origin: String,
        /// Runs of the prompt.
        count: usize,
        /// Runs allowed.
        limit: usize,
    },
    /// More facts than memory should hold.
    #[error(
        "{origin}: {rows} rows to compare over all pairs of runs are more than {limit}; compare fewer files, or one phase, signal or layer of them"
    )]
    TooManyRows {
        /// The first of the records.
        origin: String,
        /// Rows over all pairs.
        rows: u128,
        /// Rows allowed.
        limit: u128,
    },
}
