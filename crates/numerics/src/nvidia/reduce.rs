//! Sums over a row as PyTorch's CUDA kernels add them.

use serde::{Deserialize, Serialize};

use super::functions::{exp, exp_each};

/// The order of a sum over rows that lie one after the other in memory, by `reduce_kernel` with loads of four.
///
/// Thread `t` adds elements `4(t + i · threads)..+4` to four sums, ascending; the four are added in order; threads are
/// halved, the upper half added to the lower (first through shared memory, then by shuffles, largest step first).
///
/// *Source:* PyTorch 2.11, aten/src/ATen/native/cuda/Reduce.cuh, restated; verified on an H200.
///
/// ```
/// use mantissa_numerics::nvidia::reduce::TorchSum;
/// let torch = TorchSum::of(1, 128).unwrap();
/// assert_eq!(torch.threads, 32);
/// let mut x = [0.0; 128];
/// (x[0], x[4], x[12]) = (16_777_216.0, 1.0, 1.0); // of threads 0, 1 and 3
/// // Threads 1 and 3 are added to each other before they meet 2^24, beside which a single 1 is lost.
/// assert_eq!((torch.sum(x.into_iter()), x.iter().sum()), (16_777_218.0, 16_777_216.0));
/// assert_eq!(TorchSum::of(1, 130), None, "an order that is not known");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TorchSum {
    /// Threads of a row, a power of two.
    pub threads: u16,
}

impl TorchSum {
    /// What PyTorch launches for `rows` rows of `length` binary32 values; `None` for shapes whose order is not known
    /// here: lengths that are no multiple of 4 or below 128, and those that are split over blocks of threads.
    #[must_use]
    pub fn of(rows: usize, length: usize) -> Option<Self> {
        const MOST: usize = 512;
        if !length.is_multiple_of(4) || length < 128 || rows == 0 {
            return None;
        }
        let power = |n: usize| if n < MOST { 1 << n.ilog2() } else { MOST };
        let (across, down) = (power(length / 4), power(rows));
        let height = down.min(MOST / across.min(32));
        let threads = across.min(MOST / height);
        // Beyond this, a row is shared by rows of threads or by blocks.
        let each = (length / 4).div_ceil(threads);
        if each >= 16 * height.max(1) || each >= 256 {
            return None;
        }
        Some(Self { threads: u16::try_from(threads).ok()? })
    }

    /// The sum of `x`. *Shape:* a multiple of 4. *Rounding:* binary32 at every addition.
    #[must_use]
    pub fn sum(self, x: impl ExactSizeIterator<Item = f32>) -> f32 {
        let threads = usize::from(self.threads);
        let mut parts = vec![[0.0_f32; 4]; threads];
        for (k, x) in x.enumerate() {
            parts[(k / 4) & (threads - 1)][k % 4] += x;
        }
        let mut sums: Vec<f32> = parts.iter().map(|[a, b, c, d]| ((a + b) + c) + d).collect();
        halved(&mut sums)
    }
}

/// Softmax of the beginning of a row of `total` values, at most 2,048, in place, as `softmax_warp_forward` computes
/// it on binary32. Values of `x` from `seen` on, and those of the row behind `x`, are masked: they count as −∞.
///
/// Lane `k mod lanes` adds its exponentials, ascending; lanes are added by a butterfly, largest step first; every value
/// is divided.
///
/// *Source:* PyTorch 2.11, aten/src/ATen/native/cuda/PersistentSoftmax.cuh, restated; verified on an H200.
///
/// # Panics
/// When more are seen than `x` has, or `x` has more than `total`.
///
/// ```
/// # use mantissa_numerics::nvidia::reduce::softmax_warp;
/// let mut x = [1.0, 1.0, 7.0];
/// softmax_warp(&mut x, 2, 3);
/// assert_eq!(x, [0.5, 0.5, 0.0]);
/// ```
pub fn softmax_warp(x: &mut [f32], seen: usize, total: usize) {
    assert!(seen <= x.len() && x.len() <= total, "the beginning of a row");
    softmax(x, seen, None, |exponentials, _| by_warp(exponentials, total, None));
}

/// [`softmax_warp`] of a row of `total` values and one more, `last`, whose own share is not returned.
///
/// # Panics
/// As [`softmax_warp`].
///
/// ```
/// # use mantissa_numerics::nvidia::reduce::softmax_warp_beside;
/// let mut x = [1.0, 7.0];
/// softmax_warp_beside(1.0, &mut x, 1, 2);
/// assert_eq!(x, [0.5, 0.0]);
/// ```
pub fn softmax_warp_beside(last: f32, x: &mut [f32], seen: usize, total: usize) {
    assert!(seen <= x.len() && x.len() <= total, "the beginning of a row");
    softmax(x, seen, Some(last), |exponentials, last| {
        by_warp(exponentials, total + 1, last.map(|x| (total, x)))
    });
}

/// The sum of a row of `total` values by a warp; those behind `x` are zeros, but for one that may stand at a place.
fn by_warp(x: &[f32], total: usize, other: Option<(usize, f32)>) -> f32 {
    let lanes = total.next_power_of_two().min(32);
    let mut sums = [0.0_f32; 32];
    add_in_turn(&mut sums[..lanes], x, other);
    halved(&mut sums[..lanes])
}

/// Adds to each sum every so manieth value, ascending; last of all the other one, where its place says.
fn add_in_turn(sums: &mut [f32], x: &[f32], other: Option<(usize, f32)>) {
    for row in x.chunks(sums.len()) {
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += *x;
        }
    }
    if let Some((place, other)) = other {
        let place = place % sums.len();
        sums[place] += other;
    }
}

