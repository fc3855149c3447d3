//! Layout `batch_generation`: signals of generation at several batch sizes, on one GPU.
//!
//! Left out: the sanity check's own distances, which `--as-published` computes again.

use std::collections::BTreeMap;
use std::path::Path;

use mantissa_evidence::error::{Flaw, Result};
use mantissa_evidence::lenient::Number;
use mantissa_evidence::{
    Experiment, ExperimentMetadata, ExtractionConfig, Neighbour, PhaseSignals, Run, SignalTensor, validate,
};
use mantissa_numerics::{Dtype, LayerIdx, Phase, Point, Site};
use serde::Deserialize;

use crate::json::check::{self, RESTORE};
use crate::json::entries::{Entries, Layer, NOT_STATED, Position, Setting, Settings};
use crate::json::numbers::{self, Candidates, Square};
use crate::json::setup::{self, ASSUMED, Stated, configuration};
use crate::json::signals;

/// A file of this layout.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BatchGeneration {
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
    /// One per reference and batch size.
    pub(crate) measurements: Vec<Measurement>,
    /// Distances between batch sizes, prefill.
    #[serde(default)]
    pub(crate) prefill_sanity_check: SanityCheck,
    /// Distances between batch sizes, decode.
    #[serde(default)]
    pub(crate) decode_sanity_check: SanityCheck,
}

/// What was run where.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Metadata {
    /// The machine.
    #[serde(default)]
    pub(crate) environment: Settings,
    /// Model id, where named.
    pub(crate) model: Option<String>,
    /// Batch sizes, in the order of every matrix.
    #[serde(default)]
    pub(crate) batch_sizes: Vec<u32>,
    /// Layers whose keys are kept; none where log-probabilities alone are.
    #[serde(default)]
    pub(crate) layer_indices: Vec<u32>,
}

/// One reference at one batch size.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Measurement {
    /// `ref_0`.
    pub(crate) ref_name: String,
    /// Sequences in the batch.
    pub(crate) batch_size: u32,
    /// Ids generated in row 0.
    #[serde(default)]
    pub(crate) generated_ids: Vec<u32>,
    /// Ids of every row's prompt; row 0 is measured.
    pub(crate) prompt_token_ids: Vec<Vec<u32>>,
    /// Signals at the last positions of the prompt.
    #[serde(default)]
    pub(crate) prefill_signals: Entries<Position, Signals>,
    /// Signals of the last decode steps.
    #[serde(default)]
    pub(crate) decode_signals: Entries<Position, Step>,
    /// Ids generated in every row.
    #[serde(default)]
    pub(crate) all_batch_generated_ids: Vec<Vec<u32>>,
}

/// Signals of one position.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Signals {
    /// Keys by layer.
    #[serde(default, deserialize_with = "numbers::layers")]
    pub(crate) key_vectors: Entries<Layer, Vec<f64>>,
    /// Candidates for the token that follows.
    pub(crate) logprobs: Candidates,
}

/// A decode step: its signals under `signals`, or bare where its position is left to its name.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "WrittenStep")]
pub(crate) struct Step {
    /// Position of the token it consumed, counted from the start of the prompt.
    pub(crate) absolute_position: Option<u64>,
    /// Its signals.
    pub(crate) signals: Signals,
}

#[derive(Deserialize)]
struct WrittenStep {
    absolute_position: Option<u64>,
    signals: Option<Signals>,
    #[serde(default, deserialize_with = "numbers::layers")]
    key_vectors: Entries<Layer, Vec<f64>>,
    logprobs: Option<Candidates>,
}

impl TryFrom<WrittenStep> for Step {
    type Error = &'static str;

    fn try_from(written: WrittenStep) -> std::result::Result<Self, Self::Error> {
        let WrittenStep { absolute_position, signals, key_vectors, logprobs } = written;
        let bare = logprobs.map(|logprobs| Signals { key_vectors, logprobs });
        let signals = signals.or(bare).ok_or("missing field `signals`")?;
        Ok(Self { absolute_position, signals })
    }
}

