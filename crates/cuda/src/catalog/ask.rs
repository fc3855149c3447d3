//! Asks the device: runs products of ones and of numbers that are hard to sum, and fetches outputs to be explained.

use std::sync::Arc;

use mantissa_engine::catalog::{Batched, Linear, Product};
use mantissa_numerics::Dtype;
use mantissa_numerics::site::Phase;
use mantissa_numerics::tensor_core::dot::Instructions;

use super::built::Built;
use super::candidates::Candidate;
use super::explain::{CandidateSet, Outputs, Pending, explained};
use super::hard::{COLUMNS, ONE, Random, hard, shared};
use super::shapes::sizes_of;
use crate::device::{Device, Layout, Matrix};
use crate::error::CudaError;

pub(super) fn measure_linear(
    device: &Device,
    shape: Linear,
    rows: &[usize],
    instructions: Instructions,
    built: &mut Built,
) -> Result<(), CudaError> {
    let (parts, pending): (Vec<u32>, Vec<Pending>) =
        run_linear(device, shape, rows, |_, parts| CandidateSet::Linear { parts })?.into_iter().unzip();
    let Linear { k, bias, .. } = shape;
    for ((pending, parts), recipes) in pending.iter().zip(parts).zip(explained(&pending, instructions)) {
        let m = pending.size;
        let Some(Candidate::Linear(recipe)) = recipes.first().copied() else {
            built
                .unexplained
                .push(format!("a product of {m} × {k} with {shape}: cuBLASLt names {parts} parts"));
            continue;
        };
        if !bias {
            built.heuristic[1] += 1;
            built.heuristic[0] += usize::from(u32::from(recipe.parts.get()) == parts.max(1));
        }
        built.catalog.add_linear(shape, m, recipe);
    }
    Ok(())
}

/// Runs a product with a weight for each number of rows: the parts that the heuristic names, and what is to be
/// explained, by the recipes that `tried` gives for rows and parts.
pub(super) fn run_linear(
    device: &Device,
    shape: Linear,
    rows: &[usize],
    tried: impl Fn(usize, u32) -> CandidateSet,
) -> Result<Vec<(u32, Pending)>, CudaError> {
    let Linear { n, k, bias, dtype } = shape;
    let most = rows.iter().copied().max().unwrap_or(1);
    let mut random = Random(n as u64 * 1_000_003 + k as u64);
    let x = device.filled(dtype, most * k, ONE)?;
    let mut w = device.filled(dtype, n * k, 0)?;
    let mut y = device.filled(dtype, most * n, 0)?;
    let mut hard_rows = Vec::new();
    for columns in ends(n) {
        let rows = shared(columns.clone().map(|_| hard(&mut random, dtype, k)));
        device.overwrite(&mut w, columns.start * k, &rows.concat())?;
        hard_rows.push((columns, rows));
    }
    let biases = if bias { hard(&mut random, dtype, n) } else { Vec::new() };
    let bias_there = if bias { Some(device.upload(dtype, &biases)?) } else { None };
    let mut pending = Vec::new();
    for m in rows.iter().copied() {
        let parts = if let Some(bias) = &bias_there {
            device.heuristic(dtype, [m, n, k], Some((&x, &w, bias, &mut y)))?
        } else {
            device.linear([m, n, k], &x, &w, &mut y)?;
            device.heuristic(dtype, [m, n, k], None).unwrap_or(1)
        };
        let mut outputs = Vec::new();
        for row in [0, m - 1] {
            for (columns, rows) in &hard_rows {
                outputs.push(Outputs {
                    rows: rows.clone(),
                    bias: if bias { biases[columns.clone()].to_vec() } else { Vec::new() },
                    found: device.download(&y, row * n + columns.start, columns.len())?,
                });
            }
        }
        pending.push((parts, Pending { size: m, dtype, length: k, tried: tried(m, parts), outputs }));
    }
    Ok(pending)
}

/// Shapes that are run before they are explained, so that memory stays bounded.
const AT_A_TIME: usize = 128;

/// Runs of one shape before it is given up that more than one recipe explains it.
const RUNS: usize = 12;

