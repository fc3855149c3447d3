//! Judgement on signals: the plan's four analyses over every pair of setups.
//!
//! Exact tier first: setups that repeat themselves are compared by bits. Statistics are for setups shown to be
//! non-deterministic, and for evidence of one machine against replays on another. Left out: how rows are compared.

use std::collections::BTreeSet;

use mantissa_numerics::Phase;

use super::facts::{Facts, Summary, cite};
use super::input::Evidence;
use super::measure::{Lane, RowId};
use super::options::Options;
use super::parts::Parts;
use super::repeats::{self, Repeats};
use super::separation::{Candidate, Claim, Direction, Unit, settle};
use super::setups::{Setups, in_order};
use super::{classes, figures, tokens, weights, words};
use crate::Result;
use crate::analysis::{
    Answer, ClassSet, Comparison, FindingKind, Floor, PairVerdict, Question, Reproducibility, Signal, State,
    Tier,
};

/// Everything known about the setups of an analysis.
pub(super) struct Known<'a> {
    pub(super) setups: Setups<'a>,
    pub(super) facts: Facts,
    pub(super) repeats: Repeats,
    /// Seed of drawn numbers: the digests of the files.
    seed: Vec<&'a str>,
}

/// Judges all records together; `None` when there is no record.
pub(super) fn judge<'a>(
    evidence: &'a [Evidence<'a>],
    options: &Options,
    parts: &mut Parts,
) -> Result<Option<Question>> {
    let Some(setups) = Setups::gather(evidence, options)? else { return Ok(None) };
    for tokens in tokens::consistency(&setups) {
        parts.add_tokens(tokens);
    }
    let repeats = repeats::check(&setups, options, parts)?;
    let facts = Facts::gather(&setups, options)?;
    let seed = evidence.iter().map(|one| one.source.digest.as_str()).collect();
    let known = Known { setups, facts, repeats, seed };
    parts.signals.extend(known.facts.lanes().into_iter().map(|lane| lane.1));
    within_hardware(&known, options, parts)?;
    across_hardware(&known, options, parts)?;
    equivalence(&known, parts);
    baselines(&known, options, parts)?;
    recorded_again(&known, parts);
    also_differ(&known, parts);
    weights::other_weights(&known, parts);
    figures::add(&known, parts);
    Ok(Some(Question {
        variable: known.setups.variable.clone(),
        reference: known.setups.all.get(known.setups.reference).map(|setup| setup.label.clone()),
        signals: Vec::new(),
    }))
}

impl Known<'_> {
    pub(super) fn label(&self, setup: usize) -> &str {
        &self.setups.all[setup].label
    }

    fn value(&self, setup: usize) -> &str {
        &self.setups.all[setup].value
    }

    /// Whether both recorded outputs on some of these prompts.
    fn tokens_stated(&self, a: usize, b: usize, prompts: &[usize]) -> bool {
        let stated = |setup: usize, prompt: usize| {
            let member = self.setups.member(setup, prompt);
            member.is_some_and(|one| !one.record.shell().runs[one.run].output_token_ids.is_empty())
        };
        prompts.iter().any(|&prompt| stated(a, prompt) && stated(b, prompt))
    }

    /// The reference on some hardware: the setup of the reference's value there, the reference itself where it is.
    fn reference_on(&self, on: &[usize]) -> Option<usize> {
        let reference = self.setups.reference;
        let alike = |&setup: &usize| {
            self.value(setup) == self.value(reference) && self.setups.controlled(setup, reference)
        };
        if on.contains(&reference) { Some(reference) } else { on.iter().copied().find(alike) }
    }

    /// Pairs of other value on one hardware, those with the reference first.
    pub(super) fn pairs_on(&self, hardware: &str) -> Vec<(usize, usize)> {
        let mut on = self.setups.on(hardware);
        if let Some(reference) = self.reference_on(&on) {
            on.retain(|&setup| setup != reference);
            on.insert(0, reference);
        }
        let all = (0..on.len()).flat_map(|a| (a + 1..on.len()).map(move |b| (a, b)));
        all.map(|(a, b)| (on[a], on[b]))
            .filter(|&(a, b)| self.value(a) != self.value(b) && self.setups.controlled(a, b))
            .collect()
    }

    /// Pairs of hardware in the order given.
    pub(super) fn hardware_pairs(&self) -> Vec<(&str, &str)> {
        let hardware = self.setups.hardware();
        let all = (0..hardware.len()).flat_map(|a| (a + 1..hardware.len()).map(move |b| (a, b)));
        all.map(|(a, b)| (hardware[a], hardware[b])).collect()
    }

    /// Setups of the same value on two machines.
    fn twins(&self, here: &str, there: &str) -> Vec<(usize, usize)> {
        let by_hardware = self.setups.variable == "hardware";
        let on_there = self.setups.on(there);
        let pairs = self.setups.on(here).into_iter().flat_map(|a| on_there.iter().map(move |&b| (a, b)));
        pairs
            .filter(|&(a, b)| (by_hardware || self.value(a) == self.value(b)) && self.setups.controlled(a, b))
            .collect()
    }
}

