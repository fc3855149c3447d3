//! Sentences about two setups whose signals were compared row by row.

use super::place::{place, unshown};
use super::words;
use crate::analysis::{Answer, State};
use crate::found::{BitsOfPair, FirstRow, Noise, Rows};

/// What bits say of a pair.
pub(crate) fn bits_of_pair(found: &BitsOfPair) -> String {
    let (x, y, place) = (&found.a, &found.b, place(&found.place));
    let what = words::lane(found.phase, found.signal);
    let references = words::count(found.references, "reference");
    let caveat = unshown(found.unshown);
    let tokens = parted(&found.parted);
    let counts = found.rows.counts;
    match (found.state, found.answer()) {
        (State::Different, _) => {
            let first = found.first.as_ref().map_or_else(String::new, first_row);
            format!(
                "{x} and {y} can be told apart by {what} {place}: {} of {} rows differ over {references}, by {} on \
                 average{first}{tokens}{caveat}.",
                counts.different,
                found.rows.compared(),
                distance(found.distance)
            )
        }
        (State::Equal, Answer::Inconclusive) => format!(
            "{x} and {y} are not shown to give the same {what} {place}: {} over {references}{caveat}.",
            rows(&found.rows)
        ),
        (State::Equal, Answer::Identical) => format!(
            "{x} and {y} give the same {what} {place}: {} over {references}, all of the same bits{caveat}.",
            words::count(counts.equal, "row")
        ),
        (State::Equal, _) => format!(
            "{x} and {y} emit other tokens {place}, although {} of {what} before have equal bits{tokens}{caveat}.",
            words::count(counts.equal, "row")
        ),
        (State::Incomparable, _) => {
            let gaps = if tokens.is_empty() { format!(": {}", rows(&found.rows)) } else { tokens };
            format!("{x} and {y} cannot be compared by {what} {place}{gaps}.")
        }
        (State::Missing, _) => {
            format!("{x} and {y} cannot be compared by {what} {place}: not recorded on both sides.")
        }
    }
}

/// The same where a side does not repeat itself and no repetitions are stored to set a distance against.
pub(crate) fn bits_beside_noise(found: &BitsOfPair, noise: &Noise) -> String {
    let floors =
        noise.stated.iter().map(|(setup, distance)| format!("{} for {setup}", words::figure(*distance)));
    let floors: Vec<String> = floors.collect();
    let floors =
        if floors.is_empty() { String::new() } else { format!(" (stated: {})", words::list(&floors)) };
    let (x, y, what) = (&found.a, &found.b, words::lane(found.phase, found.signal));
    let noise = format!("{} in {}{floors}", do_not_repeat(&noise.noisy), found.phase.name());
    let tokens = parted(&found.parted);
    if found.state == State::Equal {
        format!(
            "{x} and {y} have equal bits in {} of {what}, but {noise}, so that this would hold of other repetitions \
             was not shown{tokens}.",
            words::count(found.rows.counts.equal, "row")
        )
    } else {
        format!(
            "{x} and {y} differ in {what} by {} on average, but {noise} and no repetitions a known distance apart \
             are stored: whether that is more than its own noise cannot be tested{tokens}.",
            distance(found.distance)
        )
    }
}

/// Who does not repeat itself, as a clause.
pub(super) fn do_not_repeat(noisy: &[String]) -> String {
    let verb = if noisy.len() == 1 { "does not repeat itself" } else { "do not repeat themselves" };
    format!("{} {verb}", words::list(noisy))
}

pub(super) fn distance(distance: Option<f64>) -> String {
    distance.map_or_else(|| "an unknown distance".to_owned(), words::figure)
}

/// Where tokens part, as the end of a sentence; empty where they do not.
pub(super) fn parted(parted: &[(String, u64)]) -> String {
    let parted = parted.iter().map(|(reference, index)| format!("{reference} at output index {index}"));
    let parted: Vec<String> = parted.collect();
    if parted.is_empty() {
        String::new()
    } else {
        format!("; tokens part in {} and nothing behind is compared", words::list(&parted))
    }
}

/// What was found of rows of which not all could be compared: `3 rows equal, 2 missing in b`.
pub(super) fn rows(found: &Rows) -> String {
    let mut said: Vec<String> = Vec::new();
    if found.compared() > 0 {
        said.push(format!("{} equal", words::count(found.counts.equal, "row")));
    }
    // The first number is told to be of rows.
    let rows = |said: &[String], n: u64| if said.is_empty() { words::count(n, "row") } else { n.to_string() };
    for (setup, missing) in found.lacking.iter().filter(|(_, missing)| *missing > 0) {
        said.push(format!("{} missing in {setup}", rows(&said, *missing)));
    }
    if found.counts.incomparable > 0 {
        said.push(format!("{} incomparable", rows(&said, found.counts.incomparable)));
    }
    for (setup, after, reference) in &found.stopped {
        said.push(format!("{setup} stops after {} in {reference}", words::count(*after, "output")));
    }
    said.join(", ")
}

fn first_row(first: &FirstRow) -> String {
    let site = first.site.map_or(String::new(), |site| format!(" {site}"));
    format!(", first in {} at step {}{site} position {}", first.reference, first.step, first.position)
}
