//! Reader for the log of the batch-size experiment: decode runs at several batch sizes, each replayed by prefill at
//! every batch size, with the printed distances (`prefill_decode_batch_matrix.log`).
//!
//! The log is checked for being whole and for not contradicting itself in counts and labels. Left out: whether its
//! averages and words follow from its cells (`definitions`).

use std::collections::BTreeMap;
use std::path::Path;

use mantissa_evidence::error::Result;
use mantissa_numerics::Phase;

use super::content::{
    BatchMatrixLog, DecodeRun, MatrixAggregate, MeanMax, PairDistance, Reference, Replay, WithinAggregate,
    ZeroPairs, Zeros,
};
use crate::log::lines::Lines;
use crate::log::printed::{Placed, Printed, PrintedMatrix};

/// Reads a log from its bytes; `path` names it in errors.
#[expect(clippy::too_many_lines, reason = "follows the log from top to bottom")]
pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<BatchMatrixLog> {
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
