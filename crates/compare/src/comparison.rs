//! Everything that is known about the runs of several records: prompt by prompt, and their repetitions.
//!
//! Left out: exit codes, and how people read it.

use std::collections::BTreeMap;

use mantissa_evidence::Record;
use mantissa_numerics::Phase;
use serde::Serialize;

use crate::class::{Classes, classes};
use crate::consistency::{TokenConsistency, token_consistency};
use crate::error::CompareError;
use crate::facts::{Member, PairFacts};
use crate::group::{Prompt, PromptGroup, by_prompt};
use crate::profile::State;
use crate::repetitions::{Repetitions, ShownBy, reproducibility};
use crate::selection::Selection;
use crate::sweep::pairs;

/// Runs of one prompt whose pairs can all be compared: there are 2^23 of them.
const MOST_RUNS: usize = 1 << 12;

/// What was found about the runs of several records. Runs are named by their index in `runs`.
///
/// ```
/// use std::path::Path;
///
/// use mantissa_compare::{Comparison, Selection, State};
/// use mantissa_evidence::Record;
///
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/evidence/v1/container");
/// let records = [("record".to_owned(), Record::open(Path::new(path))?)];
/// let found = Comparison::of(&records, &Selection::default())?;
/// // Three runs consumed one prompt; repetitions of their setup differ.
/// let prompt = &found.prompts[0];
/// assert_eq!((prompt.runs.len(), prompt.pairs.len()), (3, 3));
/// assert!(prompt.pairs.iter().any(|pair| pair.state == State::Different));
/// assert_eq!(found.repetitions[0].found.signals, State::Different);
/// assert_eq!(found.state(), State::Different);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Every run of every record.
    pub runs: Vec<ComparedRun>,
    /// Prompts that more than one run consumed.
    pub prompts: Vec<ComparedPrompt>,
    /// Runs whose prompt is not known to be that of another.
    pub alone: Vec<usize>,
    /// Repetitions of each setup, where there are any.
    pub repetitions: Vec<ComparedRepetitions>,
    /// Whether only the prefill was asked for, so that what was put out after it is no matter.
    #[serde(skip)]
    pub prefill_alone: bool,
}

/// A run that took part.
///
/// Example: [`Comparison`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ComparedRun {
    /// Its record.
    pub record: String,
    /// Its configuration.
    pub config_id: String,
    /// Its reference prompt.
    pub reference_id: u32,
    /// Its repetition.
    pub rep_id: u32,
    /// Whether it states its outputs.
    #[serde(skip)]
    pub outputs: bool,
}

/// Repetitions of one setup of a record on one reference prompt.
///
/// Example: [`Comparison`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComparedRepetitions {
    /// The record.
    pub record: String,
    /// What was found. Runs are indices into [`Comparison::runs`].
    #[serde(flatten)]
    pub found: Repetitions,
}

/// Facts about the runs of one prompt. Numbers are indices into [`Comparison::runs`].
///
/// Example: [`Comparison`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComparedPrompt {
    /// The prompt.
    pub prompt: Prompt,
    /// Its runs.
    pub runs: Vec<usize>,
    /// Which of them have equal outputs.
    pub outputs: TokenConsistency,
    /// Which of them have equal bits.
    pub classes: Classes,
    /// Every pair, in the order of runs.
    pub pairs: Vec<ComparedPair>,
}

/// Facts about a pair of runs.
///
/// Example: [`Comparison`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComparedPair {
    /// The first.
    pub a: usize,
    /// The second.
    pub b: usize,
    /// All facts in one word.
    pub state: State,
    /// The facts.
    pub facts: PairFacts,
}

impl Comparison {
    /// Compares all runs of some named records, where they consumed the same prompt.
    ///
    /// Errors: what [`pairs`] cannot read or hold, and more than 4096 runs of one prompt.
    pub fn of(records: &[(String, Record)], selection: &Selection) -> Result<Self, CompareError> {
        let members: Vec<Member<'_>> = records
            .iter()
            .flat_map(|(_, record)| (0..record.shell().runs.len()).map(move |run| Member { record, run }))
            .collect();
        let runs =
            records.iter().flat_map(|(name, record)| record.shell().runs.iter().map(move |run| (name, run)));
        let runs = runs.map(|(name, run)| ComparedRun {
            record: name.clone(),
            config_id: run.config_id.clone(),
            reference_id: run.reference_id,
            rep_id: run.rep_id,
            outputs: !run.output_token_ids.is_empty(),
        });
        let runs = runs.collect();
        let (prompts, alone): (Vec<_>, Vec<_>) =
            by_prompt(&members).into_iter().partition(|group| group.members.len() > 1);
        let alone = alone.into_iter().flat_map(|group| group.members).collect();
        let prompts = prompts.into_iter().map(|group| ComparedPrompt::of(&members, group, selection));
        let prompts = prompts.collect::<Result<Vec<_>, _>>()?;
        let repetitions = repetitions(records, &prompts, selection);
        let prefill_alone =
            selection.phases.as_ref().is_some_and(|phases| phases.iter().eq([&Phase::Prefill]));
        Ok(Self { runs, prompts, alone, repetitions, prefill_alone })
    }

