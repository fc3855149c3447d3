//! Layout `repeated_runs`: one setup run several times, the tokens of each run and how likely they were.
//!
//! The prompt is a text without ids. Left out: clocks, and the stored verdict, which `--as-published` checks.

use std::path::Path;

use mantissa_evidence::error::{Flaw, Result};
use mantissa_evidence::lenient::Number;
use mantissa_evidence::{Experiment, ExperimentMetadata, ExtractionConfig, validate};
use mantissa_numerics::Dtype;
use serde::Deserialize;

use crate::json::check::{self, RESTORE};
use crate::json::entries::NOT_STATED;
use crate::json::generated::{Generated, emitted};
use crate::json::numbers::Candidates;
use crate::json::setup::{Stated, configuration};
use crate::json::signals;

/// A file of this layout.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RepeatedRuns {
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
    /// The GPU, where stated: a name, or an object with one.
    pub(crate) hardware: Option<Hardware>,
    /// The prompt.
    pub(crate) prompt_text: Option<String>,
    /// Its tokens.
    pub(crate) prompt_length_tokens: Option<u32>,
    /// What was run.
    #[serde(default)]
    pub(crate) config: Config,
    /// What the authors concluded.
    #[serde(default)]
    pub(crate) results: Results,
    /// Ids of each run.
    pub(crate) token_sequences: Vec<Vec<u32>>,
    /// Log-probability of each id; `null` where none was reported.
    #[serde(default)]
    pub(crate) logprobs_vectors: Vec<Vec<Option<Number>>>,
    /// Most likely candidates of each position: id and log-probability.
    pub(crate) top_k_distributions: Option<Vec<Vec<Ranked>>>,
}

/// Ids and log-probabilities of one position.
pub(crate) type Ranked = Vec<(u32, Option<Number>)>;

/// A GPU as a name or among other things.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Hardware {
    /// Its name.
    Named(String),
    /// An object that names it.
    Described {
        /// Its name.
        #[serde(alias = "gpu_name", alias = "name")]
        gpu: Option<String>,
    },
}

/// What was run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub(crate) struct Config {
    /// Model id.
    pub(crate) model: Option<String>,
    /// Kernel of quantized weights.
    pub(crate) quantization: Option<String>,
    /// Ranks.
    #[serde(alias = "tensor_parallel_size")]
    pub(crate) tensor_parallel: Option<u32>,
    /// Storage format.
    pub(crate) dtype: Option<String>,
    /// Repetitions.
    pub(crate) repetitions: Option<u32>,
    /// Candidates per position.
    pub(crate) top_logprobs: Option<u32>,
}

/// What the authors concluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub(crate) struct Results {
    /// Whether all runs have the same ids.
    pub(crate) tokens_identical: Option<bool>,
    /// Whether all log-probabilities are the same.
    pub(crate) logprobs_exact: Option<bool>,
    /// Whether all lists of candidates are the same.
    pub(crate) distributions_exact: Option<bool>,
    /// All of it.
    pub(crate) perfect_reproducibility: Option<bool>,
}

impl RepeatedRuns {
    /// The file, and what had to be assumed in reading it.
    pub(crate) fn parse(json: &[u8], origin: &Path) -> Result<(Self, Vec<String>)> {
        Self::of(check::document(json, origin)?).map_err(|flaw| flaw.in_file(origin))
    }

    fn of(file: File) -> std::result::Result<(Self, Vec<String>), Flaw> {
        file.check()?;
        let (experiment, dropped) = file.experiment()?;
        validate::experiment(&experiment)?;
        let mut warnings = vec![
            "the file states its prompt as a text without ids, and no storage format (taken as bf16), batch size \
             (taken as 1) or attention"
                .to_owned(),
            "the log-probability of each token is taken to come from the step before it: of the first, from the last \
             position of the prompt"
                .to_owned(),
        ];
        if dropped > 0 {
            warnings.push(format!("{dropped} candidates beyond the shortest list were dropped"));
        }
        let values = || file.logprobs_vectors.iter().flatten().flatten();
        let inexact = values().filter(|Number(value)| signals::exact(Dtype::F32, *value).is_none()).count();
        if inexact > 0 {
            warnings.push(format!("{inexact} log-probabilities are no binary32 values and were rounded"));
        }
        Ok((Self { file, experiment }, warnings))
    }
}

impl File {
    fn gpu(&self) -> &str {
        match &self.hardware {
            Some(Hardware::Named(name) | Hardware::Described { gpu: Some(name) }) => name,
            Some(Hardware::Described { gpu: None }) | None => NOT_STATED,
        }
    }

