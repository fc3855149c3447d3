//! The JSON shape of runs, shared by the writer, the reader, the manifest and the published schema.

use std::collections::BTreeMap;
use std::fmt;

use mantissa_numerics::{Dtype, Phase, Point, Site};
use schemars::JsonSchema;
use serde::de::{SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::keys::{LayerKey, PosKey};
use crate::digest::Digest;
use crate::experiment::{Configuration, ExperimentMetadata};
use crate::run::{Neighbour, PhaseSignals, PromptSource, Run};
use crate::strict::Unique;

/// The experiment JSON. `R` is a list of [`WireRun`], lazy when written.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Experiment")]
pub(crate) struct Document<R> {
    /// What was tested, with which model and which signals.
    pub(crate) experiment_metadata: ExperimentMetadata,
    /// Every configuration that a run names.
    pub(crate) configurations: Vec<Configuration>,
    /// The stored repetitions.
    pub(crate) runs: R,
}

/// A run as read; `V` is a row of values and `I` a row of ids.
pub(crate) type ReadRun<V = Values, I = Vec<u32>> = WireRun<Vec<WireStep<V, I>>, V, I>;

/// A run. `S` is a list of [`WireStep`], lazy when written.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Run")]
pub(crate) struct WireRun<S, V = Values, I = Vec<u32>> {
    /// The configuration it belongs to.
    pub(crate) config_id: String,
    /// Repetition, counted from 0.
    pub(crate) rep_id: u32,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timestamp: Option<String>,
    /// How long it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) runtime_seconds: Option<f64>,
    /// The prompt, decoded.
    pub(crate) prompt_text: String,
    /// What the uniform schema lacks; absent from files that other programs wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mantissa: Option<RunExtras>,
    /// Signals at the last positions of the prompt, in the pass that reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) prefill: Option<WireSignals<V, I>>,
    /// One entry per pass that consumed an output token.
    pub(crate) decode_steps: S,
}

/// What the uniform schema lacks about a run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunExtras {
    /// Reference prompt, counted from 0.
    pub(crate) reference_id: u32,
    /// What the recorder called the prompt, where neither its ids nor its text are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) prompt_label: Option<String>,
    /// The exact ids fed, template included; empty when not known.
    pub(crate) prompt_token_ids: Vec<u32>,
    /// blake3 over the prompt ids as little-endian 32-bit words.
    pub(crate) prompt_ids_digest: Digest,
    /// The ids generated or forced.
    pub(crate) output_token_ids: Vec<u32>,
    /// blake3 over the output ids as little-endian 32-bit words.
    pub(crate) output_ids_digest: Digest,
    /// Text of each output id, or empty.
    pub(crate) output_token_texts: Vec<String>,
    /// The other sequences of the batch.
    pub(crate) neighbours: Vec<Neighbour>,
    /// Where the prompt was cut from.
    pub(crate) prompt_source: Option<PromptSource>,
    /// Formats and shapes of the signals.
    pub(crate) signals: SignalsLayout,
    /// blake3 over every tensor of the run.
    pub(crate) signals_digest: Digest,
}

/// Formats and shapes of a run's signals; a phase that is `null` was not recorded.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignalsLayout {
    /// Of the prefill.
    pub(crate) prefill: Option<PhaseLayout>,
    /// Of the decode steps.
    pub(crate) decode: Option<PhaseLayout>,
}

/// Formats and shapes of one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PhaseLayout {
    /// The first forward pass recorded, 0 where absent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) first_step: u64,
    /// Forward passes recorded.
    pub(crate) steps: usize,
    /// Positions relative to the end of the sequence, ascending.
    pub(crate) positions: Vec<i32>,
    /// Sites, as `layer_4.x_out` or `final_norm`.
    #[schemars(with = "BTreeMap<String, TensorLayout>")]
    pub(crate) tensors: Unique<Site, TensorLayout>,
    /// Log-probabilities, where recorded.
    pub(crate) logprobs: Option<LogprobsLayout>,
}

/// Format and width of one site.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TensorLayout {
    /// Storage format.
    pub(crate) dtype: Dtype,
    /// Values per position.
    pub(crate) dim: usize,
}

/// Coverage of log-probabilities: `k` candidates of `vocab_size`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogprobsLayout {
    /// Candidates per position.
    pub(crate) k: usize,
    /// Size of the vocabulary, where known.
    pub(crate) vocab_size: Option<u32>,
}

/// One decode step.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "DecodeStep")]
pub(crate) struct WireStep<V = Values, I = Vec<u32>> {
    /// Step: the place of its token among the output ids.
    pub(crate) step: u64,
    /// The output token this pass consumed; it stands at `pos_-1`.
    pub(crate) token_id: u32,
    /// Its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token_text: Option<String>,
    /// `x_out` per block, `final_norm` under the last one.
    #[serde(default)]
    pub(crate) hidden_states: Layers<V>,
    /// `k` per block.
    #[serde(default)]
    pub(crate) key_vectors: Layers<V>,
    /// Distribution of the token that follows each position.
    #[serde(default)]
    pub(crate) logprobs: Unique<PosKey, TopK<V, I>>,
    /// Every other site, by point.
    #[serde(default, skip_serializing_if = "Unique::is_empty")]
    pub(crate) sites: Unique<Point, Layers<V>>,
    /// Bits of values that JSON cannot hold, by site (or `logprobs`) and position.
    #[serde(default, skip_serializing_if = "Unique::is_empty")]
    pub(crate) non_finite: NonFinite,
}

