//! Tokens behind stored distances: as a file states them, and as its distances show that they part.
//!
//! Left out: anything that needs the ids of runs whose signals are stored (`tokens`).

use mantissa_evidence::verification::CellDistance;
use mantissa_numerics::Phase;

use super::input::Evidence;
use super::stored::Stored;
use super::words;
use crate::analysis::{Signal, TokenBasis, TokenConsistency};

/// A reference on which a verifier without noise shows that setups emitted other tokens.
///
/// The verifier replays the tokens of the claim. Where it computes the claim's bits exactly, the distance of claim *a* from
/// setup *b* is the distance of two sequences of signals that does not depend on which of them is claimed, unless *a* and
/// *b* emitted other tokens. Distances between vectors are symmetric to the bit; those between log-probabilities are
/// not, since they look the row's candidates up in the column, so they prove nothing here.
pub(super) struct Divergence {
    pub(super) phase: Phase,
    pub(super) reference: String,
    /// Setups by distances that are the same both ways.
    groups: Vec<Vec<usize>>,
    /// Pairs that differ, pairs compared, the largest difference, and the pair it belongs to, per signal.
    uneven: Vec<Uneven>,
}

struct Uneven {
    signal: Signal,
    pairs: usize,
    of: usize,
    largest: f64,
    at: (usize, usize),
}

impl Divergence {
    /// Whether two setups are shown to have emitted other tokens.
    pub(super) fn parts(&self, phase: Phase, reference: Option<&String>, a: usize, b: usize) -> bool {
        self.phase == phase
            && reference == Some(&self.reference)
            && !self.groups.iter().any(|group| group.contains(&a) && group.contains(&b))
    }

    pub(super) fn sentence(&self, stored: &Stored<'_>) -> String {
        let values = &stored.verification.values;
        let named = |group: &Vec<usize>| group.iter().map(|&index| values[index].clone()).collect();
        let groups: Vec<Vec<String>> = self.groups.iter().map(named).collect();
        let counts: Vec<String> = self
            .uneven
            .iter()
            .map(|one| format!("{} in {} of {} pairs", words::signal_name(one.signal), one.pairs, one.of))
            .collect();
        let largest = self.uneven.iter().find(|one| one.signal != Signal::Logprobs);
        let largest = largest.map_or(String::new(), |one| {
            let (a, b) = one.at;
            format!(
                " (they differ by up to {}, for {} and {})",
                words::figure(one.largest),
                values[a],
                values[b]
            )
        });
        format!(
            "{} is divergent in {}, although the file states no tokens: matching replays are exactly 0 away, so a distance \
             must be the same both ways where tokens are the same, but distances of {} are not{largest}; the outputs part \
             into at least {}, and its {} distances are left out of averages.",
            self.reference,
            self.phase.name(),
            words::list(&counts),
            words::classes(&groups),
            self.phase.name()
        )
    }

    /// The cells that show it, both ways, the farthest pair of each signal.
    pub(super) fn cells<'a>(&self, stored: &Stored<'a>) -> Vec<&'a CellDistance> {
        let of_pair = |one: &Uneven| {
            let (a, b) = one.at;
            let lane = (self.phase, one.signal);
            [(a, b), (b, a)].map(|(row, column)| stored.cell(lane, Some(&self.reference), row, column))
        };
        self.uneven.iter().flat_map(of_pair).flatten().collect()
    }
}

/// Finds references on which distances of vectors differ from one way to the other.
pub(super) fn diverged(stored: &Stored<'_>) -> Vec<Divergence> {
    let mut found: Vec<Divergence> = Vec::new();
    for phase in [Phase::Prefill, Phase::Decode] {
        let lanes: Vec<_> = stored.lanes.iter().copied().filter(|lane| lane.0 == phase).collect();
        let references =
            super::setups::in_order(lanes.iter().flat_map(|&lane| stored.references(lane)).flatten());
        for reference in references {
            let uneven: Vec<Uneven> =
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

fn uneven(stored: &Stored<'_>, lane: (Phase, Signal), reference: &String) -> Option<Uneven> {
    let mut found = Uneven { signal: lane.1, pairs: 0, of: 0, largest: -1.0, at: (0, 0) };
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
pub(super) fn tokens(evidence: &Evidence<'_>) -> Vec<TokenConsistency> {
    let references = super::setups::in_order(evidence.tokens.iter().map(|one| one.reference.clone()));
    let consistency = references.into_iter().map(|reference| {
        let stated: Vec<_> = evidence.tokens.iter().filter(|one| one.reference == reference).collect();
        let by_ids = stated.iter().all(|one| !one.ids.is_empty());
        let grouped = if by_ids {
            let outputs: Vec<_> = stated.iter().map(|one| (one.value.as_str(), one.ids.as_slice())).collect();
            super::tokens::grouped(&outputs)
        } else {
            // Whole texts: where they part in bytes is no index into ids, nor is what a shorter one lacks.
            let texts = stated.iter().map(|one| (one.value.as_str(), [one.text.as_str()]));
            let texts: Vec<(&str, [&str; 1])> = texts.collect();
            let outputs: Vec<_> = texts.iter().map(|(value, text)| (*value, text.as_slice())).collect();
            super::tokens::Grouped { part_at: None, ..super::tokens::grouped(&outputs) }
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
