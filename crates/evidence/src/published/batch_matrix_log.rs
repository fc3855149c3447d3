//! Reader for the log of the batch-size experiment: decode runs at several batch sizes, each replayed by prefill at
//! every batch size, with the printed distances (`prefill_decode_batch_matrix.log`).
//!
//! The log is checked for being whole and for not contradicting itself in counts and labels. Left out: whether its
//! averages and words follow from its cells (`mantissa-verdict`).

use std::collections::BTreeMap;
use std::path::Path;

use mantissa_numerics::Phase;

use super::log::{self, Lines, Placed, Printed, PrintedMatrix};
use crate::error::Result;
use crate::verification::{CellDistance, CellKey, Machine, Relation, Verification};

/// The whole log.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchMatrixLog {
    /// Where it says it was written.
    pub log_file: String,
    /// The environment, by name.
    pub environment: BTreeMap<String, String>,
    /// Model id.
    pub model: String,
    /// Layers whose keys were kept, counted from 1.
    pub layers: Vec<u64>,
    /// Batch sizes, in the order of every matrix.
    pub batch_sizes: Vec<u64>,
    /// Tokens generated per run.
    pub max_tokens: u64,
    /// Documents the prompts were cut from: path and tokens.
    pub documents: Vec<(String, Placed<u64>)>,
    /// Tokens of all documents.
    pub total_tokens: Placed<u64>,
    /// Slices cut.
    pub slices: Placed<u64>,
    /// Tokens of a slice.
    pub slice_tokens: u64,
    /// References made.
    pub reference_count: Placed<u64>,
    /// Neighbours made for each.
    pub dummies: u64,
    /// Comparisons per reference that the design announces.
    pub comparisons: Placed<u64>,
    /// The references, in order.
    pub references: Vec<Reference>,
    /// Where the data went.
    pub data_file: String,
    /// Measurements counted by the log.
    pub measurements: Placed<u64>,
    /// Aggregates of the comparisons within decode, then within prefill.
    pub within: [WithinAggregate; 2],
    /// Key vectors averaged over references.
    pub keys: MatrixAggregate,
    /// Log-probabilities averaged over references.
    pub logprobs: MatrixAggregate,
    /// The last conclusions, line by line.
    pub conclusion: Vec<Placed<String>>,
}

/// One reference prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// `ref_0`.
    pub name: String,
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Decode runs, by batch size in order.
    pub runs: Vec<DecodeRun>,
    /// Whether the log says that all batch sizes gave the same tokens.
    pub identical: Placed<bool>,
    /// Prefill replays, row by row.
    pub replays: Vec<Replay>,
    /// Distances between batch sizes within decode.
    pub decode: Vec<PairDistance>,
    /// Distances between batch sizes within prefill (each replaying its own decode run).
    pub prefill: Vec<PairDistance>,
    /// Key vectors, decode rows × prefill columns.
    pub keys: PrintedMatrix,
    /// Log-probabilities, decode rows × prefill columns.
    pub logprobs: PrintedMatrix,
}

/// What one batch size generated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeRun {
    /// The batch size.
    pub batch_size: u64,
    /// Tokens of prompt and output.
    pub final_tokens: u64,
    /// Absolute positions whose signals were kept.
    pub positions: Vec<u64>,
    /// Generated ids.
    pub ids: Vec<u32>,
    /// Their text as the log quotes it.
    pub text: String,
    /// Whether the log marks them as those of the first batch size.
    pub same: bool,
    /// Line of the ids.
    pub line: usize,
}

/// A prefill replay of a decode run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Batch size of the decode run.
    pub decode: u64,
    /// Batch size of the replay.
    pub prefill: u64,
    /// Whether the other rows of the batch were those of the decode run.
    pub exact_neighbours: bool,
    /// Where.
    pub line: usize,
}

/// Largest distance between two batch sizes over the positions kept.
#[derive(Debug, Clone, PartialEq)]
pub struct PairDistance {
    /// The first batch size.
    pub a: u64,
    /// The second.
    pub b: u64,
    /// L2 of key vectors.
    pub keys: Printed,
    /// L2 of log-probabilities.
    pub logprobs: Printed,
}

