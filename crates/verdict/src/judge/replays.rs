//! Pairs of recorded setups as right and wrong replays: noisy ones, and those of two machines.
//!
//! Left out: how such a pair is judged (`separation`).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::facts::{self, Summary, cite};
use super::measure::{Lane, RowId};
use super::options::Options;
use super::recorded::Recorded;
use super::separation::{Candidate, Direction, Unit};
use super::values::{is_zero, mean};
use crate::Result;
use crate::analysis::Comparison;
use crate::found::{FloorOf, Member, OmittedReferences, Place};
use crate::stats::Stratum;

/// By signal: a distance for every two repetitions, absent where none could be measured.
type Squares = BTreeMap<Lane, Vec<Vec<Option<f64>>>>;

/// Distances between the repetitions of two setups, by prompt: those of the first before those of the second. Kept,
/// because every signal asks for the same pairs.
#[derive(Default)]
pub(super) struct Repeated {
    known: BTreeMap<(usize, usize, usize), Squares>,
}

impl Repeated {
    fn of(
        &mut self,
        recorded: &Recorded<'_>,
        (a, b): (usize, usize),
        prompt: usize,
        options: &Options,
    ) -> Result<&Squares> {
        match self.known.entry((a, b, prompt)) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(empty) => Ok(empty.insert(repeated(recorded, (a, b), prompt, options)?)),
        }
    }
}

/// Mean distances between every two different repetitions of two setups on a prompt.
fn repeated(
    recorded: &Recorded<'_>,
    (a, b): (usize, usize),
    prompt: usize,
    options: &Options,
) -> Result<Squares> {
    let members: Vec<_> = [a, b].iter().flat_map(|&setup| recorded.setups.distinct(setup, prompt)).collect();
    let which: Vec<(usize, usize)> =
        (0..members.len()).flat_map(|a| (a + 1..members.len()).map(move |b| (a, b))).collect();
    let mut lanes = Squares::new();
    for (&(x, y), pair) in which.iter().zip(facts::measured_pairs(&members, &which, options)?) {
        for (&lane, measured) in &pair.lanes {
            let square = lanes.entry(lane).or_insert_with(|| {
                let mut square = vec![vec![None; members.len()]; members.len()];
                (0..members.len()).for_each(|place| square[place][place] = Some(0.0));
                square
            });
            let distance = measured.mean(|_| true);
            (square[x][y], square[y][x]) = (distance, distance);
        }
    }
    Ok(lanes)
}

/// A pair of which a side does not repeat itself: distances between the two beside those between repetitions, over all
/// repetitions of either.
pub(super) fn noisy(
    recorded: &Recorded<'_>,
    comparison: Comparison,
    (a, b): (usize, usize),
    lane: Lane,
    (summary, known): (&Summary, &mut Repeated),
    options: &Options,
) -> Result<Option<Candidate>> {
    let (mut units, mut strata) = (Vec::new(), Vec::new());
    for &prompt in &summary.compared {
        let first = recorded.setups.distinct(a, prompt).count();
        let Some(square) = known.of(recorded, (a, b), prompt, options)?.get(&lane) else { continue };
        let whole: Option<Vec<Vec<f64>>> =
            square.iter().map(|row| row.iter().copied().collect::<Option<Vec<f64>>>()).collect();
        // Repetitions of the one that repeats itself are no floor for the other's noise.
        let unknown = |setup: usize| {
            recorded.setups.distinct(setup, prompt).count() < 2
                && recorded.repeats.differing.contains(&(setup, lane.0))
        };
        let Some(distances) = whole.filter(|_| !unknown(a) && !unknown(b)) else { continue };
        let mut of = [Vec::new(), Vec::new()];
        for (x, row) in distances.iter().enumerate() {
            for (y, &distance) in row.iter().enumerate().take(x) {
                of[usize::from((x < first) == (y < first))].push(distance);
            }
        }
        let [Some(wrong), Some(right)] = of.map(|distances| mean(&distances)) else { continue };
        let direction = Direction { wrong, right, same_bits: [false; 2], slack: 0.0 };
        units.push(Unit { directions: vec![(Member::A, direction), (Member::B, direction)] });
        strata.push(Stratum { distances, first });
    }
    // Where no row differs, noise is in the tokens: rows before they part say nothing of how far apart setups are.
    let nowhere = |stratum: &Stratum| stratum.distances.iter().flatten().all(|&distance| is_zero(distance));
    if strata.iter().all(nowhere) {
        return Ok(None);
    }
    let incomparable = summary.incomparable.len() + summary.compared.len() - units.len();
    Ok(Some(Candidate {
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
        strata,
        averages_only: false,
        incomparable: incomparable as u64,
        left_out: (incomparable > 0).then_some(OmittedReferences::NoComparableRows(incomparable as u64)),
        citations: cite(&recorded.setups, &[a, b], &summary.compared),
    }))
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
        strata: Vec::new(),
        averages_only: false,
        incomparable: left_out.len() as u64,
        left_out: (!left_out.is_empty()).then_some(OmittedReferences::NoRowInCommon(left_out)),
        citations: cite(&recorded.setups, &[first.0, first.1, second.0, second.1], &compared),
    }
}
