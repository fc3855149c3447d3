//! Products by [`PackedSum`]: panels of sixteen emulated dot products over the parts of `K` that a tile's outputs have.

use std::borrow::Cow;
use std::ops::Range;

use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::launch::Launch;
use mantissa_numerics::recipe::{PackedExperts, PackedRanks, PackedSum};
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
    let ranks = sum.ranks();
    let of_rank = x.len() / m.max(1) / ranks.parts_of_k();
    let launched =
        Launched { launches: sum.launches(of_rank), block: sum.block(), first: sum.shape()[2], ranks };
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
    let launch = sum.launch(x.len() / m.max(1) / sum.ranks.parts_of_k(), places.of);
    assert!(launch.is_some(), "weights of experts have whole tiles");
    let launches = launch.into_iter().collect();
    let launched = Launched { launches, block: sum.block, first: sum.first, ranks: sum.ranks };
    launched.products(isa, pool, output, places, m, x, weights);
}

/// What a product with packed weights launches, on each rank.
struct Launched {
    launches: Vec<Launch>,
    /// One step.
    block: BlockRecipe,
    /// Which output is the weights' first.
    first: u32,
    ranks: PackedRanks,
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
        assert_eq!(places.rows.len(), m, "a packed product asks where rows are");
        let (ranks, k) = (self.ranks.parts_of_k(), x.len() / m.max(1));
        // What is added afterwards stands side by side until then.
        let mut side_by_side: Vec<Vec<f32>> = match self.ranks {
            PackedRanks::Added(_) => weights.iter().map(|(_, out)| vec![0.0; ranks * out.len()]).collect(),
            _ => Vec::new(),
        };
        let targets = weights.iter_mut().enumerate().map(|(number, (w, out))| {
            let out = side_by_side.get_mut(number).map_or(&mut **out, |all| &mut all[..]);
            (*w, Shared(out.as_mut_ptr()))
        });
        let targets: Vec<(Matrix<'_>, Shared<f32>)> = targets.collect();
        for rank in 0..ranks {
            self.of_rank(isa, pool, output, places, &x_of(x, k, ranks, rank), [rank, ranks], &targets);
        }
        let PackedRanks::Added(reduce) = self.ranks else { return };
        for ((w, out), of_ranks) in weights.iter_mut().zip(&side_by_side) {
            let width = w.rows;
            let rows = out.chunks_exact_mut(width).zip(of_ranks.chunks_exact(ranks * width));
            for (row, (out, of_ranks)) in places.rows.iter().zip(rows) {
                let mut values = vec![0.0; ranks];
                for (column, out) in out.iter_mut().enumerate() {
                    for (value, of_rank) in values.iter_mut().zip(of_ranks.chunks_exact(width)) {
                        *value = of_rank[column];
                    }
                    *out = reduce.sum(output, &values, row * width + column, places.of * width);
                }
            }
        }
    }