fn within_hardware(known: &Known<'_>, options: &Options, parts: &mut Parts) -> Result<()> {
    let hardware = known.setups.hardware();
    let pairs: Vec<(usize, usize)> = hardware.iter().flat_map(|name| known.pairs_on(name)).collect();
    let context = format!("on {}", words::list(&hardware));
    one_by_one(known, Comparison::WithinHardware, &pairs, &context, options, parts)
}

fn baselines(known: &Known<'_>, options: &Options, parts: &mut Parts) -> Result<()> {
    let machines = known.hardware_pairs();
    let twins: Vec<(usize, usize)> =
        machines.iter().flat_map(|(here, there)| known.twins(here, there)).collect();
    let context = format!("between {}", words::list(&known.setups.hardware()));
    one_by_one(known, Comparison::CrossHardwareBaseline, &twins, &context, options, parts)
}

/// Judges pairs of setups, signal by signal: by bits where both repeat themselves, else against their own repetitions.
fn one_by_one(
    known: &Known<'_>,
    comparison: Comparison,
    pairs: &[(usize, usize)],
    context: &str,
    options: &Options,
    parts: &mut Parts,
) -> Result<()> {
    for lane in known.facts.lanes() {
        let (mut verdicts, mut family) = (Vec::new(), Vec::new());
        for &pair in pairs {
            let summary = known.facts.summary(pair.0, pair.1, lane);
            if summary.compared_rows() == 0 || !noisy(known, pair.0, pair.1, lane.0) {
                verdicts.push(exact(known, comparison, pair, lane, &summary));
            } else if let Some(candidate) = noisy_candidate(known, comparison, pair, lane, &summary) {
                family.push(candidate);
            } else {
                verdicts.push(without_floor(known, comparison, pair, lane, &summary));
            }
        }
        if !family.is_empty() {
            parts.thresholds.extend(["alpha", "confidence"]);
        }
        verdicts.extend(settle(family, options, &known.seed)?);
        parts.add_pairs(verdicts, context);
    }
    Ok(())
}

fn across_hardware(known: &Known<'_>, options: &Options, parts: &mut Parts) -> Result<()> {
    if known.setups.variable == "hardware" {
        return Ok(());
    }
    for lane in known.facts.lanes() {
        let mut family = Vec::new();
        for machines in known.hardware_pairs() {
            let twins = known.twins(machines.0, machines.1);
            for (index, &first) in twins.iter().enumerate() {
                for &second in &twins[index + 1..] {
                    let other = known.value(first.0) != known.value(second.0);
                    if other && known.setups.controlled(first.0, second.0) {
                        family.push(crossed(known, machines, first, second, lane));
                    }
                }
            }
        }
        if !family.is_empty() {
            parts.thresholds.extend(["alpha", "confidence"]);
        }
        let context = format!("across {}", words::list(&known.setups.hardware()));
        parts.add_pairs(settle(family, options, &known.seed)?, &context);
    }
    Ok(())
}

