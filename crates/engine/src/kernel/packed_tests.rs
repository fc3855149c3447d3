//! What vLLM's Machete and Marlin computed on an H200 (goldens/parallel/packed.py), computed again.

use std::num::NonZeroU32;

use half::{bf16, f16};
use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::marlin;
use mantissa_numerics::recipe::{PackedExperts, PackedKernel, PackedRanks, PackedSum};
use mantissa_numerics::setup::Hardware;
use mantissa_testkit::gpu_inputs::{digest, hashed, mixed};
use serde::Deserialize;

use super::matrix::{Format, Matrix};
use super::packed::{of_expert, products};
use crate::backend::Places;
use crate::pool::Pool;
use crate::simd::Isa;

#[derive(Deserialize)]
struct Golden {
    multiprocessors: u32,
    cases: Vec<Case>,
    experts: Vec<Layer>,
}

/// A product of some numbers of rows with a weight.
#[derive(Deserialize)]
struct Case {
    kernel: String,
    k: usize,
    n: usize,
    group: i32,
    zeros: bool,
    bias: bool,
    /// Of each number of rows some, and the digests of their columns.
    rows: Vec<(usize, Vec<(usize, String)>)>,
    differs: usize,
}

/// A product of tokens with their experts.
#[derive(Deserialize)]
struct Layer {
    k: usize,
    n: usize,
    experts: usize,
    top: usize,
    group: usize,
    zeros: bool,
    weighted: bool,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    m: usize,
    block: usize,
    filled: usize,
    rows: Vec<(usize, String)>,
    differs: usize,
}