    /// What `rank` of `ranks` computes over its part of `K`, `x`: its row `i` is row `ranks · i + rank` of a target.
    #[expect(clippy::too_many_arguments, reason = "where, and three kinds of tensors")]
    fn of_rank(
        &self,
        isa: Isa,
        pool: &Pool,
        output: Dtype,
        places: &Places,
        x: &[f32],
        [rank, ranks]: [usize; 2],
        targets: &[(Matrix<'_>, Shared<f32>)],
    ) {
        let m = places.rows.len();
        let k = x.len() / m.max(1);
        let from = rank * k;
        let (block, instructions) = (self.block, instructions(isa));
        let factors = block.operand.dtype().map(Format::Plain);
        for launch in &self.launches {
            let here: Vec<usize> = (0..m).filter(|i| launch.rows.contains(&places.rows[*i])).collect();
            for here in here.chunks(ROWS) {
                let rows_laid: Vec<f32> =
                    here.iter().flat_map(|i| launch.laid(&x[i * k..(i + 1) * k])).collect();
                let mut rows = vec![Row::default(); here.len()];
                fill(instructions, pool, block, &rows_laid, &mut rows);
                for (w, to) in targets {
                    assert_eq!(Some(w.format), factors, "a tensor core multiplies formats of 16 bits here");
                    let tasks = tasks(&self.ranks.runs(self.first as usize, w.rows), launch.tile[1]);
                    pool.run(tasks.len(), |task| {
                        let (own, place) = tasks[task].clone();
                        let lanes: Vec<Cow<'_, [u8]>> =
                            own.clone().map(|row| laid(launch, bytes(*w, row, from..from + k))).collect();
                        let cuts = |i: usize| launch.cuts(places.rows[here[i]], place);
                        let tile = Tile { launch, block, instructions, lanes: &lanes, k };
                        let mut scratch = Scratch::default();
                        for group in alike(here.len(), cuts) {
                            let sums = tile.sums(&rows[group.clone()], cuts(group.start), &mut scratch);
                            for (panel, sums) in sums.chunks_exact_mut(group.len()).enumerate() {
                                let count = LANES.min(lanes.len() - panel * LANES);
                                for (i, sums) in group.clone().zip(sums) {
                                    output.round_each(sums);
                                    let row = here[i] * ranks + rank;
                                    let column = own.start + panel * LANES;
                                    let to = to.get().wrapping_add(row * w.rows + column);
                                    // SAFETY: these columns of this rank's rows are this task's.
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

/// A rank's part of rows of length `k`.
fn x_of(x: &[f32], k: usize, ranks: usize, rank: usize) -> Cow<'_, [f32]> {
    if ranks == 1 {
        return Cow::Borrowed(x);
    }
    let of_rank = k / ranks;
    x.chunks_exact(k).flat_map(|row| &row[rank * of_rank..(rank + 1) * of_rank]).copied().collect()
}

/// Outputs of `runs` in pieces that cross no border of tiles of `tile`, and the place of each piece's first.
fn tasks(runs: &[(Range<usize>, usize)], tile: usize) -> Vec<(Range<usize>, usize)> {
    let mut tasks = Vec::new();
    for (run, first) in runs {
        let mut start = run.start;
        while start < run.end {
            let place = first + start - run.start;
            let end = run.end.min(start + (place / tile + 1) * tile - place).min(start + OUTPUTS);
            tasks.push((start..end, place));
            start = end;
        }
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
    use std::num::{NonZeroU16, NonZeroU32};

    use half::bf16;
    use mantissa_numerics::recipe::{AllReduceSum, PackedKernel, RankOrder};
    use mantissa_numerics::tensor_core::{Architecture, Operand};
    use mantissa_testkit::gpu_inputs::hashed;

    use super::*;

    /// The order, word for word, of the weight's output `own`: ranks that have outputs count theirs from the same
    /// place, ranks that have parts of `K` add what they rounded.
    fn reference(
        sum: PackedSum,
        [row, of]: [usize; 2],
        [own, rows]: [usize; 2],
        x: &[f32],
        w: &[f32],
    ) -> f32 {
        let first = sum.shape()[2] as usize;
        match sum.ranks() {
            PackedRanks::One => of_rank(sum, row, first + own, x, w),
            PackedRanks::Outputs { of_rank: each, skipped } => {
                of_rank(sum, row, first + (skipped as usize + own) % each.get() as usize, x, w)
            }
            PackedRanks::Added(reduce) => {
                let k = x.len() / usize::from(reduce.ranks());
                let parts = x.chunks_exact(k).zip(w.chunks_exact(k));
                let sums: Vec<f32> =
                    parts.map(|(x, w)| Dtype::Bf16.round(of_rank(sum, row, first + own, x, w))).collect();
                reduce.sum(Dtype::Bf16, &sums, row * rows + own, of * rows)
            }
            PackedRanks::SideBySide(_) => panic!("of experts alone"),
        }
    }

    /// Warps' elements together, then steps of a tensor core over each part.
    fn of_rank(sum: PackedSum, row: usize, output: usize, x: &[f32], w: &[f32]) -> f32 {
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
        let one = PackedRanks::One;
        let added =
            |ranks| PackedRanks::Added(AllReduceSum::new(ranks, RankOrder::EachAlongRing).expect("ranks"));
        let outputs = |of_rank, skipped| PackedRanks::Outputs {
            of_rank: NonZeroU32::new(of_rank).expect("some"),
            skipped,
        };
        for (kernel, m, n, first, rows, k, ranks) in [
            (PackedKernel::Machete, 9, 1024, 384, 70, 1024, one),
            (PackedKernel::Machete, 70, 2816, 2560, 200, 1152, one),
            (PackedKernel::Machete, 300, 512, 0, 150, 1024, one),
            (marlin, 3, 512, 100, 90, 1024, one),
            (marlin, 70, 1088, 1000, 88, 512, one),
            (marlin, 200, 2048, 256, 130, 640, one),
            (PackedKernel::Machete, 9, 512, 128, 150, 1024, outputs(100, 30)),
            (marlin, 33, 512, 100, 150, 1024, outputs(60, 0)),
            (PackedKernel::Machete, 9, 1024, 0, 70, 2048, added(2)),
            (marlin, 70, 512, 0, 512, 1024, added(4)),
        ] {
            let (x, w, data) = cancelling(m, rows, k);
            let of = |x: usize| u32::try_from(x).expect("small");
            let sum = PackedSum::new(kernel, block, [of(m), of(n), of(first)], 132).among(ranks);
            let output = if matches!(ranks, PackedRanks::Added(_)) { Dtype::Bf16 } else { Dtype::F32 };
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
                products(isa, &pool, sum, output, &places, here.len(), &given, &mut [(matrix, &mut out)]);
                for (i, row) in here.iter().enumerate().step_by(5) {
                    for own in (0..rows).step_by(7) {
                        let (x, w) = (&x[row * k..(row + 1) * k], &w[own * k..(own + 1) * k]);
                        let expected = reference(sum, [*row, m], [own, rows], x, w);
                        let found = out[i * rows + own];
                        assert_eq!(found.to_bits(), expected.to_bits(), "{sum:?} {k}: {row} {own}");
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
        for (tokens, blocks, at, first, k, zeros, ranks) in [
            // A token's experts; small prompts, in blocks that are cut and not.
            (1_u32, 8, 5, 96, 512, true, 1),
            (9, 40, 0, 0, 256, false, 1),
            (9, 40, 39, 128, 256, true, 1),
            (120, 100, 70, 64, 256, true, 1),
            (9, 40, 39, 0, 1024, true, 2),
        ] {
            let sum = PackedExperts {
                block,
                tokens,
                top: 8,
                experts: 128,
                of_rank: None,
                outputs: 256,
                first,
                zeros,
                multiprocessors: 132,
                ranks: NonZeroU16::new(ranks)
                    .filter(|_| ranks > 1)
                    .map_or(PackedRanks::One, PackedRanks::SideBySide),
            };
            let (m, rows, ranks) = (2, 100, usize::from(ranks));
            let (x, w, data) = cancelling(m, rows, k);
            let of_rank = k / ranks;
            let launch = sum.launch(of_rank, blocks).expect("whole tiles");
            let places = Places { rows: vec![at * sum.rows(); m], of: blocks };
            for isa in [Isa::Scalar, Isa::Avx2, Isa::Avx512].into_iter().filter(|isa| isa.is_available()) {
                let mut out = vec![f32::NAN; m * ranks * rows];
                let format = Format::Plain(Dtype::Bf16);
                let matrix = Matrix { format, rows, cols: k, row_bytes: 2 * k, data: &data };
                of_expert(isa, &pool, sum, Dtype::F32, &places, m, &x, &mut [(matrix, &mut out)]);
                // Of each row those of rank 0, then those of rank 1.
                for (row, found) in out.chunks_exact(rows).enumerate() {
                    let (row, from) = (row / ranks, row % ranks * of_rank);
                    for (output, found) in found.iter().enumerate().step_by(7) {
                        let of = |row: usize| row * k + from..row * k + from + of_rank;
                        let (x, w) = (&x[of(row)], &w[of(output)]);
                        let (laid, with) = (bits(&launch.laid(x)), bits(&launch.laid(w)));
                        let place = first as usize + output;
                        let expected = launch.sum(of_rank, at * sum.rows(), place, |part| {
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
