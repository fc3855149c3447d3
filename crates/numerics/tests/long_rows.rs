//! Long rows as PyTorch adds them on a GPU: digests of what `goldens/gpu/long_rows.py` computed on an H200.
//!
//! Inputs are made again by the script's integer hash. `LONG_ROWS=FILE cargo test -p mantissa-numerics --test
//! long_rows` compares everything that the script wrote; without it, the part of it that is in `goldens/gpu`.

#![expect(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a test stops at the first surprise; sums of halves are small"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::functions::exp;
use mantissa_numerics::nvidia::logarithm::log;
use mantissa_numerics::nvidia::reduce::{TorchSum, log_sum_exp};
use mantissa_numerics::nvidia::softmax::TorchSoftmax;
use mantissa_testkit::gpu_inputs::{digest, hashed};

const SOFTMAX: u64 = 1;
const SOFTMAX_AT: u64 = 2;
const LOG_SOFTMAX: u64 = 3;
const LOG_SOFTMAX_AT: u64 = 4;
const SUM: u64 = 5;
const ACROSS: u64 = 8;

/// Names of kernels that ran, with their grids and blocks: all that share a row are one column of the grid.
type Launched = (String, [usize; 3], [usize; 3]);

#[derive(serde::Deserialize)]
struct Golden {
    digests: BTreeMap<String, Vec<String>>,
    kernels: BTreeMap<String, Kernels>,
}

#[derive(serde::Deserialize)]
struct Kernels {
    cases: Vec<String>,
    #[serde(rename = "kernels")]
    launched: Vec<Launched>,
}

impl Golden {
    fn read() -> Self {
        let here = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../goldens/gpu/long_rows.json");
        let file = std::env::var_os("LONG_ROWS").map_or(here, PathBuf::from);
        serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
    }

    /// Names that begin with a word, their other parts, and their digests.
    fn of<'g>(&'g self, word: &'g str) -> impl Iterator<Item = (Vec<&'g str>, &'g [String])> {
        self.digests
            .iter()
            .filter_map(move |(name, digests)| Some((name.strip_prefix(word)?, digests)))
            .map(|(rest, digests)| (rest.split('_').skip(1).collect(), digests.as_slice()))
    }
}

fn seed_of<const N: usize>(words: [u64; N]) -> u64 {
    words.iter().fold(7, |seed, word| (seed * 1_000_003 + word) & 0xFFFF_FFFF)
}

fn of(row: &[f32]) -> String {
    digest(row.iter().map(|x| x.to_bits()))
}

fn number(word: &str) -> usize {
    word.trim_start_matches("at").parse().unwrap()
}

fn format(word: &str) -> Dtype {
    match word {
        "bf16" => Dtype::Bf16,
        "f16" => Dtype::F16,
        "f32" => Dtype::F32,
        _ => panic!("{word}"),
    }
}

/// The row of a case: how many there are, how many elements lie before the first, and its place in the file's tensor.
struct Rows {
    length: usize,
    at: usize,
    seeds: [u64; 2],
    spread: f32,
    format: Dtype,
}

impl Rows {
    fn row(&self, row: usize) -> Vec<f32> {
        let Self { length, at, seeds: [of_rows, of_part], spread, format } = *self;
        let seed = match at {
            0 => seed_of([of_rows, length as u64]),
            _ => seed_of([of_part, length as u64, at as u64]),
        };
        hashed(format, at + row * length, length, seed, spread)
    }

    /// Elements between an aligned address and a row, as the kernel sees it: bf16 is converted into another tensor.
    fn before(&self, row: usize) -> usize {
        if self.format == Dtype::Bf16 { row * self.length } else { self.at + row * self.length }
    }

    fn kernel(&self) -> TorchSoftmax {
        let width = if self.format == Dtype::F32 { 4 } else { 8 };
        TorchSoftmax::at(self.length, self.format, self.at.is_multiple_of(width))
    }
}