/// Of a format of 16 bits.
fn golden(format: Dtype) -> Golden {
    let name = if format == Dtype::F16 { "packed_f16.json" } else { "packed.json" };
    let path = format!("{}/../../goldens/parallel/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("goldens/parallel/packed.json");
    serde_json::from_str(&text).expect("JSON")
}

const FORMATS: [Dtype; 2] = [Dtype::Bf16, Dtype::F16];

/// The pattern of a value.
fn bits(format: Dtype, x: f32) -> u16 {
    if format == Dtype::F16 { f16::from_f32(x).to_bits() } else { bf16::from_f32(x).to_bits() }
}

/// Outputs that digests are over.
fn columns(n: usize) -> Vec<usize> {
    (0..64).map(|i| i * (n - 1) / 63).collect()
}

/// A row of activations: its second half takes the first back but for some units of the last place.
fn activations(format: Dtype, row: usize, k: usize) -> Vec<f32> {
    let half = k / 2;
    let first = hashed(format, row * half, half, 3, 4.0);
    let second = first.iter().enumerate().map(|(i, x)| {
        let unit = u16::from(mixed((row * half + i) as u64, 5) & 1 == 1);
        let next = bits(format, -x) + unit;
        if format == Dtype::F16 { f16::from_bits(next).to_f32() } else { bf16::from_bits(next).to_f32() }
    });
    first.iter().copied().chain(second).collect()
}

/// A weight, of expert `expert`.
#[derive(Clone, Copy)]
struct Weight {
    format: Dtype,
    k: usize,
    n: usize,
    group: Option<usize>,
    zeros: bool,
    expert: usize,
}

impl Weight {
    /// What `kernel` multiplies by for one output.
    fn output(self, kernel: PackedKernel, output: usize) -> Vec<f32> {
        let Self { format, k, n, group, zeros, expert } = self;
        let half = k / 2;
        let groups = group.map_or(1, |group| half / group);
        let of_group = |group: usize| {
            let place = ((expert * groups + group) * n + output) as u64;
            let bits = mixed(place, 17);
            let low = u8::try_from(bits & 127).expect("seven bits");
            let scale = (1.0 + f32::from(low) / 128.0) / if bits >> 7 & 1 == 1 { 512.0 } else { 256.0 };
            let zero = zeros.then(|| (mixed(place, 13) & 15) as u8);
            std::array::from_fn(|q| kernel.weight(format, u8::try_from(q).expect("16 of them"), zero, scale))
        };
        let tables: Vec<[f32; 16]> = (0..groups).map(of_group).collect();
        let first: Vec<f32> = (0..half)
            .map(|at| {
                let word = mixed(((expert * half / 8 + at / 8) * n + output) as u64, 11);
                tables[group.map_or(0, |group| at / group)][(word >> (4 * (at % 8)) & 15) as usize]
            })
            .collect();
        [&first[..], &first[..]].concat()
    }
}

fn bytes(format: Dtype, row: &[f32]) -> Vec<u8> {
    row.iter().flat_map(|w| bits(format, *w).to_le_bytes()).collect()
}

impl Case {
    /// `None` of what has no recipe.
    fn kernel(&self) -> Option<PackedKernel> {
        match (self.kernel.as_str(), u32::try_from(self.group).ok().and_then(NonZeroU32::new)) {
            ("machete", _) => Some(PackedKernel::Machete),
            ("marlin", Some(group)) => Some(PackedKernel::Marlin { group }),
            _ => None,
        }
    }

    /// Values of the columns of some rows of a product of `m` rows.
    fn computed(
        &self,
        pool: &Pool,
        (kernel, format): (PackedKernel, Dtype),
        multiprocessors: u32,
        m: usize,
        rows: &[usize],
    ) -> Vec<Vec<f32>> {
        let Self { k, n, zeros, .. } = *self;
        let group = usize::try_from(self.group).ok();
        let outputs = match kernel {
            PackedKernel::Machete => n,
            PackedKernel::Marlin { .. } => marlin::padded(n, k, group)[0],
        };
        let block = crate::catalog::block(Hardware::H200.architecture(), format);
        let of = |x: usize| u32::try_from(x).expect("small");
        let sum = PackedSum::new(kernel, block, [of(m), of(outputs), 0], multiprocessors);
        let x: Vec<f32> = rows.iter().flat_map(|row| activations(format, *row, k)).collect();
        let places = Places { rows: rows.to_vec(), of: m };
        let bias = hashed(format, 0, n, 7, 2.0);
        let weight = Weight { format, k, n, group, zeros, expert: 0 };
        let by_column = columns(n).into_iter().map(|column| {
            let data = bytes(format, &weight.output(kernel, column));
            let matrix =
                Matrix { format: Format::Plain(format), rows: 1, cols: k, row_bytes: 2 * k, data: &data };
            let mut out = vec![0.0; rows.len()];
            let here = sum.from_output(column);
            products(Isa::detect(), pool, here, format, &places, rows.len(), &x, &mut [(matrix, &mut out)]);
            if self.bias {
                for x in &mut out {
                    *x = format.round(*x + bias[column]);
                }
            }
            out
        });
        let by_column: Vec<Vec<f32>> = by_column.collect();
        (0..rows.len()).map(|row| by_column.iter().map(|column| column[row]).collect()).collect()
    }
}

fn digest_of(format: Dtype, values: &[f32]) -> String {
    digest(values.iter().map(|x| u32::from(bits(format, *x))))
}

/// Half of the numbers of rows, each time others; of long sums a sixth.
#[test]
fn products_are_those_of_an_h200() {
    let pool = Pool::new(2).expect("threads");
    for format in FORMATS {
        let golden = golden(format);
        let (mut compared, mut left, mut wrong) = (0, 0, Vec::new());
        for (number, case) in golden.cases.iter().enumerate() {
            assert_eq!(case.differs, 0, "values of another run");
            let Some(kernel) = case.kernel() else {
                left += 1;
                continue;
            };
            let every = if case.k > 4096 { 6 } else { 2 };
            for (m, rows) in case.rows.iter().skip(number % every).step_by(every) {
                let at: Vec<usize> = rows.iter().map(|(row, _)| *row).collect();
                let found = case.computed(&pool, (kernel, format), golden.multiprocessors, *m, &at);
                for ((row, expected), found) in rows.iter().zip(&found) {
                    compared += 1;
                    if digest_of(format, found) != *expected {
                        let Case { k, n, group, zeros, bias, .. } = case;
                        wrong.push(format!("{kernel:?} {row} of {m}, {n} × {k}, {group} {zeros} {bias}"));
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{format}: {} of {compared}\n{}", wrong.len(), wrong.join("\n"));
        // Marlin with one scale for all inputs has no recipe.
        assert_eq!(left, 12);
        assert!(compared > 2000, "{compared}");
    }
}

/// Tokens choose neighbouring experts in turn: pair `i` is of expert `i % experts`. None has more than a block.
#[test]
fn products_of_experts_are_those_of_an_h200() {
    let pool = Pool::new(2).expect("threads");
    for format in FORMATS {
        let golden = golden(format);
        let (mut compared, mut wrong) = (0, Vec::new());
        for layer in &golden.experts {
            for step in &layer.steps {
                for (pair, expected) in &step.rows {
                    let found = layer.computed(&pool, format, golden.multiprocessors, step, *pair);
                    compared += 1;
                    if digest_of(format, &found) != *expected {
                        let Layer { k, n, zeros, weighted, .. } = layer;
                        wrong
                            .push(format!("pair {pair} of {} tokens, {n} × {k}, {zeros} {weighted}", step.m));
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{format}: {} of {compared}\n{}", wrong.len(), wrong.join("\n"));
        assert!(compared > 250, "{compared}");
    }
}

impl Layer {
    /// Values of the columns of a pair's product.
    fn computed(
        &self,
        pool: &Pool,
        format: Dtype,
        multiprocessors: u32,
        step: &Step,
        pair: usize,
    ) -> Vec<f32> {
        let Self { k, n, experts, top, group, zeros, weighted, .. } = *self;
        let of = |x: usize| u32::try_from(x).expect("small");
        let kernel = PackedKernel::Marlin { group: NonZeroU32::new(of(group)).expect("groups") };
        let sum = PackedExperts {
            block: crate::catalog::block(Hardware::H200.architecture(), format),
            tokens: of(step.m),
            top: of(top),
            experts: of(experts),
            of_rank: None,
            outputs: of(n),
            first: 0,
            zeros,
            multiprocessors,
            ranks: PackedRanks::One,
        };
        let blocks = (step.m * top).min(experts);
        let launched = (step.differs, sum.rows(), blocks * sum.rows());
        assert_eq!(launched, (0, step.block, step.filled), "{} {n} {k}", step.m);
        let expert = pair % experts;
        let x = activations(format, if weighted { pair } else { pair / top }, k);
        let places = Places { rows: vec![expert * sum.rows()], of: blocks };
        let weight = Weight { format, k, n, group: Some(group), zeros, expert };
        // 8 bits behind the point, in a sixteenth.
        let low = (mixed(pair as u64, 19) & 255) as u8;
        let factor = format.round((1.0 + f32::from(low) / 256.0) / 16.0);
        let values = columns(n).into_iter().map(|column| {
            let data = bytes(format, &weight.output(kernel, column));
            let matrix =
                Matrix { format: Format::Plain(format), rows: 1, cols: k, row_bytes: 2 * k, data: &data };
            let (mut out, sum) = ([0.0], PackedExperts { first: of(column), ..sum });
            of_expert(Isa::detect(), pool, sum, format, &places, 1, &x, &mut [(matrix, &mut out)]);
            if weighted { format.round(out[0] * factor) } else { out[0] }
        });
        values.collect()
    }
}
