//! Does a setup repeat itself to the bit?
//!
//! This is judged by stored repetitions, row by row; by stated digests where one repetition stands for all; and by
//! distances that a file states. A single repetition says nothing, and is never "exact".

use std::collections::{BTreeMap, BTreeSet};

use mantissa_compare::Member;
use mantissa_evidence::Outcome;
use mantissa_numerics::Phase;

use super::input::{Evidence, StatedRepeats};
use super::measure::{Lane, Pair};
use super::options::Options;
use super::parts::Parts;
use super::setups::Setups;
use super::statistics;
use super::values::mean;
use crate::analysis::{Citation, Reproducibility, State};
use crate::found::{self, Found, HonestUnits, StatedDigests, Unshown};
use crate::{Result, said};

/// What is known about repetitions.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    /// Setups and phases in which two repetitions differ.
    pub(super) differing: BTreeSet<(usize, Phase)>,
    /// Setups and phases in which all repetitions, at least two, agree.
    pub(super) shown: BTreeSet<(usize, Phase)>,
    /// Mean distance between stored repetitions of a setup on a prompt.
    pub(super) distances: BTreeMap<(usize, usize), BTreeMap<Lane, f64>>,
    /// Mean distance between repetitions that a file states without storing them.
    pub(super) stated: BTreeMap<(usize, Phase), f64>,
}

impl Repeats {
    /// What a judgement by bits did not show about setups of which one repetition is known.
    pub(super) fn unshown(&self, setups: &[usize], phase: Phase) -> Unshown {
        let shown = setups.iter().all(|&setup| self.shown.contains(&(setup, phase)));
        if shown { Unshown::Nothing } else { Unshown::Setups }
    }
}

/// Units of honest repetitions, and how many of them differed.
#[derive(Debug, Default, Clone, Copy)]
struct AlarmCount {
    units: u64,
    alarms: u64,
}

impl AlarmCount {
    /// Takes in the reference prompts of one setup: whether repetitions on them differ.
    fn add(&mut self, references: &BTreeMap<u32, bool>, noisy: bool) {
        let differing = references.values().filter(|differs| **differs).count() as u64;
        let (units, alarms) = match (noisy, differing) {
            (false, _) => (references.len() as u64, differing),
            // Known from elsewhere in the record: one alarm at least.
            (true, 0) if !references.is_empty() => (1, 1),
            (true, _) => (differing, differing),
        };
        self.units += units;
        self.alarms += alarms;
    }
}

/// Compares repetitions.
pub(super) fn check(setups: &Setups<'_>, options: &Options, parts: &mut Parts) -> Result<Repeats> {
    let mut repeats = Repeats::default();
    let mut honest = AlarmCount::default();
    let mut single = Vec::new();
    let mut single_citations: Vec<Citation> = Vec::new();
    for index in 0..setups.all.len() {
        let found = of_setup(setups, index, options, &mut repeats, &mut honest, parts)?;
        if !found {
            let setup = &setups.all[index];
            let first = setup.runs.keys().next();
            let citation = first.and_then(|&prompt| setups.cite(index, prompt));
            single.push(setup.label.clone());
            single_citations.extend(citation.clone());
            parts.reproducibility.push(Reproducibility {
                setup: setup.label.clone(),
                phase: None,
                repetitions: Some(u64::from(first.is_some())),
                state: State::Missing,
                distance: None,
                tokens_part: None,
                note: said::repeats(&setup.label, &found::Repeats::Single),
                citations: citation.into_iter().collect(),
            });
        }
    }
    if !single.is_empty() {
        parts.find(&Found::OneRepetition(&single), single_citations);
    }
    if honest.units > 0 {
        parts.bounds.push(statistics::bound(
            said::honest_units(&HonestUnits::Repetitions),
            honest.units,
            honest.alarms,
            options.confidence,
        )?);
        parts.thresholds.insert("confidence");
    }
    Ok(repeats)
}

