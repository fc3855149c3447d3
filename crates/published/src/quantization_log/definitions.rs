//! The printed figures of the quantization log, recomputed from its own cells and from its companion file.

use mantissa_numerics::Phase;

use super::reader::{QuantizationLog, QuantizationPhase, Separation};
use crate::definitions::cutoffs::{MODERATE, SMALL};
use crate::log::ledger::Ledger;
use crate::log::printed::Printed;
use crate::log::range::{Range, digits, mean_matrix, ranges};
use crate::quant_generation::reader::{QuantGeneration, SanityCheck};
use crate::sheet::{Sheet, Signal};

/// Every printed figure of `log` against its own cells, and against `companion` where that file stores them in full.
pub(crate) fn sheet(log: &QuantizationLog, companion: Option<&QuantGeneration>) -> Sheet {
    let mut ledger = Ledger::new("quantization", &[Signal::Logprobs]);
    let companion = companion.filter(|file| {
        let written = file.file.metadata.timestamp.as_deref();
        written.is_some_and(|written| log.data_file.value.contains(written))
    });
    let parts = log.prompt.value;
    let sum = parts[..3].iter().fold(0_u64, |sum, &part| sum.saturating_add(part));
    ledger.word("tokens of a prompt", parts[3].to_string(), sum.to_string(), log.prompt.line);
    repetitions(&mut ledger, log, companion);
    tokens(&mut ledger, log);
    for printed in &log.phases {
        let stored = companion.map(|file| match printed.phase {
            Phase::Prefill => &file.file.prefill_sanity_check,
            Phase::Decode => &file.file.decode_sanity_check,
        });
        phase(&mut ledger, log, printed, stored);
    }
    if let Some(separation) = &log.separation {
        signal_to_noise(&mut ledger, log, separation, companion);
    }
    own_floors(&mut ledger, log);
    ledger.finish()
}

fn mode(phase: Phase) -> &'static str {
    match phase {
        Phase::Prefill => "prefill",
        Phase::Decode => "decode",
    }
}

fn finite(figures: impl Iterator<Item = Range>) -> Vec<Range> {
    figures.filter(|figure| figure.face.is_finite()).collect()
}

fn repetitions(ledger: &mut Ledger, log: &QuantizationLog, companion: Option<&QuantGeneration>) {
    for (configuration, of) in log.configurations.iter().zip(&log.repetitions) {
        let name = &configuration.name;
        let decode = finite(of.pairs.iter().map(|pair| Range::of(&pair.decode)));
        let prefill = finite(of.pairs.iter().map(|pair| Range::of(&pair.prefill)));
        let inputs = format!("the finite of {} pairs of passes", of.pairs.len());
        let label = format!("noise floor of {name}");
        ledger.figure(format!("{label}, decode"), &of.floor.0, Range::mean(&decode), &inputs);
        if let Some(printed) = &of.floor.1 {
            ledger.figure(format!("{label}, prefill"), printed, Range::mean(&prefill), &inputs);
        }
        ledger.figure(format!("{label}, decode, summary"), &of.summary[0], Range::mean(&decode), &inputs);
        ledger.figure(format!("{label}, prefill, summary"), &of.summary[1], Range::mean(&prefill), &inputs);
        let zero = of.pairs.iter().all(|pair| pair.decode.value.to_bits() == 0);
        let word = |deterministic: bool| if deterministic { "DETERMINISTIC" } else { "not deterministic" };
        ledger.word(format!("word for {label}"), word(of.deterministic), word(zero), of.floor.0.line);
        let stored = companion.and_then(|file| file.file.noise_floors.get(name.as_str()));
        if let Some(floor) = stored {
            for (printed, value) in of.summary.iter().zip([floor.decode, floor.prefill]) {
                let Some(value) = value else { continue };
                let label = format!("{label}, stored by the companion file");
                ledger.figure(label, printed, Some(Range::exact(value)), "the companion file");
            }
        }
        let lost = of.pairs.len() - decode.len();
        if lost > 0 {
            let line = of.pairs.iter().find(|pair| pair.decode.value.is_infinite());
            ledger.finding(
                format!(
                    "The noise floor of {name}, {}, rests on {} of {} pairs of identical passes: the other {lost} are \
                     inf, their passes had no token in common where they were compared, and were dropped. {name} is \
                     not deterministic.",
                    of.summary[0].text,
                    decode.len(),
                    of.pairs.len()
                ),
                &[of.floor.0.line, line.map_or(of.floor.0.line, |pair| pair.decode.line)],
            );
        }
    }
}

