//! Attention of query heads over cached keys and values: each variant of [`AttentionRecipe`] has a file of its own.

use mantissa_numerics::recipe::AttentionRecipe;

use super::heads::Heads;
use super::matrix::CachedLayer;
use super::{eager, flash, own_attention, sdpa_math};
use crate::pool::Pool;
use crate::simd::Isa;

/// Causal attention of `q`'s rows, which stand at positions `first..` of `cached` (already written), of a pass after
/// which `keys` are cached.
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
    [first, keys]: [usize; 2],
    sinks: &[f32],
    q: &[f32],
    out: &mut [f32],
) {
    let rows = q.len() / (heads.query * heads.dim);
    assert!(fits(heads, rows, q, out), "attention: shapes differ");
    let seen = [first, keys];
    match recipe {
        AttentionRecipe::Own(own) => {
            own_attention::prefill(isa, pool, own, heads, cached, first, sinks, q, out);
        }
        AttentionRecipe::TorchEager(torch) => eager::prefill(isa, pool, torch, heads, cached, seen, q, out),
        AttentionRecipe::TorchFlash(torch) => flash::prefill(isa, pool, torch, heads, cached, seen, q, out),
        AttentionRecipe::TorchMath(torch) => {
            sdpa_math::prefill(isa, pool, torch, heads, cached, first, q, out);
        }
    }
}

/// Attention of one query row per sequence over the whole of its cache (the row's own position included).
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
    sinks: &[f32],
    q: &[f32],
    out: &mut [f32],
) {
    assert!(fits(heads, caches.len(), q, out), "attention: shapes differ");
    match recipe {
        AttentionRecipe::Own(own) => own_attention::decode(isa, pool, own, heads, caches, sinks, q, out),
        AttentionRecipe::TorchEager(torch) => eager::decode(isa, pool, torch, heads, caches, q, out),
        AttentionRecipe::TorchFlash(torch) => flash::decode(isa, pool, torch, heads, caches, q, out),
        AttentionRecipe::TorchMath(torch) => sdpa_math::decode(isa, pool, torch, heads, caches, q, out),
    }
}

fn fits(heads: Heads, rows: usize, q: &[f32], out: &[f32]) -> bool {
    q.len() == rows * heads.query * heads.dim && out.len() == rows * heads.query * heads.value
}
