//! vLLM's kernels: rows that vLLM 0.24.0 left on an H200 (goldens/parallel/vllm_slice.py and vllm_experts.py say where
//! they are from), and what was not captured against a scalar reference.

use std::path::Path;

use mantissa_model::graph::{Attention, Routing, RoutingWeights, Slot, WideRouting};
use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::flash::Scale;
use mantissa_numerics::nvidia::flash3::{Online, Request, Step, combined};
use mantissa_numerics::nvidia::functions::{cos, sin};
use mantissa_numerics::nvidia::gating::VllmGating;
use mantissa_numerics::nvidia::reduce::TorchSum;
use mantissa_numerics::nvidia::vllm::VllmMean;
use mantissa_numerics::recipe::{
    AllReduceSum, AttentionRecipe, ExpertOrder, ExpertRanks, ExpertSumRecipe, NormMean, NormRecipe,
    NormWeight, RankOrder, RotaryFunctions, RotaryPairs, RotaryRecipe, RouterChoice, RouterRecipe,
    RouterSoftmax, TorchFlash, VllmFlash3,
};
use mantissa_numerics::tensor_core::{Architecture, BlockRecipe, Operand};

use super::attention;
use super::heads::Heads;
use super::moe::{expert_sum, route};
use super::rows::{rms_norm, rotary};
use crate::cache::KvCache;
use crate::pool::Pool;
use crate::simd::Isa;

const WIDTH: usize = 576;
const EPS: f32 = 1e-5;

/// The values of a file, in parts of these lengths.
fn golden<const N: usize>(name: &str, lengths: [usize; N]) -> [Vec<f32>; N] {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../goldens/parallel/vllm_{name}.bin"));
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len(), 2 * lengths.iter().sum::<usize>(), "{name}");
    let mut at = 0;
    lengths.map(|length| {
        at += length;
        (at - length..at).map(|i| Dtype::Bf16.decode(&bytes, i)).collect()
    })
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

fn block() -> BlockRecipe {
    Architecture::Hopper.block(Operand::Bf16).unwrap()
}

/// A product of rows in bf16.
fn product(a: &[f32], b: &[f32]) -> f32 {
    let patterns = |x: &[f32]| x.iter().map(|x| Dtype::Bf16.pattern(*x)).collect::<Vec<u32>>();
    block().chain(&patterns(a), &patterns(b), 0.0)
}

fn normed(mean: NormMean, x: &[f32], weight: &[f32]) -> Vec<f32> {
    let recipe = NormRecipe { mean, weight: NormWeight::BeforeCast, output: Dtype::Bf16 };
    let mut out = vec![0.0; x.len()];
    rms_norm(Isa::detect(), &Pool::new(1).unwrap(), recipe, x, weight, EPS, &mut out);
    out
}

/// `fused_add_rms_norm` of a prompt of 38 tokens, and of one token.
#[test]
fn norms_are_those_of_an_h200() {
    let [weight, rows @ ..] = golden("norm", [WIDTH; 7]);
    let mut others = 0;
    for (at, row) in rows.as_chunks::<2>().0.iter().enumerate() {
        let [x, want] = row;
        let tokens = if at < 2 { 38 } else { 1 };
        let vllm = NormMean::Vllm(VllmMean::of(tokens, WIDTH, true).unwrap());
        assert_eq!(bits(&normed(vllm, x, &weight)), bits(want), "row {at}");
        let rows = u32::try_from(tokens).unwrap().try_into().unwrap();
        let torch = NormMean::Torch { sum: TorchSum::of(tokens, WIDTH).unwrap(), rows };
        others += usize::from(bits(&normed(torch, x, &weight)) != bits(want));
    }
    assert!(others > 0, "the order of the sum shows in none of these rows");
}

