//! Self-test: known deviations, planted, and what a verification says of each.

use std::collections::BTreeMap;
use std::path::Path;

use mantissa_evidence::{Decoding, Experiment, ExperimentMetadata, Record};
use mantissa_model::synth::{self, SynthSpec};
use mantissa_model::{Arch, Checkpoint};
use mantissa_numerics::setup::{Attention, Hardware, QuantizedWeights};
use mantissa_numerics::{Dtype, Generation, Setup};
use mantissa_verdict::Audit;
use mantissa_verdict::analysis::Outcome;
use mantissa_verdict::audit::{AUDIT_VERSION, AuditedModel, ClaimAnswer, Cost, Planted, audit as judge};

use super::case::case;
use super::catalogs;
use super::grid;
use super::request::{Event, Model, Request};
use crate::catalog_use::{self, Coverage};
use crate::error::LabError;
use crate::replay::{Claim, Deviations, Logprobs, PlantedRun, Replay, ReplayPlan, Walk};
use crate::uncovered::{Unreadable, uncovered};

/// Tokens of the prompt and decode steps of what is planted in.
const PROMPT: usize = 64;
const STEPS: usize = 16;

/// In a model made for it.
pub(super) fn alone(request: &Request<'_>, progress: &dyn Fn(Event<'_>)) -> Result<Audit, LabError> {
    let folder = tempfile::tempdir().map_err(|source| LabError::NoTemporaryFolder { source })?;
    let made;
    let checkpoint = if let Some(model) = request.model {
        model.checkpoint
    } else {
        let path = folder.path().join("model");
        synth::write(&SynthSpec::tiny(Arch::LLAMA, 0), &path, &|_| {})?;
        made = Checkpoint::open(&path)?;
        &made
    };
    let claimed = grid::claimed(request.claim)?;
    let gpu = claimed.hardware.is_some_and(|hardware| hardware != Hardware::Cpu);
    let mut claim = claimed.over(Setup {
        // On a GPU the storage format is the one that is covered; here the one in which every order of sums shows.
        dtype: if gpu { Dtype::Bf16 } else { Dtype::F32 },
        batch_size: 4,
        ..Setup::default()
    });
    claim.quantization = QuantizedWeights::Keep;
    uncovered(&claim).map_err(|Unreadable { what, remedy }| LabError::Uncovered { what, remedy })?;
    let vocabulary = u32::try_from(checkpoint.config().vocab_size).unwrap_or(u32::MAX);
    let length = u32::try_from(PROMPT).unwrap_or(u32::MAX);
    let prompt: Vec<u32> = (0..length).map(|i| (7 * i * i + 3 * i + 1) % vocabulary.min(500)).collect();
    let graph = checkpoint.config().graph();
    let runs = std::iter::once([PROMPT, STEPS]);
    let Coverage { found, refused } = catalog_use::of_runs(&claim, &request.catalogs, &graph, runs);
    // Before weights are read and altered.
    if let Some(error) = refused {
        return Err(error.into());
    }
    let mut notes = Vec::new();
    let self_test = planted(request, checkpoint, claim, &prompt, folder.path(), &mut notes, progress)?;
    let passed = !self_test.is_empty() && self_test.iter().all(|planted| planted.passed);
    Ok(Audit {
        audit_version: AUDIT_VERSION,
        sources: Vec::new(),
        model: Some(AuditedModel {
            name: request.model.map_or("a tiny Llama made for it", |model| model.name).to_owned(),
            claimed: Vec::new(),
            weights_digest: None,
            stated_by_evidence: false,
        }),
        replay: "decode".to_owned(),
        outcome: if passed { Outcome::Consistent } else { Outcome::NotEnoughEvidence },
        claims: Vec::new(),
        candidates: Vec::new(),
        matrices: Vec::new(),
        consistency: Vec::new(),
        contested: Vec::new(),
        cost: Cost::default(),
        spot_checks: Vec::new(),
        self_test,
        notes,
        thresholds: Vec::new(),
        catalogs: catalog_use::used(&found)?,
    })
}