    fn check(&self) -> std::result::Result<(), Flaw> {
        let runs = self.token_sequences.len();
        if runs == 0 {
            return Err(Flaw::new("token_sequences", "no run is stored", RESTORE));
        }
        if let Some(stated) = self.config.repetitions.filter(|stated| u64::from(*stated) != runs as u64) {
            let problem = format!("{runs} runs for {stated} repetitions");
            return Err(Flaw::new("token_sequences", problem, RESTORE));
        }
        let top_k = self.top_k_distributions.as_ref().map(Vec::len);
        let vectors = (!self.logprobs_vectors.is_empty()).then_some(self.logprobs_vectors.len());
        for (of, place) in [(vectors, "logprobs_vectors"), (top_k, "top_k_distributions")] {
            if let Some(found) = of.filter(|found| *found != runs) {
                let problem = format!("{found} runs, and {runs} in token_sequences");
                return Err(Flaw::new(place, problem, RESTORE));
            }
        }
        if vectors.is_none() && top_k.is_none() {
            let problem = "neither it nor top_k_distributions is stored";
            return Err(Flaw::new("logprobs_vectors", problem, RESTORE));
        }
        for (i, ids) in self.token_sequences.iter().enumerate() {
            if let Some(values) = self.logprobs_vectors.get(i).filter(|values| values.len() != ids.len()) {
                let problem = format!("{} values for {} tokens", values.len(), ids.len());
                return Err(Flaw::new(format!("logprobs_vectors[{i}]"), problem, RESTORE));
            }
        }
        Ok(())
    }

    /// Candidates of every token of a run: the most likely ones, or the emitted one alone.
    fn lists(&self, run: usize) -> Vec<Candidates> {
        if let Some(top_k) = &self.top_k_distributions {
            return top_k[run].iter().map(|list| candidates(list)).collect();
        }
        let values = &self.logprobs_vectors[run];
        let emitted = |(&id, value): (&u32, &Option<Number>)| emitted(id, value.map(|Number(value)| value));
        self.token_sequences[run].iter().zip(values).map(emitted).collect()
    }

    fn experiment(&self) -> std::result::Result<(Experiment, usize), Flaw> {
        let (mut runs, mut dropped) = (Vec::new(), 0);
        let text = self.prompt_text.as_deref().unwrap_or_default();
        let label = || {
            let tokens = self.prompt_length_tokens.map(|tokens| format!(", {tokens} tokens"));
            format!("{}{}", self.experiment, tokens.unwrap_or_default())
        };
        for (rep_id, tokens) in (0_u32..).zip(&self.token_sequences) {
            let generated = Generated {
                config_id: "repeated",
                rep_id,
                prompt_text: text,
                prompt_label: text.is_empty().then(label),
                tokens,
                lists: self.lists(rep_id as usize),
            };
            let (run, left_out) = generated.run().map_err(|flaw| flaw.under(&format!("[{rep_id}]")))?;
            runs.push(run);
            dropped += left_out;
        }
        let model = self.config.model.as_deref().unwrap_or(NOT_STATED);
        let dtype = crate::json::setup::dtype(self.config.dtype.as_deref().filter(|name| *name != "auto"))
            .map_err(|flaw| flaw.under("config"))?;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let configuration = configuration(Stated {
            config_id: "repeated".to_owned(),
            variable_value: serde_json::Value::Null,
            model,
            hardware: self.gpu(),
            engine: NOT_STATED,
            engine_version: None,
            attention: None,
            quantization: self.config.quantization.as_deref(),
            dtype,
            batch_size: 1,
            tp_size: self.config.tensor_parallel.unwrap_or(1),
            repetitions: count(runs.len()),
            settings: std::collections::BTreeMap::new(),
        });
        let k = runs.first().and_then(|run| run.prefill.as_ref()?.logprobs.as_ref()).map_or(0, |list| list.k);
        let metadata = ExperimentMetadata {
            model: model.to_owned(),
            sequence_length: self.prompt_length_tokens.unwrap_or(0),
            decode_steps: count(runs.first().map_or(0, |run| run.output_token_ids.len())),
            extraction_config: ExtractionConfig {
                layers: Vec::new(),
                positions: vec![-1],
                hidden_dim: 0,
                key_dim: 0,
                top_k_logprobs: count(k),
            },
            ..ExperimentMetadata::bare("repeated_runs", "none")
        };
        Ok((Experiment { metadata, configurations: vec![configuration], runs }, dropped))
    }
}

fn candidates(list: &[(u32, Option<Number>)]) -> Candidates {
    let value = |value: &Option<Number>| value.map_or(f64::NEG_INFINITY, |Number(value)| value);
    Candidates {
        token_ids: list.iter().map(|(id, _)| *id).collect(),
        log_probs: list.iter().map(|(_, log_prob)| value(log_prob)).collect(),
    }
}
