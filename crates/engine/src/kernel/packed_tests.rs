//! What vLLM's kernels for packed weights computed on an H200 (goldens/parallel/packed.py), computed again.

use std::num::NonZeroU32;

use half::bf16;
use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::marlin;
use mantissa_numerics::recipe::{LinearSum, MatmulRecipe, PackedKernel, PackedSum};
use mantissa_numerics::setup::Hardware;
use mantissa_testkit::gpu_inputs::{digest, hashed, mixed};
use serde::Deserialize;

use super::matmul::matmul;
use super::matrix::{Format, Matrix};
use crate::backend::Places;
use crate::pool::Pool;
use crate::simd::Isa;

const FORMAT: Format = Format::Plain(Dtype::Bf16);

#[derive(Deserialize)]
struct Golden {
    multiprocessors: u32,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    kernel: String,
    k: usize,
    n: usize,
    group: usize,
    zeros: bool,
    bias: bool,
    rows: Vec<(usize, Vec<(usize, String)>)>,
    differs: usize,
}

fn golden() -> Golden {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../goldens/parallel/packed.json");
    let text = std::fs::read_to_string(path).expect("goldens/parallel/packed.json");
    serde_json::from_str(&text).expect("JSON")
}

/// Columns of which a digest is.
fn columns(n: usize) -> Vec<usize> {
    (0..64).map(|i| i * (n - 1) / 63).collect()
}

fn low(place: usize, seed: u32, bits: u32) -> u8 {
    u8::try_from(mixed(place as u64, seed.into()) & ((1 << bits) - 1)).expect("few bits")
}

/// An output's weights as `kernel` decodes them: the second half of `K` is the first again.
fn weights(
    kernel: PackedKernel,
    [k, n, group]: [usize; 3],
    zeros: bool,
    expert: usize,
    output: usize,
) -> Vec<f32> {
    let half = k / 2;
    let value = |at: usize| {
        let at = at % half;
        let word = mixed((expert * (half / 8) * n + at / 8 * n + output) as u64, 11);
        let q = u8::try_from(word >> (4 * (at % 8)) & 15).expect("4 bits");
        let place = expert * (half / group) * n + at / group * n + output;
        let unit = [256.0, 512.0][usize::from(low(place, 17, 8) >> 7)];
        let scale = (1.0 + f32::from(low(place, 17, 7)) / 128.0) / unit;
        kernel.weight(Dtype::Bf16, q, zeros.then(|| low(place, 13, 4)), scale)
    };
    (0..k).map(value).collect()
}

/// A row of activations: the second half is the first with the other sign, and a unit more here and there.
fn activations(row: usize, k: usize) -> Vec<f32> {
    let first = hashed(Dtype::Bf16, row * (k / 2), k / 2, 3, 4.0);
    let second = first.iter().zip(row * (k / 2)..).map(|(x, place)| {
        let bits = bf16::from_f32(-x).to_bits() + u16::from(low(place, 5, 1));
        bf16::from_bits(bits).to_f32()
    });
    let second: Vec<f32> = second.collect();
    [first, second].concat()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|w| bf16::from_f32(*w).to_le_bytes()).collect()
}

impl Case {
    fn kernel(&self) -> PackedKernel {
        match self.kernel.as_str() {
            "machete" => PackedKernel::Machete,
            _ => PackedKernel::Marlin { group: NonZeroU32::new(u32::try_from(self.group).unwrap()).unwrap() },
        }
    }

    /// Digests of some rows of a product; outputs are computed one by one, each as the first of its own.
    fn computed(&self, pool: &Pool, multiprocessors: u32, m: usize, rows: &[usize]) -> Vec<String> {
        let Self { k, n, group, zeros, .. } = *self;
        let block = crate::catalog::block(Hardware::H200.architecture(), Dtype::Bf16);
        let kernel = self.kernel();
        let outputs = match kernel {
            PackedKernel::Machete => n,
            PackedKernel::Marlin { .. } => marlin::padded(n, k, Some(group))[0],
        };
        let x: Vec<f32> = rows.iter().flat_map(|row| activations(*row, k)).collect();
        let bias = hashed(Dtype::Bf16, 0, n, 7, 2.0);
        let places = Places { rows: rows.to_vec(), of: m };
        let mut found = vec![Vec::new(); rows.len()];
        for output in columns(n) {
            let shape = [m, outputs, output].map(|x| u32::try_from(x).unwrap());
            let sum = PackedSum::new(kernel, block, shape, multiprocessors);
            let recipe = MatmulRecipe { summation: LinearSum::Packed(sum), output: Dtype::Bf16 };
            let data = bytes(&weights(kernel, [k, n, group], zeros, 0, output));
            let matrix = Matrix { format: FORMAT, rows: 1, cols: k, row_bytes: 2 * k, data: &data };
            let mut out = vec![0.0; rows.len()];
            matmul(Isa::detect(), pool, recipe, &places, &x, &mut [(matrix, &mut out)]);
            for (found, x) in found.iter_mut().zip(out) {
                let x = if self.bias { x + bias[output] } else { x };
                found.push(u32::from(bf16::from_f32(x).to_bits()));
            }
        }
        found.into_iter().map(|row| digest(row.into_iter())).collect()
    }
}

#[test]
fn packed_products_are_those_of_an_h200() {
    let pool = Pool::new(2).expect("threads");
    let Golden { multiprocessors, cases } = golden();
    let (mut compared, mut wrong) = (0, Vec::new());
    for case in cases {
        assert_eq!(case.differs, 0, "{} of {} × {} does not repeat itself", case.kernel, case.n, case.k);
        for (m, rows) in &case.rows {
            let at: Vec<usize> = rows.iter().map(|(row, _)| *row).collect();
            let found = case.computed(&pool, multiprocessors, *m, &at);
            compared += rows.len();
            if !rows.iter().map(|(_, digest)| digest).eq(&found) {
                let Case { kernel, k, n, group, zeros, .. } = &case;
                wrong.push(format!("{kernel} {m} {n} {k} {group} {zeros}"));
            }
        }
    }
    println!("{compared} rows compared, {} products wrong", wrong.len());
    assert!(wrong.is_empty() && compared > 1000, "kernel M N K group zeros\n{}", wrong.join("\n"));
}
