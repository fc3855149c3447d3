//! Whether repetitions of one setup agree: by the runs that are stored, or by the digests that a record states.
//!
//! A record whose repetitions agreed need store only the last; then their digests speak. Neither is a judgement about
//! the setup: how many repetitions say how much, the verdict tells.

use std::collections::BTreeMap;

use mantissa_evidence::{Outcome, Record};
use mantissa_numerics::Phase;
use serde::Serialize;

use crate::error::CompareError;
use crate::facts::{Counts, Member};
use crate::profile::State;
use crate::selection::{Selection, SignalKind};
use crate::sweep::pairs;
use crate::tokens::parting;

/// What is known about the repetitions of one configuration on one reference prompt.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Repetitions {
    /// The configuration.
    pub config_id: String,
    /// The reference prompt.
    pub reference_id: u32,
    /// What the answer rests on.
    pub basis: Basis,
    /// Repetitions behind it.
    pub repetitions: u64,
    /// Indices of the stored runs in the record.
    pub runs: Vec<usize>,
    /// Whether outputs agree.
    pub outputs: State,
    /// The first index at which the outputs of not all stored repetitions agree any more.
    pub part_at: Option<usize>,
    /// Whether signals agree: different as soon as one compared row (or digest) is.
    pub signals: State,
    /// By phase and kind of signal, over all pairs of stored repetitions; empty for digests.
    pub phases: Vec<PhaseRepetitions>,
}

/// What an answer about repetitions rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// The signals of stored runs.
    Stored,
    /// Digests that the record states, also of runs that are not stored.
    Digests,
    /// The record's word alone: it states an outcome without digests.
    Stated,
    /// Nothing: there is one repetition, or nobody compared them.
    Nothing,
}

/// Repetitions in one phase and kind of signal.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PhaseRepetitions {
    /// The phase.
    pub phase: Phase,
    /// The kind of signal.
    pub kind: SignalKind,
    /// Rows by state, over all pairs.
    pub counts: Counts,
    /// Largest of the pairs' mean distances, equal rows as 0; absent when nothing was compared.
    pub max_mean_l2: Option<f64>,
}

/// Compares the repetitions of every configuration and reference prompt of a record, in the order configurations and
/// references first appear.
pub fn reproducibility(record: &Record, selection: &Selection) -> Result<Vec<Repetitions>, CompareError> {
    let shell = record.shell();
    let mut stored: BTreeMap<(usize, u32), Vec<usize>> = BTreeMap::new();
    let mut order: BTreeMap<&str, usize> = BTreeMap::new();
    let ids = shell.configurations.iter().map(|configuration| configuration.config_id.as_str());
    for id in ids.chain(shell.runs.iter().map(|run| run.config_id.as_str())) {
        let next = order.len();
        order.entry(id).or_insert(next);
    }
    for (index, run) in shell.runs.iter().enumerate() {
        stored.entry((order[run.config_id.as_str()], run.reference_id)).or_default().push(index);
    }
    for configuration in &shell.configurations {
        let Some(extras) = &configuration.mantissa else { continue };
        for digest in &extras.reproducibility.digests {
            stored.entry((order[configuration.config_id.as_str()], digest.reference_id)).or_default();
        }
    }
    let names: BTreeMap<usize, &str> = order.iter().map(|(&id, &place)| (place, id)).collect();
    stored
        .into_iter()
        .map(|((place, reference_id), runs)| {
            let config_id = names[&place].to_owned();
            if runs.len() > 1 {
                of_runs(record, config_id, reference_id, runs, selection)
            } else {
                Ok(of_statements(record, config_id, reference_id, runs))
            }
        })
        .collect()
}

fn of_runs(
    record: &Record,
    config_id: String,
    reference_id: u32,
    runs: Vec<usize>,
    selection: &Selection,
) -> Result<Repetitions, CompareError> {
    let members: Vec<Member<'_>> = runs.iter().map(|&run| Member { record, run }).collect();
    let which: Vec<(usize, usize)> =
        (0..runs.len()).flat_map(|i| (i + 1..runs.len()).map(move |j| (i, j))).collect();
    let facts = pairs(&members, &which, selection)?;
    let mut phases = Vec::new();
    let mut counts = Counts::default();
    for phase in [Phase::Prefill, Phase::Decode] {
        for kind in SignalKind::ALL {
            let means = facts.iter().map(|facts| facts.mean_l2(kind, phase));
            let mut of_kind = PhaseRepetitions { phase, kind, counts: Counts::default(), max_mean_l2: None };
            for mean in means {
                of_kind.counts.add(mean.counts);
                of_kind.max_mean_l2 = match (of_kind.max_mean_l2, mean.mean) {
                    (Some(x), Some(y)) => Some(x.max(y)),
                    (x, y) => x.or(y),
                };
            }
            if of_kind.counts != Counts::default() {
                phases.push(of_kind);
            }
        }
    }
    for facts in &facts {
        counts.add(facts.counts(None));
    }
    let outputs: Vec<&[u32]> =
        runs.iter().map(|&run| record.shell().runs[run].output_token_ids.as_slice()).collect();
    let known = outputs.iter().all(|ids| !ids.is_empty());
    let part_at = outputs.iter().skip(1).filter_map(|ids| parting(outputs[0], ids)).min();
    let outputs = match (known, part_at) {
        (false, _) => State::Missing,
        (true, None) => State::Equal,
        (true, Some(_)) => State::Different,
    };
    Ok(Repetitions {
        config_id,
        reference_id,
        basis: Basis::Stored,
        repetitions: runs.len() as u64,
        runs,
        outputs,
        part_at: part_at.filter(|_| known),
        signals: counts.state(),
        phases,
    })
}

fn of_statements(record: &Record, config_id: String, reference_id: u32, runs: Vec<usize>) -> Repetitions {
    let configurations = &record.shell().configurations;
    let configuration = configurations.iter().find(|configuration| configuration.config_id == config_id);
    let stated =
        configuration.and_then(|configuration| Some(&configuration.mantissa.as_ref()?.reproducibility));
    let digests: Vec<_> = stated
        .into_iter()
        .flat_map(|stated| &stated.digests)
        .filter(|digest| digest.reference_id == reference_id)
        .collect();
    let state = |same: bool| if same { State::Equal } else { State::Different };
    let (basis, repetitions, outputs, signals) =
        match (digests.as_slice(), stated.map(|stated| &stated.outcome)) {
            ([first, rest @ ..], _) if !rest.is_empty() => (
                Basis::Digests,
                digests.len() as u64,
                state(rest.iter().all(|digest| digest.output_ids == first.output_ids)),
                state(rest.iter().all(|digest| digest.signals == first.signals)),
            ),
            ([], Some(Outcome::Identical)) => {
                let repetitions = stated.map_or(0, |stated| u64::from(stated.repetitions));
                (Basis::Stated, repetitions, State::Equal, State::Equal)
            }
            _ => (Basis::Nothing, runs.len() as u64, State::Missing, State::Missing),
        };
    let part_at = None;
    let phases = Vec::new();
    Repetitions { config_id, reference_id, basis, repetitions, runs, outputs, part_at, signals, phases }
}

#[cfg(test)]
mod tests;