/// Distances between batch sizes as the authors computed them.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub(crate) struct SanityCheck {
    /// Keys, averaged over references.
    #[serde(default, deserialize_with = "numbers::rows")]
    pub(crate) key_matrix: Square,
    /// Log-probabilities, averaged over references; alone, they are the matrix.
    #[serde(default, alias = "matrix", deserialize_with = "numbers::rows")]
    pub(crate) logprob_matrix: Square,
    /// Keys of each reference.
    #[serde(default, deserialize_with = "numbers::cubes")]
    pub(crate) per_reference_key_matrices: Vec<Square>,
    /// Log-probabilities of each reference.
    #[serde(default, alias = "per_reference_matrices", deserialize_with = "numbers::cubes")]
    pub(crate) per_reference_logprob_matrices: Vec<Square>,
    /// One figure for keys.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) key_vectors_mean: Option<f64>,
    /// One figure for log-probabilities.
    #[serde(default, alias = "off_diagonal_mean", deserialize_with = "numbers::maybe")]
    pub(crate) logprobs_mean: Option<f64>,
    /// Smallest and largest cell off the diagonal.
    pub(crate) off_diagonal_range: Option<(Number, Number)>,
    /// Pairs of batch sizes without any distance.
    pub(crate) equivalent_pairs: Option<Vec<(u32, u32)>>,
    /// Batch sizes grouped by those.
    pub(crate) kernel_classes: Option<Vec<Vec<u32>>>,
}

impl BatchGeneration {
    /// The file, and what had to be assumed in reading it.
    pub(crate) fn parse(json: &[u8], origin: &Path) -> Result<(Self, Vec<String>)> {
        Self::of(check::document(json, origin)?).map_err(|flaw| flaw.in_file(origin))
    }

    fn of(mut file: File) -> std::result::Result<(Self, Vec<String>), Flaw> {
        file.derive();
        file.check()?;
        let values = || {
            let all = file
                .measurements
                .iter()
                .flat_map(|one| check::PHASES.into_iter().flat_map(|p| one.signals(p)));
            all.flat_map(|(_, signals)| signals.key_vectors.values().flatten())
        };
        let dtype = signals::narrowest(&values());
        let mut warnings = Vec::new();
        if file.has_keys() {
            warnings.push(match dtype {
                Some(dtype) => format!(
                    "the file does not name the storage format of its key vectors: {dtype} is the narrowest of bf16, \
                     f16 and f32 that holds every value exactly"
                ),
                None => "some key vectors are no binary32 values: rounded to f32".to_owned(),
            });
            warnings.push("layers are taken as counted from 1, as in hidden_states".to_owned());
        } else {
            warnings.push("the file states no storage format: taken as bf16".to_owned());
        }
        let ahead = file.prefill_lists_own_token();
        let (experiment, dropped) = experiment(&file, dtype.unwrap_or(Dtype::F32), ahead)?;
        validate::experiment(&experiment)?;
        if file.metadata.model.is_none() {
            warnings.push("the file does not name the model".to_owned());
        }
        warnings.push(if file.states_positions() {
            "decode steps are numbered by the token they consume, one less than in the file, by absolute_position"
                .to_owned()
        } else {
            signals::DECODE_BY_NAME.to_owned()
        });
        if ahead {
            warnings.push(signals::AHEAD.to_owned());
        }
        if dropped > 0 {
            warnings.push(format!("{dropped} candidates beyond the shortest list were dropped"));
        }
        warnings.push(ASSUMED.to_owned());
        Ok((Self { file, experiment }, warnings))
    }
}

