//! How fast the engine is, as fractions of what this machine can do, measured in one run.
//!
//! `MANTISSA_SMOLLM2=FILE.gguf cargo bench -p mantissa-engine --bench speed -- [--threads N] [--rounds N]`
//!
//! Measures, interleaved round by round so that a noisy neighbour disturbs all alike, and keeps the best of each:
//! the peak of fused multiply-adds in binary32, the bandwidth of reading memory, prefill of 512 tokens, decode of 64
//! tokens, both with taps at the default layers, for weights kept quantized and dequantized to bf16 and f32.
//! Left out: other programs (see `benches/peers`), timing inside a pass.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark reports on standard output, progress on error"
)]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    clippy::undocumented_unsafe_blocks,
    reason = "a benchmark, not a library"
)]

use std::collections::BTreeMap;
use std::time::Instant;

use mantissa_engine::{
    Attention, Catalogs, Engine, EngineSetup, Isa, KvCache, NoTap, QuantizedWeights, Serving, Tap, View,
};
use mantissa_model::Checkpoint;
use mantissa_numerics::{Dtype, LayerIdx, Phase, Point, Site};

const PROMPT: usize = 512;
const STEPS: usize = 64;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let flag = |name: &str, default: usize| {
        arguments.iter().position(|a| a == name).map_or(default, |i| arguments[i + 1].parse().unwrap())
    };
    let (threads, rounds) = (flag("--threads", 2), flag("--rounds", 5));
    let Some(path) = std::env::var_os("MANTISSA_SMOLLM2") else {
        println!("set MANTISSA_SMOLLM2 to SmolLM2-135M-Instruct.Q4_1.gguf");
        return;
    };
    let checkpoint = Checkpoint::open(path.as_ref()).unwrap();
    let config = checkpoint.config();
    let ids: Vec<u32> = (0..PROMPT as u32).map(|i| (i * i * 31 + 17 * i) % 49_000).collect();
    let variants = [
        ("q4_1 kept, f32", QuantizedWeights::Keep, Dtype::F32),
        ("q4_1 kept, bf16", QuantizedWeights::Keep, Dtype::Bf16),
        ("dequantized to bf16", QuantizedWeights::Dequantize, Dtype::Bf16),
        ("dequantized to f32", QuantizedWeights::Dequantize, Dtype::F32),
    ];
    let engines: Vec<Engine<'_>> = variants
        .iter()
        .map(|(_, quantized, dtype)| {
            let setup = EngineSetup {
                serving: Serving::default(),
                hardware: mantissa_engine::Hardware::Cpu,
                dtype: *dtype,
                attention: Attention::Eager,
                quantized: *quantized,
                catalogs: Catalogs::default(),
                context: PROMPT + STEPS,
                threads,
                isa: Isa::detect(),
            };
            Engine::load(&checkpoint, setup).unwrap()
        })
        .collect();
    // Every weight but the embedding works on every token; the head only where logits are asked for.
    let matrices: Vec<_> =
        checkpoint.weight_names().filter(|n| n.ends_with("weight") && !n.contains("norm")).collect();
    let elements = |name: &str| checkpoint.weight(name).map(|w| w.rows * w.cols).unwrap();
    let block: usize = matrices.iter().filter(|n| n.contains("layers")).map(|n| elements(n)).sum();
    let head = config.vocab_size * config.hidden_size;
    let flops = 2.0 * (block * PROMPT + head) as f64;

    let mut best: BTreeMap<String, f64> = BTreeMap::new();
    let mut keep = |name: &str, value: f64| {
        let entry = best.entry(name.to_owned()).or_insert(value);
        *entry = entry.max(value);
    };
    let memory = vec![1.0_f32; 256 << 20];
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        keep("peak", fma_peak(threads));
        keep("bandwidth", read_bandwidth(&memory, threads));
        for ((name, ..), engine) in variants.iter().zip(&engines) {
            for taps in [false, true] {
                let (prefill, decode) = run(engine, &ids, taps);
                let suffix = if taps { " taps" } else { "" };
                keep(&format!("{name}{suffix} prefill"), 1.0 / prefill);
                keep(&format!("{name}{suffix} decode"), 1.0 / decode);
            }
        }
    }
    let (peak, bandwidth) = (best["peak"], best["bandwidth"]);
    println!("threads {threads}, {}, best of {rounds} rounds", Isa::detect().name());
    println!("fma peak {:.0} GFLOP/s, memory read {:.1} GB/s", peak / 1e9, bandwidth / 1e9);
    println!(
        "| weights | prefill 512, tokens/s | of FMA peak | taps cost | decode 64, tokens/s | weight bytes read, GB/s | of bandwidth | taps cost |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    for (name, quantized, dtype) in variants {
        let bytes: usize = match quantized {
            QuantizedWeights::Keep => matrices.iter().map(|n| checkpoint.weight(n).unwrap().data.len()).sum(),
            QuantizedWeights::Dequantize => (block + head) * dtype.size(),
        };
        let get = |what: &str| best[&format!("{name}{what}")];
        let (prefill, decode) = (get(" prefill"), get(" decode"));
        println!(
            "| {name} | {:.0} | {:.0}% | {:+.1}% | {:.1} | {:.1} | {:.0}% | {:+.1}% |",
            prefill * PROMPT as f64,
            100.0 * flops * prefill / peak,
            100.0 * (prefill / get(" taps prefill") - 1.0),
            decode * STEPS as f64,
            bytes as f64 * decode * STEPS as f64 / 1e9,
            100.0 * bytes as f64 * decode * STEPS as f64 / bandwidth,
            100.0 * (decode / get(" taps decode") - 1.0),
        );
    }
    println!("peak resident memory {:.0} MB (all variants loaded)", peak_resident() / 1e6);
}

