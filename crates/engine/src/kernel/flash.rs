//! Attention by [`TorchFlash`]: FlashAttention-2's kernels, with a tensor core's dot products.
//!
//! Rows share panels of keys and values and nothing else, so how rows are divided among tasks cannot change a bit.
//! Storage is bf16 or f16, whatever the steps multiply. Left out: what is done with scores
//! ([`mantissa_numerics::nvidia::flash`]), and into how many parts keys are cut (`dispatch`).

use std::ops::Range;

use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::flash::{Online, Scale, combined};
use mantissa_numerics::recipe::TorchFlash;
use mantissa_numerics::tensor_core::dot::{Instructions, LANES, Panel, Row};

use super::heads::{Heads, by_block};
use super::matrix::CachedLayer;
use super::tensor_core::{instructions, row};
use super::tiles::{Cached, Query, Walk};
use crate::pool::Pool;
use crate::simd::Isa;

/// Query rows of a task.
pub(super) const ROWS: usize = 64;

/// A row's softmax while tiles of keys go by.
pub(super) trait RowSoftmax: Copy + Default {
    /// Makes weights of a tile's scores and says what the sums so far are multiplied by.
    fn tile(&mut self, scale: Scale, scores: &mut [f32]) -> f32;

    /// What the sums are multiplied by in the end, and the logarithm of the sum of exponentials.
    fn finish(self, scale: Scale) -> (f32, f32);
}

impl RowSoftmax for Online {
    fn tile(&mut self, scale: Scale, scores: &mut [f32]) -> f32 {
        Self::tile(self, scale, scores)
    }

    fn finish(self, scale: Scale) -> (f32, f32) {
        Self::finish(self, scale)
    }
}

/// What a part of the keys leaves of every row: the sum of values, a row per sixteen elements of the head, and the
/// logarithm.
pub(super) struct Part {
    sums: Vec<Vec<[f32; LANES]>>,
    logs: Vec<f32>,
}

