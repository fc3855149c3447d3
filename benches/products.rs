//! What verifying a record of a GPU costs, beside its products alone.
//!
//! `cargo bench -p mantissa-lab --bench products -- [--model DIR] [--preset NAME] [--hardware h200] [--batch N]
//! [--prompt N] [--steps N] [--threads N]`
//!
//! A record of one sequence is computed first, with all threads of the machine, and verified once with `--threads`: the
//! prompt, then the known steps in blocks. Products alone: every product with a weight of the same pass, at the rows
//! that the run gives it (a chunk of the prompt, a block of steps), by the engine's own kernel, with random numbers as
//! weights. Attention, norms and everything else are left out there. Prints both and the ratio. The model is synthetic
//! and is written unless `--model` names one.
#![expect(clippy::print_stdout, reason = "a benchmark reports on standard output")]
#![expect(clippy::unwrap_used, reason = "a benchmark, not a library")]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use mantissa_engine::plan::{PassShape, kernels};
use mantissa_engine::{Attention, Catalogs, Dispatch, Engine, Hardware, Isa, Products};
use mantissa_evidence::{Decoding, Experiment, ExperimentMetadata, Record, Run};
use mantissa_lab::Machine;
use mantissa_lab::replay::{Claim, Replay, ReplayPlan, Walk, Wanted, produce};
use mantissa_model::Checkpoint;
use mantissa_model::graph::Graph;
use mantissa_model::synth::{self, Preset, SynthRequest, SynthSpec};
use mantissa_numerics::recipe::{KernelRecipe, MatmulRecipe};
use mantissa_numerics::setup::Padding;
use mantissa_numerics::{Dtype, Point, Setup, Site};

/// As the engine's: rows of a chunk of a prompt.
const CHUNK: usize = 512;

/// Steps that a replay feeds together, the last again and again.
const BLOCKS: [usize; 3] = [1, 4, 16];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let text = |name: &str| arguments.iter().position(|a| a == name).map(|i| arguments[i + 1].clone());
    let number = |name: &str, default: usize| text(name).map_or(default, |n| n.parse().unwrap());
    let (length, steps, batch) = (number("--prompt", 512), number("--steps", 30), number("--batch", 1));
    let threads = number("--threads", 2);
    let hardware = text("--hardware").unwrap_or_else(|| "h200".to_owned());
    let hardware = Hardware::ALL.into_iter().find(|one| one.name() == hardware).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let model = text("--model").map_or_else(|| folder.path().join("model"), PathBuf::from);
    if text("--model").is_none() {
        let name = text("--preset").unwrap_or_else(|| "smollm2-135m".to_owned());
        let preset = Preset::ALL.into_iter().find(|preset| preset.name() == name).unwrap();
        let request = SynthRequest { preset: Some(preset), ..SynthRequest::default() };
        synth::write(&SynthSpec::new(&request).unwrap(), &model, &|_| {}).unwrap();
    }
    let checkpoint = Checkpoint::open(&model).unwrap();
    let graph = checkpoint.config().graph();
    let setup = Setup { hardware, dtype: Dtype::Bf16, batch_size: batch, ..Setup::default() };

    let id = |i: usize| u32::try_from((i * i * 31 + 17 * i) % 49_000).unwrap();
    let prompt: Vec<u32> = (0..length).map(id).collect();
    let forced: Vec<u32> = (0..steps).map(|i| id(i + 7)).collect();
    let blocks = u32::try_from(graph.blocks.len()).unwrap();
    let sites = [Site::at(blocks, Point::K), Site::at(blocks, Point::XOut), Site::outside(Point::FinalNorm)];
    let all = Machine { threads: std::thread::available_parallelism().unwrap().get(), isa: Isa::detect() };
    let context = length + steps;
    let engine = Engine::load(&checkpoint, all.engine(&setup, context, Catalogs::built_in())).unwrap();
    let prompts = vec![prompt; batch];
    let (padding, positions) = (Padding::None, &[-1][..]);
    let wanted = Wanted { prompts: &prompts, padding, forced: &forced, sites: &sites, positions, top_k: 10 };
    let run = Run { config_id: "one".to_owned(), ..produce(&engine, wanted).unwrap() };
    drop(engine);
    let record = record(run);

    let from = Instant::now();
    verify(&checkpoint, &record, setup, Machine { threads, isa: Isa::detect() });
    let verified = from.elapsed().as_secs_f64();
    let products = products(&graph, hardware, batch, length, steps, threads);
    println!("{length} tokens, {steps} steps, batch {batch}, {hardware}, {threads} threads");
    println!("verifying the record   {verified:8.2} s");
    println!("its products alone     {products:8.2} s");
    println!("ratio                  {:8.3}   (goal: at most 1.15)", verified / products);
}