/// A verdict by bits.
fn exact(
    known: &Known<'_>,
    comparison: Comparison,
    (a, b): (usize, usize),
    lane: Lane,
    summary: &Summary,
) -> PairVerdict {
    let (x, y) = (known.label(a), known.label(b));
    let what = words::lane(lane.0, lane.1);
    let place = place(known, comparison, (a, b));
    let n = summary.compared.len() as u64;
    let references = words::count(n, "reference");
    let caveat = known.repeats.caveat(&[a, b], lane.0);
    let tokens = parted(known, summary);
    let (answer, sentence) = match summary.state() {
        State::Different => {
            let distance = summary.distance.map_or_else(|| "an unknown distance".to_owned(), words::figure);
            let first = first(known, a, b, lane, &summary.compared);
            let sentence = format!(
                "{x} and {y} can be told apart by {what} {place}: {} of {} rows differ over {references}, by {distance} on \
                 average{first}{tokens}{caveat}.",
                summary.counts.different,
                summary.compared_rows()
            );
            (Answer::Separable, sentence)
        }
        State::Equal if tokens.is_empty() && summary.has_gaps() => {
            let gaps = gaps(known, (a, b), summary);
            let sentence = format!(
                "{x} and {y} are not shown to give the same {what} {place}: {gaps} over {references}{caveat}."
            );
            (Answer::Inconclusive, sentence)
        }
        State::Equal if tokens.is_empty() => {
            let sentence = format!(
                "{x} and {y} give the same {what} {place}: {} over {references}, all of the same bits{caveat}.",
                words::count(summary.counts.equal, "row")
            );
            (Answer::Identical, sentence)
        }
        State::Equal => {
            let sentence = format!(
                "{x} and {y} emit other tokens {place}, although {} of {what} before have equal bits{tokens}{caveat}.",
                words::count(summary.counts.equal, "row")
            );
            (Answer::Separable, sentence)
        }
        State::Incomparable => {
            let gaps = if tokens.is_empty() { format!(": {}", gaps(known, (a, b), summary)) } else { tokens };
            (Answer::Incomparable, format!("{x} and {y} cannot be compared by {what} {place}{gaps}."))
        }
        State::Missing => (
            Answer::Incomparable,
            format!("{x} and {y} cannot be compared by {what} {place}: not recorded on both sides."),
        ),
    };
    let compared = summary.compared_rows() > 0;
    PairVerdict {
        comparison,
        a: x.to_owned(),
        b: y.to_owned(),
        phase: lane.0,
        signal: lane.1,
        answer,
        tier: if compared { Tier::Exact } else { Tier::None },
        distance: summary.distance,
        floor: None,
        ratio: None,
        interval: None,
        p_value: None,
        p_adjusted: None,
        n,
        incomparable: summary.incomparable.len() as u64,
        rows: Some(summary.counts),
        sentence,
        citations: cite(
            &known.setups,
            &[a, b],
            if compared { &summary.compared } else { &summary.incomparable },
        ),
    }
}

/// Where two setups are compared: `on NVIDIA A100`.
fn place(known: &Known<'_>, comparison: Comparison, (a, b): (usize, usize)) -> String {
    let [here, there] = [a, b].map(|setup| &known.setups.all[setup].hardware);
    if comparison == Comparison::WithinHardware {
        format!("on {here}")
    } else {
        format!("between {here} and {there}")
    }
}

