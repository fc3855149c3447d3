//! What was found of two setups whose signals were compared row by row.

use mantissa_numerics::{Phase, Site};

use super::place::{Place, Unshown};
use crate::analysis::{Answer, RowCounts, Signal, State};

/// Two setups by one phase and signal.
#[derive(Debug)]
pub(crate) struct BitsOfPair {
    pub(crate) a: String,
    pub(crate) b: String,
    pub(crate) phase: Phase,
    pub(crate) signal: Signal,
    pub(crate) place: Place,
    pub(crate) state: State,
    /// References with a compared row.
    pub(crate) references: u64,
    pub(crate) distance: Option<f64>,
    pub(crate) first: Option<FirstRow>,
    /// References on which outputs part, and where first.
    pub(crate) parted: Vec<(String, u64)>,
    pub(crate) rows: Rows,
    pub(crate) unshown: Unshown,
}

/// Rows of which not all could be compared.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) counts: RowCounts,
    /// Rows that a setup lacks, first setup first.
    pub(crate) lacking: [(String, u64); 2],
    /// Who stops, after how many outputs, on which reference.
    pub(crate) stopped: Vec<(String, u64, String)>,
}

impl Rows {
    /// Rows that were compared.
    pub(crate) const fn compared(&self) -> u64 {
        self.counts.equal + self.counts.different
    }

    /// Whether rows were left out of the comparison.
    const fn has_gaps(&self) -> bool {
        self.counts.missing + self.counts.incomparable > 0 || !self.stopped.is_empty()
    }

    /// Whether there is anything to say of them.
    pub(crate) const fn is_nothing(&self) -> bool {
        self.compared() == 0
            && self.lacking[0].1 + self.lacking[1].1 + self.counts.incomparable == 0
            && self.stopped.is_empty()
    }
}

/// The first row with other bits.
#[derive(Debug)]
pub(crate) struct FirstRow {
    pub(crate) reference: String,
    pub(crate) site: Option<Site>,
    pub(crate) step: u64,
    pub(crate) position: i32,
}

/// Which setups do not repeat themselves, and by how much as a file states it.
#[derive(Debug)]
pub(crate) struct Noise {
    pub(crate) noisy: Vec<String>,
    pub(crate) stated: Vec<(String, f64)>,
}

impl BitsOfPair {
    /// The answer that bits give.
    pub(crate) fn answer(&self) -> Answer {
        match self.state {
            State::Different => Answer::Separable,
            State::Equal if !self.parted.is_empty() => Answer::Separable,
            State::Equal if self.rows.has_gaps() => Answer::Inconclusive,
            State::Equal => Answer::Identical,
            State::Incomparable | State::Missing => Answer::Incomparable,
        }
    }
}
