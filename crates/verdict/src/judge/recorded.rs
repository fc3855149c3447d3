//! Setups with everything that their records show: facts about pairs, and repetitions.
//!
//! Left out: any judgement.

use mantissa_numerics::Phase;

use super::facts::{Facts, Summary};
use super::repeats::Repeats;
use super::setups::Setups;
use crate::analysis::Comparison;
use crate::found::{Place, Rows};

/// The setups of an analysis with everything that their records show.
pub(super) struct Recorded<'a> {
    pub(super) setups: Setups<'a>,
    pub(super) facts: Facts,
    pub(super) repeats: Repeats,
}

impl Recorded<'_> {
    pub(super) fn label(&self, setup: usize) -> &str {
        &self.setups.all[setup].label
    }

    pub(super) fn value(&self, setup: usize) -> &str {
        &self.setups.all[setup].value
    }

    /// Whether both recorded outputs on some of these prompts.
    pub(super) fn tokens_stated(&self, a: usize, b: usize, prompts: &[usize]) -> bool {
        let stated = |setup: usize, prompt: usize| {
            let member = self.setups.member(setup, prompt);
            member.is_some_and(|one| !one.record.shell().runs[one.run].output_token_ids.is_empty())
        };
        prompts.iter().any(|&prompt| stated(a, prompt) && stated(b, prompt))
    }

    /// The reference on some hardware: the setup of the reference's value there, the reference itself where it is.
    fn reference_on(&self, on: &[usize]) -> Option<usize> {
        let reference = self.setups.reference?;
        let alike = |&setup: &usize| {
            self.value(setup) == self.value(reference) && self.setups.controlled(setup, reference)
        };
        if on.contains(&reference) { Some(reference) } else { on.iter().copied().find(alike) }
    }

    /// Pairs of other value on one hardware, those with the reference first.
    pub(super) fn pairs_on(&self, hardware: &str) -> Vec<(usize, usize)> {
        let mut on = self.setups.on(hardware);
        if let Some(reference) = self.reference_on(&on) {
            on.retain(|&setup| setup != reference);
            on.insert(0, reference);
        }
        let all = (0..on.len()).flat_map(|a| (a + 1..on.len()).map(move |b| (a, b)));
        all.map(|(a, b)| (on[a], on[b]))
            .filter(|&(a, b)| self.value(a) != self.value(b) && self.setups.controlled(a, b))
            .collect()
    }

    /// Pairs of hardware in the order of setups.
    pub(super) fn hardware_pairs(&self) -> Vec<(&str, &str)> {
        let hardware = self.setups.hardware();
        let all = (0..hardware.len()).flat_map(|a| (a + 1..hardware.len()).map(move |b| (a, b)));
        all.map(|(a, b)| (hardware[a], hardware[b])).collect()
    }

    /// Setups of the same value and weights on two machines.
    pub(super) fn twins(&self, here: &str, there: &str) -> Vec<(usize, usize)> {
        let by_hardware = self.setups.variable == "hardware";
        let on_there = self.setups.on(there);
        let pairs = self.setups.on(here).into_iter().flat_map(|a| on_there.iter().map(move |&b| (a, b)));
        pairs
            .filter(|&(a, b)| (by_hardware || self.value(a) == self.value(b)) && self.setups.controlled(a, b))
            .filter(|&(a, b)| self.setups.same_weights(a, b))
            .collect()
    }

    /// Which of some setups do not repeat themselves in a phase.
    pub(super) fn noisy(&self, setups: &[usize], phase: Phase) -> Vec<String> {
        let noisy = setups.iter().filter(|&&setup| self.repeats.differing.contains(&(setup, phase)));
        noisy.map(|&setup| self.label(setup).to_owned()).collect()
    }

    /// Where two setups are compared.
    pub(super) fn place(&self, comparison: Comparison, (a, b): (usize, usize)) -> Place {
        let [here, there] = [a, b].map(|setup| self.setups.all[setup].hardware.clone());
        if comparison == Comparison::WithinHardware {
            Place::On(vec![here])
        } else {
            Place::Between(vec![here, there])
        }
    }

    /// References on which tokens part, and where.
    pub(super) fn parted(&self, summary: &Summary) -> Vec<(String, u64)> {
        let parted = summary.parted.iter();
        parted.map(|&(prompt, index)| (self.setups.prompts[prompt].clone(), index)).collect()
    }

    /// Rows of two setups, and what either lacks.
    pub(super) fn rows(&self, (a, b): (usize, usize), summary: &Summary) -> Rows {
        let [lacks_a, lacks_b] = summary.lacking;
        let stopped = summary.stopped.iter().map(|&(prompt, side, after)| {
            (self.label([a, b][side]).to_owned(), after, self.setups.prompts[prompt].clone())
        });
        Rows {
            counts: summary.counts,
            lacking: [(self.label(a).to_owned(), lacks_a), (self.label(b).to_owned(), lacks_b)],
            stopped: stopped.collect(),
        }
    }
}
