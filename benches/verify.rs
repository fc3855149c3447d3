//! What verifying costs, beside the passes it cannot do without and beside recording.
//!
//! `cargo bench -p mantissa-lab --bench verify -- [--threads N] [--rounds N] [--prompt N] [--steps N]`
//!
//! On a synthetic SmolLM2, interleaved round by round, the best of each: one forced pass (the prompt, then the steps,
//! one row, nothing looked at), verifying one class, recording at 8 batch sizes with all their rows, and verifying
//! those 8 records against all 8 batch sizes. Left out: reading evidence from disk and hashing weights.
#![expect(clippy::print_stdout, reason = "a benchmark reports on standard output")]
#![expect(clippy::unwrap_used, reason = "a benchmark, not a library")]

use std::path::Path;
use std::time::Instant;

use mantissa_engine::{Catalogs, Engine, Isa, NoTap};
use mantissa_evidence::{Decoding, Experiment, ExperimentMetadata, Record, Run};
use mantissa_lab::Machine;
use mantissa_lab::replay::{Claim, Replay, ReplayPlan, Walk, Wanted, produce};
use mantissa_model::synth::{self, Preset, SynthRequest, SynthSpec};
use mantissa_model::{Arch, Checkpoint};
use mantissa_numerics::setup::Padding;
use mantissa_numerics::{Point, Setup, Site};

const BATCHES: [usize; 8] = [1, 2, 4, 5, 8, 9, 16, 17];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let flag = |name: &str, default: usize| {
        arguments.iter().position(|a| a == name).map_or(default, |i| arguments[i + 1].parse().unwrap())
    };
    let (threads, rounds) = (flag("--threads", 2), flag("--rounds", 3));
    let (length, steps) = (flag("--prompt", 512), flag("--steps", 30));
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    let request = SynthRequest {
        arch: Some(Arch::LLAMA),
        preset: Some(Preset::SmolLm2_135M),
        ..SynthRequest::default()
    };
    synth::write(&SynthSpec::new(&request).unwrap(), &model, &|_| {}).unwrap();
    let checkpoint = Checkpoint::open(&model).unwrap();
    let machine = Machine { threads, isa: Isa::detect() };
    let claim = |batch_size| Setup { batch_size, ..Setup::default() };
    let setup = machine.engine(&claim(1), length + steps, Catalogs::built_in());
    let engine = Engine::load(&checkpoint, setup).unwrap();
    let id = |i: usize| u32::try_from((i * i * 31 + 17 * i) % 49_000).unwrap();
    let prompt: Vec<u32> = (0..length).map(id).collect();
    let forced: Vec<u32> = (0..steps).map(|i| id(i + 7)).collect();
    let mut sites: Vec<Site> =
        [1, 2, 4, 12, 30].into_iter().flat_map(|n| [Point::K, Point::XOut].map(|p| Site::at(n, p))).collect();
    sites.push(Site::outside(Point::FinalNorm));
    let recorded = |batch: usize| -> Run {
        let prompts: Vec<Vec<u32>> = (0..batch)
            .map(|row| {
                let mut ids = prompt.clone();
                ids.rotate_left(row);
                ids
            })
            .collect();
        let wanted = Wanted {
            prompts: &prompts,
            padding: Padding::None,
            forced: &forced,
            sites: &sites,
            positions: &[-3, -2, -1],
            top_k: 10,
        };
        let run = produce(&engine, wanted).unwrap();
        Run { config_id: batch.to_string(), ..run }
    };
    let mut best = [f64::INFINITY; 4];
    let mut note = |place: usize, from: Instant| {
        let seconds = from.elapsed().as_secs_f64();
        best[place] = best[place].min(seconds);
    };
    for _ in 0..rounds {
        let from = Instant::now();
        let mut cache = engine.new_cache(length + steps);
        engine.prefill(&mut cache, &prompt, 1, 0, 1, &mut NoTap).unwrap();
        for token in &forced {
            engine.decode_row(&mut cache, *token, 1, &mut NoTap).unwrap();
        }
        note(0, from);
        let single = record(vec![recorded(1)]);
        let from = Instant::now();
        assert_eq!(verify(&checkpoint, &single, &[claim(1)], &[1], machine), 1);
        note(1, from);
        let from = Instant::now();
        let grid = record(BATCHES.map(recorded).into_iter().collect());
        note(2, from);
        let candidates = BATCHES.map(claim);
        let from = Instant::now();
        assert_eq!(verify(&checkpoint, &grid, &candidates, &BATCHES, machine), 8, "each fits one class");
        note(3, from);
    }
    let [pass, one, recording, verifying] = best;
    println!("{length} tokens, {steps} steps, {threads} threads, best of {rounds}");
    println!("one forced pass                {pass:8.3} s");
    println!("verify one class               {one:8.3} s  {:.3} of it (goal: at most 1.2)", one / pass);
    println!("record at 8 batch sizes        {recording:8.3} s");
    println!("verify 8 records × 8 setups    {verifying:8.3} s  {:.3} of it", verifying / recording);
}

fn record(runs: Vec<Run>) -> Record {
    let metadata = ExperimentMetadata::bare("bench", "batch_size");
    Record::from_experiment(Experiment { metadata, configurations: Vec::new(), runs }, Path::new("bench"))
}

/// Verifies every run against every candidate; how many classes fit, over all runs.
fn verify(
    checkpoint: &Checkpoint,
    record: &Record,
    candidates: &[Setup],
    batches: &[usize],
    machine: Machine,
) -> usize {
    let claims: Vec<Claim> = batches
        .iter()
        .zip(candidates)
        .map(|(batch, candidate)| Claim {
            config_id: batch.to_string(),
            candidate: Ok(*candidate),
            weights: None,
            decoding: Some(Decoding::TeacherForced),
            generation: None,
            logprobs: mantissa_lab::replay::Logprobs::Stated(
                mantissa_numerics::recipe::LogSoftmaxRecipe::Own,
            ),
            engine: None,
        })
        .collect();
    let wanted: Vec<Vec<Setup>> = claims.iter().map(|_| candidates.to_vec()).collect();
    let plan = ReplayPlan::new(record, checkpoint, &claims, &wanted, Replay::Decode, Catalogs::built_in());
    let mut fits = 0;
    let walk = Walk { checkpoint, record, plan: &plan, machine, full: false };
    walk.run(
        &|_, _| false,
        &mut |done| {
            fits += usize::from(!done.facts.differs());
            Ok(())
        },
        &|_| {},
    )
    .unwrap();
    fits
}
