//! Evidence and a model: the plan, the walk, the verdict.

use std::collections::BTreeMap;

use mantissa_compare::ReplayFacts;
use mantissa_evidence::{Digest, Outcome, Record};
use mantissa_lab::replay::{Candidate, Claim, Finished, Plan, Replay, Walk, between};
use mantissa_lab::{LabError, Machine};
use mantissa_verdict::Audit;
use mantissa_verdict::analysis::{Source, Tier};
use mantissa_verdict::audit::{
    AUDIT_VERSION, AuditedModel, Case, Cost, RunFacts, SetupFacts, audit as judge,
};
use mantissa_verdict::thresholds;

use super::super::record::Model;
use super::state::State;
use super::{Args, grid};
use crate::progress::{Bar, Unit};
use crate::settings::Settings;
use crate::terminal::Terminal;

/// Replays and judges.
pub(super) fn audit(
    args: &Args,
    model: &Model,
    record: &Record,
    source: &Source,
    machine: Machine,
    settings: &Settings,
    terminal: &Terminal,
) -> anyhow::Result<Audit> {
    let replay = Replay::from(args.replay);
    let instead = grid::instead(&args.claim)?;
    let quantized = model.checkpoint.quantization().is_some();
    let configurations = &record.shell().configurations;
    let claims: Vec<Claim> =
        configurations.iter().map(|c| Claim::of(c, instead, &model.checkpoint)).collect();
    let weights = same_weights(args, model, &claims, settings)?;
    let wanted = claims.iter().map(|claim| match &claim.candidate {
        Ok(candidate) => grid::candidates(*candidate, &args.vary, quantized),
        Err(_) => Ok(Vec::new()),
    });
    let wanted: Vec<Vec<Candidate>> = wanted.collect::<anyhow::Result<_>>()?;
    let plan = Plan::new(record, &model.checkpoint, &claims, &wanted, replay);
    // Statistics need whole replays.
    let noisy = configurations
        .iter()
        .filter_map(|c| c.mantissa.as_ref())
        .any(|extras| matches!(extras.reproducibility.outcome, Outcome::Divergent { .. }));
    let full = args.full || noisy;
    let (work, alone) = (plan.work(), plan.alone());
    let classes: usize = plan.runs.iter().map(|run| run.classes.len()).sum();
    let question = format!(
        "{} {} {} {replay:?} {full} {:?} {:?} {:?}",
        env!("CARGO_PKG_VERSION"),
        source.digest,
        weights.map_or_else(|| model.name.clone(), |digest| digest.to_string()),
        plan.candidates,
        plan.runs.iter().map(|run| &run.classes).collect::<Vec<_>>(),
        // A catalog may change what is computed without changing which candidates share it.
        plan.computations,
    );
    let mut state = State::open(args.state.as_deref(), &question)?;
    terminal.note(&format!(
        "{classes} class(es) to replay in {} forward passes, {} saved",
        work.passes,
        alone.passes.saturating_sub(work.passes)
    ));
    let known: Vec<(usize, usize)> = state.facts.keys().copied().collect();
    let walk = Walk { checkpoint: &model.checkpoint, record, plan: &plan, machine, full };
    let bar = Bar::new(settings, "replay", None, Unit::Tokens);
    let mut failed = None;
    let mut finished = |finished: Finished<'_>| {
        let added = state.add(finished.run, finished.class, finished.facts);
        added.map_err(|error| {
            failed = Some(error);
            LabError::Stopped
        })
    };
    let walked = walk.run(&|run, class| known.contains(&(run, class)), &mut finished, &|progress| {
        bar.at("replay", progress.done, Some(progress.total));
    });
    bar.clear();
    if let Some(error) = failed {
        return Err(error);
    }
    walked?;
    let case = case(record, &plan, &claims, &state.facts, replay)?;
    let claims = judge(&case)?;
    let statistical = claims.iter().any(|claim| claim.tier == Tier::Statistical);
    let stopped = state.facts.values().filter(|facts| facts.passes < facts.passes_in_all).count();
    let mut notes = Vec::new();
    if !full && stopped > 0 {
        notes.push(
            "Replays ended at their first contradiction, so distances are unknown; --full computes them."
                .to_owned(),
        );
    }
    if instead != mantissa_lab::replay::Instead::default() {
        notes.push("Claims were given with --claim, in place of what the evidence declares.".to_owned());
    }
    notes.push("Neighbours of the evidence's row were not computed: a row's bits do not depend on what shares its batch, only on how many rows that is.".to_owned());
    Ok(Audit {
        audit_version: AUDIT_VERSION,
        sources: vec![source.clone()],
        model: Some(AuditedModel {
            name: model.name.clone(),
            weights_digest: weights.map(|digest| digest.to_string()),
            stated_by_evidence: weights.is_some(),
        }),
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
        spot_checks: Vec::new(),
        self_test: Vec::new(),
        notes,
        thresholds: if statistical { vec![thresholds::alpha(0.05)] } else { Vec::new() },
    })
}

