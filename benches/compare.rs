//! How fast two containers are compared, as a fraction of what one core of this machine can read.
//!
//! `cargo bench -p mantissa-compare --bench compare -- [--rounds N] [--directory DIR]`
//!
//! Writes pairs of containers of 16 MB, 160 MB and 1.6 GB (both sides together) to a folder of its own in DIR, reads
//! each once so that its pages are cached, and compares them on one thread with every fact computed: equal data, and
//! data in which every value differs, in each format. Bytes are those of the signals of both sides. "First" opens the
//! containers anew and so pays for mapping their pages; "again" compares the open records once more. Seconds are those
//! of the thread on a core (Unix; elsewhere by the clock), since speed per core is the question and machines are
//! shared. Best of all rounds; the yardstick runs between them. Left out: cold files, JSON, more than one thread.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark reports on standard output, progress on error"
)]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "a benchmark, not a library"
)]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use mantissa_compare::{Member, PairFacts, Selection, State, pairs};
use mantissa_evidence::{
    Experiment, ExperimentMetadata, ExtractionConfig, PhaseSignals, Record, Run, SignalTensor, container,
};
use mantissa_numerics::{Dtype, Phase, Point, Site};

/// Widths of a hidden state and of a layer's keys.
#[derive(Clone, Copy)]
struct Model {
    name: &'static str,
    hidden: usize,
    keys: usize,
}

const LARGE: Model = Model { name: "2048 + 512", hidden: 2048, keys: 512 };
const SMALL: Model = Model { name: "576 + 192", hidden: 576, keys: 192 };
const LAYERS: u32 = 5;
const POSITIONS: [i32; 3] = [-3, -2, -1];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let flag = |name: &str| arguments.iter().position(|a| a == name).map(|i| arguments[i + 1].clone());
    let rounds: usize = flag("--rounds").map_or(5, |rounds| rounds.parse().unwrap());
    let parent = flag("--directory").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(parent).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();

    let memory = vec![3_u64; 200_000_000];
    let mut bandwidth = 0.0_f64;
    println!("| values of a row | format | data | bytes of both | first, GB/s | again, GB/s | of reading |");
    println!("|---|---|---|---:|---:|---:|---:|");
    let cases = [
        (LARGE, Dtype::Bf16, vec![16, 160, 1600]),
        (LARGE, Dtype::F16, vec![160]),
        (LARGE, Dtype::F32, vec![160]),
        (SMALL, Dtype::Bf16, vec![160]),
    ];
    for (model, dtype, sizes) in cases {
        for megabytes in sizes {
            for differ in [false, true] {
                eprintln!("{} {dtype}, {megabytes} MB, {}", model.name, words(differ));
                let directory = folder.path().join("pair");
                let [a, b] = ["a", "b"].map(|side| directory.join(side));
                let bytes =
                    write(&a, model, dtype, megabytes, false) + write(&b, model, dtype, megabytes, differ);
                let (mut first, mut again) = (f64::INFINITY, f64::INFINITY);
                let mut reading = 0.0_f64;
                for _ in 0..rounds {
                    reading = reading.max(read_bandwidth(&memory));
                    let ((records, facts), seconds) = pool.install(|| {
                        timed(|| {
                            let records = [Record::open(&a).unwrap(), Record::open(&b).unwrap()];
                            let facts = compare(&records);
                            (records, facts)
                        })
                    });
                    first = first.min(seconds);
                    let expected = if differ { State::Different } else { State::Equal };
                    assert_eq!(facts.counts(None).state(), expected);
                    let total: u64 = facts.sites.iter().filter_map(|site| Some(site.total?.values)).sum();
                    assert_eq!(total as usize * dtype.size() * 2, bytes);
                    drop(facts);
                    let (facts, seconds) = pool.install(|| timed(|| compare(&records)));
                    black_box(facts);
                    again = again.min(seconds);
                }
                bandwidth = bandwidth.max(reading);
                let speed = |seconds: f64| bytes as f64 / seconds / 1e9;
                println!(
                    "| {} | {dtype} | {} | {bytes} | {:.1} | {:.1} | {:.0}% |",
                    model.name,
                    words(differ),
                    speed(first),
                    speed(again),
                    100.0 * speed(again) / reading * 1e9,
                );
                std::fs::remove_dir_all(&directory).unwrap();
            }
        }
    }
    println!("one core reads memory at {:.1} GB/s (sum of u64 over 1.6 GB)", bandwidth / 1e9);
}

const fn words(differ: bool) -> &'static str {
    if differ { "every value differs" } else { "equal" }
}

