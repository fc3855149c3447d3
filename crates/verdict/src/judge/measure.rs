//! Facts about two runs, summed up per phase and signal.
//!
//! Left out: any judgement. Rows keep their identity, so that two distances can be compared over the same rows.

use std::collections::{BTreeMap, BTreeSet};

use mantissa_compare::{Counts, PairFacts, RowState, SignalKind};
use mantissa_numerics::{Phase, Site};

use super::values::mean;
use crate::analysis::{Signal, State};

/// A phase and a signal.
pub(super) type Lane = (Phase, Signal);

/// A row: site (absent for log-probabilities), step, position.
pub(super) type RowId = (Option<Site>, u64, i32);

/// What is known of one phase and signal of two runs.
#[derive(Debug, Clone, Default)]
pub(super) struct Measured {
    pub(super) counts: Counts,
    /// Distance of each compared row: L2, or the root mean square over common ids; absent where nothing was finite.
    pub(super) rows: BTreeMap<RowId, Option<f64>>,
    /// Rows with other bits, whatever their distance.
    pub(super) different: BTreeSet<RowId>,
    /// Rows that could not be compared.
    pub(super) gaps: Vec<RowId>,
    /// The first row with other bits.
    pub(super) first: Option<RowId>,
    /// Probability mass outside the common candidates, the larger of both sides, by row.
    pub(super) moved: Vec<f64>,
}

impl Measured {
    /// The states that rows have.
    pub(super) fn states(&self) -> impl Iterator<Item = State> {
        let Counts { equal, different, missing, incomparable } = self.counts;
        let states = [
            (equal, State::Equal),
            (different, State::Different),
            (missing, State::Missing),
            (incomparable, State::Incomparable),
        ];
        states.into_iter().filter(|(rows, _)| *rows > 0).map(|(_, state)| state)
    }

    /// Rows that were compared.
    pub(super) const fn compared(&self) -> u64 {
        self.counts.equal + self.counts.different
    }

    /// Every row, compared or not.
    pub(super) fn all_rows(&self) -> impl Iterator<Item = RowId> {
        self.rows.keys().chain(&self.gaps).copied()
    }

    /// Mean distance over rows, or over those that `keep` names.
    pub(super) fn mean(&self, keep: impl Fn(&RowId) -> bool) -> Option<f64> {
        let kept: Vec<f64> =
            self.rows.iter().filter(|(row, _)| keep(row)).filter_map(|(_, distance)| *distance).collect();
        mean(&kept)
    }
}

/// What is known of two runs.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    /// Where outputs part.
    pub(super) parted: Option<u64>,
    /// Which output is the beginning of the other (0 or 1), and after how many ids it stops.
    pub(super) stopped: Option<(usize, u64)>,
    pub(super) lanes: BTreeMap<Lane, Measured>,
}

/// The signal that a site belongs to: keys, and what Hugging Face calls hidden states. Other points are taps of a
/// trace, no signals of evidence.
pub(super) fn signal_of(site: Site) -> Option<Signal> {
    SignalKind::of(site).map(Signal::from)
}

/// Sums up the facts of a pair, but for its tokens.
pub(super) fn measure(facts: &PairFacts) -> Pair {
    let mut lanes: BTreeMap<Lane, Measured> = BTreeMap::new();
    for site in &facts.sites {
        let Some(signal) = signal_of(site.site) else { continue };
        let lane = lanes.entry((site.phase, signal)).or_default();
        add(&mut lane.counts, site.counts);
        for row in &site.rows {
            let id = (Some(site.site), row.step, row.position);
            put(lane, id, row.state, |distance| distance.l2);
        }
    }
    for logprobs in &facts.logprobs {
        let lane = lanes.entry((logprobs.phase, Signal::Logprobs)).or_default();
        add(&mut lane.counts, logprobs.counts);
        for row in &logprobs.rows {
            put(lane, (None, row.step, row.position), row.state, |distance| distance.rms);
            if let RowState::Different(distance) = row.state {
                lane.moved.push(distance.mass_only_in_a.max(distance.mass_only_in_b));
            }
        }
    }
    Pair { parted: None, stopped: None, lanes }
}

fn put<D: Copy>(lane: &mut Measured, id: RowId, state: RowState<D>, distance: impl Fn(D) -> Option<f64>) {
    match state {
        RowState::Equal => {
            lane.rows.insert(id, Some(0.0));
        }
        RowState::Different(difference) => {
            lane.rows.insert(id, distance(difference).filter(|distance| distance.is_finite()));
            lane.different.insert(id);
            lane.first.get_or_insert(id);
        }
        RowState::Missing | RowState::Incomparable => lane.gaps.push(id),
    }
}

const fn add(total: &mut Counts, counts: Counts) {
    total.equal += counts.equal;
    total.different += counts.different;
    total.missing += counts.missing;
    total.incomparable += counts.incomparable;
}
