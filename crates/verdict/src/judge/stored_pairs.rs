//! Pairs of setups by stored distances that do not tell bits.
//!
//! Left out: how such a pair is judged (`separation`).

use mantissa_evidence::verification::{CellDistance, Relation};

use super::distances::Stored;
use super::measure::Lane;
use super::parts::Parts;
use super::separation::{Candidate, Direction, Unit};
use super::values::{is_zero, mean};
use crate::analysis::{Answer, Comparison, PairVerdict, Tier};
use crate::found::{Caveat, FloorOf, Member, OmittedReferences, Place, SameSetup, Unshown};
use crate::said;

/// What lies between the same setup on two machines.
pub(super) fn baselines(stored: &Stored<'_>, parts: &mut Parts) {
    let verification = stored.verification;
    if verification.relation != Relation::ClaimedVerified || stored.same_machine() {
        return;
    }
    let (here, there) = (&verification.generator.gpu, &verification.verifier.gpu);
    let mut verdicts = Vec::new();
    for &lane in &stored.lanes {
        for value in stored.values() {
            let references = stored.references(lane);
            let averages_only = references.iter().all(Option::is_none);
            let cells: Vec<&CellDistance> = references
                .iter()
                .filter_map(|reference| stored.finite(lane, reference.as_ref(), value, value))
                .collect();
            let Some(distance) = mean(&cells.iter().map(|cell| cell.mean).collect::<Vec<_>>()) else {
                continue;
            };
            let n = if averages_only { 0 } else { cells.len() as u64 };
            let same = cells.iter().all(|cell| is_zero(cell.mean));
            let found = SameSetup {
                name: stored.name(value),
                phase: lane.0,
                signal: lane.1,
                here: here.clone(),
                there: there.clone(),
                distance,
                same,
                references: (!averages_only).then_some(n),
                versions: stored.versions(),
            };
            verdicts.push(PairVerdict {
                comparison: Comparison::CrossHardwareBaseline,
                a: format!("{}@{here}", verification.values[value]),
                b: format!("{}@{there}", verification.values[value]),
                phase: lane.0,
                signal: lane.1,
                answer: if same { Answer::Identical } else { Answer::Separable },
                // Whether either machine repeats itself is not shown, so other bits prove nothing by themselves.
                tier: match (averages_only, same) {
                    (true, _) => Tier::Aggregate,
                    (false, true) => Tier::Exact,
                    (false, false) => Tier::None,
                },
                distance: Some(distance),
                floor: None,
                ratio: None,
                interval: None,
                ratio_bound: None,
                needed: None,
                p_value: None,
                p_adjusted: None,
                n,
                incomparable: references.len() as u64 - cells.len() as u64,
                rows: None,
                sentence: said::same_setup(&found),
                citations: stored.cite(cells),
            });
        }
    }
    let caveat = Caveat { versions: stored.versions(), unshown: Unshown::Machines };
    parts.add_pairs(verdicts, &Place::Between(vec![here.clone(), there.clone()]), &caveat);
}

/// Two setups by right and wrong replays, as they are stored.
pub(super) fn candidate(stored: &Stored<'_>, lane: Lane, a: usize, b: usize) -> Candidate {
    let verification = stored.verification;
    let references = stored.references(lane);
    let averages_only = references.iter().all(Option::is_none);
    let (mut units, mut cells, mut left_out, mut left) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for reference in references.iter().map(Option::as_ref) {
        let mut directions = Vec::new();
        // Distances of claims that emitted other tokens are distances of other sequences.
        if !stored.tokens_part(lane.0, reference, a, b) {
            for (member, row, other) in [(Member::A, a, b), (Member::B, b, a)] {
                let (Some(wrong), Some(right)) =
                    (stored.finite(lane, reference, row, other), stored.finite(lane, reference, row, row))
                else {
                    continue;
                };
                let slack = wrong.rounding + right.rounding;
                directions.push((
                    member,
                    Direction {
                        wrong: wrong.mean,
                        right: right.mean,
                        same_bits: [wrong, right].map(|cell| is_zero(cell.mean)),
                        slack,
                    },
                ));
                cells.extend([wrong, right]);
            }
        }
        if directions.is_empty() {
            let cells = [(a, b), (b, a)]
                .into_iter()
                .filter_map(|(row, other)| stored.cell(lane, reference, row, other));
            left.extend(cells);
            left_out.extend(reference.cloned());
        } else {
            units.push(Unit { directions });
        }
    }
    let comparison = match verification.relation {
        Relation::DecodePrefill => Comparison::DecodeByPrefill,
        _ if stored.same_machine() => Comparison::WithinHardware,
        _ => Comparison::CrossHardware,
    };
    Candidate {
        comparison,
        a: verification.values[a].clone(),
        b: verification.values[b].clone(),
        names: [stored.name(a), stored.name(b)],
        phase: lane.0,
        signal: lane.1,
        place: stored.place(),
        noisy: Vec::new(),
        floor_of: FloorOf::MatchingReplays(verification.verifier.gpu.clone()),
        averages_only,
        incomparable: left_out.len() as u64,
        left_out: (!left_out.is_empty()).then_some(OmittedReferences::TokensDiffer(left_out)),
        citations: stored.cite(if units.is_empty() { left } else { cells }),
        units,
        strata: Vec::new(),
    }
}
