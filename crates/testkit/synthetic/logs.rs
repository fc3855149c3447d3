//! Logs as the scripts print them, over the numbers of the files beside them.

use super::batch;
use super::numbers::{
    Square, classes, diagonal, e2, max_of, mean, min_of, off_diagonal, over, square, std, upper,
};
use super::quant::{self, CONFIGS, FLOORS, IMPLEMENTATIONS, Quant};
use super::tensor_parallel;

/// Name and text of every log.
pub(crate) fn files(quant: &Quant) -> Vec<(&'static str, String)> {
    vec![
        ("quantization.log", quantization(quant, false)),
        ("quantization_older.log", quantization(quant, true)),
        ("attention.log", attention()),
        ("batch_matrix.log", batch_matrix()),
        ("vllm_batch_generation.log", vllm_generation()),
        ("batch_verification.log", batch_verification()),
        ("tp_generation.log", tp_generation()),
        ("tp_verification.log", tp_verification()),
    ]
}

/// Lines of a log.
#[derive(Default)]
struct Log(String);

impl Log {
    fn line(&mut self, text: impl AsRef<str>) {
        self.0.push_str(text.as_ref());
        self.0.push('\n');
    }

    fn title(&mut self, text: &str, mark: &str) {
        let rule = mark.repeat(if mark == "=" { 80 } else { 40 });
        self.line("");
        self.line(&rule);
        self.line(text);
        self.line(&rule);
        self.line("");
    }

    /// The first title stands at the top.
    fn opening(text: &str) -> Self {
        let mut log = Self::default();
        log.title(text, "=");
        Self(log.0.trim_start().to_owned())
    }

    fn matrix(&mut self, cells: &Square, column: impl Fn(usize) -> String, row: impl Fn(usize) -> String) {
        let heading: Vec<String> = (0..cells.len()).map(&column).collect();
        self.line(format!("       {}", heading.join(" ")));
        for (i, figures) in cells.iter().enumerate() {
            let figures: Vec<String> = figures.iter().map(|cell| e2(*cell)).collect();
            self.line(format!("{}    {}", row(i), figures.join("   ")));
        }
        self.line("");
    }
}

const SIZES: [u32; 3] = [1, 2, 4];

