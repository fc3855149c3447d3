//! What keeps a mask of f16 from hiding keys.
//!
//! `eager` hides a key by adding the format's least number to its score. Of f16 that is −65,504, which a large score
//! outweighs, and a product beyond 65,504 is infinite before it is scaled. The engine's kernel gives hidden keys no
//! weight; that is PyTorch's result as long as no product of a query and a key can be so large. Norms bound them, of
//! hidden keys too, which the kernel never multiplies: then no scaled score comes near the mask, and the exponential of
//! a hidden key is zero.

use mantissa_model::graph::Attention;
use mantissa_numerics::Dtype;
use mantissa_numerics::recipe::AttentionRecipe;
use mantissa_numerics::site::Phase;

use crate::backend::Queries;

/// Whether the kernel relies on small products.
pub(super) fn is_bounded(recipe: AttentionRecipe, phase: Phase) -> bool {
    let of_f16 = matches!(recipe, AttentionRecipe::TorchEager(eager) if eager.storage == Dtype::F16);
    of_f16 && phase == Phase::Prefill
}

/// For each KV head, the largest square norms of its queries, and of its keys at their positions; infinite for a NaN.
pub(super) fn square_norms(node: &Attention, queries: &Queries<'_>) -> Vec<[f32; 2]> {
    let (dim, group) = (node.key_dim, node.heads / node.kv_heads);
    let squares = |x: &mut dyn Iterator<Item = f32>| x.map(|x| x * x).sum::<f32>();
    let larger = |most: f32, norm: f32| if norm > most || norm.is_nan() { norm } else { most };
    let whole = |norm: f32| if norm.is_nan() { f32::INFINITY } else { norm };
    let of_head = |kv: usize| {
        let mut most = [0.0_f32; 2];
        for (q, (cached, position)) in queries.q.chunks_exact(node.heads * dim).zip(queries.rows) {
            for q in q[kv * group * dim..(kv + 1) * group * dim].chunks_exact(dim) {
                most[0] = larger(most[0], whole(squares(&mut q.iter().copied())));
            }
            let [keys, _] = cached.head(kv, position + 1);
            let key = &keys.data[position * keys.row_bytes..];
            most[1] = larger(most[1], whole(squares(&mut (0..dim).map(|k| Dtype::F16.decode(key, k)))));
        }
        most
    };
    (0..node.kv_heads).map(of_head).collect()
}

#[cfg(test)]
mod tests {
    use mantissa_model::graph::Slot;
    use mantissa_numerics::recipe::{BatchedSum, ScoreBound, ThreadSum, TorchEager, TorchSoftmax};

    use super::*;
    use crate::cache::KvCache;
    use crate::simd::Isa;

    fn eager(storage: Dtype) -> AttentionRecipe {
        let sum = BatchedSum::Threads(ThreadSum::new(16, 4, false).unwrap());
        AttentionRecipe::TorchEager(TorchEager {
            scores: sum,
            bound: ScoreBound::None,
            sinks: false,
            softmax: TorchSoftmax::Warp,
            values: sum,
            storage,
        })
    }

    #[test]
    fn only_a_mask_of_f16_relies_on_small_products() {
        assert!(is_bounded(eager(Dtype::F16), Phase::Prefill));
        assert!(
            !is_bounded(eager(Dtype::F16), Phase::Decode) && !is_bounded(eager(Dtype::Bf16), Phase::Prefill)
        );
    }

    /// A query and a key of later rows count together, and heads alone.
    #[test]
    fn norms_bound_products_that_are_never_multiplied() {
        let node = Attention {
            heads: 4,
            kv_heads: 2,
            key_dim: 2,
            value_dim: 2,
            scale: 0.5,
            window: None,
            cap: None,
            sinks: None,
        };
        let slot = Slot { heads: 2, width: 2 };
        let mut cache = KvCache::of_slots(&[vec![slot; 2]], Dtype::F16, 4);
        // Two positions, two KV heads: the second key of the first head is long.
        cache.write(Isa::Scalar, 0, 0, 0, &[3.0, 4.0, 1.0, 0.0, 600.0, 0.0, 0.0, 2.0]);
        let note = |cache: &mut KvCache, position: usize, q: &[f32]| {
            let layer = cache.clone();
            let rows = [(layer.layer(0, [0, 1]), position)];
            let queries =
                Queries { phase: Phase::Prefill, rows: &rows, sequences: &[0], keys: 2, q, sinks: &[] };
            let norms = square_norms(&node, &queries);
            cache.note_norms(0, &norms);
            norms
        };
        let first = note(&mut cache, 0, &[0.0, 5.0, 100.0, 0.0, 0.0, 0.0, 300.0, 400.0]);
        assert_eq!(first, [[10_000.0, 25.0], [250_000.0, 1.0]]);
        assert!(cache.has_products_within(500.0) && !cache.has_products_within(499.0));
        let second = note(&mut cache, 1, &[0.0; 8]);
        assert_eq!(second, [[0.0, 360_000.0], [0.0, 4.0]]);
        // The query of the first row with the key of the second, which it does not see.
        assert!(cache.has_products_within(60_000.0) && !cache.has_products_within(59_999.0));
        let mut other = cache.clone();
        note(&mut other, 1, &[f32::NAN, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert!(!other.has_products_within(f32::MAX));
    }
}