/// Softmax of a row, in place, as `cunn_SoftMaxForwardReg` computes it on binary32 with blocks of `threads`. Values
/// from `seen` on are masked: they count as −∞.
///
/// Thread `k mod threads` adds its exponentials, ascending; threads of a warp of 32 are halved, the upper half added
/// to the lower, then warps likewise; every value is divided.
///
/// *Source:* PyTorch 2.11, aten/src/ATen/native/cuda/SoftMax.cu and block_reduce.cuh, restated; verified on an H200.
///
/// # Panics
/// When more are seen than there are.
///
/// ```
/// # use mantissa_numerics::nvidia::reduce::softmax_block;
/// let mut x = [1.0, 1.0, 7.0];
/// softmax_block(1024, &mut x, 2);
/// assert_eq!(x, [0.5, 0.5, 0.0]);
/// ```
pub fn softmax_block(threads: u16, x: &mut [f32], seen: usize) {
    softmax(x, seen, None, |exponentials, _| by_block(threads, exponentials, None));
}

/// [`softmax_block`] of a row of `total` values and one more, `last`, whose own share is not returned.
///
/// # Panics
/// When more are seen than there are.
///
/// ```
/// # use mantissa_numerics::nvidia::reduce::softmax_block_beside;
/// let mut x = [1.0, 7.0];
/// softmax_block_beside(1024, 1.0, &mut x, 1, 2);
/// assert_eq!(x, [0.5, 0.0]);
/// ```
pub fn softmax_block_beside(threads: u16, last: f32, x: &mut [f32], seen: usize, total: usize) {
    softmax(x, seen, Some(last), |exponentials, last| {
        by_block(threads, exponentials, last.map(|x| (total, x)))
    });
}

/// The sum of a row by a block of threads; see [`by_warp`].
fn by_block(threads: u16, x: &[f32], other: Option<(usize, f32)>) -> f32 {
    let mut sums = vec![0.0_f32; usize::from(threads)];
    add_in_turn(&mut sums, x, other);
    let mut warps = [0.0_f32; 32];
    for (warp, sums) in warps.iter_mut().zip(sums.chunks_exact_mut(32)) {
        *warp = halved(sums);
    }
    halved(&mut warps)
}

/// Softmax of the first `seen` values, and of one more that `sum` gets the exponential of; the others become what a
/// masked one does: 0, or NaN where the sum is.
fn softmax(x: &mut [f32], seen: usize, more: Option<f32>, sum: impl FnOnce(&[f32], Option<f32>) -> f32) {
    let (x, masked) = x.split_at_mut(seen);
    let largest = x.iter().copied().chain(more).fold(f32::NEG_INFINITY, f32::max);
    exp_each(x, largest);
    let sum = sum(x, more.map(|more| exp(more - largest)));
    for x in x {
        *x /= sum;
    }
    masked.fill(0.0 / sum);
}

/// The sum of a power of two of values, the upper half added to the lower until one is left.
fn halved(sums: &mut [f32]) -> f32 {
    let mut half = sums.len() / 2;
    while half > 0 {
        let (low, high) = sums.split_at_mut(half);
        for (low, high) in low.iter_mut().zip(high) {
            *low += *high;
        }
        half /= 2;
    }
    sums[0]
}

/// The sum of a few values, as `reduce_kernel` adds rows of at most 32: lane `k mod lanes`, ascending; then the halving
/// tree.
///
/// *Source:* as [`TorchSum`]; verified on an H200.
///
/// ```
/// use mantissa_numerics::nvidia::reduce::sum_of_few;
/// // Four lanes: the halving tree adds both ones before they meet 2^24, beside which a single 1 is lost.
/// let x = [16_777_216.0, 1.0, 0.0, 1.0];
/// assert_eq!((sum_of_few(&x), x.iter().sum()), (16_777_218.0, 16_777_216.0));
/// ```
#[must_use]
pub fn sum_of_few(x: &[f32]) -> f32 {
    let lanes = 1 << x.len().max(1).ilog2();
    let mut sums = vec![0.0_f32; lanes];
    for (k, x) in x.iter().enumerate() {
        sums[k % lanes] += x;
    }
    halved(&mut sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row that is written out, the last value among the others.
    #[test]
    fn one_more_value_stands_behind_the_row() {
        let value = |i: usize| f32::from(u16::try_from(i * 7919 % 613).unwrap()) / 64.0;
        for (seen, total) in [(1, 1), (3, 7), (31, 31), (32, 32), (40, 100), (2000, 2000), (1500, 2047)] {
            let beside = 4.25;
            let mut whole: Vec<f32> = (0..seen).map(value).collect();
            whole.resize(total, f32::NEG_INFINITY);
            whole.push(beside);
            let mut blocks = whole.clone();
            softmax_warp(&mut whole, total + 1, total + 1);
            softmax_block(1024, &mut blocks, total + 1);
            let row = || (0..seen + (total - seen) / 2).map(value).collect::<Vec<_>>();
            let (mut warp, mut block) = (row(), row());
            softmax_warp_beside(beside, &mut warp, seen, total);
            softmax_block_beside(1024, beside, &mut block, seen, total);
            assert_eq!(warp, whole[..warp.len()], "{seen} of {total}");
            assert_eq!(block, blocks[..block.len()], "{seen} of {total}");
            assert!(whole[total] > 0.0, "the last has its share");
        }
    }
}
