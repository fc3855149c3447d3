//! What was found of the repetitions of a setup.

use mantissa_numerics::Phase;

use crate::analysis::State;

/// Repetitions of one setup, by whatever is known of them.
#[derive(Debug)]
pub(crate) enum Repeats {
    /// One repetition or none is stored.
    Single,
    /// Stored repetitions, in one phase.
    Stored { phase: Phase, tally: Tally },
    /// Digests, or the record's word.
    Stated(StatedDigests),
    /// Distances that a file states; of how many repetitions, where it says so.
    Distances { phase: Phase, repetitions: Option<u64>, distances: Vec<f64> },
    /// The same setup in two files.
    FilePair(FilePair),
}

/// Comparisons of repetitions in one phase.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    pub(crate) repetitions: u64,
    pub(crate) references: u64,
    /// Comparisons of a row in two repetitions.
    pub(crate) compared: u64,
    pub(crate) different: u64,
    pub(crate) missing: u64,
    pub(crate) incomparable: u64,
    pub(crate) parted: bool,
    pub(crate) stopped: bool,
}

impl Tally {
    pub(crate) const fn state(&self) -> State {
        if self.parted || self.different > 0 {
            State::Different
        } else if self.missing > 0 || self.stopped {
            State::Missing
        } else if self.incomparable > 0 || self.compared == 0 {
            State::Incomparable
        } else {
            State::Equal
        }
    }
}

/// What a record states of repetitions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StatedDigests {
    pub(crate) repetitions: u32,
    /// Whether they differ, by the digests or by the record's word.
    pub(crate) differ: bool,
    /// Whether the stated digests differ; absent where none are stated of two repetitions.
    pub(crate) digests: Option<bool>,
    /// Whether equal repetitions are stored as well.
    pub(crate) stored: bool,
}

/// The same setup in two files, in one phase.
#[derive(Debug)]
pub(crate) struct FilePair {
    pub(crate) a: String,
    pub(crate) b: String,
    pub(crate) phase: Phase,
    pub(crate) different: u64,
    pub(crate) compared: u64,
    /// References on which outputs part, and where.
    pub(crate) parted: Vec<(String, u64)>,
    /// Whether all rows of both were compared and are equal.
    pub(crate) whole: bool,
}

impl FilePair {
    pub(crate) const fn state(&self) -> State {
        if self.different > 0 || !self.parted.is_empty() {
            State::Different
        } else if self.whole {
            State::Equal
        } else if self.compared > 0 {
            State::Missing
        } else {
            State::Incomparable
        }
    }
}

impl Repeats {
    pub(crate) fn state(&self) -> State {
        match self {
            Self::Single => State::Missing,
            Self::Stored { tally, .. } => tally.state(),
            Self::Stated(stated) if stated.differ => State::Different,
            Self::Stated(_) => State::Equal,
            Self::Distances { repetitions, distances, .. } => {
                if distances.is_empty() || repetitions.is_some_and(|n| n < 2) {
                    State::Missing
                } else if distances.iter().all(|distance| distance.abs().to_bits() == 0) {
                    State::Equal
                } else {
                    State::Different
                }
            }
            Self::FilePair(again) => again.state(),
        }
    }
}
