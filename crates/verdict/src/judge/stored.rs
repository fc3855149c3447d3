//! Judgement on distances that others measured, without the signals.
//!
//! Where rows and columns come from one machine and every matching replay is exactly 0 away, distances tell bits:
//! the exact tier. Elsewhere each pair has the distances of its matching replays as its own floor. Left out:
//! anything that needs a signal.

use std::collections::{BTreeMap, BTreeSet};

use mantissa_evidence::Verification;
use mantissa_evidence::verification::{CellDistance, CellKey, Relation};
use mantissa_numerics::Phase;

use super::input::Evidence;
use super::measure::Lane;
use super::options::Options;
use super::parts::Parts;
use super::separation::{Candidate, Claim, Direction, Unit, settle};
use super::stored_tokens::{self, Divergence};
use super::{statistics, stored_matrix, weights, words};
use crate::Result;
use crate::analysis::{Answer, Citation, ClassSet, Comparison, FindingKind, PairVerdict, Signal, Tier};

/// One verification with what its file says beside it.
pub(super) struct Stored<'a> {
    pub(super) evidence: &'a Evidence<'a>,
    pub(super) verification: &'a Verification,
    pub(super) lanes: Vec<Lane>,
    /// The setup that pairs start with, where one was asked for.
    reference: Option<usize>,
    /// References whose distances show that setups emitted other tokens.
    pub(super) diverged: Vec<Divergence>,
}

impl<'a> Stored<'a> {
    pub(super) fn new(evidence: &'a Evidence<'a>, verification: &'a Verification, options: &Options) -> Self {
        let mut lanes: Vec<Lane> = verification
            .cells
            .keys()
            .filter_map(|key| Some((key.phase, words::signal_of(&key.signal)?)))
            .filter(|&(_, signal)| options.wants(signal))
            .collect();
        lanes.sort_unstable();
        lanes.dedup();
        let reference = options.reference.as_ref();
        let reference =
            reference.and_then(|asked| verification.values.iter().position(|value| value == asked));
        let mut stored = Self { evidence, verification, lanes, reference, diverged: Vec::new() };
        if verification.relation == Relation::ClaimedVerified && stored.tells_bits() {
            stored.diverged = stored_tokens::diverged(&stored);
        }
        stored
    }

    /// References of a lane; `None` stands for an average over references.
    pub(super) fn references(&self, lane: Lane) -> Vec<Option<String>> {
        let keys = self.verification.cells.keys().filter(|key| of_lane(key, lane));
        super::setups::in_order(keys.map(|key| key.reference.clone()))
    }