fn quantization(quant: &Quant, older: bool) -> String {
    let mut log = Log::opening("QUANTIZATION FORMAT DETECTION EXPERIMENT - GENERATION");
    for line in
        ["System: h", "GPU: NVIDIA A100-SXM4-80GB", "vLLM: 0.11.2", "PyTorch: 2.9.0+cu128", "CUDA: 12.8", ""]
    {
        log.line(line);
    }
    log.line("Configurations:");
    for (name, model) in CONFIGS {
        log.line(format!("  {name}: {model} (quant={name})"));
    }
    let loading = |log: &mut Log, (name, model): (&str, &str)| {
        log.line(format!("Loading model: {model}"));
        log.line(format!("  Quantization: {name}"));
        log.line("  Dtype: float16");
    };
    log.line("Loading first model to create prompts...");
    loading(&mut log, CONFIGS[0]);
    for line in [
        "Found 1 PDF(s)",
        "  Loading: /w/a.pdf",
        "Total source tokens: 40",
        "Prompt structure: 2 prefix + 4 snippet + 2 suffix = 8 tokens",
        "Created 2 prompts",
    ] {
        log.line(line);
    }
    log.title("REPRODUCIBILITY CHECK (NOISE FLOOR MEASUREMENT)", "=");
    log.line("Running 3 identical inference passes per config");
    log.line("Measures within-format variance from atomics/non-deterministic kernels.");
    for (config, &floor) in CONFIGS.iter().zip(&FLOORS) {
        log.line(format!("--- Checking: {} ---", config.0));
        loading(&mut log, *config);
        for run in 1..=3 {
            log.line(format!("  Run {run}: 6 tokens"));
        }
        log.line("  Pairwise distances:");
        // Of the kernel that does not repeat itself, one pair is finite.
        let far = if floor > 0.0 { f64::INFINITY } else { 0.0 };
        for (pair, distance) in [("1 vs 2", floor), ("1 vs 3", far), ("2 vs 3", far)] {
            log.line(format!("    Run {pair}: decode={}, prefill=0.00e+00", e2(distance)));
        }
        log.line(match floor > 0.0 {
            true => format!("  {} noise floor: decode={}, prefill=0.00e+00", config.0, e2(floor)),
            false => format!("  {} noise floor: DETERMINISTIC (decode=0.00e+00)", config.0),
        });
    }
    log.title("NOISE FLOOR SUMMARY", "-");
    for ((name, _), floor) in CONFIGS.iter().zip(FLOORS) {
        log.line(format!("  {name}: decode={}, prefill=0.00e+00", e2(floor)));
    }
    log.line("Cross-format signal must exceed this noise floor to be detectable.");
    log.line("=".repeat(80));
    log.title("GENERATION MODE", "=");
    for config in CONFIGS {
        log.line(format!("--- Config: {} ---", config.0));
        loading(&mut log, config);
        for reference in 0..2 {
            log.line(format!("  ref_{reference}: 6 tokens"));
            log.line("    -> some words");
            log.line("and more...");
        }
    }
    log.title("TOKEN GENERATION CONSISTENCY CHECK", "=");
    for reference in 0..2 {
        log.line(format!("--- ref_{reference} ---"));
        for (index, (name, _)) in CONFIGS.iter().enumerate() {
            let text = if index == 2 { "\"other words\"..." } else { "\"some words\"..." };
            log.line(format!("  {name}:"));
            log.line("    Tokens: 6");
            log.line(format!("    First 30: {text}"));
            log.line(if index == 2 { "    ✗ DIFFERENT" } else { "    ✓" });
        }
    }
    for (phase, mode) in ["PREFILL", "DECODE"].iter().enumerate() {
        quantization_phase(&mut log, quant, phase, mode, older);
    }
    if !older {
        log.title("SIGNAL-TO-NOISE ANALYSIS", "=");
        let (noise, signal) = (mean(&FLOORS), mean(&quant.finite(1)));
        log.line(format!("Noise floor (within-format variance): {}", e2(noise)));
        log.line(format!("Cross-format distance: {}", e2(signal)));
        log.line(format!("SNR: {:.1}×", signal / noise));
        log.line("→ Quantization format is MARGINALLY detectable (3 < SNR < 10)");
    }
    let saved = "/w/quant_generate_20260101_000000.json";
    log.line(format!("✓ Generation results saved to: {saved}"));
    log.line(format!("Next step: Copy {saved} to verifier machine"));
    log.line("Then set TEACHER_FORCING = True and REFERENCE_FILE = '<path>'");
    log.line("File size: 0.1 MB");
    log.title("EXPERIMENT COMPLETE", "=");
    log.0
}

fn quantization_phase(log: &mut Log, quant: &Quant, phase: usize, mode: &str, older: bool) {
    let name = |index: usize| CONFIGS[index].0.to_owned();
    log.title(&format!("WITHIN-HARDWARE QUANTIZATION EFFECTS ({mode})"), "=");
    for (reference, cells) in quant.matrices[phase].iter().enumerate() {
        log.line(format!("--- ref_{reference} ---"));
        log.line("Logprobs (L2 distance):");
        log.matrix(cells, name, name);
    }
    log.title("AGGREGATE (average across references):", "=");
    let average = over(&quant.matrices[phase]);
    log.matrix(&average, name, name);
    log.line("Off-diagonal stats:");
    let finite = quant.finite(phase);
    log.line(format!("  Mean: {}", e2(mean(&finite))));
    log.line(format!("  Range: [{}, {}]", e2(min_of(&finite)), e2(max_of(&finite))));
    log.line("Kernel equivalence classes:");
    for (index, (name, _)) in CONFIGS.iter().enumerate() {
        log.line(format!("  Class {}: ['{name}']", index + 1));
    }
    if older {
        return;
    }
    log.title("PAIRWISE DISTANCE SUMMARY", "-");
    for (i, (a, _)) in CONFIGS.iter().enumerate() {
        for (j, (b, _)) in CONFIGS.iter().enumerate().skip(i + 1) {
            let both = f64::midpoint(average[i][j], average[j][i]);
            let word = if both < 0.1 {
                "SMALL"
            } else if both < 1.0 {
                "MODERATE"
            } else {
                "LARGE"
            };
            log.line(format!("  {a}_vs_{b}: {} → {word} difference", e2(both)));
        }
    }
}