/// Aggregates within one mode.
#[derive(Debug, Clone, PartialEq)]
pub struct WithinAggregate {
    /// The mode.
    pub phase: Phase,
    /// Key vectors.
    pub keys: MeanMax,
    /// Log-probabilities.
    pub logprobs: MeanMax,
    /// What the log says of exact zeros, where it does.
    pub zeros: Option<Zeros>,
    /// The sentence it concludes with.
    pub conclusion: Placed<String>,
    /// The means as the conclusion repeats them: keys, log-probabilities.
    pub repeated: [Printed; 2],
}

/// Mean and maximum.
#[derive(Debug, Clone, PartialEq)]
pub struct MeanMax {
    /// Mean over references and pairs.
    pub mean: Printed,
    /// Maximum over references and pairs.
    pub max: Printed,
}

/// Pairs of batch sizes, as a line lists them.
pub type ZeroPairs = Placed<Vec<(u64, u64)>>;

/// What the log says of distances that are exactly zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zeros {
    /// Zero of how many comparisons: keys, log-probabilities.
    pub counts: [Option<Placed<(u64, u64)>>; 2],
    /// Zero pairs of keys and of log-probabilities by reference.
    pub by_reference: Vec<(String, [ZeroPairs; 2])>,
    /// What is said of pairs across references: keys, log-probabilities.
    pub across: [Placed<String>; 2],
}

/// A matrix averaged over references, and what was derived from it.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixAggregate {
    /// The matrix.
    pub matrix: PrintedMatrix,
    /// Mean of the diagonal.
    pub diagonal_mean: Printed,
    /// Standard deviation of the diagonal.
    pub diagonal_deviation: Printed,
    /// The diagonal again.
    pub diagonal: Vec<Printed>,
    /// Mean off the diagonal.
    pub off_diagonal_mean: Printed,
    /// Standard deviation off the diagonal.
    pub off_diagonal_deviation: Printed,
    /// Their ratio.
    pub snr: Printed,
    /// The ratio as the conclusion repeats it.
    pub repeated_snr: Printed,
    /// The word given to it there.
    pub word: String,
}

/// Whether bytes open like this log.
#[must_use]
pub fn recognizes(bytes: &[u8]) -> bool {
    log::opens_with(bytes, "PREFILL vs DECODE EXPERIMENT")
}

/// Reads the log at `path`.
pub fn read(path: &Path) -> Result<BatchMatrixLog> {
    parse(&log::bytes(path)?, path)
}

