//! FlashAttention-2 as PyTorch compiles it: what is done with scores between the two products, and how split keys are
//! put together.
//!
//! *Source:* Dao-AILab/flash-attention v2.8, csrc/flash_attn/src/{softmax.h, flash_fwd_kernel.h} and flash_api.cpp,
//! which PyTorch 2.11 compiles with `UNFUSE_FMA` and without fast math; restated. Verified on an H200, outputs and
//! log-sum-exp, bit for bit.
//!
//! Which rows share a kernel's tile of queries has no effect: a tile of keys that a row does not see multiplies its
//! sums by a power of zero or one. Left out: the products, which are the engine's; dropout, windows, ALiBi, soft caps.

use super::functions::{ex2, exp};
use super::logarithm::{log, log_fast};

/// Lanes that share a row of scores: lane `i` has columns `2i` and `2i + 1` of every eight.
const LANES: usize = 4;

/// Threads of the kernel that puts parts together.
const COMBINE_THREADS: usize = 128;

/// The factor of scores, and that times log₂ e.
///
/// Example: [`Online`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    natural: f32,
    binary: f32,
}

impl Scale {
    /// Of a factor. *Rounding:* its product with log₂ e in binary64, rounded.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "said above")]
    pub fn new(natural: f32) -> Self {
        Self { natural, binary: (f64::from(natural) * std::f64::consts::LOG2_E) as f32 }
    }

    /// The factor times log₂ e.
    pub(super) const fn binary(self) -> f32 {
        self.binary
    }
}

/// 2^x, as CUDA's `exp2f`: subnormal results by way of a root. That way is from the library's PTX; measured scores do
/// not reach it.
fn exp2(x: f32) -> f32 {
    if x < -126.0 {
        let root = ex2(x * 0.5);
        return root * root;
    }
    ex2(x)
}

/// A row's softmax while tiles of keys go by, **from the last to the first**.
///
/// ```
/// use mantissa_numerics::nvidia::flash::{Online, Scale};
/// let (mut row, scale) = (Online::default(), Scale::new(0.125));
/// // Scores of the last tile, which comes first: the largest gets the weight 1.
/// let (mut last, mut first) = ([0.0; 8], [64.0; 8]);
/// assert_eq!((row.tile(scale, &mut last), last), (1.0, [1.0; 8]));
/// // 64 / √64 raises the maximum by 8: what was summed so far shrinks by e^-8.
/// let factor = row.tile(scale, &mut first);
/// assert!((factor - (-8.0_f32).exp()).abs() < 1e-9);
/// assert_eq!(first, [1.0; 8]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Online {
    /// The largest score and the sums of four lanes; `None` before the first tile.
    state: Option<(f32, [f32; LANES])>,
}

impl Online {
    /// Replaces the scores of a tile, of which the row sees at least one, by what their exponentials are in proportion
    /// to, in binary32. Returns what the product with the values so far is to be multiplied with, by itself, before
    /// this tile's is added.
    ///
    /// *Shape:* a multiple of 8; keys that the row does not see are −∞. *Rounding:*
    /// `exp2(round(s · c) − round(max · c))`, `c` the binary scale; lanes add ascending columns, the first by
    /// `fma(sum, factor, p)`.
    pub fn tile(&mut self, scale: Scale, scores: &mut [f32]) -> f32 {
        let before = self.state.map(|(largest, _)| largest);
        let largest = scores.iter().copied().fold(before.unwrap_or(f32::NEG_INFINITY), f32::max);
        let factor = before.map_or(1.0, |before| exp2((before - largest) * scale.binary));
        let offset = largest * scale.binary;
        for score in &mut *scores {
            *score = exp2(*score * scale.binary - offset);
        }
        let mut sums = [0.0; LANES];
        for (lane, sum) in sums.iter_mut().enumerate() {
            let mut columns = scores.chunks_exact(8).flat_map(|eight| &eight[2 * lane..2 * lane + 2]);
            let first = columns.next().copied().unwrap_or(0.0);
            let start = self.state.map_or(first, |(_, sums)| sums[lane].mul_add(factor, first));
            *sum = columns.fold(start, |sum, p| sum + p);
        }
        self.state = Some((largest, sums));
        factor
    }