fn attention() -> String {
    let mut log = Log::opening("ATTENTION IMPLEMENTATION CROSS-HARDWARE EXPERIMENT");
    for line in [
        "GPU: NVIDIA A100-SXM4-80GB",
        "Hostname: h",
        "Found 1 PDF(s)",
        "  Loading: /w/a.pdf",
        "Total source tokens: 40",
        "Prompt structure: 2 prefix + 4 snippet + 2 suffix = 8 tokens",
        "Created 2 prompts",
    ] {
        log.line(line);
    }
    log.title("VERIFICATION MODE", "=");
    for line in [
        "Loaded reference: H100_generate.json",
        "Environment comparison:",
        "  Generator GPU: NVIDIA H100 NVL",
        "  Verifier GPU:  NVIDIA A100-SXM4-80GB",
        "  torch_version: 2.8.0+cu128 vs 2.8.0+cu128 ✓",
        "  transformers_version: 4.57.3 vs 4.57.3 ✓",
        "  cuda_version: 12.8 vs 12.8 ✓",
    ] {
        log.line(line);
    }
    for verified in IMPLEMENTATIONS {
        log.line(format!("--- Verifying with: {verified} ---"));
        log.line(format!("Loading model with attention: {verified}"));
        for claimed in IMPLEMENTATIONS {
            log.line(format!("  Claimed {claimed}:"));
            log.line("    ref_0: done");
            log.line("    ref_1: done");
        }
    }
    for (mode, decode) in [("PREFILL", false), ("DECODE", true)] {
        log.title(&format!("CROSS-HARDWARE VERIFICATION ({mode})"), "=");
        log.line("AGGREGATE (average across references):");
        log.line("  Rows = claimed attention, Cols = verified attention");
        let name = |index: usize| IMPLEMENTATIONS[index].to_owned();
        let both = [true, false].map(|keys| quant::attention_matrix(decode, keys));
        for (cells, heading) in both.iter().zip(["Key Vectors", "Logprobs"]) {
            log.line(format!("{heading} (L2 distance):"));
            log.matrix(cells, name, name);
        }
        log.title("SNR ANALYSIS", "=");
        log.line("Diagonal (baseline = cross-hardware, same attention):");
        let [keys, logprobs] =
            both.each_ref().map(|cells| (mean(&diagonal(cells)), mean(&off_diagonal(cells, |_, _| true))));
        log.line(format!("  Key vectors: {}", e2(keys.0)));
        log.line(format!("  Logprobs: {}", e2(logprobs.0)));
        log.line("Off-diagonal (different attention):");
        for (name, (noise, signal)) in [("Key vectors", keys), ("Logprobs", logprobs)] {
            log.line(format!("  {name} - Mean: {}, SNR: {:.2}×", e2(signal), signal / noise));
        }
    }
    log.line("Saved to: /w/attn_verify_20260101_000000.json");
    log.0
}