    pub(super) fn cell(
        &self,
        lane: Lane,
        reference: Option<&String>,
        claimed: usize,
        verified: usize,
    ) -> Option<&'a CellDistance> {
        self.verification.cells.get(&CellKey {
            phase: lane.0,
            signal: words::signal_key(lane.1).to_owned(),
            reference: reference.cloned(),
            claimed,
            verified,
        })
    }

    /// A cell with a finite distance.
    fn finite(
        &self,
        lane: Lane,
        reference: Option<&String>,
        claimed: usize,
        verified: usize,
    ) -> Option<&'a CellDistance> {
        self.cell(lane, reference, claimed, verified).filter(|cell| cell.mean.is_finite())
    }

    /// Whether the distances of two setups on a reference are known to be over other tokens.
    pub(super) fn tokens_part(&self, phase: Phase, reference: Option<&String>, a: usize, b: usize) -> bool {
        let outputs = |index: usize| {
            let value = &self.verification.values[index];
            let mut stated = self.evidence.tokens.iter().filter(|one| one.consumed_by.contains(&phase));
            let found = stated.find(|one| Some(&one.reference) == reference && one.value == *value)?;
            Some((&found.ids, &found.text))
        };
        outputs(a).zip(outputs(b)).is_some_and(|(a, b)| a != b)
    }

    /// What has to be said of bits that were seen once: nothing where matching replays or repetitions are shown.
    fn caveat(&self, phase: Phase, pair: [usize; 2]) -> &'static str {
        let repeated = |index: usize| {
            let value = &self.verification.values[index];
            self.evidence.repeats.iter().any(|one| one.setup == *value && one.phase == phase)
        };
        if self.verification.relation == Relation::ClaimedVerified || pair.into_iter().all(repeated) {
            ""
        } else {
            "; that a run repeats itself to the bit, the file does not show"
        }
    }

    /// Whether the file states that a setup does not repeat itself.
    fn noisy(&self, phase: Phase, index: usize) -> bool {
        let stated = self.evidence.repeats.iter();
        let mut of_setup =
            stated.filter(|one| one.setup == self.verification.values[index] && one.phase == phase);
        of_setup.any(|one| one.distances.iter().any(|&distance| !is_zero(distance)))
    }

    /// Where and how, in a sentence.
    fn context(&self) -> String {
        let (here, there) = (&self.verification.generator.gpu, &self.verification.verifier.gpu);
        match self.verification.relation {
            Relation::DecodePrefill => format!("of decode evidence replayed by prefill on {there}"),
            Relation::WithinMode | Relation::ClaimedVerified if self.same_machine() => format!("on {there}"),
            Relation::WithinMode | Relation::ClaimedVerified => format!("across {here} and {there}"),
        }
    }

    fn same_machine(&self) -> bool {
        self.verification.generator.gpu == self.verification.verifier.gpu
            && self.verification.mismatches.is_empty()
    }

    /// Whether distances tell bits: matching replays on the same machine are all exactly 0 away.
    fn tells_bits(&self) -> bool {
        match self.verification.relation {
            Relation::WithinMode => true,
            Relation::DecodePrefill => false,
            Relation::ClaimedVerified => {
                let mut diagonal =
                    self.verification.cells.iter().filter(|(key, _)| key.claimed == key.verified).peekable();
                self.same_machine()
                    && diagonal.peek().is_some()
                    && diagonal.all(|(_, cell)| is_zero(cell.mean))
            }
        }
    }

    pub(super) fn values(&self) -> std::ops::Range<usize> {
        0..self.verification.values.len()
    }

    /// What a setup is called in a sentence: `batch_size 4`, `sdpa`.
    fn name(&self, index: usize) -> String {
        let value = &self.verification.values[index];
        let number = value.parse::<f64>().is_ok();
        if number { format!("{} {value}", self.verification.variable) } else { value.clone() }
    }

    fn cite(&self, cells: impl IntoIterator<Item = &'a CellDistance>) -> Vec<Citation> {
        super::setups::in_order(cells.into_iter().map(|cell| self.evidence.cite(cell.place.clone())))
    }

    /// All pairs, those with the reference first.
    fn pairs(&self) -> Vec<(usize, usize)> {
        let mut order: Vec<usize> = self.values().collect();
        if let Some(reference) = self.reference {
            order.retain(|&index| index != reference);
            order.insert(0, reference);
        }
        (0..order.len())
            .flat_map(|a| (a + 1..order.len()).map(move |b| (a, b)))
            .map(|(a, b)| (order[a], order[b]))
            .collect()
    }

    /// Environments that differ besides the GPU, for a summary.
    fn versions_differ(&self) -> String {
        let names: Vec<&str> = self.verification.mismatches.iter().map(|one| one.0.as_str()).collect();
        if names.is_empty() {
            String::new()
        } else {
            format!("; {} {} too", words::list(&names), if names.len() == 1 { "differs" } else { "differ" })
        }
    }
}

pub(super) fn of_lane(key: &CellKey, (phase, signal): Lane) -> bool {
    key.phase == phase && key.signal == words::signal_key(signal)
}

pub(super) fn is_zero(value: f64) -> bool {
    value.abs().to_bits() == 0
}

