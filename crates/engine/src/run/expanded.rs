//! Keys and values that a block's cache holds compressed, expanded for the rows of a pass.

use mantissa_model::graph::{Expand, Slot};
use mantissa_numerics::Dtype;

use crate::cache::KvCache;
use crate::kernel::matrix::CachedLayer;
use crate::simd::Isa;

/// Keys and values of what rows see.
pub(super) struct Expanded {
    /// Each of one block, keys and values its slots.
    caches: Vec<KvCache>,
    /// Place in `caches` of each row of the pass.
    of_row: Vec<usize>,
}

impl Expanded {
    /// Of a pass of `rows` rows, none of which sees anything yet.
    pub(super) fn new(rows: usize) -> Self {
        Self { caches: Vec::new(), of_row: vec![0; rows] }
    }

    /// What the rows `seeing` see: of each position its expanded row and the part of the key that all heads share.
    pub(super) fn add(
        &mut self,
        isa: Isa,
        dtype: Dtype,
        expand: &Expand,
        expanded: &[f32],
        shared: &[f32],
        seeing: impl Iterator<Item = usize>,
    ) {
        let Expand { heads, nope, rope, value, .. } = *expand;
        let slots = [rope + nope, value].map(|width| Slot { heads, width });
        let mut to = KvCache::of_slots(&[slots.to_vec()], dtype, shared.len() / rope);
        let positions = expanded.chunks_exact(heads * (nope + value)).zip(shared.chunks_exact(rope));
        for (position, (row, shared)) in positions.enumerate() {
            let heads = || row.chunks_exact(nope + value);
            let keys: Vec<f32> =
                heads().flat_map(|head| head[..nope].iter().chain(shared)).copied().collect();
            let values: Vec<f32> = heads().flat_map(|head| &head[nope..]).copied().collect();
            to.write(isa, 0, 0, position, &keys);
            to.write(isa, 0, 1, position, &values);
        }
        seeing.for_each(|row| self.of_row[row] = self.caches.len());
        self.caches.push(to);
    }

    /// What each row of the pass sees.
    pub(super) fn layers(&self) -> impl Iterator<Item = CachedLayer<'_>> {
        self.of_row.iter().map(|place| self.caches[*place].layer(0, [0, 1]))
    }
}
