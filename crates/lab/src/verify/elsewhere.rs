//! Candidates replayed by another program on this machine: what no recipe here covers.
//!
//! The program (`python -m mantissa_forensics.replay`) feeds the evidence's own tokens in each candidate setup and
//! leaves a container; its rows are set beside the evidence's. Equal bits say that a setup fits, whatever ran. Other
//! bits say something only where the machine and its libraries are those of the evidence: else no candidate is
//! contradicted.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use mantissa_evidence::{Configuration, Experiment, Record, Run, container};
use mantissa_numerics::setup::{Axis, SomeAxes, Value};
use mantissa_numerics::{Phase, Setup, Site};
use mantissa_verdict::Audit;
use mantissa_verdict::analysis::Source;
use mantissa_verdict::audit::{AUDIT_VERSION, Case, Cost, RunFacts, SetupFacts, audit as judge};
use serde_json::json;

use super::contested;
use super::grid;
use super::request::{Elsewhere, Event, Model, Request};
use super::weights::{audited, same_weights};
use crate::declared;
use crate::error::LabError;
use crate::replay::{Claim, between};

/// What the package's replay can set.
const AXES: [Axis; 3] = [Axis::BatchSize, Axis::Attention, Axis::Dtype];

/// Replays elsewhere and judges.
pub(super) fn audit(
    request: &Request<'_>,
    elsewhere: Elsewhere<'_>,
    model: Model<'_>,
    record: &Record,
    evidence: &Experiment,
    source: &Source,
    progress: &dyn Fn(Event<'_>),
) -> Result<Audit, LabError> {
    grid::refuse_settings(request.claim)?;
    let claimed = grid::claimed(request.claim)?;
    let varied = request.vary.iter().map(grid::Varied::axis);
    if let Some(axis) = varied.chain(claimed.values().map(Value::axis)).find(|axis| !sets(*axis)) {
        return Err(LabError::NotReplayedElsewhere { axis: axis.name() });
    }
    let variable = &evidence.metadata.variable_tested;
    let mut claims: Vec<Claim> =
        evidence.configurations.iter().map(|made| claim(made, variable, &claimed, model)).collect();
    contested::set_aside(request, evidence, &mut claims)?;
    let weights = same_weights(record.origin(), model, &claims, progress)?;
    let mut candidates: Vec<Setup> = Vec::new();
    let mut wanted: Vec<Vec<usize>> = Vec::new();
    for claim in &claims {
        let setups = match &claim.candidate {
            Ok(claim) => grid::candidates(*claim, request.vary, false)?,
            Err(_) => Vec::new(),
        };
        let places = setups.into_iter().map(|setup| {
            candidates.iter().position(|known| *known == setup).unwrap_or_else(|| {
                candidates.push(setup);
                candidates.len() - 1
            })
        });
        wanted.push(places.collect());
    }
    let prompts = prompts(evidence);
    let replayed = run(elsewhere, model, evidence, &candidates, &prompts)?;
    let here = Machine::of(replayed.configurations.first());
    let foreign = evidence.configurations.iter().any(|made| Machine::of(Some(made)) != here);
    // Evidence first, then what was replayed.
    let all = Experiment {
        metadata: evidence.metadata.clone(),
        configurations: evidence.configurations.iter().chain(&replayed.configurations).cloned().collect(),
        runs: evidence.runs.iter().chain(&replayed.runs).cloned().collect(),
    };
    let both = Record::from_experiment(all, record.origin());
    let beside = Beside { evidence, replayed: &replayed, both: &both, candidates: &candidates };
    let setups = claims.iter().zip(&wanted).map(|(claim, wanted)| beside.facts(claim, wanted));
    let setups = setups.collect::<Result<Vec<_>, _>>()?;
    let shown = |setup: &Setup| {
        let name = setup.to_string();
        let rest = name.split_once('_').map_or("", |(_, rest)| rest);
        format!("{}_{rest}", here.hardware)
    };
    let case = Case {
        prefill_replay: false,
        candidates: candidates.iter().map(shown).collect(),
        unproven: if foreign { (0..candidates.len()).collect() } else { Vec::new() },
        setups,
    };
    let claims = judge(&case)?;
    let passes: u64 = prompts.iter().map(|run| 1 + steps(run) as u64).sum();
    let rows = prompts.iter().map(|run| (run.prompt_token_ids.len() + steps(run)) as u64).sum::<u64>();
    let many = candidates.len() as u64;
    Ok(Audit {
        audit_version: AUDIT_VERSION,
        sources: vec![source.clone()],
        model: Some(audited(model, weights, contested::claimed_names(request, evidence))),
        replay: "decode".to_owned(),
        outcome: Audit::outcome_of(&claims),
        matrices: case.matrices(),
        candidates: case.candidates.clone(),
        claims,
        cost: Cost {
            candidates: many,
            classes: many,
            passes_planned: many * passes,
            passes_alone: many * passes,
            rows_planned: many * rows,
            rows_alone: many * rows,
            stopped_early: 0,
        },
        consistency: Vec::new(),
        contested: Vec::new(),
        spot_checks: Vec::new(),
        self_test: Vec::new(),
        notes: notes(&here, foreign),
        thresholds: Vec::new(),
        catalogs: Vec::new(),
    })
}

/// Evidence and what another program left, in one record.
struct Beside<'b> {
    evidence: &'b Experiment,
    replayed: &'b Experiment,
    /// Runs of the evidence, then of the replay.
    both: &'b Record,
    candidates: &'b [Setup],
}

