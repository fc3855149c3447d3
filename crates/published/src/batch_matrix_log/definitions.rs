//! The printed figures of the batch-size log, recomputed from its own cells.
//!
//! Averages are recomputed from the cells of each reference, which leave the narrowest ranges.

use mantissa_numerics::Phase;

use super::content::{BatchMatrixLog, MatrixAggregate, PairDistance, Reference, WithinAggregate};
use crate::definitions::cutoffs::{DETECTABLE, MARGINAL};
use crate::log::ledger::Ledger;
use crate::log::printed::{Printed, PrintedMatrix};
use crate::log::range::{Range, digits, mean_matrix, ranges, split};
use crate::sheet::{Sheet, Signal};

/// Every printed figure of `log` against its own cells.
pub(crate) fn sheet(log: &BatchMatrixLog) -> Sheet {
    let mut ledger = Ledger::new("batch_size", &[Signal::KeyVectors, Signal::Logprobs]);
    counts(&mut ledger, log);
    tokens(&mut ledger, log);
    for (aggregate, pairs) in log.within.iter().zip([decode_pairs, prefill_pairs]) {
        within(&mut ledger, log, aggregate, pairs);
    }
    let keys: fn(&Reference) -> &PrintedMatrix = |reference| &reference.keys;
    let logprobs: fn(&Reference) -> &PrintedMatrix = |reference| &reference.logprobs;
    for (name, aggregate, of) in
        [("key vectors", &log.keys, keys), ("log-probabilities", &log.logprobs, logprobs)]
    {
        matrix(&mut ledger, log, name, aggregate, of);
    }
    equal_columns(&mut ledger, log);
    neighbours(&mut ledger, log);
    ledger.finish()
}

type Pairs = fn(&Reference) -> &[PairDistance];

fn decode_pairs(reference: &Reference) -> &[PairDistance] {
    &reference.decode
}

fn prefill_pairs(reference: &Reference) -> &[PairDistance] {
    &reference.prefill
}

fn counts(ledger: &mut Ledger, log: &BatchMatrixLog) {
    let sum = log.documents.iter().try_fold(0_u64, |sum, (_, tokens)| sum.checked_add(tokens.value));
    let sum = sum.map_or_else(|| "more than 64 bits hold".to_owned(), |sum| sum.to_string());
    ledger.word(
        "total tokens of the documents",
        log.total_tokens.value.to_string(),
        sum,
        log.total_tokens.line,
    );
    let slices = log.dummies.saturating_add(1).saturating_mul(log.references.len() as u64);
    ledger.word(
        "slices (references and their neighbours)",
        log.slices.value.to_string(),
        slices.to_string(),
        log.slices.line,
    );
    let sizes = log.batch_sizes.len();
    let per_reference = sizes * sizes;
    let comparisons = &log.comparisons;
    ledger.word(
        "comparisons per reference",
        comparisons.value.to_string(),
        per_reference.to_string(),
        comparisons.line,
    );
    let measured: usize = log.references.iter().map(|reference| reference.replays.len()).sum();
    ledger.word(
        "measurements",
        log.measurements.value.to_string(),
        measured.to_string(),
        log.measurements.line,
    );
}

fn tokens(ledger: &mut Ledger, log: &BatchMatrixLog) {
    for reference in &log.references {
        let Some(first) = reference.runs.first() else { continue };
        for run in &reference.runs {
            let mark = |same: bool| if same { "✓" } else { "✗ DIFFERENT" };
            let name = format!("tokens of {} at batch size {}", reference.name, run.batch_size);
            ledger.word(name, mark(run.same), mark(run.ids == first.ids), run.line);
        }
        let word = |same: bool| if same { "IDENTICAL" } else { "DIFFERENT" };
        let identical = reference.runs.iter().all(|run| run.ids == first.ids);
        let name = format!("tokens of {} across batch sizes", reference.name);
        ledger.word(name, word(reference.identical.value), word(identical), reference.identical.line);
    }
}

/// Whether two batch sizes consumed the same tokens at every position that was kept.
///
/// A position consumes the output of its index, so outputs have to agree up to and with the last one kept.
fn comparable(reference: &Reference, a: u64, b: u64) -> bool {
    let ids = |size| reference.runs.iter().find(|run| run.batch_size == size).map(|run| &run.ids);
    let (Some(a), Some(b)) = (ids(a), ids(b)) else { return false };
    let last = reference.output_indices().last().and_then(|&last| usize::try_from(last).ok());
    let kept = last.map_or(0, |last| last.saturating_add(1));
    a.get(..kept).is_some_and(|head| b.get(..kept) == Some(head))
}