/// Judges one verification.
pub(super) fn judge(stored: &Stored<'_>, options: &Options, parts: &mut Parts) -> Result<()> {
    let verification = stored.verification;
    parts.signals.extend(stored.lanes.iter().map(|&(_, signal)| signal));
    for divergence in &stored.diverged {
        parts.find(
            FindingKind::TokensDiverge,
            divergence.sentence(stored),
            stored.cite(divergence.cells(stored)),
        );
    }
    if !verification.mismatches.is_empty() {
        let fields: Vec<String> =
            verification.mismatches.iter().map(|(name, a, b)| format!("{name} ({a} and {b})")).collect();
        let sentence = format!(
            "The environments of {} and {} differ in {} besides the GPU, so what lies between them cannot be put down to \
             the GPU alone.",
            verification.generator.gpu,
            verification.verifier.gpu,
            words::list(&fields)
        );
        parts.find(FindingKind::Missing, sentence, vec![stored.evidence.cite("metadata")]);
    }
    if stored.tells_bits() {
        exact(stored, options, parts)?;
    } else {
        equal_lines(stored, parts);
        for &lane in &stored.lanes {
            let family = stored.pairs().into_iter().map(|(a, b)| candidate(stored, lane, a, b)).collect();
            let verdicts = settle(family, options, &[&stored.evidence.source.digest])?;
            parts.thresholds.extend(if stored.references(lane).iter().all(Option::is_none) {
                ["clear_margin", "within_floor"]
            } else {
                ["alpha", "confidence"]
            });
            parts.add_pairs_with(verdicts, &stored.context(), &stored.versions_differ());
        }
    }
    weights::other_weights_stored(stored, parts);
    if !stored.tells_bits() {
        baselines(stored, parts);
    }
    stored_matrix::add(stored, parts);
    Ok(())
}

/// The exact tier: zero is equal bits, anything else is other bits.
fn exact(stored: &Stored<'_>, options: &Options, parts: &mut Parts) -> Result<()> {
    let verification = stored.verification;
    let mut by_phase: BTreeMap<Phase, Vec<Signal>> = BTreeMap::new();
    for &(phase, signal) in &stored.lanes {
        by_phase.entry(phase).or_default().push(signal);
    }
    let (mut verdicts, mut caveats) = (Vec::new(), BTreeSet::new());
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
        let mut groups = super::classes::group(&verification.values, equal);
        for (value, why) in &mut groups.unplaced {
            if stored.values().any(|index| verification.values[index] == *value && stored.noisy(phase, index))
            {
                "does not repeat itself".clone_into(why);
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
        let caveat = stored.pairs().into_iter().map(|(a, b)| stored.caveat(phase, [a, b]));
        let caveat = caveat.max_by_key(|caveat| caveat.len()).unwrap_or("");
        caveats.insert(caveat);
        parts.add_classes_with(
            ClassSet {
                phase,
                scope: format!("{} on {}", verification.variable, verification.generator.gpu),
                classes: groups.classes,
                unplaced: groups.unplaced,
                basis: if both_ways {
                    "distances of exactly 0 both ways".to_owned()
                } else {
                    "distances of exactly 0, of which one way is stored".to_owned()
                },
                references,
                citations: stored.cite(
                    verification
                        .cells
                        .iter()
                        .filter(|(key, _)| key.phase == phase)
                        .map(|(_, cell)| cell)
                        .take(1),
                ),
                signals,
            },
            groups.told_apart,
            caveat,
        );
    }
    let caveat = caveats.into_iter().max_by_key(|caveat| caveat.len()).unwrap_or("");
    parts.add_pairs_with(verdicts, &stored.context(), caveat);
    let mut honest: BTreeMap<(Option<&String>, usize), bool> = BTreeMap::new();
    for (key, cell) in verification.cells.iter().filter(|(key, _)| key.claimed == key.verified) {
        let alarm = honest.entry((key.reference.as_ref(), key.claimed)).or_default();
        *alarm |= !is_zero(cell.mean);
    }
    if !honest.is_empty() && verification.relation == Relation::ClaimedVerified {
        let alarms = honest.values().filter(|alarm| **alarm).count() as u64;
        let of = format!(
            "exact comparison with the replay of the claimed {} on {}; a unit is one setup on one reference prompt",
            verification.variable, verification.verifier.gpu
        );
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
        // Each distance is over the tokens of its own claim, so it tells bits; an average over other texts tells nothing.
        if stored.diverged.iter().any(|one| one.parts(lane.0, reference, a, b)) {
            not_averaged.extend(reference.cloned());
        } else {
            distances.extend(words::mean(&both.iter().map(|cell| cell.mean).collect::<Vec<_>>()));
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
    let answer = match (n, differing) {
        (0, _) => Answer::Incomparable,
        _ if !noisy.is_empty() => Answer::Inconclusive,
        (_, 0) => Answer::Identical,
        _ => Answer::Separable,
    };
    let distance = words::mean(&distances);
    let (x, y) = (stored.name(a), stored.name(b));
    let (what, gpu) = (words::lane(lane.0, lane.1), &verification.generator.gpu);
    let references = words::count(n, "reference");
    let left_out = if incomparable == 0 {
        String::new()
    } else {
        format!(
            " ({} left out: tokens differ or nothing is in common)",
            words::count(incomparable, "reference")
        )
    };
    let caveat = stored.caveat(lane.0, [a, b]);
    let average = if not_averaged.is_empty() {
        String::new()
    } else {
        format!(" without {}, where their tokens part", words::list(&not_averaged))
    };
    let sentence = match answer {
        Answer::Identical => format!(
            "{x} and {y} give the same {what} on {gpu}: every distance over {references} is exactly 0{left_out}{caveat}."
        ),
        Answer::Separable => format!(
            "{x} and {y} can be told apart by {what} on {gpu}: they differ in {differing} of {references}, by {} on average{average}{left_out}{caveat}.",
            distance.map_or_else(|| "an unknown distance".to_owned(), words::figure)
        ),
        Answer::Inconclusive => format!(
            "{x} and {y} lie {} apart by {what} on {gpu} over {references}, but {} does not repeat itself: whether that is \
             more than its own noise cannot be tested{left_out}.",
            distance.map_or_else(|| "an unknown distance".to_owned(), words::figure),
            words::list(&noisy)
        ),
        _ => format!("{x} and {y} cannot be compared by {what} on {gpu}{left_out}."),
    };
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
            Answer::Separable if caveat.is_empty() => Tier::Exact,
            _ => Tier::None,
        },
        distance,
        floor: None,
        ratio: None,
        interval: None,
        p_value: None,
        p_adjusted: None,
        n,
        incomparable,
        rows: None,
        sentence,
        citations: stored.cite(if n == 0 { left } else { cells }),
    })
}