impl Beside<'_> {
    /// Facts about the runs of a claim, each beside its replay as each of `wanted`, the claim first.
    fn facts(&self, claim: &Claim, wanted: &[usize]) -> Result<SetupFacts, LabError> {
        let runs = self.evidence.runs.iter().enumerate();
        let mine: Vec<usize> =
            runs.filter(|(_, run)| run.config_id == claim.config_id).map(|(place, _)| place).collect();
        let mut facts = Vec::with_capacity(mine.len());
        for &place in &mine {
            let run = &self.evidence.runs[place];
            let mut found = RunFacts {
                reference_id: run.reference_id,
                rep_id: run.rep_id,
                tokens: (run.prompt_token_ids.len() + steps(run)) as u64,
                recorded: self.both.values(place),
                ..RunFacts::default()
            };
            for &candidate in wanted {
                match self.replay_of(run, &self.candidates[candidate]) {
                    Some(replay) => {
                        let mut compared = between(self.both, place, self.evidence.runs.len() + replay)?;
                        let passes = 1 + steps(run) as u64;
                        (compared.passes, compared.passes_in_all) = (passes, passes);
                        found.classes.push((vec![candidate], compared));
                    }
                    None => found.unchecked.push((candidate, "it left no such run".to_owned())),
                }
            }
            for &other in mine.iter().filter(|other| **other != place) {
                if self.evidence.runs[other].reference_id == run.reference_id {
                    found.repetitions.push(between(self.both, place, other)?);
                }
            }
            facts.push(found);
        }
        Ok(SetupFacts {
            config_id: claim.config_id.clone(),
            claim: claim.candidate.as_ref().ok().and_then(|_| wanted.first().copied()),
            unreadable: claim.candidate.as_ref().err().map(ToString::to_string),
            runs: facts,
        })
    }

    /// The replay of a run as a candidate.
    fn replay_of(&self, run: &Run, candidate: &Setup) -> Option<usize> {
        self.replayed.runs.iter().position(|again| {
            let made = self.replayed.configurations.iter().find(|made| made.config_id == again.config_id);
            made.and_then(declared_axes) == Some(axes(candidate)) && feeds_the_same(run, again)
        })
    }
}

fn sets(axis: Axis) -> bool {
    AXES.contains(&axis)
}

/// What a configuration claims, whatever has recipes.
fn claim(made: &Configuration, variable: &str, claimed: &SomeAxes, model: Model<'_>) -> Claim {
    let mut claim = Claim::of(made, claimed, model.checkpoint);
    claim.candidate = declared::stated(made, variable, claimed, &AXES);
    claim
}

/// Distinct prompts with their outputs, each with the largest batch that it was in.
fn prompts(evidence: &Experiment) -> Vec<&Run> {
    let mut found: Vec<&Run> = Vec::new();
    for run in evidence.runs.iter().filter(|run| !run.prompt_token_ids.is_empty()) {
        match found.iter_mut().find(|known| feeds_the_same(known, run)) {
            Some(known) if known.neighbours.len() < run.neighbours.len() => *known = run,
            Some(_) => {}
            None => found.push(run),
        }
    }
    found
}

/// Output tokens that recorded steps consumed.
fn steps(run: &Run) -> usize {
    let kept = run.phase(Phase::Decode).map_or(0, |signals| {
        usize::try_from(signals.first_step).unwrap_or(usize::MAX).saturating_add(signals.steps)
    });
    kept.min(run.output_token_ids.len())
}

fn feeds_the_same(a: &Run, b: &Run) -> bool {
    let fed = |run: &Run| run.output_token_ids[..steps(run)].to_vec();
    a.prompt_token_ids == b.prompt_token_ids && fed(a) == fed(b)
}

/// Batch size, attention and format: what tells candidates apart.
fn axes(setup: &Setup) -> (usize, String, String) {
    (setup.batch_size, setup.attention.name().to_owned(), setup.dtype.name().to_owned())
}