/// Reads a log from its bytes; `path` names it in errors.
#[expect(clippy::too_many_lines, reason = "follows the log from top to bottom")]
pub fn parse(bytes: &[u8], path: &Path) -> Result<BatchMatrixLog> {
    let lines = &mut Lines::new(bytes, path)?;
    lines.title("PREFILL vs DECODE EXPERIMENT", '=')?;
    let (_, [log_file]) = lines.read("Log file: {}")?;
    let environment = environment(lines)?;
    let (_, [model]) = lines.read("Model: {}")?;
    let (line, [layers]) = lines.read("Layers: [{}]")?;
    let layers = lines.counts(line, layers)?;
    let (line, [sizes]) = lines.read("Batch sizes: [{}]")?;
    let batch_sizes = lines.counts(line, sizes)?;
    if batch_sizes.len() > 64
        || batch_sizes.iter().any(|size| batch_sizes.iter().filter(|s| *s == size).count() > 1)
    {
        return Err(lines.wrong(line, "batch sizes that repeat, or more than 64 of them"));
    }
    let (line, [max_tokens]) = lines.read("Max tokens: {}")?;
    let max_tokens = lines.count(line, max_tokens)?;

    lines.section("Loading model");
    lines.expect("Loading model...")?;
    let (line, [documents]) = lines.read("Found {} PDF(s)")?;
    let announced = lines.count(line, documents)?;
    let mut documents = Vec::new();
    while lines.at::<1>("Loading: {}") {
        let (_, [document]) = lines.read("Loading: {}")?;
        let (line, [tokens]) = lines.read("→ {} tokens")?;
        documents.push((document.to_owned(), Placed { value: lines.count(line, tokens)?, line }));
    }
    lines.same(line, "the number of documents", &announced, &(documents.len() as u64))?;
    let (line, [total]) = lines.read("Total tokens: {}")?;
    let total_tokens = Placed { value: lines.count(line, total)?, line };
    let (line, [slices, slice_tokens]) = lines.read("Creating {} slices of {} tokens each")?;
    let slices = Placed { value: lines.count(line, slices)?, line };
    let slice_tokens = lines.count(line, slice_tokens)?;
    let (line, [made, dummies]) = lines.read("Created {} reference sequences with {} dummies each")?;
    let reference_count = Placed { value: lines.count(line, made)?, line };
    let dummies = lines.count(line, dummies)?;

    lines.section("Experiment design");
    lines.expect("Experiment design:")?;
    let size_count = batch_sizes.len() as u64;
    let (line, [count]) = lines.read("- Decode runs at {} batch sizes")?;
    lines.same(line, "the number of batch sizes", &lines.count(line, count)?, &size_count)?;
    let (line, [count]) = lines.read("- Prefill reproduces at {} batch sizes")?;
    lines.same(line, "the number of batch sizes", &lines.count(line, count)?, &size_count)?;
    let (line, [rows, columns, product]) =
        lines.read("- Matrix: {} decode × {} prefill = {} comparisons per reference")?;
    lines.same(line, "the number of batch sizes", &lines.count(line, rows)?, &size_count)?;
    lines.same(line, "the number of batch sizes", &lines.count(line, columns)?, &size_count)?;
    let comparisons = Placed { value: lines.count(line, product)?, line };
    lines.expect("- Works purely at token ID level (no tokenization artifacts)")?;
    lines.expect("- NEW: Within-mode batch size comparisons (sanity check)")?;
    lines.expect("✓ Model loaded")?;

    let mut drafts = Vec::new();
    for index in 0..reference_count.value {
        drafts.push(draft(lines, index, &batch_sizes, max_tokens)?);
    }
    let (_, [data_file]) = lines.read("✓ Data saved to: {}")?;
    let (measurements, within_pairs) = within_pairs(lines, &drafts, &batch_sizes)?;
    let within = within_aggregates(lines)?;

    lines.title("ANALYSIS: DECODE vs PREFILL MATRIX", '=')?;
    let labels: Vec<String> = batch_sizes.iter().map(ToString::to_string).collect();
    let mut references = Vec::new();
    for (draft, [decode, prefill]) in drafts.into_iter().zip(within_pairs) {
        lines.title(&draft.name.to_uppercase(), '=')?;
        lines.expect("Key Vectors (max L2 distance):")?;
        let keys = matrix(lines, &labels)?;
        lines.expect("Logprobs (max L2 distance):")?;
        let logprobs = matrix(lines, &labels)?;
        references.push(Reference {
            name: draft.name,
            prompt_tokens: draft.prompt_tokens,
            runs: draft.runs,
            identical: draft.identical,
            replays: draft.replays,
            decode,
            prefill,
            keys,
            logprobs,
        });
    }
    lines.title("AGGREGATE STATISTICS (AVERAGE ACROSS REFERENCES)", '=')?;
    let mut keys = aggregate(lines, "KEY_VECTORS:", &labels)?;
    let mut logprobs = aggregate(lines, "LOGPROBS:", &labels)?;

    lines.title("CONCLUSION", '=')?;
    for (aggregate, pattern) in
        [(&mut keys, "Key Vectors: SNR = {}× {} {}"), (&mut logprobs, "Logprobs: SNR = {}× {} {}")]
    {
        let (line, [snr, _mark, word]) = lines.read(pattern)?;
        aggregate.repeated_snr = lines.figure(line, snr)?;
        word.clone_into(&mut aggregate.word);
    }
    let mut conclusion = Vec::new();
    while !lines.at::<1>("✓ Analysis saved (file size: {})") {
        let (line, text) = lines.take("✓ Analysis saved (file size: {})")?;
        conclusion.push(Placed { value: text.to_owned(), line });
    }
    lines.read::<1>("✓ Analysis saved (file size: {})")?;
    lines.title("EXPERIMENT COMPLETE", '=')?;
    lines.end()?;

    Ok(BatchMatrixLog {
        log_file: log_file.to_owned(),
        environment,
        model: model.to_owned(),
        layers,
        batch_sizes,
        max_tokens,
        documents,
        total_tokens,
        slices,
        slice_tokens,
        reference_count,
        dummies,
        comparisons,
        references,
        data_file: data_file.to_owned(),
        measurements,
        within,
        keys,
        logprobs,
        conclusion,
    })
}

