//! The sentence of each finding.

use super::classes::{same_by, scope};
use super::place::unshown;
use super::{pairs, words};
use crate::analysis::TokenConsistency;
use crate::found::{Classes, DistancesPart, Found, Metric, OtherWeights};

/// A finding in a sentence that stands alone.
pub(crate) fn finding(found: &Found<'_>) -> String {
    match found {
        Found::TokensPart(tokens) => tokens_part(tokens),
        Found::TokensStop(tokens) => tokens_stop(tokens),
        Found::DistancesPart(found) => distances_part(found),
        Found::Repetitions(found) => found.note.clone(),
        Found::FileCopy { file, of } => {
            format!("{file} holds what {of} holds and counts once with it: a copy is no further evidence.")
        }
        Found::RunCopies { setup, copies } => format!(
            "{} of {setup} hold what another run of the same repetition holds: a copy is no further evidence.",
            words::count(*copies, "run")
        ),
        Found::OneRepetition(setups) => {
            let one = setups.len() == 1;
            format!(
                "{} {} one repetition each in this evidence: whether {} bit for bit was not shown by it.",
                words::list(setups),
                if one { "has" } else { "have" },
                if one { "it repeats itself" } else { "they repeat themselves" }
            )
        }
        Found::OneClass { class, of } => format!(
            "{} are one class by {} ({}): {} over {}, so nothing in them can tell these setups apart{}.",
            words::list(class),
            signals(of),
            scope(of.scope),
            same_by(of.basis),
            words::count(of.set.references, "reference"),
            unshown(of.unshown)
        ),
        Found::ToldApart(of) => format!(
            "{} classes can be told apart by {} ({}) over {}: {}{}.",
            of.set.classes.len(),
            signals(of),
            scope(of.scope),
            words::count(of.set.references, "reference"),
            words::classes(&of.set.classes),
            unshown(of.unshown)
        ),
        Found::Pairs(found) => pairs::pairs(found),
        Found::OtherWeights(found) => other_weights(found),
        Found::OtherVariable { file, variable } => format!(
            "{file} holds distances over {variable} and no signals, so it says nothing about the variable asked for."
        ),
        Found::Environments { here, there, fields } => {
            let fields = fields.iter().map(|(name, a, b)| format!("{name} ({a} and {b})"));
            format!(
                "The environments of {here} and {there} differ in {} besides the GPU, so what lies between them \
                 cannot be put down to the GPU alone.",
                words::list(&fields.collect::<Vec<_>>())
            )
        }
        Found::AlsoDiffer { variable, fields } => format!(
            "Setups that are compared differ in more than {variable}: {}; what separates them cannot be put down to \
             {variable} alone.",
            fields.join("; ")
        ),
    }
}

fn tokens_part(tokens: &TokenConsistency) -> String {
    let at = tokens.part_at.map_or(String::new(), |index| format!(" at index {index}"));
    format!(
        "{} is divergent, not noisy: its outputs part{at} into {}; distances behind that are over other texts and are \
         left out.",
        tokens.reference,
        words::classes(&tokens.groups)
    )
}

fn tokens_stop(tokens: &TokenConsistency) -> String {
    let stops = tokens.stopped.iter();
    let stops = stops.map(|(setup, after)| format!("{setup} stops after {}", words::count(*after, "output")));
    format!(
        "{} is not whole in every setup: {}; what follows there is missing, not different.",
        tokens.reference,
        words::list(&stops.collect::<Vec<_>>())
    )
}

fn distances_part(found: &DistancesPart<'_>) -> String {
    let counts = found.uneven.iter();
    let counts =
        counts.map(|(signal, pairs, of)| format!("{} in {pairs} of {of} pairs", words::signal_name(*signal)));
    let largest = found.largest.as_ref().map_or(String::new(), |(largest, [a, b])| {
        format!(" (they differ by up to {}, for {a} and {b})", words::figure(*largest))
    });
    let phase = found.phase.name();
    format!(
        "{} is divergent in {phase}, although the file states no tokens: matching replays are exactly 0 away, so a \
         distance must be the same both ways where tokens are the same, but distances of {} are not{largest}; the \
         outputs part into at least {}, and its {phase} distances are left out of averages.",
        found.reference,
        words::list(&counts.collect::<Vec<_>>()),
        words::classes(&found.groups),
    )
}

/// The phase and signals that classes are by.
fn signals(of: &Classes<'_>) -> String {
    let names: Vec<&str> = of.set.signals.iter().map(|&signal| words::signal_name(signal)).collect();
    format!("{} {}", of.set.phase.name(), words::list(&names))
}

fn other_weights(found: &OtherWeights<'_>) -> String {
    let (nearest, yardstick) = (found.nearest, found.yardstick);
    let pairs: Vec<String> = found.pairs.iter().map(|names| names.join(" and ")).collect();
    let metric = match found.metric {
        Metric::RootMeanSquare => "root mean square over common token ids",
        Metric::AsStored => "L2 as stored",
    };
    let moved = nearest.moved.map_or(String::new(), |moved| {
        format!(", with {} of the probability outside the common candidates", words::figure(moved))
    });
    format!(
        "{} declare other weights ({}), and the {} log-probabilities of {} lie farther apart than those of {}: the \
         nearest ({}) {} nats apart ({metric}, {}), {} times the largest distance between kernels that share weights \
         ({}: {}){moved}.",
        pairs.join("; "),
        nearest.models.join(" and "),
        found.phase.name(),
        each(pairs.len(), "such pair"),
        if found.sharing == 1 {
            "the 1 pair that shares weights".to_owned()
        } else {
            format!("all {} pairs that share weights", found.sharing)
        },
        nearest.names.join(" and "),
        words::figure(nearest.mean),
        words::count(nearest.references, "reference"),
        words::figure(nearest.mean / yardstick.mean),
        yardstick.names.join(" and "),
        words::figure(yardstick.mean),
    )
}

fn each(n: usize, what: &str) -> String {
    if n == 1 { format!("this {what}") } else { format!("each of {n} {what}s") }
}