/// Taps at the default layers, as a record sets them.
struct Default(Vec<Site>, Vec<u8>, Dtype);

impl Tap for Default {
    fn wants(&self, site: Site) -> bool {
        self.0.contains(&site)
    }

    fn tap(&mut self, view: View<'_>) {
        for (row, values) in view.rows.iter().zip(view.data.chunks_exact(view.width)) {
            if row.position + 3 >= PROMPT {
                for x in values {
                    self.2.encode(*x, &mut self.1);
                }
            }
        }
    }
}

/// Seconds of a prefill and of the decode steps after it.
fn run(engine: &Engine<'_>, ids: &[u32], taps: bool) -> (f64, f64) {
    let mut sites = vec![Site::outside(Point::FinalNorm)];
    for layer in [1, 2, 4, 12, 30] {
        sites.extend([Point::XOut, Point::K].map(|point| Site { layer: Some(LayerIdx(layer)), point }));
    }
    let mut default = Default(sites, Vec::new(), engine.setup().dtype);
    let mut none = NoTap;
    let mut caches: Vec<KvCache> = vec![engine.new_cache(PROMPT + STEPS)];
    let tap: &mut dyn Tap = if taps { &mut default } else { &mut none };
    let start = Instant::now();
    let mut logits = engine.prefill(&mut caches[0], ids, 1, 0, if taps { 3 } else { 1 }, tap).unwrap();
    let vocabulary = engine.config().vocab_size;
    if taps {
        logits.chunks_exact(vocabulary).for_each(|row| drop(engine.top_logprobs(Phase::Prefill, row, 10)));
    }
    let prefill = start.elapsed().as_secs_f64();
    let start = Instant::now();
    for _ in 0..STEPS {
        let next = mantissa_engine::greedy(&logits[logits.len() - vocabulary..]);
        logits = engine.decode(&mut caches, &[next], tap).unwrap();
        if taps {
            drop(engine.top_logprobs(Phase::Decode, &logits, 10));
        }
    }
    (prefill, start.elapsed().as_secs_f64())
}

/// Floating-point operations a second of all threads doing nothing but fused multiply-adds.
fn fma_peak(threads: usize) -> f64 {
    const LOOPS: usize = 4_000_000;
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| match Isa::detect() {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => unsafe { fma512(LOOPS) },
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => unsafe { fma256(2 * LOOPS) },
                _ => {}
            });
        }
    });
    // 16 registers of 16 lanes, two operations each (AVX2: half the lanes, twice the loops).
    threads as f64 * LOOPS as f64 * 16.0 * 16.0 * 2.0 / start.elapsed().as_secs_f64()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn fma512(loops: usize) {
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps};
    let (a, b) = (_mm512_set1_ps(std::hint::black_box(0.999)), _mm512_set1_ps(std::hint::black_box(0.001)));
    let mut acc = [_mm512_set1_ps(1.0); 16];
    for _ in 0..loops {
        for acc in &mut acc {
            *acc = _mm512_fmadd_ps(*acc, a, b);
        }
    }
    std::hint::black_box(acc.iter().map(|acc| _mm512_reduce_add_ps(*acc)).sum::<f32>());
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn fma256(loops: usize) {
    use std::arch::x86_64::{_mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps};
    let (a, b) = (_mm256_set1_ps(std::hint::black_box(0.999)), _mm256_set1_ps(std::hint::black_box(0.001)));
    let mut acc = [_mm256_set1_ps(1.0); 12];
    // Twelve accumulators fill the sixteen registers; four more rounds of a third make up the count.
    for _ in 0..loops * 16 / 12 {
        for acc in &mut acc {
            *acc = _mm256_fmadd_ps(*acc, a, b);
        }
    }
    std::hint::black_box(acc.iter().map(|acc| _mm256_cvtss_f32(*acc)).sum::<f32>());
}

/// Bytes a second of all threads adding up an array far larger than the caches.
fn read_bandwidth(memory: &[f32], threads: usize) -> f64 {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for part in memory.chunks(memory.len().div_ceil(threads)) {
            scope.spawn(|| {
                let mut acc = [0.0_f32; 64];
                for chunk in part.chunks_exact(64) {
                    for (acc, x) in acc.iter_mut().zip(chunk) {
                        *acc += x;
                    }
                }
                std::hint::black_box(acc);
            });
        }
    });
    size_of_val(memory) as f64 / start.elapsed().as_secs_f64()
}

fn peak_resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap_or(0.0) * 1024.0
}
