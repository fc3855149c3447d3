//! The printed figures of the attention log, recomputed from its own cells and from its companion file.

use mantissa_numerics::Phase;

use super::reader::{AttentionLog, AttentionPhase, AttentionSignal};
use crate::attention_verification::reader::{File, PhaseDistances};
use crate::log::ledger::Ledger;
use crate::log::printed::Printed;
use crate::log::range::{Range, ranges, split};
use crate::sheet::{Sheet, Signal};

/// Every printed figure of `log` against its own cells, and against `companion` where that file stores them in full.
pub(crate) fn sheet(log: &AttentionLog, companion: Option<&File>) -> Sheet {
    let mut ledger = Ledger::new("attention", &[Signal::KeyVectors, Signal::Logprobs]);
    let parts = log.prompt.value;
    let sum = parts[..3].iter().fold(0_u64, |sum, &part| sum.saturating_add(part));
    ledger.word("tokens of a prompt", parts[3].to_string(), sum.to_string(), log.prompt.line);
    for check in &log.versions {
        let follows = if check.generator == check.verifier { "✓" } else { "✗" };
        ledger.word(format!("{} on both machines", check.name), check.mark.clone(), follows, check.line);
    }
    let companion = companion.filter(|file| file.metadata.reference_file == log.reference_file);
    for printed in &log.phases {
        let stored = companion.map(|file| match printed.phase {
            Phase::Prefill => &file.cross_hardware.prefill,
            Phase::Decode => &file.cross_hardware.decode,
        });
        phase(&mut ledger, log, printed, stored);
    }
    ledger.finish()
}

/// Full-precision figures of one signal.
struct Stored<'a> {
    matrix: &'a [Vec<f64>],
    diagonal: Option<f64>,
    off_diagonal: Option<f64>,
    snr: Option<f64>,
}

fn phase(ledger: &mut Ledger, log: &AttentionLog, printed: &AttentionPhase, stored: Option<&PhaseDistances>) {
    let mode = match printed.phase {
        Phase::Prefill => "prefill",
        Phase::Decode => "decode",
    };
    let keys = stored.map(|of| Stored {
        matrix: &of.key_matrix,
        diagonal: of.diagonal_key,
        off_diagonal: of.off_diagonal_key,
        snr: of.key_snr,
    });
    let logprobs = stored.map(|of| Stored {
        matrix: &of.logprob_matrix,
        diagonal: of.diagonal_logprob,
        off_diagonal: of.off_diagonal_logprob,
        snr: of.logprob_snr,
    });
    for (name, of, stored) in
        [("key vectors", &printed.keys, keys), ("log-probabilities", &printed.logprobs, logprobs)]
    {
        signal(ledger, log, &format!("{name}, {mode}"), of, stored.as_ref());
    }
}

fn signal(
    ledger: &mut Ledger,
    log: &AttentionLog,
    name: &str,
    printed: &AttentionSignal,
    stored: Option<&Stored>,
) {
    ledger.matrix(&format!("{name}, claimed × verified"), &printed.matrix);
    let cells = ranges(&printed.matrix.cells);
    let (diagonal, off) = split(&cells);
    let (noise, apart) = (Range::mean(&diagonal), Range::mean(&off));
    let inputs = "the cells of the printed matrix";
    let snr = apart.zip(noise).and_then(|(apart, noise)| apart.over(noise));
    ledger.figure(format!("diagonal mean of {name}"), &printed.diagonal_mean, noise, inputs);
    ledger.figure(format!("off-diagonal mean of {name}"), &printed.off_diagonal_mean, apart, inputs);
    ledger.figure(format!("SNR of {name}"), &printed.snr, snr, inputs);
    for (row, figures) in printed.matrix.cells.iter().enumerate() {
        for (column, figure) in figures.iter().enumerate() {
            let label = format!(
                "distance of {name}, {} verified as {}",
                printed.matrix.rows[row], printed.matrix.columns[column]
            );
            match stored.and_then(|of| of.matrix.get(row)?.get(column)) {
                Some(&value) => ledger.figure(label, figure, Some(Range::exact(value)), "the companion file"),
                None => ledger.figure(
                    label,
                    figure,
                    None,
                    "distances of the references it averages are not stored",
                ),
            }
        }
    }
    if let Some(stored) = stored {
        let mut compare = |what: &str, figure: &Printed, value: Option<f64>| {
            let Some(value) = value else { return };
            let label = format!("{what} of {name}, stored by the companion file");
            ledger.figure(label, figure, Some(Range::exact(value)), "the companion file");
        };
        compare("diagonal mean", &printed.diagonal_mean, stored.diagonal);
        compare("off-diagonal mean", &printed.off_diagonal_mean, stored.off_diagonal);
        compare("SNR", &printed.snr, stored.snr);
    }
    pairs(ledger, log, name, printed, &cells);
    nearest(ledger, name, printed);
    asymmetry(ledger, name, printed);
}

