//! The order of sums in products of cuBLAS: the one statement of what the recipes of a GPU's products
//! ([`TensorCoreSum`](crate::recipe::TensorCoreSum), [`ThreadSum`], …) mean, for whoever computes them.

use std::num::NonZeroU16;
use std::ops::Range;

use crate::recipe::ThreadSum;
use crate::tensor_core::BlockRecipe;

/// Most threads of a matrix-vector kernel.
const MOST_THREADS: usize = ThreadSum::MOST_THREADS as usize;

/// The parts of a sum over `k` by split-K: `ceil(ceil(k / 64) / parts) · 64` each, as many as there are.
///
/// *Source:* cuBLAS 13.1, by comparison with an H200.
///
/// ```
/// use std::num::NonZeroU16;
/// use mantissa_numerics::nvidia::products::split_k;
/// use mantissa_numerics::tensor_core::{Architecture, Operand};
/// let block = Architecture::Hopper.block(Operand::Bf16).unwrap();
/// let (mut x, ones) = ([0; 128], [0x3F80; 128]);
/// (x[0], x[64], x[80]) = (0x4B80, 0x3F80, 0x3F80); // 2^24, 1 and 1 as bf16
/// // Beside 2^24 each 1 is cut off; the second part adds them up first.
/// let sum = |parts| {
///     let parts = split_k(128, NonZeroU16::new(parts).unwrap()).into_iter();
///     parts.map(|k| block.chain(&x[k.clone()], &ones[k], 0.0)).sum::<f32>()
/// };
/// assert_eq!((sum(1), sum(2)), (16_777_216.0, 16_777_218.0));
/// ```
#[must_use]
pub fn split_k(k: usize, parts: NonZeroU16) -> Vec<Range<usize>> {
    let unit = k.div_ceil(64).div_ceil(usize::from(parts.get())) * 64;
    (0..k).step_by(unit.max(1)).map(|from| from..(from + unit).min(k)).collect()
}

/// Where the elements of a sum of `length` go so that steps of `block` do not cross the borders of tiles: the remainder
/// first, padded with zeros, which take no part in a step. Returns how many come first, and where the others begin.
///
/// ```
/// use mantissa_numerics::nvidia::products::remainder_first;
/// use mantissa_numerics::tensor_core::{Architecture, Operand};
/// let block = Architecture::Hopper.block(Operand::Bf16).unwrap();
/// // 551 = 8 · 64 + 39: the 39 come first, padded to three steps of 16, and tiles begin behind them.
/// assert_eq!(remainder_first(block, Some(64.try_into().unwrap()), 551), (39, 48));
/// assert_eq!(remainder_first(block, None, 551), (0, 0));
/// ```
#[must_use]
pub fn remainder_first(block: BlockRecipe, tile: Option<NonZeroU16>, length: usize) -> (usize, usize) {
    let remainder = tile.map_or(0, |tile| length % usize::from(tile.get()));
    (remainder, remainder.next_multiple_of(usize::from(block.width)))
}

/// The sum of `length` products by the threads of a matrix-vector kernel: thread `(k / vector) mod threads` takes `k`
/// by `fma`, ascending from `+0`; then the halving tree, or the threads in ascending order.
///
/// *Rounding:* binary32 after every `fma` and addition.
///
/// ```
/// use mantissa_numerics::nvidia::products::by_threads;
/// use mantissa_numerics::recipe::ThreadSum;
/// let x = [16_777_216.0, 1.0, -16_777_216.0, 1.0];
/// let sum = |threads| by_threads(ThreadSum::new(threads, 1, false).unwrap(), 4, |k| (x[k], 1.0));
/// // One thread loses the first 1 beside 2^24; of two threads, one adds nothing but ones.
/// assert_eq!((sum(1), sum(2)), (1.0, 2.0));
/// ```
#[must_use]
pub fn by_threads(sum: ThreadSum, length: usize, pair: impl Fn(usize) -> (f32, f32)) -> f32 {
    let (threads, vector) = (usize::from(sum.threads()), usize::from(sum.vector().get()));
    let mut sums = [0.0_f32; MOST_THREADS];
    for k in 0..length {
        let (x, y) = pair(k);
        let sum = &mut sums[k / vector % threads];
        *sum = x.mul_add(y, *sum);
    }
    if sum.in_order() {
        return sums[1..threads].iter().fold(sums[0], |sum, x| sum + x);
    }
    let mut half = threads / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
        half /= 2;
    }
    sums[0]
}

/// Sums that [`by_threads_across`] computes at once.
pub const ACROSS: usize = 16;

