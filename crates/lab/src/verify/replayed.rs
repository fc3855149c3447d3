//! Evidence and a model: the plan, the walk, the verdict.

use std::collections::BTreeMap;

use mantissa_compare::ReplayFacts;
use mantissa_evidence::record::RowKey;
use mantissa_evidence::{Outcome, Record};
use mantissa_numerics::{Generation, Phase, Setup};
use mantissa_verdict::Audit;
use mantissa_verdict::analysis::{Source, Tier};
use mantissa_verdict::audit::{AUDIT_VERSION, Cost, audit as judge};
use mantissa_verdict::thresholds;

use super::case::case;
use super::catalogs;
use super::contested;
use super::grid;
use super::request::{Event, Method, Model, Request};
use super::state::State;
use super::weights::{audited, same_weights};
use crate::coverage::PlannedRun;
use crate::declared::is_quantized;
use crate::error::LabError;
use crate::replay::{Claim, Finished, Logprobs, Replay, ReplayPlan, Walk};

/// What is claimed of each configuration, and the setups that its runs are replayed in.
fn wanted(
    request: &Request<'_>,
    model: Model<'_>,
    record: &Record,
) -> Result<(Vec<Claim>, Vec<Vec<Setup>>), LabError> {
    let claimed = grid::claimed(request.claim)?;
    let quantized = is_quantized(model.checkpoint);
    let claims = catalogs::claims(record.shell(), &claimed, model, request)?;
    let wanted = claims.iter().map(|claim| match &claim.candidate {
        Ok(candidate) => grid::candidates(*candidate, request.vary, quantized),
        Err(_) => Ok(Vec::new()),
    });
    let wanted = wanted.collect::<Result<_, _>>()?;
    Ok((claims, wanted))
}

/// What a replay would run.
pub(super) fn planned(
    request: &Request<'_>,
    model: Model<'_>,
    record: &Record,
) -> Result<Vec<PlannedRun>, LabError> {
    let (claims, wanted) = wanted(request, model, record)?;
    let mut planned = Vec::new();
    for run in &record.shell().runs {
        let claim = claims.iter().position(|claim| claim.config_id == run.config_id);
        let (prompt, steps) = (run.prompt_token_ids.len(), run.output_token_ids.len());
        for setup in claim.filter(|_| prompt > 0).into_iter().flat_map(|claim| &wanted[claim]) {
            let run = PlannedRun { model: 0, setup: *setup, prompt, steps };
            if !planned.contains(&run) {
                planned.push(run);
            }
        }
    }
    Ok(planned)
}

/// What tokens were chosen by, where the evidence does not say it: once for a configuration.
fn settings_notes(
    plan: &ReplayPlan,
    facts: &BTreeMap<(usize, usize), ReplayFacts>,
    record: &Record,
    model: Model<'_>,
) -> Vec<String> {
    let mut notes = BTreeMap::new();
    let Ok(own) = model.checkpoint.generation().map(Generation::greedy) else { return Vec::new() };
    let runs = &record.shell().runs;
    for ((run, _), facts) in facts {
        let (Some(planned), Some(stored)) = (plan.runs.get(*run), runs.get(*run)) else { continue };
        let Some(without) = facts.first_token_without_settings.filter(|_| facts.first_token.is_none()) else {
            continue;
        };
        if planned.readings.len() > 1 {
            notes.entry(stored.config_id.as_str()).or_insert_with(|| format!(
                "{}: the evidence states no settings of generation; its tokens are those that the model's own \
                 generation_config.json gives ({own}). Without it, step {} would be token {}, not {}.",
                stored.config_id, without.index, without.replay, without.evidence
            ));
        }
    }
    notes.into_values().collect()
}

/// How much rounded log-probabilities say: once for a configuration.
fn rounded_notes(stated: &[Claim], record: &Record) -> Result<Vec<String>, LabError> {
    let mut notes = Vec::new();
    for claim in stated {
        let Logprobs::Engine(Some(decimals)) = claim.logprobs else { continue };
        let (mut values, mut bits) = (0_u32, 0.0);
        let runs = &record.shell().runs;
        for run in (0..runs.len()).filter(|run| runs[*run].config_id == claim.config_id) {
            for phase in [Phase::Prefill, Phase::Decode] {
                let Some(layout) = record.layout(run, phase) else { continue };
                for step in layout.steps.clone() {
                    let found = record.candidates(run, RowKey { phase, step, position: -1 })?;
                    for value in found.into_iter().flat_map(|found| found.log_probs) {
                        // Binary32 values that are printed alike.
                        let unit = f64::from(value.abs().next_up()) - f64::from(value.abs());
                        if value.is_finite() && unit > 0.0 {
                            values += 1;
                            bits += (10_f64.powi(-i32::from(decimals)) / unit).max(1.0).log2();
                        }
                    }
                }
            }
        }
        if values > 0 {
            notes.push(format!(
                "{}: log-probabilities were rounded to {decimals} decimals, which leaves out {:.1} of a value's 24 \
                 bits on average; equal means equal at that precision.",
                claim.config_id,
                bits / f64::from(values)
            ));
        }
    }
    Ok(notes)
}