/// Classes among replays (equal columns) and among evidence (equal rows), over all references and signals.
fn equal_lines(stored: &Stored<'_>, parts: &mut Parts) {
    let verification = stored.verification;
    let printed = verification.cells.values().any(|cell| cell.rounding > 0.0);
    let mut by_phase: BTreeMap<Phase, Vec<Lane>> = BTreeMap::new();
    for &lane in &stored.lanes {
        by_phase.entry(lane.0).or_default().push(lane);
    }
    for (phase, lanes) in by_phase {
        let places: Vec<(Lane, Option<String>)> = lanes
            .iter()
            .flat_map(|&lane| stored.references(lane).into_iter().map(move |reference| (lane, reference)))
            .filter(|(_, reference)| reference.is_some())
            .collect();
        let references =
            super::setups::in_order(places.iter().filter_map(|(_, reference)| reference.clone()));
        if references.is_empty() {
            continue;
        }
        for of_columns in [true, false] {
            let equal = |a: usize, b: usize| {
                let mut compared = 0;
                for (lane, reference) in &places {
                    // Rows of setups that emitted other tokens are other sequences.
                    if !of_columns && stored.tokens_part(lane.0, reference.as_ref(), a, b) {
                        continue;
                    }
                    for other in stored.values() {
                        let cell = |line: usize| {
                            let (row, column) = if of_columns { (other, line) } else { (line, other) };
                            stored.cell(*lane, reference.as_ref(), row, column)
                        };
                        let (Some(a), Some(b)) = (cell(a), cell(b)) else { return None };
                        compared += 1;
                        if a.mean.total_cmp(&b.mean).is_ne() {
                            return Some(false);
                        }
                    }
                }
                (compared > 0).then_some(true)
            };
            let groups = super::classes::group(&verification.values, equal);
            if !of_columns && groups.classes.iter().all(|class| class.len() < 2) {
                continue;
            }
            let decode_prefill = verification.relation == Relation::DecodePrefill;
            let (line, phase, side) = match (of_columns, decode_prefill) {
                (true, _) => ("columns", phase, format!("replays on {}", verification.verifier.gpu)),
                (false, true) => {
                    ("rows", Phase::Decode, format!("evidence of {}", verification.generator.gpu))
                }
                (false, false) => ("rows", phase, format!("evidence of {}", verification.generator.gpu)),
            };
            let first =
                places.first().and_then(|(lane, reference)| stored.cell(*lane, reference.as_ref(), 0, 0));
            parts.add_classes(
                ClassSet {
                    phase,
                    signals: lanes.iter().map(|lane| lane.1).collect(),
                    scope: format!("{}, {side}", verification.variable),
                    classes: groups.classes,
                    unplaced: groups.unplaced,
                    basis: format!("{line} equal in every cell{}", if printed { " as printed" } else { "" }),
                    references: references.len() as u64,
                    citations: stored.cite(first),
                },
                false,
            );
        }
    }
}