/// Whether anything beyond one repetition is known of a setup.
fn of_setup(
    setups: &Setups<'_>,
    index: usize,
    options: &Options,
    repeats: &mut Repeats,
    honest: &mut AlarmCount,
    parts: &mut Parts,
) -> Result<bool> {
    let setup = &setups.all[index];
    let mut phases: BTreeMap<Phase, Tally> = BTreeMap::new();
    // Reference prompts that tell whether the setup repeats itself, and whether they say that it does not.
    let mut references: BTreeMap<u32, bool> = BTreeMap::new();
    for (&prompt, runs) in setup.runs.iter().filter(|(_, runs)| runs.len() > 1) {
        let members: Vec<Member<'_>> = runs.iter().map(|&run| Member { record: setup.record, run }).collect();
        let which: Vec<(usize, usize)> =
            (0..members.len()).flat_map(|a| (a + 1..members.len()).map(move |b| (a, b))).collect();
        let pairs = super::facts::measured_pairs(&members, &which, options)?;
        let mut lanes: BTreeMap<Lane, Vec<f64>> = BTreeMap::new();
        let mut here: BTreeMap<Phase, Tally> = BTreeMap::new();
        let distinct = |member: usize| {
            setup.distinct.get(&prompt).is_some_and(|distinct| distinct.contains(&runs[member]))
        };
        for (pair, &(a, b)) in pairs.iter().zip(&which) {
            tally(pair, &mut here);
            // A repetition with the contents of another adds no distance.
            if !(distinct(a) && distinct(b)) {
                continue;
            }
            for (&lane, measured) in &pair.lanes {
                lanes.entry(lane).or_default().extend(measured.mean(|_| true));
            }
        }
        let differs = here.values().any(|tally| tally.found.state() == State::Different);
        if differs || (!here.is_empty() && here.values().all(|tally| tally.found.state() == State::Equal)) {
            *references.entry(setup.record.shell().runs[runs[0]].reference_id).or_default() |= differs;
        }
        let means = lanes.into_iter().filter_map(|(lane, distances)| Some((lane, mean(&distances)?)));
        repeats.distances.insert((index, prompt), means.collect());
        for (phase, mut tally) in here {
            tally.found.repetitions = runs.len() as u64;
            tally.found.references = 1;
            let of_run = |run: &usize| &setup.record.shell().runs[*run].output_token_ids;
            tally.outputs = runs.iter().all(|run| !of_run(run).is_empty());
            tally.citations = setups.cite(index, prompt).into_iter().collect();
            phases.entry(phase).or_default().add(tally);
        }
    }
    if let Some((&prompt, &copies)) = setup.copies.iter().next() {
        let found = Found::RunCopies { setup: &setup.label, copies: copies as u64 };
        parts.find(&found, setups.cite(index, prompt).into_iter().collect());
    }
    let mut known = !phases.is_empty();
    let stored_differ = phases.values().any(|tally| tally.found.state() == State::Different);
    let stated = by_digests(setups, index, known, &mut references);
    // Repetitions that differ outweigh those that do not: where a record states some, equal stored ones are not all.
    let stated = stated.filter(|found| !known || (found.state == State::Different && !stored_differ));
    let overruled = known && stated.is_some();
    for (phase, tally) in phases.into_iter().filter(|_| !overruled) {
        let found = tally.reproducibility(&setup.label, phase);
        match found.state {
            State::Different => _ = repeats.differing.insert((index, phase)),
            State::Equal => _ = repeats.shown.insert((index, phase)),
            State::Missing | State::Incomparable => {}
        }
        parts.add_repeats(found);
    }
    if overruled {
        // A distance of zero between the equal ones is no floor.
        repeats.distances.retain(|&(setup, _), _| setup != index);
    }
    if let Some(found) = stated {
        known = true;
        for phase in [Phase::Prefill, Phase::Decode] {
            match found.state {
                State::Equal => _ = repeats.shown.insert((index, phase)),
                _ => _ = repeats.differing.insert((index, phase)),
            }
        }
        parts.add_repeats(found);
    }
    for stated in setup.evidence.repeats.iter().filter(|stated| stated.setup == setup.configuration.config_id)
    {
        known = true;
        let found = as_stated(setup.evidence, stated, &setup.label);
        match found.state {
            State::Different => {
                repeats.differing.insert((index, stated.phase));
                repeats.shown.remove(&(index, stated.phase));
                repeats.stated.extend(found.distance.map(|distance| ((index, stated.phase), distance)));
            }
            State::Equal if !repeats.differing.contains(&(index, stated.phase)) => {
                repeats.shown.insert((index, stated.phase));
            }
            State::Equal | State::Missing | State::Incomparable => {}
        }
        parts.add_repeats(found);
    }
    let noisy = repeats.differing.range((index, Phase::Prefill)..=(index, Phase::Decode)).next().is_some();
    honest.add(&references, noisy);
    Ok(known)
}

/// Comparisons of repetitions in one phase, with what goes beside them.
#[derive(Default)]
struct Tally {
    found: found::Tally,
    /// Whether outputs are recorded at all.
    outputs: bool,
    /// Largest distance between rows that differ.
    distance: Option<f64>,
    citations: Vec<Citation>,
}

