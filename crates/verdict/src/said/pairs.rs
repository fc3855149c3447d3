//! Sentences about verdicts on pairs: one pair by several signals, or many pairs summed up.

use super::{place, words};
use crate::analysis::{Answer, Comparison, PairVerdict, Tier};
use crate::found::{Pairs, Wording};

/// Up to this many pairs are named in a summary.
const NAMED: usize = 10;

/// The pairs among which some are summed up.
#[derive(Clone, Copy)]
struct Family {
    of: usize,
    /// Those with a p-value.
    tested: usize,
}

/// Verdicts of one answer, in one sentence.
pub(super) fn pairs(found: &Pairs<'_>) -> String {
    let at = place::place(found.place);
    match found.told {
        Wording::Once => said_once(found.verdicts, &at).unwrap_or_else(|| said_in_turn(found.verdicts)),
        Wording::SummedUp { of, tested, caveat } => {
            summed_up(found.verdicts, Family { of, tested }, &at, &place::caveat(caveat))
        }
    }
}

/// The sentence of the first signal, and what the others say beside it.
fn said_in_turn(together: &[&PairVerdict]) -> String {
    let Some((first, others)) = together.split_first() else { return String::new() };
    let others: Vec<String> = others
        .iter()
        .map(|one| {
            let rows = one.rows.filter(|rows| rows.different > 0).map(|rows| {
                let compared = rows.equal + rows.different;
                format!("{} of {} differ", rows.different, words::count(compared, "row"))
            });
            let distance = one.distance.map(|distance| format!("by {}", words::figure(distance)));
            let facts: Vec<String> = rows.into_iter().chain(distance).collect();
            let facts = if facts.is_empty() { String::new() } else { format!(" ({})", facts.join(", ")) };
            format!("{}{facts}", words::lane(one.phase, one.signal))
        })
        .collect();
    if others.is_empty() {
        return first.sentence.clone();
    }
    format!("{} The same holds by {}.", first.sentence, words::list(&others))
}

/// One sentence for the verdicts on one pair by several signals; `None` where they have no common measure.
fn said_once(together: &[&PairVerdict], place: &str) -> Option<String> {
    let first = together.first().filter(|_| together.len() > 1)?;
    let verb = verb(first.answer);
    let ratios = together
        .iter()
        .map(|one| Some(format!("{} {}×", words::lane(one.phase, one.signal), words::figure(one.ratio?))));
    let ratios = ratios.collect::<Option<Vec<_>>>()?;
    let reason = match first.tier {
        Tier::Aggregate if first.n == 0 => AVERAGES.to_owned(),
        Tier::Statistical => {
            let p_values = together.iter().filter_map(|one| one.p_adjusted);
            let (end, bound) = match first.answer {
                Answer::Separable => ("at most", p_values.reduce(f64::max)?),
                _ => ("at least", p_values.reduce(f64::min)?),
            };
            let fewest = together.iter().map(|one| one.n).min().unwrap_or(0);
            let seen = together.iter().filter_map(|one| one.ratio_bound).reduce(f64::max);
            let seen = seen.filter(|_| first.answer == Answer::NotSeparable).map_or(String::new(), |bound| {
                format!("; a distance of {}× its own floor would have been seen", words::figure(bound))
            });
            format!(
                "{seen}; Holm-corrected p is {end} {} over {}",
                words::figure(bound),
                words::count(fewest, "reference")
            )
        }
        Tier::Aggregate | Tier::Exact | Tier::None => return None,
    };
    let (a, b) = (&first.a, &first.b);
    let ratios = words::list(&ratios);
    Some(format!(
        "{a} and {b} {verb} {place}: distances in units of the pair's own floor are {ratios}{reason}."
    ))
}

const fn verb(answer: Answer) -> &'static str {
    match answer {
        Answer::Separable | Answer::Identical => "can be told apart",
        Answer::NotSeparable => "cannot be told apart",
        Answer::Inconclusive => "are shown neither to differ nor to agree",
        Answer::Incomparable => "cannot be compared",
    }
}

const AVERAGES: &str = "; only averages over references are stored, so nothing can be tested";

/// `1.00×`, or `1.00× to 1.40×`.
fn spread(values: impl Iterator<Item = f64> + Clone, unit: &str) -> Option<String> {
    let low = words::figure(values.clone().reduce(f64::min)?);
    let high = words::figure(values.reduce(f64::max)?);
    Some(if low == high { format!("{low}{unit}") } else { format!("{low}{unit} to {high}{unit}") })
}

fn summed_up(alike: &[&PairVerdict], family: Family, place: &str, caveat: &str) -> String {
    let first = alike[0];
    let (lane, of) = (words::lane(first.phase, first.signal), family.of);
    let distances = spread(alike.iter().filter_map(|one| one.distance), "");
    if first.comparison == Comparison::CrossHardwareBaseline {
        let by = distances.map_or(String::new(), |distances| format!(", by {distances} on average"));
        let does = match first.answer {
            Answer::Separable | Answer::Identical => "differ",
            Answer::NotSeparable => "differ no more than repetitions of one of them",
            Answer::Inconclusive => "are not shown to agree or to differ",
            Answer::Incomparable => "cannot be compared",
        };
        return format!(
            "The same setup on two machines, by {lane}: {} of {of} pairs {does} {place}{by}{caveat}.",
            alike.len()
        );
    }
    let verb = verb(first.answer);
    let ratios = spread(alike.iter().filter_map(|one| one.ratio), "×")
        .map(|ratios| format!("; distances in units of each pair's own floor: {ratios}"));
    let how_far = ratios.or_else(|| distances.map(|distances| format!("; mean distances: {distances}")));
    let names: Vec<String> = alike.iter().map(|one| format!("{} and {}", one.a, one.b)).collect();
    let names = if names.len() > NAMED { String::new() } else { format!(": {}", names.join("; ")) };
    format!(
        "By {lane} {place}, {} of {of} pairs {verb}{}{}{caveat}{names}.",
        alike.len(),
        how_far.unwrap_or_default(),
        reason(alike, family)
    )
}

/// What the answers of a summary rest on: p-values, an excluded difference, or averages.
fn reason(alike: &[&PairVerdict], family: Family) -> String {
    let first = alike[0];
    let fewest = alike.iter().map(|one| one.n).min().unwrap_or(0);
    let references = words::count(fewest, "reference");
    let p_values = alike.iter().filter_map(|one| one.p_adjusted);
    match (first.tier, first.answer) {
        (Tier::Aggregate, _) if fewest == 0 => AVERAGES.to_owned(),
        (Tier::Statistical, Answer::Separable) => p_values.reduce(f64::max).map_or(String::new(), |p| {
            format!("; Holm-corrected p is at most {} over {references} or more", words::figure(p))
        }),
        (Tier::Statistical, Answer::Inconclusive) => p_values.reduce(f64::min).map_or(String::new(), |p| {
            let needed = alike.iter().filter_map(|one| one.needed).max();
            let needed = needed.map_or(String::new(), |needed| {
                format!("; at least {} are needed", super::replays::enough(needed))
            });
            format!(
                "; Holm-corrected p for {} is at least {} over {references} or more{needed}",
                words::count(family.tested as u64, "pair"),
                words::figure(p)
            )
        }),
        (Tier::Statistical, Answer::NotSeparable) => {
            let bounds = alike.iter().filter_map(|one| one.ratio_bound);
            bounds.reduce(f64::max).map_or(String::new(), |bound| {
                format!(
                    "; a distance of {}× each pair's own floor would have been seen ({references} or more)",
                    words::figure(bound)
                )
            })
        }
        _ => String::new(),
    }
}
