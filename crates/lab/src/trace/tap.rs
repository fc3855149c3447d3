//! The tap: rows of the measured sequence become events, pass by pass.

use std::collections::BTreeMap;

use mantissa_engine::{RowId, Tap, TokenLogprob, View};
use mantissa_evidence::trace::{StageTrace, TensorTrace, TracedPrompt};
use mantissa_numerics::{Phase, Site};

use super::spec::TraceSpec;
use crate::session::Keep;

/// Where events go, with their values as stored if these are kept.
type Each<'t, E> = &'t mut dyn FnMut(StageTrace, Vec<u8>) -> Result<(), E>;

/// Makes events of the measured sequence (sequence 0 of the batch).
pub(super) struct TraceTap<'t, E> {
    sites: &'t [Site],
    what: &'t TraceSpec,
    prompt_id: &'t str,
    /// Tokens of the prompt.
    length: usize,
    /// The tokens fed so far.
    ids: Vec<u32>,
    keep: bool,
    each: Each<'t, E>,
    /// The pass at work: 0 is the prefill.
    step: u64,
    /// Its tensors so far: a long prompt comes in chunks.
    tensors: BTreeMap<Site, TensorTrace>,
    /// What went wrong, after which nothing is traced, and no further step computed.
    failed: Option<E>,
}

impl<'t, E> TraceTap<'t, E> {
    pub(super) fn new(
        sites: &'t [Site],
        what: &'t TraceSpec,
        prompt: &'t TracedPrompt,
        keep: bool,
        each: Each<'t, E>,
    ) -> Self {
        let (prompt_id, ids, length) =
            (prompt.prompt_id.as_str(), prompt.token_ids.clone(), prompt.token_ids.len());
        let (step, tensors, failed) = (0, BTreeMap::new(), None);
        Self { sites, what, prompt_id, length, ids, keep, each, step, tensors, failed }
    }

    /// Gives the events of the last pass.
    pub(super) fn finish(mut self) -> Result<(), E> {
        self.flush();
        self.failed.map_or(Ok(()), Err)
    }

    fn flush(&mut self) {
        for (_, tensor) in std::mem::take(&mut self.tensors) {
            let (event, values) = tensor.finish_with_values();
            if self.failed.is_none()
                && let Err(error) = (self.each)(event, values)
            {
                self.failed = Some(error);
            }
        }
    }

    /// The pass that a position belongs to.
    const fn pass(&self, position: usize) -> u64 {
        (position + 1).saturating_sub(self.length) as u64
    }
}

impl<E> Keep for TraceTap<'_, E> {
    fn logits(&mut self, _: (Phase, usize), _: &[f32], _: &mut dyn FnMut() -> Vec<TokenLogprob>) {}

    fn fed(&mut self, token: u32) {
        self.ids.push(token);
    }

    fn stopped(&self) -> bool {
        self.failed.is_some()
    }
}

impl<E> Tap for TraceTap<'_, E> {
    fn wants(&self, site: Site) -> bool {
        self.failed.is_none() && self.sites.binary_search(&site).is_ok()
    }

    fn wants_row(&self, row: RowId) -> bool {
        let (phase, among) = if row.position < self.length {
            (Phase::Prefill, self.what.positions.has(row.position, self.length))
        } else {
            (Phase::Decode, true)
        };
        row.sequence == 0 && among && self.what.phases.contains(&phase)
    }

    fn tap(&mut self, view: View<'_>) {
        let rows = view.rows.iter().enumerate();
        let wanted: Vec<(usize, RowId)> =
            rows.filter(|(_, row)| self.wants_row(**row)).map(|(index, row)| (index, *row)).collect();
        let Some((_, first)) = wanted.first() else { return };
        let step = if view.phase == Phase::Prefill { 0 } else { self.pass(first.position) };
        if step != self.step {
            self.flush();
            self.step = step;
        }
        let rows: Vec<(u64, Option<u32>)> = wanted
            .iter()
            .map(|(_, row)| (row.position as u64, self.ids.get(row.position).copied()))
            .collect();
        let chosen: Vec<f32>;
        let values = if wanted.len() == view.rows.len() {
            view.data
        } else {
            let row = |(index, _): &(usize, RowId)| &view.data[index * view.width..][..view.width];
            chosen = wanted.iter().flat_map(row).copied().collect();
            &chosen
        };
        let (prompt_id, keep) = (self.prompt_id, self.keep);
        let seq_len = if step == 0 { self.length as u64 } else { 1 };
        let begin = || TensorTrace::new(prompt_id, step, seq_len, view.site, view.dtype).keep(keep);
        self.tensors.entry(view.site).or_insert_with(begin).push(&rows, values);
    }
}