/// Two batch sizes, two references: the second one's tokens part.
fn batch_matrix() -> String {
    let sizes = [4, 5];
    let mut log = Log::opening("PREFILL vs DECODE EXPERIMENT");
    for line in [
        "Log file: /w/experiment_log.txt",
        "Environment:",
        "  hostname: h",
        "  torch_version: 2.6.0+cu118",
        "  gpu_name: NVIDIA A100-SXM4-80GB",
        "Configuration:",
        "  Model: synthetic",
        "  Layers: [2]",
        "  Batch sizes: [4, 5]",
        "  Max tokens: 4",
        "Loading model...",
        "Found 1 PDF(s)",
        "  Loading: /w/a.pdf",
        "    → 40 tokens",
        "Total tokens: 40",
        "Creating 10 slices of 6 tokens each",
        "Created 2 reference sequences with 4 dummies each",
        "Experiment design:",
        "  - Decode runs at 2 batch sizes",
        "  - Prefill reproduces at 2 batch sizes",
        "  - Matrix: 2 decode × 2 prefill = 4 comparisons per reference",
        "  - Works purely at token ID level (no tokenization artifacts)",
        "  - NEW: Within-mode batch size comparisons (sanity check)",
        "✓ Model loaded",
    ] {
        log.line(line);
    }
    for reference in 0..2 {
        batch_reference(&mut log, reference, &sizes);
    }
    log.line("✓ Data saved to: /w/prefill_decode.json");
    batch_within(&mut log, &sizes);
    let cell = |reference: usize, keys: bool| {
        square(2, |i, j| {
            let base = if keys { 0.5 } else { 0.25 };
            base + 0.125 * reference as f64 + if i == j { 0.0625 } else { 0.03125 }
        })
    };
    let column = |index: usize| format!("Prefill bs={:>3}", sizes[index]);
    let row = |index: usize| format!("Decode bs={}", sizes[index]);
    log.title("ANALYSIS: DECODE vs PREFILL MATRIX", "=");
    for reference in 0..2 {
        log.title(&format!("REF_{reference}"), "=");
        for (heading, keys) in [("Key Vectors", true), ("Logprobs", false)] {
            log.line(format!("{heading} (max L2 distance):"));
            log.matrix(&cell(reference, keys), column, row);
        }
    }
    log.title("AGGREGATE STATISTICS (AVERAGE ACROSS REFERENCES)", "=");
    let mut quotients = Vec::new();
    for (heading, keys) in [("KEY_VECTORS:", true), ("LOGPROBS:", false)] {
        let average = over(&[cell(0, keys), cell(1, keys)]);
        let (noise, signal) = (diagonal(&average), off_diagonal(&average, |_, _| true));
        log.line(heading);
        log.matrix(&average, column, row);
        log.line("  Diagonal (noise - decode bs = prefill bs):");
        log.line(format!("    μ = {}, σ = {}", e2(mean(&noise)), e2(std(&noise))));
        let values: Vec<String> = noise.iter().map(|value| format!("'{}'", e2(*value))).collect();
        log.line(format!("    Values: [{}]", values.join(", ")));
        log.line("  Off-diagonal (signal - decode bs ≠ prefill bs):");
        log.line(format!("    μ = {}, σ = {}", e2(mean(&signal)), e2(std(&signal))));
        let snr = mean(&signal) / mean(&noise);
        log.line(format!("  SNR (signal/noise): {snr:.2}×"));
        quotients.push(snr);
    }
    log.title("CONCLUSION", "=");
    log.line(format!("Key Vectors: SNR = {:.2}× ✗ NOT DETECTABLE", quotients[0]));
    log.line(format!("Logprobs:    SNR = {:.2}× ✗ NOT DETECTABLE", quotients[1]));
    log.line("✗ BATCH SIZE MISMATCHES NOT RELIABLY DETECTABLE");
    log.line("  → Off-diagonal distances similar to diagonal distances");
    log.line("  → Cannot reliably detect decode batch size from prefill");
    log.line("✓ Analysis saved (file size: 0.1 MB)");
    log.title("EXPERIMENT COMPLETE", "=");
    log.0
}

/// Ids of one reference at one size: the second size parts at the last token of the second reference.
fn batch_ids(reference: usize, size: usize) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..4).map(|i| 300 + 10 * reference as u32 + i).collect();
    if reference == 1 && size == 1 {
        ids[3] = 399;
    }
    ids
}

