//! An experiment: what was varied, the configurations, and what is known about each.
//!
//! The types serialize to the plan's uniform schema field by field; what that schema lacks sits under the key
//! `mantissa` of each object. Runs and their tensors are in [`crate::run`]; their JSON shape is in [`crate::json`].

use std::collections::BTreeMap;

use mantissa_numerics::recipe::ObservedKernel;
use mantissa_numerics::{Dtype, Generation, Phase, Site};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalog::UsedCatalog;
use crate::digest::Digest;
use crate::observed::Observed;
use crate::reproducibility::Reproducibility;
use crate::run::Run;

/// Runs of one or more configurations that differ in one variable.
///
/// ```
/// use mantissa_evidence::json;
///
/// // What other programs write knows nothing of Mantissa.
/// let text = r#"{"experiment_metadata": {"experiment_type": "batch_size", "variable_tested": "batch_size",
///     "model": "m", "model_size": "1B", "architecture": "dense", "sequence_length": 8, "decode_steps": 0,
///     "extraction_config": {"layers": [1], "positions": [-1], "hidden_dim": 2, "key_dim": 1,
///     "top_k_logprobs": 1}}, "configurations": [{"config_id": "bs1", "hardware": "A100-80GB",
///     "variable_value": 1, "fixed_params": {"compile": false, "attention_impl": "eager",
///     "quantization": "none", "tp_size": 1, "ep_size": 1, "concurrent_streams": false}}], "runs": []}"#;
/// let experiment = json::parse(text.as_bytes(), "experiment.json".as_ref())?;
/// assert_eq!(experiment.metadata.extraction_config.positions, [-1]);
/// assert_eq!(experiment.configurations[0].fixed_params.attention_impl, "eager");
/// assert!(experiment.metadata.mantissa.is_none());
/// # Ok::<(), mantissa_evidence::EvidenceError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Experiment {
    /// What was tested, with which model and which signals.
    pub metadata: ExperimentMetadata,
    /// Every configuration that a run names.
    pub configurations: Vec<Configuration>,
    /// The stored repetitions, in the order they were made.
    pub runs: Vec<Run>,
}

/// What an experiment is about.
///
/// Example: [`Experiment`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExperimentMetadata {
    /// `reference`, `batch_size`, `attention`, …
    pub experiment_type: String,
    /// Name of the field that differs between configurations.
    pub variable_tested: String,
    /// Name of the model.
    pub model: String,
    /// Its size in words: `135M`, `30B`.
    pub model_size: String,
    /// `dense` or `MoE`.
    pub architecture: String,
    /// Tokens of each prompt.
    pub sequence_length: u32,
    /// Decode steps of each run.
    pub decode_steps: u32,
    /// Which signals are kept.
    pub extraction_config: ExtractionConfig,
    /// When the experiment was recorded, `YYYY-MM-DD HH:MM:SS` in UTC. A clock: kept apart in a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date_created: Option<String>,
    /// What the uniform schema lacks; absent from files that other programs wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mantissa: Option<Provenance>,
}

impl ExperimentMetadata {
    /// Of an experiment of which nothing is known but its runs.
    ///
    /// ```
    /// use mantissa_evidence::{Experiment, ExperimentMetadata, json};
    ///
    /// let metadata = ExperimentMetadata::bare("bench", "batch_size");
    /// let experiment = Experiment { metadata, configurations: Vec::new(), runs: Vec::new() };
    /// // What is not known is empty or zero, which the format allows.
    /// let bytes = json::to_vec(&experiment, "bare.json".as_ref())?;
    /// assert_eq!(json::parse(&bytes, "bare.json".as_ref())?, experiment);
    /// # Ok::<(), mantissa_evidence::EvidenceError>(())
    /// ```
    #[must_use]
    pub fn bare(experiment_type: &str, variable_tested: &str) -> Self {
        Self {
            experiment_type: experiment_type.to_owned(),
            variable_tested: variable_tested.to_owned(),
            model: String::new(),
            model_size: String::new(),
            architecture: String::new(),
            sequence_length: 0,
            decode_steps: 0,
            extraction_config: ExtractionConfig {
                layers: Vec::new(),
                positions: Vec::new(),
                hidden_dim: 0,
                key_dim: 0,
                top_k_logprobs: 0,
            },
            date_created: None,
            mantissa: None,
        }
    }
}

