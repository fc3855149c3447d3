//! What bitsandbytes computed on an H200 (goldens/parallel/bnb.py), computed again.

use half::bf16;
use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::bnb::{Absmax, Nf4Shape, Nf4Way, dynamic_map};
use mantissa_numerics::recipe::{LinearSum, MatmulRecipe, Nf4Sum};
use mantissa_numerics::setup::{Attention, Hardware};
use mantissa_testkit::gpu_inputs::{digest, hashed, mixed};
use serde::Deserialize;

use super::matmul::matmul;
use super::matrix::{Format, Matrix};
use crate::backend::Places;
use crate::dispatch::Dispatch;
use crate::pool::Pool;
use crate::simd::Isa;

#[derive(Deserialize)]
struct Golden {
    multiprocessors: usize,
    tried: Vec<usize>,
    cases: Vec<Case>,
    paths: Vec<Path>,
}

#[derive(Deserialize)]
struct Case {
    n: usize,
    k: usize,
    block: usize,
    nested: bool,
    bias: bool,
    rows: Vec<(usize, Vec<(usize, String)>)>,
    weights: Vec<(usize, String)>,
}

#[derive(Deserialize)]
struct Path {
    n: usize,
    k: usize,
    block: usize,
    runs: Vec<(usize, String)>,
}

fn golden() -> Golden {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../goldens/parallel/bnb.json");
    let text = std::fs::read_to_string(path).expect("goldens/parallel/bnb.json");
    serde_json::from_str(&text).expect("JSON")
}

/// Sixteen from the first, sixteen to the last, and as many evenly between.
fn columns(n: usize) -> Vec<usize> {
    let mut all: Vec<usize> =
        (0..16).chain(n - 16..n).chain((0..16).map(|i| 16 + i * (n - 32) / 16)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

impl Case {
    fn shape(&self, m: usize) -> Nf4Shape {
        let Self { n, k, block, .. } = *self;
        Nf4Shape { m, n, k, block, multiprocessors: 132 }
    }

    /// The weights of some rows on a way.
    fn weights(&self, way: Nf4Way, rows: &[usize]) -> Vec<f32> {
        let map = dynamic_map();
        let scale = |place: usize, seed| {
            let low = u16::try_from(mixed(place as u64, seed) & 0xFFFF).expect("16 bits");
            let high = u16::try_from(mixed(place as u64, seed) >> 16 & 0xF).expect("4 bits");
            (1.0 + f32::from(high).mul_add(65_536.0, f32::from(low)) / 1_048_576.0) / 64.0
        };
        let byte = |place: usize, seed| (mixed(place as u64, seed) & 0xFF) as u8;
        let value = |index: usize| {
            let (byte_of, place) = (byte(index / 2, 11), index / self.block);
            let absmax = if self.nested {
                let code = map[usize::from(byte(place, 17))];
                let offset = 0.03125 + 2.0_f32.powi(-22);
                Absmax::Nested { code, scale: scale(place / 256, 19), offset }
            } else {
                Absmax::Stored(scale(place, 13))
            };
            let index = if index.is_multiple_of(2) { byte_of >> 4 } else { byte_of & 15 };
            way.weight(index, way.scale(absmax))
        };
        rows.iter().flat_map(|row| (row * self.k..(row + 1) * self.k).map(value)).collect()
    }

    /// The recipe of a product, if the catalog has that of a library's.
    fn recipe(&self, m: usize) -> Option<MatmulRecipe> {
        let dispatch = Dispatch::new(Hardware::H200, Dtype::Bf16, Attention::Eager);
        let output = if self.bias { Dtype::F32 } else { Dtype::Bf16 };
        let block = crate::catalog::block(Hardware::H200.architecture(), Dtype::Bf16);
        let sum = match Nf4Way::of(self.shape(m)) {
            Nf4Way::Simt => Nf4Sum::Simt,
            Nf4Way::Mma => Nf4Sum::Mma(block),
            Nf4Way::Decoded => {
                let (recipe, _) = dispatch.product(m, self.n, self.k, self.bias)?;
                let LinearSum::TensorCore(sum) = recipe.summation else { panic!("of a GPU") };
                Nf4Sum::Decoded(sum)
            }
        };
        Some(MatmulRecipe { summation: LinearSum::Nf4(sum), output })
    }

    /// Digests of some rows of a product.
    fn computed(&self, pool: &Pool, m: usize, rows: &[usize]) -> Option<Vec<String>> {
        let (recipe, at) = (self.recipe(m)?, columns(self.n));
        let weights = self.weights(Nf4Way::of(self.shape(m)), &at);
        let data: Vec<u8> = weights.iter().flat_map(|w| bf16::from_f32(*w).to_le_bytes()).collect();
        let format = Format::Plain(Dtype::Bf16);
        let matrix = Matrix { format, rows: at.len(), cols: self.k, row_bytes: 2 * self.k, data: &data };
        let x = rows.iter().flat_map(|row| hashed(Dtype::Bf16, row * self.k, self.k, 3, 4.0));
        let x: Vec<f32> = x.collect();
        let mut out = vec![0.0; rows.len() * at.len()];
        matmul(Isa::detect(), pool, recipe, &Places::ANYWHERE, &x, &mut [(matrix, &mut out)]);
        let bias = hashed(Dtype::Bf16, 0, self.n, 7, 2.0);
        let rows = out.chunks_exact(at.len()).map(|row| {
            let values = row.iter().zip(&at).map(|(x, column)| {
                let x = if self.bias { x + bias[*column] } else { *x };
                u32::from(bf16::from_f32(x).to_bits())
            });
            digest(values)
        });
        Some(rows.collect())
    }
}

#[test]
fn products_of_nf4_are_those_of_an_h200() {
    let pool = Pool::new(2).expect("threads");
    let (mut compared, mut left, mut wrong) = (0, 0, Vec::new());
    for case in golden().cases {
        for (row, expected) in &case.weights {
            let row = case.weights(Nf4Way::Decoded, &[*row]);
            let found = digest(row.iter().map(|w| u32::from(bf16::from_f32(*w).to_bits())));
            assert_eq!(found, *expected, "a weight of {} × {}, nested {}", case.n, case.k, case.nested);
        }
        for (m, rows) in &case.rows {
            let at: Vec<usize> = rows.iter().map(|(row, _)| *row).collect();
            let Some(found) = case.computed(&pool, *m, &at) else {
                left += 1;
                continue;
            };
            compared += 1;
            if !rows.iter().map(|(_, digest)| digest).eq(&found) {
                let Case { n, k, block, nested, bias, .. } = case;
                wrong.push(format!("{m} {n} {k} {block} {nested} {bias} {:?}", Nf4Way::of(case.shape(*m))));
            }
        }
    }
    println!("{compared} compared, {left} without a library's recipe, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "M N K block nested bias\n{}", wrong.join("\n"));
}

#[test]
fn the_ways_are_those_that_an_h200_launched() {
    let Golden { multiprocessors, tried, paths, .. } = golden();
    for Path { n, k, block, runs } in paths {
        let mut found: Vec<(usize, String)> = Vec::new();
        for m in &tried {
            let name = match Nf4Way::of(Nf4Shape { m: *m, n, k, block, multiprocessors }) {
                Nf4Way::Simt => "gemm_4bit_simt",
                Nf4Way::Mma => "gemm_4bit_sm80",
                Nf4Way::Decoded => "kDequantizeBlockwise",
            };
            if found.last().is_none_or(|(_, last)| last != name) {
                found.push((*m, name.to_owned()));
            }
        }
        assert_eq!(found, runs, "{n} × {k}");
    }
}