    /// What the product with the values is multiplied with, and the natural logarithm of the sum of exponentials: 1 and
    /// −∞ for a row without keys. *Shape:* the logarithm is a NaN where 2^16 keys or more went by: the hardware's is
    /// known no further. The kernel puts parts together by it and has no other use of it.
    #[must_use]
    pub fn finish(self, scale: Scale) -> (f32, f32) {
        let Some((largest, [a, b, c, d])) = self.state else { return (1.0, f32::NEG_INFINITY) };
        let sum = (a + c) + (b + d);
        if sum.is_nan() {
            return (1.0, f32::NEG_INFINITY);
        }
        // Only parts need the logarithm, and no part has so many keys that there is none.
        let log = log_fast(sum).map_or(f32::NAN, |log| largest.mul_add(scale.natural, log));
        (1.0 / sum, log)
    }
}

/// What each part's output is multiplied with, by `fma` in ascending order from zero, and the logarithm of all parts'
/// sum.
///
/// *Shape:* `logs` are the parts' logarithms, at most 128. *Rounding:* `exp(log − max)` are added by a warp: with
/// `splits` a power of two, lane `i mod lanes` adds ascending parts, then the halving tree.
///
/// ```
/// use mantissa_numerics::nvidia::flash::combined;
/// // Two parts whose exponentials add up to e and 3e: a quarter and three quarters of the row.
/// let (weights, log) = combined(64, &[1.0, 1.0 + 3.0_f32.ln()]);
/// assert!((weights[0] - 0.25).abs() < 1e-6 && (weights[1] - 0.75).abs() < 1e-6);
/// assert!((log - (1.0 + 4.0_f32.ln())).abs() < 1e-6);
/// // A part of which the row sees no key takes no part, exactly.
/// assert_eq!(combined(64, &[f32::NEG_INFINITY, 2.5]), (vec![0.0, 1.0], 2.5));
/// ```
#[must_use]
pub fn combined(dim: usize, logs: &[f32]) -> (Vec<f32>, f32) {
    let splits = logs.len().next_power_of_two().max(2);
    // Rows that a block takes, by the width that the kernel is compiled for; it has the threads for so many parts of
    // each.
    let rows = match padded(dim) {
        128 | 256 => 4,
        64 | 192 => 8,
        _ => 16,
    };
    let lanes = splits.min(COMBINE_THREADS / rows);
    let largest = logs.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let largest = if largest == f32::NEG_INFINITY { 0.0 } else { largest };
    let mut sums = vec![0.0_f32; lanes];
    for (part, log) in logs.iter().enumerate() {
        sums[part % lanes] += exp(log - largest);
    }
    let mut half = lanes / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    let sum = sums[0];
    let all = if sum == 0.0 || sum.is_nan() { f32::INFINITY } else { log(sum) + largest };
    (logs.iter().map(|log| exp(log - all)).collect(), all)
}