fn declared_axes(made: &Configuration) -> Option<(usize, String, String)> {
    let setup = &made.mantissa.as_ref()?.setup;
    Some((setup.batch_size as usize, setup.attention.clone(), setup.dtype.name().to_owned()))
}

/// Runs the package's replay of all candidates. *Errors:* its last words.
fn run(
    elsewhere: Elsewhere<'_>,
    model: Model<'_>,
    evidence: &Experiment,
    candidates: &[Setup],
    prompts: &[&Run],
) -> Result<Experiment, LabError> {
    let Elsewhere { python, folder } = elsewhere;
    let (plan, out) = (folder.join("plan.json"), folder.join("replay"));
    std::fs::create_dir_all(folder).map_err(|source| LabError::io(folder, "make", source))?;
    let signals =
        prompts.iter().flat_map(|run| [Phase::Prefill, Phase::Decode].map(|phase| run.phase(phase)));
    let kept: Vec<_> = signals.flatten().collect();
    let sites: Vec<String> = kept.first().map_or_else(Vec::new, |first| {
        let everywhere = |site: &&Site| kept.iter().all(|signals| signals.tensors.contains_key(*site));
        first.tensors.keys().filter(everywhere).map(ToString::to_string).collect()
    });
    let runs = prompts.iter().enumerate().map(|(reference, run)| {
        let beside = run
            .neighbours
            .iter()
            .map(|beside| json!({"prompt": beside.prompt_token_ids, "output": beside.output_token_ids}));
        json!({
            "reference": reference,
            "prompt": run.prompt_token_ids,
            "output": run.output_token_ids[..steps(run)],
            "neighbours": beside.collect::<Vec<_>>(),
        })
    });
    let candidates = candidates.iter().map(|setup| {
        let (batch_size, attention, dtype) = axes(setup);
        json!({"batch_size": batch_size, "attention": attention, "dtype": dtype})
    });
    let told = json!({
        "format": "mantissa-replay-plan",
        "version": 1,
        "model": model.checkpoint.path(),
        "runs": runs.collect::<Vec<_>>(),
        "candidates": candidates.collect::<Vec<_>>(),
        "sites": sites,
        "positions": evidence.metadata.extraction_config.positions,
        "top_k": 0,
        "repetitions": 1,
    });
    let mut told = serde_json::to_vec(&told).unwrap_or_default();
    told.push(b'\n');
    if std::fs::read(&plan).is_ok_and(|found| found != told) {
        return Err(LabError::OtherPlan { path: plan });
    }
    mantissa_evidence::write_whole(&plan, true, |file| file.write_all(&told))?;
    if !container::is_complete(&out) {
        let words = ["-m", "mantissa_forensics.replay"];
        let command = Command::new(python).args(words).arg(&plan).arg(&out).stdin(Stdio::null()).output();
        let reason = match command {
            Err(error) => format!("{python}: {error}"),
            Ok(done) if !container::is_complete(&out) => {
                let said = String::from_utf8_lossy(&done.stderr).into_owned();
                let last = said.lines().rev().map(str::trim).find(|line| !line.is_empty());
                last.map_or_else(|| format!("it ended with {}", done.status), str::to_owned)
            }
            Ok(_) => return Ok(mantissa_evidence::read(&out)?),
        };
        return Err(LabError::Elsewhere { python: python.to_owned(), reason });
    }
    Ok(mantissa_evidence::read(&out)?)
}

/// What computed: the device, and versions that decide kernels.
#[derive(Debug, PartialEq, Eq)]
struct Machine {
    hardware: String,
    versions: BTreeMap<String, String>,
}

impl Machine {
    fn of(made: Option<&Configuration>) -> Self {
        const DECIDE: [&str; 6] = ["torch", "transformers", "cuda", "cublas", "cudnn", "triton"];
        let hardware = made.map_or_else(|| "unknown".to_owned(), |made| made.hardware.clone());
        let observed = made.and_then(|made| made.mantissa.as_ref()?.observed.as_ref());
        let versions = observed.map(|observed| &observed.versions).into_iter().flatten();
        let versions = versions.filter(|(name, _)| DECIDE.contains(&name.as_str()));
        Self { hardware, versions: versions.map(|(name, version)| (name.clone(), version.clone())).collect() }
    }

    fn in_words(&self) -> String {
        let versions = self.versions.iter().map(|(name, version)| format!("{name} {version}"));
        format!("{} with {}", self.hardware, versions.collect::<Vec<_>>().join(", "))
    }
}

fn notes(here: &Machine, foreign: bool) -> Vec<String> {
    let mut notes = vec![format!("Replayed by transformers on this machine: {}.", here.in_words())];
    if foreign {
        notes.push(
            "The evidence is of another device or other libraries: other bits contradict no setup, equal ones fit."
                .to_owned(),
        );
    }
    notes.push("Log-probabilities were not set beside each other.".to_owned());
    notes
}