pub(super) fn measure_batched(
    device: &Device,
    (dtype, shape): (Dtype, Batched),
    keys: &[usize],
    instructions: Instructions,
    built: &mut Built,
) -> Result<(), CudaError> {
    let Batched { product, phase, heads, dim } = shape;
    if heads == 1 {
        // PyTorch calls another function for a batch of one.
        let what = format!(
            "{} attention of one head of {dim}: a batch of one product is not measured",
            phase.name()
        );
        built.unexplained.push(what);
        return Ok(());
    }
    let most = keys.iter().copied().max().unwrap_or(1);
    let queries = |keys: usize| if phase == Phase::Prefill { keys } else { 1 };
    let (scores, layout) = (product.is_scores(), Layout::of(product));
    let plain = matches!(product, Product::Scores | Product::Values);
    // What is ones, what is hard to sum, what comes out.
    let [one, out] = if scores { [dim, most] } else { [most, dim] };
    let a = device.filled(dtype, heads * queries(most) * one, ONE)?;
    let mut b = device.filled(dtype, heads * most * dim, 0)?;
    let mut c = device.filled(dtype, heads * queries(most) * out, 0)?;
    let mut random = Random(heads as u64 * 1_000_003 + dim as u64);
    for keys in keys.chunks(AT_A_TIME) {
        let mut open: Vec<(usize, CandidateSet)> =
            keys.iter().map(|keys| (*keys, CandidateSet::Batched)).collect();
        for run in 1..=RUNS {
            // Keys: hard rows again and again, of a number that no tile divides; all heads have them.
            let hard_keys = shared((0..251).map(|_| hard(&mut random, dtype, dim)));
            if scores {
                let longest = open.iter().map(|(keys, _)| *keys).max().unwrap_or(0);
                let rows = hard_keys.iter().cycle().take(heads * longest);
                let whole: Vec<u32> = rows.flat_map(|row| row.iter().copied()).collect();
                device.overwrite(&mut b, 0, &whole)?;
            }
            let mut pending = Vec::new();
            for (keys, tried) in open {
                let m = queries(keys);
                let outputs = if !plain {
                    sixteen(device, dtype, shape, keys, random.0 ^ run as u64)?
                } else if scores {
                    device.batched(heads, [m, keys, dim], layout, &a, &b, &mut c)?;
                    outputs_of_scores(device, &c, [heads, m, keys], &hard_keys)?
                } else {
                    let columns = hard_values(device, &mut b, dtype, [heads, keys, dim], &mut random)?;
                    device.batched(heads, [m, dim, keys], layout, &a, &b, &mut c)?;
                    outputs_of_values(device, &c, [heads, m, dim], &columns)?
                };
                let length = if scores { dim } else { keys };
                pending.push(Pending { size: keys, dtype, length, tried, outputs });
            }
            open = Vec::new();
            for (pending, recipes) in pending.iter().zip(explained(&pending, instructions)) {
                match recipes[..] {
                    [Candidate::Half(recipe)] => built.catalog.add_eager(dtype, shape, pending.size, recipe),
                    [Candidate::F32(recipe)] => built.catalog.add_math(shape, pending.size, recipe),
                    [_, _, ..] if run < RUNS => open.push((pending.size, CandidateSet::These(recipes))),
                    _ => built.unexplained.push(format!(
                        "{} attention ({} of {dtype}) of {heads} heads of {dim} over {} keys{}",
                        phase.name(),
                        if scores { "scores" } else { "values" },
                        pending.size,
                        if recipes.is_empty() { "" } else { ": more than one recipe gives all outputs" },
                    )),
                }
            }
            if open.is_empty() {
                break;
            }
        }
    }
    Ok(())
}