fn environment(lines: &mut Lines) -> Result<BTreeMap<String, String>> {
    lines.section("Environment");
    lines.expect("Environment:")?;
    let mut environment = BTreeMap::new();
    while !lines.at::<0>("Configuration:") {
        let (line, [name, value]) = lines.read("{}: {}")?;
        if environment.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(lines.wrong(line, "a second value for the same name"));
        }
    }
    lines.section("Configuration");
    lines.expect("Configuration:")?;
    Ok(environment)
}

/// What a reference's own section holds.
struct Draft {
    name: String,
    prompt_tokens: u64,
    runs: Vec<DecodeRun>,
    identical: Placed<bool>,
    replays: Vec<Replay>,
}

fn draft(lines: &mut Lines, index: u64, sizes: &[u64], max_tokens: u64) -> Result<Draft> {
    let name = format!("ref_{index}");
    lines.title(&format!("REFERENCE: {name}"), '=')?;
    let (line, [prompt]) = lines.read("Global minimum prompt length: {} tokens")?;
    let prompt_tokens = lines.count(line, prompt)?;
    lines.expect("(All batch sizes will use this length)")?;
    lines.expect("Decode runs:")?;
    let mut runs = Vec::new();
    for &batch_size in sizes {
        let (line, [size, prompt, total, generated]) =
            lines.read("bs={}... Prompt length: {} tokens → Final: {} tokens ({} generated)")?;
        lines.same(line, "the batch size", &lines.count(line, size)?, &batch_size)?;
        lines.same(line, "the prompt length", &lines.count(line, prompt)?, &prompt_tokens)?;
        lines.same(line, "the number of generated tokens", &lines.count(line, generated)?, &max_tokens)?;
        let final_tokens = lines.count(line, total)?;
        lines.same(line, "the final length", &Some(final_tokens), &prompt_tokens.checked_add(max_tokens))?;
        let (line, [positions]) = lines.read("Extract positions: [{}]")?;
        let positions = lines.counts(line, positions)?;
        let ascending = positions.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending || positions.last().is_some_and(|&last| last >= final_tokens) {
            return Err(lines.wrong(line, "positions that do not ascend within the sequence"));
        }
        runs.push(DecodeRun {
            batch_size,
            final_tokens,
            positions,
            ids: Vec::new(),
            text: String::new(),
            same: true,
            line,
        });
    }
    lines.title("TOKEN GENERATION CONSISTENCY CHECK", '=')?;
    lines.expect("Generated tokens by batch size:")?;
    for run in &mut runs {
        lines.expect(&format!("bs={}:", run.batch_size))?;
        let (line, [ids]) = lines.read("IDs: [{}]")?;
        let ids = lines.counts(line, ids)?;
        lines.same(line, "the number of generated tokens", &(ids.len() as u64), &max_tokens)?;
        run.line = line;
        run.ids = ids
            .iter()
            .map(|&id| u32::try_from(id))
            .collect::<std::result::Result<_, _>>()
            .map_err(|_| lines.wrong(line, "a token id beyond 32 bits"))?;
        let (_, [text]) = lines.read("Text: {}")?;
        text.clone_into(&mut run.text);
        let (line, mark) = lines.take("✓")?;
        run.same = match mark {
            "✓" => true,
            "✗ DIFFERENT" => false,
            _ => return Err(lines.wrong(line, "neither '✓' nor '✗ DIFFERENT'")),
        };
    }
    let identical = if lines.at::<0>("✓ Element 0 generates IDENTICAL tokens across all batch sizes") {
        let (line, _) = lines.take("✓ Element 0 generates IDENTICAL tokens across all batch sizes")?;
        lines.expect("→ Can meaningfully compare activations for same token sequence")?;
        Placed { value: true, line }
    } else {
        let line = lines.expect("⚠ Element 0 generates DIFFERENT tokens across batch sizes")?;
        lines.expect("→ Batch composition affects generation")?;
        Placed { value: false, line }
    };
    lines.section(format!("Prefill reproductions of {name}"));
    lines.expect("Prefill reproductions:")?;
    let mut replays = Vec::new();
    for run in &runs {
        lines.expect(&format!("Reproducing decode bs={}:", run.batch_size))?;
        for &prefill in sizes {
            let (line, [size, tokens, neighbours, positions]) =
                lines.read("with bs={}... [Ext: {} tokens, {} neighbors] → Extract at: [{}]")?;
            lines.same(line, "the batch size", &lines.count(line, size)?, &prefill)?;
            lines.same(line, "the number of tokens", &lines.count(line, tokens)?, &run.final_tokens)?;
            lines.same(line, "the positions", &lines.counts(line, positions)?, &run.positions)?;
            let exact_neighbours = match neighbours {
                "exact" => true,
                "arb" => false,
                _ => return Err(lines.wrong(line, "neighbours that are neither 'exact' nor 'arb'")),
            };
            replays.push(Replay { decode: run.batch_size, prefill, exact_neighbours, line });
        }
    }
    Ok(Draft { name, prompt_tokens, runs, identical, replays })
}