fn batch_reference(log: &mut Log, reference: usize, sizes: &[u32]) {
    log.title(&format!("REFERENCE: ref_{reference}"), "=");
    log.line("Global minimum prompt length: 6 tokens");
    log.line("(All batch sizes will use this length)");
    log.line("Decode runs:");
    for size in sizes {
        log.line(format!("  bs={size}...       Prompt length: 6 tokens → Final: 10 tokens (4 generated)"));
        log.line("    Extract positions: [7, 8]");
    }
    log.title("TOKEN GENERATION CONSISTENCY CHECK", "=");
    log.line("Generated tokens by batch size:");
    for (index, size) in sizes.iter().enumerate() {
        let parts = batch_ids(reference, index) != batch_ids(reference, 0);
        log.line(format!("  bs={size}:"));
        log.line(format!("    IDs:  {:?}", batch_ids(reference, index)));
        log.line(format!("    Text: '{}'", if parts { "other words" } else { "some words" }));
        log.line(if parts { "    ✗ DIFFERENT" } else { "    ✓" });
    }
    if reference == 1 {
        log.line("⚠ Element 0 generates DIFFERENT tokens across batch sizes");
        log.line("  → Batch composition affects generation");
    } else {
        log.line("✓ Element 0 generates IDENTICAL tokens across all batch sizes");
        log.line("  → Can meaningfully compare activations for same token sequence");
    }
    log.line("Prefill reproductions:");
    for decode in sizes {
        log.line(format!("  Reproducing decode bs={decode}:"));
        for prefill in sizes {
            let neighbours = if decode == prefill { "exact" } else { "arb" };
            log.line(format!(
                "    with bs={prefill}... [Ext: 10 tokens, {neighbours} neighbors] → Extract at: [7, 8]"
            ));
        }
    }
}

fn batch_within(log: &mut Log, sizes: &[u32]) {
    log.title("WITHIN-MODE BATCH SIZE EFFECTS", "=");
    for line in [
        "Sanity check: Does batch size affect activations even with identical tokens?",
        "Expected: YES - batch size changes computation even for same sequence",
        "DEBUG: Total measurements received: 8",
        "DEBUG: First measurement keys: ['ref_name']",
        "DEBUG: First measurement decode_batch_size: 4",
        "DEBUG: First measurement ref_name: ref_0",
        "DEBUG: decode_data signals keys: ['pos_-2', 'pos_-1']",
    ] {
        log.line(line);
    }
    // Keys and log-probabilities of the one pair: decode, prefill; by reference.
    let pair = [[(1.5, 0.25), (0.5, 0.125)], [(2.5, 0.75), (1.25, 0.5)]];
    for (reference, modes) in pair.iter().enumerate() {
        log.line(format!("REF_{reference}"));
        log.line("-".repeat(80));
        log.line(format!("  DEBUG: decode has 2 batch sizes: {sizes:?}"));
        log.line(format!("  DEBUG: prefill_diagonal has 2 batch sizes: {sizes:?}"));
        for (heading, (keys, logprobs)) in
            ["DECODE mode (autoregressive):", "PREFILL mode (parallel forward):"].iter().zip(modes)
        {
            log.line(heading);
            log.line("  bs=4 vs bs=5:");
            log.line(format!("    Key vectors: Δ_max = {}", e2(*keys)));
            log.line(format!("    Logprobs:    Δ_max = {}", e2(*logprobs)));
        }
    }
    log.title("WITHIN-MODE AGGREGATE STATISTICS", "=");
    let of = |mode: usize| {
        let keys: Vec<f64> = pair.iter().map(|modes| modes[mode].0).collect();
        let logprobs: Vec<f64> = pair.iter().map(|modes| modes[mode].1).collect();
        (keys, logprobs)
    };
    for (mode, heading) in ["DECODE mode:", "PREFILL mode:"].iter().enumerate() {
        let (keys, logprobs) = of(mode);
        log.line(heading);
        log.line(format!("  Key vectors: μ = {}, max = {}", e2(mean(&keys)), e2(max_of(&keys))));
        log.line(format!("  Logprobs:    μ = {}, max = {}", e2(mean(&logprobs)), e2(max_of(&logprobs))));
    }
    log.title("CONCLUSION: WITHIN-MODE BATCH EFFECTS", "=");
    for (mode, heading) in ["DECODE:", "PREFILL:"].iter().enumerate() {
        let (keys, logprobs) = of(mode);
        log.line(heading);
        log.line("  ✓ Batch size DOES affect computation (both keys and logprobs differ)");
        log.line(format!("    Keys: {}, Logprobs: {}", e2(mean(&keys)), e2(mean(&logprobs))));
    }
}

