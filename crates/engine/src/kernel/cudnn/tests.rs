use std::path::Path;

use mantissa_model::graph::Slot;
use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::cudnn::attention;
use mantissa_numerics::recipe::{AttentionRecipe, CudnnKernel};
use mantissa_numerics::setup::{Attention, Hardware};
use mantissa_numerics::site::Phase;
use mantissa_numerics::tensor_core::{Architecture, Operand};

use super::super::hashed::{bytes_of, digest, hashed};
use super::super::heads::usual_heads;
use super::super::matrix::{Format, Matrix};
use super::*;
use crate::cache::KvCache;
use crate::dispatch::Dispatch;

/// A case of `goldens/gpu/cudnn.json`.
struct Case {
    /// Sequences, query heads, KV heads, width, queries, keys.
    shape: [usize; 6],
    dtype: Dtype,
    seed: u64,
    rows: Vec<usize>,
    /// Factor of the scores, where it is not the usual one.
    scale: Option<f64>,
    /// Whether values cancel: [`cancel`].
    paired: bool,
}

impl Case {
    fn read(json: &serde_json::Value) -> Self {
        let number = |value: &serde_json::Value| usize::try_from(value.as_u64().unwrap()).unwrap();
        let numbers = |value: &serde_json::Value| value.as_array().unwrap().iter().map(number).collect();
        let shape: Vec<usize> = numbers(&json["shape"]);
        Self {
            shape: shape.try_into().unwrap(),
            dtype: if json["dtype"] == "f16" { Dtype::F16 } else { Dtype::Bf16 },
            seed: json["seed"].as_u64().unwrap(),
            rows: json.get("rows").map_or(vec![0], numbers),
            scale: json["scale"].as_f64(),
            paired: json["paired"] == true,
        }
    }

    /// The recipe that dispatch names.
    fn recipe(&self) -> TorchCudnn {
        let [batch, heads, kv, dim, queries, keys] = self.shape;
        let phase = if queries == 1 { Phase::Decode } else { Phase::Prefill };
        let dispatch = Dispatch::new(Hardware::H200, self.dtype, Attention::Sdpa);
        let recipe = dispatch.attention(phase, batch * heads * queries, heads / kv, dim, keys);
        let AttentionRecipe::TorchCudnn(recipe) = recipe else { panic!("{:?}: {recipe:?}", self.shape) };
        recipe
    }

    /// Digest of the heads of one KV head of one sequence.
    fn digest(&self, instructions: Instructions, sequence: usize, kv_head: usize) -> String {
        let [_, heads, kv, dim, queries, keys] = self.shape;
        let (group, dtype, seed) = (heads / kv, self.dtype, self.seed);
        let at =
            |head: usize, row: usize| ((sequence * queries + row) * heads + kv_head * group + head) * dim;
        // By row, as the kernel wants them; the digest goes by head.
        let queries_of: Vec<(Vec<f32>, usize)> = self
            .rows
            .iter()
            .flat_map(|row| (0..group).map(move |head| (head, *row)))
            .map(|(head, row)| {
                let seen = if queries == 1 { keys } else { row + 1 };
                (hashed(dtype, at(head, row), dim, seed, 3.5), seen)
            })
            .collect();
        let mut made = [(1, 3.5), (2, 2.0)].map(|(which, spread)| {
            hashed(dtype, (sequence * kv + kv_head) * keys * dim, keys * dim, seed + which, spread)
        });
        if self.paired {
            cancel(&mut made, dim);
        }
        let [k, v] = made.map(|values| bytes_of(dtype, &values));
        let [k, v] = [&k, &v].map(|data| matrix(dtype, [keys, dim], data));
        let mut heads = usual_heads(group, dim);
        if let Some(scale) = self.scale {
            #[expect(clippy::cast_possible_truncation, reason = "PyTorch's rounding of a number")]
            let scale = scale as f32;
            heads.scale = scale;
        }
        let cached = Cached::new(heads, [k, v]);
        let queries_of: Vec<Query<'_>> = queries_of.iter().map(|(q, seen)| (&**q, *seen)).collect();
        let found = attend(instructions, self.recipe(), cached, &queries_of);
        let rows: Vec<&[f32]> = found.chunks_exact(dim).collect();
        let by_head = (0..group).flat_map(|head| rows.iter().skip(head).step_by(group));
        digest(dtype, &by_head.copied().collect::<Vec<_>>().concat())
    }
}

fn matrix(dtype: Dtype, [rows, cols]: [usize; 2], data: &[u8]) -> Matrix<'_> {
    Matrix { format: Format::Plain(dtype), rows, cols, row_bytes: 2 * cols, data }
}

/// Outputs of cuDNN on an H200; `CUDNN` names a file with others.
#[test]
fn outputs_are_those_of_an_h200() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/gpu/cudnn.json");
    let file = std::env::var_os("CUDNN").map_or(here, std::path::PathBuf::from);
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let best = Instructions::best();
    let mut compared = std::collections::BTreeMap::<String, usize>::new();
    for entry in json["cases"].as_array().unwrap() {
        let case = Case::read(entry);
        let [batch, _, kv, ..] = case.shape;
        for (which, sequence, kv_head) in [("first", 0, 0), ("last", batch - 1, kv - 1)] {
            let Some(expected) = entry.get(which) else { continue };
            let found = case.digest(best, sequence, kv_head);
            assert_eq!(found, expected.as_str().unwrap(), "{which} of {entry}");
            *compared.entry(format!("{:?} {}", case.recipe().kernel, case.dtype)).or_default() += 1;
        }
    }
    // Every kernel in both formats.
    assert_eq!(compared.len(), 6, "{compared:?}");
    assert!(compared.values().all(|count| *count >= 6), "{compared:?}");
}

