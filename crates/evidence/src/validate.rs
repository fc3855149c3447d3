//! The laws every record obeys, checked before one is written and after one is read.

use std::collections::{BTreeMap, BTreeSet};

use mantissa_numerics::Phase;

use crate::FORMAT_VERSION;
use crate::digest::Digest;
use crate::error::Flaw;
use crate::experiment::Experiment;
use crate::json::wire::PhaseLayout;
use crate::reproducibility::Outcome;
use crate::run::{Logprobs, PhaseSignals, Run, SignalTensor};

const REWRITE: &str = "write the record again with the program that made it";

/// Checks `experiment`; the flaw's place is a JSON path.
///
/// ```
/// let mut experiment = mantissa_evidence::read("../../fixtures/evidence/v1/experiment.json".as_ref())?;
/// assert!(mantissa_evidence::validate::experiment(&experiment).is_ok());
/// experiment.configurations.clear();
/// let flaw = mantissa_evidence::validate::experiment(&experiment).expect_err("runs of nothing");
/// assert!(flaw.in_file("a.json".as_ref()).to_string().starts_with("a.json: runs[0]"));
/// # Ok::<(), mantissa_evidence::EvidenceError>(())
/// ```
pub fn experiment(experiment: &Experiment) -> Result<(), Flaw> {
    shell(experiment)?;
    statements(experiment, |run| experiment.runs[run].signals_digest())
}

/// The laws that also bind an experiment whose runs have no signals yet.
pub(crate) fn shell(experiment: &Experiment) -> Result<(), Flaw> {
    if let Some(provenance) = &experiment.metadata.mantissa
        && !(1..=FORMAT_VERSION).contains(&provenance.format_version)
    {
        let problem = format!("format version {} is not known", provenance.format_version);
        return Err(Flaw::new("experiment_metadata.mantissa.format_version", problem, "upgrade mantissa"));
    }
    let mut ids = BTreeSet::new();
    for (i, configuration) in experiment.configurations.iter().enumerate() {
        let id = configuration.config_id.as_str();
        if id.is_empty() || !ids.insert(id) {
            let problem = format!("config_id '{id}' is empty or used twice");
            return Err(Flaw::new(
                format!("configurations[{i}]"),
                problem,
                "give each configuration its own name",
            ));
        }
        if let Some(runtime) = configuration.mantissa.as_ref().and_then(|extras| extras.runtime.as_ref()) {
            let variance = runtime.variance.unwrap_or(0.0);
            let all = runtime.per_repetition_seconds.iter().chain([&runtime.mean_seconds, &variance]);
            if !all.into_iter().all(|seconds| seconds.is_finite()) {
                let place = format!("configurations[{i}].mantissa.runtime");
                return Err(Flaw::new(place, "a time is not finite", REWRITE));
            }
        }
    }
    let mut keys = BTreeSet::new();
    for (i, run) in experiment.runs.iter().enumerate() {
        let place = format!("runs[{i}]");
        if !ids.contains(run.config_id.as_str()) {
            let problem = format!("config_id '{}' is not among the configurations", run.config_id);
            return Err(Flaw::new(place, problem, "add the configuration or correct the name"));
        }
        if !keys.insert((run.config_id.as_str(), run.reference_id, run.rep_id)) {
            let (id, reference, rep) = (&run.config_id, run.reference_id, run.rep_id);
            let problem =
                format!("a second run of configuration '{id}', reference {reference}, repetition {rep}");
            return Err(Flaw::new(place, problem, "number repetitions and references apart"));
        }
        self::run(run).map_err(|flaw| flaw.under(&place))?;
    }
    Ok(())
}

/// Checks that what a configuration states about its repetitions fits the runs that are stored, whose signals have the
/// digests that `signals_digest` gives.
pub(crate) fn statements(
    experiment: &Experiment,
    signals_digest: impl Fn(usize) -> Digest,
) -> Result<(), Flaw> {
    let mut stated = BTreeMap::new();
    for (i, configuration) in experiment.configurations.iter().enumerate() {
        let Some(extras) = &configuration.mantissa else { continue };
        let place = || format!("configurations[{i}].mantissa.reproducibility");
        let mut references = BTreeMap::new();
        for digest in &extras.reproducibility.digests {
            let (reference, rep) = (digest.reference_id, digest.rep_id);
            let digests = (digest.output_ids, digest.signals);
            if stated.insert((configuration.config_id.as_str(), reference, rep), digests).is_some() {
                let problem = format!("states repetition {rep} of reference {reference} twice");
                return Err(Flaw::new(place(), problem, REWRITE));
            }
            let first = *references.entry(reference).or_insert(digests);
            if first != digests && extras.reproducibility.outcome == Outcome::Identical {
                let problem =
                    format!("repetitions of reference {reference} are not identical by their digests");
                return Err(Flaw::new(place(), problem, REWRITE));
            }
        }
    }
    for (i, run) in experiment.runs.iter().enumerate() {
        let key = (run.config_id.as_str(), run.reference_id, run.rep_id);
        let found = || (Digest::of_ids(&run.output_token_ids), signals_digest(i));
        if stated.get(&key).is_some_and(|stated| *stated != found()) {
            let problem = "its digests are not those that the configuration's reproducibility states";
            return Err(Flaw::altered(format!("runs[{i}]"), problem, REWRITE));
        }
    }
    Ok(())
}

