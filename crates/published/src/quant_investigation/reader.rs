//! Layout `quant_investigation`: one quantized model run several times, as it is and with deterministic algorithms.
//!
//! The prompt is not stated, only its length.

use std::path::Path;

use mantissa_evidence::error::{Flaw, Result};
use mantissa_evidence::lenient::Number;
use mantissa_evidence::{Experiment, ExperimentMetadata, ExtractionConfig, validate};
use mantissa_numerics::Dtype;
use serde::Deserialize;

use crate::json::check::{self, RESTORE};
use crate::json::entries::NOT_STATED;
use crate::json::generated::{Generated, emitted};
use crate::json::numbers;
use crate::json::setup::{Stated, configuration};

/// A file of this layout.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct QuantInvestigation {
    /// Its content.
    pub(crate) file: File,
    /// Its signals as an experiment.
    pub(crate) experiment: Experiment,
}

/// The content.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct File {
    /// Name of the experiment.
    #[serde(default)]
    pub(crate) experiment: String,
    /// Model id.
    pub(crate) model: Option<String>,
    /// Kernel of quantized weights.
    pub(crate) quantization: Option<String>,
    /// What was run.
    #[serde(default)]
    pub(crate) config: Config,
    /// Tokens of the prompt.
    pub(crate) prompt_length: Option<u32>,
    /// Runs as the engine is by itself.
    pub(crate) baseline: Option<Runs>,
    /// Runs with deterministic algorithms asked for.
    pub(crate) deterministic: Option<Runs>,
    /// What the authors concluded.
    pub(crate) verdict: Option<Verdict>,
}

/// What was run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub(crate) struct Config {
    /// Ranks.
    pub(crate) tensor_parallel: Option<u32>,
}

/// Runs of one mode.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Runs {
    /// Averages over them.
    #[serde(default)]
    pub(crate) stats: Statistics,
    /// Ids of each run.
    #[serde(default)]
    pub(crate) tokens: Vec<Vec<u32>>,
    /// Log-probability of each id.
    #[serde(default)]
    pub(crate) logprobs: Vec<Vec<Option<Number>>>,
}

/// Averages over the runs of one mode.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
pub(crate) struct Statistics {
    /// Whether all runs have the same ids.
    pub(crate) tokens_identical: Option<bool>,
    /// Whether all log-probabilities are the same.
    pub(crate) logprobs_exact: Option<bool>,
    /// Mean L2 to run 0.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) l2_mean: Option<f64>,
    /// Its deviation.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) l2_std: Option<f64>,
    /// The largest.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) l2_max: Option<f64>,
    /// The smallest.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) l2_min: Option<f64>,
}

/// What the authors concluded.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Verdict {
    /// Whether runs repeat themselves.
    pub(crate) is_deterministic: Option<bool>,
}

impl File {
    /// The modes that were run, with their names.
    pub(crate) fn modes(&self) -> Vec<(&'static str, &Runs)> {
        let both = [("baseline", self.baseline.as_ref()), ("deterministic", self.deterministic.as_ref())];
        let both = both.into_iter().filter_map(|(name, runs)| Some((name, runs?)));
        both.filter(|(_, runs)| !runs.tokens.is_empty()).collect()
    }
}

impl QuantInvestigation {
    /// The file, and what had to be assumed in reading it.
    pub(crate) fn parse(json: &[u8], origin: &Path) -> Result<(Self, Vec<String>)> {
        Self::of(check::document(json, origin)?).map_err(|flaw| flaw.in_file(origin))
    }

    fn of(file: File) -> std::result::Result<(Self, Vec<String>), Flaw> {
        let experiment = file.experiment()?;
        validate::experiment(&experiment)?;
        let warnings = vec![
            "the file states neither the prompt nor its ids, the GPU, the batch size (taken as 1), the attention nor a \
             storage format (taken as f16)"
                .to_owned(),
        ];
        Ok((Self { file, experiment }, warnings))
    }
}

impl File {
    fn experiment(&self) -> std::result::Result<Experiment, Flaw> {
        let modes = self.modes();
        if modes.is_empty() {
            return Err(Flaw::new("baseline", "no run is stored", RESTORE));
        }
        let tokens = self.prompt_length.map(|tokens| format!(", {tokens} tokens")).unwrap_or_default();
        let label = format!("{}{tokens}", self.experiment);
        let model = self.model.as_deref().unwrap_or(NOT_STATED);
        let (mut configurations, mut runs) = (Vec::new(), Vec::new());
        for (mode, of) in modes {
            if of.logprobs.len() != of.tokens.len() {
                let problem = format!("{} runs, and {} under tokens", of.logprobs.len(), of.tokens.len());
                return Err(Flaw::new(format!("{mode}.logprobs"), problem, RESTORE));
            }
            for (rep_id, (tokens, values)) in (0_u32..).zip(of.tokens.iter().zip(&of.logprobs)) {
                if tokens.len() != values.len() {
                    let problem = format!("{} values for {} tokens", values.len(), tokens.len());
                    return Err(Flaw::new(format!("{mode}.logprobs[{rep_id}]"), problem, RESTORE));
                }
                let lists = tokens.iter().zip(values);
                let lists = lists.map(|(&id, value)| emitted(id, value.map(|Number(value)| value)));
                let generated = Generated {
                    config_id: mode,
                    rep_id,
                    prompt_text: "",
                    prompt_label: Some(label.clone()),
                    tokens,
                    lists: lists.collect(),
                };
                runs.push(generated.run().map_err(|flaw| flaw.under(mode))?.0);
            }
            configurations.push(configuration(Stated {
                config_id: mode.to_owned(),
                variable_value: mode.into(),
                model,
                hardware: NOT_STATED,
                engine: NOT_STATED,
                engine_version: None,
                attention: None,
                quantization: self.quantization.as_deref(),
                dtype: Dtype::F16,
                batch_size: 1,
                tp_size: self.config.tensor_parallel.unwrap_or(1),
                repetitions: u32::try_from(of.tokens.len()).unwrap_or(u32::MAX),
                settings: std::collections::BTreeMap::new(),
            }));
        }
        let metadata = ExperimentMetadata {
            model: model.to_owned(),
            sequence_length: self.prompt_length.unwrap_or(0),
            extraction_config: ExtractionConfig {
                layers: Vec::new(),
                positions: vec![-1],
                hidden_dim: 0,
                key_dim: 0,
                top_k_logprobs: 1,
            },
            ..ExperimentMetadata::bare("quant_investigation", "deterministic_algorithms")
        };
        Ok(Experiment { metadata, configurations, runs })
    }
}
