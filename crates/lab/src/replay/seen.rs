//! What a walk has computed of a sequence: the last positions, at the sites that evidence holds.

use std::collections::BTreeMap;
use std::rc::Rc;

use mantissa_compare::replayed::{Listed, PhaseReplay};
use mantissa_engine::generation::{Generated, scores};
use mantissa_engine::{Engine, Hardware, RowId, RowLogprobs, Tap, TokenLogprob, View};
use mantissa_evidence::record::Candidates;
use mantissa_numerics::recipe::LogSoftmaxRecipe;
use mantissa_numerics::{Generation, Phase, Site};

/// What a token is chosen from.
pub(super) struct Chosen {
    logits: Vec<f32>,
}

impl Chosen {
    pub(super) fn of(logits: &[f32]) -> Self {
        Self { logits: logits.to_vec() }
    }

    /// Whether greedy decoding may choose `token` under `settings`, else what it chooses: no logit is larger, and NaN
    /// is larger than any. Programs break ties differently.
    pub(super) fn allows(
        &self,
        token: u32,
        settings: &Generation,
        hardware: Hardware,
        at: Generated<'_>,
    ) -> Result<(), u32> {
        let scores = scores(settings, hardware, at, &self.logits);
        let choice = mantissa_engine::greedy(&scores);
        let score = |id: u32| scores.get(usize::try_from(id).unwrap_or(usize::MAX));
        let allowed = score(token).zip(score(choice)).is_some_and(|(a, b)| a >= b || a.is_nan());
        if allowed { Ok(()) } else { Err(choice) }
    }
}

/// Why a row of log-probabilities is missing.
pub(super) const NO_CANDIDATES: &str = "logprobs: the evidence holds no candidates of such a row";

/// Adds candidates that an engine listed, beside all log-probabilities of a replay.
pub(super) fn listed(
    facts: &mut PhaseReplay,
    at: (u64, i32),
    found: Candidates,
    decimals: Option<u8>,
    replay: &RowLogprobs<'_>,
) {
    let candidates: Vec<(u32, f32)> = found.token_ids.into_iter().zip(found.log_probs).collect();
    let listed = Listed { candidates: &candidates, decimals };
    facts.listed(at, listed, &|id| replay.of(id), &|ids| replay.passed_over(ids));
}

/// A position that a walk has computed.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    pub sites: BTreeMap<Site, Rc<[f32]>>,
    /// Candidates by each recipe that evidence states.
    pub top: Vec<(LogSoftmaxRecipe, Rc<[TokenLogprob]>)>,
    /// Logits, where evidence lists candidates that any of them may be.
    pub logits: Option<Rc<[f32]>>,
}

/// The last positions that a walk has computed, at the sites that evidence holds.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub sites: Vec<Site>,
    pub top_k: usize,
    /// Recipes of log-probabilities that evidence states, each once.
    pub logprobs: Vec<LogSoftmaxRecipe>,
    /// Whether logits are kept.
    pub keeps_logits: bool,
    /// Position of the first row kept.
    pub first: usize,
    pub rows: Vec<Row>,
}

impl Seen {
    /// The row at `position` before `end`.
    pub(super) fn row(&self, end: usize, position: i32) -> Option<&Row> {
        let at = end.checked_sub(position.unsigned_abs() as usize)?;
        self.rows.get(at.checked_sub(self.first)?)
    }

    fn at(&mut self, position: usize) -> Option<&mut Row> {
        let index = position.checked_sub(self.first)?;
        if index >= self.rows.len() {
            self.rows.resize_with(index + 1, Row::default);
        }
        self.rows.get_mut(index)
    }

    pub(super) fn candidates(&mut self, engine: &Engine<'_>, phase: Phase, position: usize, logits: &[f32]) {
        if self.keeps_logits
            && let Some(row) = self.at(position)
        {
            row.logits = Some(logits.into());
        }
        if self.top_k > 0 {
            let by = |recipe: &LogSoftmaxRecipe| {
                (*recipe, engine.top_logprobs_by(*recipe, phase, logits, self.top_k).into())
            };
            let top = self.logprobs.iter().map(by).collect();
            if let Some(row) = self.at(position) {
                row.top = top;
            }
        }
    }

    /// Drops rows that no window ending at `end` or later reaches.
    pub(super) fn forget(&mut self, end: usize, reach: usize) {
        let first = end.saturating_sub(reach);
        if first > self.first {
            self.rows.drain(..(first - self.first).min(self.rows.len()));
            self.first = first;
        }
    }
}

impl Tap for Seen {
    fn wants(&self, site: Site) -> bool {
        self.sites.binary_search(&site).is_ok()
    }

    fn wants_row(&self, row: RowId) -> bool {
        row.position >= self.first
    }

    fn tap(&mut self, view: View<'_>) {
        for (row, values) in view.rows.iter().zip(view.data.chunks_exact(view.width)) {
            if let Some(kept) = self.at(row.position) {
                kept.sites.insert(view.site, values.into());
            }
        }
    }
}

/// Several sequences that go through the model together, each with what is seen of it.
pub(super) struct TapGroup<'s>(pub &'s mut [Seen]);

impl Tap for TapGroup<'_> {
    fn wants(&self, site: Site) -> bool {
        self.0.iter().any(|seen| seen.wants(site))
    }

    fn wants_row(&self, row: RowId) -> bool {
        self.0.get(row.sequence).is_some_and(|seen| seen.wants_row(row))
    }

    fn tap(&mut self, view: View<'_>) {
        for (row, values) in view.rows.iter().zip(view.data.chunks_exact(view.width)) {
            let Some(seen) = self.0.get_mut(row.sequence).filter(|seen| seen.wants(view.site)) else {
                continue;
            };
            if let Some(kept) = seen.at(row.position) {
                kept.sites.insert(view.site, values.into());
            }
        }
    }
}