/// Which signals are kept.
///
/// Example: [`Experiment`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtractionConfig {
    /// Decoder blocks, counted from 1 as Hugging Face's `hidden_states`.
    pub layers: Vec<u32>,
    /// Positions relative to the end of the sequence: −1 is the newest token.
    pub positions: Vec<i32>,
    /// Width of a hidden state.
    pub hidden_dim: u32,
    /// Width of a layer's keys, KV heads concatenated.
    pub key_dim: u32,
    /// Candidates kept per position.
    pub top_k_logprobs: u32,
}

/// Where an experiment comes from.
///
/// Example: [`ConfigurationExtras`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Version of the format, [`crate::FORMAT_VERSION`] when written here.
    pub format_version: u32,
    /// Program and version that recorded the experiment: `mantissa 0.1.0`.
    pub tool: String,
    /// Number of decoder blocks, which names the last one's `final_norm`.
    pub num_layers: u32,
    /// Size of the vocabulary.
    pub vocab_size: u32,
    /// Digest of the weights.
    pub weights_digest: Option<Digest>,
    /// Digest of the model's configuration.
    pub config_digest: Option<Digest>,
}

/// One setup as the plan's schema describes it.
///
/// Example: [`Experiment`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// Name that runs refer to, unique in the experiment.
    pub config_id: String,
    /// Accelerator or CPU.
    pub hardware: String,
    /// Who ran it.
    #[serde(default)]
    pub provider: Option<String>,
    /// Value of the tested variable.
    #[serde(deserialize_with = "crate::strict::value")]
    pub variable_value: serde_json::Value,
    /// CUDA version, where there is one.
    #[serde(default)]
    pub cuda_version: Option<String>,
    /// PyTorch version, where there is one.
    #[serde(default)]
    pub torch_version: Option<String>,
    /// transformers version, where there is one.
    #[serde(default)]
    pub transformers_version: Option<String>,
    /// flash-attn version, where there is one.
    #[serde(default)]
    pub flash_attn_version: Option<String>,
    /// Python version, where there is one.
    #[serde(default)]
    pub python_version: Option<String>,
    /// Parameters held fixed unless they are the tested variable.
    pub fixed_params: FixedParams,
    /// What the uniform schema lacks; absent from files that other programs wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mantissa: Option<ConfigurationExtras>,
}

/// Parameters held fixed unless they are the tested variable.
///
/// Example: [`Experiment`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FixedParams {
    /// Whether the model was compiled (`torch.compile`).
    pub compile: bool,
    /// `eager`, `sdpa`, `flash_attention_2`, …
    pub attention_impl: String,
    /// `none`, `awq`, `gptq-int4`, `gguf-q4_1`, …
    pub quantization: String,
    /// Tensor-parallel ranks.
    pub tp_size: u32,
    /// Expert-parallel ranks.
    pub ep_size: u32,
    /// Whether other work ran at the same time.
    pub concurrent_streams: bool,
}

