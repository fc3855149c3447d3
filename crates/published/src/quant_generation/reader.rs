//! Layout `quant_generation`: log-probabilities of generation under several quantization kernels, on one GPU.
//!
//! Left out: the sanity check's own distances, which `--as-published` computes again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mantissa_evidence::error::{Flaw, Result};
use mantissa_evidence::{Experiment, ExperimentMetadata, ExtractionConfig, PhaseSignals, Run, validate};
use mantissa_numerics::{Dtype, Phase};
use serde::Deserialize;

use crate::json::check::{self, RESTORE};
use crate::json::entries::{Entries, NOT_STATED, Position, Setting, Settings};
use crate::json::numbers::{self, Candidates, Square};
use crate::json::setup::{self, ASSUMED, Stated, configuration};
use crate::json::signals;

/// A file of this layout.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct QuantGeneration {
    /// Its content.
    pub(crate) file: File,
    /// Its signals as an experiment.
    pub(crate) experiment: Experiment,
}

/// The content.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct File {
    /// What was run where.
    pub(crate) metadata: Metadata,
    /// Runs of each configuration, one per reference.
    pub(crate) generations: Entries<String, Vec<Generation>>,
    /// Distances between configurations, prefill.
    #[serde(default)]
    pub(crate) prefill_sanity_check: SanityCheck,
    /// Distances between configurations, decode.
    #[serde(default)]
    pub(crate) decode_sanity_check: SanityCheck,
    /// Spread of repeated runs, by configuration.
    #[serde(default)]
    pub(crate) noise_floors: Entries<String, NoiseFloor>,
    /// The one figure at the end.
    pub(crate) snr_analysis: Option<SnrAnalysis>,
}

/// What was run where.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Metadata {
    /// The machine.
    #[serde(default)]
    pub(crate) environment: Settings,
    /// Configurations, in the order of every matrix.
    pub(crate) model_configs: Entries<String, ModelConfig>,
    /// Tokens generated per run.
    pub(crate) max_new_tokens: Option<u32>,
    /// Reference prompts.
    pub(crate) num_references: Option<u32>,
    /// When it was written; no zone is stated.
    pub(crate) timestamp: Option<String>,
    /// Candidates per position.
    pub(crate) top_k_logprobs: Option<u32>,
}

/// A configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct ModelConfig {
    /// Model id, which names the weights.
    pub(crate) model_name: String,
    /// Quantization kernel.
    pub(crate) quantization: Option<String>,
    /// `float16`, …
    pub(crate) dtype: Option<String>,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Generation {
    /// Index of the reference.
    pub(crate) ref_idx: Option<u32>,
    /// Ids of the prompt.
    pub(crate) prompt_ids: Vec<u32>,
    /// Ids generated.
    pub(crate) generated_ids: Vec<u32>,
    /// Length of the prompt.
    pub(crate) prompt_length: Option<u64>,
    /// Candidates at the last positions of the prompt.
    #[serde(default)]
    pub(crate) prefill_signals: Entries<Position, Signals>,
    /// Candidates of the last generated tokens.
    #[serde(default)]
    pub(crate) decode_signals: Entries<Position, Signals>,
    /// Number of ids generated.
    pub(crate) num_generated: Option<u64>,
}

/// Signals of one position.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Signals {
    /// Candidates.
    pub(crate) logprobs: Candidates,
}

/// Distances between configurations as the authors computed them.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub(crate) struct SanityCheck {
    /// Average over references.
    #[serde(default, deserialize_with = "numbers::rows")]
    pub(crate) matrix: Square,
    /// Each reference.
    #[serde(default, deserialize_with = "numbers::cubes")]
    pub(crate) per_reference_matrices: Vec<Square>,
    /// Mean of the finite cells off the diagonal.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) off_diagonal_mean: Option<f64>,
    /// Pairs of configurations without any distance.
    pub(crate) equivalent_pairs: Option<Vec<(String, String)>>,
    /// Configurations grouped by those.
    pub(crate) kernel_classes: Option<Vec<Vec<String>>>,
    /// Means of mirrored cells, by `awq_vs_gptq`.
    #[serde(default, deserialize_with = "numbers::real_entries")]
    pub(crate) pairwise_distances: Entries<String, f64>,
}

