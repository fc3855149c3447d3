//! Layout `tp_generation`: log-probabilities of prefill under several tensor-parallel sizes, on one machine.
//!
//! Prompts are texts without ids, and nothing is generated. Left out: the stored distances, which `--as-published`
//! computes again.

use std::collections::BTreeMap;
use std::path::Path;

use mantissa_evidence::error::{Flaw, Result};
use mantissa_evidence::{Experiment, ExperimentMetadata, ExtractionConfig, PhaseSignals, Run, validate};
use serde::Deserialize;

use crate::json::check::{self, RESTORE};
use crate::json::entries::{Entries, NOT_STATED, Position, Settings};
use crate::json::numbers::{self, Candidates, Square};
use crate::json::setup::{self, ASSUMED, Stated, configuration};
use crate::json::signals;

/// A file of this layout.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TpGeneration {
    /// Its content.
    pub(crate) file: File,
    /// Its signals as an experiment.
    pub(crate) experiment: Experiment,
}

/// The content.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct File {
    /// What was run where.
    #[serde(default)]
    pub(crate) metadata: Metadata,
    /// Prompts, in the order of the references.
    #[serde(default)]
    pub(crate) prompt_texts: Vec<String>,
    /// References by tensor-parallel size.
    pub(crate) measurements: Entries<String, Vec<Measurement>>,
    /// Distances between sizes as the authors computed them.
    pub(crate) within_hardware_analysis: Option<Analysis>,
}

/// What was run where.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub(crate) struct Metadata {
    /// Model id.
    pub(crate) model: Option<String>,
    /// `bfloat16`, …
    pub(crate) dtype: Option<String>,
    /// Sizes, in the order of every matrix.
    pub(crate) tp_sizes: Option<Vec<u32>>,
    /// Candidates per position.
    pub(crate) top_k_logprobs: Option<u32>,
    /// Whether repeated passes agreed.
    pub(crate) reproducibility_test_passed: Option<bool>,
    /// Machines by size.
    #[serde(default)]
    pub(crate) environments: Entries<String, Settings>,
}

/// One reference under one size.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Measurement {
    /// Candidates at the last positions of the prompt.
    pub(crate) prefill_signals: Entries<Position, Signals>,
}

/// Signals of one position.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Signals {
    /// Candidates.
    pub(crate) logprobs: Candidates,
}

/// Distances between sizes and averages over them.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub(crate) struct Analysis {
    /// Average over references.
    #[serde(default, deserialize_with = "numbers::rows")]
    pub(crate) matrix: Square,
    /// Each reference.
    #[serde(default, deserialize_with = "numbers::cubes")]
    pub(crate) per_reference_matrices: Vec<Square>,
    /// Mean of the diagonal.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) diagonal: Option<f64>,
    /// Mean off the diagonal.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) off_diagonal: Option<f64>,
    /// Their quotient; none where the diagonal is 0.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) snr: Option<f64>,
}

impl Analysis {
    /// Checks that matrices are of `side` rows.
    pub(crate) fn check(&self, side: usize, references: Option<usize>) -> std::result::Result<(), Flaw> {
        check::square(&self.matrix, side, "matrix")?;
        let references = references.unwrap_or(self.per_reference_matrices.len());
        check::squares(&self.per_reference_matrices, references, side, "per_reference_matrices")
    }
}

impl Measurement {
    /// Candidates by position, in the order of the file.
    pub(crate) fn lists(&self) -> Vec<(Position, &Candidates)> {
        self.prefill_signals.iter().map(|(&position, signals)| (position, &signals.logprobs)).collect()
    }
}

/// A tensor-parallel size written as a key.
pub(crate) fn size(name: &str, place: &str) -> std::result::Result<u32, Flaw> {
    let size = name.parse::<u32>().ok().filter(|size| *size > 0 && size.to_string() == name);
    size.ok_or_else(|| Flaw::new(place, format!("'{name}' is no tensor-parallel size"), RESTORE))
}

impl TpGeneration {
    /// The file, and what had to be assumed in reading it.
    pub(crate) fn parse(json: &[u8], origin: &Path) -> Result<(Self, Vec<String>)> {
        Self::of(check::document(json, origin)?).map_err(|flaw| flaw.in_file(origin))
    }

    fn of(file: File) -> std::result::Result<(Self, Vec<String>), Flaw> {
        file.check()?;
        let ahead = file.prefill_lists_own_token();
        let (experiment, dropped) = file.experiment(ahead)?;
        validate::experiment(&experiment)?;
        let mut warnings = Vec::new();
        if ahead {
            warnings.push(
                "some prefill lists have a candidate more than was asked for, as an engine adds the prompt's own token: \
                 every list at pos_-p predicts that token and was computed one position earlier: taken as position \
                 -(p+1)"
                    .to_owned(),
            );
        }
        if dropped > 0 {
            warnings.push(format!("{dropped} candidates beyond the shortest list were dropped"));
        }
        if file.metadata.dtype.is_none() {
            warnings.push("the file states no storage format: taken as bf16".to_owned());
        }
        warnings.push(
            "the file states prompts as texts without ids, and neither the batch size (taken as 1) nor the attention"
                .to_owned(),
        );
        warnings.push(ASSUMED.replace("ranks or decoding", "expert ranks or decoding"));
        Ok((Self { file, experiment }, warnings))
    }
}

