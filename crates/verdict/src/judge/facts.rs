//! Facts about every pair of setups on every prompt.

use std::collections::{BTreeMap, BTreeSet};

use mantissa_compare::{Member, Selection, SignalKind, Tokens, pairs};
use mantissa_numerics::Phase;

use super::measure::{self, Lane, Measured, Pair};
use super::options::Options;
use super::setups::Setups;
use crate::analysis::{Citation, RowCounts, Signal, State};
use crate::{Result, VerdictError};

/// Facts by prompt and by pair of setups, the smaller index first.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) pairs: BTreeMap<(usize, usize), BTreeMap<usize, Pair>>,
    /// Rows that a setup recorded on a prompt, by phase and signal.
    recorded: BTreeMap<(usize, usize), BTreeMap<Lane, u64>>,
}

/// One phase and signal of a pair over all prompts.
#[derive(Debug, Default)]
pub(super) struct Summary {
    /// Prompts with at least one compared row.
    pub(super) compared: Vec<usize>,
    /// Prompts on which rows were recorded by either and none could be compared.
    pub(super) incomparable: Vec<usize>,
    /// Rows by state, those of prompts that only one of the two ran on among the missing.
    pub(super) counts: RowCounts,
    /// Of the missing, those that the first lacks, and those that the second lacks.
    pub(super) lacking: [u64; 2],
    /// Prompts on which outputs part, and where first; in decode only.
    pub(super) parted: Vec<(usize, u64)>,
    /// Prompts on which one output is the beginning of the other, which side stops (0 or 1), and after how many ids; in
    /// decode only.
    pub(super) stopped: Vec<(usize, usize, u64)>,
    /// Mean over prompts of mean distances.
    pub(super) distance: Option<f64>,
}

impl Summary {
    /// The state over all prompts.
    pub(super) fn state(&self) -> State {
        if self.counts.different > 0 {
            State::Different
        } else if self.counts.equal > 0 {
            State::Equal
        } else if self.incomparable.is_empty() {
            State::Missing
        } else {
            State::Incomparable
        }
    }

    /// Rows that were compared.
    pub(super) const fn compared_rows(&self) -> u64 {
        self.counts.equal + self.counts.different
    }

    /// Whether rows were left out of the comparison, so that equal bits in all others are not equality of the whole.
    pub(super) const fn has_gaps(&self) -> bool {
        self.counts.missing + self.counts.incomparable > 0 || !self.stopped.is_empty()
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
                    facts.recorded.insert((setup, prompt), recorded(member, options));
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
        let prompts: BTreeSet<usize> = self
            .recorded
            .keys()
            .filter(|(setup, _)| [a, b].contains(setup))
            .map(|&(_, prompt)| prompt)
            .collect();
        for prompt in prompts {
            let rows = [a, b].map(|setup| {
                self.recorded.get(&(setup, prompt)).and_then(|lanes| lanes.get(&lane)).copied().unwrap_or(0)
            });
            let pair = self.pair(a, b, prompt);
            // Signals of a prefill come before any output.
            if lane.0 == Phase::Decode
                && let Some(pair) = pair
            {
                summary.parted.extend(pair.parted.map(|index| (prompt, index)));
                summary.stopped.extend(
                    pair.stopped.map(|(side, after)| (prompt, if a < b { side } else { 1 - side }, after)),
                );
            }
            let Some(measured) = pair.and_then(|pair| pair.lanes.get(&lane)) else {
                // One of the two did not run on this prompt, or neither recorded this.
                if rows[0] + rows[1] > 0 {
                    summary.incomparable.push(prompt);
                    summary.counts.missing += rows[0] + rows[1];
                    summary.lacking = [summary.lacking[0] + rows[1], summary.lacking[1] + rows[0]];
                }
                continue;
            };
            let counts = measured.counts;
            let shared = counts.equal + counts.different + counts.incomparable;
            let lacks_b = rows[0].saturating_sub(shared).min(counts.missing);
            summary.lacking = [summary.lacking[0] + counts.missing - lacks_b, summary.lacking[1] + lacks_b];
            summary.counts.equal += counts.equal;
            summary.counts.different += counts.different;
            summary.counts.missing += counts.missing;
            summary.counts.incomparable += counts.incomparable;
            if measured.compared() == 0 {
                summary.incomparable.push(prompt);
                continue;
            }
            summary.compared.push(prompt);
            distances.extend(measured.mean(|_| true));
        }
        summary.distance = super::values::mean(&distances);
        summary
    }

    /// Whether a setup recorded a phase and signal on a prompt.
    pub(super) fn has(&self, setup: usize, prompt: usize, lane: Lane) -> bool {
        self.recorded.get(&(setup, prompt)).is_some_and(|lanes| lanes.contains_key(&lane))
    }
}

/// Where outputs part, by [`Tokens`]: also where one of them ends.
const fn parted(tokens: Tokens) -> Option<usize> {
    match tokens {
        Tokens::OutputsPart { index } | Tokens::Declared { outputs_part: Some(index) } => Some(index),
        _ => None,
    }
}

/// Rows that a run recorded, by phase and signal.
fn recorded(member: Member<'_>, options: &Options) -> BTreeMap<Lane, u64> {
    let mut rows: BTreeMap<Lane, u64> = BTreeMap::new();
    for phase in [Phase::Prefill, Phase::Decode] {
        let Some(layout) = member.record.layout(member.run, phase) else { continue };
        let of_site = (layout.steps.end - layout.steps.start).saturating_mul(layout.positions.len() as u64);
        let signals = layout.tensors.keys().filter_map(|&site| measure::signal_of(site));
        for signal in signals.chain(layout.top_k.map(|_| Signal::Logprobs)).filter(|&one| options.wants(one))
        {
            let lane = rows.entry((phase, signal)).or_default();
            *lane = lane.saturating_add(of_site);
        }
    }
    rows.retain(|_, rows| *rows > 0);
    rows
}

/// Facts about pairs of members, summed up.
pub(super) fn measured_pairs(
    members: &[Member<'_>],
    which: &[(usize, usize)],
    options: &Options,
) -> Result<Vec<Pair>> {
    let kinds = SignalKind::ALL.into_iter().filter(|&kind| options.wants(kind.into()));
    let facts = pairs(members, which, &Selection::of(kinds));
    let facts = facts.map_err(|error| VerdictError::Evidence { message: error.to_string() })?;
    let outputs =
        |member: usize| members[member].record.shell().runs[members[member].run].output_token_ids.len();
    let measured = facts.iter().zip(which).map(|(facts, &(a, b))| {
        let mut pair = measure::measure(facts);
        let lengths = [outputs(a), outputs(b)];
        if let Some(index) = parted(facts.tokens) {
            match lengths.iter().position(|&length| length == index) {
                Some(side) => pair.stopped = Some((side, index as u64)),
                None => pair.parted = Some(index as u64),
            }
        }
        pair
    });
    Ok(measured.collect())
}

/// Citations of the runs of some setups on some prompts.
pub(super) fn cite(setups: &Setups<'_>, which: &[usize], prompts: &[usize]) -> Vec<Citation> {
    let places =
        prompts.iter().flat_map(|&prompt| which.iter().filter_map(move |&setup| setups.cite(setup, prompt)));
    super::setups::in_order(places)
}