/// Spread of repeated runs of one configuration.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(crate) struct NoiseFloor {
    /// Of decode.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) decode: Option<f64>,
    /// Of prefill.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) prefill: Option<f64>,
}

/// The one figure at the end.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(crate) struct SnrAnalysis {
    /// Mean noise floor of decode.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) noise_floor: Option<f64>,
    /// Off-diagonal mean of decode.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) signal: Option<f64>,
    /// Their quotient.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) snr: Option<f64>,
}

impl QuantGeneration {
    /// The file, and what had to be assumed in reading it.
    pub(crate) fn parse(json: &[u8], origin: &Path) -> Result<(Self, Vec<String>)> {
        Self::of(check::document(json, origin)?).map_err(|flaw| flaw.in_file(origin))
    }

    fn of(file: File) -> std::result::Result<(Self, Vec<String>), Flaw> {
        file.check()?;
        let ahead = file.prefill_lists_own_token();
        let (experiment, dropped) = experiment(&file, ahead)?;
        validate::experiment(&experiment)?;
        let mut warnings = Vec::new();
        if ahead {
            warnings.push(signals::AHEAD.to_owned());
        }
        warnings.push(signals::DECODE_BY_NAME.to_owned());
        if dropped > 0 {
            warnings.push(format!(
                "{dropped} candidates outside the top {} (the prompt's own tokens) were left out of the signals",
                file.top_k()
            ));
        }
        let all = file.generations.values().flatten();
        let values = all.flat_map(|one| one.prefill_signals.values().chain(one.decode_signals.values()));
        let inexact = values.flat_map(|signals| &signals.logprobs.log_probs);
        let inexact = inexact.filter(|value| signals::exact(Dtype::F32, **value).is_none()).count();
        if inexact > 0 {
            warnings.push(format!("{inexact} log-probabilities are no binary32 values and were rounded"));
        }
        warnings.push("the file does not state the batch size (taken as 1) nor the attention".to_owned());
        warnings.push(ASSUMED.to_owned());
        Ok((Self { file, experiment }, warnings))
    }
}

impl Generation {
    /// Candidates of one phase by position, in the order of the file.
    #[must_use]
    pub(crate) fn signals(&self, phase: Phase) -> Vec<(Position, &Candidates)> {
        let signals = match phase {
            Phase::Prefill => &self.prefill_signals,
            Phase::Decode => &self.decode_signals,
        };
        signals.iter().map(|(&position, signals)| (position, &signals.logprobs)).collect()
    }
}

impl Generation {
    /// Its reference, or its place in the list.
    fn reference(&self, index: usize) -> u32 {
        self.ref_idx.unwrap_or_else(|| u32::try_from(index).unwrap_or(u32::MAX))
    }
}

impl File {
    /// Number of references, as stated or as there are runs.
    pub(crate) fn references(&self) -> usize {
        let runs = || self.generations.values().map(Vec::len).max().unwrap_or_default();
        self.metadata.num_references.map_or_else(runs, |stated| stated as usize)
    }

    /// Candidates per position, as stated or as the shortest list has.
    pub(crate) fn top_k(&self) -> u32 {
        let all = || self.generations.values().flatten();
        let lists = all().flat_map(|one| one.prefill_signals.values().chain(one.decode_signals.values()));
        let shortest = lists.map(|signals| signals.logprobs.token_ids.len()).min().unwrap_or_default();
        self.metadata.top_k_logprobs.unwrap_or_else(|| u32::try_from(shortest).unwrap_or(u32::MAX))
    }

    /// The sanity check of one phase.
    #[must_use]
    pub(crate) const fn sanity_check(&self, phase: Phase) -> &SanityCheck {
        match phase {
            Phase::Prefill => &self.prefill_sanity_check,
            Phase::Decode => &self.decode_sanity_check,
        }
    }

    /// Whether every prefill list has the prompt's own token of its position among its candidates: an engine adds it
    /// when it reports how likely each token of the prompt was.
    #[must_use]
    pub(crate) fn prefill_lists_own_token(&self) -> bool {
        self.generations
            .values()
            .flatten()
            .all(|one| signals::list_own_token(&one.prompt_ids, one.signals(Phase::Prefill).into_iter()))
    }

