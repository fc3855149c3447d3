//! The cache of one sequence: what each block keeps of every position, in the storage dtype.

use std::collections::BTreeMap;
use std::ops::Range;

use mantissa_model::WeightDtype;
use mantissa_model::graph::{Graph, Slot};
use mantissa_numerics::Dtype;

use crate::kernel::matrix::{CachedLayer, CachedSlot, Format, PANEL};
use crate::kernel::rows::store_half;
use crate::simd::Isa;

/// What one sequence has left in every block: keys and values of heads, or whatever else the model's graph caches.
///
/// Padding takes room in it, as in the caches of other programs, and holds zeros.
///
/// *Shape:* per block and slot `heads × capacity × width`, rows padded with zeros to a multiple of 32 elements.
/// *Units:* memory grows as positions are written, up to [`KvCache::bytes`].
///
/// Example: [`crate::Engine`].
#[derive(Debug, Clone)]
pub struct KvCache {
    dtype: Dtype,
    capacity: usize,
    layers: Vec<Vec<Stored>>,
    len: usize,
    /// Places that hold padding.
    hidden: Range<usize>,
    /// By block and KV head, the largest square norms of queries and of keys, where they were noted.
    norms: BTreeMap<(usize, usize), [f32; 2]>,
}

/// One slot of one block.
#[derive(Debug, Clone)]
struct Stored {
    slot: Slot,
    words: Vec<u64>,
}

/// Elements of a padded row.
pub(crate) fn stride(width: usize) -> usize {
    width.next_multiple_of(PANEL)
}

fn bytes_of(slot: Slot, capacity: usize, dtype: Dtype) -> usize {
    // A panel may read up to 16 rows past the last position; they lie in the next head or in this slack.
    (slot.heads * capacity + PANEL) * stride(slot.width) * dtype.size()
}

impl KvCache {
    pub(crate) fn new(graph: &Graph, dtype: Dtype, capacity: usize) -> Self {
        let layers: Vec<Vec<Slot>> =
            graph.blocks.iter().map(|kind| graph.kinds[*kind].slots.clone()).collect();
        Self::of_slots(&layers, dtype, capacity)
    }

    /// A cache of these slots in each block.
    pub(crate) fn of_slots(layers: &[Vec<Slot>], dtype: Dtype, capacity: usize) -> Self {
        let stored = |slot: &Slot| Stored {
            slot: *slot,
            words: vec![0; bytes_of(*slot, capacity, dtype).div_ceil(8)],
        };
        let layers = layers.iter().map(|slots| slots.iter().map(stored).collect()).collect();
        Self { dtype, capacity, layers, len: 0, hidden: 0..0, norms: BTreeMap::new() }
    }

    /// The same, empty cache with padding at these places.
    pub(crate) fn hiding(self, hidden: Range<usize>) -> Self {
        debug_assert!(self.len == 0, "padding is known before the first token");
        Self { hidden, ..self }
    }

    /// Where the token at `position` of the sequence is cached.
    pub(crate) fn place(&self, position: usize) -> usize {
        if position < self.hidden.start { position } else { position + self.hidden.len() }
    }

    /// Places of padding.
    pub(crate) fn padding(&self) -> usize {
        self.hidden.len()
    }

    /// Bytes of a cache of `capacity` positions when full.
    #[must_use]
    pub fn bytes_for(graph: &Graph, dtype: Dtype, capacity: usize) -> usize {
        let slots = graph.blocks.iter().flat_map(|kind| &graph.kinds[*kind].slots);
        slots.map(|slot| bytes_of(*slot, capacity, dtype)).fold(0, usize::saturating_add)
    }

    /// Tokens held; padding is none.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no position is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Positions there is room for, padding among them.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes when full.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let slots = self.layers.iter().flatten();
        slots.map(|stored| bytes_of(stored.slot, self.capacity, self.dtype)).sum()
    }

    /// Notes square norms of queries and keys of each KV head of block `layer`.
    pub(crate) fn note_norms(&mut self, layer: usize, norms: &[[f32; 2]]) {
        for (head, [q, k]) in norms.iter().enumerate() {
            let known = self.norms.entry((layer, head)).or_default();
            *known = [known[0].max(*q), known[1].max(*k)];
        }
    }

    /// Whether no product of a query and a key that were noted can be larger.
    pub(crate) fn has_products_within(&self, bound: f32) -> bool {
        self.norms.values().all(|[q, k]| q.sqrt() * k.sqrt() <= bound)
    }

    pub(crate) fn advance(&mut self, positions: usize) {
        self.len += positions;
    }

    /// Writes rows of a slot of block `layer` from place `at` on.
    pub(crate) fn write(&mut self, isa: Isa, layer: usize, slot: usize, at: usize, rows: &[f32]) {
        let (dtype, capacity) = (self.dtype, self.capacity);
        let Stored { slot, words } = &mut self.layers[layer][slot];
        let (width, stride) = (slot.width, stride(slot.width));
        for (i, row) in rows.chunks_exact(slot.heads * width).enumerate() {
            for (head, values) in row.chunks_exact(width).enumerate() {
                let from = (head * capacity + at + i) * stride;
                match dtype {
                    Dtype::F32 => {
                        bytemuck::cast_slice_mut::<u64, f32>(words)[from..from + width]
                            .copy_from_slice(values);
                    }
                    dtype => {
                        let to = &mut bytemuck::cast_slice_mut::<u64, u16>(words)[from..from + width];
                        store_half(isa, dtype, values, to);
                    }
                }
            }
        }
    }

    /// The first `count` places of a slot that has one row for each, in binary32.
    ///
    /// *Shape:* `count × width`.
    pub(crate) fn rows(&self, layer: usize, slot: usize, count: usize) -> Vec<f32> {
        let Stored { slot, words } = &self.layers[layer][slot];
        debug_assert_eq!(slot.heads, 1, "a compressed row is all heads'");
        let (width, size) = (slot.width, self.dtype.size());
        let data: &[u8] = bytemuck::cast_slice(words);
        let mut out = vec![0.0; count * width];
        for (row, out) in data.chunks_exact(stride(width) * size).zip(out.chunks_exact_mut(width)) {
            WeightDtype::Plain(self.dtype).decode(&row[..width * size], out);
        }
        out
    }

    /// Slots of a block that hold keys and values, as kernels see them.
    pub(crate) fn layer(&self, layer: usize, slots: [usize; 2]) -> CachedLayer<'_> {
        let slots = slots.map(|slot| {
            let Stored { slot, words } = &self.layers[layer][slot];
            let cols = stride(slot.width);
            let row_bytes = cols * self.dtype.size();
            CachedSlot {
                format: Format::Plain(self.dtype),
                cols,
                row_bytes,
                head_bytes: self.capacity * row_bytes,
                data: bytemuck::cast_slice(words),
            }
        });
        CachedLayer { slots, hidden: [self.hidden.start, self.hidden.end] }
    }
}