/// Adds a pair of repetitions to its phases.
fn tally(pair: &Pair, phases: &mut BTreeMap<Phase, Tally>) {
    for (&(phase, _), measured) in &pair.lanes {
        let tally = phases.entry(phase).or_default();
        tally.found.compared += measured.compared();
        tally.found.different += measured.counts.different;
        tally.found.missing += measured.counts.missing;
        tally.found.incomparable += measured.counts.incomparable;
        let known = measured.different.iter().filter_map(|row| measured.rows.get(row).copied().flatten());
        tally.distance = known.chain(tally.distance).reduce(f64::max);
    }
    if pair.parted.is_some() || pair.stopped.is_some() {
        let tally = phases.entry(Phase::Decode).or_default();
        tally.found.parted |= pair.parted.is_some();
        tally.found.stopped |= pair.stopped.is_some();
    }
}

impl Tally {
    /// Adds what another prompt gave.
    fn add(&mut self, other: Self) {
        let (sum, more) = (&mut self.found, other.found);
        sum.repetitions = sum.repetitions.max(more.repetitions);
        sum.references += more.references;
        sum.compared += more.compared;
        sum.different += more.different;
        sum.missing += more.missing;
        sum.incomparable += more.incomparable;
        sum.parted |= more.parted;
        sum.stopped |= more.stopped;
        self.outputs |= other.outputs;
        self.distance = self.distance.into_iter().chain(other.distance).reduce(f64::max);
        self.citations.extend(other.citations);
    }

    fn reproducibility(self, setup: &str, phase: Phase) -> Reproducibility {
        let state = self.found.state();
        let distance = match state {
            State::Different => self.distance,
            State::Equal => Some(0.0),
            State::Missing | State::Incomparable => None,
        };
        Reproducibility {
            setup: setup.to_owned(),
            phase: Some(phase),
            repetitions: Some(self.found.repetitions),
            state,
            distance,
            tokens_part: self.outputs.then_some(self.found.parted),
            note: said::repeats(setup, &found::Repeats::Stored { phase, tally: self.found }),
            citations: self.citations,
        }
    }
}

/// What a record states of repetitions, by digests or in words; `stored` where some are stored as well. Takes in the
/// references that it speaks of.
fn by_digests(
    setups: &Setups<'_>,
    index: usize,
    stored: bool,
    units: &mut BTreeMap<u32, bool>,
) -> Option<Reproducibility> {
    let setup = &setups.all[index];
    let stated = &setup.configuration.mantissa.as_ref()?.reproducibility;
    let mut references: BTreeMap<u32, Vec<_>> = BTreeMap::new();
    for digest in &stated.digests {
        references.entry(digest.reference_id).or_default().push((digest.output_ids, digest.signals));
    }
    references.retain(|_, digests| digests.len() > 1);
    if stated.repetitions < 2 || (stated.outcome == Outcome::NotChecked && references.is_empty()) {
        return None;
    }
    let (mut digests_differ, mut tokens_part) = (false, false);
    for (&reference, digests) in &references {
        let differ = digests.iter().any(|digest| *digest != digests[0]);
        digests_differ |= differ;
        tokens_part |= digests.iter().any(|digest| digest.0 != digests[0].0);
        *units.entry(reference).or_default() |= differ;
    }
    let differ = match &stated.outcome {
        Outcome::Divergent { reference_id, .. } => {
            units.insert(*reference_id, true);
            true
        }
        Outcome::Identical | Outcome::NotChecked => digests_differ,
    };
    let found = found::Repeats::Stated(StatedDigests {
        repetitions: stated.repetitions,
        differ,
        digests: (!references.is_empty()).then_some(digests_differ),
        stored,
    });
    let place = format!("configurations[config_id={}].reproducibility", setup.configuration.config_id);
    Some(Reproducibility {
        setup: setup.label.clone(),
        phase: None,
        repetitions: Some(u64::from(stated.repetitions)),
        state: found.state(),
        distance: None,
        tokens_part: (!references.is_empty()).then_some(tokens_part),
        note: said::repeats(&setup.label, &found),
        citations: vec![setup.evidence.cite(place)],
    })
}

/// Distances between repetitions as a file states them.
pub(super) fn as_stated(evidence: &Evidence<'_>, stated: &StatedRepeats, setup: &str) -> Reproducibility {
    let finite = stated.distances.iter().copied().filter(|distance| distance.is_finite());
    let infinite = stated.distances.len() - finite.clone().count();
    let found = found::Repeats::Distances {
        phase: stated.phase,
        repetitions: stated.repetitions,
        distances: stated.distances.clone(),
    };
    let state = found.state();
    Reproducibility {
        setup: setup.to_owned(),
        phase: Some(stated.phase),
        repetitions: stated.repetitions,
        state,
        distance: finite.reduce(f64::max).filter(|_| state != State::Missing),
        tokens_part: (infinite > 0).then_some(true),
        note: said::repeats(setup, &found),
        citations: vec![evidence.cite(stated.place.clone())],
    }
}