fn tokens(ledger: &mut Ledger, log: &QuantizationLog) {
    for (index, outputs) in log.consistency.iter().enumerate() {
        let Some(first) = outputs.first() else { continue };
        for (configuration, output) in log.configurations.iter().zip(outputs) {
            let mark = |same: bool| if same { "✓" } else { "✗ DIFFERENT" };
            let name = format!("tokens of ref_{index} with {}", configuration.name);
            ledger.word(name, mark(output.same), mark(output.text == first.text), output.line);
        }
    }
    let models: std::collections::BTreeSet<&str> =
        log.configurations.iter().map(|one| one.model.as_str()).collect();
    if models.len() > 1 {
        let line = log.phases[0].aggregate.line;
        ledger.finding(
            format!(
                "Configurations load {} different models ({}): a distance between them is one between weights, not \
                 between kernels or formats of the same weights.",
                models.len(),
                models.into_iter().collect::<Vec<_>>().join(", ")
            ),
            &[line],
        );
    }
}

/// Whether two configurations show the same first tokens for a reference.
fn same_text(log: &QuantizationLog, reference: usize, a: usize, b: usize) -> bool {
    let text =
        |at: usize| log.consistency.get(reference).and_then(|of| of.get(at)).map(|output| &output.text);
    text(a).is_some() && text(a) == text(b)
}

fn phase(
    ledger: &mut Ledger,
    log: &QuantizationLog,
    printed: &QuantizationPhase,
    stored: Option<&SanityCheck>,
) {
    let mode = mode(printed.phase);
    for (index, matrix) in printed.references.iter().enumerate() {
        ledger.matrix(&format!("log-probabilities within {mode}, ref_{index}"), matrix);
        let stored = stored.and_then(|check| check.per_reference_matrices.get(index));
        let Some(stored) = stored else { continue };
        full(ledger, &format!("ref_{index}, {mode}"), &matrix.cells, stored);
    }
    ledger.matrix(&format!("log-probabilities within {mode}, average over references"), &printed.aggregate);
    if let Some(stored) = stored {
        full(ledger, &format!("average, {mode}"), &printed.aggregate.cells, &stored.matrix);
        let label = format!("off-diagonal mean, {mode}, stored by the companion file");
        if let (Some((mean, _)), Some(stored)) = (&printed.off_diagonal, stored.off_diagonal_mean) {
            ledger.figure(label, mean, Some(Range::exact(stored)), "the companion file");
        }
    }
    let cells: Vec<Vec<Vec<Range>>> = printed.references.iter().map(|matrix| ranges(&matrix.cells)).collect();
    let mean = mean_matrix(&cells);
    let inputs = format!("the cells of {} references", cells.len());
    let names = log.names();
    for (row, figures) in printed.aggregate.cells.iter().enumerate() {
        for (column, figure) in figures.iter().enumerate() {
            let label = format!("average within {mode}, {} × {}", names[row], names[column]);
            ledger.figure(label, figure, mean.get(row).and_then(|cells| cells.get(column)).copied(), &inputs);
        }
    }
    let off = mean.iter().enumerate().flat_map(|(row, cells)| {
        cells.iter().enumerate().filter(move |&(column, _)| column != row).map(|(_, &cell)| cell)
    });
    let off: Vec<Range> = off.collect();
    let kept = finite(off.iter().copied());
    off_diagonal(ledger, printed, mode, &kept, off.len());
    classes(ledger, printed, mode, &names);
    pairs(ledger, printed, mode, &names, &mean, stored);
    divergent(ledger, log, printed, mode);
}

/// What is printed about the cells off the diagonal, of which `kept` are finite.
fn off_diagonal(ledger: &mut Ledger, printed: &QuantizationPhase, mode: &str, kept: &[Range], all: usize) {
    if let Some(line) = printed.all_zero {
        let zero = kept.len() == all && kept.iter().all(|cell| cell.face.to_bits() == 0);
        let word = |zero: bool| if zero { "all exactly zero" } else { "not all zero" };
        ledger.word(format!("word for the comparisons of {mode}"), word(true), word(zero), line);
        if !zero {
            ledger.finding(
                format!(
                    "The log calls all comparisons of {mode} exactly zero and all configurations identical, where {} \
                     of {all} cells are inf: none could be compared.",
                    all - kept.len()
                ),
                &[line],
            );
        }
    }
    let Some((mean, [low, high])) = &printed.off_diagonal else { return };
    let inputs = format!("{} finite of {all} cells off the diagonal", kept.len());
    ledger.figure(format!("off-diagonal mean, {mode}"), mean, Range::mean(kept), &inputs);
    ledger.figure(format!("off-diagonal minimum, {mode}"), low, Range::min(kept), &inputs);
    ledger.figure(format!("off-diagonal maximum, {mode}"), high, Range::max(kept), &inputs);
    if kept.len() < all {
        ledger.finding(
            format!(
                "The off-diagonal mean and range of {mode}, {} and [{}, {}], leave out {} of {all} cells that are \
                 inf; only pairs of kernels for the same weights are left.",
                mean.text,
                low.text,
                high.text,
                all - kept.len()
            ),
            &[mean.line, low.line],
        );
    }
}