fn vllm_generation() -> String {
    let mut log = Log::opening("vLLM CROSS-HARDWARE BATCH SIZE DETECTABILITY - GENERATION (decode)");
    for line in [
        "System: h",
        "GPU: NVIDIA H100 80GB HBM3",
        "vLLM: 0.11.2",
        "PyTorch: 2.9.0+cu128",
        "CUDA: 12.8",
        "Configuration:",
        "  Model: synthetic",
        "  Batch sizes: [1, 2, 4]",
        "  Max tokens: 6",
        "✓ Model loaded",
    ] {
        log.line(line);
    }
    for reference in 0..2 {
        log.title(&format!("REFERENCE: ref_{reference}"), "=");
        log.line("  bs=1:       Prompt: 8 tokens → Final: 14 tokens (6 generated)");
    }
    for reference in 0..2_u32 {
        log.line(format!("--- Token consistency for ref_{reference} ---"));
        log.title("TOKEN GENERATION CONSISTENCY CHECK", "=");
        for size in SIZES {
            let ids: Vec<u32> = (0..6).map(|i| 200 + 10 * reference + i).collect();
            log.line(format!("  bs={size}:"));
            log.line(format!("    IDs:  {ids:?}"));
            log.line("    Text: 'some words'");
            log.line("    ✓");
        }
    }
    let column = |index: usize| format!("bs={:>3}", SIZES[index]);
    let row = |index: usize| format!("bs={}", SIZES[index]);
    for (mode, decode) in [("PREFILL", false), ("DECODE", true)] {
        log.title(&format!("WITHIN-HARDWARE BATCH SIZE EFFECTS ({mode})"), "=");
        let each = batch::logprob_matrices(decode, true);
        for (reference, cells) in each.iter().enumerate() {
            log.line(format!("ref_{reference}:"));
            log.matrix(cells, column, row);
        }
        log.title("AGGREGATE (average across references):", "=");
        let average = over(&each);
        log.matrix(&average, column, row);
        let pairs = upper(&average);
        log.line("Off-diagonal stats:");
        log.line(format!("  Mean: {}", e2(mean(&pairs))));
        log.line(format!("  Range: [{}, {}]", e2(min_of(&pairs)), e2(max_of(&pairs))));
        log.line("Kernel equivalence classes:");
        for (index, class) in classes(&average).iter().enumerate() {
            let class: Vec<u32> = class.iter().map(|&member| SIZES[member]).collect();
            log.line(format!("  Class {}: {class:?}", index + 1));
        }
    }
    log.line("Next step: Copy /w/vllm_decode.json to verifier machine");
    log.title("EXPERIMENT COMPLETE", "=");
    log.0
}

