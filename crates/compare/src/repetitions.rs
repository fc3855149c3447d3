//! Whether repetitions of one setup agree: by the stored runs, by the digests that a record states, and by its own
//! statement.
//!
//! A record whose repetitions agreed has to store only the last, so the stored runs may be a few of many. One sign that
//! repetitions differ outweighs all signs that they agree. None of this is a judgement about the setup: the verdict
//! says how much a number of repetitions shows.

use std::collections::BTreeMap;

use mantissa_evidence::{FirstDifference, Outcome, Record};
use serde::Serialize;

use crate::facts::{Counts, PairFacts};
use crate::profile::State;
use crate::selection::Selection;
use crate::tokens::parting;

/// What is known about the repetitions of one configuration on one reference prompt.
///
/// Example: [`reproducibility`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repetitions {
    /// The configuration.
    pub config_id: String,
    /// The reference prompt.
    pub reference_id: u32,
    /// What the answer rests on.
    pub basis: ShownBy,
    /// Repetitions behind it.
    pub repetitions: u64,
    /// Indices of the stored runs in the record.
    pub runs: Vec<usize>,
    /// Whether outputs agree.
    pub outputs: State,
    /// The first index at which the outputs of not all stored repetitions agree any more.
    pub part_at: Option<usize>,
    /// Whether signals agree: different as soon as one compared row (or digest) is, equal only where nothing is left
    /// open.
    pub signals: State,
    /// Rows by state, over all pairs of stored repetitions.
    pub rows: Counts,
}

/// What an answer about repetitions rests on.
///
/// Example: [`reproducibility`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ShownBy {
    /// The signals of stored runs.
    Stored,
    /// Digests that the record states, also of runs that are not stored.
    Digests,
    /// The record's word alone: it states an outcome.
    Stated,
    /// Nothing: there is one repetition, or nobody compared them.
    Nothing,
}

/// What one source says; absent where it says nothing.
struct Found {
    basis: ShownBy,
    repetitions: u64,
    outputs: Option<State>,
    signals: Option<State>,
}

impl Found {
    fn says(&self, state: State) -> [bool; 2] {
        [self.outputs == Some(state), self.signals == Some(state)]
    }
}

/// What is known about the repetitions of every configuration and reference prompt of a record, in the order
/// configurations first appear.
///
/// `facts` gives those of two runs by their indices in the record, the smaller first, gathered with `selection`; `None`
/// where they were not compared. Digests cover every signal: where only some are selected, digests that differ leave
/// open whether these do.
///
/// ```
/// use std::path::Path;
///
/// use mantissa_compare::{Member, Selection, ShownBy, State, pairs, reproducibility};
/// use mantissa_evidence::Record;
///
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/evidence/v1/container");
/// let record = Record::open(Path::new(path))?;
/// let members: Vec<Member<'_>> = (0..3).map(|run| Member { record: &record, run }).collect();
/// let which = [(0, 1), (0, 2), (1, 2)];
/// let facts = pairs(&members, &which, &Selection::default())?;
/// let of = |a, b| which.iter().position(|pair| *pair == (a, b)).map(|place| &facts[place]);
/// let found = reproducibility(&record, &Selection::default(), of);
/// assert_eq!((found[0].basis, found[0].signals), (ShownBy::Stored, State::Different));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn reproducibility<'f>(
    record: &Record,
    selection: &Selection,
    facts: impl Fn(usize, usize) -> Option<&'f PairFacts>,
) -> Vec<Repetitions> {
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
        let references = extras.reproducibility.digests.iter().map(|digest| digest.reference_id);
        let divergent = match extras.reproducibility.outcome {
            Outcome::Divergent { reference_id, .. } => Some(reference_id),
            Outcome::Identical | Outcome::NotChecked => None,
        };
        for reference_id in references.chain(divergent) {
            stored.entry((order[configuration.config_id.as_str()], reference_id)).or_default();
        }
    }
    let names: BTreeMap<usize, &str> = order.iter().map(|(&id, &place)| (place, id)).collect();
    let repetitions = stored.into_iter().map(|((place, reference_id), runs)| {
        let config_id = names[&place].to_owned();
        let (rows, part_at, stored) = by_runs(record, &runs, &facts);
        let (digests, stated) = by_statements(record, &config_id, reference_id, selection);
        let sources: Vec<Found> = [stored, digests, stated].into_iter().flatten().collect();
        let fullest = sources.iter().max_by_key(|found| {
            (found.basis != ShownBy::Stated, found.repetitions, found.says(State::Equal) == [true; 2])
        });
        let differing = sources.iter().find(|found| found.says(State::Different).contains(&true));
        let (basis, repetitions) = differing
            .or(fullest)
            .map_or((ShownBy::Nothing, runs.len() as u64), |found| (found.basis, found.repetitions));
        let of = |state: fn(&Found) -> Option<State>| together(&sources, fullest, state);
        let (outputs, signals) = (of(|found| found.outputs), of(|found| found.signals));
        Repetitions { config_id, reference_id, basis, repetitions, runs, outputs, part_at, signals, rows }
    });
    repetitions.collect()
}

