//! Attention of query heads over cached keys and values: each variant of [`AttentionRecipe`] has a file of its own.

use mantissa_numerics::recipe::AttentionRecipe;

use super::heads::Heads;
use super::matrix::CachedLayer;
use super::{eager, flash, own_attention, sdpa_math};
use crate::pool::Pool;
use crate::simd::Isa;

/// Causal attention of `q`'s rows, which stand at positions `first..` of `cached` (already written), of a pass after
/// which `keys` are cached. They are of sequence `sequence` of the batch.
///
/// *Shape:* `q` is `rows × query heads · head_dim`, `out` as wide as the heads' values; `sinks` is as long as there are
/// query heads, or empty.
#[expect(clippy::too_many_arguments, reason = "an attention has a recipe, a cache, heads and two matrices")]
pub(crate) fn prefill(
    isa: Isa,
    pool: &Pool,
    recipe: AttentionRecipe,
    heads: Heads,
    cached: CachedLayer<'_>,
    sequence: usize,
    [first, keys]: [usize; 2],
    sinks: &[f32],
    q: &[f32],
    out: &mut [f32],
) {
    let rows = q.len() / (heads.query * heads.dim);
    assert!(fits(heads, rows, q, out), "attention: shapes differ");
    assert_computed(recipe, heads, keys, sinks);
    let seen = [first, keys];
    match recipe {
        AttentionRecipe::Own(own) => {
            own_attention::prefill(isa, pool, own, heads, cached, first, sinks, q, out);
        }
        AttentionRecipe::TorchEager(torch) => {
            eager::prefill(isa, pool, torch, heads, cached, sequence, seen, q, out);
        }
        AttentionRecipe::TorchFlash(torch) => flash::prefill(isa, pool, torch, heads, cached, seen, q, out),
        AttentionRecipe::TorchMath(torch) => {
            sdpa_math::prefill(isa, pool, torch, heads, cached, sequence, seen, q, out);
        }
    }
}

/// Attention of one query row per sequence over the whole of its cache (the row's own position included). `sequences`
/// are the rows' places in the batch.
///
/// *Shape:* `q` is `caches.len() × query heads · head_dim`, `out` as wide as the heads' values; `sinks` as in
/// [`prefill`].
#[expect(clippy::too_many_arguments, reason = "as prefill")]
pub(crate) fn decode(
    isa: Isa,
    pool: &Pool,
    recipe: AttentionRecipe,
    heads: Heads,
    caches: &[(CachedLayer<'_>, usize)],
    sequences: &[usize],
    sinks: &[f32],
    q: &[f32],
    out: &mut [f32],
) {
    assert!(fits(heads, caches.len(), q, out), "attention: shapes differ");
    assert_computed(recipe, heads, caches.iter().map(|(_, keys)| *keys).max().unwrap_or(0), sinks);
    match recipe {
        AttentionRecipe::Own(own) => own_attention::decode(isa, pool, own, heads, caches, sinks, q, out),
        AttentionRecipe::TorchEager(torch) => {
            eager::decode(isa, pool, torch, heads, caches, sequences, q, out)
        }
        AttentionRecipe::TorchFlash(torch) => flash::decode(isa, pool, torch, heads, caches, q, out),
        AttentionRecipe::TorchMath(torch) => {
            sdpa_math::decode(isa, pool, torch, heads, caches, sequences, q, out);
        }
    }
}

fn fits(heads: Heads, rows: usize, q: &[f32], out: &[f32]) -> bool {
    q.len() == rows * heads.query * heads.dim && out.len() == rows * heads.query * heads.value
}

/// The engine's own attention alone has values of another width, windows that leave keys out, bounds and sinks.
/// Dispatch refuses the others for such a model; an override may still ask for one.
fn assert_computed(recipe: AttentionRecipe, heads: Heads, keys: usize, sinks: &[f32]) {
    let is_plain = heads.value == heads.dim
        && heads.window.is_none_or(|window| window >= keys)
        && heads.cap.is_none()
        && sinks.is_empty();
    assert!(
        is_plain || matches!(recipe, AttentionRecipe::Own(_)),
        "attention that {recipe:?} does not compute"
    );
}

#[cfg(test)]
mod tests {
    use mantissa_numerics::recipe::{TorchEager, TorchSoftmax};
    use mantissa_numerics::tensor_core::{Architecture, Operand};

    use super::*;

    #[test]
    #[should_panic(expected = "does not compute")]
    fn a_kernel_of_a_gpu_refuses_values_of_another_width() {
        let block = Architecture::Hopper.block(Operand::Bf16).unwrap();
        let sum = mantissa_numerics::recipe::BatchedSum::TensorCore { block, tile: None };
        let (softmax, storage) = (TorchSoftmax::Warp, mantissa_numerics::Dtype::Bf16);
        let recipe = AttentionRecipe::TorchEager(TorchEager { scores: sum, softmax, values: sum, storage });
        let heads = Heads { query: 1, kv: 1, dim: 40, value: 20, scale: 1.0, window: None, cap: None };
        let pool = Pool::new(1).unwrap();
        decode(Isa::Scalar, &pool, recipe, heads, &[], &[], &[], &[], &mut []);
    }
}
