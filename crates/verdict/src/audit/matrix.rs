//! Claimed × verified, as published experiments print it.

use mantissa_compare::ReplayFacts;
use mantissa_compare::replayed::SignalReplay;
use mantissa_numerics::Phase;

use super::case::{Case, SetupFacts};
use crate::analysis::{Cell, Matrix, MatrixKind, Signal, State};

impl Case {
    /// One matrix per phase and signal that anything was compared in: rows are claims, columns candidates. None where
    /// replays ended at their first contradiction: what came after has no distance.
    ///
    /// ```
    /// use mantissa_compare::ReplayFacts;
    /// use mantissa_numerics::{Dtype, Point, Site};
    /// use mantissa_verdict::audit::{Case, RunFacts, SetupFacts};
    ///
    /// let mut facts = ReplayFacts::default();
    /// facts.prefill.row((0, -1), Site::at(1, Point::K), Dtype::F32, &[0; 4], &[0; 4]);
    /// let case = Case {
    ///     candidates: vec!["bs1".into()],
    ///     setups: vec![SetupFacts {
    ///         config_id: "bs1".into(),
    ///         claim: Some(0),
    ///         runs: vec![RunFacts { classes: vec![(vec![0], facts)], ..RunFacts::default() }],
    ///         ..SetupFacts::default()
    ///     }],
    ///     ..Case::default()
    /// };
    /// assert_eq!(case.matrices()[0].cells[0][0].value, Some(0.0));
    /// ```
    #[must_use]
    pub fn matrices(&self) -> Vec<Matrix> {
        let mut matrices = Vec::new();
        let mut facts = self.setups.iter().flat_map(|setup| &setup.runs).flat_map(|run| &run.classes);
        if facts.any(|(_, facts)| facts.passes < facts.passes_in_all) {
            return matrices;
        }
        for phase in [Phase::Prefill, Phase::Decode] {
            for signal in [Signal::HiddenStates, Signal::KeyVectors, Signal::Logprobs] {
                let cells: Vec<Vec<Cell>> = self
                    .setups
                    .iter()
                    .map(|setup| (0..self.candidates.len()).map(|c| cell(setup, c, phase, signal)).collect())
                    .collect();
                if cells.iter().flatten().all(|cell| cell.n == 0) {
                    continue;
                }
                matrices.push(Matrix {
                    title: "Claimed × verified".to_owned(),
                    kind: MatrixKind::ClaimedVerified,
                    phase,
                    signal,
                    reference: None,
                    statistic: "mean L2 over rows".to_owned(),
                    rows: self.setups.iter().map(|setup| setup.config_id.clone()).collect(),
                    columns: self.candidates.clone(),
                    cells,
                });
            }
        }
        matrices
    }
}

fn cell(setup: &SetupFacts, candidate: usize, phase: Phase, signal: Signal) -> Cell {
    let mut all = SignalReplay::default();
    let mut runs = 0;
    for run in &setup.runs {
        let found = run.classes.iter().find(|(members, _)| members.contains(&candidate));
        let Some((_, facts)) = found else { continue };
        let one: &SignalReplay = &of(facts, phase, signal);
        all.rows += one.rows;
        all.different += one.different;
        all.without_distance += one.without_distance;
        all.sum_l2 += one.sum_l2;
        runs += 1;
    }
    let state = match all {
        SignalReplay { rows: 0, .. } => State::Missing,
        SignalReplay { different: 0, .. } => State::Equal,
        _ => State::Different,
    };
    let value = match state {
        State::Equal => Some(0.0),
        State::Different => all.mean_l2(),
        _ => None,
    };
    Cell { state, value, n: if all.rows == 0 { 0 } else { runs }, citation: None }
}

const fn of(facts: &ReplayFacts, phase: Phase, signal: Signal) -> SignalReplay {
    facts.phase(phase).signals[match signal {
        Signal::HiddenStates => 0,
        Signal::KeyVectors => 1,
        Signal::Logprobs => 2,
    }]
}