fn mode(phase: Phase) -> &'static str {
    match phase {
        Phase::Prefill => "prefill",
        Phase::Decode => "decode",
    }
}

fn within(ledger: &mut Ledger, log: &BatchMatrixLog, aggregate: &WithinAggregate, pairs: Pairs) {
    let mode = mode(aggregate.phase);
    let signals = [("key vectors", &aggregate.keys), ("log-probabilities", &aggregate.logprobs)];
    for (index, (signal, printed)) in signals.into_iter().enumerate() {
        let cell = |pair: &PairDistance| Range::of(if index == 0 { &pair.keys } else { &pair.logprobs });
        let all: Vec<Range> = log.references.iter().flat_map(|one| pairs(one).iter().map(cell)).collect();
        let inputs = format!("{} printed distances", all.len());
        let name = format!("mean distance of {signal} within {mode}");
        ledger.figure(name.clone(), &printed.mean, Range::mean(&all), &inputs);
        ledger.figure(
            format!("largest distance of {signal} within {mode}"),
            &printed.max,
            Range::max(&all),
            &inputs,
        );
        ledger.figure(format!("{name}, repeated"), &aggregate.repeated[index], Range::mean(&all), &inputs);

        let sound = log
            .references
            .iter()
            .flat_map(|one| pairs(one).iter().filter(|pair| comparable(one, pair.a, pair.b)).map(cell));
        let sound: Vec<Range> = sound.collect();
        let left_out = all.len() - sound.len();
        if let (true, Some(mean), Some(max)) = (left_out > 0, Range::mean(&sound), Range::max(&sound)) {
            ledger.finding(
                format!(
                    "The mean distance of {signal} within {mode}, {}, averages {left_out} of {} comparisons in which \
                     the two runs had consumed different tokens; the {} on equal tokens have mean {} and maximum {}.",
                    printed.mean.text,
                    all.len(),
                    sound.len(),
                    digits(mean.face, &printed.mean.text),
                    digits(max.face, &printed.max.text)
                ),
                &[printed.mean.line],
            );
        }
    }
    let zero = |figure: &Printed| figure.value.to_bits() == 0;
    let any_zero = log.references.iter().flat_map(pairs).any(|pair| zero(&pair.keys) || zero(&pair.logprobs));
    if any_zero && aggregate.conclusion.value.contains("DOES affect") {
        ledger.finding(
            format!(
                "'{}' is concluded of {mode} although the same log prints distances of exactly zero between two of \
                 its batch sizes.",
                aggregate.conclusion.value
            ),
            &[aggregate.conclusion.line],
        );
    }
    ledger.unfounded(
        format!("conclusion on {mode}"),
        aggregate.conclusion.value.clone(),
        "the rule behind the sentence is not stated",
        aggregate.conclusion.line,
    );
    zeros(ledger, log, aggregate, pairs);
}