/// Signals of one pass.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Prefill")]
pub(crate) struct WireSignals<V = Values, I = Vec<u32>> {
    /// `x_out` per block, `final_norm` under the last one.
    #[serde(default)]
    pub(crate) hidden_states: Layers<V>,
    /// `k` per block.
    #[serde(default)]
    pub(crate) key_vectors: Layers<V>,
    /// Distribution of the token that follows each position.
    #[serde(default)]
    pub(crate) logprobs: Unique<PosKey, TopK<V, I>>,
    /// Every other site, by point.
    #[serde(default, skip_serializing_if = "Unique::is_empty")]
    pub(crate) sites: Unique<Point, Layers<V>>,
    /// Bits of values that JSON cannot hold, by site (or `logprobs`) and position.
    #[serde(default, skip_serializing_if = "Unique::is_empty")]
    pub(crate) non_finite: NonFinite,
}

impl<V, I> Default for WireSignals<V, I> {
    fn default() -> Self {
        Self {
            hidden_states: Unique::default(),
            key_vectors: Unique::default(),
            logprobs: Unique::default(),
            sites: Unique::default(),
            non_finite: Unique::default(),
        }
    }
}

pub(crate) type Rows<V = Values> = Unique<PosKey, V>;
pub(crate) type Layers<V = Values> = Unique<LayerKey, Rows<V>>;
pub(crate) type NonFinite = Unique<String, Unique<PosKey, Bits>>;

/// Candidates of one position.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TopK<V = Values, I = Vec<u32>> {
    /// Candidate ids.
    pub(crate) token_ids: I,
    /// Natural logarithms of their probabilities.
    pub(crate) log_probs: V,
}

/// Bits of the values of one row that are NaN or infinite and stand as `null` in its array.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bits {
    /// Places in the array, ascending.
    pub(crate) indices: Vec<usize>,
    /// Bit pattern of each in the storage format: 8 hexadecimal digits for f32, 4 for bf16 and f16.
    pub(crate) bits: Vec<String>,
}

/// A row of numbers. A `null` in the file is a non-finite value here and the reverse.
#[derive(Default, JsonSchema)]
#[schemars(transparent)]
pub(crate) struct Values(#[schemars(with = "Vec<Option<f32>>")] pub(crate) Vec<f32>);

/// The one f32 magnitude whose shortest decimal, 7.038531e-26, gives another f32 when it is parsed as f64 first, as
/// Python does; found by trying all. It is written with the digits of the f64 of the same value.
const TWICE_ROUNDED: u32 = 0x15ae_43fd;

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.0.len()))?;
        for &value in &self.0 {
            if value.to_bits() & 0x7fff_ffff == TWICE_ROUNDED {
                seq.serialize_element(&f64::from(value))?;
            } else {
                seq.serialize_element(&value.is_finite().then_some(value))?;
            }
        }
        seq.end()
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Numbers;
        impl<'de> Visitor<'de> for Numbers {
            type Value = Vec<f32>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of numbers")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<f32>, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = seq.next_element::<Option<f32>>()? {
                    values.push(value.unwrap_or(f32::NAN));
                }
                Ok(values)
            }
        }
        deserializer.deserialize_seq(Numbers).map(Self)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_zero(first_step: &u64) -> bool {
    *first_step == 0
}

impl PhaseLayout {
    pub(crate) fn of(signals: &PhaseSignals) -> Self {
        let tensors = signals
            .tensors
            .iter()
            .map(|(&site, tensor)| (site, TensorLayout { dtype: tensor.dtype, dim: tensor.shape[2] }));
        Self {
            first_step: signals.first_step,
            steps: signals.steps,
            positions: signals.positions.clone(),
            tensors: Unique(tensors.collect()),
            logprobs: signals.logprobs.as_ref().map(|l| LogprobsLayout { k: l.k, vocab_size: l.vocab_size }),
        }
    }
}

impl SignalsLayout {
    /// The phases that were recorded, in the order they ran.
    pub(crate) fn phases(&self) -> impl Iterator<Item = (Phase, &PhaseLayout)> {
        let prefill = self.prefill.as_ref().map(|layout| (Phase::Prefill, layout));
        prefill.into_iter().chain(self.decode.as_ref().map(|layout| (Phase::Decode, layout)))
    }
}

impl RunExtras {
    pub(crate) fn of(run: &Run) -> Self {
        Self {
            reference_id: run.reference_id,
            prompt_label: run.prompt_label.clone(),
            prompt_token_ids: run.prompt_token_ids.clone(),
            prompt_ids_digest: Digest::of_ids(&run.prompt_token_ids),
            output_token_ids: run.output_token_ids.clone(),
            output_ids_digest: Digest::of_ids(&run.output_token_ids),
            output_token_texts: run.output_token_texts.clone(),
            neighbours: run.neighbours.clone(),
            prompt_source: run.prompt_source.clone(),
            signals: SignalsLayout {
                prefill: run.prefill.as_ref().map(PhaseLayout::of),
                decode: run.decode.as_ref().map(PhaseLayout::of),
            },
            signals_digest: run.signals_digest(),
        }
    }
}
