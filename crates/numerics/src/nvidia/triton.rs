//! Log-probabilities as the Triton kernel of vLLM's model runner V2 computes them.
//!
//! *Source:* vLLM 0.24.0, vllm/v1/worker/gpu/sample/logprob.py (`_topk_log_softmax_kernel`), and the PTX that Triton
//! 3.6.0 makes of it for sm_90, restated: blocks of 1,024 logits, 128 threads. The same log-probabilities by the runner
//! V1 are PyTorch's ([`super::softmax`]). Compared with an H200: 24 sizes of vocabularies, both formats, ties,
//! infinities and NaNs (goldens/audit): no bit differs.

use serde::{Deserialize, Serialize};

use super::functions::ex2;
use super::logarithm::log;
use super::reduce::halved;
use super::softmax::{add, largest};
use crate::Dtype;

/// Logits that are added up before the sum of those before them is touched.
const BLOCK: usize = 1024;

/// Threads of a block, and of a warp.
const THREADS: usize = 128;
const WARP: usize = 32;

/// Rows begin at an address that so many elements divide, or nothing is known of it.
const ALIGNED: usize = 16;

/// log₂ e, rounded.
const LOG2_E: f32 = f32::from_bits(0x3FB8_AA3B);

/// The order of the sum of exponentials: of each block of 1,024 logits, thread `t` of 128 takes loads `t`, `t + 128`, …
/// element by element; warps of 32 threads are halved, then their four sums; blocks are added to what came before.
///
/// *Rounding:* binary32 at every step. An exponential is `ex2(x · log₂ e)` with the product rounded; below 2^-126 it is
/// the square of half the exponent's. `(x − max) − ln(sum)`, with CUDA's `logf`.
///
/// ```
/// use mantissa_numerics::Dtype;
/// use mantissa_numerics::nvidia::triton::TritonLogSoftmax;
/// let of = |vocabulary, dtype| TritonLogSoftmax::of(vocabulary, dtype).load;
/// assert_eq!([of(49_152, Dtype::Bf16), of(49_152, Dtype::F32)], [8, 4]);
/// let (largest, log) = TritonLogSoftmax { load: 8 }.log_sum(&[2.0, 2.0]);
/// assert_eq!((largest, 2.0 - largest - log), (2.0, -0.693_147_2));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TritonLogSoftmax {
    /// Elements of a load.
    pub load: u8,
}

impl TritonLogSoftmax {
    /// Whether the compiler may choose such loads.
    pub(crate) const fn is_launched(self) -> bool {
        matches!(self.load, 1 | 4 | 8)
    }

    /// What is compiled for rows of `vocabulary` logits in `dtype`, as vLLM lays them out: padded to a multiple of 64.
    #[must_use]
    pub const fn of(vocabulary: usize, dtype: Dtype) -> Self {
        Self::laid_out(vocabulary.next_multiple_of(64), dtype)
    }

    /// What is compiled for rows that begin `stride` elements apart: loads of 16 bytes where it is known that all rows
    /// begin at a multiple of that, else of one element.
    ///
    /// ```
    /// use mantissa_numerics::Dtype;
    /// use mantissa_numerics::nvidia::triton::TritonLogSoftmax;
    /// assert_eq!([1024, 1000, 1].map(|n| TritonLogSoftmax::laid_out(n, Dtype::Bf16).load), [8, 1, 1]);
    /// ```
    #[must_use]
    pub const fn laid_out(stride: usize, dtype: Dtype) -> Self {
        let load = match dtype {
            _ if !stride.is_multiple_of(ALIGNED) => 1,
            Dtype::F32 => 4,
            _ => 8,
        };
        Self { load }
    }

    /// The two numbers that are subtracted from a logit: the largest, and the logarithm of the sum.
    ///
    /// Example: [`Self`].
    #[must_use]
    pub fn log_sum(self, x: &[f32]) -> (f32, f32) {
        let largest = largest(x);
        let load = usize::from(self.load).max(1);
        let mut sum = 0.0;
        for block in x.chunks(BLOCK) {
            let mut exponentials = [0.0; BLOCK];
            for (exponential, x) in exponentials.iter_mut().zip(block) {
                *exponential = exp(x - largest);
            }
            let mut threads = [0.0; THREADS];
            add(&mut threads, &exponentials, load);
            let mut warps = [0.0; THREADS / WARP];
            for (warp, threads) in warps.iter_mut().zip(threads.chunks_exact_mut(WARP)) {
                *warp = halved(threads);
            }
            sum += halved(&mut warps);
        }
        (largest, log(sum))
    }
}

/// e^x, as `tl.exp`.
fn exp(x: f32) -> f32 {
    let x = x * LOG2_E;
    if x < -126.0 {
        let root = ex2(x * 0.5);
        return root * root;
    }
    ex2(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel thread by thread, from its PTX: every thread is left with the sum.
    fn by_threads(load: usize, x: &[f32]) -> f32 {
        let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut total = 0.0;
        for start in (0..x.len()).step_by(BLOCK) {
            let of_thread = |thread: usize| {
                (0..BLOCK / THREADS).fold(0.0, |sum, register| {
                    let round = register / load;
                    let place = start + round * THREADS * load + thread * load + register % load;
                    sum + x.get(place).map_or(0.0, |x| exp(x - max))
                })
            };
            let mut sums: Vec<f32> = (0..THREADS).map(of_thread).collect();
            for step in [16, 8, 4, 2, 1] {
                sums = (0..THREADS).map(|thread| sums[thread] + sums[thread ^ step]).collect();
            }
            let mut warps: Vec<f32> = (0..4).map(|warp| sums[warp * WARP]).collect();
            for step in [2, 1] {
                warps = (0..4).map(|warp| warps[warp] + warps[warp ^ step]).collect();
            }
            assert!(warps.iter().all(|sum| sum.to_bits() == warps[0].to_bits()));
            total += warps[0];
        }
        total
    }

    #[test]
    fn sums_are_those_of_the_threads() {
        let mut seed = 1_u32;
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Dtype::Bf16.round(f32::from(u8::try_from(seed >> 24).unwrap()) / 20.0 - 6.0)
        };
        let mut shown = 0;
        for length in [1, 7, 1000, 1023, 1024, 1025, 3000, 5120] {
            let x: Vec<f32> = (0..length).map(|_| next()).collect();
            let logs = [1, 4, 8].map(|load| {
                let (largest, found) = TritonLogSoftmax { load }.log_sum(&x);
                assert_eq!(found.to_bits(), log(by_threads(usize::from(load), &x)).to_bits(), "{length}");
                assert!(x.iter().all(|x| *x <= largest));
                found.to_bits()
            });
            shown += usize::from(logs[0] != logs[2]);
        }
        assert!(shown > 0, "the order shows");
    }

    #[test]
    fn what_has_no_logarithm_has_none() {
        let kernel = TritonLogSoftmax { load: 8 };
        assert_eq!(kernel.log_sum(&[f32::NEG_INFINITY, 1.0]), (1.0, 0.0));
        assert!(kernel.log_sum(&[f32::NEG_INFINITY; 3]).1.is_nan());
        assert!(kernel.log_sum(&[f32::INFINITY, 1.0]).1.is_nan());
        assert!(kernel.log_sum(&[f32::NAN, 1.0]).1.is_nan());
        // The result is subnormal, and that of an exponential whose results are not would be 0.
        assert!(exp(-88.0) > 0.0 && exp(-88.0) < f32::MIN_POSITIVE);
    }
}
