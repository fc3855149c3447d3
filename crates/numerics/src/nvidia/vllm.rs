//! The mean of squares of vLLM's RMSNorm kernels.
//!
//! *Source:* vLLM 0.24.0, csrc/libtorch_stable/layernorm_kernels.cu, and CUB's `BlockReduce`, restated; which products
//! are fused was read in the shipped binary. Left out: vectors of fewer than eight elements and rows that do not begin
//! at an address of 16 bytes, which go other ways.

use serde::{Deserialize, Serialize};

/// Elements of a load.
const VECTOR: usize = 8;

/// Threads of a warp.
const WARP: usize = 32;

/// The order of the sum: thread `t` takes the loads of eight elements `t`, `t + threads`, …; neighbours of a warp are
/// added first (steps of 1, 2, 4, 8 and 16), then the sums of warps in ascending order. The sum is divided by the
/// length.
///
/// *Rounding:* `rms_norm` goes on by `fma(x, x, sum)`, element by element. `fused_add_rms_norm`, of the sum that it has
/// rounded, makes `fma(a, a, b · b)` of neighbours `(a, b)`, adds the four of a load from zero and then adds them to
/// its sum.
///
/// ```
/// use mantissa_numerics::nvidia::vllm::VllmMean;
/// let of = |tokens| VllmMean::of(tokens, 4096, false).unwrap();
/// // From 256 tokens on a block has fewer threads.
/// assert_eq!([of(255), of(256)].map(|mean| mean.threads), [512, 256]);
/// let mut x = [0.0; 4096];
/// (x[0], x[8], x[2056]) = (4096.0, 1.0, 1.0);
/// // Beside 2^24 a single 1 is lost, and two are not: the second of 256 threads has both.
/// assert_eq!([of(255), of(256)].map(|mean| mean.mean(&x) * 4096.0 - 16_777_216.0), [0.0, 2.0]);
/// assert_eq!(VllmMean::of(1, 100, false), None, "no whole number of loads");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VllmMean {
    /// Threads that take loads.
    pub threads: u16,
    /// Whether it is `fused_add_rms_norm`'s.
    #[serde(default, skip_serializing_if = "is_plain")]
    pub fused: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_plain(fused: &bool) -> bool {
    !*fused
}

impl VllmMean {
    /// Most threads of a block.
    const MOST: u16 = 1024;

    /// Whether a kernel may have such threads.
    pub(crate) const fn is_launched(self) -> bool {
        self.threads > 0 && self.threads <= Self::MOST
    }

    /// What vLLM launches for `tokens` rows of `length` bf16 or f16 values in a step, all requests together; rows times
    /// heads where heads are normalized. `None` for no rows, and where eight do not divide the length.
    #[must_use]
    pub fn of(tokens: usize, length: usize, fused: bool) -> Option<Self> {
        if tokens == 0 || length == 0 || !length.is_multiple_of(VECTOR) {
            return None;
        }
        let most = if tokens < 256 { Self::MOST } else { 256 };
        // `fused_add_rms_norm` has a thread for each element, up to as many: those without a load add zeros.
        let threads = u16::try_from(length / VECTOR).map_or(most, |loads| loads.min(most));
        Some(Self { threads, fused })
    }

    /// The mean of a row's squares.
    ///
    /// *Shape:* a multiple of 8; where a last load is shorter, zeros are missing. *Rounding:* binary32 at every step.
    ///
    /// Example: [`Self`].
    #[must_use]
    pub fn mean(self, x: &[f32]) -> f32 {
        let mut sums = vec![0.0_f32; usize::from(self.threads).next_multiple_of(WARP)];
        for round in x.chunks(VECTOR * usize::from(self.threads)) {
            for (sum, load) in sums.iter_mut().zip(round.chunks(VECTOR)) {
                if self.fused {
                    let pair = |pair: &[f32]| match *pair {
                        [a, b] => a.mul_add(a, b * b),
                        _ => pair.iter().fold(0.0, |sum, x| x.mul_add(*x, sum)),
                    };
                    *sum += load.chunks(2).map(pair).fold(0.0, |sum, p| sum + p);
                } else {
                    *sum = load.iter().fold(*sum, |sum, x| x.mul_add(*x, sum));
                }
            }
        }
        let sum = sums.chunks_exact_mut(WARP).map(neighbours).reduce(|sum, warp| sum + warp).unwrap_or(0.0);
        #[expect(clippy::cast_precision_loss, reason = "a row is far shorter than 2^24")]
        let length = x.len() as f32;
        sum / length
    }
}

/// The sum of a warp: neighbours first. Threads that a block does not have count as zeros.
fn neighbours(warp: &mut [f32]) -> f32 {
    let mut step = 1;
    while step < warp.len() {
        for at in (0..warp.len()).step_by(2 * step) {
            warp[at] += warp[at + step];
        }
        step *= 2;
    }
    warp[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CUB's warp reduction as it stands: a lane adds another's sum only where that one is within the block.
    fn shuffled(mut lanes: Vec<f32>) -> f32 {
        for step in [1, 2, 4, 8, 16] {
            let before = lanes.clone();
            for (lane, sum) in lanes.iter_mut().enumerate() {
                if lane + step < before.len() {
                    *sum += before[lane + step];
                }
            }
        }
        lanes[0]
    }

    /// The kernel thread by thread.
    fn by_threads(threads: usize, fused: bool, x: &[f32]) -> f32 {
        let of_thread = |thread: usize| {
            let mut sum = 0.0_f32;
            for load in (thread..x.len() / 8).step_by(threads) {
                let v = &x[8 * load..8 * load + 8];
                if fused {
                    let p = [0, 2, 4, 6].map(|i| v[i].mul_add(v[i], v[i + 1] * v[i + 1]));
                    sum += ((p[0] + p[1]) + p[2]) + p[3];
                } else {
                    for x in v {
                        sum = x.mul_add(*x, sum);
                    }
                }
            }
            sum
        };
        let sums: Vec<f32> = (0..threads).map(of_thread).collect();
        let warps: Vec<f32> = sums.chunks(32).map(|warp| shuffled(warp.to_vec())).collect();
        #[expect(clippy::cast_precision_loss, reason = "a short row")]
        let length = x.len() as f32;
        warps[1..].iter().fold(warps[0], |sum, warp| sum + warp) / length
    }

    #[test]
    fn means_are_those_of_the_threads() {
        let mut seed = 1_u32;
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            crate::Dtype::Bf16.round(f32::from(u8::try_from(seed >> 24).unwrap()) / 37.0 - 3.0)
        };
        for length in [8, 64, 128, 576, 1000, 2048, 4096, 8192, 16_384] {
            let x: Vec<f32> = (0..length).map(|_| next()).collect();
            for tokens in [1, 255, 256] {
                let most = if tokens < 256 { 1024 } else { 256 };
                let rms = VllmMean::of(tokens, length, false).unwrap();
                let fused = VllmMean::of(tokens, length, true).unwrap();
                let want = by_threads((length / 8).min(most), false, &x);
                assert_eq!(rms.mean(&x).to_bits(), want.to_bits(), "{tokens} {length}");
                let want = by_threads(length.min(most), true, &x);
                assert_eq!(fused.mean(&x).to_bits(), want.to_bits(), "{tokens} {length} fused");
            }
        }
    }
}