/// Printed cells against those that the companion file stores in full.
fn full(ledger: &mut Ledger, of: &str, printed: &[Vec<Printed>], stored: &[Vec<f64>]) {
    for (row, figures) in printed.iter().enumerate() {
        for (column, figure) in figures.iter().enumerate() {
            let Some(&value) = stored.get(row).and_then(|cells| cells.get(column)) else { continue };
            let label = format!("cell {row},{column} of {of}, stored by the companion file");
            ledger.figure(label, figure, Some(Range::exact(value)), "the companion file");
        }
    }
}

fn classes(ledger: &mut Ledger, printed: &QuantizationPhase, mode: &str, names: &[String]) {
    let mut classes: Vec<Vec<usize>> = Vec::new();
    let zero = |a: usize, b: usize| printed.aggregate.cells[a][b].value.to_bits() == 0;
    for index in 0..names.len() {
        match classes.iter_mut().find(|class| zero(class[0], index) && zero(index, class[0])) {
            Some(class) => class.push(index),
            None => classes.push(vec![index]),
        }
    }
    let follows: Vec<Vec<&String>> =
        classes.iter().map(|class| class.iter().map(|&index| &names[index]).collect()).collect();
    let label = format!("kernel equivalence classes, {mode}");
    let stated = &printed.classes;
    ledger.word(label, format!("{:?}", stated.value), format!("{follows:?}"), stated.line);
}

fn pairs(
    ledger: &mut Ledger,
    printed: &QuantizationPhase,
    mode: &str,
    names: &[String],
    mean: &[Vec<Range>],
    stored: Option<&SanityCheck>,
) {
    for pair in &printed.pairs {
        let index = |name: &String| names.iter().position(|other| other == name);
        let (Some(a), Some(b)) = (index(&pair.a), index(&pair.b)) else { continue };
        let label = format!("{} against {}, {mode}", pair.a, pair.b);
        let both = Range::mean(&[mean[a][b], mean[b][a]]);
        ledger.figure(label.clone(), &pair.distance, both, "the two mirrored averages");
        let distance = pair.distance.value;
        let word = if distance < SMALL {
            "SMALL"
        } else if distance < MODERATE {
            "MODERATE"
        } else {
            "LARGE"
        };
        ledger.word(format!("word for {label}"), pair.word.clone(), word, pair.distance.line);
        let name = format!("{}_vs_{}", pair.a, pair.b);
        let value = stored.and_then(|check| check.pairwise_distances.get(name.as_str()).copied());
        if let Some(value) = value {
            let label = format!("{label}, stored by the companion file");
            ledger.figure(label, &pair.distance, Some(Range::exact(value)), "the companion file");
        }
    }
}

/// Decode cells between outputs that part: no distance on equal tokens, finite or not.
fn divergent(ledger: &mut Ledger, log: &QuantizationLog, printed: &QuantizationPhase, mode: &str) {
    if printed.phase == Phase::Decode {
        let (mut infinite, mut finite, mut line) = (0, Vec::new(), printed.aggregate.line);
        for (reference, matrix) in printed.references.iter().enumerate() {
            for (row, cells) in matrix.cells.iter().enumerate() {
                for (column, cell) in cells.iter().enumerate().skip(row + 1) {
                    if same_text(log, reference, row, column) {
                        continue;
                    }
                    if cell.value.is_infinite() {
                        infinite += 1;
                    } else {
                        finite.push(format!("ref_{reference}"));
                        line = cell.line;
                    }
                }
            }
        }
        let numbers = finite.len();
        finite.dedup();
        if infinite > 0 && !finite.is_empty() {
            ledger.finding(
                format!(
                    "Where the outputs of two configurations part within their first tokens, decode prints inf in \
                     {infinite} pairs and a finite distance in {numbers} ({}): the finite ones only mean that ids of \
                     different texts happened to coincide. None of them compares equal tokens.",
                    finite.join(", ")
                ),
                &[line],
            );
        }
        return;
    }
    let mut asymmetric = Vec::new();
    for (reference, matrix) in printed.references.iter().enumerate() {
        for (row, cells) in matrix.cells.iter().enumerate() {
            for (column, cell) in cells.iter().enumerate().skip(row + 1) {
                let mirrored = &matrix.cells[column][row];
                if cell.text != mirrored.text {
                    asymmetric.push((reference, row, column, cell, mirrored));
                }
            }
        }
    }
    let count = asymmetric.len();
    if let Some((reference, row, column, cell, mirrored)) = asymmetric.into_iter().next() {
        let names = log.names();
        ledger.finding(
            format!(
                "{count} pairs of mirrored cells of {mode} differ, first {} × {} of ref_{reference} ({} against {}): \
                 each side looks up its own candidates and drops those that the other side lacks, so the two count \
                 different tokens.",
                names[row], names[column], cell.text, mirrored.text
            ),
            &[cell.line, mirrored.line],
        );
    }
}

