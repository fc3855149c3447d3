//! Sums over a row as PyTorch's CUDA kernels add them.

use serde::{Deserialize, Serialize};

use super::functions::exp_each;
use super::logarithm::log;

/// The order of a sum over rows that lie one after the other in memory, by `reduce_kernel`.
///
/// The threads of all blocks that share a row are counted by blocks, rows of threads, threads. Rows of 128 or more are
/// loaded by fours: thread `t` adds elements `4(t + i · all)..+4` to four sums, ascending. Where a row does not begin
/// at an aligned address, single elements come first, up to one; elements behind the last load come last; thread `k` of
/// the first row of threads adds the one at place `k` of them to its first sum. Shorter rows are loaded one by one:
/// element `t + i · all` goes to sum `i mod 4`.
///
/// The four sums are added in order. Threads are halved, the upper half added to the lower (first through shared
/// memory, then by shuffles, largest step first), then rows of threads. The sums of blocks are added as if by one more
/// block, rows of threads first.
///
/// *Source:* PyTorch 2.11, aten/src/ATen/native/cuda/Reduce.cuh, restated.
///
/// ```
/// use mantissa_numerics::nvidia::reduce::TorchSum;
/// let torch = TorchSum::of(1, 128).unwrap();
/// assert_eq!(torch.threads, 32);
/// let mut x = [0.0; 128];
/// (x[0], x[4], x[12]) = (16_777_216.0, 1.0, 1.0); // of threads 0, 1 and 3
/// // Threads 1 and 3 are added to each other before they meet 2^24, beside which a single 1 is lost.
/// assert_eq!((torch.sum(x.into_iter()), x.iter().sum()), (16_777_218.0, 16_777_216.0));
/// // Sixteen rows of threads take as many rows of 4,096; rows of 8,192 they share.
/// assert_eq!([4096, 8192].map(|length| TorchSum::of(16, length).unwrap().shared), [1, 16]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TorchSum {
    /// Threads of a row, a power of two.
    pub threads: u16,
    /// Rows of so many threads that share a row, a power of two.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub shared: u16,
    /// Blocks of threads that share a row.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub blocks: u16,
}

const fn one() -> u16 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_one(x: &u16) -> bool {
    *x == 1
}

/// Elements of a load.
const LOAD: usize = 4;

/// Shortest row that is loaded by [`LOAD`].
const SHORTEST_LOADED: usize = 128;

impl TorchSum {
    /// What PyTorch launches for `rows` rows of `length` binary32 values on a Hopper GPU of 132 multiprocessors; `None`
    /// for nothing to add, and for more threads than there are words for.
    #[must_use]
    pub fn of(rows: usize, length: usize) -> Option<Self> {
        const MOST: usize = 512;
        const MULTIPROCESSORS: usize = 132;
        const RESIDENT: usize = 2048;
        if rows == 0 || length == 0 {
            return None;
        }
        let power = |n: usize| if n < MOST { 1 << n.ilog2() } else { MOST };
        let loads = if length < SHORTEST_LOADED { length } else { length / LOAD };
        let (across, down) = (power(loads), power(rows));
        let height = down.min(MOST / across.min(32));
        let threads = across.min(MOST / height);
        let of = |shared: usize, blocks: usize| {
            let [threads, shared, blocks] = [threads, shared, blocks].map(u16::try_from);
            Some(Self { threads: threads.ok()?, shared: shared.ok()?, blocks: blocks.ok()? })
        };
        if length.div_ceil(threads) < (16 * height).min(256) {
            return of(1, 1);
        }
        let each = length.div_ceil(threads * height);
        let slots = MULTIPROCESSORS * (RESIDENT / (threads * height));
        if each < 256 || rows > slots {
            return of(height, 1);
        }
        of(height, slots.div_ceil(rows).clamp(each.div_ceil(256), each.div_ceil(16)))
    }

    /// Whether a kernel may have such threads.
    pub(crate) const fn is_launched(self) -> bool {
        let Self { threads, shared, blocks } = self;
        threads.is_power_of_two() && shared.is_power_of_two() && threads <= 512 / shared && blocks > 0
    }

    /// The sum of a row that begins at an aligned address. *Rounding:* binary32 at every addition.
    ///
    /// Example: [`Self`].
    #[must_use]
    pub fn sum(self, x: impl ExactSizeIterator<Item = f32>) -> f32 {
        self.sum_at(x, 0)
    }