/// `rms_norm`, the product of its output with a part of the weight, and its rotation.
#[test]
fn rotated_queries_are_those_of_an_h200() {
    const POSITION: f32 = 37.0;
    const PAIRS: [u16; 3] = [0, 5, 20];
    let [x, weight, matrix, want] = golden("rotary", [WIDTH, WIDTH, 6 * WIDTH, 6]);
    let mean = NormMean::Vllm(VllmMean::of(38, WIDTH, false).unwrap());
    let x = normed(mean, &x, &weight);
    let turned: Vec<f32> = matrix.chunks(WIDTH).map(|row| Dtype::Bf16.round(product(&x, row))).collect();
    let round = |x: Option<f32>| Dtype::Bf16.round(x.unwrap());
    for (at, pair) in PAIRS.into_iter().enumerate() {
        // PyTorch's power of these exponents is the nearest value.
        #[expect(clippy::cast_possible_truncation, reason = "PyTorch's binary32")]
        let frequency = 1.0 / 100_000_f64.powf(f64::from(2 * pair) / 64.0) as f32;
        let table = [cos(POSITION * frequency), sin(POSITION * frequency)].map(round);
        let found = |pairs| {
            let recipe = RotaryRecipe { functions: RotaryFunctions::Cuda, pairs, output: Dtype::Bf16 };
            let mut x = turned[2 * at..2 * at + 2].to_vec();
            rotary(Isa::detect(), &Pool::new(1).unwrap(), recipe, &mut x, [2, 2, 0], &[&table]);
            bits(&x)
        };
        assert_eq!(found(RotaryPairs::RoundedTables), bits(&want[2 * at..2 * at + 2]), "pair {pair}");
    }
}

/// A row whose experts one rank has, or two ranks by their widths or their numbers.
struct ExpertRow {
    ranks: ExpertRanks,
    logits: Vec<f32>,
    experts: Vec<usize>,
    /// Products of each expert, as chosen, in binary32: a column of each rank with a part of its width.
    products: Vec<f32>,
    want: Vec<f32>,
}

fn expert_rows() -> Vec<ExpertRow> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/parallel/vllm_experts.bin");
    let bytes = std::fs::read(path).unwrap();
    let mut rest = &bytes[..];
    let mut take = |count: usize| {
        let (part, after) = rest.split_at(count);
        rest = after;
        (part.to_vec(), after.is_empty())
    };
    let word = |x: &[u8]| usize::from(u16::from_le_bytes([x[0], x[1]]));
    let mut rows = Vec::new();
    loop {
        let (head, _) = take(8);
        let (kind, columns) = (word(&head), word(&head[4..]));
        let (logits, experts) = (take(2 * 128).0, take(2 * 8).0);
        let wide = if kind == 1 { 2 } else { 1 };
        let (mut products, mut want, mut ended) = (vec![0.0; 8 * wide * columns], Vec::new(), false);
        for column in 0..columns {
            for (row, x) in take(4 * 8 * wide).0.as_chunks::<4>().0.iter().enumerate() {
                products[row * columns + column] = f32::from_le_bytes(*x);
            }
            let (sum, last) = take(2);
            want.push(Dtype::Bf16.decode(&sum, 0));
            ended = last;
        }
        let reduce = AllReduceSum::new(2, RankOrder::Once).unwrap();
        rows.push(ExpertRow {
            ranks: match kind {
                0 => ExpertRanks::One,
                1 => ExpertRanks::Widths { reduce },
                _ => ExpertRanks::Experts { of_rank: 64.try_into().unwrap(), reduce },
            },
            logits: (0..128).map(|i| Dtype::Bf16.decode(&logits, i)).collect(),
            experts: experts.chunks(2).map(word).collect(),
            products,
            want,
        });
        if ended {
            return rows;
        }
    }
}