/// At sizes that fill nothing, by every instruction set and by entries that share rows out.
#[test]
fn every_way_leads_to_the_bits_of_the_reference() {
    let pools = [1, 3].map(|threads| Pool::new(threads).unwrap());
    let mut compared = 0;
    for (dtype, operand) in [(Dtype::Bf16, Operand::Bf16), (Dtype::F16, Operand::F16)] {
        let block = Architecture::Hopper.block(operand).unwrap();
        for (kernel, keys) in [
            (CudnnKernel::Prefill, 1),
            (CudnnKernel::Prefill, 37),
            (CudnnKernel::Prefill, 150),
            (CudnnKernel::Narrow, 29),
            (CudnnKernel::Middle, 131),
            (CudnnKernel::Middle, 7),
            (CudnnKernel::Middle, 271),
        ] {
            let (group, kv, dim) = (3, 2, 40);
            let heads = Heads { query: group * kv, kv, ..usual_heads(group, dim) };
            let prefill = kernel == CudnnKernel::Prefill;
            let rows = if prefill { keys } else { 1 };
            let recipe = TorchCudnn { block, kernel };
            let q = hashed(dtype, 0, rows * heads.query * dim, 11, 9.0);
            // `[position, KV head, element]`, as a cache takes them.
            let cached =
                [(12, 9.0), (13, 2.0)].map(|(seed, spread)| hashed(dtype, 0, keys * kv * dim, seed, spread));
            let slot = Slot { heads: kv, width: dim };
            let mut cache = KvCache::of_slots(&[vec![slot; 2]], dtype, keys);
            for (which, values) in cached.iter().enumerate() {
                cache.write(Isa::Scalar, 0, which, 0, values);
            }
            let patterns = |values: &[f32]| values.iter().map(|x| dtype.pattern(*x)).collect::<Vec<u32>>();
            let of_head = |which: usize, kv_head: usize| -> Vec<Vec<u32>> {
                let positions = cached[which].chunks_exact(kv * dim);
                positions.map(|values| patterns(&values[kv_head * dim..][..dim])).collect()
            };
            let expected: Vec<f32> = (0..rows * heads.query)
                .flat_map(|place| {
                    let (row, head) = (place / heads.query, place % heads.query);
                    let seen = if prefill { row + 1 } else { keys };
                    let [k, v] = [0, 1].map(|which| of_head(which, head / group));
                    let query = patterns(&q[place * dim..][..dim]);
                    attention(block, kernel, heads.scale, &query, &k[..seen], &v[..seen])
                })
                .collect();
            assert!(expected.iter().any(|x| *x != 0.0 && x.is_finite()), "{kernel:?}");
            for (isa, pool) in [Isa::Scalar, Isa::Avx2, Isa::Avx512]
                .into_iter()
                .filter(|isa| isa.is_available())
                .flat_map(|isa| pools.iter().map(move |pool| (isa, pool)))
            {
                let mut out = vec![f32::NAN; q.len()];
                let layer = cache.layer(0, [0, 1]);
                if prefill {
                    super::prefill(isa, pool, recipe, heads, layer, 0, &q, &mut out);
                } else {
                    super::super::attention::decode(
                        isa,
                        pool,
                        AttentionRecipe::TorchCudnn(recipe),
                        heads,
                        &[(layer, keys)],
                        &[0],
                        &[],
                        &q,
                        &mut out,
                    );
                }
                assert_eq!(patterns(&out), patterns(&expected), "{kernel:?} {dtype} over {keys} by {isa:?}");
                compared += 1;
            }
        }
    }
    assert!(compared >= 28, "{compared}");
}

/// Makes the second half of the keys those of the first, and its values their negatives: over all keys what is left of
/// the sum is what was rounded away, which depends on every step's place.
fn cancel([keys, values]: &mut [Vec<f32>; 2], width: usize) {
    let half = keys.len() / width / 2 * width;
    keys.copy_within(..half, half);
    for at in 0..half {
        values[half + at] = -values[at];
    }
    values[2 * half..].fill(0.0);
}

/// The three kernels are three computations: none stands for another.
#[test]
fn kernels_differ() {
    let (dtype, group, dim, keys) = (Dtype::Bf16, 8, 128, 200);
    let block = Architecture::Hopper.block(Operand::Bf16).unwrap();
    let q = hashed(dtype, 0, group * dim, 5, 3.5);
    let mut cached = [6, 7].map(|seed| hashed(dtype, 0, keys * dim, seed, 3.5));
    cancel(&mut cached, dim);
    let [k, v] = cached.map(|values| bytes_of(dtype, &values));
    let [k, v] = [&k, &v].map(|data| matrix(dtype, [keys, dim], data));
    let queries: Vec<Query<'_>> = q.chunks_exact(dim).map(|q| (q, keys)).collect();
    let found = CudnnKernel::ALL.map(|kernel| {
        let cached = Cached::new(usual_heads(group, dim), [k, v]);
        digest(dtype, &attend(Instructions::best(), TorchCudnn { block, kernel }, cached, &queries))
    });
    for (at, one) in found.iter().enumerate() {
        assert!(!found[..at].contains(one), "{at}: {found:?}");
    }
}
