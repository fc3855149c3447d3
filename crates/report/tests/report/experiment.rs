//! Experiments as large as real ones: many setups, prompts and repetitions, of which some layers are recorded.

use std::collections::BTreeMap;
use std::path::Path;

use mantissa_compare::{Comparison, Selection};
use mantissa_evidence::{
    Configuration, Experiment, ExperimentMetadata, ExtractionConfig, FixedParams, Logprobs, PhaseSignals,
    Record, Run, SignalTensor,
};
use mantissa_numerics::{Dtype, Point, Site};
use mantissa_verdict::Analysis;
use mantissa_verdict::analysis::Source;
use mantissa_verdict::judge::{Evidence, Options, judge_evidence};

/// What an experiment is like.
pub(crate) struct Shape {
    pub(crate) batches: &'static [u32],
    pub(crate) prompts: u32,
    pub(crate) repetitions: u32,
    pub(crate) layers: &'static [u32],
    /// How far repetitions of one setup lie apart, beside setups.
    pub(crate) noise: f32,
}

/// 9 setups × 6 signals × 3 prompts.
pub(crate) const NINE: Shape = Shape {
    batches: &[1, 2, 3, 4, 5, 8, 9, 16, 17],
    prompts: 3,
    repetitions: 2,
    layers: &[1, 2, 3, 7, 14, 21, 27, 28],
    noise: 0.0,
};
/// Setups that do not repeat themselves, on enough prompts to say something.
pub(crate) const NOISY: Shape =
    Shape { batches: &[1, 2, 4, 64], prompts: 8, repetitions: 3, layers: &[1, 24, 48], noise: 0.6 };
/// The least that can be compared.
pub(crate) const TWO: Shape =
    Shape { batches: &[1, 8], prompts: 1, repetitions: 1, layers: &[28], noise: 0.0 };

const POSITIONS: [i32; 3] = [-3, -2, -1];
const STEPS: usize = 16;
const WIDTH: usize = 4;

/// A number from 0 to 1 that looks like chance.
fn chance(of: [u32; 6]) -> f32 {
    let mixed = of.iter().fold(0x9e37_79b9_u32, |seed, &part| {
        let seed = (seed ^ part).wrapping_mul(0x85eb_ca6b);
        (seed ^ (seed >> 13)).wrapping_mul(0xc2b2_ae35)
    });
    f32::from(u16::try_from((mixed ^ (mixed >> 16)) & 0xffff).expect("16 bits")) / 65_536.0
}

/// What is added to a value of a batch: nothing in batches of the class of 1, else more with every layer.
fn moved(shape: &Shape, batch: u32, rep: u32, [prompt, site, layer, step]: [u32; 4], element: u32) -> f32 {
    let class = match batch {
        1 => 0,
        2 | 3 => 1,
        4 | 5 => 2,
        _ => 3,
    };
    let depth = f32::from(u16::try_from(layer).expect("a layer")) / 28.0;
    let begins = step > class % 3 && layer > 2 * class;
    let apart =
        if class > 0 && begins { f32::from(u8::try_from(class).expect("small")) * 0.02 * depth } else { 0.0 };
    let sign = chance([prompt, site, layer, step, element, 7]) - 0.5;
    let jitter = chance([prompt, site, layer, step, element, 100 + rep + batch]) - 0.5;
    apart * sign + shape.noise * 0.05 * depth * jitter
}

fn signals(shape: &Shape, batch: u32, prompt: u32, rep: u32, decode: bool) -> PhaseSignals {
    let (steps, positions) = if decode { (STEPS, vec![-1]) } else { (1, POSITIONS.to_vec()) };
    let tensor = |site: u32, layer: u32| {
        let mut data = Vec::new();
        for step in 0..steps {
            for position in 0..positions.len() {
                let at = u32::try_from(if decode { step + 3 } else { position * usize::from(batch > 8) })
                    .expect("small");
                for element in 0..u32::try_from(WIDTH).expect("small") {
                    let base = chance([prompt, site, layer, at, element, 0]);
                    let value = base + moved(shape, batch, rep, [prompt, site, layer, at], element);
                    Dtype::F32.encode(value, &mut data);
                }
            }
        }
        SignalTensor { dtype: Dtype::F32, shape: [steps, positions.len(), WIDTH], data }
    };
    let mut tensors = BTreeMap::new();
    for &layer in shape.layers {
        tensors.insert(Site::at(layer, Point::XOut), tensor(0, layer));
        tensors.insert(Site::at(layer, Point::K), tensor(1, layer));
    }
    let rows = u32::try_from(steps * positions.len()).expect("small");
    let logprob = |row: u32, k: u32| {
        let at = if decode { row + 3 } else { row * u32::from(batch > 8) };
        let shift = moved(shape, batch, rep, [prompt, 2, 28, at], k);
        -0.1 - f32::from(u8::try_from(k).expect("small")) - 0.1 * shift
    };
    let logprobs = Logprobs {
        steps,
        positions: positions.len(),
        k: 3,
        vocab_size: None,
        token_ids: (0..rows).flat_map(|row| [row, row + 1, row + 2]).collect(),
        log_probs: (0..rows).flat_map(|row| [0, 1, 2].map(|k| logprob(row, k))).collect(),
    };
    PhaseSignals { first_step: 0, steps, positions, tensors, logprobs: Some(logprobs) }
}

