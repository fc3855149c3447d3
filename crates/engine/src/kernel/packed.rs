//! Products by [`PackedSum`]: panels of sixteen emulated dot products over the parts of `K` that a tile's outputs have.

use std::borrow::Cow;
use std::ops::Range;

use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::launch::Launch;
use mantissa_numerics::recipe::PackedSum;
use mantissa_numerics::tensor_core::BlockRecipe;
use mantissa_numerics::tensor_core::dot::{Instructions, LANES, Panel, Row};

use super::matrix::{Format, Matrix};
use super::share::Shared;
use super::tensor_core::{bytes, fill, instructions};
use crate::backend::Places;
use crate::pool::Pool;
use crate::simd::Isa;

/// Rows of `x` that are unpacked at a time.
const ROWS: usize = 256;
/// Elements of `K` that a panel holds at a time, a multiple of every step.
const DEPTH: usize = 256;
/// Outputs of a task.
const OUTPUTS: usize = 4 * LANES;

/// `out[i, j] = round(Σ_k x[i, k] · w[j, k])`, *shapes* as of `matmul`; `places` has every row.
#[expect(clippy::too_many_arguments, reason = "how, where, and three kinds of tensors")]
pub(super) fn products(
    isa: Isa,
    pool: &Pool,
    sum: PackedSum,
    output: Dtype,
    places: &Places,
    m: usize,
    x: &[f32],
    weights: &mut [(Matrix<'_>, &mut [f32])],
) {
    let k = x.len() / m.max(1);
    assert_eq!(places.rows.len(), m, "a packed product asks where rows are");
    let (block, instructions) = (sum.block(), instructions(isa));
    let factors = block.operand.dtype().map(Format::Plain);
    let first = sum.shape()[2] as usize;
    for launch in sum.launches(k) {
        let here: Vec<usize> = (0..m).filter(|i| launch.rows.contains(&places.rows[*i])).collect();
        for here in here.chunks(ROWS) {
            let laid: Vec<f32> = here.iter().flat_map(|i| lay(&launch, &x[i * k..(i + 1) * k])).collect();
            let mut rows = vec![Row::default(); here.len()];
            fill(instructions, pool, block, &laid, &mut rows);
            for (w, out) in weights.iter_mut() {
                assert_eq!(Some(w.format), factors, "a tensor core multiplies formats of 16 bits here");
                let tasks = tasks(first..first + w.rows, launch.tile[1]);
                let (w, to) = (*w, Shared(out.as_mut_ptr()));
                pool.run(tasks.len(), |task| {
                    let outputs = tasks[task].clone();
                    let own = outputs.start - first..outputs.end - first;
                    let lanes: Vec<Cow<'_, [u8]>> =
                        own.clone().map(|row| lay_bytes(&launch, bytes(w, row, 0..k))).collect();
                    let cuts = |i: usize| launch.cuts(places.rows[here[i]], outputs.start);
                    for group in alike(here.len(), cuts) {
                        let tile = Tile { launch: &launch, block, instructions, lanes: &lanes, k };
                        let sums = tile.sums(&rows[group.clone()], cuts(group.start));
                        for (i, sums) in group.zip(sums.chunks_exact(lanes.len())) {
                            let to = to.get().wrapping_add(here[i] * w.rows + own.start);
                            let sums: Vec<f32> = sums.iter().map(|sum| output.round(*sum)).collect();
                            // SAFETY: these columns of this weight's output are this task's.
                            unsafe { std::ptr::copy_nonoverlapping(sums.as_ptr(), to, sums.len()) };
                        }
                    }
                });
            }
        }
    }
}

/// `outputs` in pieces that cross no border of tiles of `tile`.
fn tasks(outputs: Range<usize>, tile: usize) -> Vec<Range<usize>> {
    let mut tasks = Vec::new();
    let mut start = outputs.start;
    while start < outputs.end {
        let end = outputs.end.min((start / tile + 1) * tile).min(start + OUTPUTS);
        tasks.push(start..end);
        start = end;
    }
    tasks
}

/// Runs of `0..count` that are cut alike.
fn alike<'c>(count: usize, cuts: impl Fn(usize) -> &'c [Range<usize>]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for i in 0..count {
        match runs.last_mut() {
            Some(run) if cuts(run.start) == cuts(i) => run.end = i + 1,
            _ => runs.push(i..i + 1),
        }
    }
    runs
}

/// Elements with those of each warp together.
fn lay(launch: &Launch, row: &[f32]) -> Vec<f32> {
    let mut laid = vec![0.0; row.len()];
    for (k, value) in row.iter().enumerate() {
        laid[launch.place(row.len(), k)] = *value;
    }
    laid
}

/// The same of elements of two bytes.
fn lay_bytes<'a>(launch: &Launch, row: &'a [u8]) -> Cow<'a, [u8]> {
    if launch.warps == 1 {
        return Cow::Borrowed(row);
    }
    let mut laid = vec![0; row.len()];
    for (k, value) in row.chunks_exact(2).enumerate() {
        let at = 2 * launch.place(row.len() / 2, k);
        laid[at..at + 2].copy_from_slice(value);
    }
    Cow::Owned(laid)
}

/// Outputs of one tile.
struct Tile<'a> {
    launch: &'a Launch,
    block: BlockRecipe,
    instructions: Instructions,
    lanes: &'a [Cow<'a, [u8]>],
    k: usize,
}

impl Tile<'_> {
    /// Sums of every row and lane, cut at `cuts`.
    fn sums(&self, rows: &[Row], cuts: &[Range<usize>]) -> Vec<f32> {
        let Self { launch, k, .. } = self;
        let width = self.lanes.len();
        let mut parts = Vec::with_capacity(cuts.len());
        for cut in cuts {
            let warps: Vec<Vec<f32>> =
                (0..launch.warps).map(|warp| self.chain(rows, launch.part(*k, cut, warp))).collect();
            let of = |at: usize| {
                let mut sums = [0.0; 4];
                for (sum, warp) in sums.iter_mut().zip(&warps) {
                    *sum = warp[at];
                }
                Launch::of_warps(&sums[..warps.len()])
            };
            parts.push((0..rows.len() * width).map(of).collect::<Vec<f32>>());
        }
        let mut sums = vec![0.0; parts.len()];
        (0..rows.len() * width)
            .map(|at| {
                for (sum, part) in sums.iter_mut().zip(&parts) {
                    *sum = part[at];
                }
                launch.order.sum(&sums)
            })
            .collect()
    }

    /// Sums of one chain of steps over places of `K`.
    fn chain(&self, rows: &[Row], places: Range<usize>) -> Vec<f32> {
        let width = self.lanes.len();
        let mut panel = Panel::default();
        let mut sums = vec![vec![[0.0; LANES]; rows.len()]; width.div_ceil(LANES)];
        for from in places.clone().step_by(DEPTH) {
            let until = places.end.min(from + DEPTH);
            for (lanes, sums) in self.lanes.chunks(LANES).zip(&mut sums) {
                let part: Vec<&[u8]> = lanes.iter().map(|lane| &lane[2 * from..2 * until]).collect();
                panel.fill_rows(self.instructions, self.block, &part);
                self.block.dots_of_rows(self.instructions, rows, from, &panel, sums);
            }
        }
        let at = |row: usize, lane: usize| sums[lane / LANES][row][lane % LANES];
        (0..rows.len())
            .flat_map(|row| (0..width).map(move |lane| (row, lane)))
            .map(|(r, l)| at(r, l))
            .collect()
    }
}
