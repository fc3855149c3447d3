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
    pub(crate) prefill_sanity_check: SanityCheck,
    /// Distances between configurations, decode.
    pub(crate) decode_sanity_check: SanityCheck,
    /// Spread of repeated runs, by configuration.
    pub(crate) noise_floors: Entries<String, NoiseFloor>,
    /// The one figure at the end.
    pub(crate) snr_analysis: SnrAnalysis,
}

/// What was run where.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Metadata {
    /// The machine.
    pub(crate) environment: Settings,
    /// Configurations, in the order of every matrix.
    pub(crate) model_configs: Entries<String, ModelConfig>,
    /// Tokens generated per run.
    pub(crate) max_new_tokens: u32,
    /// Document tokens of each prompt.
    pub(crate) tokens_per_slice: u32,
    /// Reference prompts.
    pub(crate) num_references: u32,
    /// Candidates per position.
    pub(crate) top_k_logprobs: u32,
    /// When it was written; no zone is stated.
    pub(crate) timestamp: String,
}

/// A configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct ModelConfig {
    /// Model id, which names the weights.
    pub(crate) model_name: String,
    /// Quantization kernel.
    pub(crate) quantization: String,
    /// `float16`, …
    pub(crate) dtype: String,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Generation {
    /// Index of the reference.
    pub(crate) ref_idx: u32,
    /// Ids of the prompt.
    pub(crate) prompt_ids: Vec<u32>,
    /// Ids generated.
    pub(crate) generated_ids: Vec<u32>,
    /// Length of the prompt.
    pub(crate) prompt_length: u64,
    /// Candidates at the last positions of the prompt.
    pub(crate) prefill_signals: Entries<Position, Signals>,
    /// Candidates of the last generated tokens.
    pub(crate) decode_signals: Entries<Position, Signals>,
    /// Number of ids generated.
    pub(crate) num_generated: u64,
}

/// Signals of one position.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Signals {
    /// Candidates.
    pub(crate) logprobs: Candidates,
}

/// Distances between configurations as the authors computed them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct SanityCheck {
    /// Average over references.
    #[serde(deserialize_with = "numbers::rows")]
    pub(crate) matrix: Square,
    /// Each reference.
    #[serde(deserialize_with = "numbers::cubes")]
    pub(crate) per_reference_matrices: Vec<Square>,
    /// Mean of the finite cells off the diagonal.
    #[serde(deserialize_with = "mantissa_evidence::lenient::number")]
    pub(crate) off_diagonal_mean: f64,
    /// Pairs of configurations without any distance.
    pub(crate) equivalent_pairs: Vec<(String, String)>,
    /// Configurations grouped by those.
    pub(crate) kernel_classes: Vec<Vec<String>>,
    /// Means of mirrored cells, by `awq_vs_gptq`.
    #[serde(deserialize_with = "numbers::real_entries")]
    pub(crate) pairwise_distances: Entries<String, f64>,
}

/// Spread of repeated runs of one configuration.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(crate) struct NoiseFloor {
    /// Of decode.
    #[serde(deserialize_with = "mantissa_evidence::lenient::number")]
    pub(crate) decode: f64,
    /// Of prefill.
    #[serde(deserialize_with = "mantissa_evidence::lenient::number")]
    pub(crate) prefill: f64,
}

