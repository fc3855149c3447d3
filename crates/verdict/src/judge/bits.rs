//! Verdicts on two setups by bits of their signals.

use super::facts::{Summary, cite};
use super::measure::Lane;
use super::recorded::Recorded;
use crate::analysis::{Answer, Comparison, Floor, PairVerdict, Tier};
use crate::found::{BitsOfPair, FirstRow, FloorOf, Noise};
use crate::said;

/// A verdict by bits.
pub(super) fn exact(
    recorded: &Recorded<'_>,
    comparison: Comparison,
    pair: (usize, usize),
    lane: Lane,
    summary: &Summary,
) -> PairVerdict {
    let found = found(recorded, comparison, pair, lane, summary);
    let sentence = said::bits_of_pair(&found);
    let tier = if found.rows.compared() > 0 { Tier::Exact } else { Tier::None };
    verdict(recorded, (comparison, pair), summary, found, tier, sentence)
}

/// A pair whose repetitions differ and are not stored: there is no floor to set its distance against.
pub(super) fn without_floor(
    recorded: &Recorded<'_>,
    comparison: Comparison,
    (a, b): (usize, usize),
    lane: Lane,
    summary: &Summary,
) -> PairVerdict {
    let stated: Vec<(usize, f64)> = [a, b]
        .into_iter()
        .filter_map(|setup| Some((setup, *recorded.repeats.stated.get(&(setup, lane.0))?)))
        .collect();
    let floor = stated.iter().map(|&(_, distance)| distance).reduce(f64::max).map(|distance| Floor {
        mean: distance,
        max: distance,
        n: 1,
        of: said::floor_of(&FloorOf::StatedRepetitions),
    });
    let ratio = summary
        .distance
        .zip(floor.as_ref().map(|floor| floor.mean))
        .filter(|(_, floor)| *floor > 0.0)
        .map(|(distance, floor)| distance / floor)
        .filter(|ratio| ratio.is_finite());
    let noise = Noise {
        noisy: recorded.noisy(&[a, b], lane.0),
        stated: stated
            .iter()
            .map(|&(setup, distance)| (recorded.label(setup).to_owned(), distance))
            .collect(),
    };
    let found = found(recorded, comparison, (a, b), lane, summary);
    let sentence = said::bits_beside_noise(&found, &noise);
    let verdict = verdict(recorded, (comparison, (a, b)), summary, found, Tier::None, sentence);
    PairVerdict { answer: Answer::Inconclusive, floor, ratio, ..verdict }
}

fn found(
    recorded: &Recorded<'_>,
    comparison: Comparison,
    (a, b): (usize, usize),
    lane: Lane,
    summary: &Summary,
) -> BitsOfPair {
    // In the first reference that has one.
    let first = summary.compared.iter().find_map(|&prompt| {
        let (site, step, position) = recorded.facts.measured(a, b, prompt, lane)?.first?;
        Some(FirstRow { reference: recorded.setups.prompts[prompt].clone(), site, step, position })
    });
    BitsOfPair {
        a: recorded.label(a).to_owned(),
        b: recorded.label(b).to_owned(),
        phase: lane.0,
        signal: lane.1,
        place: recorded.place(comparison, (a, b)),
        state: summary.state(),
        references: summary.compared.len() as u64,
        distance: summary.distance,
        first,
        parted: recorded.parted(summary),
        rows: recorded.rows((a, b), summary),
        unshown: recorded.repeats.unshown(&[a, b], lane.0),
    }
}

fn verdict(
    recorded: &Recorded<'_>,
    (comparison, (a, b)): (Comparison, (usize, usize)),
    summary: &Summary,
    found: BitsOfPair,
    tier: Tier,
    sentence: String,
) -> PairVerdict {
    let over = if found.rows.compared() > 0 { &summary.compared } else { &summary.incomparable };
    PairVerdict {
        comparison,
        answer: found.answer(),
        a: found.a,
        b: found.b,
        phase: found.phase,
        signal: found.signal,
        tier,
        distance: found.distance,
        floor: None,
        ratio: None,
        interval: None,
        ratio_bound: None,
        needed: None,
        p_value: None,
        p_adjusted: None,
        n: found.references,
        incomparable: summary.incomparable.len() as u64,
        rows: Some(summary.counts),
        sentence,
        citations: cite(&recorded.setups, &[a, b], over),
    }
}
