//! The averages and quotients that such a log prints, recomputed from its own cells.

use mantissa_numerics::Phase;

use super::reader::MatrixLog;
use super::section::Group;
use super::summary::Stated;
use crate::log::ledger::Ledger;
use crate::log::printed::Printed;
use crate::log::range::{Range, mean_matrix, ranges, split};
use crate::sheet::{Sheet, Signal};

/// Every printed average against the cells behind it.
pub(crate) fn sheet(log: &MatrixLog) -> Sheet {
    let mut signals: Vec<Signal> = Vec::new();
    for group in log.groups() {
        if !signals.contains(&group.signal) {
            signals.push(group.signal);
        }
    }
    let mut ledger = Ledger::new(log.variable, &signals);
    for group in log.groups() {
        of_group(&mut ledger, log, group);
    }
    ledger.finish()
}

fn about(group: Group) -> String {
    let signal = match group.signal {
        Signal::Logprobs => "log-probabilities",
        _ => "key vectors",
    };
    let phase = match group.phase {
        Phase::Prefill => "prefill",
        Phase::Decode => "decode",
    };
    let how = if group.across { "claimed × verified" } else { "within one machine" };
    format!("{signal}, {phase}, {how}")
}

fn of_group(ledger: &mut Ledger, log: &MatrixLog, group: Group) {
    let about = about(group);
    let (each, average) = log.of(group);
    for one in &each {
        ledger.matrix(&format!("{about}, {}", one.reference.as_deref().unwrap_or_default()), &one.printed);
    }
    let Some(average) = average else { return };
    ledger.matrix(&format!("{about}, average over references"), &average.printed);
    let printed = ranges(&average.printed.cells);
    let cells: Vec<Vec<Vec<Range>>> = each.iter().map(|one| ranges(&one.printed.cells)).collect();
    let mean = if cells.is_empty() { printed.clone() } else { mean_matrix(&cells) };
    if !cells.is_empty() {
        let inputs = format!("the cells of {} references", cells.len());
        let names = &average.printed.rows;
        for (row, figures) in average.printed.cells.iter().enumerate() {
            for (column, figure) in figures.iter().enumerate() {
                let label = format!("average of {about}, {} × {}", names[row], names[column]);
                let follows = mean.get(row).and_then(|cells| cells.get(column)).copied();
                ledger.figure(label, figure, follows, &inputs);
            }
        }
    }
    // A statement that names no signal may be about the keys beside.
    let sibling = Group { signal: Signal::KeyVectors, ..group };
    let beside = log.of(sibling).1.filter(|_| sibling != group);
    let beside = beside.map(|keys| ranges(&keys.printed.cells));
    summaries(
        ledger,
        log,
        group,
        &about,
        [&printed, beside.as_ref().unwrap_or(&printed)],
        &average.printed.rows,
    );
}