fn batch_verification() -> String {
    let mut log = Log::opening("CROSS-HARDWARE BATCH SIZE DETECTABILITY - VERIFICATION (teacher-forcing)");
    for line in ["System: h", "GPU: NVIDIA H100 PCIe", "Attention: sdpa", "Layers: [2]"] {
        log.line(line);
    }
    log.title("ENVIRONMENT VALIDATION", "=");
    log.line("  ✓ torch_version: 2.8.0+cu128");
    log.line("  ✓ gpu_name: reference=NVIDIA A100 80GB PCIe, verifier=NVIDIA H100 PCIe");
    let column = |index: usize| format!("v_bs={:>3}", SIZES[index]);
    let row = |index: usize| format!("c_bs={}", SIZES[index]);
    for (mode, decode) in [("PREFILL", false), ("DECODE", true)] {
        log.title(&format!("CROSS-HARDWARE BATCH SIZE DETECTABILITY ({mode})"), "=");
        let of = |keys: bool| -> Vec<Square> {
            (0..2).map(|reference| square(3, |i, j| batch::distance(decode, keys, reference, i, j))).collect()
        };
        let both = [("Key Vectors", of(true)), ("Logprobs", of(false))];
        for reference in 0..2 {
            log.title(&format!("REF_{reference}"), "=");
            for (heading, cells) in &both {
                log.line(format!("{heading} (mean L2):"));
                log.matrix(&cells[reference], column, row);
            }
        }
        log.title("AGGREGATE (average across references):", "=");
        for (heading, cells) in &both {
            log.line(format!("{heading} (mean L2):"));
            log.matrix(&over(cells), column, row);
        }
        log.title("SNR ANALYSIS", "=");
        let averages = both.each_ref().map(|(_, cells)| over(cells));
        let names = ["Key vectors", "Logprobs"];
        log.line("Diagonal (baseline = cross-hardware, same batch size):");
        for (name, cells) in names.iter().zip(&averages) {
            log.line(format!("  {name}: {}", e2(mean(&diagonal(cells)))));
        }
        let quotients = |log: &mut Log, keep: fn(usize, usize) -> bool| {
            for (name, cells) in names.iter().zip(&averages) {
                let signal = mean(&off_diagonal(cells, keep));
                let snr = signal / mean(&diagonal(cells));
                log.line(format!("  {name} - Mean: {}, SNR: {snr:.2}×", e2(signal)));
            }
        };
        log.line("Off-diagonal (all pairs):");
        quotients(&mut log, |_, _| true);
        log.line("Excluded equivalent pairs (same kernel within-hardware):");
        log.line("  (2, 4) and (4, 2)");
        log.line("  Total excluded: 2 cells");
        log.line("Off-diagonal (meaningful pairs only):");
        log.line("  Count: 4");
        quotients(&mut log, |i, j| i == 0 || j == 0);
    }
    log.title("PREFILL vs DECODE COMPARISON (meaningful SNR)", "=");
    log.line("✓ Results saved to: /w/verify.json");
    log.0
}

fn tp_opening() -> Log {
    let mut log = Log::opening("TENSOR PARALLELISM DETECTABILITY EXPERIMENT");
    for line in [
        "Hostname: h",
        "GPUs: 4x NVIDIA H100 80GB HBM3",
        "vLLM: 0.11.2",
        "Model: synthetic",
        "TP sizes to test: [1, 2, 4]",
    ] {
        log.line(line);
    }
    for size in tensor_parallel::SIZES {
        log.title(&format!("TENSOR PARALLEL = {size}"), "=");
        log.line("  ref_0: 3 positions captured");
        log.line("  ref_1: 3 positions captured");
    }
    log
}

fn tp_matrices(log: &mut Log, each: &[Square], columns: &str, rows: &str) {
    let column = |index: usize| format!("{columns}={:>3}", SIZES[index]);
    let row = |index: usize| format!("{rows}={}", SIZES[index]);
    for (reference, cells) in each.iter().enumerate() {
        log.line(format!("--- ref_{reference} ---"));
        log.line("Logprobs (L2 distance):");
        log.matrix(cells, column, row);
    }
    log.title("AGGREGATE (average across references):", "=");
    log.line("Logprobs (L2 distance):");
    let average = over(each);
    log.matrix(&average, column, row);
    let (noise, signal) = (mean(&diagonal(&average)), mean(&off_diagonal(&average, |_, _| true)));
    log.line(format!("Diagonal (same TP): {}", e2(noise)));
    log.line(format!("Off-diagonal (different TP): {}", e2(signal)));
    log.line(if noise > 0.0 { format!("SNR: {:.2}×", signal / noise) } else { "SNR: inf".to_owned() });
}

fn tp_generation() -> String {
    let mut log = tp_opening();
    log.title("WITHIN-HARDWARE TP COMPARISON (PREFILL)", "=");
    tp_matrices(&mut log, &tensor_parallel::within(), "TP", "TP");
    log.line("Saved to: /w/tp_experiment.json");
    log.0
}

fn tp_verification() -> String {
    let mut log = tp_opening();
    log.title("WITHIN-HARDWARE TP COMPARISON (PREFILL)", "=");
    tp_matrices(&mut log, &tensor_parallel::within(), "TP", "TP");
    log.title("CROSS-HARDWARE TP COMPARISON (PREFILL)", "=");
    tp_matrices(&mut log, &tensor_parallel::across(), "v_TP", "r_TP");
    log.line("Saved to: /w/tp_verify.json");
    log.0
}