/// Refuses a model of other weights than the evidence states. Returns their digest where it states one.
pub(super) fn same_weights(
    args: &Args,
    model: &Model,
    claims: &[Claim],
    settings: &Settings,
) -> anyhow::Result<Option<Digest>> {
    if claims.iter().all(|claim| claim.weights.is_none()) {
        return Ok(None);
    }
    let total = model.checkpoint.stored_bytes();
    let bar = Bar::new(settings, "digest of the weights", Some(total), Unit::Bytes);
    let found = model.checkpoint.digest(&|done| bar.at("digest of the weights", done.min(total), None))?;
    let found: Digest = found.digest.parse().map_err(anyhow::Error::msg)?;
    for claim in claims {
        if let Some(stated) = claim.weights.filter(|stated| *stated != found) {
            anyhow::bail!(
                "{}: {} was recorded with weights {stated}, but {} has {found}; give the model that was recorded",
                args.evidence.as_deref().map_or_else(String::new, |path| path.display().to_string()),
                claim.config_id,
                model.name
            );
        }
    }
    Ok(Some(found))
}

/// Facts in the form that is judged.
pub(super) fn case(
    record: &Record,
    plan: &Plan,
    claims: &[Claim],
    known: &BTreeMap<(usize, usize), ReplayFacts>,
    replay: Replay,
) -> anyhow::Result<Case> {
    let shell = record.shell();
    let mut setups = Vec::with_capacity(claims.len());
    for claim in claims {
        let runs: Vec<usize> =
            (0..shell.runs.len()).filter(|i| shell.runs[*i].config_id == claim.config_id).collect();
        let mut facts = Vec::with_capacity(runs.len());
        for &run in &runs {
            let (planned, stored) = (&plan.runs[run], &shell.runs[run]);
            let mut repetitions = Vec::new();
            for &other in runs.iter().filter(|other| **other != run) {
                if shell.runs[other].reference_id == stored.reference_id {
                    repetitions.push(between(record, run, other)?);
                }
            }
            let classes = planned.classes.iter().enumerate();
            facts.push(RunFacts {
                reference_id: stored.reference_id,
                rep_id: stored.rep_id,
                refused: planned.refused.clone(),
                tokens: (planned.prompt.len() + planned.forced.len()) as u64,
                classes: classes
                    .filter_map(|(i, class)| Some((class.members.clone(), known.get(&(run, i))?.clone())))
                    .collect(),
                unchecked: planned.unchecked.clone(),
                repetitions,
            });
        }
        let place = |candidate: &Candidate| plan.candidates.iter().position(|known| known == candidate);
        setups.push(SetupFacts {
            config_id: claim.config_id.clone(),
            claim: claim.candidate.as_ref().ok().and_then(place),
            unreadable: claim.candidate.as_ref().err().map(ToString::to_string),
            runs: facts,
        });
    }
    Ok(Case {
        prefill_replay: replay == Replay::Prefill,
        candidates: plan.candidates.iter().map(ToString::to_string).collect(),
        unproven: (0..plan.candidates.len())
            .filter(|place| plan.candidates[*place].hardware.basis() == mantissa_engine::Basis::Literature)
            .collect(),
        setups,
    })
}
