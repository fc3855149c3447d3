//! Does a setup repeat itself to the bit?
//!
//! By stored repetitions, row by row; by stated digests where one repetition stands for all; by distances that a file
//! states. A single repetition says nothing, and is never "exact".

use std::collections::{BTreeMap, BTreeSet};

use mantissa_compare::Member;
use mantissa_evidence::Outcome;
use mantissa_numerics::Phase;

use super::input::{Evidence, StatedRepeats};
use super::measure::{Lane, Pair};
use super::options::Options;
use super::setups::Setups;
use super::{statistics, words};
use crate::Result;
use crate::analysis::{Citation, FindingKind, Reproducibility, State};

use super::parts::Parts;

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
    /// What has to be said of a judgement by bits about setups of which one repetition is known.
    pub(super) fn caveat(&self, setups: &[usize], phase: Phase) -> &'static str {
        if setups.iter().all(|&setup| self.shown.contains(&(setup, phase))) {
            ""
        } else {
            "; that these setups repeat themselves to the bit was not shown"
        }
    }
}

/// What a unit of the bound is. Repetitions of one prompt follow from one program and one input, and phases of a run from
/// each other: together they are one draw. A setup that was seen not to repeat itself is no subject of an exact rule;
/// what made it known counts as alarms, and what it happened to repeat does not count.
const UNIT: &str = "exact comparison of the repetitions of a setup; a unit is one setup on one reference prompt, however \
                    often repeated; of setups that do not repeat themselves, only prompts that differ count, as alarms";

/// Units of honest repetitions, and how many of them differed.
#[derive(Debug, Default, Clone, Copy)]
struct Honest {
    units: u64,
    alarms: u64,
}

