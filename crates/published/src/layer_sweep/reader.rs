//! Layout `layer_sweep`: activation vectors of several layers, one per repetition, under one version of CUDA.
//!
//! The file names neither the site nor the tokens; the variable is between files.

use std::collections::BTreeMap;
use std::path::Path;

use mantissa_evidence::error::{Flaw, Result};
use mantissa_evidence::{
    Experiment, ExperimentMetadata, ExtractionConfig, PhaseSignals, Run, SignalTensor, validate,
};
use mantissa_numerics::{Dtype, LayerIdx, Point, Site};
use serde::Deserialize;

use crate::json::check::{self, RESTORE};
use crate::json::entries::{Entries, Layer, NOT_STATED, Setting, Settings};
use crate::json::numbers::{self, Reals};
use crate::json::setup::{self, ASSUMED, Stated, configuration};
use crate::json::{signals, vectors};

/// A file of this layout.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LayerSweep {
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
    /// The machine: `gpu`, …
    #[serde(default)]
    pub(crate) hardware: Settings,
    /// Versions: `pytorch_version`, `cuda_runtime`, …
    #[serde(default)]
    pub(crate) software: Settings,
    /// What was run.
    #[serde(default)]
    pub(crate) config: Config,
    /// Figures of each layer.
    #[serde(default)]
    pub(crate) layer_statistics: Entries<Layer, Statistics>,
    /// What is said of repetitions.
    pub(crate) reproducibility: Option<Stability>,
    /// Vectors of every repetition, by layer.
    #[serde(deserialize_with = "by_layer")]
    pub(crate) raw_activations: Entries<Layer, Vec<Vec<f64>>>,
}

/// What was run. What it leaves out follows from the vectors.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub(crate) struct Config {
    /// `float16`, `bfloat16` or `float32`.
    pub(crate) dtype: Option<String>,
    /// Tokens of the prompt.
    pub(crate) prompt_tokens: Option<u32>,
    /// Repetitions.
    pub(crate) repetitions: Option<u32>,
    /// Layers, counted from 1.
    pub(crate) layers_sampled: Option<Vec<u32>>,
    /// Width of a vector.
    pub(crate) hidden_dim: Option<u32>,
}

/// Figures of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(crate) struct Statistics {
    /// Norm of the mean vector.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) mean_norm: Option<f64>,
    /// Spread over repetitions.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) std_within_reps: Option<f64>,
}

/// What is said of repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Stability {
    /// Whether all have the same bits.
    pub(crate) all_repetitions_identical: Option<bool>,
}

fn by_layer<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Entries<Layer, Vec<Vec<f64>>>, D::Error> {
    let entries = Entries::<Layer, Vec<Reals>>::deserialize(deserializer)?;
    Ok(entries.map(|rows| rows.into_iter().map(|Reals(row)| row).collect()))
}

impl LayerSweep {
    /// The file, and what had to be assumed in reading it.
    pub(crate) fn parse(json: &[u8], origin: &Path) -> Result<(Self, Vec<String>)> {
        Self::of(check::document(json, origin)?).map_err(|flaw| flaw.in_file(origin))
    }

    fn of(file: File) -> std::result::Result<(Self, Vec<String>), Flaw> {
        let dtype = vectors::dtype(file.config.dtype.as_deref(), file.raw_activations.values())?;
        file.check(dtype)?;
        let experiment = file.experiment(dtype);
        validate::experiment(&experiment)?;
        let warnings = vec![
            "the file does not name the site of its activations: layer_K is taken as x_out of block K, counted from 1, \
             as hidden_states[K]; of the last block, hidden_states holds the final norm instead"
                .to_owned(),
            vectors::unstated_prompt(&file.experiment, file.config.prompt_tokens),
            ASSUMED.to_owned(),
        ];
        Ok((Self { file, experiment }, warnings))
    }
}

