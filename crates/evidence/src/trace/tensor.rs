//! An event in the making: rows go in, hashes and statistics come out.

use mantissa_numerics::{Dtype, Phase, Site};
use rayon::prelude::*;

use super::event::{StageTrace, TraceHash};
use super::statistics::Statistics;
use crate::digest::Digest;

/// Bytes from which rows are spread over threads. No hash and no sum depends on it.
const MANY: usize = 1 << 17;

/// An event in the making: rows go in, in the order of their positions.
///
/// ```
/// use mantissa_evidence::Digest;
/// use mantissa_evidence::trace::{TensorTrace, TraceHash};
/// use mantissa_numerics::{Dtype, Point, Site};
///
/// // Two rows of a prompt of three tokens.
/// let mut tensor = TensorTrace::new("p0", 0, 3, Site::outside(Point::EmbedOut), Dtype::Bf16).keep(true);
/// tensor.push(&[(1, Some(7)), (2, Some(9))], &[1.0, 2.0, 3.0, 4.0]);
/// let (event, values) = tensor.finish_with_values();
/// assert_eq!(values, [0x80, 0x3F, 0x00, 0x40, 0x40, 0x40, 0x80, 0x40]);
/// assert_eq!(event.hash, Some(TraceHash::Blake3(Digest::of_bytes(&values))));
/// assert_eq!(event.row_hash(2), Some(TraceHash::Blake3(Digest::of_bytes(&values[4..]))));
/// assert_eq!((event.positions, event.token_ids, event.mean), (vec![1, 2], vec![7, 9], Some(2.5)));
/// ```
#[derive(Debug)]
pub struct TensorTrace {
    event: StageTrace,
    dtype: Dtype,
    width: usize,
    statistics: Statistics,
    /// Of all rows but one that is the only one so far.
    hasher: blake3::Hasher,
    /// The only row so far: its own hash is enough.
    only: Option<Vec<u8>>,
    /// All rows as stored, where they are kept.
    kept: Option<Vec<u8>>,
}

impl TensorTrace {
    /// The tensor at `site` in pass `step` of a prompt: 0 is the prefill, `s + 1` the decode step that evidence calls
    /// `s`. `seq_len` counts the tokens of the sequence that the pass was fed.
    #[must_use]
    pub fn new(prompt_id: &str, step: u64, seq_len: u64, site: Site, dtype: Dtype) -> Self {
        let event = StageTrace {
            prompt_id: prompt_id.to_owned(),
            phase: if step == 0 { Phase::Prefill } else { Phase::Decode },
            point: site.point,
            layer: site.layer,
            step,
            pos_id: 0,
            seq_len,
            hash: None,
            min: None,
            max: None,
            mean: None,
            abs_sum: None,
            sum: None,
            nan: None,
            inf: None,
            nonzero: None,
            shape: None,
            dtype: Some(dtype),
            positions: Vec::new(),
            rows: Vec::new(),
            token_ids: Vec::new(),
            shown: None,
            tensor: None,
        };
        let (statistics, hasher) = (Statistics::default(), blake3::Hasher::new());
        Self { event, dtype, width: 0, statistics, hasher, only: None, kept: None }
    }

    /// The same, with its values kept for [`TensorTrace::finish_with_values`] or not.
    #[must_use]
    pub fn keep(mut self, keep: bool) -> Self {
        self.kept = keep.then(Vec::new);
        self
    }

    /// Adds rows: where each stands and its token, and their values, which are rounded to the storage format already.
    pub fn push(&mut self, rows: &[(u64, Option<u32>)], values: &[f32]) {
        let mut bytes = vec![0; values.len() * self.dtype.size()];
        encode(self.dtype, values, &mut bytes);
        let width = values.len() / rows.len().max(1);
        let found = each(rows.len(), bytes.len(), |row| Statistics::of(&values[row * width..][..width]));
        self.add(rows, &bytes, &found);
    }

    /// Adds rows as they are stored, little-endian.
    pub fn push_stored(&mut self, rows: &[(u64, Option<u32>)], bytes: &[u8]) {
        let width = bytes.len() / self.dtype.size() / rows.len().max(1);
        let found = each(rows.len(), bytes.len(), |row| {
            let values: Vec<f32> =
                (row * width..(row + 1) * width).map(|index| self.dtype.decode(bytes, index)).collect();
            Statistics::of(&values)
        });
        self.add(rows, bytes, &found);
    }

    fn add(&mut self, rows: &[(u64, Option<u32>)], bytes: &[u8], found: &[Statistics]) {
        let length = bytes.len() / rows.len().max(1);
        let hashes = each(rows.len(), bytes.len(), |row| Digest::of_bytes(&bytes[row * length..][..length]));
        if self.event.rows.is_empty() && rows.len() == 1 {
            self.only = Some(bytes.to_vec());
        } else {
            if let Some(only) = self.only.take() {
                self.hasher.update(&only);
            }
            self.hash(bytes);
        }
        self.event.rows.extend(hashes.into_iter().map(TraceHash::Blake3));
        for row in found {
            self.statistics.add(row);
        }
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(bytes);
        }
        self.width = length / self.dtype.size();
        self.event.positions.extend(rows.iter().map(|(position, _)| position));
        self.event.token_ids.extend(rows.iter().filter_map(|(_, token)| *token));
    }

    fn hash(&mut self, bytes: &[u8]) {
        if bytes.len() < MANY {
            self.hasher.update(bytes);
        } else {
            self.hasher.update_rayon(bytes);
        }
    }

    /// The whole event.
    #[must_use]
    pub fn finish(self) -> StageTrace {
        self.finish_with_values().0
    }

    /// The whole event, and its values as stored, if they were kept.
    #[must_use]
    pub fn finish_with_values(self) -> (StageTrace, Vec<u8>) {
        let Self { mut event, width, statistics, hasher, kept, .. } = self;
        event.hash = Some(match event.rows[..] {
            [only] => only,
            _ => TraceHash::Blake3(Digest::of_hasher(&hasher)),
        });
        event.pos_id = event.positions.last().copied().unwrap_or(0);
        (event.min, event.max, event.mean) = (statistics.min(), statistics.max(), statistics.mean());
        event.abs_sum = Some(statistics.abs_sum());
        (event.nan, event.inf) = (Some(statistics.nan()), Some(statistics.inf()));
        event.nonzero = Some(statistics.nonzero());
        event.shape = Some([event.positions.len() as u64, width as u64]);
        (event, kept.unwrap_or_default())
    }
}

/// What `work` gives for each of `rows` rows, in their order; on all cores where there are many bytes.
fn each<T: Send>(rows: usize, bytes: usize, work: impl Fn(usize) -> T + Send + Sync) -> Vec<T> {
    if rows < 2 || bytes < MANY {
        (0..rows).map(work).collect()
    } else {
        (0..rows).into_par_iter().map(work).collect()
    }
}

/// The bytes of values in their storage format.
fn encode(dtype: Dtype, values: &[f32], bytes: &mut [u8]) {
    const BLOCK: usize = 1 << 14;
    let size = dtype.size();
    let write = |(values, bytes): (&[f32], &mut [u8])| {
        for (x, out) in values.iter().zip(bytes.chunks_exact_mut(size)) {
            out.copy_from_slice(&dtype.pattern(*x).to_le_bytes()[..size]);
        }
    };
    if bytes.len() < MANY {
        write((values, bytes));
    } else {
        values.par_chunks(BLOCK).zip(bytes.par_chunks_mut(BLOCK * size)).for_each(write);
    }
}