impl File {
    /// References of every size.
    pub(crate) fn references(&self) -> usize {
        self.measurements.values().map(Vec::len).max().unwrap_or_default()
    }

    fn check(&self) -> std::result::Result<(), Flaw> {
        check::distinct(self.measurements.keys(), "measurements")?;
        let references = self.references();
        for (name, runs) in self.measurements.iter() {
            size(name, "measurements")?;
            let place = format!("measurements.{name}");
            if runs.len() != references || references == 0 {
                let problem = format!("{} references instead of {references}", runs.len());
                return Err(Flaw::new(place, problem, RESTORE));
            }
            for (i, one) in runs.iter().enumerate() {
                let place = format!("{place}[{i}].prefill_signals");
                if one.prefill_signals.len() == 0 {
                    return Err(Flaw::new(place, "no position is recorded", RESTORE));
                }
                for (position, row) in one.lists() {
                    check::candidates(row, &format!("{place}.{position}.logprobs"))?;
                }
            }
        }
        for stated in self.metadata.tp_sizes.iter().flatten() {
            if self.measurements.get(&stated.to_string()).is_none() {
                let problem = format!("'{stated}' of metadata.tp_sizes is missing");
                return Err(Flaw::new("measurements", problem, RESTORE));
            }
        }
        if !self.prompt_texts.is_empty() && self.prompt_texts.len() != references {
            let problem = format!("{} texts for {references} references", self.prompt_texts.len());
            return Err(Flaw::new("prompt_texts", problem, RESTORE));
        }
        let side = self.measurements.len();
        let analysis = self.within_hardware_analysis.as_ref();
        analysis.map_or(Ok(()), |analysis| {
            analysis.check(side, Some(references)).map_err(|flaw| flaw.under("within_hardware_analysis"))
        })
    }

    /// Whether an engine added the prompt's own token: some list is longer than was asked for.
    fn prefill_lists_own_token(&self) -> bool {
        let all = || self.measurements.values().flatten().flat_map(|one| one.lists());
        let shortest = all().map(|(_, row)| row.token_ids.len()).min().unwrap_or_default();
        let asked = self.metadata.top_k_logprobs.map_or(shortest, |k| k as usize);
        all().any(|(_, row)| row.token_ids.len() > asked)
    }

    fn experiment(&self, ahead: bool) -> std::result::Result<(Experiment, usize), Flaw> {
        let dtype = setup::dtype(self.metadata.dtype.as_deref()).map_err(|flaw| flaw.under("metadata"))?;
        let model = self.metadata.model.as_deref().unwrap_or(NOT_STATED);
        let nothing = Settings::default();
        let (mut configurations, mut runs, mut dropped) = (Vec::new(), Vec::new(), 0);
        let mut positions = Vec::new();
        for (name, measured) in self.measurements.iter() {
            let tp_size = size(name, "measurements")?;
            let settings = self.metadata.environments.get(name).unwrap_or(&nothing);
            let vllm = setup::version(settings, "vllm_version");
            let config_id = format!("tp_size_{tp_size}");
            configurations.push(configuration(Stated {
                config_id: config_id.clone(),
                variable_value: tp_size.into(),
                model,
                hardware: &setup::gpu(settings),
                engine: if vllm.is_some() { "vllm" } else { NOT_STATED },
                engine_version: vllm.as_deref(),
                attention: None,
                quantization: None,
                dtype,
                batch_size: 1,
                tp_size,
                repetitions: 1,
                settings: setup::versions(settings),
            }));
            for (reference, one) in (0_u32..).zip(measured) {
                let (signals, left_out) = prefill(one, ahead);
                dropped += left_out;
                positions.clone_from(&signals.positions);
                let text = self.prompt_texts.get(reference as usize).cloned().unwrap_or_default();
                runs.push(Run {
                    config_id: config_id.clone(),
                    rep_id: 0,
                    reference_id: reference,
                    timestamp: None,
                    runtime_seconds: None,
                    prompt_label: text.is_empty().then(|| format!("ref_{reference}")),
                    prompt_text: text,
                    prompt_token_ids: Vec::new(),
                    output_token_ids: Vec::new(),
                    output_token_texts: Vec::new(),
                    neighbours: Vec::new(),
                    prompt_source: None,
                    prefill: Some(signals),
                    decode: None,
                });
            }
        }
        let metadata = ExperimentMetadata {
            model: model.to_owned(),
            extraction_config: ExtractionConfig {
                layers: Vec::new(),
                positions,
                hidden_dim: 0,
                key_dim: 0,
                top_k_logprobs: self.metadata.top_k_logprobs.unwrap_or(0),
            },
            ..ExperimentMetadata::bare("tp_size", "tp_size")
        };
        Ok((Experiment { metadata, configurations, runs }, dropped))
    }
}

fn prefill(one: &Measurement, ahead: bool) -> (PhaseSignals, usize) {
    let rows: BTreeMap<Position, &Candidates> = one.lists().into_iter().collect();
    let positions: Vec<i32> = rows.keys().map(|position| position.0 - i32::from(ahead)).collect();
    let lists: Vec<&Candidates> = rows.into_values().collect();
    let (logprobs, dropped) = signals::logprobs(1, positions.len(), &lists);
    (PhaseSignals { first_step: 0, steps: 1, positions, tensors: BTreeMap::new(), logprobs }, dropped)
}