/// The one figure at the end.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(crate) struct SnrAnalysis {
    /// Mean noise floor of decode.
    #[serde(deserialize_with = "mantissa_evidence::lenient::number")]
    pub(crate) noise_floor: f64,
    /// Off-diagonal mean of decode.
    #[serde(deserialize_with = "mantissa_evidence::lenient::number")]
    pub(crate) signal: f64,
    /// Their quotient.
    #[serde(deserialize_with = "mantissa_evidence::lenient::number")]
    pub(crate) snr: f64,
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
            warnings.push(
                "every prefill list at pos_-p has the prompt's own token there among its candidates, so it predicts \
                 that token and was computed one position earlier: taken as position -(p+1)"
                    .to_owned(),
            );
        }
        warnings.push(
            "decode lists are taken to predict the last generated tokens, so pos_-1 belongs to the step that consumed \
             the last but one"
                .to_owned(),
        );
        if dropped > 0 {
            warnings.push(format!(
                "{dropped} candidates outside the top {} (the prompt's own tokens) were left out of the signals",
                file.metadata.top_k_logprobs
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

impl File {
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
        self.generations.values().flatten().all(|one| {
            one.prefill_signals.iter().all(|(position, signals)| {
                let behind = usize::try_from(position.0.unsigned_abs()).unwrap_or(usize::MAX);
                let own = one.prompt_ids.len().checked_sub(behind).map(|index| one.prompt_ids[index]);
                own.is_some_and(|own| signals.logprobs.token_ids.contains(&own))
            })
        })
    }

    fn check(&self) -> std::result::Result<(), Flaw> {
        let configs = &self.metadata.model_configs;
        check::distinct(configs.keys(), "metadata.model_configs")?;
        let (side, references) = (configs.len(), self.metadata.num_references as usize);
        for name in configs.keys() {
            let missing = |field: &str| Flaw::new(field, format!("'{name}' is missing"), RESTORE);
            let runs = self.generations.get(name).ok_or_else(|| missing("generations"))?;
            self.noise_floors.get(name).ok_or_else(|| missing("noise_floors"))?;
            let place = format!("generations.{name}");
            if runs.len() != references {
                let problem = format!("{} runs for num_references {references}", runs.len());
                return Err(Flaw::new(place, problem, RESTORE));
            }
            let mut seen = BTreeSet::new();
            for (i, one) in runs.iter().enumerate() {
                let place = format!("{place}[{i}]");
                if one.ref_idx as usize >= references || !seen.insert(one.ref_idx) {
                    let problem = format!("ref_idx {} is used twice or not below {references}", one.ref_idx);
                    return Err(Flaw::new(place, problem, RESTORE));
                }
                one.check(self.metadata.top_k_logprobs).map_err(|flaw| flaw.under(&place))?;
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
        if self.prompt_ids.len() as u64 != self.prompt_length {
            let problem =
                format!("{} ids for a prompt_length of {}", self.prompt_ids.len(), self.prompt_length);
            return Err(Flaw::new("prompt_ids", problem, RESTORE));
        }
        if self.generated_ids.len() as u64 != self.num_generated {
            let problem =
                format!("{} ids for num_generated {}", self.generated_ids.len(), self.num_generated);
            return Err(Flaw::new("generated_ids", problem, RESTORE));
        }
        for phase in check::PHASES {
            let positions = self.signals(phase);
            if positions.is_empty() {
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
    let gpu = setting("gpu_name")
        .ok_or_else(|| Flaw::new("metadata.environment", "'gpu_name' is missing", RESTORE))?;
    let engine_version = setting("vllm_version");
    let (mut configurations, mut runs, mut dropped) = (Vec::new(), Vec::new(), 0);
    for (name, config) in metadata.model_configs.iter() {
        let dtype = match config.dtype.as_str() {
            "float16" => Dtype::F16,
            "bfloat16" => Dtype::Bf16,
            "float32" => Dtype::F32,
            other => {
                let place = format!("metadata.model_configs.{name}.dtype");
                let problem = format!("'{other}' is not a known format");
                return Err(Flaw::new(place, problem, "use float16, bfloat16 or float32"));
            }
        };
        configurations.push(configuration(Stated {
            config_id: name.clone(),
            variable_value: config.quantization.clone().into(),
            model: &config.model_name,
            hardware: &gpu,
            engine: if engine_version.is_some() { "vllm" } else { NOT_STATED },
            engine_version: engine_version.as_deref(),
            attention: None,
            quantization: Some(&config.quantization),
            dtype,
            batch_size: 1,
            repetitions: 1,
            settings: setup::versions(&metadata.environment),
        }));
        for (i, one) in file.generations.get(name).into_iter().flatten().enumerate() {
            let (run, left_out) =
                run(name, one, ahead).map_err(|flaw| flaw.under(&format!("generations.{name}[{i}]")))?;
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
    Ok((
        Experiment {
            metadata: ExperimentMetadata {
                experiment_type: "quantization".to_owned(),
                variable_tested: "quantization".to_owned(),
                model: models.join(" and "),
                model_size: NOT_STATED.to_owned(),
                architecture: NOT_STATED.to_owned(),
                sequence_length: u32::try_from(prompt).unwrap_or(u32::MAX),
                decode_steps: metadata.max_new_tokens,
                extraction_config: ExtractionConfig {
                    layers: Vec::new(),
                    positions: positions.unwrap_or_default(),
                    hidden_dim: 0,
                    key_dim: 0,
                    top_k_logprobs: metadata.top_k_logprobs,
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
fn run(config_id: &str, one: &Generation, ahead: bool) -> std::result::Result<(Run, usize), Flaw> {
    let prefill: BTreeMap<Position, &Candidates> = one.signals(Phase::Prefill).into_iter().collect();
    let rows: Vec<&Candidates> = prefill.values().copied().collect();
    let positions: Vec<i32> = prefill.keys().map(|position| position.0 - i32::from(ahead)).collect();
    let (logprobs, dropped) = signals::logprobs(1, positions.len(), &rows);
    let prefill = PhaseSignals { first_step: 0, steps: 1, positions, tensors: BTreeMap::new(), logprobs };
    // The list at −p predicts output n − p, by the step that consumed output n − p − 1.
    let mut steps = BTreeMap::new();
    for (position, row) in one.signals(Phase::Decode) {
        let behind = u64::from(position.0.unsigned_abs()) + 1;
        let step = one.num_generated.checked_sub(behind).ok_or_else(|| {
            let problem = format!("{} generated ids do not reach back to it", one.num_generated);
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
        reference_id: one.ref_idx,
        timestamp: None,
        runtime_seconds: None,
        prompt_text: String::new(),
        prompt_label: None,
        prompt_token_ids: one.prompt_ids.clone(),
        output_token_ids: one.generated_ids.clone(),
        output_token_texts: Vec::new(),
        neighbours: Vec::new(),
        prompt_source: None,
        prefill: Some(prefill),
        decode: Some(decode),
    };
    Ok((run, dropped + also_dropped))
}
