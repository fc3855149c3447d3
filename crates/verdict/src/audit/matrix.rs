//! Claimed × verified, as published experiments print it.

use std::collections::BTreeSet;

use mantissa_compare::SignalKind;
use mantissa_compare::replayed::SignalReplay;
use mantissa_numerics::Phase;

use super::case::{Case, SetupFacts};
use crate::analysis::{Cell, Matrix, MatrixKind, State};

impl Case {
    /// One matrix per phase and signal that anything was compared in: rows are claims, columns candidates. Where there
    /// are several reference prompts, that of all comes first, then one of each. None where replays ended at their
    /// first contradiction: what came after has no distance.
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
        let runs = || self.setups.iter().flat_map(|setup| &setup.runs);
        let prompts: BTreeSet<u32> = runs().map(|run| run.reference_id).collect();
        let single = prompts.iter().copied().map(Some).filter(|_| prompts.len() > 1);
        let references: Vec<Option<u32>> = std::iter::once(None).chain(single).collect();
        for phase in [Phase::Prefill, Phase::Decode] {
            for kind in SignalKind::ALL {
                let of = |&reference: &Option<u32>| self.matrix(phase, kind, reference);
                matrices.extend(references.iter().filter_map(of));
            }
        }
        matrices
    }

    /// The matrix of one reference prompt, or of all; absent where nothing was compared.
    fn matrix(&self, phase: Phase, kind: SignalKind, reference: Option<u32>) -> Option<Matrix> {
        let row = |setup| -> Vec<Cell> {
            (0..self.candidates.len()).map(|c| cell(setup, c, (phase, kind), reference)).collect()
        };
        let cells: Vec<Vec<Cell>> = self.setups.iter().map(row).collect();
        cells.iter().flatten().any(|cell| cell.n > 0).then(|| Matrix {
            title: "Claimed × verified".to_owned(),
            kind: MatrixKind::ClaimedVerified,
            phase,
            signal: kind.into(),
            reference: reference.map(|id| id.to_string()),
            statistic: "mean L2 over rows".to_owned(),
            rows: self.setups.iter().map(|setup| setup.config_id.clone()).collect(),
            columns: self.candidates.clone(),
            cells,
        })
    }
}

fn cell(
    setup: &SetupFacts,
    candidate: usize,
    (phase, kind): (Phase, SignalKind),
    reference: Option<u32>,
) -> Cell {
    let mut all = SignalReplay::default();
    let mut runs = 0;
    for run in setup.runs.iter().filter(|run| reference.is_none_or(|id| run.reference_id == id)) {
        let found = run.classes.iter().find(|(members, _)| members.contains(&candidate));
        let Some((_, facts)) = found else { continue };
        all.add(facts.phase(phase).signals[kind as usize]);
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

#[cfg(test)]
mod tests {
    use mantissa_compare::ReplayFacts;
    use mantissa_numerics::{Dtype, Point, Site};

    use super::super::case::RunFacts;
    use super::*;

    fn case(references: &[(u32, f32)]) -> Case {
        let runs = references.iter().map(|&(reference_id, evidence)| {
            let mut facts = ReplayFacts::default();
            let (evidence, replay) = (evidence.to_le_bytes(), 0.0_f32.to_le_bytes());
            facts.decode.row((0, -1), Site::at(1, Point::K), Dtype::F32, &evidence, &replay);
            RunFacts { reference_id, classes: vec![(vec![0], facts)], ..RunFacts::default() }
        });
        let setup = SetupFacts { claim: Some(0), runs: runs.collect(), ..SetupFacts::default() };
        Case { candidates: vec!["bs1".into()], setups: vec![setup], ..Case::default() }
    }

    /// All prompts together come first, then each alone; a prompt alone needs no second matrix.
    #[test]
    fn each_prompt_has_its_matrix_beside_that_of_all() {
        let found = case(&[(7, 0.0), (3, 1.0)]).matrices();
        let of = |matrix: &Matrix| {
            let cell = &matrix.cells[0][0];
            (matrix.reference.clone(), cell.state, cell.value, cell.n)
        };
        assert_eq!(
            found.iter().map(of).collect::<Vec<_>>(),
            [
                (None, State::Different, Some(0.5), 2),
                (Some("3".to_owned()), State::Different, Some(1.0), 1),
                (Some("7".to_owned()), State::Equal, Some(0.0), 1),
            ]
        );
        assert_eq!(case(&[(7, 0.0)]).matrices().len(), 1);
    }

    /// +0 and -0 lie no distance apart, and their bits differ.
    #[test]
    fn no_distance_is_not_the_same_bits() {
        let cell = &case(&[(0, -0.0)]).matrices()[0].cells[0][0];
        assert_eq!((cell.state, cell.value), (State::Different, Some(0.0)));
    }
}
