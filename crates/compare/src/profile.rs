//! Facts of a pair summed up: its state. Left out: means of distances, which belong to a judgement.

use mantissa_numerics::Phase;
use serde::Serialize;

use crate::facts::{Counts, PairFacts};

/// The four states of anything that was looked at.
///
/// Example: [`crate::classes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Same bits in every row that was compared, and at least one was.
    Equal,
    /// Other bits in at least one.
    Different,
    /// Recorded on one side at most.
    Missing,
    /// Recorded on both, and nothing could be compared.
    Incomparable,
}

impl Counts {
    /// The state of all together: different as soon as one is; equal only if something was compared.
    #[must_use]
    pub const fn state(self) -> State {
        match self {
            Self { different: 1.., .. } => State::Different,
            Self { equal: 1.., .. } => State::Equal,
            Self { incomparable: 1.., .. } => State::Incomparable,
            _ => State::Missing,
        }
    }

    /// Adds others.
    pub const fn add(&mut self, other: Self) {
        self.equal += other.equal;
        self.different += other.different;
        self.missing += other.missing;
        self.incomparable += other.incomparable;
    }
}

impl PairFacts {
    /// The state of the pair in one phase (in all for `None`): different as soon as one row is or, where the phase is
    /// not only the prefill, outputs part; equal only if something was compared and nothing was left out.
    ///
    /// Rows that are missing or incomparable beside equal ones leave open whether the runs are equal, so the pair is
    /// then no more than that. [`Counts::state`] asks for less: it speaks of the rows that were compared.
    #[must_use]
    pub fn state(&self, phase: Option<Phase>) -> State {
        let parted = phase != Some(Phase::Prefill) && self.tokens.outputs_part().is_some();
        match self.counts(phase) {
            _ if parted => State::Different,
            Counts { different: 1.., .. } => State::Different,
            Counts { incomparable: 1.., .. } => State::Incomparable,
            Counts { missing: 0, equal: 1.., .. } => State::Equal,
            _ => State::Missing,
        }
    }

    /// Rows by state, over every site and log-probability of the phases given (all for `None`).
    #[must_use]
    pub fn counts(&self, phase: Option<Phase>) -> Counts {
        let chosen = |found: Phase| phase.is_none_or(|phase| phase == found);
        let mut counts = Counts::default();
        for site in self.sites.iter().filter(|site| chosen(site.phase)) {
            counts.add(site.counts);
        }
        for logprobs in self.logprobs.iter().filter(|logprobs| chosen(logprobs.phase)) {
            counts.add(logprobs.counts);
        }
        counts
    }
}
