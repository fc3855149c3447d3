//! Single values instead of passes.

use mantissa_evidence::Record;
use mantissa_numerics::Point;
use mantissa_verdict::Audit;
use mantissa_verdict::analysis::Source;
use mantissa_verdict::audit::{AUDIT_VERSION, Cost, Difference, SpotCheck};

use super::catalogs;
use super::contested;
use super::grid;
use super::request::{Event, Model, Request};
use super::weights::{audited, same_weights};
use crate::error::LabError;
use crate::replay::{Claim, Replay, ReplayPlan, RunPlan, SpotCheck as Draws, SpotFacts};

/// Draws from the runs of each setup, and judges the claims by what the draws show.
pub(super) fn audit(
    request: &Request<'_>,
    [draws, seed]: [u64; 2],
    model: Model<'_>,
    record: &Record,
    source: &Source,
    progress: &dyn Fn(Event<'_>),
) -> Result<Audit, LabError> {
    grid::refuse_settings(request.claim)?;
    let claimed = grid::claimed(request.claim)?;
    let shell = record.shell();
    let claims = catalogs::claims(shell, &claimed, model, request)?;
    let weights = same_weights(record.origin(), model, &claims, progress)?;
    let wanted: Vec<_> = claims.iter().map(|claim| claim.candidate.iter().copied().collect()).collect();
    let plan = ReplayPlan::new(record, model.checkpoint, &claims, &wanted, Replay::Decode, &request.catalogs);
    let (mut verdicts, mut spots) = (Vec::new(), Vec::new());
    for claim in &claims {
        let runs: Vec<(usize, &RunPlan)> = plan
            .runs
            .iter()
            .enumerate()
            .filter(|(run, planned)| {
                shell.runs[*run].config_id == claim.config_id && !planned.classes.is_empty()
            })
            .collect();
        let (facts, refused) = match &claim.candidate {
            Ok(candidate) => {
                let check = Draws {
                    checkpoint: model.checkpoint,
                    record,
                    runs: &runs,
                    claim: *candidate,
                    draws,
                    seed,
                    catalogs: &request.catalogs,
                    machine: request.machine,
                };
                let config_id = &claim.config_id;
                (check.run(&|done| progress(Event::Drawn { config_id, done, total: draws }))?, None)
            }
            Err(why) => (SpotFacts::default(), Some(why.to_string())),
        };
        let mine = shell.runs.iter().enumerate().filter(|(_, run)| run.config_id == claim.config_id);
        let recorded = mine.map(|(run, _)| record.values(run)).sum();
        let spot = SpotCheck { recorded, ..said(claim, seed, record, &facts, &plan) };
        let name = claim.candidate.as_ref().map_or_else(|_| claim.config_id.clone(), ToString::to_string);
        let mut verdict = spot.verdict(&name, runs.len() as u64);
        verdict.not_checked.extend(refused);
        verdicts.push(verdict);
        spots.push(spot);
    }
    let mut notes = vec![limits(&spots).to_owned()];
    notes.extend(catalogs::not_given(&shell.configurations, &request.catalogs));
    let audit = Audit {
        audit_version: AUDIT_VERSION,
        sources: vec![source.clone()],
        model: Some(audited(model, weights, contested::claimed_names(request, record.shell()))),
        replay: "spot_check".to_owned(),
        outcome: Audit::outcome_of(&verdicts),
        claims: verdicts,
        candidates: Vec::new(),
        matrices: Vec::new(),
        consistency: Vec::new(),
        contested: Vec::new(),
        cost: Cost::default(),
        spot_checks: spots,
        self_test: Vec::new(),
        notes,
        thresholds: Vec::new(),
        catalogs: Vec::new(),
    };
    Ok(audit.resting_on(&catalogs::used(&plan)?))
}

/// What no draw can see.
fn limits(spots: &[SpotCheck]) -> &'static str {
    let attention = Point::AttnOut.to_string();
    if spots.iter().all(|spot| spot.kernels.iter().any(|(point, _)| *point == attention)) {
        "A spot check holds each value against its own recorded inputs; those of attention are the recorded keys and \
         values of all earlier tokens."
    } else {
        "A spot check holds each value against its own recorded inputs. It cannot see evidence that is consistent in \
         itself and was computed from other tokens' keys and values: attention is not recomputed."
    }
}

fn said(claim: &Claim, seed: u64, record: &Record, facts: &SpotFacts, plan: &ReplayPlan) -> SpotCheck {
    let first = facts.first.as_ref().map(|found| {
        let run = &record.shell().runs[found.run];
        Difference {
            run: format!("ref {} rep {}", run.reference_id, run.rep_id),
            phase: found.key.phase,
            step: found.key.step,
            position: Some(found.key.position),
            site: found.site.to_string(),
            element: Some(found.column as u64),
            evidence: format!("0x{:08x}", found.evidence),
            replay: format!("0x{:08x}", found.replay),
        }
    });
    let mut out_of_reach: Vec<String> = facts
        .out_of_reach
        .iter()
        .map(|(point, values)| {
            format!("{values} values of {point}: what they are computed from is not recorded beside them")
        })
        .collect();
    out_of_reach.push("log-probabilities, and which token was chosen".to_owned());
    for run in plan.runs.iter().filter(|run| run.classes.is_empty()) {
        out_of_reach.extend(run.refused.clone());
        out_of_reach.extend(run.unchecked.iter().map(|(_, why)| why.clone()));
    }
    out_of_reach.dedup();
    SpotCheck {
        config_id: claim.config_id.clone(),
        seed,
        population: facts.population,
        recorded: 0,
        drawn: facts.drawn,
        distinct: facts.distinct,
        different: facts.different,
        first,
        missed: SpotCheck::missed(facts.drawn),
        kernels: facts.kernels.iter().map(|(point, n)| (point.to_string(), *n)).collect(),
        out_of_reach,
    }
}
