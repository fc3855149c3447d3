//! Answers of a server beside those of one that is known to run what is claimed: what is left where nothing can be
//! computed to the bit (compiled models, graphs, steps that other requests shared).
//!
//! Both are replayed in the claim's nearest setup that has recipes, eager and one request at a time, and each sequence
//! has a score: the mean distance of its log-probabilities from that replay. Scores of two servers that compute alike
//! are drawn alike. Left out: any bit, a verdict (what is found is a note), and the tokens of prompts: what somebody
//! asked is not drawn as outputs are, and the two files need not have both.

use mantissa_compare::SignalKind;
use mantissa_compare::replayed::SignalReplay;
use mantissa_evidence::{Experiment, PhaseSignals, Record};
use mantissa_numerics::setup::SomeAxes;
use mantissa_verdict::VerdictError;
use mantissa_verdict::stats::{TwoSampleStatistic, seed_of, two_sample_p};

use super::grid;
use super::request::{Model, Request};
use crate::error::LabError;
use crate::replay::{Claim, Logprobs, Replay, ReplayPlan, Walk};

/// What the distances of `record` say beside those of `reference`.
///
/// *Errors:* those of a replay.
pub(super) fn notes(
    request: &Request<'_>,
    model: Model<'_>,
    record: &Record,
    reference: &Record,
) -> Result<Vec<String>, LabError> {
    let claimed = SomeAxes { compile: Some(false), ..grid::claimed(request.claim)? };
    let outputs = |record: &Record| -> Result<Record, LabError> {
        Ok(Record::from_experiment(outputs_alone(record.experiment()?), record.origin()))
    };
    let [record, reference] = [outputs(record)?, outputs(reference)?];
    let [(ours, setup), (theirs, _)] =
        [scores(request, model, &record, &claimed)?, scores(request, model, &reference, &claimed)?];
    let what = "log-probabilities beside another server's";
    if ours.is_empty() || theirs.is_empty() {
        return Ok(vec![format!(
            "{what}: not compared, since {} has no sequence that can be replayed in the claimed setup.",
            if ours.is_empty() { "the evidence" } else { "the other file" }
        )]);
    }
    let seed = seed_of(&[what, &setup]);
    let p = match two_sample_p(&ours, &theirs, TwoSampleStatistic::AbsoluteMean, seed) {
        Ok(p) => p,
        Err(error @ VerdictError::Empty { .. }) => return Ok(vec![format!("{what}: {error}.")]),
        Err(error) => return Ok(vec![format!("{what}: not compared, {error}.")]),
    };
    let [(mean_a, error_a), (mean_b, error_b)] = [moments(&ours), moments(&theirs)];
    let error = error_a.hypot(error_b);
    Ok(vec![format!(
        "{what}: replayed as {setup}, the evidence's {} sequences are {mean_a:.5} away (mean distance of a row), the \
         other's {} are {mean_b:.5}; p = {} of {} that both compute alike (sequences permuted). The difference of the \
         means has a standard error of {error:.5}: one below {:.5} would mostly be missed. It \
         says nothing about which setup served.",
        ours.len(),
        theirs.len(),
        p.at_least(),
        p.of(),
        2.0 * error,
    )])
}

/// Without log-probabilities of the prompts' own tokens.
fn outputs_alone(mut experiment: Experiment) -> Experiment {
    for run in &mut experiment.runs {
        let Some(prefill) = run.prefill.take_if(|prefill| prefill.tensors.is_empty()) else { continue };
        let PhaseSignals { positions, mut logprobs, .. } = prefill;
        let of_output = positions.last() == Some(&-1);
        if let Some(list) = logprobs.as_mut().filter(|_| of_output) {
            let before = list.token_ids.len().saturating_sub(list.k);
            list.token_ids.drain(..before);
            list.log_probs.drain(..before);
            list.positions = 1;
        }
        run.prefill = of_output.then_some(PhaseSignals { positions: vec![-1], logprobs, ..prefill });
    }
    experiment
}

/// Scores of the sequences of a record, replayed in `claimed`; the setup's name.
fn scores(
    request: &Request<'_>,
    model: Model<'_>,
    record: &Record,
    claimed: &SomeAxes,
) -> Result<(Vec<f64>, String), LabError> {
    let shell = record.shell();
    let variable = &shell.metadata.variable_tested;
    let claims: Vec<Claim> = shell
        .configurations
        .iter()
        .map(|configuration| Claim::tested(configuration, variable, claimed, model.checkpoint))
        .filter(|claim| matches!(claim.logprobs, Logprobs::Engine(_)))
        .collect();
    let wanted: Vec<_> = claims.iter().map(|claim| claim.candidate.iter().copied().collect()).collect();
    let setup = claims.iter().find_map(|claim| claim.candidate.as_ref().ok());
    let setup = setup.map_or_else(String::new, ToString::to_string);
    let plan = ReplayPlan::new(record, model.checkpoint, &claims, &wanted, Replay::Decode, &request.catalogs);
    let walk =
        Walk { checkpoint: model.checkpoint, record, plan: &plan, machine: request.machine, full: true };
    let mut found = Vec::new();
    walk.run(
        &|_, _| false,
        &mut |finished| {
            let mut all = SignalReplay::default();
            for phase in [&finished.facts.prefill, &finished.facts.decode] {
                all.add(phase.signals[SignalKind::Logprobs as usize]);
            }
            found.extend(all.mean_l2().map(|score| (finished.run, score)));
            Ok(())
        },
        &|_| {},
    )?;
    found.sort_by_key(|(run, _)| *run);
    Ok((found.into_iter().map(|(_, score)| score).collect(), setup))
}

/// Mean, and its standard error.
#[expect(clippy::cast_precision_loss, reason = "sequences are few")]
fn moments(scores: &[f64]) -> (f64, f64) {
    let n = scores.len() as f64;
    let mean = scores.iter().sum::<f64>() / n;
    let squares: f64 = scores.iter().map(|score| (score - mean).powi(2)).sum();
    (mean, (squares / (n - 1.0).max(1.0) / n).sqrt())
}