impl Honest {
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
    let mut honest = Honest::default();
    let mut single = Vec::new();
    let mut single_citations: Vec<Citation> = Vec::new();
    for index in 0..setups.all.len() {
        let found = of_setup(setups, index, options, &mut repeats, &mut honest, parts)?;
        if !found {
            let setup = &setups.all[index];
            let first = setup.runs.values().next().and_then(|runs| runs.first());
            let citation = first.map(|run| setup.evidence.cite(format!("runs[{run}]")));
            single.push(setup.label.clone());
            single_citations.extend(citation.clone());
            parts.reproducibility.push(Reproducibility {
                setup: setup.label.clone(),
                phase: None,
                repetitions: Some(u64::from(first.is_some())),
                state: State::Missing,
                distance: None,
                tokens_part: None,
                note: format!("One repetition of {} is stored, so nothing was repeated.", setup.label),
                citations: citation.into_iter().collect(),
            });
        }
    }
    if !single.is_empty() {
        let sentence = format!(
            "{} {} one repetition each in this evidence: whether {} bit for bit was not shown by it.",
            words::list(&single),
            if single.len() == 1 { "has" } else { "have" },
            if single.len() == 1 { "it repeats itself" } else { "they repeat themselves" }
        );
        parts.find(FindingKind::Missing, sentence, single_citations);
    }
    if honest.units > 0 {
        parts.bounds.push(statistics::bound(
            UNIT.to_owned(),
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
    honest: &mut Honest,
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
        for pair in &pairs {
            tally(pair, &mut here);
            for (&lane, measured) in &pair.lanes {
                lanes.entry(lane).or_default().extend(measured.mean(|_| true));
            }
        }
        let differs = here.values().any(|tally| tally.state() == State::Different);
        if differs || (!here.is_empty() && here.values().all(|tally| tally.state() == State::Equal)) {
            *references.entry(setup.record.shell().runs[runs[0]].reference_id).or_default() |= differs;
        }
        let means = lanes.into_iter().filter_map(|(lane, distances)| Some((lane, words::mean(&distances)?)));
        repeats.distances.insert((index, prompt), means.collect());
        for (phase, mut tally) in here {
            tally.repetitions = runs.len() as u64;
            tally.references = 1;
            let of_run = |run: &usize| &setup.record.shell().runs[*run].output_token_ids;
            tally.outputs = runs.iter().all(|run| !of_run(run).is_empty());
            tally.citations = runs.iter().map(|run| setup.evidence.cite(format!("runs[{run}]"))).collect();
            phases.entry(phase).or_default().add(tally);
        }
    }
    let mut known = !phases.is_empty();
    let stored_differ = phases.values().any(|tally| tally.state() == State::Different);
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

/// Comparisons of repetitions in one phase.
#[derive(Default)]
struct Tally {
    repetitions: u64,
    references: u64,
    /// Comparisons of a row in two repetitions.
    compared: u64,
    different: u64,
    missing: u64,
    incomparable: u64,
    /// Whether outputs are recorded at all.
    outputs: bool,
    parted: bool,
    stopped: bool,
    /// Largest distance between rows that differ.
    distance: Option<f64>,
    citations: Vec<Citation>,
}

/// Adds a pair of repetitions to its phases.
fn tally(pair: &Pair, phases: &mut BTreeMap<Phase, Tally>) {
    for (&(phase, _), measured) in &pair.lanes {
        let tally = phases.entry(phase).or_default();
        tally.compared += measured.compared();
        tally.different += measured.counts.different;
        tally.missing += measured.counts.missing;
        tally.incomparable += measured.counts.incomparable;
        let known = measured.different.iter().filter_map(|row| measured.rows.get(row).copied().flatten());
        tally.distance = known.chain(tally.distance).reduce(f64::max);
    }
    if pair.parted.is_some() || pair.stopped.is_some() {
        let tally = phases.entry(Phase::Decode).or_default();
        tally.parted |= pair.parted.is_some();
        tally.stopped |= pair.stopped.is_some();
    }
}

impl Tally {
    /// Adds what another prompt gave.
    fn add(&mut self, other: Self) {
        self.repetitions = self.repetitions.max(other.repetitions);
        self.references += other.references;
        self.compared += other.compared;
        self.different += other.different;
        self.missing += other.missing;
        self.incomparable += other.incomparable;
        self.outputs |= other.outputs;
        self.parted |= other.parted;
        self.stopped |= other.stopped;
        self.distance = self.distance.into_iter().chain(other.distance).reduce(f64::max);
        self.citations.extend(other.citations);
    }

    const fn state(&self) -> State {
        if self.parted || self.different > 0 {
            State::Different
        } else if self.missing > 0 || self.stopped {
            State::Missing
        } else if self.incomparable > 0 || self.compared == 0 {
            State::Incomparable
        } else {
            State::Equal
        }
    }

    fn reproducibility(self, setup: &str, phase: Phase) -> Reproducibility {
        let state = self.state();
        let (repetitions, references) = (self.repetitions, words::count(self.references, "reference"));
        let all = self.compared + self.missing + self.incomparable;
        let compared = words::count(self.compared, "row comparison");
        let phase_name = phase.name();
        let note = match state {
            State::Different if self.compared == 0 => format!(
                "{setup} is non-deterministic in {phase_name}: the outputs of its {repetitions} repetitions part over \
                 {references}."
            ),
            State::Different => format!(
                "{setup} is non-deterministic in {phase_name}: its {repetitions} repetitions differ in {} of {compared} \
                 over {references}{}.",
                self.different,
                if self.parted { "; their outputs part" } else { "" }
            ),
            State::Equal => format!(
                "{setup} repeats itself to the bit in {phase_name}: {repetitions} repetitions over {references}, \
                 {compared}."
            ),
            State::Missing if self.missing == 0 => format!(
                "A repetition of {setup} stops before another in {phase_name}, so that it repeats itself was not shown."
            ),
            State::Missing => format!(
                "{setup} lacks rows of {phase_name} in some repetition ({} of {}), so that it repeats itself was not \
                 shown.",
                self.missing,
                words::count(all, "row comparison")
            ),
            State::Incomparable if self.compared == 0 => {
                format!("The repetitions of {setup} in {phase_name} cannot be compared.")
            }
            State::Incomparable => format!(
                "Not all rows of the repetitions of {setup} in {phase_name} can be compared ({} of {} cannot), so that it \
                 repeats itself was not shown.",
                self.incomparable,
                words::count(all, "row comparison")
            ),
        };
        let distance = match state {
            State::Different => self.distance,
            State::Equal => Some(0.0),
            State::Missing | State::Incomparable => None,
        };
        Reproducibility {
            setup: setup.to_owned(),
            phase: Some(phase),
            repetitions: Some(repetitions),
            state,
            distance,
            tokens_part: self.outputs.then_some(self.parted),
            note,
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
    let (label, n) = (&setup.label, stated.repetitions);
    let stored = if stored { ", although the stored ones have no bits that differ" } else { "" };
    let note = match (differ, references.is_empty()) {
        (true, _) if digests_differ => {
            format!("{label} is non-deterministic: the stated digests of {n} repetitions differ{stored}.")
        }
        (true, _) => format!(
            "{label} is non-deterministic, as the record states: two of its {n} repetitions differ{stored}."
        ),
        (false, true) => format!(
            "{label} repeats itself to the bit, as the record states of {n} repetitions without their digests."
        ),
        (false, false) => {
            format!("{label} repeats itself to the bit by the stated digests of {n} repetitions.")
        }
    };
    let place = format!("configurations[{}].reproducibility", position(setups, index));
    Some(Reproducibility {
        setup: label.clone(),
        phase: None,
        repetitions: Some(u64::from(n)),
        state: if differ { State::Different } else { State::Equal },
        distance: None,
        tokens_part: (!references.is_empty()).then_some(tokens_part),
        note,
        citations: vec![setup.evidence.cite(place)],
    })
}

fn position(setups: &Setups<'_>, index: usize) -> usize {
    let setup = &setups.all[index];
    let configurations = &setup.record.shell().configurations;
    configurations.iter().position(|one| std::ptr::eq(one, setup.configuration)).unwrap_or_default()
}

/// Distances between repetitions as a file states them.
pub(super) fn as_stated(evidence: &Evidence<'_>, stated: &StatedRepeats, setup: &str) -> Reproducibility {
    let phase = stated.phase.name();
    let finite: Vec<f64> = stated.distances.iter().copied().filter(|distance| distance.is_finite()).collect();
    let infinite = stated.distances.len() - finite.len();
    let largest = finite.iter().copied().reduce(f64::max);
    let repetitions = stated.repetitions.map_or(String::new(), |n| format!("{n} "));
    let repeated = stated.repetitions.is_none_or(|n| n > 1);
    let said: Vec<String> = stated.distances.iter().map(|&distance| words::figure(distance)).collect();
    let (state, note) = if stated.distances.is_empty() || !repeated {
        let note = format!("No distance between two repetitions of {setup} in {phase} is stated.");
        (State::Missing, note)
    } else if infinite > 0 {
        let note = format!(
            "{setup} is non-deterministic in {phase}: the stated distances between its {repetitions}repetitions are {}; in \
             {infinite} of {} pairs the outputs parted until nothing was left in common.",
            words::list(&said),
            stated.distances.len()
        );
        (State::Different, note)
    } else if finite.iter().copied().all(super::stored::is_zero) {
        let note = format!(
            "{setup} repeats itself in {phase}: the stated distance between its {repetitions}repetitions is 0."
        );
        (State::Equal, note)
    } else {
        let note = format!(
            "{setup} is non-deterministic in {phase}: the stated distance between its {repetitions}repetitions is {}, not \
             0.",
            words::figure(largest.unwrap_or_default())
        );
        (State::Different, note)
    };
    Reproducibility {
        setup: setup.to_owned(),
        phase: Some(stated.phase),
        repetitions: stated.repetitions,
        state,
        distance: largest.filter(|_| state != State::Missing),
        tokens_part: (infinite > 0).then_some(true),
        note,
        citations: vec![evidence.cite(stated.place.clone())],
    }
}
