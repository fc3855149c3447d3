//! Classes of recorded setups with equal bits, on each machine and over all of them.

use mantissa_numerics::Phase;

use super::classes;
use super::facts::{Summary, cite};
use super::parts::{FoundClasses, Parts};
use super::recorded::Recorded;
use super::setups::in_order;
use crate::analysis::{Signal, State};
use crate::found::{Place, SameBy, Scope, Unplaced, Unshown};

/// Classes on each machine, and over all of them.
pub(super) fn add(recorded: &Recorded<'_>, parts: &mut Parts) {
    let lanes = recorded.facts.lanes();
    let hardware = recorded.setups.hardware();
    let mut scopes: Vec<(Place, Vec<usize>)> =
        hardware.iter().map(|&name| (Place::On(vec![name.to_owned()]), recorded.setups.on(name))).collect();
    if hardware.len() > 1 {
        let across = hardware.iter().map(|&name| name.to_owned()).collect();
        scopes.push((Place::Across(across), (0..recorded.setups.all.len()).collect()));
    }
    for (scope, members) in scopes {
        for phase in in_order(lanes.iter().map(|lane| lane.0)) {
            let signals: Vec<Signal> =
                lanes.iter().filter(|lane| lane.0 == phase).map(|lane| lane.1).collect();
            let labels: Vec<String> = members.iter().map(|&setup| recorded.label(setup).to_owned()).collect();
            let equal = |a: usize, b: usize| equal(recorded, members[a], members[b], phase, &signals);
            let mut groups = classes::group(&labels, equal);
            for (label, why) in &mut groups.unplaced {
                let setup = members.iter().find(|&&setup| recorded.label(setup) == *label);
                let Some(&setup) = setup else { continue };
                if recorded.setups.all[setup].runs.is_empty() {
                    *why = Unplaced::NoRun;
                } else if recorded.repeats.differing.contains(&(setup, phase)) {
                    *why = Unplaced::DoesNotRepeat;
                } else if let Some(lacks) = lacks(recorded, &members, setup, phase, &signals) {
                    *why = lacks;
                }
            }
            if members.len() < 2 {
                continue;
            }
            let prompts: Vec<usize> = (0..recorded.setups.prompts.len())
                .filter(|&prompt| {
                    members.iter().filter(|&&setup| recorded.setups.member(setup, prompt).is_some()).count()
                        > 1
                })
                .collect();
            // Outputs that part tell setups apart too, and not by these signals: that is said of the tokens.
            let by_bits = groups.classes.iter().enumerate().all(|(index, class)| {
                groups.classes[..index].iter().all(|other| {
                    let setup = |label: &String| {
                        members.iter().copied().find(|&setup| recorded.label(setup) == label)
                    };
                    let (Some(a), Some(b)) = (setup(&class[0]), setup(&other[0])) else { return false };
                    let state = |&signal: &Signal| recorded.facts.summary(a, b, (phase, signal)).state();
                    signals.iter().any(|signal| state(signal) == State::Different)
                })
            });
            let references = equal_over(recorded, &members, phase, &signals).unwrap_or(prompts.len() as u64);
            parts.add_classes(FoundClasses {
                phase,
                signals,
                scope: Scope::At(scope.clone()),
                classes: groups.classes,
                unplaced: groups.unplaced,
                basis: SameBy::Bits,
                references,
                told_apart: groups.told_apart && by_bits,
                unshown: Unshown::Nothing,
                citations: cite(&recorded.setups, &members, &prompts),
            });
        }
    }
}

/// Whether all signals of a phase have the same bits; `None` where nothing could be compared, or where a setup does not
/// repeat itself.
fn equal(recorded: &Recorded<'_>, a: usize, b: usize, phase: Phase, signals: &[Signal]) -> Option<bool> {
    if !recorded.noisy(&[a, b], phase).is_empty() {
        return None;
    }
    let summaries: Vec<Summary> =
        signals.iter().map(|&signal| recorded.facts.summary(a, b, (phase, signal))).collect();
    let states: Vec<State> = summaries.iter().map(Summary::state).collect();
    if states.contains(&State::Different) || summaries.iter().any(|summary| !summary.parted.is_empty()) {
        Some(false)
    } else {
        let whole = |summary: &Summary| summary.state() == State::Equal && !summary.has_gaps();
        summaries.iter().all(whole).then_some(true)
    }
}

/// Why a setup that does not differ from all others is in no class: what a comparison with one of them lacks.
fn lacks(
    recorded: &Recorded<'_>,
    members: &[usize],
    setup: usize,
    phase: Phase,
    signals: &[Signal],
) -> Option<Unplaced> {
    let others = members.iter().filter(|&&other| other != setup);
    let undecided = others.filter(|&&other| equal(recorded, other, setup, phase, signals).is_none());
    let mut found = undecided
        .flat_map(|&other| {
            signals.iter().filter_map(move |&signal| {
                let summary = recorded.facts.summary(other, setup, (phase, signal));
                let rows = recorded.rows((other, setup), &summary);
                (!rows.is_nothing()).then_some((other, signal, rows))
            })
        })
        .collect::<Vec<_>>();
    // What was compared says most.
    found.sort_by_key(|(_, _, rows)| rows.compared() == 0);
    let (other, signal, rows) = found.into_iter().next()?;
    Some(Unplaced::Lacks { other: recorded.label(other).to_owned(), signal, rows })
}

/// References over which equal setups are known to be equal: those of the pair that shares the fewest.
fn equal_over(recorded: &Recorded<'_>, members: &[usize], phase: Phase, signals: &[Signal]) -> Option<u64> {
    let pairs =
        members.iter().enumerate().flat_map(|(index, &a)| members[index + 1..].iter().map(move |&b| (a, b)));
    let same = pairs.filter(|&(a, b)| equal(recorded, a, b, phase, signals) == Some(true));
    let shared = same.flat_map(|(a, b)| {
        signals.iter().map(move |&signal| recorded.facts.summary(a, b, (phase, signal)).compared.len() as u64)
    });
    shared.min()
}
