//! Evidence that cannot be replayed: what it says about itself, and what would be enough.

use mantissa_evidence::{Configuration, Run};
use mantissa_numerics::setup::SomeAxes;
use mantissa_published::{Content, Opened};
use mantissa_verdict::analysis::{Source, Tier};
use mantissa_verdict::audit::{AUDIT_VERSION, ClaimAnswer, ClaimVerdict, Cost, RestsOn};
use mantissa_verdict::{Audit, Options, judge};

use crate::declared;
use crate::error::LabError;

/// Why nothing is replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReplayObstacle {
    /// No model was given.
    NoModel,
    /// The evidence holds distances that somebody else measured.
    NoSignals,
}

/// Judges what can be judged without a replay: whether the evidence's claims agree with each other.
pub(super) fn audit(opened: &Opened, source: &Source, why: ReplayObstacle) -> Result<Audit, LabError> {
    let analysis = judge(&[(source.clone(), &opened.content)], &Options::default())?;
    let experiment = match &opened.content {
        Content::Record(record) => Some(record.shell()),
        Content::Published(published) => published.experiment(),
    };
    let mut claims = Vec::new();
    for configuration in experiment.iter().flat_map(|experiment| &experiment.configurations) {
        let runs = experiment.iter().flat_map(|experiment| &experiment.runs);
        let runs: Vec<_> = runs.filter(|run| run.config_id == configuration.config_id).collect();
        let variable = experiment.map_or("", |experiment| experiment.metadata.variable_tested.as_str());
        let enough = lacking(&runs, configuration, variable);
        claims.push(ClaimVerdict {
            config_id: configuration.config_id.clone(),
            claim: None,
            answer: ClaimAnswer::NotEnoughEvidence,
            tier: Tier::None,
            sentence: format!("not enough evidence about the claim: {enough}"),
            fits: Vec::new(),
            cannot_tell_apart: Vec::new(),
            not_checked: vec!["every bit of it: nothing was replayed".to_owned()],
            enough: Some(enough),
            rests_on: RestsOn::default(),
            replays: Vec::new(),
        });
    }
    let mut notes = Vec::new();
    match why {
        ReplayObstacle::NoSignals => notes.push("The file holds distances that somebody else measured, and no signals: there is nothing to recompute. The signals they were computed from, with token ids, would be enough.".to_owned()),
        ReplayObstacle::NoModel => notes.push("Nothing was replayed. What the evidence says of itself was judged as by `mantissa analyze`.".to_owned()),
    }
    Ok(Audit {
        audit_version: AUDIT_VERSION,
        sources: analysis.sources,
        model: None,
        replay: "none".to_owned(),
        outcome: Audit::outcome_of(&claims),
        claims,
        candidates: Vec::new(),
        matrices: analysis.matrices,
        consistency: analysis.findings,
        contested: Vec::new(),
        cost: Cost::default(),
        spot_checks: Vec::new(),
        self_test: Vec::new(),
        notes,
        thresholds: analysis.thresholds,
        catalogs: Vec::new(),
    })
}

/// Everything that a replay of a configuration would need and is not there, each with the flag that supplies it.
fn lacking(runs: &[&Run], configuration: &Configuration, variable: &str) -> String {
    if runs.is_empty() {
        return "it holds no run of this setup".to_owned();
    }
    let mut lacking = vec!["no weights to replay with: give the model with --model".to_owned()];
    let without: Vec<&&Run> = runs.iter().filter(|run| run.prompt_token_ids.is_empty()).collect();
    if !without.is_empty() {
        let text = without.iter().all(|run| !run.prompt_text.is_empty());
        let instead = if text {
            "the ids that were fed would be enough, or --tokenize-prompt, which makes ids of the prompt's text"
        } else {
            "the ids that were fed would be enough"
        };
        lacking.push(format!(
            "its prompts' token ids are not in the file, so no model could be fed them: {instead}"
        ));
    }
    let setup = declared::lacks(configuration, variable, &SomeAxes::default());
    lacking.extend(setup.into_iter().map(|one| format!("{}: {}", one.what, one.remedy)));
    lacking.join("; ")
}