    /// [`Self::sum`] of a row with `before` elements between an aligned address and it.
    ///
    /// ```
    /// use mantissa_numerics::nvidia::reduce::TorchSum;
    /// let torch = TorchSum::of(2, 129).unwrap();
    /// let mut x = [0.0; 129];
    /// (x[0], x[1], x[3]) = (16_777_216.0, 1.0, 1.0);
    /// // In loads of four they are in three sums of thread 0. Of the second row, the first three elements are single.
    /// let sum = |row: usize| torch.sum_at(x.into_iter(), 129 * row);
    /// assert_eq!((sum(0), sum(1)), (16_777_216.0, 16_777_218.0));
    /// ```
    #[must_use]
    pub fn sum_at(self, x: impl ExactSizeIterator<Item = f32>, before: usize) -> f32 {
        let Self { threads, shared, blocks } = self;
        let [threads, shared, blocks] = [threads, shared, blocks].map(usize::from);
        let all = threads * shared * blocks;
        let length = x.len();
        let mut parts = vec![[0.0_f32; LOAD]; all];
        if length < SHORTEST_LOADED {
            for (k, x) in x.enumerate() {
                parts[k % all][(k / all) % LOAD] += x;
            }
        } else {
            let shift = before % LOAD;
            let head = if shift > 0 { LOAD - shift } else { 0 };
            let tail = length - (length - head) % LOAD;
            let (mut thread, mut place) = (0, 0);
            for (k, x) in x.enumerate() {
                if k < head {
                    parts[k + shift][0] += x;
                } else if k >= tail {
                    parts[k - tail][0] += x;
                } else {
                    parts[thread][place] += x;
                    place += 1;
                    if place == LOAD {
                        (thread, place) = (if thread + 1 == all { 0 } else { thread + 1 }, 0);
                    }
                }
            }
        }
        let mut sums: Vec<f32> = parts.iter().map(|[a, b, c, d]| ((a + b) + c) + d).collect();
        let of_blocks: Vec<f32> = sums
            .chunks_exact_mut(threads * shared)
            .map(|block| {
                let mut rows: Vec<f32> = block.chunks_exact_mut(threads).map(halved).collect();
                halved(&mut rows)
            })
            .collect();
        if let [sum] = *of_blocks {
            return sum;
        }
        let mut last = vec![0.0; threads * shared];
        for round in of_blocks.chunks(last.len()) {
            for (sum, x) in last.iter_mut().zip(round) {
                *sum += x;
            }
        }
        let columns =
            |thread: usize| last.iter().skip(thread).step_by(threads).copied().collect::<Vec<f32>>();
        let mut sums: Vec<f32> = (0..threads).map(|thread| halved(&mut columns(thread))).collect();
        halved(&mut sums)
    }
}

/// The logarithm of the sum of exponentials of a row, as `torch.logsumexp` computes it on binary32.
///
/// *Shape:* the row is one of `rows` that lie one after the other, with `before` elements between an aligned address
/// and it. *Rounding:* `ln(sum of exp(x − max)) + max`, a kernel each; a largest value that is infinite counts as 0 in
/// the last step.
///
/// *Source:* PyTorch 2.11, aten/src/ATen/native/ReduceOps.cpp (`logsumexp_out_impl`).
///
/// ```
/// use mantissa_numerics::nvidia::reduce::log_sum_exp;
/// assert_eq!(log_sum_exp(&[2.0, 2.0], 1, 0), Some(2.693_147_2));
/// assert_eq!(log_sum_exp(&[f32::INFINITY, 2.0], 1, 0).map(f32::is_nan), Some(true));
/// ```
#[must_use]
pub fn log_sum_exp(x: &[f32], rows: usize, before: usize) -> Option<f32> {
    let largest =
        x.iter().copied().fold(f32::NEG_INFINITY, |max, x| if x > max || x.is_nan() { x } else { max });
    let mut exponentials = x.to_vec();
    exp_each(&mut exponentials, largest);
    // The differences lie in memory of their own, row after row.
    let sum = TorchSum::of(rows, x.len())?.sum_at(exponentials.into_iter(), before);
    Some(log(sum) + if largest.is_infinite() { 0.0 } else { largest })
}

/// The sum of a power of two of values, the upper half added to the lower until one is left.
pub(super) fn halved(sums: &mut [f32]) -> f32 {
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
