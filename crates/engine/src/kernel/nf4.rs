//! Products by [`Nf4Sum::Simt`]: a warp of 32 lanes for each output, products rounded to bf16.
//!
//! Rows and weights are laid out so that neighbours in memory belong to neighbouring lanes. A pass over the weights
//! computes every row, whatever their number: outputs do not depend on it.
//!
//! [`Nf4Sum::Simt`]: mantissa_numerics::recipe::Nf4Sum::Simt

use mantissa_numerics::Dtype;

use super::matrix::{Format, Matrix};
use super::share::Shared;
use crate::pool::Pool;

/// Lanes of a warp.
const LANES: usize = 32;
/// Neighbours of `K` that a lane takes at a time.
const RUN: usize = 32;
/// Elements that the warp takes at a time.
const STEP: usize = LANES * RUN;
/// Rows of a weight that a task has.
const ROWS: usize = 16;

/// `out[i, j] = round(Σ_k x[i, k] · w[j, k])`, *shapes* as of `matmul`; `x` and weights are bf16.
pub(super) fn by_warps(
    pool: &Pool,
    output: Dtype,
    m: usize,
    x: &[f32],
    weights: &mut [(Matrix<'_>, &mut [f32])],
) {
    let k = x.len() / m.max(1);
    let laid_length = k.next_multiple_of(STEP);
    let mut rows = vec![0.0; m * laid_length];
    for (row, laid) in x.chunks_exact(k.max(1)).zip(rows.chunks_exact_mut(laid_length.max(1))) {
        lay(row, laid, |x| x);
    }
    let mut tasks = Vec::new();
    for (index, (w, _)) in weights.iter().enumerate() {
        assert_eq!(w.format, Format::Plain(Dtype::Bf16), "weights of this way are bf16");
        tasks.extend((0..w.rows).step_by(ROWS).map(|first| (index, first..w.rows.min(first + ROWS))));
    }
    let targets: Vec<(Matrix<'_>, Shared<f32>)> =
        weights.iter_mut().map(|(w, out)| (*w, Shared(out.as_mut_ptr()))).collect();
    pool.run(tasks.len(), |task| {
        let (index, outputs) = tasks[task].clone();
        let (w, to) = targets[index];
        let mut laid = vec![0.0; laid_length];
        for column in outputs {
            let (values, _) = w.data[column * w.row_bytes..][..2 * k].as_chunks();
            lay(values, &mut laid, |[low, high]| f32::from_bits(u32::from_le_bytes([0, 0, low, high])));
            for (i, row) in rows.chunks_exact(laid_length.max(1)).enumerate() {
                let sum = output.round(dot(row, &laid));
                // SAFETY: this column of this weight's output is this task's.
                unsafe { to.get().add(i * w.rows + column).write(sum) };
            }
        }
    });
}

/// Puts element `k` where its lane and turn are: of a step pair after pair, of a pair first elements, then second ones.
fn lay<T: Copy>(values: &[T], laid: &mut [f32], of: impl Fn(T) -> f32) {
    for (values, laid) in values.chunks(STEP).zip(laid.chunks_exact_mut(STEP)) {
        if let (runs, []) = values.as_chunks::<RUN>()
            && let Some(runs) = runs.first_chunk::<LANES>()
        {
            for (turn, laid) in laid.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
                for (laid, run) in laid.iter_mut().zip(runs) {
                    *laid = of(run[turn]);
                }
            }
            continue;
        }
        for (k, value) in values.iter().enumerate() {
            laid[k % RUN * LANES + k / RUN] = of(*value);
        }
    }
}

/// [`by_warp`](mantissa_numerics::nvidia::bnb::by_warp) of what was laid out. Padding adds zeros to sums that the
/// closing `+ 0` makes the same.
fn dot(x: &[f32], w: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    for (x, w) in x.chunks_exact(2 * LANES).zip(w.chunks_exact(2 * LANES)) {
        let ((x, next_x), (w, next_w)) = (x.split_at(LANES), w.split_at(LANES));
        for lane in 0..LANES {
            let pair = product(x[lane], w[lane]) + product(next_x[lane], next_w[lane]);
            lanes[lane] = flushed(lanes[lane] + flushed(pair));
        }
    }
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = flushed(lanes[i] + lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0] + 0.0
}

/// A product, rounded to bf16 and flushed.
fn product(x: f32, w: f32) -> f32 {
    let bits = (x * w).to_bits();
    let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000;
    flushed(f32::from_bits(rounded))
}

/// [`flushed`](mantissa_numerics::nvidia::bnb::flushed) without a branch.
fn flushed(x: f32) -> f32 {
    let bits = x.to_bits();
    let kept = if bits & 0x7F80_0000 == 0 { 0x8000_0000 } else { u32::MAX };
    f32::from_bits(bits & kept)
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use mantissa_numerics::nvidia::bnb::by_warp;
    use mantissa_testkit::gpu_inputs::hashed;

    use super::*;

    #[test]
    fn warps_are_the_reference_bit_for_bit() {
        let pool = Pool::new(2).expect("threads");
        for (m, n, k) in [(1, 17, 32), (3, 40, 96), (2, 5, 1024), (5, 33, 2144)] {
            // The last ones are so small that products and sums are flushed.
            for spread in [4.0, 2.0_f32.powi(-62)] {
                let x = hashed(Dtype::Bf16, 0, m * k, 3, spread);
                let w = hashed(Dtype::Bf16, 0, n * k, 11, spread);
                let bytes: Vec<u8> = w.iter().flat_map(|w| bf16::from_f32(*w).to_le_bytes()).collect();
                let data = bytes.as_slice();
                let format = Format::Plain(Dtype::Bf16);
                let matrix = Matrix { format, rows: n, cols: k, row_bytes: 2 * k, data };
                let mut out = vec![0.0; m * n];
                by_warps(&pool, Dtype::F32, m, &x, &mut [(matrix, &mut out)]);
                for (i, found) in out.iter().enumerate() {
                    let (x, w) = (&x[i / n * k..], &w[i % n * k..]);
                    assert_eq!(found.to_bits(), by_warp(k, |k| (x[k], w[k])).to_bits(), "{m} {n} {k} {i}");
                }
            }
        }
    }
}
