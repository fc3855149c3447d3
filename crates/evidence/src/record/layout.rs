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

impl RowKey {
    /// The token whose row this is, counted from the end of the prompt: −1 is the prompt's last, 0 the first that was
    /// decoded. Rows of one token in several passes are the same row.
    ///
    /// ```
    /// use mantissa_evidence::record::RowKey;
    /// use mantissa_numerics::Phase;
    ///
    /// let key = |phase, step, position| RowKey { phase, step, position };
    /// assert_eq!(key(Phase::Prefill, 0, -1).token(), -1);
    /// assert_eq!(key(Phase::Decode, 3, -1).token(), 3);
    /// assert_eq!(key(Phase::Decode, 1, -4).token(), key(Phase::Prefill, 0, -2).token());
    /// ```
    #[must_use]
    pub fn token(self) -> i64 {
        let end = match self.phase {
            Phase::Prefill => 0,
            Phase::Decode => i64::try_from(self.step).unwrap_or(i64::MAX).saturating_add(1),
        };
        end.saturating_add(i64::from(self.position))
    }

    /// Where earlier passes store the token of a decode step's row, newest pass first: at −2 stands the token that was
    /// newest one pass earlier, and what lies before the first decode step is the prompt's.
    ///
    /// ```
    /// use mantissa_evidence::record::RowKey;
    /// use mantissa_numerics::Phase;
    ///
    /// let key = |phase, step, position| RowKey { phase, step, position };
    /// let earlier = key(Phase::Decode, 1, -4).earlier().collect::<Vec<_>>();
    /// assert_eq!(earlier, [key(Phase::Decode, 0, -3), key(Phase::Prefill, 0, -2)]);
    /// assert_eq!(key(Phase::Decode, 3, -1).earlier().count(), 0, "the newest token");
    /// ```
    pub fn earlier(self) -> impl Iterator<Item = Self> {
        let before = |key: &Self| {
            if key.phase != Phase::Decode || key.position >= -1 {
                return None;
            }
            let (phase, step) = match key.step.checked_sub(1) {
                Some(step) => (Phase::Decode, step),
                None => (Phase::Prefill, 0),
            };
            Some(Self { phase, step, position: key.position + 1 })
        };
        std::iter::successors(before(&self), before)
    }
}

/// Rows that no earlier pass stored: each of the passes has these positions.
///
/// Example: [`Record::own_rows`](crate::Record::own_rows).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnRows {
    /// Passes.
    pub steps: Range<u64>,
    /// Positions relative to the end, ascending.
    pub positions: Vec<i32>,
}

impl OwnRows {
    /// How many rows there are in all.
    #[must_use]
    pub fn count(rows: &[Self]) -> u64 {
        rows.iter().map(|rows| (rows.steps.end - rows.steps.start) * rows.positions.len() as u64).sum()
    }
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
    /// Whether rows of a site (log-probabilities, without one) are among these.
    pub(super) fn holds(&self, site: Option<Site>) -> bool {
        site.map_or(self.top_k.is_some(), |site| self.tensors.contains_key(&site))
    }

    /// Positions of a decode step that neither an earlier one of these stored nor, of the prompt, `prompt`.
    pub(super) fn own_positions(&self, step: u64, prompt: &[i32]) -> Vec<i32> {
        let before = i64::try_from(step - self.steps.start).unwrap_or(i64::MAX);
        let stored = |index: usize, position: i32| {
            let next = self.positions.get(index + 1);
            // The next position of so many steps earlier is the same token.
            let copied = next.is_some_and(|next| i64::from(*next) - i64::from(position) <= before);
            let token = RowKey { phase: Phase::Decode, step, position }.token();
            copied || i32::try_from(token).is_ok_and(|token| prompt.binary_search(&token).is_ok())
        };
        let positions = self.positions.iter().enumerate();
        positions.filter(|(index, position)| !stored(*index, **position)).map(|(_, p)| *p).collect()
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