impl File {
    fn check(&self, dtype: Dtype) -> std::result::Result<(), Flaw> {
        check::distinct(self.raw_activations.keys(), "raw_activations")?;
        let Config { repetitions, hidden_dim, layers_sampled, .. } = &self.config;
        let (repetitions_found, width) = vectors::extent(self.raw_activations.values());
        for (layer, rows) in self.raw_activations.iter() {
            let (repetitions, width) = (repetitions.or(Some(repetitions_found)), hidden_dim.or(Some(width)));
            vectors::check(rows, repetitions, width, dtype)
                .map_err(|flaw| flaw.under(&format!("raw_activations.{layer}")))?;
        }
        let missing = layers_sampled.iter().flatten().find(|layer| {
            let layer = Layer(**layer);
            self.raw_activations.get(&layer).is_none()
        });
        match missing {
            Some(layer) => {
                let problem = format!("'layer_{layer}' of config.layers_sampled is missing");
                Err(Flaw::new("raw_activations", problem, RESTORE))
            }
            None => Ok(()),
        }
    }

    /// The first of these settings that the file states.
    pub(crate) fn software(&self, names: &[&str]) -> Option<String> {
        let stated = names.iter().find_map(|name| {
            let of_software = self.software.get(*name);
            of_software.or_else(|| self.hardware.get(*name))
        });
        stated.map(|Setting(value)| value.clone()).filter(|value| value != NOT_STATED)
    }

    fn experiment(&self, dtype: Dtype) -> Experiment {
        let (repetitions, width) = vectors::extent(self.raw_activations.values());
        let cuda = self.software(&["cuda_runtime", "cuda_version", "cuda", "cuda_build"]);
        let config_id = format!("cuda_{}", cuda.as_deref().unwrap_or("not_stated"));
        let attention = self.software(&["attention_implementation", "attn_implementation"]);
        let configuration = configuration(Stated {
            config_id: config_id.clone(),
            variable_value: cuda.clone().map_or(serde_json::Value::Null, Into::into),
            model: if self.model.is_empty() { NOT_STATED } else { &self.model },
            hardware: &setup::gpu(&self.hardware),
            engine: NOT_STATED,
            engine_version: None,
            attention: attention.as_deref(),
            quantization: None,
            dtype,
            batch_size: 1,
            tp_size: 1,
            repetitions,
            settings: [
                ("cuda", cuda),
                ("torch", self.software(&["pytorch_version", "torch_version", "pytorch", "torch"])),
                ("transformers", self.software(&["transformers_version", "transformers"])),
            ]
            .into(),
        });
        let layers: Vec<u32> = self.raw_activations.keys().map(|layer| layer.0).collect();
        Experiment {
            metadata: ExperimentMetadata {
                model: self.model.clone(),
                sequence_length: self.config.prompt_tokens.unwrap_or(0),
                extraction_config: ExtractionConfig {
                    layers,
                    positions: vec![-1],
                    hidden_dim: width,
                    key_dim: 0,
                    top_k_logprobs: 0,
                },
                ..ExperimentMetadata::bare("layer_sweep", "cuda_version")
            },
            configurations: vec![configuration],
            runs: (0..repetitions).map(|rep| self.run(&config_id, rep, dtype)).collect(),
        }
    }

    fn run(&self, config_id: &str, rep_id: u32, dtype: Dtype) -> Run {
        let tensors = self.raw_activations.iter().filter_map(|(layer, rows)| {
            let row = rows.get(rep_id as usize)?;
            let site = Site { layer: Some(LayerIdx(layer.0)), point: Point::XOut };
            Some((site, SignalTensor { dtype, shape: [1, 1, row.len()], data: signals::encode(dtype, row) }))
        });
        Run {
            config_id: config_id.to_owned(),
            rep_id,
            reference_id: 0,
            timestamp: None,
            runtime_seconds: None,
            prompt_text: String::new(),
            prompt_label: Some(vectors::label(&self.experiment, self.config.prompt_tokens)),
            prompt_token_ids: Vec::new(),
            output_token_ids: Vec::new(),
            output_token_texts: Vec::new(),
            neighbours: Vec::new(),
            prompt_source: None,
            prefill: Some(PhaseSignals {
                first_step: 0,
                steps: 1,
                positions: vec![-1],
                tensors: tensors.collect::<BTreeMap<_, _>>(),
                logprobs: None,
            }),
            decode: None,
        }
    }
}