/// Where tokens part, as the end of a sentence; empty where they do not.
fn parted(known: &Known<'_>, summary: &Summary) -> String {
    let parted = summary.parted.iter();
    let parted =
        parted.map(|(prompt, index)| format!("{} at output index {index}", known.setups.prompts[*prompt]));
    let parted: Vec<String> = parted.collect();
    if parted.is_empty() {
        String::new()
    } else {
        format!("; tokens part in {} and nothing behind is compared", words::list(&parted))
    }
}

/// What was found of rows of which not all could be compared: `3 rows equal, 2 missing in b`.
fn gaps(known: &Known<'_>, (a, b): (usize, usize), summary: &Summary) -> String {
    let counts = summary.counts;
    let mut said = Vec::new();
    if summary.compared_rows() > 0 {
        said.push(format!("{} equal", words::count(counts.equal, "row")));
    }
    for (setup, missing) in [a, b].into_iter().zip(summary.lacking).filter(|&(_, missing)| missing > 0) {
        let rows = if said.is_empty() { words::count(missing, "row") } else { missing.to_string() };
        said.push(format!("{rows} missing in {}", known.label(setup)));
    }
    if counts.incomparable > 0 {
        let rows = if said.is_empty() {
            words::count(counts.incomparable, "row")
        } else {
            counts.incomparable.to_string()
        };
        said.push(format!("{rows} incomparable"));
    }
    for &(prompt, side, after) in &summary.stopped {
        let setup = [a, b][side];
        let prompt = &known.setups.prompts[prompt];
        said.push(format!(
            "{} stops after {} in {prompt}",
            known.label(setup),
            words::count(after, "output")
        ));
    }
    said.join(", ")
}

fn noisy(known: &Known<'_>, a: usize, b: usize, phase: Phase) -> bool {
    [a, b].iter().any(|&setup| known.repeats.differing.contains(&(setup, phase)))
}

/// Where the first difference is, in the first reference that has one.
fn first(known: &Known<'_>, a: usize, b: usize, lane: Lane, prompts: &[usize]) -> String {
    let found = prompts.iter().find_map(|&prompt| {
        let row = known.facts.measured(a, b, prompt, lane)?.first?;
        Some((prompt, row))
    });
    found.map_or(String::new(), |(prompt, (site, step, position))| {
        let site = site.map_or(String::new(), |site| format!(" {site}"));
        format!(", first in {} at step {step}{site} position {position}", known.setups.prompts[prompt])
    })
}

/// A pair of which a side does not repeat itself: the floor is the larger distance between repetitions.
fn noisy_candidate(
    known: &Known<'_>,
    comparison: Comparison,
    (a, b): (usize, usize),
    lane: Lane,
    summary: &Summary,
) -> Option<Candidate> {
    // Before noise made tokens part, equal bits say nothing of how far apart two setups are.
    if summary.state() == State::Equal && !summary.parted.is_empty() {
        return None;
    }
    let mut units = Vec::new();
    for &prompt in &summary.compared {
        let floors = [a, b]
            .map(|setup| (setup, known.repeats.distances.get(&(setup, prompt)).and_then(|of| of.get(&lane))));
        // Repetitions of the one that repeats itself are no floor for the other's noise.
        let unknown = |&(setup, floor): &(usize, Option<&f64>)| {
            floor.is_none() && known.repeats.differing.contains(&(setup, lane.0))
        };
        if floors.iter().any(unknown) {
            continue;
        }
        let Some(right) = floors.into_iter().filter_map(|(_, floor)| floor.copied()).reduce(f64::max) else {
            continue;
        };
        let Some(wrong) = known.facts.measured(a, b, prompt, lane).and_then(|found| found.mean(|_| true))
        else {
            continue;
        };
        let direction = Direction { wrong, right, same_bits: [false; 2], slack: 0.0 };
        units.push(Unit { directions: vec![(Claim::A, direction), (Claim::B, direction)] });
    }
    if units.is_empty() {
        return None;
    }
    let incomparable = summary.incomparable.len() + summary.compared.len() - units.len();
    Some(Candidate {
        comparison,
        a: known.label(a).to_owned(),
        b: known.label(b).to_owned(),
        names: (known.label(a).to_owned(), known.label(b).to_owned()),
        phase: lane.0,
        signal: lane.1,
        context: format!(
            "{}, where {}",
            place(known, comparison, (a, b)),
            does_not_repeat(known, &[a, b], lane.0)
        ),
        floor_of: "repetitions of the noisier setup".to_owned(),
        units,
        averages_only: false,
        incomparable: incomparable as u64,
        left_out: (incomparable > 0).then(|| {
            format!("{} left out for want of comparable rows", words::count(incomparable as u64, "reference"))
        }),
        citations: cite(&known.setups, &[a, b], &summary.compared),
    })
}

