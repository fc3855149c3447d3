//! A tap that keeps the last positions of the reference sequence, and the windows of evidence cut from what it kept.

use std::collections::BTreeMap;

use mantissa_engine::{RowId, Tap, TokenLogprob, View};
use mantissa_evidence::{Logprobs, PhaseSignals, SignalTensor};
use mantissa_numerics::{Dtype, Site};

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
}

#[derive(Debug)]
struct Column {
    dtype: Dtype,
    width: usize,
    data: Vec<u8>,
}

impl Capture {
    pub(crate) fn new(sites: Vec<Site>, first: usize) -> Self {
        Self { sites, first, kept: BTreeMap::new(), logprobs: Vec::new() }
    }

    /// Keeps the top candidates of one position.
    pub(crate) fn logits(&mut self, top: Vec<TokenLogprob>) {
        self.logprobs.push(top.into_iter().map(|t| (t.token, t.logprob)).collect());
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
                    column.dtype.encode(*x, &mut column.data);
                }
            }
        }
    }
}
