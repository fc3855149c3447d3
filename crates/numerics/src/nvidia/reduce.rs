//! Sums over a row as PyTorch's CUDA kernels add them.

use serde::{Deserialize, Serialize};

use super::functions::exp_each;

/// The order of a sum over rows that lie one after the other in memory, by `reduce_kernel` with loads of four.
///
/// Thread `t` adds elements `4(t + i · threads)..+4` to four sums, ascending; the four are added in order; threads are halved, the upper
/// half added to the lower (first through shared memory, then by shuffles, largest step first).
///
/// *Source:* PyTorch 2.11, aten/src/ATen/native/cuda/Reduce.cuh, restated; verified on an H200.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TorchSum {
    /// Threads of a row, a power of two.
    pub threads: u16,
}

impl TorchSum {
    /// What PyTorch launches for `rows` rows of `length` binary32 values; `None` for shapes whose order is not known here:
    /// lengths that are no multiple of 4 or below 128, and those that are split over blocks of threads.
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
        let mut half = threads / 2;
        while half > 0 {
            for i in 0..half {
                sums[i] += sums[i + half];
            }
            half /= 2;
        }
        sums[0]
    }
}

/// Softmax of a row of at most 1,024 values, in place, as `softmax_warp_forward` computes it on binary32.
///
/// Lane `k mod lanes` adds its exponentials, ascending; lanes are added by a butterfly, largest step first; every value is divided.
///
/// *Source:* PyTorch 2.11, aten/src/ATen/native/cuda/PersistentSoftmax.cuh, restated; verified on an H200.
pub fn softmax_warp(x: &mut [f32]) {
    let lanes = x.len().next_power_of_two().min(32);
    let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sums = [0.0_f32; 32];
    exp_each(x, largest);
    for (k, x) in x.iter().enumerate() {
        sums[k & (lanes - 1)] += *x;
    }
    let mut half = lanes / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
        half /= 2;
    }
    for x in x {
        *x /= sums[0];
    }
}
