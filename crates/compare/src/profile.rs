//! Facts of a pair summed up: its state. Left out: means of distances, which belong to a judgement.

use mantissa_numerics::Phase;
use serde::Serialize;

use crate::SignalKind;
use crate::facts::{Counts, PairFacts, RowState, SiteFacts};

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

/// One kind of signal of a pair in one phase.
///
/// Example: [`PairFacts::signal`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SignalFacts {
    /// Rows by state.
    pub counts: Counts,
    /// The largest Euclidean norm of the difference of a row; 0 where all compared rows are equal, absent where rows
    /// differ by nothing finite.
    pub largest: Option<f64>,
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
    /// The rows of one kind of signal in one phase; `None` asks for sites of no kind, which a trace keeps. Absent where
    /// neither recorded any.
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use mantissa_compare::{Comparison, Selection, SignalKind};
    /// use mantissa_evidence::Record;
    /// use mantissa_numerics::Phase;
    ///
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/evidence/v1/container");
    /// let records = [("record".to_owned(), Record::open(Path::new(path))?)];
    /// let found = Comparison::of(&records, &Selection::default())?;
    /// let facts = &found.prompts[0].pairs[0].facts;
    /// let of = |kind| facts.signal(Phase::Decode, Some(kind)).expect("rows");
    /// // Keys of two formats cannot be compared: how far they are apart is not known, and not 0.
    /// let keys = of(SignalKind::KeyVectors);
    /// assert_eq!((keys.counts.incomparable, keys.largest), (18, None));
    /// assert!(of(SignalKind::Logprobs).largest > Some(1.0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn signal(&self, phase: Phase, kind: Option<SignalKind>) -> Option<SignalFacts> {
        let mut found: Option<SignalFacts> = None;
        let mut take = |counts: Counts, rows: &mut dyn Iterator<Item = Option<f64>>| {
            let found = found.get_or_insert(SignalFacts { counts: Counts::default(), largest: None });
            found.counts.add(counts);
            found.largest = rows.flatten().chain(found.largest).reduce(f64::max);
        };
        if kind == Some(SignalKind::Logprobs) {
            for logprobs in self.logprobs.iter().filter(|logprobs| logprobs.phase == phase) {
                let rows = logprobs.rows.iter().map(|row| length(&row.state, |distance| distance.l2));
                take(logprobs.counts, &mut { rows });
            }
        } else {
            let chosen = |site: &&SiteFacts| site.phase == phase && SignalKind::of(site.site) == kind;
            for site in self.sites.iter().filter(chosen) {
                let rows = site.rows.iter().map(|row| length(&row.state, |distance| distance.l2));
                take(site.counts, &mut { rows });
            }
        }
        // Equal rows are 0 apart where nothing else is; beside rows that differ they say nothing of how far.
        found.map(|facts| match (facts.counts.different, facts.counts.equal) {
            (0, 1..) => SignalFacts { largest: Some(0.0), ..facts },
            _ => facts,
        })
    }
}

/// How long the difference of a row is, where it has one.
fn length<D>(state: &RowState<D>, l2: impl Fn(&D) -> Option<f64>) -> Option<f64> {
    match state {
        RowState::Equal => Some(0.0),
        RowState::Different(distance) => l2(distance),
        RowState::Missing | RowState::Incomparable => None,
    }
}
