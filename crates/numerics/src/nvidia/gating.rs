//! The softmax over router logits, as vLLM's kernel that chooses experts computes it.
//!
//! *Source:* vLLM 0.24.0, csrc/libtorch_stable/moe/topk_softmax_kernels.cu (`topkGating`), restated. Of 128 experts it
//! was compared with an H200 by what experts add up to (goldens/parallel); other numbers were read. Left out: those for
//! which vLLM launches two other kernels.

use serde::{Deserialize, Serialize};

use super::functions::exp_each;
use super::reduce::halved;
use super::softmax::{add, largest};

/// Threads of a warp.
const WARP: usize = 32;

/// The order of the sum: thread `t` of up to 32 takes loads `t`, `t + threads`, … of a row, element by element; then
/// threads are halved. There are as many threads as loads, or 32.
///
/// *Rounding:* binary32 at every step; exponentials are multiplied with `1 / sum`, which is correctly rounded.
///
/// ```
/// use mantissa_numerics::nvidia::gating::VllmGating;
/// let of = |experts| VllmGating::of(experts).map(|gating| gating.load);
/// assert_eq!([of(4), of(128), of(192), of(60)], [Some(4), Some(8), Some(2), None]);
/// let mut x = [1.0; 64];
/// VllmGating::of(64).unwrap().softmax(&mut x);
/// assert_eq!(x, [1.0 / 64.0; 64]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VllmGating {
    /// Elements of a load.
    pub load: u8,
}

impl VllmGating {
    /// Whether a kernel may have such loads.
    pub(crate) const fn is_launched(self) -> bool {
        self.load.is_power_of_two() && self.load <= 8
    }

    /// What vLLM launches for the logits of so many experts in bf16 or f16.
    #[must_use]
    pub const fn of(experts: usize) -> Option<Self> {
        let load = match experts {
            1 => 1,
            4 => 4,
            8 | 16 | 32 | 64 | 128 | 256 | 512 => 8,
            2 | 192 | 320 | 384 | 448 | 576 => 2,
            _ => return None,
        };
        Some(Self { load })
    }

    /// Probabilities of a row of logits, in place.
    ///
    /// Example: [`Self`].
    pub fn softmax(self, x: &mut [f32]) {
        let load = usize::from(self.load).max(1);
        let mut sums = vec![0.0; (x.len() / load).clamp(1, WARP)];
        exp_each(x, largest(x));
        add(&mut sums, x, load);
        let reciprocal = 1.0 / halved(&mut sums);
        for x in x {
            *x *= reciprocal;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvidia::functions::exp;

    /// The kernel thread by thread: every thread is left with the sum.
    fn by_threads(load: usize, per_thread: usize, x: &[f32]) -> Vec<f32> {
        let threads = x.len() / per_thread;
        let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let place = |thread: usize, i: usize| (i / load) * load * threads + thread * load + i % load;
        let mut sums: Vec<f32> = (0..threads)
            .map(|thread| (0..per_thread).fold(0.0, |sum, i| sum + exp(x[place(thread, i)] - max)))
            .collect();
        let mut mask = threads / 2;
        while mask > 0 {
            sums = (0..threads).map(|thread| sums[thread] + sums[thread ^ mask]).collect();
            mask /= 2;
        }
        assert!(sums.iter().all(|sum| sum.to_bits() == sums[0].to_bits()));
        x.iter().map(|x| exp(x - max) * (1.0 / sums[0])).collect()
    }

    #[test]
    fn probabilities_are_those_of_the_threads() {
        let mut seed = 1_u32;
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            crate::Dtype::Bf16.round(f32::from(u8::try_from(seed >> 24).unwrap()) / 37.0 - 3.0)
        };
        // Experts, elements of a load, elements of a thread.
        for [experts, load, per_thread] in [
            [2, 2, 2],
            [8, 8, 8],
            [64, 8, 8],
            [128, 8, 8],
            [256, 8, 8],
            [512, 8, 16],
            [192, 2, 6],
            [576, 2, 18],
        ] {
            for _ in 0..20 {
                let x: Vec<f32> = (0..experts).map(|_| next()).collect();
                let mut found = x.clone();
                VllmGating::of(experts).unwrap().softmax(&mut found);
                assert_eq!(found, by_threads(load, per_thread, &x), "{experts}");
            }
        }
    }
}