/// Replays and judges.
pub(super) fn audit(
    request: &Request<'_>,
    model: Model<'_>,
    record: &Record,
    source: &Source,
    progress: &dyn Fn(Event<'_>),
) -> Result<Audit, LabError> {
    let (replay, full, state) = match request.method {
        Method::Replay { replay, full, state } => (replay, full, state),
        Method::SpotCheck { .. } | Method::Elsewhere(_) => (Replay::Decode, false, None),
    };
    let configurations = &record.shell().configurations;
    let (stated, wanted) = wanted(request, model, record)?;
    let weights = same_weights(record.origin(), model, &stated, progress)?;
    let plan = ReplayPlan::new(record, model.checkpoint, &stated, &wanted, replay, &request.catalogs);
    // Statistics need whole replays.
    let noisy = configurations
        .iter()
        .filter_map(|c| c.mantissa.as_ref())
        .any(|extras| matches!(extras.reproducibility.outcome, Outcome::Divergent { .. }));
    let full = full || noisy;
    let (work, alone) = (plan.work(), plan.alone());
    let classes: usize = plan.runs.iter().map(|run| run.classes.len()).sum();
    let question = format!(
        "{} {} {} {replay:?} {full} {:?} {:?} {:?}",
        env!("CARGO_PKG_VERSION"),
        source.digest,
        weights.map_or_else(|| model.name.to_owned(), |digest| digest.to_string()),
        plan.candidates,
        plan.runs.iter().map(|run| (&run.classes, &run.readings)).collect::<Vec<_>>(),
        // A catalog may change what is computed without changing which candidates share it.
        plan.computations,
    );
    let mut state = State::open(state, &question)?;
    progress(Event::Planned {
        classes,
        passes: work.passes,
        saved: alone.passes.saturating_sub(work.passes),
    });
    let known: Vec<(usize, usize)> = state.facts.keys().copied().collect();
    let walk = Walk { checkpoint: model.checkpoint, record, plan: &plan, machine: request.machine, full };
    let mut finished = |finished: Finished<'_>| state.add(finished.run, finished.class, finished.facts);
    walk.run(&|run, class| known.contains(&(run, class)), &mut finished, &|fed| {
        progress(Event::Replayed { done: fed.done, total: fed.total });
    })?;
    let case = case(record, &plan, &stated, &state.facts, replay)?;
    let claims = judge(&case)?;
    let statistical = claims.iter().any(|claim| claim.tier == Tier::Statistical);
    let stopped = |facts: &&ReplayFacts| facts.passes < facts.passes_in_all && facts.refused.is_none();
    let stopped = state.facts.values().filter(stopped).count();
    let mut notes = Vec::new();
    if !full && stopped > 0 {
        notes.push(
            "Replays ended at their first contradiction, so distances are unknown; --full computes them."
                .to_owned(),
        );
    }
    if !request.claim.is_empty() {
        notes.push("Claims were given with --claim, in place of what the evidence declares.".to_owned());
    }
    if !grid::claimed_settings(request.claim).is_empty() {
        let chosen = stated.iter().filter_map(|claim| Some((&claim.config_id, claim.generation.as_ref()?)));
        notes.extend(chosen.map(|(id, settings)| format!("{id}: tokens are claimed under {settings}.")));
    }
    notes.extend(settings_notes(&plan, &state.facts, record, model));
    notes.extend(rounded_notes(&stated, record)?);
    notes.push("Neighbours of the evidence's row were not computed: a row's bits do not depend on what shares its batch, only on how many rows that is.".to_owned());
    notes.extend(catalogs::not_given(configurations, &request.catalogs));
    let audit = Audit {
        audit_version: AUDIT_VERSION,
        sources: vec![source.clone()],
        model: Some(audited(model, weights, contested::claimed_names(request, record.shell()))),
        replay: replay.name().to_owned(),
        outcome: Audit::outcome_of(&claims),
        matrices: case.matrices(),
        candidates: case.candidates.clone(),
        claims,
        cost: Cost {
            candidates: plan.runs.iter().flat_map(|run| &run.classes).map(|c| c.members.len() as u64).sum(),
            classes: classes as u64,
            passes_planned: work.passes,
            passes_alone: alone.passes,
            rows_planned: work.tokens,
            rows_alone: alone.tokens,
            stopped_early: stopped as u64,
        },
        consistency: Vec::new(),
        contested: Vec::new(),
        spot_checks: Vec::new(),
        self_test: Vec::new(),
        notes,
        thresholds: if statistical { vec![thresholds::alpha(0.05)] } else { Vec::new() },
        catalogs: Vec::new(),
    };
    Ok(audit.resting_on(&catalogs::used(&plan)?))
}
