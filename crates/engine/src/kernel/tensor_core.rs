//! Products by [`TensorCoreSum`]: panels of sixteen emulated dot products. Operands are bf16 or f16.

use std::ops::Range;

use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::products::split_k;
use mantissa_numerics::recipe::{AllReduceSum, TensorCoreSum};
use mantissa_numerics::tensor_core::BlockRecipe;
use mantissa_numerics::tensor_core::dot::{Instructions, LANES, Panel, Row};

use super::matrix::{Format, Matrix};
use super::share::{Shared, share};
use crate::backend::Places;
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
pub(super) fn bytes(matrix: Matrix<'_>, row: usize, columns: Range<usize>) -> &[u8] {
    &matrix.data[row * matrix.row_bytes..][2 * columns.start..2 * columns.end]
}

/// `out[i, j] = round(Σ_k x[i, k] · w[j, k])` by steps of a tensor core; see [`TensorCoreSum`], and
/// [`RankSum`](mantissa_numerics::recipe::RankSum) for those of several ranks.
#[expect(clippy::too_many_arguments, reason = "how, where, and three kinds of tensors")]
pub(super) fn products(
    isa: Isa,
    pool: &Pool,
    (TensorCoreSum { block, parts }, among): (TensorCoreSum, Among),
    output: Dtype,
    places: &Places,
    m: usize,
    x: &[f32],
    weights: &mut [(Matrix<'_>, &mut [f32])],
) {
    let k = x.len() / m.max(1);
    let ranks = among.ranks();
    let of_rank = k / ranks;
    let cuts: Vec<Vec<Range<usize>>> = (0..ranks)
        .map(|rank| {
            let from = rank * of_rank;
            split_k(of_rank, parts).into_iter().map(|cut| from + cut.start..from + cut.end).collect()
        })
        .collect();
    assert!(
        !matches!(among, Among::Added(reduce) if reduce.depends_on_place()) || places.rows.len() == m,
        "an all-reduce asks where rows are"
    );
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
            let mut of_ranks: Vec<Sums> = cuts
                .iter()
                .map(|cuts| {
                    let mut sums = sums(block, instructions, rows, w, outputs.clone(), cuts);
                    for sums in &mut sums {
                        output.round_each(sums.as_flattened_mut());
                    }
                    sums
                })
                .collect();
            if let Among::Added(reduce) = among {
                let place = |i: usize| (places.rows.get(from + i).copied().unwrap_or(0), places.of);
                reduced(reduce, output, &mut of_ranks, outputs.start, w.rows, place);
            }
            let shown = if matches!(among, Among::SideBySide(_)) { ranks } else { 1 };
            for (rank, sums) in of_ranks.iter().take(shown).enumerate() {
                for (first, sums) in firsts.clone().zip(sums) {
                    let count = LANES.min(w.rows - first);
                    for (i, sums) in sums.iter().enumerate() {
                        let row = (from + i) * shown + rank;
                        let to = to.get().wrapping_add(row * w.rows + first);
                        // SAFETY: these columns of this weight's output are this task's.
                        unsafe { std::ptr::copy_nonoverlapping(sums.as_ptr(), to, count) };
                    }
                }
            }
        });
    }
}

/// Unpacks rows of equal length.
pub(super) fn fill(instructions: Instructions, pool: &Pool, block: BlockRecipe, x: &[f32], rows: &mut [Row]) {
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

/// What becomes of the sums that ranks have of their parts of `K`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Among {
    /// There is one rank.
    One,
    /// They are added.
    Added(AllReduceSum),
    /// They stand side by side, those of rank 0 first.
    SideBySide(usize),
}

impl Among {
    fn ranks(self) -> usize {
        match self {
            Self::One => 1,
            Self::Added(reduce) => reduce.ranks().into(),
            Self::SideBySide(ranks) => ranks,
        }
    }
}

/// Sixteen outputs at a time, of each row.
type Sums = Vec<Vec<[f32; LANES]>>;

/// Puts the sums of all ranks in place of the first rank's. `place` says which row of how many a row is in the tensor.
fn reduced(
    reduce: AllReduceSum,
    output: Dtype,
    of_ranks: &mut [Sums],
    first: usize,
    width: usize,
    place: impl Fn(usize) -> (usize, usize),
) {
    let Some((sums, others)) = of_ranks.split_first_mut() else { return };
    let mut values = vec![0.0; others.len() + 1];
    for (panel, rows) in sums.iter_mut().enumerate() {
        for (i, lanes) in rows.iter_mut().enumerate() {
            let (row, of) = place(i);
            for (lane, sum) in lanes.iter_mut().enumerate() {
                values[0] = *sum;
                for (value, other) in values[1..].iter_mut().zip(others.iter()) {
                    *value = other[panel][i][lane];
                }
                let column = first + panel * LANES + lane;
                *sum = reduce.sum(output, &values, row * width + column, of * width);
            }
        }
    }
}

/// Dot products of all `rows` with rows `outputs` of `w`: sixteen at a time.
fn sums(
    block: BlockRecipe,
    instructions: Instructions,
    rows: &[Row],
    w: Matrix<'_>,
    outputs: Range<usize>,
    cuts: &[Range<usize>],
) -> Sums {
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
