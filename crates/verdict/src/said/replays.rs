//! Sentences about two setups by right and wrong replays: each direction by itself, then what the answer rests on.

use super::bits::do_not_repeat;
use super::{place, words};
use crate::analysis::{Answer, Needed};
use crate::found::{Excluded, OmittedReferences, Reason, ReplaysOfPair, Side};

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
        Answer::Inconclusive => "are shown neither to differ nor to agree",
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

fn why(pair: &ReplaysOfPair<'_>) -> String {
    let references = words::count(pair.references, "reference");
    let tested = pair.test.map_or(String::new(), |test| {
        let how = if pair.repeated { "permuted repetitions" } else { "the larger of both directions" };
        format!(
            "{} over {references} ({how}), {} after Holm's correction for {}",
            words::p_value(test.p),
            words::figure(test.adjusted),
            words::count(test.pairs as u64, "pair")
        )
    });
    let effect = words::figure(pair.effect);
    match &pair.reason {
        Reason::Nothing => String::new(),
        Reason::Exact => {
            format!("every matching replay has the same bits in {references}, so any other bit counts")
        }
        Reason::Test => tested,
        Reason::Tied => format!(
            "the replays of both are equally far to the last digit in every comparison ({references}), so they are the \
             same replay and nothing can tell them apart"
        ),
        Reason::Excluded(excluded) => {
            format!("{}; {effect}× was asked for; {tested}", seen(pair, *excluded))
        }
        Reason::Averages => {
            let least = pair.sides.iter().map(|side| side.least).fold(f64::INFINITY, f64::min);
            format!(
                "the smaller quotient is {}, and only averages over references are stored, so nothing can be tested; \
                 distances by reference would do",
                words::figure(least)
            )
        }
        Reason::OneSided(member) => {
            format!("only {} evidence could be compared, and both sides are needed", pair.name(*member))
        }
        Reason::TooFew(needed) => {
            format!("{}; {tested}; no such p-value is small enough below {}", leaning(pair), enough(*needed))
        }
        Reason::Open(needed) => {
            let open = match pair.excluded {
                Some(excluded) => format!("{}, and {effect}× was asked for", seen(pair, excluded)),
                None => format!("nothing of {effect}× is excluded, which takes {} at least", enough(*needed)),
            };
            format!("{}; {tested}; {open}", leaning(pair))
        }
    }
}

/// The smallest difference that would have been seen.
fn seen(pair: &ReplaysOfPair<'_>, excluded: Excluded) -> String {
    let by = excluded.member.map_or(String::new(), |member| format!(" by {} evidence", pair.name(member)));
    format!("a distance of {}× the pair's own floor would have been seen{by}", words::figure(excluded.factor))
}

/// Which way the comparisons point.
fn leaning(pair: &ReplaysOfPair<'_>) -> String {
    let sides = if pair.repeated { &pair.sides[..pair.sides.len().min(1)] } else { &pair.sides[..] };
    let (near, of) = sides.iter().fold((0, 0), |sum, side| (sum.0 + side.near, sum.1 + side.of));
    let least = sides.iter().map(|side| side.least).fold(f64::INFINITY, f64::min);
    format!(
        "the other lies farther in {} of {of} comparisons, the least {} times as far",
        of - near,
        words::figure(least)
    )
}

/// What would be enough.
pub(super) fn enough(needed: Needed) -> String {
    match needed {
        Needed::References(n) => words::count(n, "reference"),
        Needed::Repetitions { each, references } => {
            format!("{each} different repetitions of each setup on {}", words::count(references, "reference"))
        }
    }
}
