//! The rows of one run, by site and token position.

use std::collections::BTreeMap;

use mantissa_numerics::{Phase, Site};

use crate::column::Column;

/// Which pass computed a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    pub phase: Phase,
    /// Decode step, 0 in a prefill.
    pub step: u64,
}

impl Origin {
    /// The pass that computes a position behind a prompt of `prompt` tokens, or in it.
    pub(crate) fn of(position: usize, prompt: usize) -> Self {
        match position.checked_sub(prompt) {
            None => Self { phase: Phase::Prefill, step: 0 },
            Some(step) => Self { phase: Phase::Decode, step: step as u64 },
        }
    }
}

/// All rows of one run.
#[derive(Debug, Clone)]
pub(crate) struct Sheet {
    /// The whole sequence: prompt, then what was fed in decode.
    pub ids: Vec<u32>,
    /// Tokens of the first pass.
    pub prompt: usize,
    pub columns: BTreeMap<Site, Column>,
    /// The pass that computed each position.
    pub origins: Vec<Origin>,
}

impl Sheet {
    /// An empty one.
    pub(crate) fn new(ids: Vec<u32>, prompt: usize) -> Self {
        let origins = (0..ids.len()).map(|position| Origin::of(position, prompt)).collect();
        Self { ids, prompt, columns: BTreeMap::new(), origins }
    }

    pub(crate) fn row(&self, site: Site, position: usize) -> Option<&[f32]> {
        self.columns.get(&site)?.row(position)
    }
}
