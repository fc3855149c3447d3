//! Judgement on signals: the plan's four analyses over every pair of setups.
//!
//! Exact tier first: setups that repeat themselves are compared by bits. Statistics are for setups shown to be
//! non-deterministic, and for evidence of one machine against replays on another. Left out: how rows are compared.

use super::facts::Facts;
use super::input::Evidence;
use super::options::Options;
use super::parts::Parts;
use super::recorded::Recorded;
use super::separation::settle;
use super::setups::Setups;
use super::{again, bits, equivalence, figures, repeats, replays, tokens, weights};
use crate::Result;
use crate::analysis::{Comparison, Question};
use crate::found::{Caveat, Place};

/// Judges all records together; `None` when there is no record.
pub(super) fn judge<'a>(
    evidence: &[&'a Evidence<'a>],
    options: &Options,
    parts: &mut Parts,
) -> Result<Option<Question>> {
    let Some(setups) = Setups::gather(evidence, options)? else { return Ok(None) };
    for tokens in tokens::consistency(&setups) {
        parts.add_tokens(tokens);
    }
    let repeats = repeats::check(&setups, options, parts)?;
    let facts = Facts::gather(&setups, options)?;
    let recorded = Recorded { setups, facts, repeats };
    parts.signals.extend(recorded.facts.lanes().into_iter().map(|lane| lane.1));
    // Classes first: what they say is not said again of their pairs.
    equivalence::add(&recorded, parts);
    within_hardware(&recorded, options, parts)?;
    across_hardware(&recorded, options, parts)?;
    baselines(&recorded, options, parts)?;
    again::add(&recorded, parts);
    again::also_differ(&recorded, parts);
    weights::other_weights(&recorded, parts);
    figures::add(&recorded, parts);
    Ok(Some(Question {
        variable: recorded.setups.variable.clone(),
        reference: recorded.setups.reference.map(|index| recorded.label(index).to_owned()),
        signals: Vec::new(),
    }))
}

fn within_hardware(recorded: &Recorded<'_>, options: &Options, parts: &mut Parts) -> Result<()> {
    let hardware = recorded.setups.hardware();
    let pairs: Vec<(usize, usize)> = hardware.iter().flat_map(|name| recorded.pairs_on(name)).collect();
    let place = Place::On(hardware.iter().map(|&name| name.to_owned()).collect());
    one_by_one(recorded, Comparison::WithinHardware, &pairs, &place, options, parts)
}

fn baselines(recorded: &Recorded<'_>, options: &Options, parts: &mut Parts) -> Result<()> {
    let machines = recorded.hardware_pairs();
    let twins: Vec<(usize, usize)> =
        machines.iter().flat_map(|(here, there)| recorded.twins(here, there)).collect();
    let place = Place::Between(recorded.setups.hardware().into_iter().map(str::to_owned).collect());
    one_by_one(recorded, Comparison::CrossHardwareBaseline, &twins, &place, options, parts)
}

/// Judges pairs of setups, signal by signal: by bits where both repeat themselves, else against their own repetitions.
fn one_by_one(
    recorded: &Recorded<'_>,
    comparison: Comparison,
    pairs: &[(usize, usize)],
    place: &Place,
    options: &Options,
    parts: &mut Parts,
) -> Result<()> {
    let mut known = replays::Repeated::default();
    let mut verdicts = Vec::new();
    for lane in recorded.facts.lanes() {
        let mut family = Vec::new();
        for &pair in pairs {
            let summary = recorded.facts.summary(pair.0, pair.1, lane);
            if summary.compared_rows() == 0 || recorded.noisy(&[pair.0, pair.1], lane.0).is_empty() {
                verdicts.push(bits::exact(recorded, comparison, pair, lane, &summary));
            } else if let Some(candidate) =
                replays::noisy(recorded, comparison, pair, lane, (&summary, &mut known), options)?
            {
                family.push(candidate);
            } else {
                verdicts.push(bits::without_floor(recorded, comparison, pair, lane, &summary));
            }
        }
        if !family.is_empty() {
            parts.thresholds.extend(["alpha", "confidence", "effect"]);
        }
        verdicts.extend(settle(family, options)?);
    }
    parts.add_pairs(verdicts, place, &Caveat::default());
    Ok(())
}

fn across_hardware(recorded: &Recorded<'_>, options: &Options, parts: &mut Parts) -> Result<()> {
    if recorded.setups.variable == "hardware" {
        return Ok(());
    }
    let mut verdicts = Vec::new();
    for lane in recorded.facts.lanes() {
        let mut family = Vec::new();
        for machines in recorded.hardware_pairs() {
            let twins = recorded.twins(machines.0, machines.1);
            for (index, &first) in twins.iter().enumerate() {
                for &second in &twins[index + 1..] {
                    let other = recorded.value(first.0) != recorded.value(second.0);
                    if other && recorded.setups.controlled(first.0, second.0) {
                        family.push(replays::crossed(recorded, machines, first, second, lane));
                    }
                }
            }
        }
        if !family.is_empty() {
            parts.thresholds.extend(["alpha", "confidence", "effect"]);
        }
        verdicts.extend(settle(family, options)?);
    }
    let place = Place::Across(recorded.setups.hardware().into_iter().map(str::to_owned).collect());
    parts.add_pairs(verdicts, &place, &Caveat::default());
    Ok(())
}
