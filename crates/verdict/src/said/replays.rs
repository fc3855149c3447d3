//! Sentences about two setups by right and wrong replays: each direction by itself, then what the answer rests on.

use super::bits::do_not_repeat;
use super::{place, words};
use crate::analysis::Answer;
use crate::found::{Member, OmittedReferences, Reason, ReplaysOfPair, Side};
use crate::thresholds::{CLEAR_MARGIN, WITHIN_FLOOR};

/// What was judged, in a sentence that stands alone.
pub(crate) fn replays_of_pair(pair: &ReplaysOfPair<'_>) -> String {
    let [a, b] = pair.names;
    let lane = words::lane(pair.phase, pair.signal);
    let left_out = pair.left_out.map_or(String::new(), |left| format!(" ({})", left_out(left)));
    let at = place::place(pair.place);
    let noise =
        if pair.noisy.is_empty() { String::new() } else { format!(", where {}", do_not_repeat(pair.noisy)) };
    let verb = match pair.answer {
        Answer::Incomparable => {
            return format!("{a} and {b} cannot be compared by {lane} {at}{noise}{left_out}.");
        }
        Answer::Separable => "can be told apart",
        Answer::Identical => "are the same",
        Answer::Inconclusive => "lean apart, but are not told apart,",
        Answer::NotSeparable => "cannot be told apart",
    };
    format!("{a} and {b} {verb} by {lane} {at}{noise}: {}; {}{left_out}.", measured(pair), why(pair))
}

fn left_out(left: &OmittedReferences) -> String {
    match left {
        OmittedReferences::NoComparableRows(n) => {
            format!("{} left out for want of comparable rows", words::count(*n, "reference"))
        }
        OmittedReferences::NoRowInCommon(references) => {
            format!("{} left out: no row in common after equal tokens", words::list(references))
        }
        OmittedReferences::TokensDiffer(references) => {
            format!("{} left out: tokens differ or nothing is in common", words::list(references))
        }
    }
}

/// The distances of each member's evidence; once where both are the same.
fn measured(pair: &ReplaysOfPair<'_>) -> String {
    let quotient = |side: &Side| {
        let known = side.right > 0.0;
        if known { format!(" ({}×)", words::figure(side.wrong / side.right)) } else { String::new() }
    };
    let same =
        |x: &Side, y: &Side| x.wrong.total_cmp(&y.wrong).is_eq() && x.right.total_cmp(&y.right).is_eq();
    let said = match pair.sides.as_slice() {
        [x, y] if same(x, y) => format!(
            "either way the other setup lies {} away on average, {} {}{}",
            words::figure(x.wrong),
            place::floor_of(pair.floor_of),
            words::figure(x.right),
            quotient(x)
        ),
        _ => {
            let each = pair.sides.iter().map(|side| {
                format!(
                    "{} evidence lies {} from {} replays and {} from its own{}",
                    pair.name(side.member),
                    words::figure(side.wrong),
                    pair.name(side.member.other()),
                    words::figure(side.right),
                    quotient(side)
                )
            });
            each.collect::<Vec<_>>().join(", ")
        }
    };
    let interval = pair.ratio.zip(pair.interval).map_or(String::new(), |(ratio, interval)| {
        let (low, high) = (words::figure(interval.low), words::figure(interval.high));
        let confidence = interval.confidence * 100.0;
        format!(", together {}× ({confidence:.0}% interval {low} to {high})", words::figure(ratio))
    });
    format!("{said}{interval}")
}

const AVERAGES: &str = "only averages over references are stored, so no p-value can be computed";

fn why(pair: &ReplaysOfPair<'_>) -> String {
    let sides = &pair.sides;
    let references = words::count(pair.references, "reference");
    let tested = pair.test.map_or_else(
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
    match &pair.reason {
        Reason::Nothing => String::new(),
        Reason::Exact => {
            format!("every matching replay has the same bits in {references}, so any other bit counts")
        }
        Reason::Tied if pair.averages_only => format!("the replays of both are equally far; {AVERAGES}"),
        Reason::Tied => format!(
            "the replays of both are equally far in every comparison ({references}), so nothing can tell them apart"
        ),
        Reason::Test => tested,
        Reason::Near(member) => near(pair, *member, &tested),
        Reason::Margin(least) => format!(
            "the other's replay is at least {} times as far as its own, and the threshold clear_margin ({CLEAR_MARGIN}) \
             decides; {AVERAGES}",
            words::figure(*least)
        ),
        Reason::WithinFloor(member, least) => format!(
            "to {} evidence the other's replay is only {} times as far as its own, and the threshold within_floor \
             ({WITHIN_FLOOR}) decides; {AVERAGES}",
            pair.name(*member),
            words::figure(*least)
        ),
        Reason::Between(least) => format!(
            "the smaller quotient is {}, between the thresholds within_floor ({WITHIN_FLOOR}) and clear_margin \
             ({CLEAR_MARGIN}); {AVERAGES}",
            words::figure(*least)
        ),
        Reason::OneSided(member) => {
            format!("only {} evidence could be compared, and both sides are needed", pair.name(*member))
        }
        Reason::Leans { needed } => {
            let (near, of) = sides.iter().fold((0, 0), |sum, side| (sum.0 + side.near, sum.1 + side.of));
            let least = sides.iter().map(|side| side.least).fold(f64::INFINITY, f64::min);
            let too_few = if pair.references < *needed {
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
fn near(pair: &ReplaysOfPair<'_>, member: Member, tested: &str) -> String {
    let sides = &pair.sides;
    let Some(side) = sides.iter().find(|side| side.member == member) else { return String::new() };
    let (claimed, other) = (pair.name(member), pair.name(member.other()));
    if pair.averages_only {
        return format!("the replay nearest to {claimed} evidence is {other}; {AVERAGES}");
    }
    let separating =
        sides.iter().find(|side| side.member != member && side.near == 0).map_or(String::new(), |side| {
            let references = words::count(side.of as u64, "reference");
            format!("; {other} evidence is nearer to its own in all {references}")
        });
    let of = |side: &Side| format!("{} of {}", side.near, words::count(side.of as u64, "reference"));
    let both = sides
        .iter()
        .find(|other| other.member != member && other.is_near())
        .map_or(String::new(), |side| format!(", and the reverse in {}", of(side)));
    format!(
        "to {claimed} evidence the {other} replay is on the whole as near as its own or nearer, in {}{both}{separating}; \
         {tested}",
        of(side)
    )
}
