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

/// Honest repetitions compared, and how many of them differed.
#[derive(Debug, Default, Clone, Copy)]
struct Honest {
    units: u64,
    alarms: u64,
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
        let of = "exact comparison of a repetition with the first one of its setup and reference".to_owned();
        parts.bounds.push(statistics::bound(of, honest.units, honest.alarms, options.confidence)?);
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
    for (&prompt, runs) in setup.runs.iter().filter(|(_, runs)| runs.len() > 1) {
        let members: Vec<Member<'_>> = runs.iter().map(|&run| Member { record: setup.record, run }).collect();
        let which: Vec<(usize, usize)> =
            (0..members.len()).flat_map(|a| (a + 1..members.len()).map(move |b| (a, b))).collect();
        let pairs = super::facts::measured_pairs(&members, &which, options)?;
        let mut lanes: BTreeMap<Lane, Vec<f64>> = BTreeMap::new();
        for (&(a, _), pair) in which.iter().zip(&pairs) {
            let differs = tally(pair, &mut phases, runs.len() as u64);
            if a == 0 {
                honest.units += 1;
                honest.alarms += u64::from(differs);
            }
            for (&lane, measured) in &pair.lanes {
                lanes.entry(lane).or_default().extend(measured.mean(|_| true));
            }
        }
        let means = lanes.into_iter().filter_map(|(lane, distances)| Some((lane, words::mean(&distances)?)));
        repeats.distances.insert((index, prompt), means.collect());
        for tally in phases.values_mut() {
            tally.citations.extend(runs.iter().map(|run| setup.evidence.cite(format!("runs[{run}]"))));
            tally.references += 1;
        }
    }
    let mut known = !phases.is_empty();
    for (phase, tally) in phases {
        let found = tally.reproducibility(&setup.label, phase);
        match found.state {
            State::Different => _ = repeats.differing.insert((index, phase)),
            State::Equal => _ = repeats.shown.insert((index, phase)),
            State::Missing | State::Incomparable => {}
        }
        parts.add_repeats(found);
    }
    if !known && let Some(found) = by_digests(setups, index, honest) {
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
        if found.state == State::Different {
            repeats.differing.insert((index, stated.phase));
            repeats.stated.extend(found.distance.map(|distance| ((index, stated.phase), distance)));
        } else {
            repeats.shown.insert((index, stated.phase));
        }
        parts.add_repeats(found);
    }
    Ok(known)
}

#[derive(Default)]
struct Tally {
    repetitions: u64,
    references: u64,
    rows: u64,
    different: u64,
    missing: u64,
    parted: bool,
    distance: Option<f64>,
    citations: Vec<Citation>,
}

/// Adds a pair of repetitions to its phases; whether they differ anywhere.
fn tally(pair: &Pair, phases: &mut BTreeMap<Phase, Tally>, repetitions: u64) -> bool {
    let parts = pair.parted.is_some();
    let mut differs = parts;
    for (&(phase, _), measured) in &pair.lanes {
        let tally = phases.entry(phase).or_default();
        tally.repetitions = tally.repetitions.max(repetitions);
        tally.rows += measured.compared();
        tally.different += measured.counts.different;
        tally.missing += measured.counts.missing;
        let largest = measured.rows.values().flatten().copied().fold(0.0, f64::max);
        tally.distance = Some(tally.distance.unwrap_or(0.0).max(largest));
        differs |= measured.counts.different > 0;
    }
    if parts {
        phases.entry(Phase::Decode).or_default().parted = true;
    }
    differs
}