fn compare(records: &[Record; 2]) -> PairFacts {
    let members = [0, 1].map(|side| Member { record: &records[side], run: 0 });
    pairs(&members, &[(0, 1)], &Selection::default()).unwrap().remove(0)
}

/// Writes one side and gives the bytes of its signals.
fn write(directory: &Path, model: Model, dtype: Dtype, megabytes: usize, flipped: bool) -> usize {
    let row = (model.hidden + model.keys) * LAYERS as usize * dtype.size();
    let steps = (megabytes * 500_000).div_ceil(row * POSITIONS.len());
    let experiment = experiment(model, dtype, steps, flipped);
    let signals = experiment.runs[0].phase(Phase::Decode).unwrap();
    let bytes = signals.tensors.values().map(|tensor| tensor.data.len()).sum();
    container::write(directory, &experiment).unwrap();
    bytes
}

fn experiment(model: Model, dtype: Dtype, steps: usize, flipped: bool) -> Experiment {
    let mut state = 1_u64;
    let mut tensor = |dim: usize| {
        let values = steps * POSITIONS.len() * dim;
        let mut data = Vec::with_capacity(values * dtype.size());
        for _ in 0..values {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Both signs, magnitudes from 2^-8 to 2^8.
            let random = (state >> 32) as u32;
            let value = f32::from_bits((random & 0x8000_0000) | (0x3b80_0000 + (random & 0x07ff_ffff)));
            let at = data.len();
            dtype.encode(value, &mut data);
            data[at] ^= u8::from(flipped);
        }
        SignalTensor { dtype, shape: [steps, POSITIONS.len(), dim], data }
    };
    let sites = (1..=LAYERS).flat_map(|layer| {
        [(Site::at(layer, Point::K), model.keys), (Site::at(layer, Point::XOut), model.hidden)]
    });
    let tensors = sites.map(|(site, dim)| (site, tensor(dim))).collect();
    let run = Run {
        config_id: "bench".into(),
        rep_id: 0,
        reference_id: 0,
        timestamp: None,
        runtime_seconds: None,
        prompt_text: String::new(),
        prompt_label: None,
        prompt_token_ids: vec![1, 2, 3],
        output_token_ids: (0..steps as u32).collect(),
        output_token_texts: Vec::new(),
        neighbours: Vec::new(),
        prompt_source: None,
        prefill: None,
        decode: Some(PhaseSignals {
            first_step: 0,
            steps,
            positions: POSITIONS.to_vec(),
            tensors,
            logprobs: None,
        }),
    };
    let metadata = ExperimentMetadata {
        experiment_type: "bench".into(),
        variable_tested: "none".into(),
        model: model.name.into(),
        model_size: String::new(),
        architecture: "dense".into(),
        sequence_length: 3,
        decode_steps: steps as u32,
        extraction_config: ExtractionConfig {
            layers: (1..=LAYERS).collect(),
            positions: POSITIONS.to_vec(),
            hidden_dim: model.hidden as u32,
            key_dim: model.keys as u32,
            top_k_logprobs: 0,
        },
        date_created: None,
        mantissa: None,
    };
    Experiment { metadata, configurations: vec![configuration()], runs: vec![run] }
}

fn configuration() -> mantissa_evidence::Configuration {
    mantissa_evidence::Configuration {
        config_id: "bench".into(),
        hardware: "cpu".into(),
        provider: None,
        variable_value: serde_json::Value::Null,
        cuda_version: None,
        torch_version: None,
        transformers_version: None,
        flash_attn_version: None,
        python_version: None,
        fixed_params: mantissa_evidence::FixedParams {
            compile: false,
            attention_impl: "eager".into(),
            quantization: "none".into(),
            tp_size: 1,
            ep_size: 1,
            concurrent_streams: false,
        },
        mantissa: None,
    }
}

/// A result and the seconds that this thread spent on a core for it, waiting for other programs left out.
fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    #[cfg(unix)]
    let on_core = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Some(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
    };
    #[cfg(not(unix))]
    let on_core = || None::<f64>;
    let (start, before) = (Instant::now(), on_core());
    let result = work();
    let wall = start.elapsed().as_secs_f64();
    (result, before.zip(on_core()).map_or(wall, |(before, after)| after - before))
}

/// Bytes per second of summing words of memory that no cache holds.
fn read_bandwidth(memory: &[u64]) -> f64 {
    let (sum, seconds) = timed(|| memory.iter().fold(0_u64, |sum, word| sum.wrapping_add(*word)));
    black_box(sum);
    size_of_val(memory) as f64 / seconds
}