/// Attention of queries of one KV head, in ascending order of how much they see.
///
/// *Shape:* `total` keys decide where they are cut; no row sees more than are cached; returns `rows × dim`. *Rounding:*
/// as [`TorchFlash`].
pub(super) fn attend(
    instructions: Instructions,
    recipe: TorchFlash,
    cached: Cached<'_>,
    total: usize,
    queries: &[Query<'_>],
) -> Vec<f32> {
    let (TorchFlash { block, key_tile, splits }, storage) = (recipe, recipe.storage());
    let tile = usize::try_from(key_tile.get()).unwrap_or(usize::MAX);
    let splits = usize::from(splits.get());
    let rows: Vec<Row> = queries.iter().map(|(q, _)| row(instructions, block, q)).collect();
    let limits: Vec<usize> = queries.iter().map(|(_, limit)| *limit).collect();
    let walk = Walk { instructions, block, storage, cached, rows: &rows, limits: &limits };
    let length = total.div_ceil(tile).div_ceil(splits) * tile;
    let parts: Vec<Part> = (0..splits)
        .map(|part| {
            let range = part * length..(part + 1) * length;
            part_of::<Online>(&walk, tile, range)
        })
        .collect();
    joined(&parts, cached.dim, storage, |logs| combined(cached.dim, logs).0)
}

/// The parts of each row together, by weights that are made of their logarithms. *Shape:* returns `rows × dim`.
pub(super) fn joined(
    parts: &[Part],
    dim: usize,
    storage: Dtype,
    weights: impl Fn(&[f32]) -> Vec<f32>,
) -> Vec<f32> {
    let rows = parts.first().map_or(0, |part| part.logs.len());
    let mut out = vec![0.0; rows * dim];
    for (r, out) in out.chunks_exact_mut(dim).enumerate() {
        let element = |part: &Part, k: usize| part.sums[k / LANES][r][k % LANES];
        if let [part] = parts {
            for (k, out) in out.iter_mut().enumerate() {
                *out = storage.round(element(part, k));
            }
            continue;
        }
        let logs: Vec<f32> = parts.iter().map(|part| part.logs[r]).collect();
        let weights = weights(&logs);
        for (k, out) in out.iter_mut().enumerate() {
            let weighed = parts.iter().zip(&weights);
            *out =
                storage.round(weighed.fold(0.0, |sum, (part, weight)| weight.mul_add(element(part, k), sum)));
        }
    }
    out
}

/// One part of the keys, tile by tile from its last.
pub(super) fn part_of<S: RowSoftmax>(walk: &Walk<'_>, tile: usize, part: Range<usize>) -> Part {
    let scale = Scale::new(walk.cached.scale);
    let mut states = vec![S::default(); walk.rows.len()];
    let (mut sums, mut panel) = (walk.sums(), Panel::default());
    let seen = walk.limits.last().copied().unwrap_or(0).min(part.end);
    for from in part.step_by(tile).filter(|from| *from < seen).collect::<Vec<_>>().into_iter().rev() {
        let weights = |r: usize, scores: &mut [f32]| states[r].tile(scale, scores);
        walk.take([from, tile, seen], &mut panel, &mut sums, weights);
    }
    let finished: Vec<(f32, f32)> = states.iter().map(|state| state.finish(scale)).collect();
    for sums in &mut sums {
        for (sums, (inverse, _)) in sums.iter_mut().zip(&finished) {
            *sums = sums.map(|sum| sum * inverse);
        }
    }
    Part { sums, logs: finished.iter().map(|(_, log)| *log).collect() }
}

/// Causal attention of `q`'s rows, as [`super::attention::prefill`].
#[expect(clippy::too_many_arguments, reason = "where, how, and four tensors")]
pub(super) fn prefill(
    isa: Isa,
    pool: &Pool,
    recipe: TorchFlash,
    heads: Heads,
    cached: CachedLayer<'_>,
    [first, total]: [usize; 2],
    q: &[f32],
    out: &mut [f32],
) {
    by_block(pool, heads, ROWS, cached, first, q, out, |_, queries, limits, cached| {
        let queries: Vec<Query<'_>> = queries.iter().copied().zip(limits.iter().copied()).collect();
        attend(instructions(isa), recipe, Cached::new(heads, cached), total, &queries)
    });
}

#[cfg(test)]
pub(super) mod golden {
    use mantissa_numerics::Dtype;
    use std::path::Path;

    use mantissa_numerics::recipe::AttentionRecipe;

    use mantissa_model::graph::Slot;

    use super::super::attention;
    use super::super::heads::usual_heads;
    use super::super::matrix::{Format, Matrix};
    use crate::cache::KvCache;
    use crate::pool::Pool;
    use crate::simd::Isa;

    /// Formats; sequences, query heads, KV heads, width, queries, keys.
    pub(in super::super) const CASES: [(Dtype, &str); 9] = [
        (Dtype::Bf16, "1_9_3_64_130_130"),
        (Dtype::Bf16, "1_9_3_64_300_300"),
        (Dtype::Bf16, "1_9_3_64_1_41"),
        (Dtype::Bf16, "2_28_4_128_1_200"),
        (Dtype::Bf16, "8_9_3_64_1_65"),
        (Dtype::F16, "1_9_3_64_200_200"),
        (Dtype::F16, "1_9_3_64_300_300"),
        (Dtype::F16, "1_9_3_64_1_41"),
        (Dtype::F16, "2_28_4_128_1_200"),
    ];

    pub(in super::super) struct Golden {
        pub dtype: Dtype,
        pub case: &'static str,
        /// Query heads of all sequences times queries.
        pub rows: usize,
        pub group: usize,
        pub dim: usize,
        pub queries: usize,
        pub count: usize,
        /// Of some rows of the first KV head: queries, keys that they see, outputs by backend.
        pub q: Vec<f32>,
        pub limits: Vec<usize>,
        pub flash: Vec<u32>,
        pub math: Vec<u32>,
        cached: [Vec<u8>; 2],
    }

    impl Golden {
        pub(in super::super) fn read((dtype, case): (Dtype, &'static str)) -> Self {
            let [batch, heads, kv, dim, queries, count]: [usize; 6] =
                case.split('_').map(|n| n.parse().unwrap()).collect::<Vec<_>>().try_into().unwrap();
            let folder = if dtype == Dtype::F16 { "sdpa_f16" } else { "sdpa" };
            let path =
                Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../goldens/gpu/{folder}/{case}.bin"));
            let bytes = std::fs::read(&path).unwrap();
            let word = |b: &[u8; 4]| usize::try_from(u32::from_le_bytes(*b)).unwrap();
            let (number, rest) = bytes.split_first_chunk::<4>().unwrap();
            let number = word(number);
            let (seen, rest) = rest.split_at(4 * number);
            let (q, rest) = rest.split_at(2 * number * dim);
            let (keys, rest) = rest.split_at(2 * count * dim);
            let (values, rest) = rest.split_at(2 * count * dim);
            let (flash, math) = rest.split_at(2 * number * dim);
            assert_eq!(math.len(), flash.len(), "{case}");
            let patterns = |bytes: &[u8]| -> Vec<u32> {
                bytes.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b).into()).collect()
            };
            Self {
                dtype,
                case,
                rows: batch * heads * queries,
                group: heads / kv,
                dim,
                queries,
                count,
                q: (0..number * dim).map(|at| dtype.decode(q, at)).collect(),
                limits: seen.as_chunks().0.iter().map(word).collect(),
                flash: patterns(flash),
                math: patterns(math),
                // A panel may read rows past the last.
                cached: [keys, values].map(|part| [part, &[0; 1 << 14]].concat()),
            }
        }

        /// The attention entries' own view, with a row of queries for every key in prefill: a cache of one KV head, and
        /// what those entries leave for the rows that are known.
        pub(in super::super) fn by_entries(
            &self,
            isa: Isa,
            pool: &Pool,
            recipe: AttentionRecipe,
        ) -> Vec<u32> {
            let heads = usual_heads(self.group, self.dim);
            let slot = Slot { heads: 1, width: self.dim };
            let mut cache = KvCache::of_slots(&[vec![slot; 2]], self.dtype, self.count);
            for (which, bytes) in self.cached.iter().enumerate() {
                let values: Vec<f32> =
                    (0..self.count * self.dim).map(|at| self.dtype.decode(bytes, at)).collect();
                cache.write(isa, 0, which, 0, &values);
            }
            // All heads share the keys, so a row may stand in any of them: the next one of its position.
            let mut taken = vec![0; self.queries];
            let places: Vec<usize> = self
                .limits
                .iter()
                .map(|limit| {
                    let at = limit + self.queries - self.count - 1;
                    taken[at] += 1;
                    (at * self.group + taken[at] - 1) * self.dim
                })
                .collect();
            let mut q = vec![0.0; self.queries * self.group * self.dim];
            for (place, row) in places.iter().zip(self.q.chunks_exact(self.dim)) {
                q[*place..][..self.dim].copy_from_slice(row);
            }
            let mut out = vec![0.0; q.len()];
            if self.queries == 1 {
                attention::decode(
                    isa,
                    pool,
                    recipe,
                    heads,
                    &[(cache.layer(0, [0, 1]), self.count)],
                    &[0],
                    &[],
                    &q,
                    &mut out,
                );
            } else {
                attention::prefill(
                    isa,
                    pool,
                    recipe,
                    heads,
                    cache.layer(0, [0, 1]),
                    0,
                    [0, self.count],
                    &[],
                    &q,
                    &mut out,
                );
            }
            let found = places.iter().flat_map(|place| &out[*place..][..self.dim]);
            found.map(|x| self.dtype.pattern(*x)).collect()
        }

        pub(in super::super) fn keys(&self) -> Matrix<'_> {
            self.matrix(0)
        }

        pub(in super::super) fn values(&self) -> Matrix<'_> {
            self.matrix(1)
        }

        fn matrix(&self, which: usize) -> Matrix<'_> {
            Matrix {
                format: Format::Plain(self.dtype),
                rows: self.count,
                cols: self.dim,
                row_bytes: 2 * self.dim,
                data: &self.cached[which],
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mantissa_model::graph::Slot;
    use mantissa_numerics::Dtype;
    use mantissa_numerics::recipe::AttentionRecipe;
    use mantissa_numerics::setup::{Attention, Hardware};
    use mantissa_numerics::site::Phase;
    use mantissa_numerics::tensor_core::{Architecture, Operand};

    use super::super::hashed::{bytes_of, digest, hashed};
    use super::super::heads::usual_heads;
    use super::super::matrix::{Format, Matrix};
    use super::golden::{CASES, Golden};
    use super::*;
    use crate::cache::KvCache;
    use crate::dispatch::Dispatch;

    /// Outputs of PyTorch's flash backend on an H200.
    #[test]
    fn outputs_are_those_of_an_h200() {
        for golden in CASES.map(Golden::read) {
            let heads = usual_heads(golden.group, golden.dim);
            let cached = Cached::new(heads, [golden.keys(), golden.values()]);
            let rows: Vec<Query<'_>> =
                golden.q.chunks_exact(golden.dim).zip(golden.limits.iter().copied()).collect();
            let phase = if golden.queries == 1 { Phase::Decode } else { Phase::Prefill };
            let dispatch = Dispatch::new(Hardware::H200, golden.dtype, Attention::SdpaFlash);
            let recipe = dispatch.attention(phase, golden.rows, golden.group, golden.dim, golden.count);
            let AttentionRecipe::TorchFlash(torch) = recipe else { panic!("{}: {recipe:?}", golden.case) };
            for instructions in Instructions::ALL.into_iter().filter(|one| one.is_available()) {
                let found = attend(instructions, torch, cached, golden.count, &rows);
                let off =
                    found.iter().zip(&golden.flash).filter(|(x, bits)| golden.dtype.pattern(**x) != **bits);
                assert_eq!(off.count(), 0, "{} {} by {instructions:?}", golden.dtype, golden.case);
            }
            let found = golden.by_entries(Isa::detect(), &Pool::new(2).unwrap(), recipe);
            assert!(found == golden.flash, "{}: rows or heads are mixed up", golden.case);
        }
    }

    /// Zeros that pad a head add nothing: heads of 80 and 96 are those of 128 that end in zeros, but for where rows of
    /// parts are put together.
    #[test]
    fn widths_are_padded_with_zeros() {
        const COUNT: usize = 150;
        let value =
            |i: usize| Dtype::Bf16.round(f32::from(u8::try_from(i * 7919 % 251).unwrap()) / 64.0 - 2.0);
        let block = Architecture::Hopper.block(Operand::Bf16).unwrap();
        let recipe = TorchFlash { block, key_tile: 64.try_into().unwrap(), splits: 1.try_into().unwrap() };
        let pool = Pool::new(1).unwrap();
        let attended = |width: usize, dim: usize| {
            let heads = Heads { dim, value: dim, ..usual_heads(1, width) };
            let padded = |seed: usize| -> Vec<f32> {
                let element =
                    |i: usize| if i % dim < width { value(seed + i / dim * width + i % dim) } else { 0.0 };
                (0..COUNT * dim).map(element).collect()
            };
            let mut cache = KvCache::of_slots(&[vec![Slot { heads: 1, width: dim }; 2]], Dtype::Bf16, COUNT);
            cache.write(Isa::Scalar, 0, 0, 0, &padded(11));
            cache.write(Isa::Scalar, 0, 1, 0, &padded(5));
            let mut out = vec![0.0; COUNT * dim];
            prefill(
                Isa::detect(),
                &pool,
                recipe,
                heads,
                cache.layer(0, [0, 1]),
                [0, COUNT],
                &padded(3),
                &mut out,
            );
            out.chunks_exact(dim).flat_map(|row| row[..width].to_vec()).collect::<Vec<f32>>()
        };
        for width in [80, 96] {
            let found = attended(width, width);
            assert_eq!(found, attended(width, 128), "{width}");
            assert!(found.iter().any(|x| x.to_bits() != found[0].to_bits()), "{width}");
        }
    }

    /// Digests of rows over up to 32,768 keys, as `goldens/gpu/long_rows.py` writes them; `LONG_ROWS` names a file with
    /// all of them.
    #[test]
    fn long_rows_are_those_of_an_h200() {
        let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/gpu/long_rows.json");
        let file = std::env::var_os("LONG_ROWS").map_or(here, std::path::PathBuf::from);
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let mut compared = 0;
        for (name, digests) in json["digests"].as_object().unwrap() {
            let Some(case) = name.strip_prefix("flash_bf16_") else { continue };
            let shape: [usize; 6] =
                case.split('_').map(|n| n.parse().unwrap()).collect::<Vec<_>>().try_into().unwrap();
            let digests = digests.as_array().unwrap();
            for (digest, last) in [(digests.first(), false), (digests.last(), true)] {
                assert_eq!(long_row(shape, last), digest.unwrap().as_str().unwrap(), "{case} last {last}");
                compared += 1;
            }
        }
        assert!(compared > 20, "{compared}");
    }

    /// The digest of the last row of a case, or of the first: of the last head and sequence and, in prefill, of the
    /// last position.
    fn long_row([heads, kv, dim, queries, keys, batch]: [usize; 6], last: bool) -> String {
        const LARGEST: usize = 32_768;
        let decode = queries == 1;
        let stored = if decode { LARGEST } else { keys };
        let at = |of: usize| if last { of - 1 } else { 0 };
        let (sequence, head, kv_head) = (at(batch), at(heads), at(kv));
        let position = if decode { 0 } else { at(queries) };
        let seed = [if decode { 6 } else { 7 }, heads, kv, dim]
            .into_iter()
            .fold(7, |seed, word| (seed * 1_000_003 + word as u64) & 0xFFFF_FFFF);
        let dtype = Dtype::Bf16;
        let q = hashed(dtype, ((sequence * heads + head) * queries + position) * dim, dim, seed, 4.0);
        let [k, v] = [1, 2].map(|which| {
            let first = (sequence * kv + kv_head) * stored * dim;
            bytes_of(dtype, &hashed(dtype, first, keys * dim, seed + which, 2.0))
        });
        let [k, v] = [&k, &v].map(|data| Matrix {
            format: Format::Plain(Dtype::Bf16),
            rows: keys,
            cols: dim,
            row_bytes: 2 * dim,
            data,
        });
        let cached = Cached::new(usual_heads(heads / kv, dim), [k, v]);
        let phase = if decode { Phase::Decode } else { Phase::Prefill };
        let rows = batch * heads * queries;
        let flash = Dispatch::new(Hardware::H200, Dtype::Bf16, Attention::SdpaFlash);
        let recipe = flash.attention(phase, rows, heads / kv, dim, keys);
        let AttentionRecipe::TorchFlash(torch) = recipe else { panic!("{recipe:?}") };
        let limit = if decode { keys } else { position + 1 };
        let instructions = Instructions::ALL.into_iter().rfind(|one| one.is_available()).unwrap();
        let found = attend(instructions, torch, cached, keys, &[(&q, limit)]);
        digest(dtype, &found)
    }
}