    fn check(&self) -> std::result::Result<(), Flaw> {
        let configs = &self.metadata.model_configs;
        check::distinct(configs.keys(), "metadata.model_configs")?;
        let (side, references) = (configs.len(), self.references());
        for name in configs.keys() {
            let missing = |field: &str| Flaw::new(field, format!("'{name}' is missing"), RESTORE);
            let runs = self.generations.get(name).ok_or_else(|| missing("generations"))?;
            let place = format!("generations.{name}");
            if runs.len() != references {
                let problem = format!("{} runs for num_references {references}", runs.len());
                return Err(Flaw::new(place, problem, RESTORE));
            }
            let mut seen = BTreeSet::new();
            for (i, one) in runs.iter().enumerate() {
                let place = format!("{place}[{i}]");
                let reference = one.reference(i);
                if reference as usize >= references || !seen.insert(reference) {
                    let problem = format!("ref_idx {reference} is used twice or not below {references}");
                    return Err(Flaw::new(place, problem, RESTORE));
                }
                one.check(self.top_k()).map_err(|flaw| flaw.under(&place))?;
            }
        }
        if let Some(name) = self.generations.keys().find(|name| configs.get(*name).is_none()) {
            let problem = format!("'{name}' is not among metadata.model_configs");
            return Err(Flaw::new("generations", problem, RESTORE));
        }
        for phase in check::PHASES {
            let (check, place) = (self.sanity_check(phase), format!("{}_sanity_check", phase.name()));
            check::square(&check.matrix, side, &format!("{place}.matrix"))?;
            let each = &check.per_reference_matrices;
            check::squares(each, references, side, &format!("{place}.per_reference_matrices"))?;
        }
        Ok(())
    }
}

impl Generation {
    fn check(&self, top_k: u32) -> std::result::Result<(), Flaw> {
        if let Some(stated) = self.prompt_length.filter(|stated| self.prompt_ids.len() as u64 != *stated) {
            let problem = format!("{} ids for a prompt_length of {stated}", self.prompt_ids.len());
            return Err(Flaw::new("prompt_ids", problem, RESTORE));
        }
        if let Some(stated) = self.num_generated.filter(|stated| self.generated_ids.len() as u64 != *stated) {
            let problem = format!("{} ids for num_generated {stated}", self.generated_ids.len());
            return Err(Flaw::new("generated_ids", problem, RESTORE));
        }
        for phase in check::PHASES {
            let positions = self.signals(phase);
            if positions.is_empty() && self.prefill_signals.len() + self.decode_signals.len() == 0 {
                return Err(Flaw::new(
                    format!("{}_signals", phase.name()),
                    "no position is recorded",
                    RESTORE,
                ));
            }
            for (position, row) in positions {
                let place = format!("{}_signals.{position}.logprobs", phase.name());
                check::candidates(row, &place)?;
                if (row.token_ids.len() as u64) < u64::from(top_k) {
                    let problem = format!("{} candidates for top_k_logprobs {top_k}", row.token_ids.len());
                    return Err(Flaw::new(place, problem, RESTORE));
                }
            }
        }
        Ok(())
    }
}