fn signal_to_noise(
    ledger: &mut Ledger,
    log: &QuantizationLog,
    separation: &Separation,
    companion: Option<&QuantGeneration>,
) {
    let floors: Vec<Range> = log.repetitions.iter().map(|of| Range::of(&of.summary[0])).collect();
    let floor = Range::mean(&floors);
    let decode = &log.phases[1];
    let inputs = format!("the decode floors of {} configurations", floors.len());
    ledger.figure("noise floor of the SNR", &separation.noise_floor, floor, &inputs);
    let signal = decode.off_diagonal.as_ref().map(|(mean, _)| Range::of(mean));
    ledger.figure("signal of the SNR", &separation.signal, signal, "the off-diagonal mean of decode");
    let snr = floor.zip(signal).and_then(|(floor, signal)| signal.over(floor));
    ledger.figure("SNR of quantization", &separation.snr, snr, "signal and noise floor");
    let word = &separation.word;
    if let Some([low, high]) = &separation.band {
        let inside = separation.snr.value > low.value && separation.snr.value < high.value;
        let follows = if inside { "MARGINALLY" } else { "not MARGINALLY" };
        ledger.word("word for the SNR of quantization", word.value.clone(), follows, word.line);
    } else {
        ledger.unfounded("word for the SNR of quantization", word.value.clone(), "its band", word.line);
    }
    let stored = companion.and_then(|file| file.file.snr_analysis.as_ref());
    if let Some(stored) = stored {
        for (label, printed, value) in [
            ("noise floor of the SNR", &separation.noise_floor, stored.noise_floor),
            ("signal of the SNR", &separation.signal, stored.signal),
            ("SNR of quantization", &separation.snr, stored.snr),
        ] {
            let Some(value) = value else { continue };
            let label = format!("{label}, stored by the companion file");
            ledger.figure(label, printed, Some(Range::exact(value)), "the companion file");
        }
    }
    let cells = decode.aggregate.cells.iter().flatten();
    let infinite = cells.filter(|cell| cell.value.is_infinite()).count();
    let silent = floors.iter().filter(|floor| floor.face.to_bits() == 0).count();
    if infinite > 0 {
        ledger.finding(
            format!(
                "SNR {}× drops {infinite} cells that are inf from its signal, so only kernels for the same weights \
                 are left, and averages {silent} floors of exactly zero with {} that are not.",
                separation.snr.text,
                floors.len() - silent
            ),
            &[separation.snr.line],
        );
    }
}

/// Pairs with the same tokens against the floors of their own two members.
fn own_floors(ledger: &mut Ledger, log: &QuantizationLog) {
    let names = log.names();
    for pair in &log.phases[1].pairs {
        let index = |name: &String| names.iter().position(|other| other == name);
        let (Some(a), Some(b)) = (index(&pair.a), index(&pair.b)) else { continue };
        if (0..log.consistency.len()).any(|reference| !same_text(log, reference, a, b)) {
            continue;
        }
        let floors = [&log.repetitions[a].summary[0], &log.repetitions[b].summary[0]];
        let mut lines = vec![pair.distance.line, floors[0].line, floors[1].line];
        lines.extend(log.separation.as_ref().map(|separation| separation.word.line));
        let printed = |of: fn(&Separation) -> &str| log.separation.as_ref().map(of);
        if floors.iter().all(|floor| floor.value.to_bits() == 0) && pair.distance.value > 0.0 {
            let word = printed(|separation| &separation.word.value);
            let instead = word.map(|word| format!(", not {}", word.to_lowercase())).unwrap_or_default();
            ledger.finding(
                format!(
                    "{} and {} are both printed as deterministic and differ by {}: on this machine they are told \
                     apart exactly{instead}.",
                    pair.a, pair.b, pair.distance.text
                ),
                &lines,
            );
        } else if let Some(largest) = floors.iter().map(|floor| floor.value).reduce(f64::max) {
            let snr = printed(|separation| &separation.snr.text);
            let instead = snr.map(|snr| format!(", not {snr}×")).unwrap_or_default();
            ledger.finding(
                format!(
                    "{} and {} differ by {}, {:.1}× the larger of their own floors ({}){instead}.",
                    pair.a,
                    pair.b,
                    pair.distance.text,
                    pair.distance.value / largest,
                    digits(largest, &pair.distance.text)
                ),
                &lines,
            );
        }
    }
}
