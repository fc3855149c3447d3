//! The rows of one run, by site and token position.

use std::collections::BTreeMap;

use mantissa_evidence::record::RowKey;
use mantissa_numerics::{Dtype, Phase, Site};

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

/// Rows of a site.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub dtype: Dtype,
    pub width: usize,
    /// Place of each position's row in `data`; `None` where none was recorded.
    places: Vec<Option<usize>>,
    data: Vec<f32>,
}

impl Column {
    pub(crate) fn new(dtype: Dtype, width: usize, positions: usize) -> Self {
        Self { dtype, width, places: vec![None; positions], data: Vec::new() }
    }

    pub(crate) fn row(&self, position: usize) -> Option<&[f32]> {
        let place = (*self.places.get(position)?)?;
        self.data.get(place * self.width..(place + 1) * self.width)
    }

    pub(crate) fn has(&self, position: usize) -> bool {
        self.places.get(position).is_some_and(Option::is_some)
    }

    /// Positions with a row, ascending.
    pub(crate) fn positions(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.places.len()).filter(|position| self.has(*position))
    }

    /// Puts a row as it is stored.
    pub(crate) fn put_stored(&mut self, position: usize, dtype: Dtype, bytes: &[u8]) {
        if self.dtype != dtype {
            // Phases of two formats: binary32 holds both.
            self.dtype = Dtype::F32;
        }
        if let Some(row) = self.place(position, bytes.len() / dtype.size()) {
            dtype.decode_each(bytes, row);
        }
    }

    pub(crate) fn put(&mut self, position: usize, row: &[f32]) {
        if let Some(place) = self.place(position, row.len()) {
            place.copy_from_slice(row);
        }
    }

    /// The place of a position's row of `width` values; `None` where such a row has none.
    fn place(&mut self, position: usize, width: usize) -> Option<&mut [f32]> {
        if width != self.width {
            return None;
        }
        let place = *self.places.get_mut(position)?.get_or_insert(self.data.len() / width.max(1));
        let row = place * width..(place + 1) * width;
        if row.end > self.data.len() {
            self.data.resize(row.end, 0.0);
        }
        self.data.get_mut(row)
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

/// The position in its sequence of the token whose row this is.
pub(crate) fn token(prompt: usize, key: RowKey) -> Option<usize> {
    usize::try_from(i64::try_from(prompt).ok()?.checked_add(key.token())?).ok()
}
