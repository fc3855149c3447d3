//! Attention as PyTorch's math backend computes it: binary32 throughout, queries and keys scaled before their product,
//! and PyTorch's softmax. The products are those of a cuBLAS without tensor cores: `fma` chains, which are
//! [`super::source`]'s, or the sums of a matrix-vector kernel's threads.
//!
//! Left out: which product a shape gets (`dispatch`, from the catalog).

use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::products::{ACROSS, by_threads_across};
use mantissa_numerics::recipe::{PlainSum, TorchMath};

use super::heads::{Heads, by_group};
use super::matrix::{CachedLayer, Format, Matrix, PANEL};
use super::share::Shared;
use super::source::{Panels, Source, widened};
use crate::pool::{Buffer, Pool};
use crate::simd::Isa;

/// Query positions of a task.
const QUERIES: usize = 48;

/// Attention of queries of one KV head; query `r` sees the first `limits[r]` keys, of `total` in the kernel's rows of
/// scores, but for those outside its window and for padding, and `before[r]` elements lie before its row.
///
/// *Shape:* returns rows of the cache's padded width, of which the first `head_dim` count.
#[expect(clippy::too_many_arguments, reason = "where, how, and the operands")]
fn attend<'p>(
    isa: Isa,
    pool: &'p Pool,
    recipe: TorchMath,
    heads: Heads,
    cached: CachedLayer<'_>,
    [keys, values]: [Matrix<'_>; 2],
    total: usize,
    queries: &mut [f32],
    limits: &[usize],
    before: &[usize],
) -> Buffer<'p> {
    let (root, dim) = (heads.root_of_scale, heads.dim);
    let columns = keys.cols;
    // A panel may read rows past the last.
    let mut scaled = vec![0.0; (keys.rows + PANEL) * keys.cols];
    widened(isa, keys, &mut scaled[..keys.rows * keys.cols]);
    for x in scaled.iter_mut().chain(&mut *queries) {
        *x *= root;
    }
    let scaled_keys = Matrix {
        format: Format::Plain(Dtype::F32),
        row_bytes: 4 * keys.cols,
        data: bytemuck::cast_slice(&scaled),
        ..keys
    };
    let source = Panels::new(isa, pool, dim, scaled_keys, values);
    let stride = keys.rows.next_multiple_of(PANEL);
    let mut scores = pool.buffer(limits.len() * stride);
    match recipe.scores {
        PlainSum::FmaChain => source.scores(queries, limits.len(), &mut scores, stride),
        PlainSum::Threads(sum) => {
            let mut across = vec![[0.0_f32; ACROSS]; dim];
            for (number, keys) in scaled[..keys.rows * columns].chunks(ACROSS * columns).enumerate() {
                let first = number * ACROSS;
                let keys = keys.chunks_exact(columns);
                let lanes = keys.len();
                for (lane, key) in keys.enumerate() {
                    for (across, key) in across.iter_mut().zip(key) {
                        across[lane] = *key;
                    }
                }
                let rows = queries.chunks_exact(dim).zip(scores.chunks_exact_mut(stride)).zip(limits);
                for ((q, scores), _) in rows.filter(|(_, limit)| **limit > first) {
                    let sums = by_threads_across(sum, q, |k| across[k]);
                    scores[first..first + lanes].copy_from_slice(&sums[..lanes]);
                }
            }
        }
    }
    for ((scores, limit), before) in scores.chunks_exact_mut(stride).zip(limits).zip(before) {
        scores[..heads.first_seen(*limit)].fill(f32::NEG_INFINITY);
        cached.hide(scores, *limit);
        recipe.softmax.softmax(&mut scores[..keys.rows], *limit, total, *before);
        scores[keys.rows..].fill(0.0);
    }
    let width = source.values_stride();
    let mut out = pool.buffer(limits.len() * width);
    match recipe.values {
        PlainSum::FmaChain => source.weigh(&scores, stride, limits.len(), (0, keys.rows), &mut out),
        PlainSum::Threads(sum) => {
            let values = source.values();
            for (p, out) in scores.chunks_exact(stride).zip(out.chunks_exact_mut(width)) {
                for (number, out) in out[..dim].chunks_mut(ACROSS).enumerate() {
                    let first = number * ACROSS;
                    let sums = by_threads_across(sum, &p[..keys.rows], |k| {
                        let mut value = [0.0; ACROSS];
                        let row = &values[k * width + first..(k + 1) * width];
                        for (value, x) in value.iter_mut().zip(row) {
                            *value = *x;
                        }
                        value
                    });
                    out.copy_from_slice(&sums[..out.len()]);
                }
            }
        }
    }
    for x in out.iter_mut() {
        *x = recipe.storage.round(*x);
    }
    out
}

