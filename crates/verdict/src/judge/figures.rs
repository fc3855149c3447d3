//! Matrices between setups, profiles along layers and tokens, and where setups first differ.

use std::collections::BTreeSet;

use mantissa_evidence::record::RowKey;
use mantissa_numerics::Phase;

use super::measure::{Lane, RowId};
use super::parts::Parts;
use super::recorded::Recorded;
use super::values::mean;
use crate::analysis::{
    Axis, Cell, FirstDifference, FirstDifferences, Matrix, MatrixKind, Profile, Signal, State,
};
use crate::said::words;

/// Adds every matrix, profile and map of first differences.
pub(super) fn add(recorded: &Recorded<'_>, parts: &mut Parts) {
    for lane in recorded.facts.lanes() {
        for hardware in recorded.setups.hardware() {
            let on = recorded.setups.on(hardware);
            matrices(recorded, lane, MatrixKind::WithinMode, hardware, (&on, &on), parts);
        }
        for (here, there) in recorded.hardware_pairs() {
            let scope = format!("{here} against {there}");
            let (rows, columns) = (recorded.setups.on(here), recorded.setups.on(there));
            matrices(recorded, lane, MatrixKind::CrossHardware, &scope, (&rows, &columns), parts);
        }
        for hardware in recorded.setups.hardware() {
            let pairs = recorded.pairs_on(hardware);
            let reference = pairs.first().map(|pair| pair.0);
            for (a, b) in pairs.into_iter().filter(|pair| Some(pair.0) == reference) {
                profiles(recorded, lane, a, b, parts);
            }
        }
        parts.first_differences.extend(first_differences(recorded, lane));
    }
}

fn matrices(
    recorded: &Recorded<'_>,
    lane: Lane,
    kind: MatrixKind,
    scope: &str,
    (rows, columns): (&[usize], &[usize]),
    parts: &mut Parts,
) {
    let labels =
        |setups: &[usize]| setups.iter().map(|&setup| recorded.label(setup).to_owned()).collect::<Vec<_>>();
    let statistic = match lane.1 {
        Signal::Logprobs => "mean over positions of the root mean square over common token ids",
        Signal::HiddenStates | Signal::KeyVectors => "mean L2 over sites, steps and positions",
    };
    let all: Vec<usize> = (0..recorded.setups.prompts.len()).collect();
    let mut over: Vec<(Option<usize>, &[usize])> = vec![(None, &all)];
    if all.len() > 1 {
        over.extend(all.iter().map(|prompt| (Some(*prompt), std::slice::from_ref(prompt))));
    }
    for (reference, prompts) in over {
        let reference = reference.or_else(|| (all.len() == 1).then_some(0));
        let name = reference.map(|prompt| recorded.setups.prompts[prompt].clone());
        let what = name
            .clone()
            .unwrap_or_else(|| format!("average over {}", words::count(all.len() as u64, "reference")));
        let cells = rows
            .iter()
            .map(|&row| columns.iter().map(|&column| cell(recorded, lane, row, column, prompts)).collect())
            .collect();
        parts.matrices.push(Matrix {
            title: format!("{}, {scope}, {what}", words::lane(lane.0, lane.1)),
            kind,
            phase: lane.0,
            signal: lane.1,
            reference: name,
            statistic: statistic.to_owned(),
            rows: labels(rows),
            columns: labels(columns),
            cells,
        });
    }
}

fn cell(recorded: &Recorded<'_>, lane: Lane, row: usize, column: usize, prompts: &[usize]) -> Cell {
    let citation = prompts.iter().find_map(|&prompt| recorded.setups.cite(row, prompt));
    if row == column {
        return diagonal(recorded, lane, row, prompts);
    }
    let (mut values, mut states) = (Vec::new(), Vec::new());
    for &prompt in prompts {
        if let Some(found) = recorded.facts.measured(row, column, prompt, lane) {
            states.extend(found.states());
            values.extend(found.mean(|_| true));
        } else if [row, column].iter().any(|&setup| recorded.facts.has(setup, prompt, lane)) {
            states.push(State::Missing);
        }
    }
    // Equal only where nothing is missing and nothing was left out.
    let compared = states.iter().any(|state| matches!(state, State::Different | State::Equal));
    let gaps =
        if compared { [State::Missing, State::Incomparable] } else { [State::Incomparable, State::Missing] };
    let state =
        [State::Different, gaps[0], gaps[1], State::Equal].into_iter().find(|state| states.contains(state));
    let state = state.unwrap_or(State::Missing);
    let value = mean(&values).filter(|_| matches!(state, State::Different | State::Equal));
    Cell { state, value, n: values.len() as u64, citation }
}

