//! Layout `activations`: one activation vector per batch size and repetition, on one GPU.
//!
//! The file names neither the site nor the tokens. Left out: its norms and deviations, which `--as-published` computes
//! again.

use std::path::Path;

use mantissa_evidence::error::{Flaw, Result};
use mantissa_evidence::{
    Experiment, ExperimentMetadata, ExtractionConfig, PhaseSignals, Run, SignalTensor, validate,
};
use mantissa_numerics::{Dtype, Point, Site};
use serde::Deserialize;

use crate::json::check::{self, RESTORE};
use crate::json::entries::{Entries, NOT_STATED, Setting, Settings};
use crate::json::numbers;
use crate::json::setup::{self, ASSUMED, Stated, configuration};
use crate::json::{signals, vectors};

/// A file of this layout.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Activations {
    /// Its content.
    pub(crate) file: File,
    /// Its signals as an experiment.
    pub(crate) experiment: Experiment,
}

/// The content.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct File {
    /// Name of the experiment, which stands for the prompt.
    #[serde(default)]
    pub(crate) experiment: String,
    /// Model id.
    #[serde(default)]
    pub(crate) model: String,
    /// The machine: `gpu`, `pytorch`, `cuda`, …
    #[serde(default)]
    pub(crate) hardware: Settings,
    /// What was run.
    #[serde(default)]
    pub(crate) config: Config,
    /// Spread over repetitions, by `batch_size_1`.
    #[serde(default)]
    pub(crate) statistical_noise: Entries<String, Noise>,
    /// Distances between batch sizes, by `bs1_vs_bs2`.
    #[serde(default, deserialize_with = "numbers::real_entries")]
    pub(crate) systematic_deviations: Entries<String, f64>,
    /// Norms, by `batch_size_1`.
    #[serde(default, deserialize_with = "numbers::real_entries")]
    pub(crate) activation_norms: Entries<String, f64>,
    /// Vectors of every repetition, by `batch_size_1`.
    #[serde(deserialize_with = "numbers::repetitions")]
    pub(crate) raw_activations: Entries<String, Vec<Vec<f64>>>,
}

/// What was run. What it leaves out follows from the vectors.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub(crate) struct Config {
    /// Batch sizes.
    #[serde(default)]
    pub(crate) batch_sizes: Vec<u32>,
    /// Repetitions of each.
    pub(crate) repetitions: Option<u32>,
    /// `float16`, `bfloat16` or `float32`.
    pub(crate) dtype: Option<String>,
    /// Tokens of the prompt.
    pub(crate) prompt_tokens: Option<u32>,
    /// Width of a vector.
    pub(crate) hidden_dim: Option<u32>,
}

/// Spread over repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(crate) struct Noise {
    /// Mean distance.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) mean: Option<f64>,
    /// Its standard deviation.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) std: Option<f64>,
}

impl Activations {
    /// The file, and what had to be assumed in reading it.
    pub(crate) fn parse(json: &[u8], origin: &Path) -> Result<(Self, Vec<String>)> {
        Self::of(check::document(json, origin)?).map_err(|flaw| flaw.in_file(origin))
    }

    fn of(mut file: File) -> std::result::Result<(Self, Vec<String>), Flaw> {
        file.derive()?;
        let dtype = vectors::dtype(file.config.dtype.as_deref(), file.raw_activations.values())?;
        check::distinct(&file.config.batch_sizes, "config.batch_sizes")?;
        check(&file, dtype)?;
        let experiment = experiment(&file, dtype)?;
        validate::experiment(&experiment)?;
        let warnings = vec![
            "the file does not name the site of its activations: taken as final_norm (hidden_states[-1]) at the last \
             position of the prompt"
                .to_owned(),
            vectors::unstated_prompt(&file.experiment, file.config.prompt_tokens),
            ASSUMED.to_owned(),
        ];
        Ok((Self { file, experiment }, warnings))
    }
}

impl File {
    /// Key of a batch size in the file's maps.
    #[must_use]
    pub(crate) fn key(batch_size: u32) -> String {
        format!("batch_size_{batch_size}")
    }
}

