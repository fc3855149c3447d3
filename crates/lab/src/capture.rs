//! A tap that keeps the last positions of the reference sequence, and the windows of evidence cut from what it kept.

use std::collections::BTreeMap;

use mantissa_engine::{RowId, Tap, TokenLogprob, View};
use mantissa_evidence::{Logprobs, PhaseSignals, SignalTensor};
use mantissa_numerics::{Dtype, Phase, Point, Site};

use crate::session::Keep;

/// Rows of the reference (sequence 0 of the batch) at chosen sites, by position.
#[derive(Debug)]
pub(crate) struct Capture {
    sites: Vec<Site>,
    /// First position that is kept.
    first: usize,
    /// Bytes of each site, position after position from `first` on.
    kept: BTreeMap<Site, Column>,
    /// Candidates of each position from `first` on.
    logprobs: Vec<Vec<(u32, f32)>>,
    /// Whether a value that was kept is not finite.
    not_finite: bool,
}

#[derive(Debug)]
struct Column {
    dtype: Dtype,
    width: usize,
    data: Vec<u8>,
}

impl Capture {
    pub(crate) fn new(sites: Vec<Site>, first: usize) -> Self {
        Self { sites, first, kept: BTreeMap::new(), logprobs: Vec::new(), not_finite: false }
    }

    /// Whether a value or a log-probability that was kept is not finite.
    pub(crate) const fn is_not_finite(&self) -> bool {
        self.not_finite
    }

    /// Positions whose most likely candidate has no probability: a logit is NaN.
    pub(crate) fn nan_positions(&self) -> Vec<usize> {
        let first = |list: &Vec<(u32, f32)>| list.first().is_some_and(|(_, log_prob)| log_prob.is_nan());
        let lists = self.logprobs.iter().enumerate().filter(|(_, list)| first(list));
        lists.map(|(index, _)| self.first + index).collect()
    }

    /// Windows `ends[s] + position` for each step `s` and relative position, as one phase of evidence.
    pub(crate) fn windows(&self, ends: &[usize], positions: &[i32], vocab_size: usize) -> PhaseSignals {
        let indices: Vec<usize> = ends
            .iter()
            .flat_map(|end| positions.iter().map(move |p| end - p.unsigned_abs() as usize - self.first))
            .collect();
        let tensors = self.kept.iter().map(|(site, column)| {
            let bytes = column.width * column.dtype.size();
            let data =
                indices.iter().flat_map(|i| &column.data[i * bytes..(i + 1) * bytes]).copied().collect();
            let shape = [ends.len(), positions.len(), column.width];
            (*site, SignalTensor { dtype: column.dtype, shape, data })
        });
        let candidates = || indices.iter().flat_map(|i| &self.logprobs[*i]);
        PhaseSignals {
            first_step: 0,
            steps: ends.len(),
            positions: positions.to_vec(),
            tensors: tensors.collect(),
            logprobs: Some(Logprobs {
                steps: ends.len(),
                positions: positions.len(),
                k: self.logprobs.first().map_or(0, Vec::len),
                vocab_size: u32::try_from(vocab_size).ok(),
                token_ids: candidates().map(|(id, _)| *id).collect(),
                log_probs: candidates().map(|(_, p)| *p).collect(),
            }),
        }
    }
}

impl Keep for Capture {
    fn logits(&mut self, _: (Phase, usize), _: &[f32], top: &mut dyn FnMut() -> Vec<TokenLogprob>) {
        let top = top();
        self.not_finite |= top.iter().any(|one| !one.logprob.is_finite());
        self.logprobs.push(top.into_iter().map(|t| (t.token, t.logprob)).collect());
    }
}

impl Tap for Capture {
    fn wants(&self, site: Site) -> bool {
        self.sites.binary_search(&site).is_ok()
    }

    fn wants_row(&self, row: RowId) -> bool {
        row.sequence == 0 && row.position >= self.first
    }

    fn tap(&mut self, view: View<'_>) {
        let column = self.kept.entry(view.site).or_insert_with(|| Column {
            dtype: view.dtype,
            width: view.width,
            data: Vec::new(),
        });
        for (row, values) in view.rows.iter().zip(view.data.chunks_exact(view.width)) {
            if row.sequence == 0 && row.position >= self.first {
                for x in values {
                    self.not_finite |= !x.is_finite();
                    column.dtype.encode(*x, &mut column.data);
                }
            }
        }
    }
}

/// A value that is not finite, and where it was computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Place {
    pub(crate) phase: Phase,
    pub(crate) site: Site,
    pub(crate) position: usize,
    pub(crate) value: f32,
}

/// Looks at every site of the reference for the first value, in the order of computation, that is not finite.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    pub(crate) first: Option<Place>,
}

impl Watch {
    fn row(&mut self, phase: Phase, site: Site, position: usize, values: &[f32]) {
        if self.first.is_none()
            && let Some(&value) = values.iter().find(|value| !value.is_finite())
        {
            self.first = Some(Place { phase, site, position, value });
        }
    }
}

impl Keep for Watch {
    fn logits(
        &mut self,
        (phase, position): (Phase, usize),
        logits: &[f32],
        _: &mut dyn FnMut() -> Vec<TokenLogprob>,
    ) {
        self.row(phase, Site { layer: None, point: Point::Logits }, position, logits);
    }
}

impl Tap for Watch {
    fn wants(&self, _site: Site) -> bool {
        self.first.is_none()
    }

    fn wants_row(&self, row: RowId) -> bool {
        row.sequence == 0
    }

    fn tap(&mut self, view: View<'_>) {
        for (row, values) in view.rows.iter().zip(view.data.chunks_exact(view.width)) {
            if row.sequence == 0 {
                self.row(view.phase, view.site, row.position, values);
            }
        }
    }
}