/// Router logits to experts and weights, and products of the experts to their sum.
#[test]
fn sums_of_experts_are_those_of_an_h200() {
    let weights = RoutingWeights::SoftmaxThenTop {
        renormalize: true,
        scale: 1.0,
        wide: WideRouting::Nothing,
        groups: None,
    };
    let routing = Routing { experts: 128, top: 8, weights };
    let (rows, places) = (expert_rows(), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(rows.len(), 4);
    let (mut by_torch, mut early) = (0, 0);
    for row in &rows {
        let found = |softmax, products: &[f32]| {
            let choice = RouterChoice::Probabilities { renormalize: true };
            let router = RouterRecipe { softmax, choice, output: Dtype::F32 };
            let chosen = route(Isa::detect(), router, &routing, &row.logits);
            let experts: Vec<usize> = chosen.iter().map(|(expert, _)| *expert).collect();
            let sum = ExpertSumRecipe {
                sums: 4.try_into().unwrap(),
                wide: false,
                rounded_weights: false,
                order: ExpertOrder::Once,
                ranks: row.ranks,
                output: Dtype::Bf16,
            };
            let mut out = vec![0.0; row.want.len()];
            expert_sum(Isa::detect(), sum, out.len(), &chosen, &places, products, &mut out);
            (experts, bits(&out))
        };
        let vllm = RouterSoftmax::Vllm(VllmGating::of(128).unwrap());
        assert_eq!(found(vllm, &row.products), (row.experts.clone(), bits(&row.want)), "{:?}", row.ranks);
        by_torch += usize::from(found(RouterSoftmax::Warp, &row.products).1 != bits(&row.want));
        let rounded: Vec<f32> = row.products.iter().map(|x| Dtype::Bf16.round(*x)).collect();
        early += usize::from(found(vllm, &rounded).1 != bits(&row.want));
    }
    // Weights in another order of sums, and products that are rounded before they are weighted, leave other values.
    assert_eq!((by_torch, early), (3, 4));
}

fn heads(query: usize, kv: usize, dim: usize) -> Heads {
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let scale = (dim as f64).powf(-0.5);
    let (key_dim, value_dim) = (dim, dim);
    Heads::of(&Attention {
        heads: query,
        kv_heads: kv,
        key_dim,
        value_dim,
        scale,
        window: None,
        cap: None,
        sinks: None,
    })
}

fn cache(kv: usize, dim: usize, keys: &[f32], values: &[f32]) -> KvCache {
    let slot = Slot { heads: kv, width: dim };
    let mut cache = KvCache::of_slots(&[vec![slot; 2]], Dtype::Bf16, keys.len() / (kv * dim));
    for (which, x) in [keys, values].into_iter().enumerate() {
        cache.write(Isa::detect(), 0, which, 0, x);
    }
    cache
}

/// Attention of a prompt's row, through the product that follows it.
#[test]
fn attended_rows_are_those_of_an_h200() {
    const COUNT: usize = 9;
    let [q, k, v, matrix, want] = golden("attention", [WIDTH, COUNT * 192, COUNT * 192, 8 * WIDTH, 8]);
    let cache = cache(3, 64, &k, &v);
    let requests = [Request { queries: 38, keys: 38 }];
    let step = Step { query_heads: 9, kv_heads: 3, dim: 64, multiprocessors: 132, requests: &requests };
    let vllm = AttentionRecipe::VllmFlash3(VllmFlash3::of(block(), step).unwrap());
    let (key_tile, splits) = (128.try_into().unwrap(), 1.try_into().unwrap());
    let torch = AttentionRecipe::TorchFlash(TorchFlash { block: block(), key_tile, splits });
    let projected = |recipe| {
        // The rows before it are not known, and share nothing with it.
        let all = [vec![0.0; (COUNT - 1) * WIDTH], q.clone()].concat();
        let mut out = vec![0.0; all.len()];
        let (isa, pool, heads) = (Isa::detect(), Pool::new(1).unwrap(), heads(9, 3, 64));
        let layer = cache.layer(0, [0, 1]);
        attention::prefill(isa, &pool, recipe, heads, layer, 0, [0, COUNT], &[], &all, &mut out);
        let row = &out[(COUNT - 1) * WIDTH..];
        let outputs = matrix.chunks(WIDTH).map(|weights| Dtype::Bf16.round(product(row, weights)));
        bits(&outputs.collect::<Vec<f32>>())
    };
    assert_eq!(projected(vllm), bits(&want));
    assert_ne!(projected(torch), bits(&want), "PyTorch's flash attention would do as well");
}

/// Attention of one query over these parts of the keys, one tile after the other and one element at a time.
fn reference(
    recipe: VllmFlash3,
    heads: Heads,
    q: &[f32],
    [keys, values]: [&[f32]; 2],
    limit: usize,
    parts: &[std::ops::Range<usize>],
) -> Vec<f32> {
    let (dim, scale) = (heads.dim, Scale::new(heads.scale));
    let tile = usize::try_from(recipe.key_tile.get()).unwrap();
    let pattern = |x: f32| Dtype::Bf16.pattern(x);
    let attended = parts.iter().map(|tiles| {
        let (mut row, mut sums) = (Online::default(), vec![0.0_f32; dim]);
        for from in tiles.clone().rev().map(|number| number * tile).filter(|from| *from < limit) {
            let seen = limit.min(from + tile);
            let mut scores = vec![f32::NEG_INFINITY; tile];
            for (score, key) in scores.iter_mut().zip(keys.chunks(dim).take(seen).skip(from)) {
                *score = product(q, key);
            }
            let factor = row.tile(scale, &mut scores);
            let weights: Vec<u32> = scores.iter().map(|p| pattern(Dtype::Bf16.round(*p))).collect();
            for (d, sum) in sums.iter_mut().enumerate() {
                let column =
                    (from..from + tile).map(|key| values.get(key * dim + d).map_or(0, |x| pattern(*x)));
                *sum = recipe.block.chain(&weights, &column.collect::<Vec<u32>>(), *sum * factor);
            }
        }
        let (inverse, log) = row.finish(scale);
        (sums.into_iter().map(|sum| sum * inverse).collect::<Vec<f32>>(), log)
    });
    let (outputs, logs): (Vec<Vec<f32>>, Vec<f32>) = attended.unzip();
    let weights = if parts.len() == 1 { vec![1.0] } else { combined(dim, &logs) };
    (0..dim)
        .map(|d| {
            let parts = outputs.iter().zip(&weights).filter(|(_, weight)| **weight > 0.0);
            Dtype::Bf16.round(parts.fold(0.0, |sum, (output, weight)| weight.mul_add(output[d], sum)))
        })
        .collect()
}

fn values(length: usize, seed: usize) -> Vec<f32> {
    let value = |i: usize| f32::from(u8::try_from((i * 7919 + i * i % 1013 + seed) % 251).unwrap());
    (0..length).map(|i| Dtype::Bf16.round(value(i) / 40.0 - 3.0)).collect()
}

/// Rows of a prompt of 600 tokens, whose keys are cut by what the last row of their tile of queries sees.
#[test]
fn a_cut_prompt_is_attended_part_by_part() {
    const COUNT: usize = 600;
    let (heads, requests) = (heads(9, 3, 64), [Request { queries: COUNT, keys: COUNT }]);
    let step = Step { query_heads: 9, kv_heads: 3, dim: 64, multiprocessors: 132, requests: &requests };
    let recipe = VllmFlash3::of(block(), step).unwrap();
    assert_eq!(recipe.cut.map(|cut| (cut.rows, cut.parts(5))), Some((192, 3)));
    let (q, k, v) = (values(COUNT * 576, 3), values(COUNT * 192, 5), values(COUNT * 192, 11));
    let cache = cache(3, 64, &k, &v);
    let mut out = vec![0.0; q.len()];
    let (isa, pool) = (Isa::detect(), Pool::new(2).unwrap());
    let attention = AttentionRecipe::VllmFlash3(recipe);
    // In two stretches, as a long prompt goes through the blocks.
    for rows in [0..512, 512..COUNT] {
        let layer = cache.layer(0, [0, 1]);
        let part = rows.start * 576..rows.end * 576;
        let seen = [rows.start, COUNT];
        attention::prefill(
            isa,
            &pool,
            attention,
            heads,
            layer,
            0,
            seen,
            &[],
            &q[part.clone()],
            &mut out[part],
        );
    }
    let of_head = |x: &[f32], kv: usize| -> Vec<f32> {
        x.chunks(192).flat_map(|row| row[64 * kv..64 * (kv + 1)].to_vec()).collect()
    };
    let (keys, values) = (of_head(&k, 1), of_head(&v, 1));
    // Of 64 positions that share a tile of queries: what the last sees, in three parts.
    for (position, parts) in [
        (0, [0..1, 1..1, 1..1]),
        (63, [0..1, 1..1, 1..1]),
        (127, [0..1, 1..1, 1..1]),
        (128, [0..1, 1..2, 2..2]),
        (300, [0..1, 1..2, 2..3]),
        (384, [0..2, 2..4, 4..4]),
        (512, [0..2, 2..4, 4..5]),
        (599, [0..2, 2..4, 4..5]),
    ] {
        for head in 3..6 {
            let at = position * 576 + head * 64;
            let want = reference(recipe, heads, &q[at..at + 64], [&keys, &values], position + 1, &parts);
            assert_eq!(bits(&out[at..at + 64]), bits(&want), "position {position} head {head}");
        }
    }
}

/// Requests of one step, of which the longer ones are cut, each by its own length.
#[test]
fn cut_requests_are_attended_part_by_part() {
    for (dim, tile) in [(64, 192), (128, 128)] {
        let (heads, counts) = (heads(4, 1, dim), [1, tile, 5 * tile + 7, 6 * tile + 1]);
        let requests = counts.map(|keys| Request { queries: 1, keys });
        let step = Step { query_heads: 4, kv_heads: 1, dim, multiprocessors: 4, requests: &requests };
        let recipe = VllmFlash3::of(block(), step).unwrap();
        let cut = recipe.cut.unwrap();
        // 15 tiles for 4 multiprocessors.
        assert_eq!((cut.rows, cut.share), (64, 5), "{dim}");
        let parts = counts.map(|count| cut.parts(count.div_ceil(tile)));
        assert_eq!(parts, [1, 1, 2, 2], "{dim}");
        let inputs: Vec<[Vec<f32>; 2]> =
            counts.iter().map(|count| [values(count * dim, 5), values(count * dim, 11)]).collect();
        let caches: Vec<KvCache> = inputs.iter().map(|[k, v]| cache(1, dim, k, v)).collect();
        let views: Vec<_> =
            caches.iter().zip(counts).map(|(cache, count)| (cache.layer(0, [0, 1]), count)).collect();
        let q = values(4 * 4 * dim, 3);
        let mut out = vec![0.0; q.len()];
        let (isa, pool) = (Isa::detect(), Pool::new(2).unwrap());
        let attention = AttentionRecipe::VllmFlash3(recipe);
        attention::decode(isa, &pool, attention, heads, &views, &[0, 1, 2, 3], &[], &q, &mut out);
        for (sequence, count) in counts.into_iter().enumerate() {
            let tiles = count.div_ceil(tile);
            let length = tiles.div_ceil(parts[sequence]);
            let ranges: Vec<_> =
                (0..tiles).step_by(length).map(|from| from..tiles.min(from + length)).collect();
            let [k, v] = &inputs[sequence];
            for head in 0..4 {
                let at = (sequence * 4 + head) * dim;
                let want = reference(recipe, heads, &q[at..at + dim], [k, v], count, &ranges);
                assert_eq!(bits(&out[at..at + dim]), bits(&want), "{dim}: sequence {sequence} head {head}");
            }
        }
    }
}
