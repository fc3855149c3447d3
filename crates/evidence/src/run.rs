//! A run: the exact tokens of one repetition and the signals taken from it.
//!
//! Tensors are kept as the bytes of their storage format; nothing here compares or judges them.

use std::collections::BTreeMap;

use mantissa_numerics::{Dtype, Phase, Site};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Hasher};

/// One stored repetition of a configuration on one reference prompt.
///
/// Equality is on bits, except that two `runtime_seconds` compare as numbers.
///
/// ```
/// use mantissa_numerics::{Phase, Point, Site};
///
/// let mut runs = mantissa_evidence::read("../../fixtures/evidence/v1/experiment.json".as_ref())?.runs;
/// let run = &mut runs[0];
/// assert_eq!((run.neighbours.len(), run.prompt_source.as_ref().map(|source| source.start)), (1, Some(512)));
/// let decode = run.phase(Phase::Decode).expect("decode steps");
/// assert_eq!(decode.positions, [-3, -2, -1]);
/// let keys = &decode.tensors[&Site::at(1, Point::K)];
/// assert_eq!(keys.row(0, 2), Some(&keys.data[2 * 4 * 2..3 * 4 * 2]));
/// assert_eq!(decode.logprobs.as_ref().map(|logprobs| logprobs.k), Some(5));
/// // Digests cover signals, not clocks.
/// let digest = run.signals_digest();
/// run.runtime_seconds = Some(0.1);
/// assert_eq!(run.signals_digest(), digest);
/// # Ok::<(), mantissa_evidence::EvidenceError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// The configuration it belongs to.
    pub config_id: String,
    /// Repetition, counted from 0.
    pub rep_id: u32,
    /// Reference prompt, counted from 0.
    pub reference_id: u32,
    /// When it started, `YYYY-MM-DD HH:MM:SS` in UTC. A clock: kept apart in a container.
    pub timestamp: Option<String>,
    /// How long it took. A clock: kept apart in a container.
    pub runtime_seconds: Option<f64>,
    /// The prompt, decoded. The ids are the truth.
    pub prompt_text: String,
    /// What the file calls its prompt, where it states neither ids nor text.
    pub prompt_label: Option<String>,
    /// The exact ids fed, template included. Empty when the file that was read does not state them.
    pub prompt_token_ids: Vec<u32>,
    /// The ids generated or forced; decode step `s`, counted from the first token, consumes
    /// `output_token_ids[s]`.
    pub output_token_ids: Vec<u32>,
    /// Text of each output id, or empty.
    pub output_token_texts: Vec<String>,
    /// The other sequences of the batch, in row order after row 0.
    pub neighbours: Vec<Neighbour>,
    /// Where the prompt was cut from.
    pub prompt_source: Option<PromptSource>,
    /// Signals of the prefill: one step, the last positions of the prompt.
    pub prefill: Option<PhaseSignals>,
    /// Signals of the decode steps.
    pub decode: Option<PhaseSignals>,
}

/// A sequence that shared the batch.
///
/// Example: [`Run`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Neighbour {
    /// The exact ids fed.
    pub prompt_token_ids: Vec<u32>,
    /// The ids generated or forced.
    pub output_token_ids: Vec<u32>,
    /// Where its prompt was cut from.
    #[serde(default)]
    pub source: Option<PromptSource>,
}

/// Where a prompt was cut from: `prefix + document tokens start..end + suffix`.
///
/// Example: [`Run`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PromptSource {
    /// Name of the document, without its folder.
    pub document: String,
    /// Digest of the document's bytes.
    pub document_digest: Digest,
    /// First document token of the slice, counted from 0.
    pub start: u64,
    /// One past its last document token.
    pub end: u64,
    /// Template ids before the slice.
    pub prefix_tokens: u32,
    /// Instruction and template ids after it.
    pub suffix_tokens: u32,
}

/// Signals of one phase of a run.
///
/// Example: [`Run`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseSignals {
    /// The first forward pass recorded: 0 unless a recorder kept only later decode steps.
    pub first_step: u64,
    /// Forward passes recorded: 1 for the prefill, one per consumed token for decode.
    pub steps: usize,
    /// Positions relative to the end of the sequence at each step, ascending: `−3, −2, −1`.
    pub positions: Vec<i32>,
    /// One tensor per site, `[steps, positions, dim]`.
    pub tensors: BTreeMap<Site, SignalTensor>,
    /// Top-k log-probabilities of the token that follows each position.
    pub logprobs: Option<Logprobs>,
}

