//! The KV cache of one sequence: keys after RoPE and values, in the storage dtype.

use mantissa_numerics::Dtype;

use crate::kernel::matrix::{CachedLayer, Format, PANEL};
use crate::kernel::rows::store_half;
use crate::simd::Isa;

/// Keys and values of one sequence in every layer.
///
/// *Shape:* per layer and KV head `capacity × head_dim`, rows padded with zeros to a multiple of 32 elements.
/// *Units:* memory grows as positions are written, up to [`KvCache::bytes`].
#[derive(Debug, Clone)]
pub struct KvCache {
    shape: CacheShape,
    layers: Vec<[Vec<u64>; 2]>,
    len: usize,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct CacheShape {
    pub dtype: Dtype,
    pub layers: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub capacity: usize,
}

impl CacheShape {
    /// Elements of a padded row.
    pub(crate) fn stride(self) -> usize {
        self.head_dim.next_multiple_of(PANEL)
    }

    fn bytes_per_tensor(self) -> usize {
        // A panel may read up to 16 rows past the last position; they lie in the next head or in this slack.
        (self.kv_heads * self.capacity + PANEL) * self.stride() * self.dtype.size()
    }
}

impl KvCache {
    pub(crate) fn new(shape: CacheShape) -> Self {
        let words = shape.bytes_per_tensor().div_ceil(8);
        let layers = (0..shape.layers).map(|_| [vec![0; words], vec![0; words]]).collect();
        Self { shape, layers, len: 0 }
    }

    /// Positions held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no position is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Positions there is room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shape.capacity
    }

    /// Bytes when full.
    #[must_use]
    pub fn bytes(&self) -> usize {
        2 * self.shape.layers * self.shape.bytes_per_tensor()
    }

    pub(crate) fn advance(&mut self, positions: usize) {
        self.len += positions;
    }

    /// Writes rows of keys or values (`which` 0 or 1) of `layer` from position `at` on.
    pub(crate) fn write(&mut self, isa: Isa, layer: usize, which: usize, at: usize, rows: &[f32]) {
        let shape = self.shape;
        let (dim, stride) = (shape.head_dim, shape.stride());
        let buffer = &mut self.layers[layer][which];
        for (i, row) in rows.chunks_exact(shape.kv_heads * dim).enumerate() {
            for (head, values) in row.chunks_exact(dim).enumerate() {
                let from = (head * shape.capacity + at + i) * stride;
                match shape.dtype {
                    Dtype::F32 => {
                        bytemuck::cast_slice_mut::<u64, f32>(buffer)[from..from + dim]
                            .copy_from_slice(values);
                    }
                    dtype => {
                        let to = &mut bytemuck::cast_slice_mut::<u64, u16>(buffer)[from..from + dim];
                        store_half(isa, dtype, values, to);
                    }
                }
            }
        }
    }

    /// Keys and values of a layer, as kernels see them.
    pub(crate) fn layer(&self, layer: usize) -> CachedLayer<'_> {
        let shape = self.shape;
        let row_bytes = shape.stride() * shape.dtype.size();
        CachedLayer {
            format: Format::Plain(shape.dtype),
            cols: shape.stride(),
            row_bytes,
            head_bytes: shape.capacity * row_bytes,
            data: self.layers[layer].each_ref().map(|words| bytemuck::cast_slice(words)),
        }
    }
}
