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
use crate::json::setup::{ASSUMED, Stated, configuration};
use crate::json::signals;

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
    pub(crate) experiment: String,
    /// When it was written; no zone is stated.
    pub(crate) timestamp: String,
    /// Model id.
    pub(crate) model: String,
    /// The machine: `gpu`, `pytorch`, `cuda`, …
    pub(crate) hardware: Settings,
    /// Environment variables, where kept.
    pub(crate) environment: Option<Settings>,
    /// What was run.
    pub(crate) config: Config,
    /// Spread over repetitions, by `batch_size_1`.
    pub(crate) statistical_noise: Entries<String, Noise>,
    /// Distances between batch sizes, by `bs1_vs_bs2`.
    #[serde(deserialize_with = "numbers::real_entries")]
    pub(crate) systematic_deviations: Entries<String, f64>,
    /// Norms, by `batch_size_1`.
    #[serde(deserialize_with = "numbers::real_entries")]
    pub(crate) activation_norms: Entries<String, f64>,
    /// Vectors of every repetition, by `batch_size_1`.
    #[serde(deserialize_with = "numbers::repetitions")]
    pub(crate) raw_activations: Entries<String, Vec<Vec<f64>>>,
}

/// What was run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Config {
    /// Batch sizes.
    pub(crate) batch_sizes: Vec<u32>,
    /// Repetitions of each.
    pub(crate) repetitions: u32,
    /// `single_forward_pass_prefill_only`.
    pub(crate) operation: String,
    /// `float16`, `bfloat16` or `float32`.
    pub(crate) dtype: String,
    /// Tokens of the prompt.
    pub(crate) prompt_tokens: u32,
    /// Width of a vector.
    pub(crate) hidden_dim: u32,
}

/// Spread over repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(crate) struct Noise {
    /// Mean distance.
    #[serde(deserialize_with = "mantissa_evidence::lenient::number")]
    pub(crate) mean: f64,
    /// Its standard deviation.
    #[serde(deserialize_with = "mantissa_evidence::lenient::number")]
    pub(crate) std: f64,
}

impl Activations {
    /// The file, and what had to be assumed in reading it.
    pub(crate) fn parse(json: &[u8], origin: &Path) -> Result<(Self, Vec<String>)> {
        Self::of(check::document(json, origin)?).map_err(|flaw| flaw.in_file(origin))
    }

    fn of(file: File) -> std::result::Result<(Self, Vec<String>), Flaw> {
        let dtype = match file.config.dtype.as_str() {
            "float16" => Dtype::F16,
            "bfloat16" => Dtype::Bf16,
            "float32" => Dtype::F32,
            other => {
                let problem = format!("'{other}' is not a known format");
                return Err(Flaw::new("config.dtype", problem, "use float16, bfloat16 or float32"));
            }
        };
        check::distinct(&file.config.batch_sizes, "config.batch_sizes")?;
        check(&file, dtype)?;
        let experiment = experiment(&file, dtype)?;
        validate::experiment(&experiment)?;
        let warnings = vec![
            "the file does not name the site of its activations: taken as final_norm (hidden_states[-1]) at the last \
             position of the prompt"
                .to_owned(),
            format!(
                "the file states neither the prompt nor its tokens: two files are taken to share a prompt where both \
                 declare experiment '{}' and {} prompt tokens",
                file.experiment, file.config.prompt_tokens
            ),
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

fn check(file: &File, dtype: Dtype) -> std::result::Result<(), Flaw> {
    let Config { batch_sizes, repetitions, hidden_dim, .. } = &file.config;
    for &batch_size in batch_sizes {
        let key = File::key(batch_size);
        let missing = |map: &str| Flaw::new(map, format!("'{key}' is missing"), RESTORE);
        let rows = file.raw_activations.get(&key).ok_or_else(|| missing("raw_activations"))?;
        file.activation_norms.get(&key).ok_or_else(|| missing("activation_norms"))?;
        file.statistical_noise.get(&key).ok_or_else(|| missing("statistical_noise"))?;
        let place = format!("raw_activations.{key}");
        if rows.len() as u64 != u64::from(*repetitions) {
            let problem = format!("{} vectors for {repetitions} repetitions", rows.len());
            return Err(Flaw::new(place, problem, RESTORE));
        }
        for (rep, row) in rows.iter().enumerate() {
            let place = format!("{place}[{rep}]");
            if row.len() as u64 != u64::from(*hidden_dim) {
                let problem = format!("{} values for a hidden_dim of {hidden_dim}", row.len());
                return Err(Flaw::new(place, problem, RESTORE));
            }
            if let Some(index) = row.iter().position(|&value| signals::exact(dtype, value).is_none()) {
                let problem = format!("{} is no value of {dtype}, which the file declares", row[index]);
                return Err(Flaw::new(format!("{place}[{index}]"), problem, RESTORE));
            }
        }
        for &other in batch_sizes.iter().filter(|&&other| other != batch_size) {
            let pair = format!("bs{batch_size}_vs_bs{other}");
            if file.systematic_deviations.get(&pair).is_none() {
                return Err(Flaw::new("systematic_deviations", format!("'{pair}' is missing"), RESTORE));
            }
        }
    }
    if file.raw_activations.len() == batch_sizes.len() {
        return Ok(());
    }
    let problem = format!("{} entries for {} batch sizes", file.raw_activations.len(), batch_sizes.len());
    Err(Flaw::new("raw_activations", problem, RESTORE))
}

fn experiment(file: &File, dtype: Dtype) -> std::result::Result<Experiment, Flaw> {
    let Config { batch_sizes, repetitions, prompt_tokens, hidden_dim, .. } = &file.config;
    let setting = |name: &str| file.hardware.get(name).map(|Setting(value)| value.clone());
    let gpu = setting("gpu").ok_or_else(|| Flaw::new("hardware", "'gpu' is missing", RESTORE))?;
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
                prompt_label: Some(format!("{}, {prompt_tokens} tokens", file.experiment)),
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
            repetitions: *repetitions,
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
            sequence_length: *prompt_tokens,
            decode_steps: 0,
            extraction_config: ExtractionConfig {
                layers: Vec::new(),
                positions: vec![-1],
                hidden_dim: *hidden_dim,
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
