//! Tokens behind stored distances: as a file states them, and as its distances show that they diverge.
//!
//! Left out: anything that needs the ids of runs whose signals are stored (`tokens`).

use mantissa_evidence::Verification;
use mantissa_evidence::verification::{CellDistance, Relation};
use mantissa_numerics::Phase;

use super::distances::Stored;
use super::divergence::{Asymmetry, Divergence};
use super::input::Evidence;
use super::options::Options;
use super::setups::in_order;
use super::tokens;
use crate::analysis::{Signal, TokenBasis, TokenConsistency};
use crate::found::DistancesPart;

/// One verification, with the references whose distances show that outputs part.
pub(super) fn stored<'a>(
    evidence: &'a Evidence<'a>,
    verification: &'a Verification,
    options: &Options,
) -> Stored<'a> {
    let mut stored = Stored::new(evidence, verification, options);
    if verification.relation == Relation::ClaimedVerified && stored.tells_bits() {
        stored.diverged = diverged(&stored);
    }
    stored
}

/// What a divergence shows, by the names of setups.
pub(super) fn found<'f>(divergence: &'f Divergence, stored: &Stored<'_>) -> DistancesPart<'f> {
    let name = |index: usize| stored.verification.values[index].clone();
    let largest = divergence.uneven.iter().find(|one| one.signal != Signal::Logprobs);
    DistancesPart {
        reference: &divergence.reference,
        phase: divergence.phase,
        groups: divergence
            .groups
            .iter()
            .map(|group| group.iter().map(|&index| name(index)).collect())
            .collect(),
        uneven: divergence.uneven.iter().map(|one| (one.signal, one.pairs, one.of)).collect(),
        largest: largest.map(|one| (one.largest, [name(one.at.0), name(one.at.1)])),
    }
}

/// The cells that show a divergence, both ways, the farthest pair of each signal.
pub(super) fn cells<'a>(divergence: &Divergence, stored: &Stored<'a>) -> Vec<&'a CellDistance> {
    let of_pair = |one: &Asymmetry| {
        let (a, b) = one.at;
        let lane = (divergence.phase, one.signal);
        [(a, b), (b, a)].map(|(row, column)| stored.cell(lane, Some(&divergence.reference), row, column))
    };
    divergence.uneven.iter().flat_map(of_pair).flatten().collect()
}

/// Finds references on which distances of vectors differ from one way to the other.
fn diverged(stored: &Stored<'_>) -> Vec<Divergence> {
    let mut found: Vec<Divergence> = Vec::new();
    for phase in [Phase::Prefill, Phase::Decode] {
        let lanes: Vec<_> = stored.lanes.iter().copied().filter(|lane| lane.0 == phase).collect();
        let references = in_order(lanes.iter().flat_map(|&lane| stored.references(lane)).flatten());
        for reference in references {
            let uneven: Vec<Asymmetry> =
                lanes.iter().filter_map(|&lane| uneven(stored, lane, &reference)).collect();
            if uneven.iter().all(|one| one.signal == Signal::Logprobs) {
                continue;
            }
            let alike = |a: usize, b: usize| {
                let vectors = lanes.iter().filter(|lane| lane.1 != Signal::Logprobs);
                vectors
                    .copied()
                    .all(|lane| both_ways(stored, lane, &reference, a, b).is_some_and(|(x, y)| same(x, y)))
            };
            let mut groups: Vec<Vec<usize>> = Vec::new();
            for value in stored.values() {
                match groups.iter_mut().find(|group| group.iter().all(|&member| alike(member, value))) {
                    Some(group) => group.push(value),
                    None => groups.push(vec![value]),
                }
            }
            found.push(Divergence { phase, reference, groups, uneven });
        }
    }
    found
}

fn same(x: f64, y: f64) -> bool {
    x.total_cmp(&y).is_eq()
}

fn both_ways(
    stored: &Stored<'_>,
    lane: (Phase, Signal),
    reference: &String,
    a: usize,
    b: usize,
) -> Option<(f64, f64)> {
    let there = stored.cell(lane, Some(reference), a, b)?.mean;
    Some((there, stored.cell(lane, Some(reference), b, a)?.mean))
}

fn uneven(stored: &Stored<'_>, lane: (Phase, Signal), reference: &String) -> Option<Asymmetry> {
    let mut found = Asymmetry { signal: lane.1, pairs: 0, of: 0, largest: -1.0, at: (0, 0) };
    let end = stored.values().end;
    for (a, b) in stored.values().flat_map(|a| (a + 1..end).map(move |b| (a, b))) {
        let Some((there, back)) = both_ways(stored, lane, reference, a, b) else { continue };
        found.of += 1;
        if same(there, back) {
            continue;
        }
        found.pairs += 1;
        let difference = (there - back).abs();
        if difference > found.largest {
            (found.largest, found.at) = (difference, (a, b));
        }
    }
    (found.pairs > 0).then_some(found)
}

/// Groups of equal output tokens that a file states beside its distances.
pub(super) fn stated(evidence: &Evidence<'_>) -> Vec<TokenConsistency> {
    let references = in_order(evidence.tokens.iter().map(|one| one.reference.clone()));
    let consistency = references.into_iter().map(|reference| {
        let stated: Vec<_> = evidence.tokens.iter().filter(|one| one.reference == reference).collect();
        let by_ids = stated.iter().all(|one| !one.ids.is_empty());
        let grouped = if by_ids {
            let outputs: Vec<_> = stated.iter().map(|one| (one.value.as_str(), one.ids.as_slice())).collect();
            tokens::grouped(&outputs)
        } else {
            // Whole texts: where they part in bytes is no index into ids, nor is what a shorter one lacks.
            let texts = stated.iter().map(|one| (one.value.as_str(), [one.text.as_str()]));
            let texts: Vec<(&str, [&str; 1])> = texts.collect();
            let outputs: Vec<_> = texts.iter().map(|(value, text)| (*value, text.as_slice())).collect();
            tokens::Grouped { part_at: None, ..tokens::grouped(&outputs) }
        };
        TokenConsistency {
            reference,
            groups: grouped.groups,
            part_at: grouped.part_at,
            stopped: grouped.stopped,
            basis: match (stated.len(), by_ids) {
                (0 | 1, _) => TokenBasis::Unknown,
                (_, true) => TokenBasis::Ids,
                (_, false) => TokenBasis::Declared,
            },
            citations: stated.iter().map(|one| evidence.cite(one.place.clone())).collect(),
        }
    });
    consistency.collect()
}