/// In the model and setup of evidence, on the beginning of its first prompt.
pub(super) fn of(
    request: &Request<'_>,
    model: Model<'_>,
    record: &Record,
    notes: &mut Vec<String>,
    progress: &dyn Fn(Event<'_>),
) -> Result<Vec<Planted>, LabError> {
    let claimed = grid::claimed(request.claim)?;
    let shell = record.shell();
    let claims = catalogs::claims(shell, &claimed, model, request)?;
    let claim = claims.into_iter().find_map(|claim| claim.candidate.ok());
    let prompt = shell.runs.iter().map(|run| &run.prompt_token_ids).find(|ids| !ids.is_empty());
    let (Some(claim), Some(prompt)) = (claim, prompt) else {
        notes.push(
            "Nothing was planted: the evidence has no setup and prompt that can be replayed.".to_owned(),
        );
        return Ok(Vec::new());
    };
    let prompt = &prompt[..prompt.len().min(PROMPT)];
    let folder = tempfile::tempdir().map_err(|source| LabError::NoTemporaryFolder { source })?;
    planted(request, model.checkpoint, claim, prompt, folder.path(), notes, progress)
}

fn planted(
    request: &Request<'_>,
    checkpoint: &Checkpoint,
    claim: Setup,
    prompt: &[u32],
    scratch: &Path,
    notes: &mut Vec<String>,
    progress: &dyn Fn(Event<'_>),
) -> Result<Vec<Planted>, LabError> {
    progress(Event::Planting);
    // Batch sizes on both sides of the claim's, and every other attention.
    let batches = [1, 2, 5, 9, 17].map(|batch_size| Setup { batch_size, ..claim });
    let attentions = Attention::OWN.map(|attention| Setup { attention, ..claim });
    let others: Vec<Setup> = batches.into_iter().chain(attentions).filter(|other| *other != claim).collect();
    let deviations = Deviations {
        checkpoint,
        claim,
        others: &others,
        prompt,
        steps: STEPS,
        catalogs: &request.catalogs,
        machine: request.machine,
        scratch,
    };
    let (plants, left_out) = deviations.plant()?;
    notes.extend(left_out.into_iter().map(|line| format!("Not planted: {line}")));
    let total = plants.len() as u64;
    let mut results = Vec::with_capacity(plants.len());
    for (i, plant) in plants.into_iter().enumerate() {
        progress(Event::Planted { done: i as u64, total });
        results.extend(verified(request, checkpoint, claim, &others, plant)?);
    }
    Ok(results)
}

/// Verifies a plant as evidence of the claim. A setup whose kernels compute the same as the claim's is no deviation:
/// `None`.
fn verified(
    request: &Request<'_>,
    checkpoint: &Checkpoint,
    claim: Setup,
    others: &[Setup],
    plant: PlantedRun,
) -> Result<Option<Planted>, LabError> {
    let PlantedRun { deviation, mut dishonest, run, changed } = plant;
    let experiment = Experiment {
        metadata: ExperimentMetadata::bare("self_test", "none"),
        configurations: Vec::new(),
        runs: vec![run],
    };
    let record = Record::from_experiment(experiment, Path::new("self-test"));
    let dispatch = catalog_use::dispatch(&claim, &request.catalogs);
    let claims = [Claim {
        config_id: String::new(),
        candidate: Ok(claim),
        weights: None,
        decoding: Some(Decoding::Greedy),
        generation: Some(Generation::default()),
        logprobs: Logprobs::Stated(dispatch.log_softmax_of(checkpoint.config())),
        engine: None,
    }];
    let wanted = [std::iter::once(claim).chain(others.iter().copied()).collect::<Vec<_>>()];
    let plan = ReplayPlan::new(&record, checkpoint, &claims, &wanted, Replay::Decode, &request.catalogs);
    // "recorded by" a member of the claim's own class is honest by its recipes.
    let class = plan.runs[0].classes.iter().find(|class| class.members.contains(&0));
    let same = class.is_some_and(|class| {
        class.members.iter().skip(1).any(|m| deviation == format!("recorded by {}", plan.candidates[*m]))
    });
    dishonest &= !same;
    let mut facts = BTreeMap::new();
    let walk = Walk { checkpoint, record: &record, plan: &plan, machine: request.machine, full: false };
    walk.run(
        &|_, _| false,
        &mut |done| {
            facts.insert((done.run, done.class), done.facts.clone());
            Ok(())
        },
        &|_| {},
    )?;
    let case = case(&record, &plan, &claims, &facts, Replay::Decode)?;
    let Some(verdict) = judge(&case)?.into_iter().next() else { return Ok(None) };
    let caught = matches!(verdict.answer, ClaimAnswer::Contradicted | ClaimAnswer::FitsNone);
    let passed = if dishonest { caught } else { verdict.answer == ClaimAnswer::Consistent };
    let deviation = if same { format!("{deviation}, whose kernels compute the same") } else { deviation };
    Ok(Some(Planted {
        deviation,
        dishonest,
        answer: verdict.answer,
        changed,
        passed,
        found: verdict.sentence,
    }))
}
