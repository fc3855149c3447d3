//! What a record holds of a run: which rows of which width, and where one stands.

use std::collections::BTreeMap;
use std::ops::Range;

use mantissa_numerics::{Dtype, Phase, Site};

use crate::json::wire;

/// What a run recorded in one phase.
///
/// Example: [`Record`](crate::Record).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseLayout {
    /// The forward passes recorded.
    pub steps: Range<u64>,
    /// Positions relative to the end of the sequence at each step, ascending.
    pub positions: Vec<i32>,
    /// Format and width of every site.
    pub tensors: BTreeMap<Site, TensorLayout>,
    /// Candidates per position, where log-probabilities were recorded.
    pub top_k: Option<usize>,
    /// Size of the vocabulary the candidates were chosen from, where known.
    pub vocab_size: Option<u32>,
}

/// Format and width of a site.
///
/// Example: [`Record`](crate::Record).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorLayout {
    /// Storage format.
    pub dtype: Dtype,
    /// Values of a row.
    pub dim: usize,
}

/// Where a row stands in a run.
///
/// Example: [`Record`](crate::Record).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKey {
    /// The phase.
    pub phase: Phase,
    /// Forward pass.
    pub step: u64,
    /// Position relative to the end.
    pub position: i32,
}

/// Candidates of one position, in the recorder's order.
///
/// Example: [`Record`](crate::Record).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Candidates {
    /// Their ids.
    pub token_ids: Vec<u32>,
    /// Natural logarithms of their probabilities.
    pub log_probs: Vec<f32>,
}

impl PhaseLayout {
    /// Values of all rows, candidates included.
    #[must_use]
    pub fn values(&self) -> u64 {
        let rows = self.steps.end.saturating_sub(self.steps.start) * self.positions.len() as u64;
        let width: usize = self.tensors.values().map(|tensor| tensor.dim).sum();
        rows * (width + self.top_k.unwrap_or(0)) as u64
    }

    pub(super) fn of(layout: &wire::PhaseLayout) -> Self {
        let tensors = layout.tensors.0.iter();
        let tensors = tensors.map(|(&site, t)| (site, TensorLayout { dtype: t.dtype, dim: t.dim }));
        Self {
            steps: layout.first_step..layout.first_step.saturating_add(layout.steps as u64),
            positions: layout.positions.clone(),
            tensors: tensors.collect(),
            top_k: layout.logprobs.map(|logprobs| logprobs.k),
            vocab_size: layout.logprobs.and_then(|logprobs| logprobs.vocab_size),
        }
    }
}

/// The place of a phase where two stand side by side.
pub(super) const fn phase_index(phase: Phase) -> usize {
    match phase {
        Phase::Prefill => 0,
        Phase::Decode => 1,
    }
}
