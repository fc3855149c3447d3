//! Products by [`TensorCoreSum`]: panels of sixteen emulated dot products. Operands are bf16 or f16.

use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::products::split_k;
use mantissa_numerics::recipe::TensorCoreSum;
use mantissa_numerics::tensor_core::BlockRecipe;
use mantissa_numerics::tensor_core::dot::{Instructions, LANES, Panel, Row};

use super::matrix::{Format, Matrix};
use super::share::{Shared, share};
use crate::pool::Pool;
use crate::simd::Isa;

/// Rows of `x` that are unpacked at a time.
const ROWS: usize = 256;

/// Elements of `K` that a panel holds at a time: what the nearest cache holds of sixteen rows. A multiple of every
/// step.
const DEPTH: usize = 256;

/// Panels that go through `K` together, where many rows meet them: the part of the rows that one panel multiplied is
/// near when the next one does.
const PANELS: usize = 8;

/// Rows from which that pays.
const MANY_ROWS: usize = 64;

pub(super) const fn instructions(isa: Isa) -> Instructions {
    match isa {
        Isa::Scalar => Instructions::Portable,
        Isa::Avx2 => Instructions::Avx2,
        Isa::Avx512 => Instructions::Avx512,
    }
}

/// The pattern of an element of a matrix of 16 bits.
pub(super) fn element(matrix: Matrix<'_>, row: usize, column: usize) -> u32 {
    let at = row * matrix.row_bytes + 2 * column;
    u32::from(u16::from_le_bytes([matrix.data[at], matrix.data[at + 1]]))
}

/// The bytes of some columns of a row of a matrix of 16 bits.
pub(super) fn bytes(matrix: Matrix<'_>, row: usize, columns: std::ops::Range<usize>) -> &[u8] {
    &matrix.data[row * matrix.row_bytes..][2 * columns.start..2 * columns.end]
}

/// `out[i, j] = round(Σ_k x[i, k] · w[j, k])` by steps of a tensor core; see [`TensorCoreSum`].
pub(super) fn products(
    isa: Isa,
    pool: &Pool,
    TensorCoreSum { block, parts }: TensorCoreSum,
    output: Dtype,
    m: usize,
    x: &[f32],
    weights: &mut [(Matrix<'_>, &mut [f32])],
) {
    let k = x.len() / m.max(1);
    let cuts = split_k(k, parts);
    let panels: usize = weights.iter().map(|(w, _)| w.rows.div_ceil(LANES)).sum();
    let together = if m < MANY_ROWS { 1 } else { (panels / (4 * pool.threads())).clamp(1, PANELS) };
    let mut tasks = Vec::new();
    let factors = block.operand.dtype().map(Format::Plain);
    for (index, (w, _)) in weights.iter().enumerate() {
        assert_eq!(Some(w.format), factors, "a tensor core multiplies formats of 16 bits here");
        let each = together * LANES;
        tasks.extend((0..w.rows).step_by(each).map(|first| (index, first..w.rows.min(first + each))));
    }
    let targets: Vec<(Matrix<'_>, Shared<f32>)> =
        weights.iter_mut().map(|(w, out)| (*w, Shared(out.as_mut_ptr()))).collect();
    let instructions = instructions(isa);
    let mut rows = vec![Row::default(); m.min(ROWS)];
    for from in (0..m).step_by(ROWS) {
        let count = ROWS.min(m - from);
        let rows = &mut rows[..count];
        fill(instructions, pool, block, &x[from * k..(from + count) * k], rows);
        pool.run(tasks.len(), |task| {
            let (index, outputs) = tasks[task].clone();
            let (w, to) = targets[index];
            let firsts = outputs.clone().step_by(LANES);
            let mut sums = sums(block, instructions, rows, w, outputs, &cuts);
            for (first, sums) in firsts.zip(&mut sums) {
                let count = LANES.min(w.rows - first);
                output.round_each(sums.as_flattened_mut());
                for (i, sums) in sums.iter().enumerate() {
                    let to = to.get().wrapping_add((from + i) * w.rows + first);
                    // SAFETY: these columns of this weight's output are this task's.
                    unsafe { std::ptr::copy_nonoverlapping(sums.as_ptr(), to, count) };
                }
            }
        });
    }
}

/// Unpacks rows of equal length.
fn fill(instructions: Instructions, pool: &Pool, block: BlockRecipe, x: &[f32], rows: &mut [Row]) {
    let (count, k) = (rows.len(), x.len() / rows.len());
    let rows = Shared(rows.as_mut_ptr());
    share(pool, count, k, |first, last| {
        for number in first..last {
            // SAFETY: this row is this task's.
            let row = unsafe { &mut *rows.get().add(number) };
            row.fill_rounded(instructions, block, &x[number * k..(number + 1) * k]);
        }
    });
}

pub(super) fn row(instructions: Instructions, block: BlockRecipe, x: &[f32]) -> Row {
    let mut row = Row::default();
    row.fill_rounded(instructions, block, x);
    row
}

/// Dot products of all `rows` with rows `outputs` of `w`: sixteen at a time.
fn sums(
    block: BlockRecipe,
    instructions: Instructions,
    rows: &[Row],
    w: Matrix<'_>,
    outputs: std::ops::Range<usize>,
    cuts: &[std::ops::Range<usize>],
) -> Vec<Vec<[f32; LANES]>> {
    let lanes: Vec<&[u8]> = w.data.chunks_exact(w.row_bytes).take(outputs.end).skip(outputs.start).collect();
    let mut panel = Panel::default();
    let mut total = Vec::new();
    for cut in cuts {
        let mut sums = vec![vec![[0.0; LANES]; rows.len()]; lanes.len().div_ceil(LANES)];
        for from in cut.clone().step_by(DEPTH) {
            let until = cut.end.min(from + DEPTH);
            for (lanes, sums) in lanes.chunks(LANES).zip(&mut sums) {
                let part: Vec<&[u8]> = lanes.iter().map(|lane| &lane[2 * from..2 * until]).collect();
                panel.fill_rows(instructions, block, &part);
                block.dots_of_rows(instructions, rows, from, &panel, sums);
            }
        }
        if total.is_empty() {
            total = sums;
        } else {
            for (total, sum) in total.iter_mut().flatten().flatten().zip(sums.iter().flatten().flatten()) {
                *total += sum;
            }
        }
    }
    total
}
