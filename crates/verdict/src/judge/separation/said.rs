//! What is said of a judged pair: each direction by itself, then what the answer rests on.

use super::super::words;
use super::{Candidate, Claim, Reason, Side, Test};
use crate::analysis::{Answer, Interval};
use crate::thresholds::{CLEAR_MARGIN, WITHIN_FLOOR};

/// What a sentence adds to the distances.
#[derive(Clone, Copy)]
pub(super) struct Figures {
    pub(super) ratio: Option<f64>,
    pub(super) interval: Option<Interval>,
    pub(super) test: Option<Test>,
    pub(super) n: u64,
}

/// What was judged, in a sentence that stands alone.
pub(super) fn sentence(
    pair: &Candidate,
    sides: &[Side],
    (answer, reason): (Answer, &Reason),
    figures: Figures,
) -> String {
    let (a, b) = (&pair.names.0, &pair.names.1);
    let lane = words::lane(pair.phase, pair.signal);
    let left_out = pair.left_out.as_ref().map_or(String::new(), |why| format!(" ({why})"));
    if answer == Answer::Incomparable {
        return format!("{a} and {b} cannot be compared by {lane} {}{left_out}.", pair.context);
    }
    let verb = match answer {
        Answer::Separable => "can be told apart",
        Answer::Identical => "are the same",
        Answer::Inconclusive => "lean apart, but are not told apart,",
        _ => "cannot be told apart",
    };
    format!(
        "{a} and {b} {verb} by {lane} {}: {}; {}{left_out}.",
        pair.context,
        measured(pair, sides, figures),
        why(pair, sides, reason, figures)
    )
}

/// The distances of each member's evidence; once where both are the same.
fn measured(pair: &Candidate, sides: &[Side], figures: Figures) -> String {
    let quotient = |side: &Side| {
        let known = side.right > 0.0;
        if known { format!(" ({}×)", words::figure(side.wrong / side.right)) } else { String::new() }
    };
    let same =
        |x: &Side, y: &Side| x.wrong.total_cmp(&y.wrong).is_eq() && x.right.total_cmp(&y.right).is_eq();
    let said = match sides {
        [x, y] if same(x, y) => format!(
            "either way the other setup lies {} away on average, {} {}{}",
            words::figure(x.wrong),
            pair.floor_of,
            words::figure(x.right),
            quotient(x)
        ),
        _ => {
            let each = sides.iter().map(|side| {
                let other = if side.claim == Claim::A { Claim::B } else { Claim::A };
                format!(
                    "{} evidence lies {} from {} replays and {} from its own{}",
                    pair.name(side.claim),
                    words::figure(side.wrong),
                    pair.name(other),
                    words::figure(side.right),
                    quotient(side)
                )
            });
            each.collect::<Vec<_>>().join(", ")
        }
    };
    let interval = figures.ratio.zip(figures.interval).map_or(String::new(), |(ratio, interval)| {
        let (low, high) = (words::figure(interval.low), words::figure(interval.high));
        let confidence = interval.confidence * 100.0;
        format!(", together {}× ({confidence:.0}% interval {low} to {high})", words::figure(ratio))
    });
    format!("{said}{interval}")
}

const AVERAGES: &str = "only averages over references are stored, so no p-value can be computed";

fn why(pair: &Candidate, sides: &[Side], reason: &Reason, figures: Figures) -> String {
    let references = words::count(figures.n, "reference");
    let tested = figures.test.map_or_else(
        || format!("not tested, since one side only was compared in {references}"),
        |test| {
            format!(
                "{} over {references} (the larger of both directions), {} after Holm's correction for {}",
                words::p_value(test.p),
                words::figure(test.adjusted),
                words::count(test.pairs as u64, "pair")
            )
        },
    );
    match reason {
        Reason::Nothing => String::new(),
        Reason::Exact => {
            format!("every matching replay has the same bits in {references}, so any other bit counts")
        }
        Reason::Tied if pair.averages_only => format!("the replays of both are equally far; {AVERAGES}"),
        Reason::Tied => format!(
            "the replays of both are equally far in every comparison ({references}), so nothing can tell them apart"
        ),
        Reason::Test => tested,
        Reason::Near(claim) => near(pair, sides, *claim, &tested),
        Reason::Margin(least) => format!(
            "the other's replay is at least {} times as far as its own, and the threshold clear_margin ({CLEAR_MARGIN}) \
             decides; {AVERAGES}",
            words::figure(*least)
        ),
        Reason::WithinFloor(claim, least) => format!(
            "to {} evidence the other's replay is only {} times as far as its own, and the threshold within_floor \
             ({WITHIN_FLOOR}) decides; {AVERAGES}",
            pair.name(*claim),
            words::figure(*least)
        ),
        Reason::Between(least) => format!(
            "the smaller quotient is {}, between the thresholds within_floor ({WITHIN_FLOOR}) and clear_margin \
             ({CLEAR_MARGIN}); {AVERAGES}",
            words::figure(*least)
        ),
        Reason::OneSided(claim) => {
            format!("only {} evidence could be compared, and both sides are needed", pair.name(*claim))
        }
        Reason::Leans { needed } => {
            let (near, of) = sides.iter().fold((0, 0), |sum, side| (sum.0 + side.near, sum.1 + side.of));
            let least = sides.iter().map(|side| side.least).fold(f64::INFINITY, f64::min);
            let too_few = if figures.n < *needed {
                format!("; it needs at least {needed} references")
            } else {
                String::new()
            };
            format!(
                "the other's replay is farther in {} of {of} comparisons, the least {} times as far; {tested}{too_few}",
                of - near,
                words::figure(least)
            )
        }
    }
}

/// Which evidence does not tell, and whether the other's does.
fn near(pair: &Candidate, sides: &[Side], claim: Claim, tested: &str) -> String {
    let Some(side) = sides.iter().find(|side| side.claim == claim) else { return String::new() };
    let (claimed, other) =
        if claim == Claim::A { (&pair.names.0, &pair.names.1) } else { (&pair.names.1, &pair.names.0) };
    if pair.averages_only {
        return format!("the replay nearest to {claimed} evidence is {other}; {AVERAGES}");
    }
    let separating =
        sides.iter().find(|side| side.claim != claim && side.near == 0).map_or(String::new(), |side| {
            let references = words::count(side.of as u64, "reference");
            format!("; {other} evidence is nearer to its own in all {references}")
        });
    let of = |side: &Side| format!("{} of {}", side.near, words::count(side.of as u64, "reference"));
    let both = sides
        .iter()
        .find(|other| other.claim != claim && other.is_near())
        .map_or(String::new(), |side| format!(", and the reverse in {}", of(side)));
    format!(
        "to {claimed} evidence the {other} replay is on the whole as near as its own or nearer, in {}{both}{separating}; \
         {tested}",
        of(side)
    )
}
