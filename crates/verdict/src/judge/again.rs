//! Setups that state the same in several files, and setups that differ in more than the variable.

use std::collections::BTreeSet;

use super::facts::{Summary, cite};
use super::parts::Parts;
use super::recorded::Recorded;
use super::setups::in_order;
use crate::analysis::{Reproducibility, State};
use crate::found::{FilePair, Found, Repeats};
use crate::said;

/// Says of setups that were recorded more than once, in several files, whether they gave the same bits again.
pub(super) fn add(recorded: &Recorded<'_>, parts: &mut Parts) {
    let setups = &recorded.setups;
    let all = (0..setups.all.len()).flat_map(|a| (a + 1..setups.all.len()).map(move |b| (a, b)));
    for (a, b) in all.filter(|&(a, b)| setups.stated_alike(a, b)) {
        for phase in in_order(recorded.facts.lanes().iter().map(|lane| lane.0)) {
            let lanes = recorded.facts.lanes().into_iter().filter(|lane| lane.0 == phase);
            let summaries: Vec<Summary> = lanes.map(|lane| recorded.facts.summary(a, b, lane)).collect();
            let parted =
                summaries.iter().map(|summary| recorded.parted(summary)).find(|parted| !parted.is_empty());
            let (different, compared) = summaries.iter().fold((0, 0), |sum, summary| {
                (sum.0 + summary.counts.different, sum.1 + summary.compared_rows())
            });
            let prompts: BTreeSet<usize> = summaries
                .iter()
                .flat_map(|summary| summary.compared.iter().chain(&summary.incomparable).copied())
                .collect();
            let prompts: Vec<usize> = prompts.into_iter().collect();
            if prompts.is_empty() {
                continue;
            }
            let whole = summaries.iter().all(|one| one.state() == State::Equal && !one.has_gaps());
            let [x, y] = [a, b].map(|setup| recorded.label(setup).to_owned());
            let setup = format!("{x} and {y}");
            let parted = parted.unwrap_or_default();
            let tokens_part = recorded.tokens_stated(a, b, &prompts).then_some(!parted.is_empty());
            let found = Repeats::FilePair(FilePair { a: x, b: y, phase, different, compared, parted, whole });
            parts.add_repeats(Reproducibility {
                note: said::repeats(&setup, &found),
                setup,
                phase: Some(phase),
                repetitions: Some(2),
                state: found.state(),
                distance: summaries.iter().filter_map(|one| one.distance).reduce(f64::max),
                tokens_part,
                citations: cite(setups, &[a, b], &prompts),
            });
        }
    }
}

/// Says where setups differ in more than the variable and the hardware.
pub(super) fn also_differ(recorded: &Recorded<'_>, parts: &mut Parts) {
    let mut fields: Vec<(String, usize, usize)> = Vec::new();
    for a in 0..recorded.setups.all.len() {
        for b in a + 1..recorded.setups.all.len() {
            if !recorded.setups.controlled(a, b) {
                continue;
            }
            for field in recorded.setups.also_differ(a, b) {
                if !fields.iter().any(|(seen, _, _)| *seen == field) {
                    fields.push((field, a, b));
                }
            }
        }
    }
    if fields.is_empty() {
        return;
    }
    let names: Vec<String> = fields.iter().map(|(field, _, _)| field.clone()).collect();
    let citations = in_order(fields.iter().flat_map(|&(_, a, b)| {
        [a, b].map(|setup| {
            let id = &recorded.setups.all[setup].configuration.config_id;
            recorded.setups.all[setup].evidence.cite(format!("configuration {id}"))
        })
    }));
    let found = Found::AlsoDiffer { variable: &recorded.setups.variable, fields: &names };
    parts.find(&found, citations);
}