    /// All facts in one word: different as soon as bits or outputs are; equal only if every run was compared and
    /// nothing was left out; else missing.
    #[must_use]
    pub fn state(&self) -> State {
        let states = self.prompts.iter().flat_map(|prompt| &prompt.pairs).map(|pair| pair.state);
        // Outputs that are not stated leave open what they always do: the rows after them.
        let repeated = self.repetitions.iter().flat_map(|ComparedRepetitions { found, .. }| {
            let outputs = !self.prefill_alone && found.outputs == State::Different;
            [Some(found.signals), outputs.then_some(found.outputs)]
        });
        let states = states.chain(repeated.flatten());
        if states.clone().any(|state| state == State::Different) {
            State::Different
        } else if self.prompts.is_empty()
            || !self.alone.is_empty()
            || states.clone().any(|state| state != State::Equal)
        {
            State::Missing
        } else {
            State::Equal
        }
    }
}

/// What is known of repetitions, record by record, from facts that are there already.
fn repetitions(
    records: &[(String, Record)],
    prompts: &[ComparedPrompt],
    selection: &Selection,
) -> Vec<ComparedRepetitions> {
    let pairs = prompts.iter().flat_map(|prompt| &prompt.pairs);
    let facts: BTreeMap<(usize, usize), &PairFacts> =
        pairs.map(|pair| ((pair.a, pair.b), &pair.facts)).collect();
    let (mut all, mut before) = (Vec::new(), 0);
    for (name, record) in records {
        let found = reproducibility(record, selection, |a, b| facts.get(&(before + a, before + b)).copied());
        for mut found in found.into_iter().filter(|found| found.basis != ShownBy::Nothing) {
            found.runs.iter_mut().for_each(|run| *run += before);
            all.push(ComparedRepetitions { record: name.clone(), found });
        }
        before += record.shell().runs.len();
    }
    all
}

impl ComparedPrompt {
    fn of(members: &[Member<'_>], group: PromptGroup, selection: &Selection) -> Result<Self, CompareError> {
        let count = group.members.len();
        if count > MOST_RUNS {
            let origin = members[group.members[0]].record.origin().display().to_string();
            return Err(CompareError::TooManyRuns { origin, count, limit: MOST_RUNS });
        }
        let all: Vec<(usize, usize)> = (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b))).collect();
        let chosen: Vec<Member<'_>> = group.members.iter().map(|&i| members[i]).collect();
        let facts = pairs(&chosen, &all, selection)?;
        // Where only the prefill is asked for, what was put out after it is no matter.
        let one = selection.phases.as_ref().filter(|phases| phases.len() == 1);
        let phase = one.and_then(|phases| phases.first().copied());
        let states: Vec<State> = facts.iter().map(|facts| facts.state(phase)).collect();
        // Pair (a, b) with a < b stands after the rows of all smaller a.
        let place = |a: usize, b: usize| a * (2 * count - a - 1) / 2 + b - a - 1;
        let mut classes = classes(count, |a, b| states[place(a, b)]);
        let run = |member: &mut usize| *member = group.members[*member];
        classes.classes.iter_mut().flatten().for_each(run);
        classes.unplaced.iter_mut().for_each(|unplaced| run(&mut unplaced.member));
        classes.inferred.iter_mut().for_each(|(a, b)| [a, b].into_iter().for_each(run));
        classes.conflicts.iter_mut().flat_map(|conflict| &mut conflict.chain).for_each(run);
        let mut outputs = token_consistency(&chosen);
        outputs.groups.iter_mut().flat_map(|group| &mut group.members).for_each(run);
        outputs.unknown.iter_mut().for_each(run);
        let pairs = all.iter().zip(facts).zip(&states).map(|((&(a, b), facts), &state)| ComparedPair {
            a: group.members[a],
            b: group.members[b],
            state,
            facts,
        });
        let pairs = pairs.collect();
        Ok(Self { prompt: group.prompt, pairs, runs: group.members, outputs, classes })
    }
}