/// What lies between the same setup on two machines.
fn baselines(stored: &Stored<'_>, parts: &mut Parts) {
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
            let Some(distance) = words::mean(&cells.iter().map(|cell| cell.mean).collect::<Vec<_>>()) else {
                continue;
            };
            let n = if averages_only { 0 } else { cells.len() as u64 };
            let same = cells.iter().all(|cell| is_zero(cell.mean));
            let (name, what) = (stored.name(value), words::lane(lane.0, lane.1));
            let sentence = if same {
                format!("{name} gives the same {what} on {here} and {there}: every distance is exactly 0.")
            } else {
                let over = if averages_only {
                    "averaged over references".to_owned()
                } else {
                    format!("over {}", words::count(n, "reference"))
                };
                format!(
                    "{name} gives other {what} on {there} than on {here}: {} away on average, {over}; whether either \
                     machine repeats itself to the bit, the file does not say{}.",
                    words::figure(distance),
                    stored.versions_differ()
                )
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
                p_value: None,
                p_adjusted: None,
                n,
                incomparable: references.len() as u64 - cells.len() as u64,
                rows: None,
                sentence,
                citations: stored.cite(cells),
            });
        }
    }
    let caveat = format!(
        "{}; whether either machine repeats itself to the bit, the file does not say",
        stored.versions_differ()
    );
    parts.add_pairs_with(verdicts, &format!("between {here} and {there}"), &caveat);
}

fn candidate(stored: &Stored<'_>, lane: Lane, a: usize, b: usize) -> Candidate {
    let verification = stored.verification;
    let references = stored.references(lane);
    let averages_only = references.iter().all(Option::is_none);
    let (mut units, mut cells, mut left_out, mut left) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for reference in references.iter().map(Option::as_ref) {
        let mut directions = Vec::new();
        // Distances of claims that emitted other tokens are distances of other sequences.
        if !stored.tokens_part(lane.0, reference, a, b) {
            for (claim, row, other) in [(Claim::A, a, b), (Claim::B, b, a)] {
                let (Some(wrong), Some(right)) =
                    (stored.finite(lane, reference, row, other), stored.finite(lane, reference, row, row))
                else {
                    continue;
                };
                let slack = wrong.rounding + right.rounding;
                directions.push((
                    claim,
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
    let there = &verification.verifier.gpu;
    let within = verification.relation == Relation::DecodePrefill || stored.same_machine();
    let comparison = if within { Comparison::WithinHardware } else { Comparison::CrossHardware };
    Candidate {
        comparison,
        a: verification.values[a].clone(),
        b: verification.values[b].clone(),
        names: (stored.name(a), stored.name(b)),
        phase: lane.0,
        signal: lane.1,
        context: stored.context(),
        floor_of: format!("matching replays on {there}"),
        averages_only,
        incomparable: left_out.len() as u64,
        left_out: (!left_out.is_empty())
            .then(|| format!("{} left out: tokens differ or nothing is in common", words::list(&left_out))),
        citations: stored.cite(if units.is_empty() { left } else { cells }),
        units,
    }
}