#[test]
fn softmax_is_that_of_an_h200() {
    let golden = Golden::read();
    let mut compared = 0;
    for (words, digests) in golden.of("softmax") {
        let (kind, length, at) = (words[0], number(words[1]), words.get(2).map_or(0, |at| number(at)));
        let rows = Rows { length, at, seeds: [SOFTMAX, SOFTMAX_AT], spread: 8.0, format: format(kind) };
        for (r, expected) in digests.iter().enumerate() {
            let mut row = rows.row(r);
            rows.kernel().softmax(&mut row, length, length, rows.before(r));
            assert_eq!(of(&row), *expected, "{words:?} row {r} by {:?}", rows.kernel());
            compared += 1;
        }
    }
    assert!(compared > 100, "{compared}");
    println!("{compared} rows");
}

#[test]
fn log_softmax_is_that_of_an_h200() {
    let golden = Golden::read();
    let mut compared = 0;
    for (words, digests) in golden.of("log_softmax") {
        let (kind, length) = (words[0], number(words[1]));
        let at = if words[2].starts_with("at") { number(words[2]) } else { 0 };
        let seeds = [LOG_SOFTMAX, LOG_SOFTMAX_AT];
        let rows = Rows { length, at, seeds, spread: 16.0, format: format(kind) };
        for (r, expected) in digests.iter().enumerate() {
            let row = rows.kernel().log_softmax(&rows.row(r), rows.before(r));
            assert_eq!(of(&row), *expected, "{words:?} row {r} by {:?}", rows.kernel());
            compared += 1;
        }
    }
    assert!(compared > 30, "{compared}");
    println!("{compared} rows");
}

#[test]
fn log_softmax_across_steps_is_that_of_an_h200() {
    let golden = Golden::read();
    let mut compared = 0;
    for (words, digests) in golden.of("across") {
        let (length, steps) = (number(words[0]), number(words[1]));
        let kernel = TorchSoftmax::across(length, steps);
        let seed = seed_of([ACROSS, length as u64, steps as u64]);
        let all = hashed(Dtype::F32, 0, length * steps, seed, 16.0);
        for (step, expected) in digests.iter().enumerate() {
            let row: Vec<f32> = all.iter().skip(step).step_by(steps).copied().collect();
            assert_eq!(of(&kernel.log_softmax(&row, 0)), *expected, "{words:?} step {step} by {kernel:?}");
            compared += 1;
        }
    }
    assert!(compared > 30, "{compared}");
    println!("{compared} rows");
}

#[test]
fn log_sum_exp_is_that_of_an_h200() {
    let golden = Golden::read();
    let mut compared = 0;
    for word in ["logsumexp", "expsum"] {
        for (words, digests) in golden.of(word) {
            let length = number(words[0]);
            let (at, count) = match words[1].strip_prefix("at") {
                Some(at) => (number(at), 1),
                None => (0, number(words[1])),
            };
            let seeds = [LOG_SOFTMAX, LOG_SOFTMAX_AT];
            let rows = Rows { length, at, seeds, spread: 16.0, format: Dtype::F32 };
            for (r, expected) in digests.iter().enumerate() {
                let mut row = rows.row(r);
                // What is summed lies in memory of its own.
                let before = r * length;
                let found = if word == "expsum" {
                    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    for x in &mut row {
                        *x = exp(*x - largest);
                    }
                    TorchSum::of(count, length).unwrap().sum_at(row.into_iter(), before)
                } else {
                    log_sum_exp(&row, count, before).unwrap()
                };
                let order = TorchSum::of(count, length);
                assert_eq!(of(&[found]), *expected, "{word} {words:?} row {r} by {order:?}");
                compared += 1;
            }
        }
    }
    assert!(compared > 30, "{compared}");
    println!("{compared} sums");
}