fn zeros(ledger: &mut Ledger, log: &BatchMatrixLog, aggregate: &WithinAggregate, pairs: Pairs) {
    let Some(zeros) = &aggregate.zeros else { return };
    for (index, signal) in ["key", "logprob"].into_iter().enumerate() {
        let is_zero = |pair: &&PairDistance| {
            let figure = if index == 0 { &pair.keys } else { &pair.logprobs };
            figure.value.to_bits() == 0
        };
        let of = |reference: &Reference| -> Vec<(u64, u64)> {
            pairs(reference).iter().filter(is_zero).map(|pair| (pair.a, pair.b)).collect()
        };
        let found: Vec<Vec<(u64, u64)>> = log.references.iter().map(of).collect();
        let total: usize = log.references.iter().map(|reference| pairs(reference).len()).sum();
        let count: usize = found.iter().map(Vec::len).sum();
        if let Some(printed) = &zeros.counts[index] {
            let (zero, all) = printed.value;
            let name = format!("{signal} comparisons that are exactly zero");
            ledger.word(name, format!("{zero}/{all}"), format!("{count}/{total}"), printed.line);
        }
        for (name, listed) in &zeros.by_reference {
            let at = log.references.iter().position(|reference| reference.name == *name);
            let follows = at.and_then(|at| found.get(at)).cloned().unwrap_or_default();
            let listed = &listed[index];
            let label = format!("{signal} zeros of {name}");
            ledger.word(label, format!("{:?}", listed.value), format!("{follows:?}"), listed.line);
        }
        let everywhere = found
            .first()
            .is_some_and(|first| first.iter().any(|pair| found.iter().all(|pairs| pairs.contains(pair))));
        let across = &zeros.across[index];
        let says_none = across.value.starts_with("NO pairs are zero across all refs");
        ledger.word(
            format!("{signal} zeros across all references"),
            if says_none { "none" } else { "some" },
            if everywhere { "some" } else { "none" },
            across.line,
        );
        let mut candidates: Vec<(u64, u64)> = found.iter().flatten().copied().collect();
        candidates.sort_unstable();
        candidates.dedup();
        for (a, b) in candidates {
            let judged: Vec<usize> =
                (0..log.references.len()).filter(|&at| comparable(&log.references[at], a, b)).collect();
            let always = judged.iter().all(|&at| found[at].contains(&(a, b)));
            if across.value.contains("coincidental") && always && judged.len() < log.references.len() {
                let others: Vec<&str> = log
                    .references
                    .iter()
                    .filter(|reference| !comparable(reference, a, b))
                    .map(|reference| reference.name.as_str())
                    .collect();
                ledger.finding(
                    format!(
                        "The {signal} zeros of batch sizes {a} and {b} are called coincidental because {} does not \
                         show them, but there the two runs consumed different tokens; they are zero in all {} \
                         references that can be compared.",
                        others.join(", "),
                        judged.len()
                    ),
                    &[across.line],
                );
            }
        }
    }
}

fn matrix(
    ledger: &mut Ledger,
    log: &BatchMatrixLog,
    name: &str,
    printed: &MatrixAggregate,
    of: fn(&Reference) -> &PrintedMatrix,
) {
    for reference in &log.references {
        ledger.matrix(&format!("{name}, decode × prefill, {}", reference.name), of(reference));
    }
    ledger.matrix(&format!("{name}, decode × prefill, average over references"), &printed.matrix);
    let cells: Vec<Vec<Vec<Range>>> = log.references.iter().map(|one| ranges(&of(one).cells)).collect();
    let mean = mean_matrix(&cells);
    let inputs = format!("the cells of {} references", log.references.len());
    for (row, figures) in printed.matrix.cells.iter().enumerate() {
        for (column, figure) in figures.iter().enumerate() {
            let label = format!(
                "average of {name}, decode {} × prefill {}",
                printed.matrix.rows[row], printed.matrix.columns[column]
            );
            ledger.figure(label, figure, mean.get(row).and_then(|cells| cells.get(column)).copied(), &inputs);
        }
    }
    for (index, figure) in printed.diagonal.iter().enumerate() {
        let cell = &printed.matrix.cells[index][index];
        let label = format!("diagonal value {} of {name}", printed.matrix.rows[index]);
        ledger.word(label, figure.text.clone(), cell.text.clone(), figure.line);
    }
    let (diagonal, off) = split(&mean);
    let snr = Range::mean(&off).zip(Range::mean(&diagonal)).and_then(|(signal, noise)| signal.over(noise));
    ledger.figure(
        format!("diagonal mean of {name}"),
        &printed.diagonal_mean,
        Range::mean(&diagonal),
        &inputs,
    );
    ledger.figure(
        format!("diagonal deviation of {name}"),
        &printed.diagonal_deviation,
        Range::deviation(&diagonal),
        &inputs,
    );
    ledger.figure(
        format!("off-diagonal mean of {name}"),
        &printed.off_diagonal_mean,
        Range::mean(&off),
        &inputs,
    );
    ledger.figure(
        format!("off-diagonal deviation of {name}"),
        &printed.off_diagonal_deviation,
        Range::deviation(&off),
        &inputs,
    );
    ledger.figure(format!("SNR of {name}, decode × prefill"), &printed.snr, snr, &inputs);
    ledger.figure(format!("SNR of {name}, repeated"), &printed.repeated_snr, snr, &inputs);
    let word = if printed.repeated_snr.value <= MARGINAL {
        "NOT DETECTABLE"
    } else if printed.repeated_snr.value <= DETECTABLE {
        "MARGINALLY DETECTABLE"
    } else {
        "DETECTABLE"
    };
    let label = format!("word for the SNR of {name}");
    ledger.word(label, printed.word.clone(), word, printed.repeated_snr.line);
    nearest(ledger, log, name, printed, of);
    by_reference(ledger, log, name, printed, &cells);
}