fn summaries(
    ledger: &mut Ledger,
    log: &MatrixLog,
    group: Group,
    about: &str,
    [cells, beside]: [&Vec<Vec<Range>>; 2],
    names: &[String],
) {
    let stated: Vec<&Stated> =
        log.summaries.iter().filter(|one| one.group == group).map(|one| &one.stated).collect();
    // Pairs are listed once for both signals.
    let pairs = || {
        log.summaries.iter().filter(|one| one.group.phase == group.phase && one.group.across == group.across)
    };
    let excluded: Vec<&[String; 2]> = pairs()
        .filter_map(|one| match &one.stated {
            Stated::Excluded(pair) => Some(&pair.value),
            _ => None,
        })
        .collect();
    let left_out =
        |a: &String, b: &String| excluded.iter().any(|[x, y]| (x, y) == (a, b) || (y, x) == (a, b));
    let (diagonal, off) = split(cells);
    let finite =
        |of: &[Range]| -> Vec<Range> { of.iter().copied().filter(|one| one.face.is_finite()).collect() };
    let off_finite = finite(&off);
    let kept: Vec<Range> = cells
        .iter()
        .enumerate()
        .flat_map(|(i, row)| row.iter().enumerate().map(move |(j, cell)| (i, j, *cell)))
        .filter(|&(i, j, cell)| i != j && !left_out(&names[i], &names[j]) && cell.face.is_finite())
        .map(|(_, _, cell)| cell)
        .collect();
    let noise = Range::mean(&diagonal);
    let (signal, signal_kept) = (Range::mean(&off_finite), Range::mean(&kept));
    let beside_off = finite(&split(beside).1);
    // Of the two signals, the one that the figure follows from.
    let either = |printed: &Printed, own: Option<Range>, other: Option<Range>| match other {
        Some(other) if !own.is_some_and(|own| own.meets(printed)) && other.meets(printed) => Some(other),
        _ => own,
    };
    let over = |signal: Option<Range>| signal.zip(noise).and_then(|(signal, noise)| signal.over(noise));
    let inputs = "the printed averages";
    let quotient = |ledger: &mut Ledger, name: String, printed: &Printed, signal: Option<Range>| {
        let silent = noise.is_some_and(|noise| noise.face.to_bits() == 0);
        if silent && printed.value.is_infinite() {
            ledger.word(name, printed.text.clone(), "inf", printed.line);
        } else {
            ledger.figure(name, printed, over(signal), inputs);
        }
    };
    let mut classes = Vec::new();
    for stated in stated {
        match stated {
            Stated::Diagonal(printed) => {
                ledger.figure(format!("diagonal of {about}"), printed, noise, inputs);
            }
            Stated::OffDiagonal(printed) => {
                let follows = either(printed, signal, Range::mean(&beside_off));
                ledger.figure(format!("off-diagonal mean of {about}"), printed, follows, inputs);
            }
            Stated::Kept(printed) => {
                ledger.figure(
                    format!("off-diagonal mean without excluded pairs of {about}"),
                    printed,
                    signal_kept,
                    inputs,
                );
            }
            Stated::Snr(printed) => quotient(ledger, format!("SNR of {about}"), printed, signal),
            Stated::SnrKept(printed) => {
                quotient(ledger, format!("SNR without excluded pairs of {about}"), printed, signal_kept);
            }
            Stated::Range([low, high]) => {
                ledger.figure(
                    format!("off-diagonal minimum of {about}"),
                    low,
                    Range::min(&off_finite),
                    inputs,
                );
                ledger.figure(
                    format!("off-diagonal maximum of {about}"),
                    high,
                    Range::max(&off_finite),
                    inputs,
                );
            }
            Stated::Class(class) => classes.push(class),
            Stated::Count(count) => {
                let (printed, follows) = (count.value.to_string(), kept.len().to_string());
                ledger.word(format!("cells kept of {about}"), printed, follows, count.line);
            }
            Stated::Excluded(_) => {}
        }
    }
    if let Some(first) = classes.first() {
        let printed: Vec<&Vec<String>> = classes.iter().map(|class| &class.value).collect();
        let (own, keys) = (zero_classes(cells, names), zero_classes(beside, names));
        let follows = if printed.iter().copied().eq(&keys) { keys } else { own };
        ledger.word(
            format!("kernel equivalence classes of {about}"),
            format!("{printed:?}"),
            format!("{follows:?}"),
            first.line,
        );
    }
}

/// Values grouped by averages of exactly zero, in both directions.
fn zero_classes(cells: &[Vec<Range>], names: &[String]) -> Vec<Vec<String>> {
    let zero = |a: usize, b: usize| cells[a][b].face.to_bits() == 0 && cells[b][a].face.to_bits() == 0;
    let mut classes: Vec<Vec<usize>> = Vec::new();
    for index in 0..names.len() {
        match classes.iter_mut().find(|class| class.iter().any(|&member| zero(member, index))) {
            Some(class) => class.push(index),
            None => classes.push(vec![index]),
        }
    }
    classes.iter().map(|class| class.iter().map(|&index| names[index].clone()).collect()).collect()
}
