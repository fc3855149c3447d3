//! What kernels are given: matrices as they lie in memory, of weights and of cached keys and values.

use mantissa_numerics::{BlockFormat, Dtype};

use super::format::{UNIT, UNIT_BYTES, Units};
use crate::simd::Simd;

/// Rows of a cache that a kernel may read past the last, and the elements that its rows are padded to a multiple of.
pub(crate) const PANEL: usize = 32;

/// Storage of a weight's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Plain(Dtype),
    Block(BlockFormat),
}

/// A weight matrix as kernels see it: `rows × cols`, rows of `row_bytes` bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub format: Format,
    pub rows: usize,
    pub cols: usize,
    pub row_bytes: usize,
    pub data: &'a [u8],
}

/// A slot of one block's cache: every head's rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CachedSlot<'a> {
    pub format: Format,
    pub cols: usize,
    pub row_bytes: usize,
    /// Bytes from one head's first row to the next head's.
    pub head_bytes: usize,
    pub data: &'a [u8],
}

/// Keys and values of every KV head of one layer of a sequence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CachedLayer<'a> {
    pub slots: [CachedSlot<'a>; 2],
    /// The first place of padding, and the first after it.
    pub hidden: [usize; 2],
}

impl<'a> CachedLayer<'a> {
    /// The same without the first `rows` places.
    pub(crate) fn skip(self, rows: usize) -> Self {
        let skipped = |slot: CachedSlot<'a>| CachedSlot { data: &slot.data[rows * slot.row_bytes..], ..slot };
        Self { slots: self.slots.map(skipped), hidden: self.hidden.map(|place| place.saturating_sub(rows)) }
    }

    /// The first `rows` places of one KV head's keys and values.
    pub(crate) fn head(self, head: usize, rows: usize) -> [Matrix<'a>; 2] {
        self.slots.map(|slot| slot.head(head, rows))
    }

    /// Takes from the first `limit` scores those that a mask hides.
    pub(crate) fn hide(self, scores: &mut [f32], limit: usize) {
        let [from, until] = self.hidden.map(|place| place.min(limit));
        scores[from..until].fill(f32::NEG_INFINITY);
    }
}

impl<'a> CachedSlot<'a> {
    /// The first `rows` positions of one head.
    pub(crate) fn head(self, head: usize, rows: usize) -> Matrix<'a> {
        let Self { format, cols, row_bytes, head_bytes, data } = self;
        Matrix { format, rows, cols, row_bytes, data: &data[head * head_bytes..] }
    }
}

/// Runs `$body` with `$F` naming the format's [`Units`].
macro_rules! with_format {
    ($format:expr, $F:ident => $body:expr) => {
        match $format {
            Format::Plain(Dtype::F32) => {
                type $F = $crate::kernel::format::F32;
                $body
            }
            Format::Plain(Dtype::Bf16) => {
                type $F = $crate::kernel::format::Bf16;
                $body
            }
            Format::Plain(Dtype::F16) => {
                type $F = $crate::kernel::format::F16;
                $body
            }
            Format::Block(BlockFormat::Q8_0) => {
                type $F = $crate::kernel::format::Q8_0;
                $body
            }
            Format::Block(BlockFormat::Q4_0) => {
                type $F = $crate::kernel::format::Q4_0;
                $body
            }
            Format::Block(BlockFormat::Q4_1) => {
                type $F = $crate::kernel::format::Q4_1;
                $body
            }
            Format::Block(BlockFormat::Q4K) => {
                type $F = $crate::kernel::format::Q4K;
                $body
            }
            Format::Block(BlockFormat::Q6K) => {
                type $F = $crate::kernel::format::Q6K;
                $body
            }
        }
    };
}

pub(crate) use with_format;

/// Unit `u` of a row, of which `elements` exist; the rest reads as zero.
///
/// # Safety
/// `S` is available; the row exists and holds the elements.
#[inline(always)]
pub(crate) unsafe fn unit_of_row<S: Simd, F: Units>(
    w: Matrix<'_>,
    row: usize,
    u: usize,
    elements: usize,
) -> [S::V; 4] {
    // SAFETY: the caller's contract; the tail is copied before it is read as a whole unit.
    unsafe {
        let start = w.data.as_ptr().add(row * w.row_bytes);
        if elements == UNIT {
            return F::unit::<S>(start, u);
        }
        let mut copy = [0_u8; UNIT_BYTES];
        std::ptr::copy_nonoverlapping(start.add(F::bytes(u * UNIT)), copy.as_mut_ptr(), F::bytes(elements));
        F::unit::<S>(copy.as_ptr(), 0)
    }
}