/// How many parts PyTorch cuts the keys into, for `blocks` tiles of 64 queries of all heads and sequences, and `tiles`
/// of keys ([`split_tile`]): the fewest that keep 85 % of the best share of multiprocessors busy.
///
/// *Source:* `num_splits_heuristic` of flash_api.cpp; two blocks of threads to a multiprocessor.
///
/// ```
/// use mantissa_numerics::nvidia::flash::{split_tile, splits, tile};
/// // Decode with 3 KV heads of 64 on the 132 multiprocessors of an H200: long caches are cut.
/// let parts = |keys: usize| splits(3, keys.div_ceil(split_tile(64)), 132);
/// assert_eq!([parts(200), parts(300), parts(1100)], [1, 2, 5]);
/// // Where keys are cut, a tile has twice as many.
/// assert_eq!((tile(64), split_tile(64)), (128, 256));
/// ```
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "small counts, as in the source")]
pub fn splits(blocks: usize, tiles: usize, multiprocessors: usize) -> usize {
    let slots = 2 * multiprocessors;
    if blocks as f32 >= 0.8_f32 * slots as f32 {
        return 1;
    }
    let most = slots.min(tiles).min(128);
    let differs = |splits: usize| splits == 1 || tiles.div_ceil(splits) != tiles.div_ceil(splits - 1);
    let busy = |splits: usize| {
        let waves = (blocks * splits) as f32 / slots as f32;
        waves / waves.ceil()
    };
    let candidates = || (1..=most).filter(|splits| differs(*splits));
    let best = candidates().map(busy).fold(0.0, f32::max);
    candidates().find(|splits| f64::from(busy(*splits)) >= 0.85 * f64::from(best)).unwrap_or(1)
}

/// The widest head of these kernels.
pub const WIDEST: usize = 256;

/// The width that a kernel was compiled for, which heads of `dim` are padded to with zeros.
const fn padded(dim: usize) -> usize {
    match dim {
        0..=32 => 32,
        33..=64 => 64,
        65..=96 => 96,
        97..=128 => 128,
        129..=192 => 192,
        _ => WIDEST,
    }
}

/// Keys of a tile where keys are not cut. Heads of 64, 96, 128 and 256 were measured; the others are from the source.
///
/// Example: [`splits`].
#[must_use]
pub const fn tile(dim: usize) -> usize {
    if dim <= 64 { 128 } else { 64 }
}

/// Keys of a tile where keys are cut, and of the tiles that the choice counts; measured as [`tile`].
///
/// Example: [`splits`].
#[must_use]
pub const fn split_tile(dim: usize) -> usize {
    match dim {
        0..=64 => 256,
        65..=128 => 128,
        _ => 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Read off the kernels that an H200 with 132 multiprocessors launched (goldens/gpu/sdpa.py).
    #[test]
    fn splits_are_those_that_were_launched() {
        let of = |blocks, dim: usize, keys: usize| splits(blocks, keys.div_ceil(split_tile(dim)), 132);
        // Prefill: one block for 64 positions of every head.
        assert_eq!([of(9, 64, 40), of(9 * 3, 64, 130), of(56 * 4, 128, 200)], [1, 1, 1]);
        assert_eq!([of(9 * 5, 64, 300), of(9 * 9, 64, 515), of(28 * 6, 128, 330)], [2, 3, 3]);
        // Decode: a group of query heads is one block.
        assert_eq!([of(3, 64, 300), of(3, 64, 515), of(3, 64, 1100), of(3, 64, 2000)], [2, 3, 5, 8]);
        assert_eq!([of(8, 128, 41), of(8, 128, 200), of(8, 128, 515), of(24, 64, 515)], [1, 2, 5, 3]);
    }

    #[test]
    fn a_row_without_keys_weighs_nothing() {
        let scale = Scale::new(0.125);
        assert_eq!(Online::default().finish(scale), (1.0, f32::NEG_INFINITY));
        let (weights, all) = combined(64, &[f32::NEG_INFINITY, 2.5]);
        assert_eq!((weights, all), (vec![0.0, 1.0], 2.5));
        assert_eq!(combined(128, &[f32::NEG_INFINITY; 3]), (vec![0.0; 3], f32::INFINITY));
    }

    #[test]
    fn one_key_has_all_the_weight() {
        let mut row = Online::default();
        let mut scores = [f32::NEG_INFINITY; 128];
        scores[0] = 7.25;
        assert_eq!(row.tile(Scale::new(0.125), &mut scores).to_bits(), 1.0_f32.to_bits());
        assert_eq!((scores[0], scores[1]), (1.0, 0.0));
        assert_eq!(row.finish(Scale::new(0.125)), (1.0, 7.25 / 8.0));
    }
}