/// What is declared, observed and proved about a configuration.
///
/// ```
/// use mantissa_evidence::{Decoding, Outcome};
///
/// let experiment = mantissa_evidence::read("../../fixtures/evidence/v1/experiment.json".as_ref())?;
/// let provenance = experiment.metadata.mantissa.as_ref().expect("a record of Mantissa");
/// assert_eq!((provenance.tool.as_str(), provenance.num_layers), ("mantissa 0.1.0", 12));
/// let extras = experiment.configurations[0].mantissa.as_ref().expect("a record of Mantissa");
/// assert_eq!((extras.setup.batch_size, extras.setup.decoding), (2, Decoding::Greedy));
/// assert_eq!(extras.setup.model.id, "smollm2-135m-instruct");
/// assert_eq!(extras.environment.cpu_features, ["avx2"]);
/// assert!(matches!(extras.reproducibility.outcome, Outcome::Divergent { repetitions: [0, 1], .. }));
/// # Ok::<(), mantissa_evidence::EvidenceError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigurationExtras {
    /// The whole declared setup.
    pub setup: Setup,
    /// The machine it ran on.
    pub environment: Environment,
    /// The kernels that ran, with the shapes that chose them (observed, where `setup` is declared).
    pub recipes: Vec<ObservedKernel>,
    /// The catalogs that a prediction of a GPU took recipes from; absent where it took none, and in older files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub catalogs: Vec<UsedCatalog>,
    /// What a capture found on the program that ran; absent from records of Mantissa's own engine, and in older files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observed>,
    /// What an API handed out, where that is all there is; absent from anything else, and in older files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<Answers>,
    /// Whether the repetitions agreed to the bit.
    pub reproducibility: Reproducibility,
    /// Where values first stopped being finite, of each repetition in which they did; absent where none did, and in
    /// older files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_finite: Vec<NotFinite>,
    /// How long repetitions took. A clock: kept apart in a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
}

/// Log-probabilities as an API hands them out: those of the engine that served, by the id they are listed under.
///
/// ```
/// let answers = mantissa_evidence::Answers { decimals: Some(4) };
/// assert_eq!(serde_json::to_string(&answers)?, r#"{"decimals":4}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    /// Digits behind the point that they were rounded to; absent where they are binary32 values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decimals: Option<u8>,
}

impl Answers {
    /// Ids from here on stand for tokens whose id is not known; they have no value.
    pub const UNKNOWN: u32 = u32::MAX - 8192;

    /// Ids from here on fill lists that are shorter than others.
    pub const FILLER: u32 = u32::MAX - 4096;
}

/// The first value of a repetition, in the order of computation, that is not finite: why values behind it are `null`.
///
/// ```
/// use mantissa_evidence::NotFinite;
/// use mantissa_numerics::{Phase, Point, Site};
///
/// let first = NotFinite {
///     reference_id: 0,
///     rep_id: 1,
///     phase: Phase::Prefill,
///     site: Site::at(2, Point::AttnOut),
///     position: 7,
///     value: "NaN".to_owned(),
///     nan_choices: 3,
/// };
/// assert_eq!(
///     first.to_string(),
///     "reference 0, repetition 1: the first value that is not finite is NaN at layer_2.attn_out, position 7 \
///      (prefill); 3 tokens were chosen among logits of which one is NaN: the first NaN, as torch.argmax does"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotFinite {
    /// Reference prompt, counted from 0.
    pub reference_id: u32,
    /// Repetition, counted from 0.
    pub rep_id: u32,
    /// The pass.
    pub phase: Phase,
    /// The site.
    #[schemars(with = "String")]
    pub site: Site,
    /// Position in the sequence, counted from 0.
    pub position: u64,
    /// `NaN`, `Infinity` or `-Infinity`.
    pub value: String,
    /// Tokens that greedy decoding chose among logits of which one is NaN.
    pub nan_choices: u64,
}

impl std::fmt::Display for NotFinite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { reference_id, rep_id, phase, site, position, value, nan_choices } = self;
        write!(
            f,
            "reference {reference_id}, repetition {rep_id}: the first value that is not finite is {value} at {site}, \
             position {position} ({})",
            phase.name()
        )?;
        if *nan_choices > 0 {
            let (s, were) = if *nan_choices == 1 { ("", "was") } else { ("s", "were") };
            write!(
                f,
                "; {nan_choices} token{s} {were} chosen among logits of which one is NaN: the first NaN, as \
                 torch.argmax does"
            )?;
        }
        Ok(())
    }
}