/// Each pair against its own baseline.
fn pairs(
    ledger: &mut Ledger,
    log: &AttentionLog,
    name: &str,
    printed: &AttentionSignal,
    cells: &[Vec<Range>],
) {
    for (first, a) in log.implementations.iter().enumerate() {
        for (second, b) in log.implementations.iter().enumerate().skip(first + 1) {
            let apart = Range::mean(&[cells[first][second], cells[second][first]]);
            let own = Range::mean(&[cells[first][first], cells[second][second]]);
            let Some(ratio) = apart.zip(own).and_then(|(apart, own)| apart.over(own)) else { continue };
            // Hidden: the pool is several times the baseline, the pair is not.
            if printed.snr.value >= 2.0 && ratio.face < printed.snr.value / 2.0 {
                ledger.finding(
                    format!(
                        "The pooled SNR of {name}, {}×, hides {a} against {b}: {:.2}× its own baseline.",
                        printed.snr.text, ratio.face
                    ),
                    &[printed.snr.line, printed.matrix.cells[first][second].line],
                );
            }
        }
    }
}

/// Claims that another implementation reproduces better than their own.
fn nearest(ledger: &mut Ledger, name: &str, printed: &AttentionSignal) {
    let matrix = &printed.matrix;
    for (row, cells) in matrix.cells.iter().enumerate() {
        for (column, cell) in cells.iter().enumerate() {
            if cell.value + cell.half_unit < cells[row].value - cells[row].half_unit {
                ledger.finding(
                    format!(
                        "For {name}, evidence of {} is nearer to the replay with {} ({}) than to the one with {} \
                         itself ({}).",
                        matrix.rows[row], matrix.columns[column], cell.text, matrix.rows[row], cells[row].text
                    ),
                    &[cell.line],
                );
            }
        }
    }
}

/// Mirrored cells far apart: averaged into one figure all the same.
fn asymmetry(ledger: &mut Ledger, name: &str, printed: &AttentionSignal) {
    let matrix = &printed.matrix;
    let mut worst: Option<(f64, usize, usize)> = None;
    for (row, cells) in matrix.cells.iter().enumerate() {
        for (column, cell) in cells.iter().enumerate() {
            let mirrored = matrix.cells[column][row].value;
            let ratio = cell.value / mirrored;
            if mirrored > 0.0 && ratio.is_finite() && worst.is_none_or(|(most, ..)| ratio > most) {
                worst = Some((ratio, row, column));
            }
        }
    }
    if let Some((ratio, row, column)) = worst.filter(|(ratio, ..)| *ratio >= 1.5) {
        let (cell, mirrored) = (&matrix.cells[row][column], &matrix.cells[column][row]);
        ledger.finding(
            format!(
                "Mirrored cells of {name} are not alike, {} against {} ({ratio:.1}×) for {} and {}: what was claimed \
                 and what was verified are different questions, averaged into one figure.",
                cell.text, mirrored.text, matrix.rows[row], matrix.columns[column]
            ),
            &[cell.line, mirrored.line],
        );
    }
}
