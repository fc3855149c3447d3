//! Attention of query heads over cached keys and values: each variant of [`AttentionRecipe`] has a file of its own.

use mantissa_numerics::recipe::AttentionRecipe;

use super::heads::Heads;
use super::matrix::CachedLayer;
use super::tensor_core::instructions;
use super::tiles::by_query;
use super::{cudnn, eager, flash, flash3, own_attention, sdpa_math};
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
    assert_computed(recipe, heads, Some(keys), sinks);
    let seen = [first, keys];
    match recipe {
        AttentionRecipe::Own(own) => {
            own_attention::prefill(isa, pool, own, heads, cached, first, sinks, q, out);
        }
        AttentionRecipe::TorchEager(torch) => {
            eager::prefill(isa, pool, torch, heads, cached, sequence, seen, sinks, q, out);
        }
        AttentionRecipe::TorchFlash(torch) => flash::prefill(isa, pool, torch, heads, cached, seen, q, out),
        AttentionRecipe::TorchCudnn(torch) => cudnn::prefill(isa, pool, torch, heads, cached, first, q, out),
        AttentionRecipe::VllmFlash3(vllm) => flash3::prefill(isa, pool, vllm, heads, cached, seen, q, out),
        AttentionRecipe::TorchMath(torch) => {
            sdpa_math::prefill(isa, pool, torch, heads, cached, sequence, seen, q, out);
        }
    }
}

/// Attention of one query row per sequence over the whole of its cache (the row's own position included). `sequences`
/// are the rows' places in the batch. PyTorch's kernels get no keys but those of the window, as transformers' caches
/// keep them.
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
    // vLLM keeps all keys, and has another kernel for a window.
    let whole = matches!(recipe, AttentionRecipe::VllmFlash3(_));
    let longest = whole.then(|| caches.iter().map(|(_, keys)| *keys).max()).flatten();
    assert_computed(recipe, heads, longest, sinks);
    let kept: Vec<(CachedLayer<'_>, usize)>;
    let caches = if matches!(recipe, AttentionRecipe::Own(_)) {
        caches
    } else {
        let kept_of = |(cached, keys)| {
            let first = heads.first_seen(keys);
            (CachedLayer::skip(cached, first), keys - first)
        };
        kept = caches.iter().copied().map(kept_of).collect();
        &kept
    };
    match recipe {
        AttentionRecipe::Own(own) => own_attention::decode(isa, pool, own, heads, caches, sinks, q, out),
        AttentionRecipe::TorchEager(torch) => {
            eager::decode(isa, pool, torch, heads, caches, sequences, sinks, q, out);
        }
        AttentionRecipe::TorchFlash(torch) => {
            by_query(pool, heads, caches, q, out, |cached, keys, queries| {
                flash::attend(instructions(isa), torch, cached, keys, queries)
            });
        }
        AttentionRecipe::TorchCudnn(torch) => by_query(pool, heads, caches, q, out, |cached, _, queries| {
            cudnn::attend(instructions(isa), torch, cached, queries)
        }),
        AttentionRecipe::VllmFlash3(vllm) => {
            by_query(pool, heads, caches, q, out, |cached, keys, queries| {
                let tiles = keys.div_ceil(flash3::tile_of(vllm));
                flash3::attend(instructions(isa), vllm, cached, [tiles; 2], queries)
            });
        }
        AttentionRecipe::TorchMath(torch) => {
            sdpa_math::decode(isa, pool, torch, heads, caches, sequences, q, out);
        }
    }
}

fn fits(heads: Heads, rows: usize, q: &[f32], out: &[f32]) -> bool {
    q.len() == rows * heads.query * heads.dim && out.len() == rows * heads.query * heads.value
}

/// The engine's own attention alone has values of another width; those of flash and cuDNN have no window in prefill (of
/// `keys`), vLLM's has none at all; sinks are eager's and the engine's. Dispatch refuses the others for such a model;
/// an override may still ask for one.
fn assert_computed(recipe: AttentionRecipe, heads: Heads, keys: Option<usize>, sinks: &[f32]) {
    let is_computed = match recipe {
        AttentionRecipe::Own(_) => true,
        AttentionRecipe::TorchEager(torch) => heads.value == heads.dim && torch.sinks != sinks.is_empty(),
        AttentionRecipe::TorchFlash(_) | AttentionRecipe::TorchCudnn(_) | AttentionRecipe::VllmFlash3(_) => {
            let whole = heads.window.is_none_or(|window| keys.is_none_or(|keys| window >= keys));
            heads.value == heads.dim && sinks.is_empty() && whole
        }
        AttentionRecipe::TorchMath(_) => heads.value == heads.dim && sinks.is_empty(),
    };
    assert!(is_computed, "attention that {recipe:?} does not compute");
}

#[cfg(test)]
mod tests {
    use mantissa_numerics::recipe::{ScoreBound, TorchEager, TorchSoftmax};
    use mantissa_numerics::tensor_core::{Architecture, Operand};

    use super::super::heads::usual_heads;
    use super::*;

    #[test]
    #[should_panic(expected = "does not compute")]
    fn a_kernel_of_a_gpu_refuses_values_of_another_width() {
        let block = Architecture::Hopper.block(Operand::Bf16).unwrap();
        let sum = mantissa_numerics::recipe::BatchedSum::TensorCore { block, tile: None };
        let (bound, softmax) = (ScoreBound::None, TorchSoftmax::Warp);
        let storage = mantissa_numerics::Dtype::Bf16;
        let torch = TorchEager { scores: sum, bound, sinks: false, softmax, values: sum, storage };
        let recipe = AttentionRecipe::TorchEager(torch);
        let heads = Heads { value: 20, ..usual_heads(1, 40) };
        let pool = Pool::new(1).unwrap();
        decode(Isa::Scalar, &pool, recipe, heads, &[], &[], &[], &[], &mut []);
    }
}