/// Different as soon as one source says so; open where the record's word leaves it open; else as the source says that
/// knows of the most repetitions.
fn together(sources: &[Found], fullest: Option<&Found>, state: impl Fn(&Found) -> Option<State>) -> State {
    if sources.iter().any(|found| state(found) == Some(State::Different)) {
        return State::Different;
    }
    let stated = sources.iter().filter(|found| found.basis == ShownBy::Stated).find_map(&state);
    let open = stated.filter(|stated| *stated != State::Equal);
    open.or_else(|| fullest.and_then(state)).unwrap_or(State::Missing)
}

/// Rows over all pairs of stored runs, where their outputs part, and what follows if there are two or more.
fn by_runs<'f>(
    record: &Record,
    runs: &[usize],
    facts: impl Fn(usize, usize) -> Option<&'f PairFacts>,
) -> (Counts, Option<usize>, Option<Found>) {
    let (mut rows, mut incomparable) = (Counts::default(), false);
    for (n, &a) in runs.iter().enumerate() {
        for &b in &runs[n + 1..] {
            match facts(a, b) {
                Some(facts) => rows.add(facts.counts(None)),
                None => incomparable = true,
            }
        }
    }
    let outputs: Vec<&[u32]> =
        runs.iter().map(|&run| record.shell().runs[run].output_token_ids.as_slice()).collect();
    let known = outputs.iter().all(|ids| !ids.is_empty());
    let part_at = outputs.iter().skip(1).filter_map(|ids| parting(outputs[0], ids)).min().filter(|_| known);
    let outputs = match (known, part_at) {
        (false, _) => State::Missing,
        (true, None) => State::Equal,
        (true, Some(_)) => State::Different,
    };
    let signals = match rows {
        Counts { different: 1.., .. } => State::Different,
        Counts { incomparable: 1.., .. } => State::Incomparable,
        _ if incomparable => State::Incomparable,
        Counts { equal: 1.., missing: 0, .. } => State::Equal,
        _ => State::Missing,
    };
    let repetitions = runs.len() as u64;
    let found = Found { basis: ShownBy::Stored, repetitions, outputs: Some(outputs), signals: Some(signals) };
    (rows, part_at, Some(found).filter(|_| runs.len() > 1))
}

/// What the digests of a record say, and what its stated outcome says. One repetition proves nothing.
fn by_statements(
    record: &Record,
    config_id: &str,
    reference_id: u32,
    selection: &Selection,
) -> (Option<Found>, Option<Found>) {
    let configurations = &record.shell().configurations;
    let configuration = configurations.iter().find(|configuration| configuration.config_id == config_id);
    let Some(extras) = configuration.and_then(|configuration| configuration.mantissa.as_ref()) else {
        return (None, None);
    };
    let stated = &extras.reproducibility;
    let digests: Vec<_> =
        stated.digests.iter().filter(|digest| digest.reference_id == reference_id).collect();
    let all = |same: bool, otherwise: State| Some(if same { State::Equal } else { otherwise });
    // What differs may be something that is not selected.
    let other = if *selection == Selection::default() { State::Different } else { State::Missing };
    let by_digests = match digests.as_slice() {
        [first, rest @ ..] if !rest.is_empty() => Some(Found {
            basis: ShownBy::Digests,
            repetitions: digests.len() as u64,
            outputs: all(rest.iter().all(|digest| digest.output_ids == first.output_ids), State::Different),
            signals: all(rest.iter().all(|digest| digest.signals == first.signals), other),
        }),
        _ => None,
    };
    let repetitions = u64::from(stated.repetitions);
    let found = |outputs, signals| Some(Found { basis: ShownBy::Stated, repetitions, outputs, signals });
    let by_word = match &stated.outcome {
        Outcome::Identical if repetitions > 1 => found(Some(State::Equal), Some(State::Equal)),
        Outcome::Divergent { reference_id: of, first, .. } if *of == reference_id => match first {
            FirstDifference::Token { .. } => found(Some(State::Different), None),
            FirstDifference::Signal { .. } | FirstDifference::Logprobs { .. } => found(None, Some(other)),
            FirstDifference::Layout { .. } => found(None, Some(State::Missing)),
            FirstDifference::Prompt | FirstDifference::NeighbourToken { .. } => {
                found(None, Some(State::Incomparable))
            }
        },
        Outcome::Identical | Outcome::Divergent { .. } | Outcome::NotChecked => None,
    };
    (by_digests, by_word)
}

#[cfg(test)]
mod tests;
