//! Products by [`LinearSum::LaneChains`]: along the weight's rows as they lie in memory, which suits a
//! machine that waits for its memory.
//!
//! [`LinearSum::LaneChains`]: mantissa_numerics::recipe::LinearSum::LaneChains

use mantissa_numerics::recipe::Lanes;
use mantissa_numerics::{BlockFormat, Dtype};

use super::format::UNIT;
use super::matrix::Matrix;
use super::share::Shared;
use crate::pool::{Buffer, Pool};
use crate::simd::{Isa, LANES, Simd, kernel};

/// Bytes ahead of the weights at work that are asked of memory.
const PREFETCH: usize = 8192;

kernel! {
    fn dot_rows<'a>(rows: DotRows<'a>) = generic::dot_rows
}

/// Weight rows to take the dot product of with up to eight rows of `x`.
#[derive(Clone, Copy)]
struct DotRows<'a> {
    w: Matrix<'a>,
    rows: (usize, usize),
    /// A group of rows of `x`, as [`group_rows`] lays them.
    x: *const f32,
    /// Rows of `x` that the kernel takes together, and how many of them exist; the rest are zeros.
    m: usize,
    rows_of_x: usize,
    lanes: Lanes,
    out: *mut f32,
    out_stride: usize,
    round: Dtype,
}

