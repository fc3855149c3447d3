//! Facts of a pair summed up: as a whole, by layer, by step.
//!
//! Every sum keeps the counts of the four states; a mean over nothing does not exist.

use std::collections::BTreeMap;

use mantissa_numerics::{LayerIdx, Phase, Site};
use serde::Serialize;

use crate::distance::count;
use crate::facts::{Counts, PairFacts, RowState};
use crate::selection::SignalKind;

/// The four states of anything that was looked at.
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

/// Distances of rows, summed up.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct MeanDistance {
    /// Mean Euclidean norm over rows that were compared, equal ones as 0; absent when there is none.
    pub mean: Option<f64>,
    /// The largest of them.
    pub max: Option<f64>,
    /// Rows by state.
    pub counts: Counts,
    /// Rows that differ and have no distance (no candidate in common, nothing finite): not in the mean.
    pub without_distance: u64,
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
    /// The state of the pair in one phase (in all for `None`): different as soon as one row is or, where the phase is not
    /// only the prefill, outputs part; equal only if something was compared and nothing was left out.
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

    /// Mean distance of one kind of signal in one phase, over rows.
    #[must_use]
    pub fn mean_l2(&self, kind: SignalKind, phase: Phase) -> MeanDistance {
        self.grouped(kind, phase, |_, _| ()).remove(&()).unwrap_or_default()
    }

    /// Mean distance by decoder block, in the order of data flow; `None` is what lies outside the blocks.
    #[must_use]
    pub fn by_layer(&self, kind: SignalKind, phase: Phase) -> Vec<(Option<LayerIdx>, MeanDistance)> {
        // Sites order as data flows: the embedding first, the final norm last.
        let sites = self.grouped(kind, phase, |site, _| site);
        sites.into_iter().filter_map(|(site, mean)| Some((site?.layer, mean))).collect()
    }

    /// Mean distance by forward pass.
    #[must_use]
    pub fn by_step(&self, kind: SignalKind, phase: Phase) -> Vec<(u64, MeanDistance)> {
        self.grouped(kind, phase, |_, step| step).into_iter().collect()
    }

    fn grouped<K: Ord>(
        &self,
        kind: SignalKind,
        phase: Phase,
        key: impl Fn(Option<Site>, u64) -> K,
    ) -> BTreeMap<K, MeanDistance> {
        let mut groups: BTreeMap<K, Tally> = BTreeMap::new();
        if kind == SignalKind::Logprobs {
            let rows =
                self.logprobs.iter().filter(|facts| facts.phase == phase).flat_map(|facts| &facts.rows);
            for row in rows {
                groups.entry(key(None, row.step)).or_default().add(row.state, |distance| distance.l2);
            }
        } else {
            for facts in &self.sites {
                if facts.phase != phase || SignalKind::of(facts.site) != Some(kind) {
                    continue;
                }
                for row in &facts.rows {
                    let tally = groups.entry(key(Some(facts.site), row.step)).or_default();
                    tally.add(row.state, |distance| distance.l2);
                }
            }
        }
        groups.into_iter().map(|(key, tally)| (key, tally.finish())).collect()
    }
}

/// A sum that grows row by row.
#[derive(Default)]
struct Tally {
    sum: f64,
    rows: u64,
    mean: MeanDistance,
}

impl Tally {
    fn add<D: Copy>(&mut self, state: RowState<D>, distance: impl Fn(D) -> Option<f64>) {
        let counts = &mut self.mean.counts;
        let distance = match state {
            RowState::Equal => {
                counts.equal += 1;
                Some(0.0)
            }
            RowState::Different(difference) => {
                counts.different += 1;
                let distance = distance(difference);
                self.mean.without_distance += u64::from(distance.is_none());
                distance
            }
            RowState::Missing => {
                counts.missing += 1;
                None
            }
            RowState::Incomparable => {
                counts.incomparable += 1;
                None
            }
        };
        if let Some(distance) = distance {
            self.sum += distance;
            self.rows += 1;
            self.mean.max = Some(self.mean.max.map_or(distance, |max: f64| max.max(distance)));
        }
    }

    fn finish(self) -> MeanDistance {
        MeanDistance { mean: (self.rows > 0).then(|| self.sum / count(self.rows)), ..self.mean }
    }
}