fn record(run: Run) -> Record {
    let metadata = ExperimentMetadata::bare("bench", "none");
    let experiment = Experiment { metadata, configurations: Vec::new(), runs: vec![run] };
    Record::from_experiment(experiment, Path::new("bench"))
}

/// Replays the record by its own setup.
///
/// # Panics
/// When a bit differs.
fn verify(checkpoint: &Checkpoint, record: &Record, setup: Setup, machine: Machine) {
    let claim = Claim {
        config_id: "one".to_owned(),
        candidate: Ok(setup),
        weights: None,
        decoding: Some(Decoding::TeacherForced),
        generation: None,
        logprobs: mantissa_lab::replay::Logprobs::Stated(mantissa_numerics::recipe::LogSoftmaxRecipe::Own),
        engine: None,
    };
    let catalogs = Catalogs::built_in();
    let plan = ReplayPlan::new(record, checkpoint, &[claim], &[vec![setup]], Replay::Decode, catalogs);
    let walk = Walk { checkpoint, record, plan: &plan, machine, full: true };
    let mut done = 0;
    walk.run(
        &|_, _| false,
        &mut |replayed| {
            assert!(!replayed.facts.differs(), "a record is its own replay");
            done += 1;
            Ok(())
        },
        &|_| {},
    )
    .unwrap();
    assert_eq!(done, 1);
}

/// Seconds of every product with a weight of the pass.
fn products(
    graph: &Graph,
    hardware: Hardware,
    batch: usize,
    length: usize,
    steps: usize,
    threads: usize,
) -> f64 {
    let dispatch = Dispatch::new(hardware, Dtype::Bf16, Attention::Eager);
    let mut passes: Vec<(PassShape, usize)> = (0..length)
        .step_by(CHUNK)
        .map(|from| (PassShape::prefill(batch, length), CHUNK.min(length - from)))
        .collect();
    let mut left = steps;
    for block in BLOCKS.into_iter().chain(std::iter::repeat(BLOCKS[2])) {
        if left == 0 {
            break;
        }
        passes.push((PassShape::decode(batch, length + 1), block.min(left)));
        left = left.saturating_sub(block);
    }
    let products = Products::new(Isa::detect(), threads).unwrap();
    let mut seconds = 0.0;
    for (number, (shape, rows)) in passes.into_iter().enumerate() {
        for kernel in kernels(dispatch, graph, shape).unwrap() {
            let KernelRecipe::Matmul(matmul) = kernel.recipe else { continue };
            // Logits are those of the last row of a prompt, and of each step.
            let is_head = kernel.op == "lm_head";
            let rows = if is_head && shape == PassShape::prefill(batch, length) { 1 } else { rows };
            let times =
                if is_head { usize::from(shape.positions == 1 || number == 0) } else { graph.blocks.len() };
            let [n, k] = [kernel.n, kernel.k].map(|extent| usize::try_from(extent).unwrap());
            let once = product(&products, matmul, rows, n, k);
            #[expect(clippy::cast_precision_loss, reason = "a few dozen")]
            let times = times as f64;
            seconds += once * times;
        }
    }
    seconds
}

/// Seconds of one product of `m × k` rows with an `n × k` weight: the best of three.
fn product(products: &Products, recipe: MatmulRecipe, m: usize, n: usize, k: usize) -> f64 {
    let mut state = 1_u64;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bits = u16::try_from(state >> 48).unwrap();
        // Exponents as numbers about 0 have them.
        bits & 0x807F | u16::try_from(127 - (state >> 40 & 0xFF).trailing_ones().min(20)).unwrap() << 7
    };
    let weights: Vec<u8> = (0..n * k).flat_map(|_| draw().to_le_bytes()).collect();
    let x: Vec<f32> = (0..m * k).map(|_| f32::from_bits(u32::from(draw()) << 16)).collect();
    let mut out = vec![0.0; m * n];
    let mut seconds = |times: u32| {
        let from = Instant::now();
        for _ in 0..times {
            products.run(recipe, m, &x, &weights, black_box(&mut out));
        }
        from.elapsed().as_secs_f64() / f64::from(times)
    };
    // As often as takes a moment, so that starting is not what is measured.
    let times = (0.1 / seconds(1)).clamp(1.0, 1000.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between one and a thousand")]
    let times = times as u32;
    (0..3).map(|_| seconds(times)).fold(f64::INFINITY, f64::min)
}