/// Causal attention of `q`'s rows, as [`super::attention::prefill`].
#[expect(clippy::too_many_arguments, reason = "where, how, and four tensors")]
pub(super) fn prefill(
    isa: Isa,
    pool: &Pool,
    recipe: TorchMath,
    heads: Heads,
    cached: CachedLayer<'_>,
    sequence: usize,
    [first, total]: [usize; 2],
    q: &[f32],
    out: &mut [f32],
) {
    let width = heads.query * heads.dim;
    let rows = q.len() / width;
    let to = Shared(out.as_mut_ptr());
    let blocks = rows.div_ceil(QUERIES);
    pool.run(blocks * heads.kv, |task| {
        // Later blocks have more keys: take them first.
        let (block, kv) = (blocks - 1 - task / heads.kv, task % heads.kv);
        let (from, until) = (block * QUERIES, rows.min((block + 1) * QUERIES));
        let places: Vec<(usize, usize)> = (kv * heads.group()..(kv + 1) * heads.group())
            .flat_map(|head| (from..until).map(move |row| (row, head)))
            .collect();
        let at = |(row, head): (usize, usize)| row * width + head * heads.dim;
        let mut queries: Vec<f32> =
            places.iter().flat_map(|place| &q[at(*place)..][..heads.dim]).copied().collect();
        let limits: Vec<usize> = places.iter().map(|(row, _)| first + row + 1).collect();
        let before =
            |(row, head): &(usize, usize)| heads.before(sequence, *head, [first + row, total], total);
        let before: Vec<usize> = places.iter().map(before).collect();
        let of_head = cached.head(kv, first + until);
        let found = attend(isa, pool, recipe, heads, cached, of_head, total, &mut queries, &limits, &before);
        for (place, values) in places.iter().zip(found.chunks_exact(of_head[0].cols)) {
            // SAFETY: this task alone writes these heads of these rows.
            unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), to.get().add(at(*place)), heads.dim) };
        }
    });
}

