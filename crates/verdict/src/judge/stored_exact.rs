//! Stored distances that tell bits: verdicts on pairs, and classes.

use std::collections::BTreeMap;

use mantissa_evidence::verification::{CellDistance, Relation};
use mantissa_numerics::Phase;

use super::distances::Stored;
use super::measure::Lane;
use super::options::Options;
use super::parts::{FoundClasses, Parts};
use super::values::{is_zero, mean};
use super::{classes, statistics};
use crate::analysis::{Answer, Comparison, PairVerdict, Signal, Tier};
use crate::found::{Caveat, DistancesOfPair, HonestUnits, SameBy, Scope, Unplaced, Unshown};
use crate::{Result, said};

/// The exact tier: zero is equal bits, anything else is other bits.
pub(super) fn add(stored: &Stored<'_>, options: &Options, parts: &mut Parts) -> Result<()> {
    let verification = stored.verification;
    let mut by_phase: BTreeMap<Phase, Vec<Signal>> = BTreeMap::new();
    for &(phase, signal) in &stored.lanes {
        by_phase.entry(phase).or_default().push(signal);
    }
    let (mut verdicts, mut unshown) = (Vec::new(), Unshown::Nothing);
    for &lane in &stored.lanes {
        verdicts.extend(stored.pairs().into_iter().filter_map(|(a, b)| exact_pair(stored, lane, a, b)));
    }
    for (phase, signals) in by_phase {
        let answer = |a: usize, b: usize| {
            let (a, b) = (&verification.values[a], &verification.values[b]);
            let of_pair: Vec<Answer> = verdicts
                .iter()
                .filter(|one| one.phase == phase && one.a == *a && one.b == *b)
                .map(|one| one.answer)
                .collect();
            (of_pair.len() == signals.len()).then_some(of_pair)
        };
        let equal = |a: usize, b: usize| {
            let answers = answer(a, b)?;
            if answers.contains(&Answer::Separable) {
                Some(false)
            } else {
                answers.iter().all(|&answer| answer == Answer::Identical).then_some(true)
            }
        };
        let mut groups = classes::group(&verification.values, equal);
        for (value, why) in &mut groups.unplaced {
            if stored.values().any(|index| verification.values[index] == *value && stored.noisy(phase, index))
            {
                *why = Unplaced::DoesNotRepeat;
            }
        }
        // What is said of all classes holds over the references of the pair that shares the fewest.
        let of_phase = verdicts.iter().filter(|one| one.phase == phase);
        let references = of_phase.map(|one| one.n).filter(|&n| n > 0).min().unwrap_or(0);
        let both_ways = stored.pairs().into_iter().all(|(a, b)| {
            let stands = |row, column| {
                let cells = verification.cells.keys().filter(|key| key.phase == phase);
                cells.filter(|key| (key.claimed, key.verified) == (row, column)).count()
            };
            stands(a, b) == stands(b, a)
        });
        let of_phase = stored.pairs().into_iter().map(|(a, b)| stored.unshown(phase, [a, b]));
        let of_phase = of_phase.max().unwrap_or_default();
        unshown = unshown.max(of_phase);
        let cells = verification.cells.iter().filter(|(key, _)| key.phase == phase).map(|(_, cell)| cell);
        parts.add_classes(FoundClasses {
            phase,
            signals,
            scope: Scope::Values {
                variable: verification.variable.clone(),
                gpu: verification.generator.gpu.clone(),
            },
            classes: groups.classes,
            unplaced: groups.unplaced,
            basis: SameBy::Zeros { both_ways },
            references,
            told_apart: groups.told_apart,
            unshown: of_phase,
            citations: stored.cite(cells.take(1)),
        });
    }
    parts.add_pairs(verdicts, &stored.place(), &Caveat { versions: Vec::new(), unshown });
    let mut honest: BTreeMap<(Option<&String>, usize), bool> = BTreeMap::new();
    for (key, cell) in verification.cells.iter().filter(|(key, _)| key.claimed == key.verified) {
        let alarm = honest.entry((key.reference.as_ref(), key.claimed)).or_default();
        *alarm |= !is_zero(cell.mean);
    }
    if !honest.is_empty() && verification.relation == Relation::ClaimedVerified {
        let alarms = honest.values().filter(|alarm| **alarm).count() as u64;
        let of = said::honest_units(&HonestUnits::Replays {
            variable: verification.variable.clone(),
            gpu: verification.verifier.gpu.clone(),
        });
        parts.bounds.push(statistics::bound(of, honest.len() as u64, alarms, options.confidence)?);
        parts.thresholds.insert("confidence");
    }
    Ok(())
}

fn exact_pair(stored: &Stored<'_>, lane: Lane, a: usize, b: usize) -> Option<PairVerdict> {
    let verification = stored.verification;
    let (mut n, mut incomparable, mut differing) = (0, 0, 0);
    let (mut distances, mut cells, mut left) = (Vec::new(), Vec::new(), Vec::new());
    let mut not_averaged = Vec::new();
    for reference in stored.references(lane) {
        let reference = reference.as_ref();
        let both: Vec<&CellDistance> = [(a, b), (b, a)]
            .into_iter()
            .filter_map(|(row, column)| stored.cell(lane, reference, row, column))
            .collect();
        if both.is_empty() {
            continue;
        }
        if stored.tokens_part(lane.0, reference, a, b) || both.iter().any(|cell| !cell.mean.is_finite()) {
            incomparable += 1;
            left.extend(both);
            continue;
        }
        n += 1;
        differing += u64::from(both.iter().any(|cell| !is_zero(cell.mean)));
        // Each distance is over the tokens of its own claim, so it tells bits; an average over other texts tells
        // nothing.
        if stored.diverged.iter().any(|one| one.parts(lane.0, reference, a, b)) {
            not_averaged.extend(reference.cloned());
        } else {
            distances.extend(mean(&both.iter().map(|cell| cell.mean).collect::<Vec<_>>()));
        }
        cells.extend(both);
    }
    if n + incomparable == 0 {
        return None;
    }
    let noisy: Vec<String> = [a, b]
        .into_iter()
        .filter(|&index| stored.noisy(lane.0, index))
        .map(|index| stored.name(index))
        .collect();
    let distance = mean(&distances);
    let found = DistancesOfPair {
        a: stored.name(a),
        b: stored.name(b),
        phase: lane.0,
        signal: lane.1,
        gpu: verification.generator.gpu.clone(),
        references: n,
        differing,
        distance,
        incomparable,
        not_averaged,
        noisy,
        unshown: stored.unshown(lane.0, [a, b]),
    };
    let answer = found.answer();
    Some(PairVerdict {
        comparison: Comparison::WithinHardware,
        a: verification.values[a].clone(),
        b: verification.values[b].clone(),
        phase: lane.0,
        signal: lane.1,
        answer,
        // Other bits of single runs may be noise: only zeros speak for themselves.
        tier: match answer {
            Answer::Identical => Tier::Exact,
            Answer::Separable if found.unshown == Unshown::Nothing => Tier::Exact,
            _ => Tier::None,
        },
        distance,
        floor: None,
        ratio: None,
        interval: None,
        ratio_bound: None,
        needed: None,
        p_value: None,
        p_adjusted: None,
        n,
        incomparable,
        rows: None,
        sentence: said::distances_of_pair(&found),
        citations: stored.cite(if n == 0 { left } else { cells }),
    })
}