impl Measurement {
    /// Signals of one phase by position, in the order of the file.
    #[must_use]
    pub(crate) fn signals(&self, phase: Phase) -> Vec<(Position, &Signals)> {
        match phase {
            Phase::Prefill => {
                self.prefill_signals.iter().map(|(&position, signals)| (position, signals)).collect()
            }
            Phase::Decode => {
                self.decode_signals.iter().map(|(&position, step)| (position, &step.signals)).collect()
            }
        }
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

    /// What a file may leave to what it holds.
    fn derive(&mut self) {
        for one in &mut self.measurements {
            if one.generated_ids.is_empty() {
                one.generated_ids = one.all_batch_generated_ids.first().cloned().unwrap_or_default();
            }
            if one.all_batch_generated_ids.is_empty() && one.batch_size == 1 {
                one.all_batch_generated_ids.push(one.generated_ids.clone());
            }
        }
        let Metadata { batch_sizes, layer_indices, .. } = &mut self.metadata;
        if batch_sizes.is_empty() {
            *batch_sizes = self.measurements.iter().map(|one| one.batch_size).collect();
            batch_sizes.sort_unstable();
            batch_sizes.dedup();
        }
        if layer_indices.is_empty()
            && let Some(first) = self.measurements.first().and_then(|one| one.prefill_signals.values().next())
        {
            layer_indices.extend(first.key_vectors.keys().map(|layer| layer.0));
        }
    }

    /// Whether keys are kept beside log-probabilities.
    pub(crate) fn has_keys(&self) -> bool {
        !self.metadata.layer_indices.is_empty()
    }

    /// Whether decode steps say which position they consumed.
    fn states_positions(&self) -> bool {
        let steps = self.measurements.iter().flat_map(|one| one.decode_signals.values());
        steps.clone().next().is_some() && steps.into_iter().all(|step| step.absolute_position.is_some())
    }

    /// Whether every prefill list has the prompt's own token of its position among its candidates, in a file whose
    /// positions are names alone.
    fn prefill_lists_own_token(&self) -> bool {
        !self.states_positions()
            && self.measurements.iter().all(|one| {
                let lists = one.signals(Phase::Prefill).into_iter();
                let lists = lists.map(|(position, signals)| (position, &signals.logprobs));
                one.prompt_token_ids.first().is_some_and(|prompt| signals::list_own_token(prompt, lists))
            })
    }

    /// Reference names in the order of first appearance, which is the order of the matrices.
    #[must_use]
    pub(crate) fn references(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for one in &self.measurements {
            if !names.contains(&one.ref_name.as_str()) {
                names.push(&one.ref_name);
            }
        }
        names
    }

    /// The measurement of one reference at one batch size and its index.
    #[must_use]
    pub(crate) fn measurement(&self, reference: &str, batch_size: u32) -> Option<(usize, &Measurement)> {
        let mut all = self.measurements.iter().enumerate();
        all.find(|(_, one)| one.ref_name == reference && one.batch_size == batch_size)
    }

    fn check(&self) -> std::result::Result<(), Flaw> {
        let Metadata { batch_sizes, layer_indices, .. } = &self.metadata;
        check::distinct(batch_sizes, "metadata.batch_sizes")?;
        if self.has_keys() {
            check::distinct(layer_indices, "metadata.layer_indices")?;
        }
        let mut seen = BTreeMap::new();
        for (i, one) in self.measurements.iter().enumerate() {
            let place = format!("measurements[{i}]");
            if let Some(first) = seen.insert((one.ref_name.as_str(), one.batch_size), i) {
                let problem = format!(
                    "{} at batch size {} again, after measurements[{first}]",
                    one.ref_name, one.batch_size
                );
                return Err(Flaw::new(place, problem, RESTORE));
            }
            if !batch_sizes.contains(&one.batch_size) {
                let problem = format!("batch size {} is not among metadata.batch_sizes", one.batch_size);
                return Err(Flaw::new(place, problem, RESTORE));
            }
            one.check(layer_indices).map_err(|flaw| flaw.under(&place))?;
        }
        let references = self.references();
        check::distinct(&references, "measurements")?;
        if seen.len() != references.len() * batch_sizes.len() {
            let all = references.iter().flat_map(|&name| batch_sizes.iter().map(move |&size| (name, size)));
            let missing = all.into_iter().find(|key| !seen.contains_key(key));
            let (name, size) = missing.unwrap_or(("a reference", 0));
            return Err(Flaw::new(
                "measurements",
                format!("{name} at batch size {size} is missing"),
                RESTORE,
            ));
        }
        for (check, place) in [
            (&self.prefill_sanity_check, "prefill_sanity_check"),
            (&self.decode_sanity_check, "decode_sanity_check"),
        ] {
            let side = batch_sizes.len();
            check::square(&check.key_matrix, side, &format!("{place}.key_matrix"))?;
            check::square(&check.logprob_matrix, side, &format!("{place}.logprob_matrix"))?;
            let (keys, logprobs) = (&check.per_reference_key_matrices, &check.per_reference_logprob_matrices);
            check::squares(keys, references.len(), side, &format!("{place}.per_reference_key_matrices"))?;
            check::squares(
                logprobs,
                references.len(),
                side,
                &format!("{place}.per_reference_logprob_matrices"),
            )?;
        }
        Ok(())
    }
}

impl Measurement {
    fn check(&self, layers: &[u32]) -> std::result::Result<(), Flaw> {
        let rows = |name: &str, rows: usize| {
            let problem = format!("{rows} rows at batch size {}", self.batch_size);
            Err(Flaw::new(name, problem, RESTORE))
        };
        if self.prompt_token_ids.len() as u64 != u64::from(self.batch_size)
            || self.prompt_token_ids.is_empty()
        {
            return rows("prompt_token_ids", self.prompt_token_ids.len());
        }
        let every_row = &self.all_batch_generated_ids;
        if !every_row.is_empty() && every_row.len() as u64 != u64::from(self.batch_size) {
            return rows("all_batch_generated_ids", every_row.len());
        }
        if every_row.first().is_some_and(|row| *row != self.generated_ids) {
            let problem = "row 0 is not generated_ids, which should be the measured row";
            return Err(Flaw::new("all_batch_generated_ids[0]", problem, RESTORE));
        }
        for phase in check::PHASES {
            let positions = self.signals(phase);
            let field = format!("{}_signals", phase.name());
            if positions.is_empty() && (phase == Phase::Prefill || self.prefill_signals.len() == 0) {
                return Err(Flaw::new(field, "no position is recorded", RESTORE));
            }
            if positions.is_empty() {
                continue;
            }
            let widths = |signals: &Signals| -> Vec<(Layer, usize)> {
                signals.key_vectors.iter().map(|(&layer, row)| (layer, row.len())).collect()
            };
            let first = widths(positions[0].1);
            let mut numbers: Vec<u32> = first.iter().map(|(layer, _)| layer.0).collect();
            let mut stated = layers.to_vec();
            numbers.sort_unstable();
            stated.sort_unstable();
            for (position, signals) in &positions {
                let place = format!("{field}.{position}");
                check::candidates(&signals.logprobs, &format!("{place}.logprobs"))?;
                if widths(signals) != first || numbers != stated {
                    let problem =
                        "layers or widths are not those of the other positions and of metadata.layer_indices";
                    return Err(Flaw::new(format!("{place}.key_vectors"), problem, RESTORE));
                }
            }
        }
        Ok(())
    }
}

fn experiment(file: &File, dtype: Dtype, ahead: bool) -> std::result::Result<(Experiment, usize), Flaw> {
    let metadata = &file.metadata;
    let setting = |name: &str| metadata.environment.get(name).map(|Setting(value)| value.clone());
    let gpu = setup::gpu(&metadata.environment);
    let model = metadata.model.as_deref().unwrap_or(NOT_STATED);
    let (mut runs, mut dropped) = (Vec::new(), 0);
    for (i, one) in file.measurements.iter().enumerate() {
        let (run, left_out) =
            run(one, dtype, ahead).map_err(|flaw| flaw.under(&format!("measurements[{i}]")))?;
        runs.push(run);
        dropped += left_out;
    }
    let vllm = setting("vllm_version");
    let engine = if vllm.is_some() { "vllm" } else { "transformers" };
    let (attention, engine_version) =
        (setting("attn_implementation"), vllm.or_else(|| setting("transformers_version")));
    let setup_dtype = if file.has_keys() { dtype } else { Dtype::Bf16 };
    let configurations = metadata.batch_sizes.iter().map(|&batch_size| {
        configuration(Stated {
            config_id: config_id(batch_size),
            variable_value: batch_size.into(),
            model,
            hardware: &gpu,
            engine,
            engine_version: engine_version.as_deref(),
            attention: attention.as_deref(),
            quantization: None,
            dtype: setup_dtype,
            batch_size,
            tp_size: 1,
            repetitions: 1,
            settings: setup::versions(&metadata.environment),
        })
    });
    let first = file.measurements.first();
    let signals = first.and_then(|one| one.prefill_signals.values().next());
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let mut positions: Vec<i32> = first
        .into_iter()
        .flat_map(|one| one.prefill_signals.keys().map(|at| at.0 - i32::from(ahead)))
        .collect();
    positions.sort_unstable();
    let configurations = configurations.collect();
    Ok((
        Experiment {
            metadata: ExperimentMetadata {
                experiment_type: "batch_size".to_owned(),
                variable_tested: "batch_size".to_owned(),
                model: model.to_owned(),
                model_size: NOT_STATED.to_owned(),
                architecture: NOT_STATED.to_owned(),
                sequence_length: count(first.map_or(0, |one| one.prompt_token_ids[0].len())),
                decode_steps: count(first.map_or(0, |one| one.generated_ids.len())),
                extraction_config: ExtractionConfig {
                    layers: metadata.layer_indices.clone(),
                    positions,
                    hidden_dim: 0,
                    key_dim: count(
                        signals.and_then(|one| one.key_vectors.values().next()).map_or(0, Vec::len),
                    ),
                    top_k_logprobs: count(signals.map_or(0, |one| one.logprobs.token_ids.len())),
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

fn config_id(batch_size: u32) -> String {
    format!("batch_size_{batch_size}")
}

fn run(one: &Measurement, dtype: Dtype, ahead: bool) -> std::result::Result<(Run, usize), Flaw> {
    let reference_id = check::reference_number(&one.ref_name).ok_or_else(|| {
        Flaw::new("ref_name", format!("'{}' is no name such as ref_0", one.ref_name), RESTORE)
    })?;
    let mut prefill: Vec<(Position, &Signals)> = one.signals(Phase::Prefill);
    prefill.sort_by_key(|(position, _)| *position);
    let prompt = one.prompt_token_ids[0].len() as u64;
    let mut steps = Vec::new();
    for (position, step) in one.decode_signals.iter() {
        let generated = one.generated_ids.len() as u64;
        let consumed = match step.absolute_position {
            Some(absolute) => absolute.checked_sub(prompt).filter(|step| *step < generated),
            None => signals::step_by_name(*position, generated),
        };
        let consumed = consumed.ok_or_else(|| {
            let problem = format!(
                "its position lies outside the {generated} ids generated after {prompt} of the prompt{}",
                step.absolute_position.map(|at| format!(": absolute_position {at}")).unwrap_or_default()
            );
            Flaw::new(format!("decode_signals.{position}"), problem, RESTORE)
        })?;
        steps.push((consumed, &step.signals));
    }
    steps.sort_by_key(|(step, _)| *step);
    if steps.windows(2).any(|pair| pair[0].0 + 1 != pair[1].0) {
        return Err(Flaw::new("decode_signals", "the steps do not follow one another", RESTORE));
    }
    let first_step = steps.first().map_or(0, |(step, _)| *step);
    let positions: Vec<i32> = prefill.iter().map(|(position, _)| position.0 - i32::from(ahead)).collect();
    let rows: Vec<&Signals> = prefill.into_iter().map(|(_, signals)| signals).collect();
    let (prefill, dropped) = phase(0, 1, positions, &rows, dtype);
    let rows: Vec<&Signals> = steps.into_iter().map(|(_, signals)| signals).collect();
    let (decode, also_dropped) = phase(first_step, rows.len(), vec![-1], &rows, dtype);
    let outputs = one.all_batch_generated_ids.iter().map(Vec::as_slice).chain(std::iter::repeat(&[][..]));
    let neighbours = one.prompt_token_ids.iter().zip(outputs).skip(1);
    let run = Run {
        config_id: config_id(one.batch_size),
        rep_id: 0,
        reference_id,
        timestamp: None,
        runtime_seconds: None,
        prompt_text: String::new(),
        prompt_label: None,
        prompt_token_ids: one.prompt_token_ids[0].clone(),
        output_token_ids: one.generated_ids.clone(),
        output_token_texts: Vec::new(),
        neighbours: neighbours
            .map(|(prompt, output)| Neighbour {
                prompt_token_ids: prompt.clone(),
                output_token_ids: output.to_vec(),
                source: None,
            })
            .collect(),
        prompt_source: None,
        prefill: Some(prefill),
        decode: (decode.steps > 0).then_some(decode),
    };
    Ok((run, dropped + also_dropped))
}

/// Signals of `rows`, steps before positions, and the candidates that were dropped.
fn phase(
    first_step: u64,
    steps: usize,
    positions: Vec<i32>,
    rows: &[&Signals],
    dtype: Dtype,
) -> (PhaseSignals, usize) {
    let mut tensors = BTreeMap::new();
    for (layer, row) in rows.iter().take(1).flat_map(|signals| signals.key_vectors.iter()) {
        let values = rows.iter().filter_map(|signals| signals.key_vectors.get(layer)).flatten();
        let site = Site { layer: Some(LayerIdx(layer.0)), point: Point::K };
        let shape = [steps, positions.len(), row.len()];
        tensors.insert(site, SignalTensor { dtype, shape, data: signals::encode(dtype, values) });
    }
    let candidates: Vec<&Candidates> = rows.iter().map(|signals| &signals.logprobs).collect();
    let (logprobs, dropped) = signals::logprobs(steps, positions.len(), &candidates);
    (PhaseSignals { first_step, steps, positions, tensors, logprobs }, dropped)
}