type PairsByMode = [Vec<PairDistance>; 2];

fn within_pairs(
    lines: &mut Lines,
    drafts: &[Draft],
    sizes: &[u64],
) -> Result<(Placed<u64>, Vec<PairsByMode>)> {
    lines.title("WITHIN-MODE BATCH SIZE EFFECTS", '=')?;
    lines.expect("Sanity check: Does batch size affect activations even with identical tokens?")?;
    lines.expect("Expected: YES - batch size changes computation even for same sequence")?;
    let (line, [count]) = lines.read("DEBUG: Total measurements received: {}")?;
    let measurements = Placed { value: lines.count(line, count)?, line };
    lines.read::<1>("DEBUG: First measurement keys: {}")?;
    lines.read::<1>("DEBUG: First measurement decode_batch_size: {}")?;
    lines.read::<1>("DEBUG: First measurement ref_name: {}")?;
    lines.read::<1>("DEBUG: decode_data signals keys: {}")?;
    let mut all = Vec::new();
    for draft in drafts {
        lines.section(format!("WITHIN-MODE BATCH SIZE EFFECTS, {}", draft.name));
        lines.expect(&draft.name.to_uppercase())?;
        lines.rule('-')?;
        for of in ["decode", "prefill_diagonal"] {
            let (line, [count, listed]) = lines.read(&format!("DEBUG: {of} has {{}} batch sizes: [{{}}]"))?;
            lines.same(
                line,
                "the number of batch sizes",
                &lines.count(line, count)?,
                &(sizes.len() as u64),
            )?;
            lines.same(line, "the batch sizes", &lines.counts(line, listed)?, &sizes.to_vec())?;
        }
        let mut modes = [Vec::new(), Vec::new()];
        for (mode, heading) in
            modes.iter_mut().zip(["DECODE mode (autoregressive):", "PREFILL mode (parallel forward):"])
        {
            lines.expect(heading)?;
            for (index, &a) in sizes.iter().enumerate() {
                for &b in &sizes[index + 1..] {
                    lines.expect(&format!("bs={a} vs bs={b}:"))?;
                    let (line, [keys]) = lines.read("Key vectors: Δ_max = {}")?;
                    let keys = lines.figure(line, keys)?;
                    let (line, [logprobs]) = lines.read("Logprobs: Δ_max = {}")?;
                    mode.push(PairDistance { a, b, keys, logprobs: lines.figure(line, logprobs)? });
                }
            }
        }
        all.push(modes);
    }
    Ok((measurements, all))
}

fn within_aggregates(lines: &mut Lines) -> Result<[WithinAggregate; 2]> {
    lines.title("WITHIN-MODE AGGREGATE STATISTICS", '=')?;
    let decode = within_aggregate(lines, Phase::Decode, "DECODE mode:", "PREFILL mode:")?;
    let prefill = within_aggregate(lines, Phase::Prefill, "PREFILL mode:", "==========")?;
    lines.title("CONCLUSION: WITHIN-MODE BATCH EFFECTS", '=')?;
    let conclude = |lines: &mut Lines, of: &str, mut aggregate: WithinAggregate| {
        lines.expect(of)?;
        let (line, text) = lines.take("✓ Batch size DOES affect computation")?;
        aggregate.conclusion = Placed { value: text.to_owned(), line };
        let (line, [keys, logprobs]) = lines.read("Keys: {}, Logprobs: {}")?;
        aggregate.repeated = [lines.figure(line, keys)?, lines.figure(line, logprobs)?];
        Ok(aggregate)
    };
    Ok([conclude(lines, "DECODE:", decode)?, conclude(lines, "PREFILL:", prefill)?])
}