impl File {
    /// Batch sizes, where the file leaves them to the names of its vectors.
    fn derive(&mut self) -> std::result::Result<(), Flaw> {
        if !self.config.batch_sizes.is_empty() {
            return Ok(());
        }
        for key in self.raw_activations.keys() {
            let size = key.strip_prefix("batch_size_").and_then(|size| size.parse().ok());
            let size = size.filter(|&size| Self::key(size) == *key).ok_or_else(|| {
                let problem = format!("'{key}' is no name such as batch_size_4");
                Flaw::new("raw_activations", problem, RESTORE)
            })?;
            self.config.batch_sizes.push(size);
        }
        Ok(())
    }
}

fn check(file: &File, dtype: Dtype) -> std::result::Result<(), Flaw> {
    let Config { batch_sizes, repetitions, hidden_dim, .. } = &file.config;
    for &batch_size in batch_sizes {
        let key = File::key(batch_size);
        let missing = || Flaw::new("raw_activations", format!("'{key}' is missing"), RESTORE);
        let rows = file.raw_activations.get(&key).ok_or_else(missing)?;
        vectors::check(rows, *repetitions, *hidden_dim, dtype)
            .map_err(|flaw| flaw.under(&format!("raw_activations.{key}")))?;
    }
    if file.raw_activations.len() == batch_sizes.len() {
        return Ok(());
    }
    let problem = format!("{} entries for {} batch sizes", file.raw_activations.len(), batch_sizes.len());
    Err(Flaw::new("raw_activations", problem, RESTORE))
}

#[expect(clippy::unnecessary_wraps, reason = "as the readers of other layouts")]
fn experiment(file: &File, dtype: Dtype) -> std::result::Result<Experiment, Flaw> {
    let Config { batch_sizes, prompt_tokens, .. } = &file.config;
    let (repetitions, width) = vectors::extent(file.raw_activations.values());
    let setting = |name: &str| file.hardware.get(name).map(|Setting(value)| value.clone());
    let gpu = setup::gpu(&file.hardware);
    let site = Site { layer: None, point: Point::FinalNorm };
    let mut runs = Vec::new();
    for &batch_size in batch_sizes {
        let rows = file.raw_activations.get(&File::key(batch_size)).into_iter().flatten();
        for (rep_id, row) in (0_u32..).zip(rows) {
            let tensor = SignalTensor { dtype, shape: [1, 1, row.len()], data: signals::encode(dtype, row) };
            runs.push(Run {
                config_id: File::key(batch_size),
                rep_id,
                reference_id: 0,
                timestamp: None,
                runtime_seconds: None,
                prompt_text: String::new(),
                prompt_label: Some(vectors::label(&file.experiment, *prompt_tokens)),
                prompt_token_ids: Vec::new(),
                output_token_ids: Vec::new(),
                output_token_texts: Vec::new(),
                neighbours: Vec::new(),
                prompt_source: None,
                prefill: Some(PhaseSignals {
                    first_step: 0,
                    steps: 1,
                    positions: vec![-1],
                    tensors: [(site, tensor)].into(),
                    logprobs: None,
                }),
                decode: None,
            });
        }
    }
    let configurations = batch_sizes.iter().map(|&batch_size| {
        configuration(Stated {
            config_id: File::key(batch_size),
            variable_value: batch_size.into(),
            model: &file.model,
            hardware: &gpu,
            engine: NOT_STATED,
            engine_version: None,
            attention: None,
            quantization: None,
            dtype,
            batch_size,
            tp_size: 1,
            repetitions,
            settings: [("cuda", setting("cuda")), ("torch", setting("pytorch"))].into(),
        })
    });
    Ok(Experiment {
        metadata: ExperimentMetadata {
            experiment_type: file.experiment.clone(),
            variable_tested: "batch_size".to_owned(),
            model: file.model.clone(),
            model_size: NOT_STATED.to_owned(),
            architecture: NOT_STATED.to_owned(),
            sequence_length: prompt_tokens.unwrap_or(0),
            decode_steps: 0,
            extraction_config: ExtractionConfig {
                layers: Vec::new(),
                positions: vec![-1],
                hidden_dim: width,
                key_dim: 0,
                top_k_logprobs: 0,
            },
            date_created: None,
            mantissa: None,
        },
        configurations: configurations.collect(),
        runs,
    })
}