/// Outputs of a product of ones and of numbers of 16 bits that are hard to sum.
pub(super) fn sixteen(
    device: &Device,
    dtype: Dtype,
    shape: Batched,
    keys: usize,
    seed: u64,
) -> Result<Vec<Outputs>, CudaError> {
    let ([m, n, k], heads, layout) = (sizes_of(shape, keys), shape.heads, Layout::of(shape.product));
    let held = if layout.shared { 1 } else { heads };
    let mut random = Random(seed);
    let a = device.filled(dtype, heads * m * (k + layout.between), ONE)?;
    let mut b = device.filled(dtype, held * n * k, 0)?;
    let mut c = device.filled(dtype, heads * m * n, 0)?;
    if !shape.product.is_scores() {
        let columns = hard_values(device, &mut b, dtype, [held, keys, shape.dim], &mut random)?;
        device.batched(heads, [m, n, k], layout, &a, &b, &mut c)?;
        return outputs_of_values(device, &c, [heads, m, shape.dim], &columns);
    }
    let rows = shared((0..251).map(|_| hard(&mut random, dtype, k)));
    let of_key = |key: usize| &rows[key % rows.len()];
    let head: Vec<u32> = if layout.transposed {
        (0..keys).flat_map(|key| of_key(key).iter().copied()).collect()
    } else {
        (0..k).flat_map(|at| (0..keys).map(move |key| (at, key))).map(|(at, key)| of_key(key)[at]).collect()
    };
    for at in [0, held - 1] {
        device.overwrite(&mut b, at * n * k, &head)?;
    }
    device.batched(heads, [m, n, k], layout, &a, &b, &mut c)?;
    let mut outputs = Vec::new();
    for head in [0, heads - 1] {
        for query in [0, m - 1] {
            for columns in ends(keys) {
                let at = (head * m + query) * keys + columns.start;
                let found = device.download(&c, at, columns.len())?;
                let rows = columns.map(|key| rows[key % rows.len()].clone()).collect();
                outputs.push(Outputs { rows, bias: Vec::new(), found });
            }
        }
    }
    Ok(outputs)
}

/// First and last query of the first heads, as many as make a good number of outputs, and of the last.
fn outputs_of_scores(
    device: &Device,
    c: &Matrix,
    [heads, m, keys]: [usize; 3],
    hard_keys: &[Arc<[u32]>],
) -> Result<Vec<Outputs>, CudaError> {
    const ENOUGH: usize = 64;
    let first = (0..heads.min(ENOUGH.div_ceil(keys)).max(1)).chain([heads - 1]);
    let mut outputs = Vec::new();
    for head in first {
        for row in [0, m - 1] {
            for columns in ends(keys) {
                let at = (head * m + row) * keys + columns.start;
                let found = device.download(c, at, columns.len())?;
                let row_of = |key: usize| hard_keys[(head * keys + key) % hard_keys.len()].clone();
                outputs.push(Outputs { rows: columns.map(row_of).collect(), bias: Vec::new(), found });
            }
        }
    }
    Ok(outputs)
}

/// Fills the first and the last head's values with columns that are hard to sum, all different.
fn hard_values(
    device: &Device,
    b: &mut Matrix,
    dtype: Dtype,
    [heads, keys, dim]: [usize; 3],
    random: &mut Random,
) -> Result<Vec<Arc<[u32]>>, CudaError> {
    let columns = shared((0..dim).map(|_| hard(random, dtype, keys)));
    let mut head = vec![0_u32; keys * dim];
    for (column, values) in columns.iter().enumerate() {
        for (key, value) in values.iter().enumerate() {
            head[key * dim + column] = *value;
        }
    }
    device.overwrite(b, 0, &head)?;
    device.overwrite(b, (heads - 1) * keys * dim, &head)?;
    Ok(columns)
}

/// All columns of the first query of the first head, the first of its last query and of the last head.
fn outputs_of_values(
    device: &Device,
    c: &Matrix,
    [heads, m, dim]: [usize; 3],
    columns: &[Arc<[u32]>],
) -> Result<Vec<Outputs>, CudaError> {
    let mut outputs = Vec::new();
    for (head, row, count) in
        [(0, 0, dim), (0, m - 1, COLUMNS), (heads - 1, 0, COLUMNS), (heads - 1, m - 1, COLUMNS)]
    {
        let count = count.min(dim);
        let found = device.download(c, (head * m + row) * dim, count)?;
        for (rows, found) in columns[..count].chunks(COLUMNS).zip(found.chunks(COLUMNS)) {
            outputs.push(Outputs { rows: rows.to_vec(), bias: Vec::new(), found: found.to_vec() });
        }
    }
    Ok(outputs)
}

/// First and last columns of a row of `width`, without overlap.
pub(super) fn ends(width: usize) -> Vec<std::ops::Range<usize>> {
    let first = COLUMNS.min(width);
    let last = width.saturating_sub(COLUMNS).max(first);
    [0..first, last..width].into_iter().filter(|range| !range.is_empty()).collect()
}
