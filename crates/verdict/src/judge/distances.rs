//! Distances that others measured, with what their file says beside them.
//!
//! Left out: any judgement.

use mantissa_evidence::Verification;
use mantissa_evidence::verification::{CellDistance, CellKey, Relation};
use mantissa_numerics::Phase;

use super::divergence::Divergence;
use super::input::Evidence;
use super::measure::Lane;
use super::options::Options;
use super::setups::in_order;
use super::signal_key::{signal_key, signal_of};
use super::values::is_zero;
use crate::analysis::Citation;
use crate::found::{Place, Unshown};

/// One verification with what its file says beside it.
pub(super) struct Stored<'a> {
    pub(super) evidence: &'a Evidence<'a>,
    pub(super) verification: &'a Verification,
    pub(super) lanes: Vec<Lane>,
    /// The setup that pairs start with, where one was asked for.
    reference: Option<usize>,
    /// References whose distances show that setups emitted other tokens.
    pub(super) diverged: Vec<Divergence>,
}

impl<'a> Stored<'a> {
    pub(super) fn new(evidence: &'a Evidence<'a>, verification: &'a Verification, options: &Options) -> Self {
        let mut lanes: Vec<Lane> = verification
            .cells
            .keys()
            .filter_map(|key| Some((key.phase, signal_of(&key.signal)?)))
            .filter(|&(_, signal)| options.wants(signal))
            .collect();
        lanes.sort_unstable();
        lanes.dedup();
        let reference = options.reference.as_ref();
        let reference =
            reference.and_then(|asked| verification.values.iter().position(|value| value == asked));
        Self { evidence, verification, lanes, reference, diverged: Vec::new() }
    }

    /// References of a lane; `None` stands for an average over references.
    pub(super) fn references(&self, lane: Lane) -> Vec<Option<String>> {
        let keys = self.verification.cells.keys().filter(|key| of_lane(key, lane));
        in_order(keys.map(|key| key.reference.clone()))
    }

    pub(super) fn cell(
        &self,
        lane: Lane,
        reference: Option<&String>,
        claimed: usize,
        verified: usize,
    ) -> Option<&'a CellDistance> {
        self.verification.cells.get(&CellKey {
            phase: lane.0,
            signal: signal_key(lane.1).to_owned(),
            reference: reference.cloned(),
            claimed,
            verified,
        })
    }

    /// A cell with a finite distance.
    pub(super) fn finite(
        &self,
        lane: Lane,
        reference: Option<&String>,
        claimed: usize,
        verified: usize,
    ) -> Option<&'a CellDistance> {
        self.cell(lane, reference, claimed, verified).filter(|cell| cell.mean.is_finite())
    }

    /// Whether the distances of two setups on a reference are known to be over other tokens.
    pub(super) fn tokens_part(&self, phase: Phase, reference: Option<&String>, a: usize, b: usize) -> bool {
        let outputs = |index: usize| {
            let value = &self.verification.values[index];
            let mut stated = self.evidence.tokens.iter().filter(|one| one.consumed_by.contains(&phase));
            let found = stated.find(|one| Some(&one.reference) == reference && one.value == *value)?;
            Some((&found.ids, &found.text))
        };
        outputs(a).zip(outputs(b)).is_some_and(|(a, b)| a != b)
    }

    /// What is not shown of bits that were seen once: nothing where matching replays or repetitions are.
    pub(super) fn unshown(&self, phase: Phase, pair: [usize; 2]) -> Unshown {
        let repeated = |index: usize| {
            let value = &self.verification.values[index];
            self.evidence.repeats.iter().any(|one| one.setup == *value && one.phase == phase)
        };
        if self.verification.relation == Relation::ClaimedVerified || pair.into_iter().all(repeated) {
            Unshown::Nothing
        } else {
            Unshown::Run
        }
    }

    /// Whether the file states that a setup does not repeat itself.
    pub(super) fn noisy(&self, phase: Phase, index: usize) -> bool {
        let stated = self.evidence.repeats.iter();
        let mut of_setup =
            stated.filter(|one| one.setup == self.verification.values[index] && one.phase == phase);
        of_setup.any(|one| one.distances.iter().any(|&distance| !is_zero(distance)))
    }

    /// Where and how it was compared.
    pub(super) fn place(&self) -> Place {
        let (here, there) = (&self.verification.generator.gpu, &self.verification.verifier.gpu);
        match self.verification.relation {
            Relation::DecodePrefill => Place::DecodeByPrefill(there.clone()),
            Relation::WithinMode | Relation::ClaimedVerified if self.same_machine() => {
                Place::On(vec![there.clone()])
            }
            Relation::WithinMode | Relation::ClaimedVerified => {
                Place::Across(vec![here.clone(), there.clone()])
            }
        }
    }

    pub(super) fn same_machine(&self) -> bool {
        self.verification.generator.gpu == self.verification.verifier.gpu
            && self.verification.mismatches.is_empty()
    }

    /// Whether distances tell bits: matching replays on the same machine are all exactly 0 away.
    pub(super) fn tells_bits(&self) -> bool {
        match self.verification.relation {
            Relation::WithinMode => true,
            Relation::DecodePrefill => false,
            Relation::ClaimedVerified => {
                let mut diagonal =
                    self.verification.cells.iter().filter(|(key, _)| key.claimed == key.verified).peekable();
                self.same_machine()
                    && diagonal.peek().is_some()
                    && diagonal.all(|(_, cell)| is_zero(cell.mean))
            }
        }
    }

    pub(super) fn values(&self) -> std::ops::Range<usize> {
        0..self.verification.values.len()
    }

    /// What a setup is called: `batch_size 4`, `sdpa`.
    pub(super) fn name(&self, index: usize) -> String {
        let value = &self.verification.values[index];
        let number = value.parse::<f64>().is_ok();
        if number { format!("{} {value}", self.verification.variable) } else { value.clone() }
    }

    pub(super) fn cite(&self, cells: impl IntoIterator<Item = &'a CellDistance>) -> Vec<Citation> {
        in_order(cells.into_iter().map(|cell| self.evidence.cite(cell.place.clone())))
    }

    /// All pairs, those with the reference first.
    pub(super) fn pairs(&self) -> Vec<(usize, usize)> {
        let mut order: Vec<usize> = self.values().collect();
        if let Some(reference) = self.reference {
            order.retain(|&index| index != reference);
            order.insert(0, reference);
        }
        (0..order.len())
            .flat_map(|a| (a + 1..order.len()).map(move |b| (a, b)))
            .map(|(a, b)| (order[a], order[b]))
            .collect()
    }

    /// Fields of environments that differ besides the GPU.
    pub(super) fn versions(&self) -> Vec<String> {
        self.verification.mismatches.iter().map(|one| one.0.clone()).collect()
    }
}

fn of_lane(key: &CellKey, (phase, signal): Lane) -> bool {
    key.phase == phase && key.signal == signal_key(signal)
}