/// Attention of one query row per sequence, as [`super::attention::decode`].
#[expect(clippy::too_many_arguments, reason = "as prefill")]
pub(super) fn decode(
    isa: Isa,
    pool: &Pool,
    recipe: TorchMath,
    heads: Heads,
    caches: &[(CachedLayer<'_>, usize)],
    sequences: &[usize],
    q: &[f32],
    out: &mut [f32],
) {
    by_group(pool, heads, caches, q, out, |[row, kv], queries, of_head| {
        let count = of_head[0].rows;
        let limits = vec![count; heads.group()];
        let before: Vec<usize> = (kv * heads.group()..(kv + 1) * heads.group())
            .map(|head| heads.before(sequences[row], head, [0, 1], count))
            .collect();
        attend(
            isa,
            pool,
            recipe,
            heads,
            caches[row].0,
            of_head,
            count,
            &mut queries.to_vec(),
            &limits,
            &before,
        )
    });
}

#[cfg(test)]
mod tests {
    use mantissa_model::graph::Slot;
    use mantissa_numerics::recipe::{AttentionRecipe, ThreadSum};
    use mantissa_numerics::setup::{Attention, Hardware};
    use mantissa_numerics::site::Phase;

    use super::super::flash::golden::{CASES, Golden};
    use super::super::heads::usual_heads;
    use super::*;
    use crate::cache::KvCache;
    use crate::dispatch::Dispatch;

    /// Outputs of PyTorch's math backend on an H200.
    #[test]
    fn outputs_are_those_of_an_h200() {
        let pool = Pool::new(1).unwrap();
        // Nothing is hidden in a cache without padding.
        let empty = KvCache::of_slots(&[vec![Slot { heads: 1, width: 1 }; 2]], Dtype::Bf16, 0);
        let mut compared = 0;
        for golden in CASES.map(Golden::read) {
            let dispatch = Dispatch::new(Hardware::H200, golden.dtype, Attention::SdpaMath);
            let phase = if golden.queries == 1 { Phase::Decode } else { Phase::Prefill };
            let recipe = dispatch.attention(phase, golden.rows, golden.group, golden.dim, golden.count);
            let AttentionRecipe::TorchMath(torch) = recipe else { panic!("{}: {recipe:?}", golden.case) };
            let by_threads = |sum| matches!(sum, PlainSum::Threads(_));
            assert_eq!(
                [by_threads(torch.scores), by_threads(torch.values)],
                [phase == Phase::Decode; 2],
                "{}: the catalog knows it",
                golden.case
            );
            for isa in [Isa::Scalar, Isa::detect()] {
                let of_head = [golden.keys(), golden.values()];
                let cached = empty.layer(0, [0, 1]);
                let heads = usual_heads(golden.group, golden.dim);
                let (mut q, before) = (golden.q.clone(), vec![0; golden.limits.len()]);
                let (count, limits) = (golden.count, &golden.limits);
                let found = attend(isa, &pool, torch, heads, cached, of_head, count, &mut q, limits, &before);
                let off =
                    found.iter().zip(&golden.math).filter(|(x, bits)| golden.dtype.pattern(**x) != **bits);
                assert_eq!(off.count(), 0, "{} {} by {isa:?}", golden.dtype, golden.case);
                compared += 1;
            }
            let found = golden.by_entries(Isa::detect(), &pool, recipe);
            assert!(found == golden.math, "{}: rows or heads are mixed up", golden.case);
        }
        assert_eq!(compared, 18);
    }

    /// Sums of binary32 that PyTorch's matmul left in decode on an H200, which outputs in bf16 would hide; one operand
    /// was ones.
    #[test]
    fn sums_are_those_of_an_h200() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/gpu/sdpa_math");
        let mut compared = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            let (product, shape) = name.split_once('_').unwrap();
            let [heads, dim, keys]: [usize; 3] =
                shape.split('_').map(|n| n.parse().unwrap()).collect::<Vec<_>>().try_into().unwrap();
            let words: Vec<u32> =
                std::fs::read(&path).unwrap().as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
            let [count, length] = [words[0], words[1]].map(|n| usize::try_from(n).unwrap());
            let (rows, found) = words[2..].split_at(count * length);
            assert_eq!(
                (found.len(), length),
                (count, if product == "scores" { dim } else { keys }),
                "{name}"
            );
            let dispatch = Dispatch::new(Hardware::H200, mantissa_numerics::Dtype::Bf16, Attention::SdpaMath);
            let recipe = dispatch.attention(Phase::Decode, heads, 1, dim, keys);
            let AttentionRecipe::TorchMath(math) = recipe else { panic!("{name}: {recipe:?}") };
            let sums = if product == "scores" { math.scores } else { math.values };
            let PlainSum::Threads(sum) = sums else { panic!("{name}: the catalog has {sums:?}") };
            let (threads, vector) = (sum.threads(), sum.vector().get());
            let by = |threads, vector| -> Vec<u32> {
                let order = ThreadSum::new(threads, vector, sum.in_order()).unwrap();
                let sum = |row: &[u32]| {
                    mantissa_numerics::nvidia::products::by_threads(order, length, |k| {
                        (1.0, f32::from_bits(row[k]))
                    })
                };
                rows.chunks_exact(length).map(|row| sum(row).to_bits()).collect()
            };
            assert_eq!(by(threads, vector), found, "{name}");
            assert_ne!(by(1, 1), found, "{name}: a chain is told apart");
            assert_ne!(by(threads, vector + 1), found, "{name}: the width is told apart");
            compared += count;
        }
        assert_eq!(compared, 128);
    }
}