fn within_aggregate(lines: &mut Lines, phase: Phase, heading: &str, next: &str) -> Result<WithinAggregate> {
    lines.expect(heading)?;
    let mut figures = |pattern: &str| -> Result<MeanMax> {
        let (line, [mean, max]) = lines.read(pattern)?;
        Ok(MeanMax { mean: lines.figure(line, mean)?, max: lines.figure(line, max)? })
    };
    let keys = figures("Key vectors: μ = {}, max = {}")?;
    let logprobs = figures("Logprobs: μ = {}, max = {}")?;
    let zeros =
        if lines.peek().is_some_and(|text| text.starts_with(next)) { None } else { Some(zeros(lines)?) };
    let conclusion = Placed { value: String::new(), line: keys.mean.line };
    let repeated = [keys.mean.clone(), logprobs.mean.clone()];
    Ok(WithinAggregate { phase, keys, logprobs, zeros, conclusion, repeated })
}

fn zeros(lines: &mut Lines) -> Result<Zeros> {
    let mut counts = [None, None];
    for (count, of) in counts.iter_mut().zip(["key", "logprob"]) {
        let pattern = format!("⚠ {{}}/{{}} {of} comparisons are EXACTLY ZERO");
        if lines.at::<2>(&pattern) {
            let (line, [zero, total]) = lines.read(&pattern)?;
            *count = Some(Placed { value: (lines.count(line, zero)?, lines.count(line, total)?), line });
        }
    }
    lines.expect("Zero locations by reference:")?;
    let mut by_reference = Vec::new();
    while !lines.at::<0>("Cross-reference consistency:") {
        let (_, [name]) = lines.read("{}:")?;
        let mut pairs = |pattern: &str| -> Result<ZeroPairs> {
            let (line, [listed]) = lines.read(pattern)?;
            Ok(Placed { value: zero_pairs(lines, line, listed)?, line })
        };
        by_reference.push((name.to_owned(), [pairs("key zeros: {}")?, pairs("logprob zeros: {}")?]));
    }
    lines.expect("Cross-reference consistency:")?;
    let mut across = |pattern: &str| -> Result<Placed<String>> {
        let (line, [text]) = lines.read(pattern)?;
        Ok(Placed { value: text.to_owned(), line })
    };
    Ok(Zeros { counts, by_reference, across: [across("Key zeros: {}")?, across("Logprob zeros: {}")?] })
}

/// `[(5, 9), (4, 8)]`.
fn zero_pairs(lines: &Lines, line: usize, text: &str) -> Result<Vec<(u64, u64)>> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let Some(inner) = inner else {
        return Err(lines.wrong(line, "a list of pairs without its brackets"));
    };
    let mut pairs = Vec::new();
    for part in inner.split(')').map(str::trim).filter(|part| !part.is_empty()) {
        let part = part.trim_start_matches(',').trim_start();
        let pair = part.strip_prefix('(').and_then(|pair| pair.split_once(','));
        let Some((a, b)) = pair else {
            return Err(lines.wrong(line, "a pair that is not '(a, b)'"));
        };
        pairs.push((lines.count(line, a.trim())?, lines.count(line, b.trim())?));
    }
    Ok(pairs)
}

fn matrix(lines: &mut Lines, labels: &[String]) -> Result<PrintedMatrix> {
    lines.matrix(labels, |size| format!("Prefill bs={size:>3}"), |size| format!("Decode bs={size}"))
}