impl Tally {
    fn reproducibility(self, setup: &str, phase: Phase) -> Reproducibility {
        let state = if self.parted || self.different > 0 {
            State::Different
        } else if self.missing > 0 {
            State::Missing
        } else if self.rows > 0 {
            State::Equal
        } else {
            State::Incomparable
        };
        let (repetitions, references) = (self.repetitions, words::count(self.references, "reference"));
        let parted = if self.parted { "; their outputs part" } else { "" };
        let note = match state {
            State::Different => format!(
                "{setup} is non-deterministic in {}: its {repetitions} repetitions differ in {} of {} rows over \
                 {references}{parted}.",
                phase.name(),
                self.different,
                self.rows
            ),
            State::Equal => format!(
                "{setup} repeats itself to the bit in {}: {repetitions} repetitions over {references}, {}.",
                phase.name(),
                words::count(self.rows, "row")
            ),
            State::Missing => format!(
                "{setup} lacks {} rows of {} in some repetition, so that it repeats itself was not shown.",
                self.missing,
                phase.name()
            ),
            State::Incomparable => {
                format!("The repetitions of {setup} in {} cannot be compared.", phase.name())
            }
        };
        Reproducibility {
            setup: setup.to_owned(),
            phase: Some(phase),
            repetitions: Some(repetitions),
            state,
            distance: self.distance.filter(|_| self.rows > 0),
            tokens_part: Some(self.parted),
            note,
            citations: self.citations,
        }
    }
}

/// Repetitions of which only digests are left.
fn by_digests(setups: &Setups<'_>, index: usize, honest: &mut Honest) -> Option<Reproducibility> {
    let setup = &setups.all[index];
    let stated = &setup.configuration.mantissa.as_ref()?.reproducibility;
    if stated.repetitions < 2 || stated.outcome == Outcome::NotChecked {
        return None;
    }
    let mut references: BTreeMap<u32, Vec<_>> = BTreeMap::new();
    for digest in &stated.digests {
        references.entry(digest.reference_id).or_default().push((digest.output_ids, digest.signals));
    }
    let mut tokens_part = false;
    let mut differ = matches!(stated.outcome, Outcome::Divergent { .. });
    for digests in references.values() {
        honest.units += digests.len().saturating_sub(1) as u64;
        honest.alarms += digests.iter().filter(|digest| **digest != digests[0]).count() as u64;
        differ |= digests.iter().any(|digest| *digest != digests[0]);
        tokens_part |= digests.iter().any(|digest| digest.0 != digests[0].0);
    }
    let what = if differ {
        "is non-deterministic: the stated digests of"
    } else {
        "repeats itself to the bit by the stated digests of"
    };
    let end = if differ { " differ" } else { "" };
    let place = format!("configurations[{}].reproducibility", position(setups, index));
    Some(Reproducibility {
        setup: setup.label.clone(),
        phase: None,
        repetitions: Some(u64::from(stated.repetitions)),
        state: if differ { State::Different } else { State::Equal },
        distance: None,
        tokens_part: (!references.is_empty()).then_some(tokens_part),
        note: format!("{} {what} {} repetitions{end}.", setup.label, stated.repetitions),
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
    let largest = finite.iter().copied().fold(0.0, f64::max);
    let differ = infinite > 0 || largest > 0.0;
    let repetitions = stated.repetitions.map_or(String::new(), |n| format!("{n} "));
    let note = if !differ {
        format!(
            "{setup} repeats itself in {phase}: the stated distance between its {repetitions}repetitions is 0."
        )
    } else if infinite == 0 {
        format!(
            "{setup} is non-deterministic in {phase}: the stated distance between its {repetitions}repetitions is {}, \
             not 0.",
            words::figure(largest)
        )
    } else {
        let said: Vec<String> = stated.distances.iter().map(|&distance| words::figure(distance)).collect();
        format!(
            "{setup} is non-deterministic in {phase}: the stated distances between its {repetitions}repetitions are {}; \
             in {infinite} of {} pairs the outputs parted until nothing was left in common.",
            words::list(&said),
            stated.distances.len()
        )
    };
    Reproducibility {
        setup: setup.to_owned(),
        phase: Some(stated.phase),
        repetitions: stated.repetitions,
        state: if differ { State::Different } else { State::Equal },
        distance: (!finite.is_empty()).then_some(largest),
        tokens_part: (infinite > 0).then_some(true),
        note,
        citations: vec![evidence.cite(stated.place.clone())],
    }
}
