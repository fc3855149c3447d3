//! What a comparison found, as it is serialized: facts prompt by prompt, repetitions, and the exit code they come to.
//!
//! Left out: how people read it ([`super::text`]).

use std::collections::BTreeMap;

use anyhow::bail;
use mantissa_compare::{
    Classes, Member, PairFacts, Prompt, PromptGroup, Repetitions, Selection, ShownBy, State,
    TokenConsistency, classes, pairs, reproducibility, token_consistency,
};
use mantissa_evidence::Record;
use serde::Serialize;

use crate::failure::Exit;

/// Runs of one prompt whose pairs can all be compared: there are 2^23 of them.
const MOST_RUNS: usize = 1 << 12;

/// What was found, prompt by prompt.
#[derive(Serialize)]
pub(super) struct Compared {
    pub(super) runs: Vec<RunName>,
    pub(super) prompts: Vec<PromptFacts>,
    /// Runs whose prompt is not known to be that of another.
    pub(super) alone: Vec<usize>,
    /// Repetitions of each setup, where there are any.
    pub(super) repetitions: Vec<Repeated>,
    #[serde(skip)]
    pub(super) full: bool,
    /// Only the prefill was asked for.
    #[serde(skip)]
    pub(super) prefill: bool,
}

/// A run that took part.
#[derive(Serialize)]
pub(super) struct RunName {
    pub(super) record: String,
    pub(super) config_id: String,
    pub(super) reference_id: u32,
    pub(super) rep_id: u32,
    /// Whether it states its outputs.
    #[serde(skip)]
    pub(super) outputs: bool,
}

/// Repetitions of one setup of a record on one reference prompt. Runs are indices into [`Compared::runs`].
#[derive(Serialize)]
pub(super) struct Repeated {
    pub(super) record: String,
    #[serde(flatten)]
    pub(super) found: Repetitions,
}

/// Facts about the runs of one prompt. Numbers are indices into [`Compared::runs`].
#[derive(Serialize)]
pub(super) struct PromptFacts {
    pub(super) prompt: Prompt,
    pub(super) runs: Vec<usize>,
    pub(super) outputs: TokenConsistency,
    pub(super) classes: Classes,
    pub(super) pairs: Vec<Pair>,
}

#[derive(Serialize)]
pub(super) struct Pair {
    pub(super) a: usize,
    pub(super) b: usize,
    pub(super) state: State,
    pub(super) facts: PairFacts,
}

impl Pair {
    pub(super) const fn ends(&self) -> (usize, usize) {
        (self.a, self.b)
    }
}

/// What is known of repetitions, record by record, from facts that are there already.
pub(super) fn repetitions(
    records: &[(String, Record)],
    prompts: &[PromptFacts],
    selection: &Selection,
) -> Vec<Repeated> {
    let pairs = prompts.iter().flat_map(|prompt| &prompt.pairs);
    let facts: BTreeMap<(usize, usize), &PairFacts> =
        pairs.map(|pair| ((pair.a, pair.b), &pair.facts)).collect();
    let (mut all, mut before) = (Vec::new(), 0);
    for (name, record) in records {
        let found = reproducibility(record, selection, |a, b| facts.get(&(before + a, before + b)).copied());
        for mut found in found.into_iter().filter(|found| found.basis != ShownBy::Nothing) {
            found.runs.iter_mut().for_each(|run| *run += before);
            all.push(Repeated { record: name.clone(), found });
        }
        before += record.shell().runs.len();
    }
    all
}

impl PromptFacts {
    pub(super) fn of(
        members: &[Member<'_>],
        group: PromptGroup,
        selection: &Selection,
    ) -> anyhow::Result<Self> {
        let count = group.members.len();
        if count > MOST_RUNS {
            let file = members[group.members[0]].record.origin().display();
            bail!(
                "{file}: {count} runs of one prompt are more than {MOST_RUNS}; compare fewer files, or split this one"
            );
        }
        let all: Vec<(usize, usize)> = (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b))).collect();
        let chosen: Vec<Member<'_>> = group.members.iter().map(|&i| members[i]).collect();
        let facts = pairs(&chosen, &all, selection)?;
        // Where only the prefill is asked for, what was put out after it is no matter.
        let phase = selection.phases.as_ref().and_then(|phases| phases.first().copied());
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
        let pairs = all.iter().zip(facts).zip(&states).map(|((&(a, b), facts), &state)| Pair {
            a: group.members[a],
            b: group.members[b],
            state,
            facts,
        });
        let pairs = pairs.collect();
        Ok(Self { prompt: group.prompt, pairs, runs: group.members, outputs, classes })
    }
}

impl Compared {
    pub(super) fn exit(&self) -> Exit {
        let states = self.prompts.iter().flat_map(|prompt| &prompt.pairs).map(|pair| pair.state);
        // Outputs that are not stated leave open what they always do: the rows after them. What was put out after the
        // prefill is no matter where only that is asked for.
        let repeated = self.repetitions.iter().flat_map(|Repeated { found, .. }| {
            let outputs = !self.prefill && found.outputs == State::Different;
            [Some(found.signals), outputs.then_some(found.outputs)]
        });
        let states = states.chain(repeated.flatten());
        if states.clone().any(|state| state == State::Different) {
            Exit::Divergent
        } else if self.prompts.is_empty()
            || !self.alone.is_empty()
            || states.clone().any(|state| state != State::Equal)
        {
            Exit::NotEnoughEvidence
        } else {
            Exit::Consistent
        }
    }
}