/// A setup against itself: its repetitions.
fn diagonal(recorded: &Recorded<'_>, lane: Lane, setup: usize, prompts: &[usize]) -> Cell {
    let distances: Vec<f64> = prompts
        .iter()
        .filter_map(|&prompt| recorded.repeats.distances.get(&(setup, prompt))?.get(&lane).copied())
        .collect();
    let state = if recorded.repeats.differing.contains(&(setup, lane.0)) {
        State::Different
    } else if recorded.repeats.shown.contains(&(setup, lane.0)) {
        State::Equal
    } else {
        State::Missing
    };
    let value = match state {
        State::Equal => Some(0.0),
        State::Different => mean(&distances),
        State::Missing | State::Incomparable => None,
    };
    let citation = prompts.iter().find_map(|&prompt| recorded.setups.cite(setup, prompt));
    Cell { state, value, n: distances.len() as u64, citation }
}

fn profiles(recorded: &Recorded<'_>, lane: Lane, a: usize, b: usize, parts: &mut Parts) {
    for axis in [Axis::Layer, Axis::Token] {
        let coordinate = |row: &RowId| match axis {
            Axis::Layer => row.0.and_then(|site| site.layer).map(|layer| i64::from(layer.0)),
            Axis::Token => Some(token(lane.0, row)),
        };
        let measured: Vec<_> = (0..recorded.setups.prompts.len())
            .filter_map(|prompt| recorded.facts.measured(a, b, prompt, lane))
            .collect();
        let coordinates: BTreeSet<i64> =
            measured.iter().flat_map(|found| found.all_rows()).filter_map(|row| coordinate(&row)).collect();
        if coordinates.len() < 2 {
            continue;
        }
        let points = coordinates.into_iter().map(|at| {
            let means: Vec<f64> =
                measured.iter().filter_map(|found| found.mean(|row| coordinate(row) == Some(at))).collect();
            (at, mean(&means))
        });
        parts.profiles.push(Profile {
            a: recorded.label(a).to_owned(),
            b: recorded.label(b).to_owned(),
            phase: lane.0,
            signal: lane.1,
            axis,
            points: points.collect(),
            citation: (0..recorded.setups.prompts.len()).find_map(|prompt| recorded.setups.cite(a, prompt)),
        });
    }
}

/// Where setups that were judged against each other first differ; absent where none does.
fn first_differences(recorded: &Recorded<'_>, lane: Lane) -> Option<FirstDifferences> {
    let (mut layers, mut tokens, mut found) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    let on_one = recorded.setups.hardware().into_iter().flat_map(|hardware| recorded.pairs_on(hardware));
    let on_two = recorded.hardware_pairs();
    let on_two = on_two.into_iter().flat_map(|(here, there)| recorded.twins(here, there));
    for (a, b) in on_one.chain(on_two) {
        for prompt in 0..recorded.setups.prompts.len() {
            let Some(measured) = recorded.facts.measured(a, b, prompt, lane) else { continue };
            layers.extend(measured.all_rows().filter_map(|row| Some(row.0?.layer?.0)));
            tokens.extend(measured.all_rows().map(|row| token(lane.0, &row)));
            // In the order of computation: a whole pass goes through a layer before the next.
            let first =
                measured.different.iter().min_by_key(|(site, step, position)| (*step, *site, *position));
            let place = first.map(|row| (row.0, token(lane.0, row)));
            found.extend(place.map(|(site, token)| FirstDifference {
                a: recorded.label(a).to_owned(),
                b: recorded.label(b).to_owned(),
                reference: recorded.setups.prompts[prompt].clone(),
                site: site.map(|site| site.to_string()),
                layer: site.and_then(|site| site.layer).map(|layer| layer.0),
                token,
            }));
        }
    }
    let (phase, signal) = lane;
    let (layers, tokens) = (layers.into_iter().collect(), tokens.into_iter().collect());
    (!found.is_empty()).then_some(FirstDifferences { phase, signal, layers, tokens, found })
}

/// The token of a row.
fn token(phase: Phase, &(_, step, position): &RowId) -> i64 {
    RowKey { phase, step, position }.token()
}