/// Everything declared about how inference ran.
///
/// Example: [`ConfigurationExtras`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// The model.
    pub model: ModelIdentity,
    /// Accelerator or CPU.
    pub hardware: String,
    /// Inference engine: `mantissa-cpu`, `transformers`, `vllm`, …
    pub engine: String,
    /// Its version.
    pub engine_version: String,
    /// Storage format of activations and cache.
    pub dtype: Dtype,
    /// Sequences per forward pass.
    pub batch_size: u32,
    /// `eager`, `sdpa`, `flash_attention_2`, …
    pub attention: String,
    /// `none`, `awq`, `gptq`, `bnb-nf4`, `gguf-q4_1`, …
    pub quantization: String,
    /// Whether the model was compiled.
    pub compile: bool,
    /// Whether other work ran at the same time.
    pub concurrent_streams: bool,
    /// CUDA version, where there is one.
    #[serde(default)]
    pub cuda_version: Option<String>,
    /// Tensor-parallel ranks.
    pub tp_size: u32,
    /// Expert-parallel ranks.
    pub ep_size: u32,
    /// Further axes of the setup by name, where they are not at their default.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "crate::strict::map")]
    pub axes: BTreeMap<String, String>,
    /// How output tokens were chosen.
    pub decoding: Decoding,
    /// Settings that acted on the choice, where any did; absent where nothing is said of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
}

/// A model by name and by content.
///
/// Example: [`ConfigurationExtras`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelIdentity {
    /// Name or hub id.
    pub id: String,
    /// Digest of the weights.
    #[serde(default)]
    pub weights_digest: Option<Digest>,
}

/// How output tokens were chosen.
///
/// Example: [`ConfigurationExtras`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decoding {
    /// The token with the largest logit.
    Greedy,
    /// Tokens given in advance.
    TeacherForced,
    /// A token drawn by its probability, as `generation` says.
    Sampled,
}

/// The machine a configuration ran on: what cannot change a bit, kept to explain a surprise.
///
/// Example: [`ConfigurationExtras`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Model name of the CPU.
    pub cpu: String,
    /// Instruction sets in use: `avx2`, `fma`, …
    pub cpu_features: Vec<String>,
    /// Cores of the machine.
    pub cores: u32,
    /// Operating system and its version.
    pub os: String,
    /// Memory of the machine in bytes.
    pub memory_bytes: u64,
    /// Compiler that built the engine.
    pub rustc: String,
}

/// How long the repetitions of a configuration took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// Mean over repetitions, seconds.
    pub mean_seconds: f64,
    /// Sample variance over repetitions (divided by n − 1), seconds squared; absent for one repetition.
    #[serde(default)]
    pub variance: Option<f64>,
    /// Each repetition in the order made, seconds.
    pub per_repetition_seconds: Vec<f64>,
    /// Threads the engine used; they change the time and no bit.
    #[serde(default)]
    pub threads: Option<u32>,
}

impl Runtime {
    /// Mean and sample variance of `seconds`, one value per repetition; `None` when there is none.
    ///
    /// ```
    /// use mantissa_evidence::Runtime;
    ///
    /// let runtime = Runtime::of(&[1.0, 3.0], Some(2)).expect("two repetitions");
    /// assert_eq!((runtime.mean_seconds, runtime.variance), (2.0, Some(2.0)));
    /// assert_eq!(Runtime::of(&[], None), None);
    /// ```
    #[must_use]
    pub fn of(seconds: &[f64], threads: Option<u32>) -> Option<Self> {
        let n = f64::from(u32::try_from(seconds.len()).ok()?);
        if seconds.is_empty() {
            return None;
        }
        let mean_seconds = seconds.iter().sum::<f64>() / n;
        let squares: f64 = seconds.iter().map(|s| (s - mean_seconds) * (s - mean_seconds)).sum();
        let variance = (seconds.len() > 1).then(|| squares / (n - 1.0));
        Some(Self { mean_seconds, variance, per_repetition_seconds: seconds.to_vec(), threads })
    }
}