/// A tensor in its storage format.
///
/// Example: [`Run`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalTensor {
    /// Storage format.
    pub dtype: Dtype,
    /// Steps, positions, dim.
    pub shape: [usize; 3],
    /// Little-endian values, row-major, `steps · positions · dim · dtype.size()` bytes.
    pub data: Vec<u8>,
}

impl SignalTensor {
    /// Values of one step and position, as bytes; `None` outside the shape.
    #[must_use]
    pub fn row(&self, step: usize, position: usize) -> Option<&[u8]> {
        let [steps, positions, dim] = self.shape;
        if step >= steps || position >= positions {
            return None;
        }
        let bytes = dim.checked_mul(self.dtype.size())?;
        let start = (step * positions + position).checked_mul(bytes)?;
        self.data.get(start..start.checked_add(bytes)?)
    }
}

/// Top-k log-probabilities by token id.
///
/// Arrays are `[steps, positions, k]`, row-major; within a position candidates are in the order the recorder
/// ranked them, but are identified by id. Equality is on the bits of `log_probs`.
///
/// Example: [`Run`].
#[derive(Debug, Clone)]
pub struct Logprobs {
    /// Forward passes.
    pub steps: usize,
    /// Positions per pass.
    pub positions: usize,
    /// Candidates per position.
    pub k: usize,
    /// Size of the vocabulary the k were chosen from, where known: their coverage is `k` of this.
    pub vocab_size: Option<u32>,
    /// Candidate ids.
    pub token_ids: Vec<u32>,
    /// Natural logarithms of their probabilities.
    pub log_probs: Vec<f32>,
}

impl PartialEq for Logprobs {
    fn eq(&self, other: &Self) -> bool {
        (self.steps, self.positions, self.k, self.vocab_size)
            == (other.steps, other.positions, other.k, other.vocab_size)
            && self.token_ids == other.token_ids
            && self.log_probs.iter().map(|x| x.to_bits()).eq(other.log_probs.iter().map(|x| x.to_bits()))
    }
}

impl Eq for Logprobs {}

impl Run {
    /// The phases that were recorded, in the order they ran.
    pub fn phases(&self) -> impl Iterator<Item = (Phase, &PhaseSignals)> {
        let prefill = self.prefill.as_ref().map(|signals| (Phase::Prefill, signals));
        let decode = self.decode.as_ref().map(|signals| (Phase::Decode, signals));
        prefill.into_iter().chain(decode)
    }

    /// Signals of one phase.
    #[must_use]
    pub fn phase(&self, phase: Phase) -> Option<&PhaseSignals> {
        match phase {
            Phase::Prefill => self.prefill.as_ref(),
            Phase::Decode => self.decode.as_ref(),
        }
    }

    /// Digest of every tensor with its name, format and shape, phases and sites in the order of data flow.
    ///
    /// Each tensor adds its name (`decode/layer_4.x_out`) and its format (`bf16`), both preceded by their length in
    /// bytes, then its three dimensions, all as little-endian `u64`, then its bytes; a phase's log-probabilities
    /// follow its sites as `decode/logprobs.token_ids` (`u32`) and `decode/logprobs.log_probs` (`f32`).
    #[must_use]
    pub fn signals_digest(&self) -> Digest {
        let mut hasher = Hasher::default();
        for (phase, signals) in self.phases() {
            for (site, tensor) in &signals.tensors {
                hasher.tensor(&tensor_name(phase, *site), tensor.dtype.name(), tensor.shape, &tensor.data);
            }
            if let Some(logprobs) = &signals.logprobs {
                let shape = [logprobs.steps, logprobs.positions, logprobs.k];
                hasher.tensor(&token_ids_name(phase), "u32", shape, &id_bytes(&logprobs.token_ids));
                hasher.tensor(&log_probs_name(phase), "f32", shape, &float_bytes(&logprobs.log_probs));
            }
        }
        hasher.finish()
    }
}

/// Name of a site's tensor in a container: `decode/layer_4.x_out`.
///
/// ```
/// use mantissa_numerics::{Phase, Point, Site};
///
/// let name = mantissa_evidence::run::tensor_name(Phase::Decode, Site::at(4, Point::XOut));
/// assert_eq!(name, "decode/layer_4.x_out");
/// ```
#[must_use]
pub fn tensor_name(phase: Phase, site: Site) -> String {
    format!("{}/{site}", phase.name())
}

pub(crate) fn token_ids_name(phase: Phase) -> String {
    format!("{}/logprobs.token_ids", phase.name())
}

pub(crate) fn log_probs_name(phase: Phase) -> String {
    format!("{}/logprobs.log_probs", phase.name())
}

pub(crate) fn id_bytes(ids: &[u32]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_le_bytes()).collect()
}

pub(crate) fn float_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_bits().to_le_bytes()).collect()
}
