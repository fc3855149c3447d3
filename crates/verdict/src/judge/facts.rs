//! Facts about every pair of setups on every prompt.

use std::collections::BTreeMap;

use mantissa_compare::{Member, Selection, SignalKind, Tokens, pairs};
use mantissa_numerics::Phase;

use super::measure::{Lane, Measured, Pair, measure};
use super::options::Options;
use super::setups::Setups;
use crate::analysis::{Citation, Signal, State};
use crate::{Result, VerdictError};

/// Facts by prompt and by pair of setups, the smaller index first.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) pairs: BTreeMap<(usize, usize), BTreeMap<usize, Pair>>,
}

/// One phase and signal of a pair over all prompts.
#[derive(Debug, Default)]
pub(super) struct Summary {
    /// Prompts with at least one compared row.
    pub(super) compared: Vec<usize>,
    /// Prompts on which rows were recorded by either and none could be compared.
    pub(super) incomparable: Vec<usize>,
    /// Rows compared, and those of them with other bits.
    pub(super) rows: u64,
    pub(super) different: u64,
    /// Prompts on which outputs part, and where first; in decode only.
    pub(super) parted: Vec<(usize, u64)>,
    /// Mean over prompts of mean distances.
    pub(super) distance: Option<f64>,
}

impl Summary {
    /// The state over all prompts.
    pub(super) fn state(&self) -> State {
        if self.different > 0 {
            State::Different
        } else if self.rows > 0 {
            State::Equal
        } else if self.incomparable.is_empty() {
            State::Missing
        } else {
            State::Incomparable
        }
    }
}

impl Facts {
    /// Compares every two setups on every prompt.
    pub(super) fn gather(setups: &Setups<'_>, options: &Options) -> Result<Self> {
        let mut facts = Self::default();
        for prompt in 0..setups.prompts.len() {
            let (mut present, mut members) = (Vec::new(), Vec::new());
            for setup in 0..setups.all.len() {
                if let Some(member) = setups.member(setup, prompt) {
                    present.push(setup);
                    members.push(member);
                }
            }
            let which: Vec<(usize, usize)> =
                (0..members.len()).flat_map(|a| (a + 1..members.len()).map(move |b| (a, b))).collect();
            for (&(a, b), pair) in which.iter().zip(measured_pairs(&members, &which, options)?) {
                facts.pairs.entry((present[a], present[b])).or_default().insert(prompt, pair);
            }
        }
        Ok(facts)
    }

    /// Facts of a pair on one prompt.
    pub(super) fn pair(&self, a: usize, b: usize, prompt: usize) -> Option<&Pair> {
        self.pairs.get(&(a.min(b), a.max(b)))?.get(&prompt)
    }

    /// One phase and signal of a pair on one prompt.
    pub(super) fn measured(&self, a: usize, b: usize, prompt: usize, lane: Lane) -> Option<&Measured> {
        self.pair(a, b, prompt)?.lanes.get(&lane)
    }

    /// Every phase and signal that anybody recorded, in order.
    pub(super) fn lanes(&self) -> Vec<Lane> {
        let mut lanes: Vec<Lane> = self
            .pairs
            .values()
            .flat_map(BTreeMap::values)
            .flat_map(|pair| pair.lanes.keys().copied())
            .collect();
        lanes.sort_unstable();
        lanes.dedup();
        lanes
    }

    /// One phase and signal of a pair over all prompts.
    pub(super) fn summary(&self, a: usize, b: usize, lane: Lane) -> Summary {
        let mut summary = Summary::default();
        let mut distances = Vec::new();
        let prompts = self.pairs.get(&(a.min(b), a.max(b)));
        for (&prompt, pair) in prompts.into_iter().flatten() {
            // Signals of a prefill come before any output.
            if lane.0 == Phase::Decode
                && let Some(index) = parted(pair.tokens)
            {
                summary.parted.push((prompt, index));
            }
            let Some(measured) = pair.lanes.get(&lane) else { continue };
            if measured.compared() == 0 {
                summary.incomparable.push(prompt);
                continue;
            }
            summary.compared.push(prompt);
            summary.rows += measured.compared();
            summary.different += measured.counts.different;
            distances.extend(measured.mean(|_| true));
        }
        summary.distance = super::words::mean(&distances);
        summary
    }
}

/// Where outputs part.
pub(super) const fn parted(tokens: Tokens) -> Option<u64> {
    match tokens {
        Tokens::OutputsPart { index } | Tokens::Declared { outputs_part: Some(index) } => Some(index as u64),
        _ => None,
    }
}

/// Facts about pairs of members, summed up.
pub(super) fn measured_pairs(
    members: &[Member<'_>],
    which: &[(usize, usize)],
    options: &Options,
) -> Result<Vec<Pair>> {
    let kinds = SignalKind::ALL.into_iter().filter(|&kind| options.wants(signal_of(kind)));
    let facts = pairs(members, which, &Selection::of(kinds));
    let facts = facts.map_err(|error| VerdictError::Evidence { message: error.to_string() })?;
    Ok(facts.iter().map(measure).collect())
}

const fn signal_of(kind: SignalKind) -> Signal {
    match kind {
        SignalKind::HiddenStates => Signal::HiddenStates,
        SignalKind::KeyVectors => Signal::KeyVectors,
        SignalKind::Logprobs => Signal::Logprobs,
    }
}

/// Citations of the runs of some setups on some prompts.
pub(super) fn cite(setups: &Setups<'_>, which: &[usize], prompts: &[usize]) -> Vec<Citation> {
    let places =
        prompts.iter().flat_map(|&prompt| which.iter().filter_map(move |&setup| setups.cite(setup, prompt)));
    super::setups::in_order(places)
}