/// How often the claimed batch size is the nearest column of its row.
fn nearest(
    ledger: &mut Ledger,
    log: &BatchMatrixLog,
    name: &str,
    printed: &MatrixAggregate,
    of: fn(&Reference) -> &PrintedMatrix,
) {
    let (mut hits, mut rows) = (0, 0);
    for reference in &log.references {
        for (row, cells) in of(reference).cells.iter().enumerate() {
            rows += 1;
            hits += usize::from(cells.iter().all(|cell| cell.value >= cells[row].value));
        }
    }
    ledger.finding(
        format!(
            "The SNR of {name} is a quotient of pooled averages; row by row, the claimed batch size is the nearest \
             of {} replays (ties included) in {hits} of {rows} rows.",
            log.batch_sizes.len()
        ),
        &[printed.snr.line],
    );
}

fn by_reference(
    ledger: &mut Ledger,
    log: &BatchMatrixLog,
    name: &str,
    printed: &MatrixAggregate,
    cells: &[Vec<Vec<Range>>],
) {
    let ratio = |matrix: &[Vec<Range>]| {
        let (diagonal, off) = split(matrix);
        Range::mean(&off).zip(Range::mean(&diagonal)).and_then(|(signal, noise)| signal.over(noise))
    };
    let each: Vec<String> = log
        .references
        .iter()
        .zip(cells)
        .filter_map(|(reference, cells)| Some(format!("{} {:.2}", reference.name, ratio(cells)?.face)))
        .collect();
    let parted: Vec<&Reference> = log
        .references
        .iter()
        .filter(|one| {
            one.runs.windows(2).any(|pair| !comparable(one, pair[0].batch_size, pair[1].batch_size))
        })
        .collect();
    for reference in parted {
        let kept: Vec<Vec<Vec<Range>>> = log
            .references
            .iter()
            .zip(cells)
            .filter(|(one, _)| one.name != reference.name)
            .map(|(_, cells)| cells.clone())
            .collect();
        let Some(without) = ratio(&mean_matrix(&kept)) else { continue };
        ledger.finding(
            format!(
                "The averages of {name} count {}, whose rows hold different tokens from batch size to batch size; \
                 each row is compared with replays of its own tokens, but rows are not comparable with each other. \
                 The SNR is {} with it and {:.2} without; by reference: {}.",
                reference.name,
                printed.snr.text,
                without.face,
                each.join(", ")
            ),
            &[printed.snr.line, reference.identical.line],
        );
    }
}

/// Columns that agree to the printed digit in every row, reference and signal.
fn equal_columns(ledger: &mut Ledger, log: &BatchMatrixLog) {
    for (first, a) in log.batch_sizes.iter().enumerate() {
        for (second, b) in log.batch_sizes.iter().enumerate().skip(first + 1) {
            let mut rows = 0_usize;
            let equal = log.references.iter().all(|reference| {
                [&reference.keys, &reference.logprobs].into_iter().all(|matrix| {
                    matrix.cells.iter().all(|cells| {
                        rows += 1;
                        cells[first].text == cells[second].text
                    })
                })
            });
            if equal && rows > 0 {
                ledger.finding(
                    format!(
                        "Prefill at batch sizes {a} and {b} is one class that the log does not name: their columns \
                         agree to the printed digit in all {rows} rows, over {} references and both signals.",
                        log.references.len()
                    ),
                    &[log.keys.matrix.line, log.logprobs.matrix.line],
                );
            }
        }
    }
}

/// The diagonal differs from the rest in more than its batch size.
fn neighbours(ledger: &mut Ledger, log: &BatchMatrixLog) {
    let replays = || log.references.iter().flat_map(|reference| &reference.replays);
    let exact = replays().filter(|replay| replay.exact_neighbours).count();
    let confounded = replays().all(|replay| replay.exact_neighbours == (replay.decode == replay.prefill));
    if confounded && exact > 0 {
        let line = replays().next().map_or(1, |replay| replay.line);
        ledger.finding(
            format!(
                "Diagonal replays ({exact}) kept the neighbours of the decode run and all others ({}) had arbitrary \
                 ones, so the SNR varies batch size and neighbours together; the diagonal called noise holds decode \
                 against prefill and no repetition of either.",
                replays().count() - exact
            ),
            &[line, log.keys.diagonal_mean.line],
        );
    }
}