fn run(run: &Run) -> Result<(), Flaw> {
    if run.runtime_seconds.is_some_and(|seconds| !seconds.is_finite()) {
        return Err(Flaw::new("runtime_seconds", "the time is not finite", REWRITE));
    }
    let (texts, ids) = (run.output_token_texts.len(), run.output_token_ids.len());
    if texts != 0 && texts != ids {
        return Err(Flaw::new(
            "mantissa.output_token_texts",
            format!("{texts} texts for {ids} output ids"),
            REWRITE,
        ));
    }
    for (phase, signals) in run.phases() {
        layout(phase, &PhaseLayout::of(signals), ids)?;
        self::signals(signals).map_err(|flaw| flaw.under(phase.name()))?;
    }
    Ok(())
}

/// The laws of a phase's layout, in a run of `ids` output ids.
pub(crate) fn layout(phase: Phase, layout: &PhaseLayout, ids: usize) -> Result<(), Flaw> {
    let PhaseLayout { first_step, steps, positions, tensors, logprobs } = layout;
    let end = usize::try_from(*first_step).ok().and_then(|first| first.checked_add(*steps));
    let problem = match phase {
        Phase::Prefill if *steps != 1 => format!("the prefill has {steps} steps instead of 1"),
        Phase::Prefill if *first_step != 0 => format!("the prefill is step 0, not {first_step}"),
        Phase::Decode if end.is_none_or(|end| end > ids) => {
            let from = if *first_step == 0 { String::new() } else { format!(" from step {first_step}") };
            format!("{steps} decode steps{from} consumed only {ids} output ids")
        }
        _ => String::new(),
    };
    if !problem.is_empty() {
        return Err(Flaw::new(phase.name(), problem, REWRITE));
    }
    let flaw =
        |name: &str, problem: String, remedy| Err(Flaw::new(name, problem, remedy).under(phase.name()));
    if positions.is_empty()
        || positions.iter().any(|&position| position >= 0)
        || !positions.is_sorted_by(|a, b| a < b)
    {
        let problem = format!("positions {:?} do not ascend below 0", &positions[..positions.len().min(8)]);
        return flaw("positions", problem, "count positions from the end: -3, -2, -1");
    }
    for (site, tensor) in &tensors.0 {
        if site.point.has_layer() != site.layer.is_some_and(|layer| layer.0 > 0) {
            return flaw(&site.to_string(), "is not a site".to_owned(), "count layers from 1");
        }
        if tensor.dim == 0 {
            return flaw(&site.to_string(), "its rows have no values".to_owned(), REWRITE);
        }
    }
    if logprobs.is_some_and(|logprobs| logprobs.k == 0) {
        return flaw("logprobs", "its rows have no candidates".to_owned(), REWRITE);
    }
    Ok(())
}

/// The laws of the data, in a layout that obeys its own.
fn signals(signals: &PhaseSignals) -> Result<(), Flaw> {
    let positions = &signals.positions;
    for (site, tensor) in &signals.tensors {
        let SignalTensor { dtype, shape, data } = tensor;
        let bytes = product(&[shape[0], shape[1], shape[2], dtype.size()]);
        if shape[..2] != [signals.steps, positions.len()] || bytes != Some(data.len()) {
            let problem = format!(
                "shape {shape:?} of {dtype} with {} bytes does not fit {} steps at {} positions",
                data.len(),
                signals.steps,
                positions.len()
            );
            return Err(Flaw::new(site.to_string(), problem, REWRITE));
        }
    }
    signals.logprobs.as_ref().map_or(Ok(()), |logprobs| self::logprobs(signals, logprobs))
}

fn logprobs(signals: &PhaseSignals, logprobs: &Logprobs) -> Result<(), Flaw> {
    let Logprobs { steps, positions, k, vocab_size, token_ids, log_probs } = logprobs;
    let values = product(&[*steps, *positions, *k]);
    if (*steps, *positions) != (signals.steps, signals.positions.len())
        || values != Some(token_ids.len())
        || values != Some(log_probs.len())
    {
        let problem = format!(
            "shape [{steps}, {positions}, {k}] with {} ids and {} values does not fit {} steps at {} positions",
            token_ids.len(),
            log_probs.len(),
            signals.steps,
            signals.positions.len()
        );
        return Err(Flaw::new("logprobs", problem, REWRITE));
    }
    for (row, ids) in token_ids.chunks_exact(*k).enumerate() {
        if let Some(problem) = candidates(ids, *vocab_size) {
            let position = signals.positions[row % positions];
            let place = format!("logprobs, step {}, position {position}", row / positions);
            return Err(Flaw::new(place, problem, REWRITE));
        }
    }
    Ok(())
}

/// What is wrong with the ids of one position.
pub(crate) fn candidates(ids: &[u32], vocab_size: Option<u32>) -> Option<String> {
    let outside = vocab_size.and_then(|size| ids.iter().find(|&&id| id >= size).map(|id| (id, size)));
    if let Some((id, size)) = outside {
        return Some(format!("token id {id} lies outside the vocabulary of {size}"));
    }
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    let twice = sorted.windows(2).find(|pair| pair[0] == pair[1])?;
    Some(format!("token id {} is listed twice", twice[0]))
}

fn product(factors: &[usize]) -> Option<usize> {
    factors.iter().try_fold(1_usize, |product, &factor| product.checked_mul(factor))
}