fn aggregate(lines: &mut Lines, heading: &str, labels: &[String]) -> Result<MatrixAggregate> {
    lines.expect(heading)?;
    let matrix = matrix(lines, labels)?;
    lines.expect("Diagonal (noise - decode bs = prefill bs):")?;
    let (line, [mean, deviation]) = lines.read("μ = {}, σ = {}")?;
    let (diagonal_mean, diagonal_deviation) = (lines.figure(line, mean)?, lines.figure(line, deviation)?);
    let (line, [values]) = lines.read("Values: [{}]")?;
    let diagonal: Vec<Printed> = values
        .split(',')
        .map(|value| lines.figure(line, value.trim().trim_matches('\'')))
        .collect::<Result<_>>()?;
    lines.same(line, "the length of the diagonal", &diagonal.len(), &labels.len())?;
    lines.expect("Off-diagonal (signal - decode bs ≠ prefill bs):")?;
    let (line, [mean, deviation]) = lines.read("μ = {}, σ = {}")?;
    let (off_diagonal_mean, off_diagonal_deviation) =
        (lines.figure(line, mean)?, lines.figure(line, deviation)?);
    let (line, [snr]) = lines.read("SNR (signal/noise): {}×")?;
    let snr = lines.figure(line, snr)?;
    Ok(MatrixAggregate {
        matrix,
        diagonal_mean,
        diagonal_deviation,
        diagonal,
        off_diagonal_mean,
        off_diagonal_deviation,
        repeated_snr: snr.clone(),
        snr,
        word: String::new(),
    })
}

impl BatchMatrixLog {
    /// Generated ids by reference and batch size.
    #[must_use]
    pub fn tokens(&self) -> BTreeMap<String, BTreeMap<u64, Vec<u32>>> {
        let by_size = |reference: &Reference| {
            reference.runs.iter().map(|run| (run.batch_size, run.ids.clone())).collect()
        };
        self.references.iter().map(|reference| (reference.name.clone(), by_size(reference))).collect()
    }

    /// Indices into the outputs of the positions kept: the output token each of them consumed.
    #[must_use]
    pub fn output_indices(&self, reference: &Reference) -> Vec<u64> {
        let positions = reference.runs.first().map_or(&[][..], |run| &run.positions);
        positions.iter().filter_map(|position| position.checked_sub(reference.prompt_tokens)).collect()
    }

    /// The distances: decode × prefill, within decode, within prefill; each per reference.
    ///
    /// A printed figure is the *largest* L2 over the positions kept; the log has no mean, so both fields of a cell
    /// hold it.
    #[must_use]
    pub fn verifications(&self) -> Vec<Verification> {
        let mut matrix = BTreeMap::new();
        let mut within = [BTreeMap::new(), BTreeMap::new()];
        for reference in &self.references {
            let key = |phase, signal: &str, claimed, verified| CellKey {
                phase,
                signal: signal.to_owned(),
                reference: Some(reference.name.clone()),
                claimed,
                verified,
            };
            for (signal, printed) in [("key_vectors", &reference.keys), ("logprobs", &reference.logprobs)] {
                for (row, cells) in printed.cells.iter().enumerate() {
                    for (column, figure) in cells.iter().enumerate() {
                        matrix.insert(key(Phase::Prefill, signal, row, column), largest(figure));
                    }
                }
            }
            for (cells, (phase, pairs)) in within
                .iter_mut()
                .zip([(Phase::Decode, &reference.decode), (Phase::Prefill, &reference.prefill)])
            {
                for pair in pairs {
                    let index = |size| self.batch_sizes.iter().position(|&s| s == size).unwrap_or_default();
                    let (a, b) = (index(pair.a), index(pair.b));
                    cells.insert(key(phase, "key_vectors", a, b), largest(&pair.keys));
                    cells.insert(key(phase, "logprobs", a, b), largest(&pair.logprobs));
                }
            }
        }
        let [decode, prefill] = within;
        [(Relation::DecodePrefill, matrix), (Relation::WithinMode, decode), (Relation::WithinMode, prefill)]
            .into_iter()
            .map(|(relation, cells)| Verification {
                variable: "batch_size".to_owned(),
                values: self.batch_sizes.iter().map(ToString::to_string).collect(),
                generator: self.machine(),
                verifier: self.machine(),
                mismatches: Vec::new(),
                relation,
                cells,
            })
            .collect()
    }

    fn machine(&self) -> Machine {
        Machine {
            gpu: self.environment.get("gpu_name").cloned().unwrap_or_default(),
            environment: self.environment.clone(),
        }
    }
}

fn largest(figure: &Printed) -> CellDistance {
    CellDistance {
        mean: figure.value,
        max: Some(figure.value),
        rounding: figure.half_unit,
        place: format!("line {}", figure.line),
    }
}
