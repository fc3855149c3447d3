//! Pairs of recorded setups as right and wrong replays: noisy ones, and those of two machines.
//!
//! Left out: how such a pair is judged (`separation`).

use std::collections::BTreeSet;

use super::facts::{Summary, cite};
use super::measure::{Lane, RowId};
use super::recorded::Recorded;
use super::separation::{Candidate, Direction, Unit};
use crate::analysis::{Comparison, State};
use crate::found::{FloorOf, Member, OmittedReferences, Place};

/// A pair of which a side does not repeat itself: the floor is the larger distance between repetitions.
pub(super) fn noisy(
    recorded: &Recorded<'_>,
    comparison: Comparison,
    (a, b): (usize, usize),
    lane: Lane,
    summary: &Summary,
) -> Option<Candidate> {
    // Before noise made tokens part, equal bits say nothing of how far apart two setups are.
    if summary.state() == State::Equal && !summary.parted.is_empty() {
        return None;
    }
    let mut units = Vec::new();
    for &prompt in &summary.compared {
        let floors = [a, b].map(|setup| {
            (setup, recorded.repeats.distances.get(&(setup, prompt)).and_then(|of| of.get(&lane)))
        });
        // Repetitions of the one that repeats itself are no floor for the other's noise.
        let unknown = |&(setup, floor): &(usize, Option<&f64>)| {
            floor.is_none() && recorded.repeats.differing.contains(&(setup, lane.0))
        };
        if floors.iter().any(unknown) {
            continue;
        }
        let Some(right) = floors.into_iter().filter_map(|(_, floor)| floor.copied()).reduce(f64::max) else {
            continue;
        };
        let Some(wrong) = recorded.facts.measured(a, b, prompt, lane).and_then(|found| found.mean(|_| true))
        else {
            continue;
        };
        let direction = Direction { wrong, right, same_bits: [false; 2], slack: 0.0 };
        units.push(Unit { directions: vec![(Member::A, direction), (Member::B, direction)] });
    }
    if units.is_empty() {
        return None;
    }
    let incomparable = summary.incomparable.len() + summary.compared.len() - units.len();
    Some(Candidate {
        comparison,
        a: recorded.label(a).to_owned(),
        b: recorded.label(b).to_owned(),
        names: [recorded.label(a).to_owned(), recorded.label(b).to_owned()],
        phase: lane.0,
        signal: lane.1,
        place: recorded.place(comparison, (a, b)),
        noisy: recorded.noisy(&[a, b], lane.0),
        floor_of: FloorOf::Repetitions,
        units,
        averages_only: false,
        incomparable: incomparable as u64,
        left_out: (incomparable > 0).then_some(OmittedReferences::NoComparableRows(incomparable as u64)),
        citations: cite(&recorded.setups, &[a, b], &summary.compared),
    })
}

/// Two values on two machines: can evidence of one machine tell them apart by replay on the other?
pub(super) fn crossed(
    recorded: &Recorded<'_>,
    (here, there): (&str, &str),
    first: (usize, usize),
    second: (usize, usize),
    lane: Lane,
) -> Candidate {
    let cells = [(first.0, second.1), (first.0, first.1), (second.0, first.1), (second.0, second.1)];
    let (mut units, mut compared, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    let noisy = recorded.noisy(&[first.0, first.1, second.0, second.1], lane.0);
    let has_rows =
        |prompt: &usize| cells.iter().any(|&(a, b)| recorded.facts.measured(a, b, *prompt, lane).is_some());
    for prompt in (0..recorded.setups.prompts.len()).filter(has_rows) {
        let measured = cells.map(|(a, b)| recorded.facts.measured(a, b, prompt, lane));
        // Only rows that all four distances have: distances over other rows are no floor.
        let rows: BTreeSet<RowId> = measured[0]
            .into_iter()
            .flat_map(|found| found.rows.keys().copied())
            .filter(|row| {
                measured
                    .iter()
                    .all(|found| found.is_some_and(|found| matches!(found.rows.get(row), Some(Some(_)))))
            })
            .collect();
        let means: Vec<f64> = measured
            .iter()
            .filter_map(|found| found.and_then(|found| found.mean(|row| rows.contains(row))))
            .collect();
        let [wrong_a, right_a, wrong_b, right_b] = means[..] else {
            left_out.push(recorded.setups.prompts[prompt].clone());
            continue;
        };
        compared.push(prompt);
        let same: Vec<bool> = measured
            .iter()
            .map(|found| {
                // Equal bits of one repetition are no equality where repetitions differ.
                noisy.is_empty()
                    && found.is_some_and(|found| rows.iter().all(|row| !found.different.contains(row)))
            })
            .collect();
        units.push(Unit {
            directions: vec![
                (
                    Member::A,
                    Direction { wrong: wrong_a, right: right_a, same_bits: [same[0], same[1]], slack: 0.0 },
                ),
                (
                    Member::B,
                    Direction { wrong: wrong_b, right: right_b, same_bits: [same[2], same[3]], slack: 0.0 },
                ),
            ],
        });
    }
    let variable = &recorded.setups.variable;
    let name = |setup: usize| format!("{variable} {}", recorded.value(setup));
    Candidate {
        comparison: Comparison::CrossHardware,
        a: recorded.label(first.0).to_owned(),
        b: recorded.label(second.1).to_owned(),
        names: [name(first.0), name(second.0)],
        phase: lane.0,
        signal: lane.1,
        place: Place::Across(vec![here.to_owned(), there.to_owned()]),
        noisy,
        floor_of: FloorOf::SameSetup { here: here.to_owned(), there: there.to_owned() },
        units,
        averages_only: false,
        incomparable: left_out.len() as u64,
        left_out: (!left_out.is_empty()).then_some(OmittedReferences::NoRowInCommon(left_out)),
        citations: cite(&recorded.setups, &[first.0, first.1, second.0, second.1], &compared),
    }
}