#[test]
fn sums_of_rows_are_those_of_an_h200() {
    let golden = Golden::read();
    let mut compared = 0;
    for word in ["sum", "mean"] {
        for (words, digests) in golden.of(word) {
            let (length, rows) = (number(words[0]), number(words[1]));
            let order = TorchSum::of(rows, length).unwrap();
            let seed = seed_of([SUM, length as u64]);
            let factor = if word == "mean" { rows as f32 / (rows * length) as f32 } else { 1.0 };
            let sums: Vec<f32> = (0..rows)
                .map(|r| {
                    let row = hashed(Dtype::Bf16, r * length, length, seed, 4.0);
                    order.sum_at(row.iter().map(|x| x * x), r * length) * factor
                })
                .collect();
            assert_eq!(of(&sums), digests[0], "{word} {words:?} by {order:?}");
            compared += rows;
        }
    }
    assert!(compared > 100, "{compared}");
    println!("{compared} sums");
}

#[test]
fn logarithms_are_those_of_an_h200() {
    let golden = Golden::read();
    let octaves =
        golden.digests.iter().filter_map(|(name, digest)| Some((name.strip_prefix("log_")?, digest)));
    let mut compared = 0;
    for (exponent, digests) in
        octaves.filter_map(|(name, digests)| Some((name.parse::<u32>().ok()?, digests)))
    {
        let first = exponent << 23;
        let found = digest((first..first + (1 << 23)).map(|bits| log(f32::from_bits(bits)).to_bits()));
        assert_eq!(found, digests[0], "exponent {exponent}");
        compared += 1;
    }
    assert!(compared > 0);
    println!("{compared} octaves");
}

#[test]
fn kernels_are_those_that_an_h200_launched() {
    let golden = Golden::read();
    let mut compared = 0;
    for word in ["softmax", "logsoftmax"] {
        let Kernels { cases, launched } = &golden.kernels[word];
        assert_eq!(cases.len(), launched.len());
        for (case, (name, _, block)) in cases.iter().zip(launched) {
            let words: Vec<&str> = case.split('_').skip(1).collect();
            let (input, length) = match word {
                "softmax" => (format(words[0]), number(words[1])),
                _ => (Dtype::F32, number(words[0])),
            };
            let kernel = TorchSoftmax::of(length, input);
            let expected = match kernel {
                TorchSoftmax::Warp => "softmax_warp_forward<".to_owned(),
                TorchSoftmax::Block => "cunn_SoftMaxForwardReg<".to_owned(),
                TorchSoftmax::Vectors(vector) => format!("cunn_SoftMaxForwardSmem<{vector}, "),
                TorchSoftmax::Shifted(vector) => format!("cunn_SoftMaxForward<{vector}, "),
                TorchSoftmax::Across(_) => panic!("{case}"),
            };
            assert!(name.starts_with(&expected), "{case}: {name} for {kernel:?}");
            assert!(kernel == TorchSoftmax::Warp || *block == [1024, 1, 1], "{case}: {block:?}");
            compared += 1;
        }
    }
    let Kernels { cases, launched } = &golden.kernels["sum"];
    assert_eq!(cases.len(), launched.len());
    for (case, (_, grid, block)) in cases.iter().zip(launched) {
        let words: Vec<&str> = case.split('_').skip(1).collect();
        let sum = TorchSum::of(number(words[1]), number(words[0])).unwrap();
        assert_eq!([block[0], grid[1]], [sum.threads, sum.blocks].map(usize::from), "{case}: {sum:?}");
        let rows = number(words[1]);
        let (of_a_block, height) = (rows.div_ceil(grid[0]), block[1]);
        assert!(sum.shared == 1 || usize::from(sum.shared) == height && grid[0] == rows, "{case}: {sum:?}");
        assert!(sum.shared > 1 || of_a_block <= height, "{case}: {sum:?} {grid:?} {block:?}");
        compared += 1;
    }
    assert!(compared > 100, "{compared}");
    println!("{compared} launches");
}
