//! Small runs whose every value is known, for tests.

use std::path::Path;

use mantissa_evidence::{
    Experiment, ExperimentMetadata, ExtractionConfig, Logprobs, PhaseSignals, Record, Run, SignalTensor,
};
use mantissa_numerics::{Dtype, Point, Site};

use crate::facts::Member;

pub(crate) const EMBED: Site = Site::outside(Point::EmbedOut);
pub(crate) const ATTN: Site = Site::at(1, Point::AttnOut);
pub(crate) const X_OUT: Site = Site::at(1, Point::XOut);

pub(crate) fn tensor(dtype: Dtype, shape: [usize; 3], values: &[f32]) -> SignalTensor {
    let mut data = Vec::new();
    for &value in values {
        dtype.encode(value, &mut data);
    }
    assert_eq!(values.len(), shape.iter().product::<usize>());
    SignalTensor { dtype, shape, data }
}

pub(crate) fn signals(steps: usize, positions: &[i32], tensors: &[(Site, SignalTensor)]) -> PhaseSignals {
    let tensors = tensors.iter().cloned().collect();
    PhaseSignals { first_step: 0, steps, positions: positions.to_vec(), tensors, logprobs: None }
}

/// A run of four prompt ids, three output ids, and two sites of width two, all values zero.
pub(crate) fn run() -> Run {
    let zeros = |steps: usize| tensor(Dtype::Bf16, [steps, 3, 2], &vec![0.0; steps * 6]);
    let of = |steps| signals(steps, &[-3, -2, -1], &[(EMBED, zeros(steps)), (X_OUT, zeros(steps))]);
    Run {
        config_id: "c".into(),
        rep_id: 0,
        reference_id: 0,
        timestamp: None,
        runtime_seconds: None,
        prompt_text: String::new(),
        prompt_label: None,
        prompt_token_ids: vec![1, 2, 3, 4],
        output_token_ids: vec![5, 6, 7],
        output_token_texts: Vec::new(),
        neighbours: Vec::new(),
        prompt_source: None,
        prefill: Some(of(1)),
        decode: Some(of(3)),
    }
}

pub(crate) fn prefill(run: &mut Run) -> &mut PhaseSignals {
    run.prefill.as_mut().unwrap()
}

pub(crate) fn decode(run: &mut Run) -> &mut PhaseSignals {
    run.decode.as_mut().unwrap()
}

/// Sets one value, by row and element.
pub(crate) fn set(
    signals: &mut PhaseSignals,
    site: Site,
    step: usize,
    position: usize,
    element: usize,
    value: f32,
) {
    let tensor = signals.tensors.get_mut(&site).unwrap();
    let [_, positions, dim] = tensor.shape;
    let size = tensor.dtype.size();
    let at = ((step * positions + position) * dim + element) * size;
    let mut bytes = Vec::new();
    tensor.dtype.encode(value, &mut bytes);
    tensor.data[at..at + size].copy_from_slice(&bytes);
}

/// The same candidates at every position.
pub(crate) fn logprobs(steps: usize, positions: usize, candidates: &[(u32, f32)]) -> Logprobs {
    let rows = steps * positions;
    Logprobs {
        steps,
        positions,
        k: candidates.len(),
        vocab_size: None,
        token_ids: (0..rows).flat_map(|_| candidates.iter().map(|c| c.0)).collect(),
        log_probs: (0..rows).flat_map(|_| candidates.iter().map(|c| c.1)).collect(),
    }
}

/// A record of runs, which no reader has seen: it may contradict itself.
pub(crate) fn record(runs: impl IntoIterator<Item = Run>) -> Record {
    let metadata = ExperimentMetadata {
        experiment_type: "batch_size".into(),
        variable_tested: "batch_size".into(),
        model: "m".into(),
        model_size: "1M".into(),
        architecture: "dense".into(),
        sequence_length: 4,
        decode_steps: 3,
        extraction_config: ExtractionConfig {
            layers: vec![1],
            positions: vec![-3, -2, -1],
            hidden_dim: 2,
            key_dim: 2,
            top_k_logprobs: 2,
        },
        date_created: None,
        mantissa: None,
    };
    let experiment = Experiment { metadata, configurations: Vec::new(), runs: runs.into_iter().collect() };
    Record::from_experiment(experiment, Path::new("sample.json"))
}

/// Every run of a record.
pub(crate) fn members(record: &Record) -> Vec<Member<'_>> {
    (0..record.shell().runs.len()).map(|run| Member { record, run }).collect()
}
