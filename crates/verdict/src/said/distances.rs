//! Sentences about two setups by distances that others measured.

use super::bits::distance;
use super::place::{unshown, versions};
use super::words;
use crate::analysis::Answer;
use crate::found::{DistancesOfPair, SameSetup, Unshown};

/// Two setups on one machine, where a distance tells bits.
pub(crate) fn distances_of_pair(found: &DistancesOfPair) -> String {
    let (x, y, gpu) = (&found.a, &found.b, &found.gpu);
    let what = words::lane(found.phase, found.signal);
    let references = words::count(found.references, "reference");
    let left_out = if found.incomparable == 0 {
        String::new()
    } else {
        format!(
            " ({} left out: tokens differ or nothing is in common)",
            words::count(found.incomparable, "reference")
        )
    };
    let caveat = unshown(found.unshown);
    match found.answer() {
        Answer::Identical => format!(
            "{x} and {y} give the same {what} on {gpu}: every distance over {references} is exactly \
             0{left_out}{caveat}."
        ),
        Answer::Separable => {
            let average = if found.not_averaged.is_empty() {
                String::new()
            } else {
                format!(" without {}, where their tokens part", words::list(&found.not_averaged))
            };
            format!(
                "{x} and {y} can be told apart by {what} on {gpu}: they differ in {} of {references}, by {} on \
                 average{average}{left_out}{caveat}.",
                found.differing,
                distance(found.distance)
            )
        }
        Answer::Inconclusive => format!(
            "{x} and {y} lie {} apart by {what} on {gpu} over {references}, but {} does not repeat itself: whether \
             that is more than its own noise cannot be tested{left_out}.",
            distance(found.distance),
            words::list(&found.noisy)
        ),
        Answer::NotSeparable | Answer::Incomparable => {
            format!("{x} and {y} cannot be compared by {what} on {gpu}{left_out}.")
        }
    }
}

/// The same setup on two machines.
pub(crate) fn same_setup(found: &SameSetup) -> String {
    let SameSetup { name, here, there, .. } = found;
    let what = words::lane(found.phase, found.signal);
    if found.same {
        return format!("{name} gives the same {what} on {here} and {there}: every distance is exactly 0.");
    }
    let over = found.references.map_or_else(
        || "averaged over references".to_owned(),
        |n| format!("over {}", words::count(n, "reference")),
    );
    format!(
        "{name} gives other {what} on {there} than on {here}: {} away on average, {over}{}{}.",
        words::figure(found.distance),
        unshown(Unshown::Machines),
        versions(&found.versions)
    )
}