/// Who does not repeat itself, as a clause.
fn does_not_repeat(known: &Known<'_>, setups: &[usize], phase: Phase) -> String {
    let noisy = setups.iter().filter(|&&setup| known.repeats.differing.contains(&(setup, phase)));
    let noisy: Vec<&str> = noisy.map(|&setup| known.label(setup)).collect();
    let verb = if noisy.len() == 1 { "does not repeat itself" } else { "do not repeat themselves" };
    format!("{} {verb}", words::list(&noisy))
}

/// A pair whose repetitions differ and are not stored: there is no floor to hold its distance against.
fn without_floor(
    known: &Known<'_>,
    comparison: Comparison,
    (a, b): (usize, usize),
    lane: Lane,
    summary: &Summary,
) -> PairVerdict {
    let stated: Vec<(usize, f64)> = [a, b]
        .into_iter()
        .filter_map(|setup| Some((setup, *known.repeats.stated.get(&(setup, lane.0))?)))
        .collect();
    let mut verdict = exact(known, comparison, (a, b), lane, summary);
    let floors: Vec<String> = stated
        .iter()
        .map(|&(setup, distance)| format!("{} for {}", words::figure(distance), known.label(setup)))
        .collect();
    let floors =
        if floors.is_empty() { String::new() } else { format!(" (stated: {})", words::list(&floors)) };
    verdict.answer = Answer::Inconclusive;
    verdict.tier = Tier::None;
    verdict.floor = stated.iter().map(|&(_, distance)| distance).reduce(f64::max).map(|distance| Floor {
        mean: distance,
        max: distance,
        n: 1,
        of: "repetitions as the file states them".to_owned(),
    });
    verdict.ratio = summary
        .distance
        .zip(verdict.floor.as_ref().map(|floor| floor.mean))
        .filter(|(_, floor)| *floor > 0.0)
        .map(|(distance, floor)| distance / floor)
        .filter(|ratio| ratio.is_finite());
    let (x, y, what) = (known.label(a), known.label(b), words::lane(lane.0, lane.1));
    let noise = format!("{} in {}{floors}", does_not_repeat(known, &[a, b], lane.0), lane.0.name());
    let tokens = parted(known, summary);
    verdict.sentence = if summary.state() == State::Equal {
        format!(
            "{x} and {y} have equal bits in {} of {what}, but {noise}, so that this would hold of other repetitions was \
             not shown{tokens}.",
            words::count(summary.counts.equal, "row")
        )
    } else {
        format!(
            "{x} and {y} differ in {what} by {} on average, but {noise} and no repetitions a known distance apart are stored: whether \
             that is more than its own noise cannot be tested{tokens}.",
            summary.distance.map_or_else(|| "an unknown distance".to_owned(), words::figure)
        )
    };
    verdict
}