/// [`by_threads`] of the same `x` with [`ACROSS`] others, bit for bit: `others(k)` are their elements at `k`.
///
/// ```
/// use mantissa_numerics::nvidia::products::{by_threads, by_threads_across};
/// use mantissa_numerics::recipe::ThreadSum;
/// let sum = ThreadSum::new(2, 1, false).unwrap();
/// let found = by_threads_across(sum, &[1.0, 2.0, 3.0], |k| [k as f32; 16]);
/// assert_eq!(found, [by_threads(sum, 3, |k| (k as f32 + 1.0, k as f32)); 16]);
/// ```
#[must_use]
pub fn by_threads_across(
    sum: ThreadSum,
    x: &[f32],
    others: impl Fn(usize) -> [f32; ACROSS],
) -> [f32; ACROSS] {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the machine has the instructions.
            return unsafe { across_avx512(sum, x, others) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: as above.
            return unsafe { across_avx2(sum, x, others) };
        }
    }
    across(sum, x, others)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn across_avx512(sum: ThreadSum, x: &[f32], others: impl Fn(usize) -> [f32; ACROSS]) -> [f32; ACROSS] {
    across(sum, x, others)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn across_avx2(sum: ThreadSum, x: &[f32], others: impl Fn(usize) -> [f32; ACROSS]) -> [f32; ACROSS] {
    across(sum, x, others)
}

#[expect(clippy::inline_always, reason = "instantiated per instruction set")]
#[inline(always)]
fn across(sum: ThreadSum, x: &[f32], others: impl Fn(usize) -> [f32; ACROSS]) -> [f32; ACROSS] {
    let (threads, vector) = (usize::from(sum.threads()), usize::from(sum.vector().get()));
    let mut sums = [[0.0_f32; ACROSS]; MOST_THREADS];
    let mut k = 0;
    for (number, vector) in x.chunks(vector).enumerate() {
        let held = &mut sums[number & (threads - 1)];
        let mut sum = *held;
        for x in vector {
            let others = others(k);
            for lane in 0..ACROSS {
                sum[lane] = x.mul_add(others[lane], sum[lane]);
            }
            k += 1;
        }
        *held = sum;
    }
    let add = |a: [f32; ACROSS], b: [f32; ACROSS]| std::array::from_fn(|lane| a[lane] + b[lane]);
    if sum.in_order() {
        return sums[1..threads].iter().fold(sums[0], |sum, x| add(sum, *x));
    }
    let mut half = threads / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] = add(sums[i], sums[i + half]);
        }
        half /= 2;
    }
    sums[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor_core::{Architecture, Operand};

    #[test]
    fn split_k_cuts_at_multiples_of_64() {
        let bounds = |k, parts| {
            split_k(k, NonZeroU16::new(parts).unwrap())
                .iter()
                .map(|part| [part.start, part.end])
                .collect::<Vec<_>>()
        };
        assert_eq!(bounds(3584, 2), [[0, 1792], [1792, 3584]]);
        assert_eq!(bounds(200, 2), [[0, 128], [128, 200]]);
        assert_eq!(bounds(64, 5), [[0, 64]]);
        assert_eq!(bounds(200, 1), [[0, 200]]);
        assert_eq!(split_k(0, NonZeroU16::new(3).unwrap()), []);
    }

    #[test]
    fn the_remainder_comes_first_and_is_padded_to_a_step() {
        let block = Architecture::Hopper.block(Operand::Bf16).unwrap();
        assert_eq!(remainder_first(block, None, 551), (0, 0));
        assert_eq!(remainder_first(block, NonZeroU16::new(32), 551), (7, 16));
        assert_eq!(remainder_first(block, NonZeroU16::new(64), 551), (39, 48));
        assert_eq!(remainder_first(block, NonZeroU16::new(64), 512), (0, 0));
    }

    /// Seven numbers of which every order leaves another rest: 3e7 has steps of 2.
    #[test]
    fn threads_take_vectors_in_turn() {
        let x = [1.0, 3e7, 1.0, -3e7, 1.0, 5.0, 1.0];
        let sum = |threads, vector, in_order| {
            let sum = ThreadSum::new(threads, vector, in_order).unwrap();
            by_threads(sum, x.len(), |k| (x[k], 1.0)).to_bits()
        };
        let chain = |x: &[f32]| x.iter().fold(0.0_f32, |sum, x| sum + x);
        assert_eq!(sum(1, 1, false), chain(&x).to_bits());
        // Two threads of two: 1, 3e7, 1, 5 and 1, −3e7, 1.
        let two = chain(&[1.0, 3e7, 1.0, 5.0]) + chain(&[1.0, -3e7, 1.0]);
        assert_eq!(sum(2, 2, false), two.to_bits());
        // Four of one, halved (0 + 2 and 1 + 3), and in order.
        let four = [chain(&[1.0, 1.0]), chain(&[3e7, 5.0]), chain(&[1.0, 1.0]), -3e7];
        assert_eq!(sum(4, 1, false), ((four[0] + four[2]) + (four[1] + four[3])).to_bits());
        assert_eq!(sum(4, 1, true), chain(&four).to_bits());
        let all = [sum(1, 1, false), sum(2, 2, false), sum(4, 1, false)];
        assert!(all[0] != all[1] || all[1] != all[2], "the orders are told apart: {all:x?}");
    }

    #[test]
    fn sums_across_are_those_one_by_one() {
        let value = |i: usize| {
            let mixed = u32::try_from(i).unwrap().wrapping_mul(2_654_435_761);
            f32::from_bits(0x3F00_0000 ^ mixed >> 6) - 0.7
        };
        for (threads, vector, in_order) in
            [(1, 1, false), (2, 8, true), (16, 4, false), (32, 2, true), (64, 1, false), (64, 8, false)]
        {
            let sum = ThreadSum::new(threads, vector, in_order).unwrap();
            for length in [0, 1, 7, 64, 576, 577] {
                let x: Vec<f32> = (0..length).map(value).collect();
                let other = |k: usize, lane: usize| value(97 * k + 31 * lane + 5);
                let found = by_threads_across(sum, &x, |k| std::array::from_fn(|lane| other(k, lane)));
                for (lane, found) in found.iter().enumerate() {
                    let expected = by_threads(sum, length, |k| (x[k], other(k, lane)));
                    assert_eq!(
                        found.to_bits(),
                        expected.to_bits(),
                        "{sum:?}, {length} elements, lane {lane}"
                    );
                }
            }
        }
    }
}