/// `out[i, j] = round(Σ_k x[i, k] · w[j, k])` by lanes; checked by [`super::matmul`].
pub(super) fn lane_chains(
    isa: Isa,
    pool: &Pool,
    round: Dtype,
    lanes: Lanes,
    m: usize,
    x: &[f32],
    weights: &mut [(Matrix<'_>, &mut [f32])],
) {
    let k = weights[0].0.cols;
    let stride = k.next_multiple_of(UNIT);
    let padded: Buffer<'_>;
    // Registers hold eight accumulators: that many rows of x at a time.
    let group = match (lanes, m) {
        (Lanes::L64, _) => 1,
        (Lanes::L32, 1 | 2) => 2,
        (Lanes::L32, _) => 4,
        (Lanes::L16, _) => 8,
    };
    let x = if stride == k && group == 1 && x.as_ptr().addr().is_multiple_of(64) {
        x
    } else {
        padded = group_rows(pool, x, m, k, group);
        &padded
    };
    let total: usize = weights.iter().map(|(w, _)| w.rows).sum();
    // Runs of rows long enough to stream, several per thread so that a late thread does not hold up the rest.
    let run = total.div_ceil(pool.threads() * 4).next_multiple_of(4).max(8);
    let tasks: Vec<(usize, usize, usize)> = weights
        .iter()
        .enumerate()
        .flat_map(|(i, (w, _))| (0..w.rows).step_by(run).map(move |r| (i, r, (r + run).min(w.rows))))
        .collect();
    let targets: Vec<(Matrix<'_>, Shared<f32>)> =
        weights.iter_mut().map(|(w, out)| (*w, Shared(out.as_mut_ptr()))).collect();
    pool.run(tasks.len(), |task| {
        let (weight, from, to) = tasks[task];
        let (w, out) = targets[weight];
        for i in (0..m).step_by(group) {
            // SAFETY: `isa` is available; rows i.. of `x` are a group `group · stride` long; this task alone writes
            // columns from..to.
            unsafe {
                dot_rows(
                    isa,
                    DotRows {
                        w,
                        rows: (from, to),
                        x: x.as_ptr().add(i * stride),
                        m: group,
                        rows_of_x: group.min(m - i),
                        lanes,
                        out: out.get().add(i * w.rows),
                        out_stride: w.rows,
                        round,
                    },
                );
            }
        }
    });
}

/// Rows of `x` regrouped as `[group][chunk of 16][row of the group][16]`, padded with zeros in every direction: what
/// a step reads together lies together.
fn group_rows<'p>(pool: &'p Pool, x: &[f32], m: usize, k: usize, group: usize) -> Buffer<'p> {
    let chunks = k.next_multiple_of(UNIT) / LANES;
    let mut out = pool.buffer(m.div_ceil(group) * chunks * group * LANES);
    out.fill(0.0);
    for (i, row) in x.chunks_exact(k).enumerate() {
        for (c, chunk) in row.chunks(LANES).enumerate() {
            let at = ((i / group * chunks + c) * group + i % group) * LANES;
            out[at..at + chunk.len()].copy_from_slice(chunk);
        }
    }
    out
}

/// The kernels themselves, over any instruction set.
mod generic {
    use super::super::format::{UNIT, Units};
    use super::super::math::finish;
    use super::super::matrix::{Format, unit_of_row, with_format};
    use super::{BlockFormat, DotRows, Dtype, LANES, Lanes, PREFETCH, Simd};

    /// # Safety
    /// `S` is available; the caller vouches for every pointer in `d`.
    #[inline(always)]
    pub(super) unsafe fn dot_rows<S: Simd>(d: DotRows<'_>) {
        // SAFETY: the caller's contract.
        with_format!(d.w.format, F => unsafe {
            match (d.lanes, d.m) {
                (Lanes::L64, _) => dots::<S, F, 1, 4>(d),
                (Lanes::L32, 2) => dots::<S, F, 2, 2>(d),
                (Lanes::L32, _) => dots::<S, F, 4, 2>(d),
                (Lanes::L16, _) => dots::<S, F, 8, 1>(d),
            }
        });
    }

    /// `M` rows of `x` against each weight row, `16·A` lanes each. One row at a time: two streams of memory at once
    /// were measured to be slower than one.
    #[inline(always)]
    unsafe fn dots<S: Simd, F: Units, const M: usize, const A: usize>(d: DotRows<'_>) {
        let (units, tail) = (d.w.cols / UNIT, d.w.cols % UNIT);
        let mut row = d.rows.0;
        while row < d.rows.1 {
            // SAFETY: the caller's contract: `x` is padded to whole units.
            unsafe {
                let start = d.w.data.as_ptr().add(row * d.w.row_bytes);
                let mut acc = [[S::splat(0.0); A]; M];
                let mut u = 0;
                while u + 2 <= units {
                    // Two units' worth of lines, further ahead than the hardware looks while it waits for arithmetic.
                    let ahead = start.wrapping_add(F::bytes(UNIT) * u + PREFETCH);
                    let mut line = 0;
                    while line < 2 * F::bytes(UNIT) {
                        S::prefetch(ahead.wrapping_add(line));
                        line += 64;
                    }
                    step::<S, M, A>(&mut acc, F::unit::<S>(start, u), d.x.add(u * UNIT * M));
                    step::<S, M, A>(&mut acc, F::unit::<S>(start, u + 1), d.x.add((u + 1) * UNIT * M));
                    u += 2;
                }
                if u < units {
                    step::<S, M, A>(&mut acc, F::unit::<S>(start, u), d.x.add(u * UNIT * M));
                }
                if tail != 0 {
                    let w = unit_of_row::<S, F>(d.w, row, units, tail);
                    step::<S, M, A>(&mut acc, w, d.x.add(units * UNIT * M));
                }
                each!(i < d.rows_of_x => {
                    let sum = tree::<S, A>(acc[i]) + 0.0;
                    *d.out.add(i * d.out_stride + row) = round_scalar::<S>(sum, d.round);
                });
            }
            row += 1;
        }
    }

    #[inline(always)]
    unsafe fn step<S: Simd, const M: usize, const A: usize>(
        acc: &mut [[S::V; A]; M],
        w: [S::V; 4],
        x: *const f32,
    ) {
        // SAFETY: the caller's contract.
        unsafe {
            each!(c < 4, i < M => {
                acc[i][c % A] = S::fma(S::load(x.add((c * M + i) * LANES)), w[c], acc[i][c % A]);
            });
        }
    }

    /// The halving tree over `16·A` lanes.
    #[inline(always)]
    unsafe fn tree<S: Simd, const A: usize>(mut acc: [S::V; A]) -> f32 {
        // SAFETY: the caller's contract.
        unsafe {
            let mut half = A / 2;
            while half > 0 {
                for i in 0..half {
                    acc[i] = S::add(acc[i], acc[i + half]);
                }
                half /= 2;
            }
            S::tree_sum(acc[0])
        }
    }

    #[inline(always)]
    unsafe fn round_scalar<S: Simd>(x: f32, dtype: Dtype) -> f32 {
        // SAFETY: the caller's contract; lane 0 is all that is read back.
        unsafe {
            let v = finish::<S>(S::splat(x), Some(dtype));
            let mut lanes = [0.0; LANES];
            S::store(lanes.as_mut_ptr(), v);
            lanes[0]
        }
    }
}
