//! Products by [`PackedSum`]: panels of sixteen emulated dot products over the parts of `K` that a tile's outputs have.

use std::borrow::Cow;
use std::ops::Range;

use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::launch::Launch;
use mantissa_numerics::recipe::{PackedExperts, PackedSum};
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
    let launched =
        Launched { launches: sum.launches(x.len() / m.max(1)), block: sum.block(), first: sum.shape()[2] };
    launched.products(isa, pool, output, places, m, x, weights);
}

/// The same with the weights of one expert: `places` has for each row the first one of its expert's block, of as many
/// blocks as there are.
#[expect(clippy::too_many_arguments, reason = "as products")]
pub(super) fn of_expert(
    isa: Isa,
    pool: &Pool,
    sum: PackedExperts,
    output: Dtype,
    places: &Places,
    m: usize,
    x: &[f32],
    weights: &mut [(Matrix<'_>, &mut [f32])],
) {
    let launch = sum.launch(x.len() / m.max(1), places.of);
    assert!(launch.is_some(), "weights of experts have whole tiles");
    let launched = Launched { launches: launch.into_iter().collect(), block: sum.block, first: sum.first };
    launched.products(isa, pool, output, places, m, x, weights);
}

/// What a product with packed weights launches.
struct Launched {
    launches: Vec<Launch>,
    /// One step.
    block: BlockRecipe,
    /// Which output is the weights' first.
    first: u32,
}

impl Launched {
    #[expect(clippy::too_many_arguments, reason = "where, and three kinds of tensors")]
    fn products(
        &self,
        isa: Isa,
        pool: &Pool,
        output: Dtype,
        places: &Places,
        m: usize,
        x: &[f32],
        weights: &mut [(Matrix<'_>, &mut [f32])],
    ) {
        let k = x.len() / m.max(1);
        assert_eq!(places.rows.len(), m, "a packed product asks where rows are");
        let (block, instructions) = (self.block, instructions(isa));
        let factors = block.operand.dtype().map(Format::Plain);
        let first = self.first as usize;
        for launch in &self.launches {
            let here: Vec<usize> = (0..m).filter(|i| launch.rows.contains(&places.rows[*i])).collect();
            for here in here.chunks(ROWS) {
                let rows_laid: Vec<f32> =
                    here.iter().flat_map(|i| launch.laid(&x[i * k..(i + 1) * k])).collect();
                let mut rows = vec![Row::default(); here.len()];
                fill(instructions, pool, block, &rows_laid, &mut rows);
                for (w, out) in weights.iter_mut() {
                    assert_eq!(Some(w.format), factors, "a tensor core multiplies formats of 16 bits here");
                    let tasks = tasks(first..first + w.rows, launch.tile[1]);
                    let (w, to) = (*w, Shared(out.as_mut_ptr()));
                    pool.run(tasks.len(), |task| {
                        let outputs = tasks[task].clone();
                        let own = outputs.start - first..outputs.end - first;
                        let lanes: Vec<Cow<'_, [u8]>> =
                            own.clone().map(|row| laid(launch, bytes(w, row, 0..k))).collect();
                        let cuts = |i: usize| launch.cuts(places.rows[here[i]], outputs.start);
                        let tile = Tile { launch, block, instructions, lanes: &lanes, k };
                        let mut scratch = Scratch::default();
                        for group in alike(here.len(), cuts) {
                            let sums = tile.sums(&rows[group.clone()], cuts(group.start), &mut scratch);
                            for (panel, sums) in sums.chunks_exact_mut(group.len()).enumerate() {
                                let count = LANES.min(lanes.len() - panel * LANES);
                                for (i, sums) in group.clone().zip(sums) {
                                    output.round_each(sums);
                                    let column = own.start + panel * LANES;
                                    let to = to.get().wrapping_add(here[i] * w.rows + column);
                                    // SAFETY: these columns of this weight's output are this task's.
                                    unsafe { std::ptr::copy_nonoverlapping(sums.as_ptr(), to, count) };
                                }
                            }
                        }
                    });
                }
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

/// A row of elements of two bytes with those of each warp together.
fn laid<'a>(launch: &Launch, row: &'a [u8]) -> Cow<'a, [u8]> {
    match launch.warps {
        1 => Cow::Borrowed(row),
        _ => Cow::Owned(launch.laid(row.as_chunks::<2>().0).into_flattened()),
    }
}

/// Outputs of one tile.
struct Tile<'a> {
    launch: &'a Launch,
    block: BlockRecipe,
    instructions: Instructions,
    lanes: &'a [Cow<'a, [u8]>],
    k: usize,
}

/// Sixteen outputs of a row: of each panel all rows.
type Sums = Vec<[f32; LANES]>;

/// What tiles need beside their operands.
#[derive(Default)]
struct Scratch {
    panel: Panel,
    /// Of each part.
    parts: Sums,
    /// Of each warp of a part.
    warps: Sums,
    /// Of all parts.
    sums: Sums,
}

impl Tile<'_> {
    /// Sums of every row, cut at `cuts`.
    fn sums<'s>(
        &self,
        rows: &[Row],
        cuts: &[Range<usize>],
        scratch: &'s mut Scratch,
    ) -> &'s mut [[f32; LANES]] {
        let Self { launch, k, .. } = self;
        let each = rows.len() * self.lanes.len().div_ceil(LANES);
        let Scratch { panel, parts, warps, sums } = scratch;
        parts.clear();
        parts.resize(cuts.len() * each, [0.0; LANES]);
        for (cut, part) in cuts.iter().zip(parts.chunks_exact_mut(each)) {
            if launch.warps == 1 {
                self.chain(rows, cut.clone(), panel, part);
                continue;
            }
            warps.clear();
            warps.resize(launch.warps * each, [0.0; LANES]);
            for (warp, sums) in warps.chunks_exact_mut(each).enumerate() {
                self.chain(rows, launch.part(*k, cut, warp), panel, sums);
            }
            together(part, warps, launch.warps, Launch::of_warps);
        }
        if cuts.len() == 1 {
            return parts;
        }
        sums.clear();
        sums.resize(each, [0.0; LANES]);
        together(sums, parts, cuts.len(), |parts| launch.order.sum(parts));
        sums
    }

    /// Adds sums of one chain of steps over places of `K`.
    fn chain(&self, rows: &[Row], places: Range<usize>, panel: &mut Panel, sums: &mut [[f32; LANES]]) {
        for from in places.clone().step_by(DEPTH) {
            let until = places.end.min(from + DEPTH);
            for (lanes, sums) in self.lanes.chunks(LANES).zip(sums.chunks_exact_mut(rows.len())) {
                let mut part: [&[u8]; LANES] = [&[]; LANES];
                for (part, lane) in part.iter_mut().zip(lanes) {
                    *part = &lane[2 * from..2 * until];
                }
                panel.fill_rows(self.instructions, self.block, &part[..lanes.len()]);
                self.block.dots_of_rows(self.instructions, rows, from, panel, sums);
            }
        }
    }
}

/// Puts together `count` sums of each output, which stand behind one another in `sums`.
fn together(out: &mut [[f32; LANES]], sums: &[[f32; LANES]], count: usize, of: impl Fn(&[f32]) -> f32) {
    let (out, sums) = (out.as_flattened_mut(), sums.as_flattened());
    let each = out.len();
    let mut values = vec![0.0; count];
    for (at, out) in out.iter_mut().enumerate() {
        for (value, sums) in values.iter_mut().zip(sums.chunks_exact(each)) {
            *value = sums[at];
        }
        *out = of(&values);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use half::bf16;
    use mantissa_numerics::recipe::PackedKernel;
    use mantissa_numerics::tensor_core::{Architecture, Operand};
    use mantissa_testkit::gpu_inputs::hashed;

    use super::*;

    /// The order, word for word: warps' elements together, then steps of a tensor core over each part.
    fn reference(sum: PackedSum, row: usize, output: usize, x: &[f32], w: &[f32]) -> f32 {
        let k = x.len();
        let launches = sum.launches(k);
        let launch =
            launches.iter().find(|launch| launch.rows.contains(&row)).expect("a launch for every row");
        let bits = |values: &[f32]| -> Vec<u32> {
            launch.laid(values).iter().map(|x| u32::from(bf16::from_f32(*x).to_bits())).collect()
        };
        let (x, w) = (bits(x), bits(w));
        launch.sum(k, row, output, |places| sum.block().chain(&x[places.clone()], &w[places], 0.0))
    }

    #[test]
    fn products_are_the_reference_bit_for_bit() {
        let pool = Pool::new(2).expect("threads");
        let block = Architecture::Hopper.block(Operand::Bf16).expect("bf16");
        let marlin = PackedKernel::Marlin { group: NonZeroU32::new(128).expect("not 0") };
        let mut cut = 0;
        for (kernel, m, n, first, rows, k) in [
            (PackedKernel::Machete, 9, 1024, 384, 70, 1024),
            (PackedKernel::Machete, 70, 2816, 2560, 200, 1152),
            (PackedKernel::Machete, 300, 512, 0, 150, 1024),
            (marlin, 3, 512, 100, 90, 1024),
            (marlin, 70, 1088, 1000, 88, 512),
            (marlin, 200, 2048, 256, 130, 640),
        ] {
            let (x, w, data) = cancelling(m, rows, k);
            let of = |x: usize| u32::try_from(x).expect("small");
            let sum = PackedSum::new(kernel, block, [of(m), of(n), of(first)], 132);
            // Every third row, backwards.
            let here: Vec<usize> = (0..m).rev().step_by(3).collect();
            let places = Places { rows: here.clone(), of: m };
            let given: Vec<f32> = here.iter().flat_map(|row| &x[row * k..(row + 1) * k]).copied().collect();
            for isa in [Isa::Scalar, Isa::Avx2, Isa::Avx512].into_iter().filter(|isa| isa.is_available()) {
                let mut out = vec![f32::NAN; here.len() * rows];
                let matrix = Matrix {
                    format: Format::Plain(Dtype::Bf16),
                    rows,
                    cols: k,
                    row_bytes: 2 * k,
                    data: &data,
                };
                products(isa, &pool, sum, Dtype::F32, &places, here.len(), &given, &mut [(matrix, &mut out)]);
                for (i, row) in here.iter().enumerate().step_by(5) {
                    for output in (0..rows).step_by(7) {
                        let (x, w) = (&x[row * k..(row + 1) * k], &w[output * k..(output + 1) * k]);
                        let expected = reference(sum, *row, first + output, x, w);
                        let found = out[i * rows + output];
                        assert_eq!(
                            found.to_bits(),
                            expected.to_bits(),
                            "{kernel:?} {m} {n} {k} {row} {output}"
                        );
                        let whole = sum.block().chain(&bits(x), &bits(w), 0.0);
                        cut += usize::from(whole.to_bits() != expected.to_bits());
                    }
                }
            }
        }
        assert!(cut > 100, "{cut} sums differ from uncut ones");
    }

    #[test]
    fn products_of_experts_are_the_reference_bit_for_bit() {
        let pool = Pool::new(2).expect("threads");
        let block = Architecture::Hopper.block(Operand::Bf16).expect("bf16");
        let mut cut = 0;
        for (tokens, blocks, at, first, k, zeros) in [
            // A token's experts; small prompts, in blocks that are cut and not.
            (1_u32, 8, 5, 96, 512, true),
            (9, 40, 0, 0, 256, false),
            (9, 40, 39, 128, 256, true),
            (120, 100, 70, 64, 256, true),
        ] {
            let sum = PackedExperts {
                block,
                tokens,
                top: 8,
                experts: 128,
                outputs: 256,
                first,
                zeros,
                multiprocessors: 132,
            };
            let (m, rows) = (2, 100);
            let (x, w, data) = cancelling(m, rows, k);
            let launch = sum.launch(k, blocks).expect("whole tiles");
            let places = Places { rows: vec![at * sum.rows(); m], of: blocks };
            for isa in [Isa::Scalar, Isa::Avx2, Isa::Avx512].into_iter().filter(|isa| isa.is_available()) {
                let mut out = vec![f32::NAN; m * rows];
                let format = Format::Plain(Dtype::Bf16);
                let matrix = Matrix { format, rows, cols: k, row_bytes: 2 * k, data: &data };
                of_expert(isa, &pool, sum, Dtype::F32, &places, m, &x, &mut [(matrix, &mut out)]);
                for (row, found) in out.chunks_exact(rows).enumerate() {
                    for (output, found) in found.iter().enumerate().step_by(7) {
                        let (x, w) = (&x[row * k..(row + 1) * k], &w[output * k..(output + 1) * k]);
                        let (laid, with) = (bits(&launch.laid(x)), bits(&launch.laid(w)));
                        let place = first as usize + output;
                        let expected = launch.sum(k, at * sum.rows(), place, |part| {
                            block.chain(&laid[part.clone()], &with[part], 0.0)
                        });
                        assert_eq!(found.to_bits(), expected.to_bits(), "{sum:?} {row} {output}");
                        cut += usize::from(block.chain(&bits(x), &bits(w), 0.0).to_bits() != found.to_bits());
                    }
                }
            }
        }
        assert!(cut > 50, "{cut} sums differ from uncut ones");
    }

    /// Rows, weights, and the weights' bytes, whose sums nearly cancel: orders show.
    fn cancelling(m: usize, rows: usize, k: usize) -> (Vec<f32>, Vec<f32>, Vec<u8>) {
        let x = hashed(Dtype::Bf16, 0, m * k, 3, 4.0);
        let x = x.chunks_exact(k).flat_map(|row| [&row[..k / 2], &negated(&row[..k / 2])].concat()).collect();
        let half = hashed(Dtype::Bf16, 0, rows * k / 2, 11, 4.0);
        let w: Vec<f32> = half.chunks_exact(k / 2).flat_map(|row| [row, row].concat()).collect();
        let data = w.iter().flat_map(|w| bf16::from_f32(*w).to_le_bytes()).collect();
        (x, w, data)
    }

    fn negated(row: &[f32]) -> Vec<f32> {
        row.iter().map(|x| -bf16::from_bits(bf16::from_f32(*x).to_bits() ^ 1).to_f32()).collect()
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|x| u32::from(bf16::from_f32(*x).to_bits())).collect()
    }
}