fn experiment(file: &File, ahead: bool) -> std::result::Result<(Experiment, usize), Flaw> {
    let metadata = &file.metadata;
    let setting = |name: &str| metadata.environment.get(name).map(|Setting(value)| value.clone());
    let gpu = setup::gpu(&metadata.environment);
    let engine_version = setting("vllm_version");
    let (mut configurations, mut runs, mut dropped) = (Vec::new(), Vec::new(), 0);
    for (name, config) in metadata.model_configs.iter() {
        let dtype = setup::dtype(config.dtype.as_deref())
            .map_err(|flaw| flaw.under(&format!("metadata.model_configs.{name}")))?;
        let quantization = config.quantization.as_deref().unwrap_or(name);
        configurations.push(configuration(Stated {
            config_id: name.clone(),
            variable_value: quantization.into(),
            model: &config.model_name,
            hardware: &gpu,
            engine: if engine_version.is_some() { "vllm" } else { NOT_STATED },
            engine_version: engine_version.as_deref(),
            attention: None,
            quantization: Some(quantization),
            dtype,
            batch_size: 1,
            tp_size: 1,
            repetitions: 1,
            settings: setup::versions(&metadata.environment),
        }));
        for (i, one) in file.generations.get(name).into_iter().flatten().enumerate() {
            let (run, left_out) =
                run(name, one, i, ahead).map_err(|flaw| flaw.under(&format!("generations.{name}[{i}]")))?;
            runs.push(run);
            dropped += left_out;
        }
    }
    let mut models: Vec<&str> = Vec::new();
    for config in metadata.model_configs.values() {
        if !models.contains(&config.model_name.as_str()) {
            models.push(&config.model_name);
        }
    }
    let positions =
        runs.first().and_then(|run| run.prefill.as_ref()).map(|signals| signals.positions.clone());
    let prompt = runs.first().map_or(0, |run| run.prompt_token_ids.len());
    let generated = runs.first().map_or(0, |run| run.output_token_ids.len());
    Ok((
        Experiment {
            metadata: ExperimentMetadata {
                experiment_type: "quantization".to_owned(),
                variable_tested: "quantization".to_owned(),
                model: models.join(" and "),
                model_size: NOT_STATED.to_owned(),
                architecture: NOT_STATED.to_owned(),
                sequence_length: u32::try_from(prompt).unwrap_or(u32::MAX),
                decode_steps: metadata
                    .max_new_tokens
                    .unwrap_or_else(|| u32::try_from(generated).unwrap_or(u32::MAX)),
                extraction_config: ExtractionConfig {
                    layers: Vec::new(),
                    positions: positions.unwrap_or_default(),
                    hidden_dim: 0,
                    key_dim: 0,
                    top_k_logprobs: file.top_k(),
                },
                date_created: None,
                mantissa: None,
            },
            configurations,
            runs,
        },
        dropped,
    ))
}

/// A run in this project's terms and the candidates that were left out.
fn run(
    config_id: &str,
    one: &Generation,
    index: usize,
    ahead: bool,
) -> std::result::Result<(Run, usize), Flaw> {
    let prefill: BTreeMap<Position, &Candidates> = one.signals(Phase::Prefill).into_iter().collect();
    let rows: Vec<&Candidates> = prefill.values().copied().collect();
    let positions: Vec<i32> = prefill.keys().map(|position| position.0 - i32::from(ahead)).collect();
    let (logprobs, dropped) = signals::logprobs(1, positions.len(), &rows);
    let prefill = PhaseSignals { first_step: 0, steps: 1, positions, tensors: BTreeMap::new(), logprobs };
    // The list at −p predicts output n − p, by the step that consumed output n − p − 1.
    let mut steps = BTreeMap::new();
    for (position, row) in one.signals(Phase::Decode) {
        let step = signals::step_by_name(position, one.generated_ids.len() as u64).ok_or_else(|| {
            let problem = format!("{} generated ids do not reach back to it", one.generated_ids.len());
            Flaw::new(format!("decode_signals.{position}"), problem, RESTORE)
        })?;
        steps.insert(step, row);
    }
    let first_step = steps.keys().next().copied().unwrap_or_default();
    if steps.keys().zip(first_step..).any(|(&step, expected)| step != expected) {
        return Err(Flaw::new("decode_signals", "the steps do not follow one another", RESTORE));
    }
    let rows: Vec<&Candidates> = steps.into_values().collect();
    let (logprobs, also_dropped) = signals::logprobs(rows.len(), 1, &rows);
    let decode = PhaseSignals {
        first_step,
        steps: rows.len(),
        positions: vec![-1],
        tensors: BTreeMap::new(),
        logprobs,
    };
    let run = Run {
        config_id: config_id.to_owned(),
        rep_id: 0,
        reference_id: one.reference(index),
        timestamp: None,
        runtime_seconds: None,
        prompt_text: String::new(),
        prompt_label: None,
        prompt_token_ids: one.prompt_ids.clone(),
        output_token_ids: one.generated_ids.clone(),
        output_token_texts: Vec::new(),
        neighbours: Vec::new(),
        prompt_source: None,
        prefill: (!prefill.positions.is_empty()).then_some(prefill),
        decode: (decode.steps > 0).then_some(decode),
    };
    Ok((run, dropped + also_dropped))
}
