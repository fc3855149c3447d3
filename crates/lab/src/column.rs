//! The rows of one site of one run, by token position.

use mantissa_evidence::Record;
use mantissa_evidence::record::RowKey;
use mantissa_numerics::{Dtype, Phase, Site};

use crate::error::LabError;

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

    /// The rows of a site that each pass of a run computed itself, of its first `tokens` tokens; `None` where there are
    /// none.
    pub(crate) fn of_record(
        record: &Record,
        run: usize,
        [prompt, tokens]: [usize; 2],
        site: Site,
    ) -> Result<Option<Self>, LabError> {
        let mut found: Option<Self> = None;
        let mut scratch = Vec::new();
        for (key, token) in own_rows(record, run, [prompt, tokens], site) {
            let layout = record.layout(run, key.phase);
            let Some(tensor) = layout.and_then(|layout| layout.tensors.get(&site)) else { continue };
            let Some(bytes) = record.row(run, site, key, &mut scratch)? else { continue };
            let new = || Self::new(tensor.dtype, tensor.dim, tokens);
            found.get_or_insert_with(new).put_stored(token, tensor.dtype, bytes);
        }
        Ok(found)
    }
}

/// The rows of a site that each pass of a run computed itself, of its first `tokens` tokens, and the token of each.
pub(crate) fn own_rows(
    record: &Record,
    run: usize,
    [prompt, tokens]: [usize; 2],
    site: Site,
) -> impl Iterator<Item = (RowKey, usize)> {
    let own = [Phase::Prefill, Phase::Decode].into_iter().flat_map(move |phase| {
        let steps = record.layout(run, phase).map(|layout| layout.steps.clone()).unwrap_or_default();
        record.own_rows(run, phase, Some(site), steps).into_iter().map(move |rows| (phase, rows))
    });
    own.flat_map(|(phase, rows)| {
        let keys = move |step| {
            rows.positions.clone().into_iter().map(move |position| RowKey { phase, step, position })
        };
        rows.steps.clone().flat_map(keys)
    })
    .filter_map(move |key| Some((key, token(prompt, key).filter(|token| *token < tokens)?)))
}

/// The position in its sequence of the token whose row this is.
pub(crate) fn token(prompt: usize, key: RowKey) -> Option<usize> {
    usize::try_from(i64::try_from(prompt).ok()?.checked_add(key.token())?).ok()
}
