//! Sentences about repetitions of a setup.

use super::bits::parted;
use super::words;
use crate::analysis::State;
use crate::found::{FilePair, Repeats, StatedDigests, Tally};

/// Whether a setup repeats itself.
pub(crate) fn repeats(setup: &str, found: &Repeats) -> String {
    match found {
        Repeats::Single => format!("One repetition of {setup} is stored, so nothing was repeated."),
        Repeats::Stored { phase, tally } => stored(setup, phase.name(), tally),
        Repeats::Stated(stated) => digests(setup, *stated),
        Repeats::Distances { phase, repetitions, distances } => {
            of_distances(setup, phase.name(), found.state(), *repetitions, distances)
        }
        Repeats::FilePair(found) => again(found),
    }
}

fn stored(setup: &str, phase: &str, tally: &Tally) -> String {
    let (repetitions, references) = (tally.repetitions, words::count(tally.references, "reference"));
    let all = || words::count(tally.compared + tally.missing + tally.incomparable, "row comparison");
    let compared = words::count(tally.compared, "row comparison");
    match tally.state() {
        State::Different if tally.compared == 0 => format!(
            "{setup} is non-deterministic in {phase}: the outputs of its {repetitions} repetitions part over \
             {references}."
        ),
        State::Different => format!(
            "{setup} is non-deterministic in {phase}: its {repetitions} repetitions differ in {} of {compared} over \
             {references}{}.",
            tally.different,
            if tally.parted { "; their outputs part" } else { "" }
        ),
        State::Equal => format!(
            "{setup} repeats itself to the bit in {phase}: {repetitions} repetitions over {references}, {compared}."
        ),
        State::Missing if tally.missing == 0 => format!(
            "A repetition of {setup} stops before another in {phase}, so that it repeats itself was not shown."
        ),
        State::Missing => format!(
            "{setup} lacks rows of {phase} in some repetition ({} of {}), so that it repeats itself was not shown.",
            tally.missing,
            all()
        ),
        State::Incomparable if tally.compared == 0 => {
            format!("The repetitions of {setup} in {phase} cannot be compared.")
        }
        State::Incomparable => format!(
            "Not all rows of the repetitions of {setup} in {phase} can be compared ({} of {} cannot), so that it \
             repeats itself was not shown.",
            tally.incomparable,
            all()
        ),
    }
}

fn digests(setup: &str, stated: StatedDigests) -> String {
    let n = stated.repetitions;
    let stored = if stated.stored { ", although the stored ones have no bits that differ" } else { "" };
    match (stated.differ, stated.digests) {
        (true, Some(true)) => {
            format!("{setup} is non-deterministic: the stated digests of {n} repetitions differ{stored}.")
        }
        (true, _) => format!(
            "{setup} is non-deterministic, as the record states: two of its {n} repetitions differ{stored}."
        ),
        (false, None) => format!(
            "{setup} repeats itself to the bit, as the record states of {n} repetitions without their digests."
        ),
        (false, Some(_)) => {
            format!("{setup} repeats itself to the bit by the stated digests of {n} repetitions.")
        }
    }
}

fn of_distances(setup: &str, phase: &str, state: State, n: Option<u64>, distances: &[f64]) -> String {
    let repetitions = n.map_or(String::new(), |n| format!("{n} "));
    let finite = distances.iter().copied().filter(|distance| distance.is_finite());
    let infinite = distances.len() - finite.clone().count();
    match state {
        State::Missing | State::Incomparable => {
            format!("No distance between two repetitions of {setup} in {phase} is stated.")
        }
        State::Equal => format!(
            "{setup} repeats itself in {phase}: the stated distance between its {repetitions}repetitions is 0."
        ),
        State::Different if infinite > 0 => {
            let each: Vec<String> = distances.iter().copied().map(words::figure).collect();
            format!(
                "{setup} is non-deterministic in {phase}: the stated distances between its {repetitions}repetitions \
                 are {}; in {infinite} of {} pairs the outputs parted until nothing was left in common.",
                words::list(&each),
                distances.len()
            )
        }
        State::Different => format!(
            "{setup} is non-deterministic in {phase}: the stated distance between its {repetitions}repetitions is {}, \
             not 0.",
            words::figure(finite.reduce(f64::max).unwrap_or_default())
        ),
    }
}

fn again(found: &FilePair) -> String {
    let (x, y, phase) = (&found.a, &found.b, found.phase.name());
    let compared = found.compared;
    match found.state() {
        State::Different => format!(
            "{x} and {y} state the same setup and differ in {phase}, in {} of {compared} compared rows{}: the setup \
             does not repeat itself, or something that is not stated differs.",
            found.different,
            parted(&found.parted)
        ),
        State::Equal => format!(
            "{x} and {y} state the same setup and have the same bits in {phase}: {} compared.",
            words::count(compared, "row")
        ),
        State::Missing | State::Incomparable => format!(
            "{x} and {y} state the same setup, and not all of their {phase} could be compared: {} equal.",
            words::count(compared, "row")
        ),
    }
}