/// Two values on two machines: can evidence of one machine tell them apart by replay on the other?
fn crossed(
    known: &Known<'_>,
    (here, there): (&str, &str),
    first: (usize, usize),
    second: (usize, usize),
    lane: Lane,
) -> Candidate {
    let cells = [(first.0, second.1), (first.0, first.1), (second.0, first.1), (second.0, second.1)];
    let (mut units, mut compared, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    let noise = {
        let setups = [first.0, first.1, second.0, second.1];
        let noisy = setups.iter().any(|&setup| known.repeats.differing.contains(&(setup, lane.0)));
        noisy.then(|| does_not_repeat(known, &setups, lane.0))
    };
    let recorded =
        |prompt: &usize| cells.iter().any(|&(a, b)| known.facts.measured(a, b, *prompt, lane).is_some());
    for prompt in (0..known.setups.prompts.len()).filter(recorded) {
        let measured = cells.map(|(a, b)| known.facts.measured(a, b, prompt, lane));
        // Only rows that all four distances have: distances over other rows are no floor.
        let rows: BTreeSet<RowId> = measured[0]
            .into_iter()
            .flat_map(|found| found.rows.keys().copied())
            .filter(|row| {
                measured
                    .iter()
                    .all(|found| found.is_some_and(|found| matches!(found.rows.get(row), Some(Some(_)))))
            })
            .collect();
        let means: Vec<f64> = measured
            .iter()
            .filter_map(|found| found.and_then(|found| found.mean(|row| rows.contains(row))))
            .collect();
        let [wrong_a, right_a, wrong_b, right_b] = means[..] else {
            left_out.push(known.setups.prompts[prompt].clone());
            continue;
        };
        compared.push(prompt);
        let same: Vec<bool> = measured
            .iter()
            .map(|found| {
                // Equal bits of one repetition are no equality where repetitions differ.
                noise.is_none()
                    && found.is_some_and(|found| rows.iter().all(|row| !found.different.contains(row)))
            })
            .collect();
        units.push(Unit {
            directions: vec![
                (
                    Claim::A,
                    Direction { wrong: wrong_a, right: right_a, same_bits: [same[0], same[1]], slack: 0.0 },
                ),
                (
                    Claim::B,
                    Direction { wrong: wrong_b, right: right_b, same_bits: [same[2], same[3]], slack: 0.0 },
                ),
            ],
        });
    }
    let variable = &known.setups.variable;
    let name = |setup: usize| format!("{variable} {}", known.value(setup));
    Candidate {
        comparison: Comparison::CrossHardware,
        a: known.label(first.0).to_owned(),
        b: known.label(second.1).to_owned(),
        names: (name(first.0), name(second.0)),
        phase: lane.0,
        signal: lane.1,
        context: noise.map_or_else(
            || format!("across {here} and {there}"),
            |noise| format!("across {here} and {there}, where {noise}"),
        ),
        floor_of: format!("the same setup on {here} and {there}"),
        units,
        averages_only: false,
        incomparable: left_out.len() as u64,
        left_out: (!left_out.is_empty())
            .then(|| format!("{} left out: no row in common after equal tokens", words::list(&left_out))),
        citations: cite(&known.setups, &[first.0, first.1, second.0, second.1], &compared),
    }
}

/// Classes on each machine, and over all of them.
fn equivalence(known: &Known<'_>, parts: &mut Parts) {
    let lanes = known.facts.lanes();
    let hardware = known.setups.hardware();
    let mut scopes: Vec<(String, Vec<usize>)> =
        hardware.iter().map(|&name| (format!("on {name}"), known.setups.on(name))).collect();
    if hardware.len() > 1 {
        scopes.push((format!("across {}", words::list(&hardware)), (0..known.setups.all.len()).collect()));
    }
    for (scope, members) in scopes {
        for phase in in_order(lanes.iter().map(|lane| lane.0)) {
            let signals: Vec<Signal> =
                lanes.iter().filter(|lane| lane.0 == phase).map(|lane| lane.1).collect();
            let labels: Vec<String> = members.iter().map(|&setup| known.label(setup).to_owned()).collect();
            let equal = |a: usize, b: usize| equal(known, members[a], members[b], phase, &signals);
            let mut groups = classes::group(&labels, equal);
            for (label, why) in &mut groups.unplaced {
                let setup = members.iter().find(|&&setup| known.label(setup) == *label);
                let Some(&setup) = setup else { continue };
                if known.setups.all[setup].runs.is_empty() {
                    "no run is stored".clone_into(why);
                } else if known.repeats.differing.contains(&(setup, phase)) {
                    "does not repeat itself".clone_into(why);
                } else if let Some(lacks) = lacks(known, &members, setup, phase, &signals) {
                    *why = lacks;
                }
            }
            if members.len() < 2 {
                continue;
            }
            let prompts: Vec<usize> = (0..known.setups.prompts.len())
                .filter(|&prompt| {
                    members.iter().filter(|&&setup| known.setups.member(setup, prompt).is_some()).count() > 1
                })
                .collect();
            let references = equal_over(known, &members, phase, &signals).unwrap_or(prompts.len() as u64);
            parts.add_classes(
                ClassSet {
                    phase,
                    signals,
                    scope: scope.clone(),
                    classes: groups.classes,
                    unplaced: groups.unplaced,
                    basis: "equal bits in every comparable row".to_owned(),
                    references,
                    citations: cite(&known.setups, &members, &prompts),
                },
                groups.told_apart,
            );
        }
    }
}

/// Whether all signals of a phase have the same bits; `None` where nothing could be compared, or where a setup does not
/// repeat itself.
fn equal(known: &Known<'_>, a: usize, b: usize, phase: Phase, signals: &[Signal]) -> Option<bool> {
    if noisy(known, a, b, phase) {
        return None;
    }
    let summaries: Vec<Summary> =
        signals.iter().map(|&signal| known.facts.summary(a, b, (phase, signal))).collect();
    let states: Vec<State> = summaries.iter().map(Summary::state).collect();
    if states.contains(&State::Different) || summaries.iter().any(|summary| !summary.parted.is_empty()) {
        Some(false)
    } else {
        let whole = |summary: &Summary| summary.state() == State::Equal && !summary.has_gaps();
        summaries.iter().all(whole).then_some(true)
    }
}

/// Why a setup that does not differ from all others is in no class: what a comparison with one of them lacks.
fn lacks(
    known: &Known<'_>,
    members: &[usize],
    setup: usize,
    phase: Phase,
    signals: &[Signal],
) -> Option<String> {
    let others = members.iter().filter(|&&other| other != setup);
    let undecided = others.filter(|&&other| equal(known, other, setup, phase, signals).is_none());
    let mut found = undecided
        .flat_map(|&other| {
            signals.iter().filter_map(move |&signal| {
                let summary = known.facts.summary(other, setup, (phase, signal));
                let said = gaps(known, (other, setup), &summary);
                (!said.is_empty()).then(|| (other, signal, summary.compared_rows(), said))
            })
        })
        .collect::<Vec<_>>();
    // What was compared says most.
    found.sort_by_key(|(_, _, compared, _)| *compared == 0);
    let (other, signal, _, said) = found.into_iter().next()?;
    Some(format!("against {} by {}: {said}", known.label(other), words::signal_name(signal)))
}

/// References over which equal setups are known to be equal: those of the pair that shares the fewest.
fn equal_over(known: &Known<'_>, members: &[usize], phase: Phase, signals: &[Signal]) -> Option<u64> {
    let pairs =
        members.iter().enumerate().flat_map(|(index, &a)| members[index + 1..].iter().map(move |&b| (a, b)));
    let same = pairs.filter(|&(a, b)| equal(known, a, b, phase, signals) == Some(true));
    let shared = same.flat_map(|(a, b)| {
        signals.iter().map(move |&signal| known.facts.summary(a, b, (phase, signal)).compared.len() as u64)
    });
    shared.min()
}

/// Says of setups that were recorded more than once, in several files, whether they gave the same bits again.
fn recorded_again(known: &Known<'_>, parts: &mut Parts) {
    let setups = &known.setups;
    let all = (0..setups.all.len()).flat_map(|a| (a + 1..setups.all.len()).map(move |b| (a, b)));
    for (a, b) in all.filter(|&(a, b)| setups.stated_alike(a, b)) {
        for phase in in_order(known.facts.lanes().iter().map(|lane| lane.0)) {
            let lanes = known.facts.lanes().into_iter().filter(|lane| lane.0 == phase);
            let summaries: Vec<Summary> = lanes.map(|lane| known.facts.summary(a, b, lane)).collect();
            let (x, y, phase_name) = (known.label(a), known.label(b), phase.name());
            let parted = summaries.iter().map(|summary| parted(known, summary)).find(|said| !said.is_empty());
            let (different, compared) = summaries.iter().fold((0, 0), |sum, summary| {
                (sum.0 + summary.counts.different, sum.1 + summary.compared_rows())
            });
            let prompts: BTreeSet<usize> = summaries
                .iter()
                .flat_map(|summary| summary.compared.iter().chain(&summary.incomparable).copied())
                .collect();
            let prompts: Vec<usize> = prompts.into_iter().collect();
            if prompts.is_empty() {
                continue;
            }
            let whole = summaries.iter().all(|one| one.state() == State::Equal && !one.has_gaps());
            let (state, note) = if different > 0 || parted.is_some() {
                let tokens = parted.clone().unwrap_or_default();
                let note = format!(
                    "{x} and {y} state the same setup and differ in {phase_name}, in {different} of {compared} compared rows{tokens}: \
                     the setup does not repeat itself, or something that is not stated differs.",
                );
                (State::Different, note)
            } else if whole {
                let rows = words::count(compared, "row");
                let note = format!(
                    "{x} and {y} state the same setup and have the same bits in {phase_name}: {rows} compared."
                );
                (State::Equal, note)
            } else {
                let note = format!(
                    "{x} and {y} state the same setup, and not all of their {phase_name} could be compared: {} equal.",
                    words::count(compared, "row")
                );
                (if compared > 0 { State::Missing } else { State::Incomparable }, note)
            };
            parts.add_repeats(Reproducibility {
                setup: format!("{x} and {y}"),
                phase: Some(phase),
                repetitions: Some(2),
                state,
                distance: summaries.iter().filter_map(|one| one.distance).reduce(f64::max),
                tokens_part: known.tokens_stated(a, b, &prompts).then_some(parted.is_some()),
                note,
                citations: cite(setups, &[a, b], &prompts),
            });
        }
    }
}

/// Says where setups differ in more than the variable and the hardware.
fn also_differ(known: &Known<'_>, parts: &mut Parts) {
    let mut fields: Vec<(String, usize, usize)> = Vec::new();
    for a in 0..known.setups.all.len() {
        for b in a + 1..known.setups.all.len() {
            if !known.setups.controlled(a, b) {
                continue;
            }
            for field in known.setups.also_differ(a, b) {
                if !fields.iter().any(|(known, _, _)| *known == field) {
                    fields.push((field, a, b));
                }
            }
        }
    }
    if fields.is_empty() {
        return;
    }
    let said: Vec<&str> = fields.iter().map(|(field, _, _)| field.as_str()).collect();
    let sentence = format!(
        "Setups that are compared differ in more than {}: {}; what separates them cannot be put down to {} alone.",
        known.setups.variable,
        said.join("; "),
        known.setups.variable
    );
    let citations = in_order(fields.iter().flat_map(|&(_, a, b)| {
        [a, b].map(|setup| {
            let id = &known.setups.all[setup].configuration.config_id;
            known.setups.all[setup].evidence.cite(format!("configuration {id}"))
        })
    }));
    parts.find(FindingKind::Missing, sentence, citations);
}