pub(crate) fn experiment(shape: &Shape) -> Experiment {
    let mut metadata = ExperimentMetadata {
        extraction_config: ExtractionConfig {
            layers: shape.layers.to_vec(),
            positions: POSITIONS.to_vec(),
            hidden_dim: u32::try_from(WIDTH).expect("small"),
            key_dim: u32::try_from(WIDTH).expect("small"),
            top_k_logprobs: 3,
        },
        ..ExperimentMetadata::bare("batch_size", "batch_size")
    };
    "Qwen/Qwen2.5-7B-Instruct".clone_into(&mut metadata.model);
    metadata.date_created = Some("2026-11-02 09:30:00".to_owned());
    let configurations = shape.batches.iter().map(|&batch| Configuration {
        config_id: format!("h200_bs{batch}_sdpa_bf16"),
        hardware: "NVIDIA H200".to_owned(),
        provider: None,
        variable_value: batch.into(),
        cuda_version: None,
        torch_version: None,
        transformers_version: None,
        flash_attn_version: None,
        python_version: None,
        fixed_params: FixedParams {
            compile: false,
            attention_impl: "sdpa".to_owned(),
            quantization: "none".to_owned(),
            tp_size: 1,
            ep_size: 1,
            concurrent_streams: false,
        },
        mantissa: None,
    });
    let mut runs = Vec::new();
    for &batch in shape.batches {
        for prompt in 0..shape.prompts {
            for rep in 0..shape.repetitions {
                let outputs = u32::try_from(STEPS).expect("small");
                runs.push(Run {
                    config_id: format!("h200_bs{batch}_sdpa_bf16"),
                    rep_id: rep,
                    reference_id: prompt,
                    timestamp: None,
                    runtime_seconds: None,
                    prompt_text: String::new(),
                    prompt_label: None,
                    prompt_token_ids: vec![100 + prompt, 2, 3, 4],
                    output_token_ids: (0..outputs).map(|step| 5 + step).collect(),
                    output_token_texts: Vec::new(),
                    neighbours: Vec::new(),
                    prompt_source: None,
                    prefill: Some(signals(shape, batch, prompt, rep, false)),
                    decode: Some(signals(shape, batch, prompt, rep, true)),
                });
            }
        }
    }
    Experiment { metadata, configurations: configurations.collect(), runs }
}

pub(crate) fn source() -> Source {
    Source {
        name: "batches.json".to_owned(),
        digest: "5f1b0c7d".repeat(8),
        layout: "experiment_json".to_owned(),
        models: vec!["Qwen/Qwen2.5-7B-Instruct".to_owned()],
        hardware: vec!["NVIDIA H200".to_owned()],
        date: Some("2026-11-02 09:30:00".to_owned()),
        warnings: vec!["the file states no storage format: taken as f32".to_owned()],
    }
}

pub(crate) fn record(experiment: Experiment) -> Record {
    Record::from_experiment(experiment, Path::new("batches.json"))
}

pub(crate) fn judged(shape: &Shape) -> Analysis {
    let (source, record) = (source(), record(experiment(shape)));
    judge_evidence(&[Evidence::of_record(&source, &record)], &Options::default()).expect("a judgement")
}

pub(crate) fn compared(shape: &Shape) -> Comparison {
    let records = [("batches.json".to_owned(), record(experiment(shape)))];
    Comparison::of(&records, &Selection::default()).expect("facts")
}
