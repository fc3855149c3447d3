//! Softmax and log-softmax of rows of any length, as PyTorch's CUDA kernels compute them.
//!
//! Which kernel runs, and which thread adds which element, goes by the row's length, by what the kernel reads and, in
//! one of the kernels, by where in memory a row begins. Left out: the exponentials ([`super::functions`]).

use super::functions::{exp, exp_each};
use super::logarithm::log;
use super::reduce::halved;
use crate::Dtype;

/// Threads of a block of every kernel that takes a row by blocks: rows are longer than that.
const THREADS: usize = 1024;

/// The most elements of a row that a thread keeps in its registers.
const REGISTERS: usize = 9;

/// Shared memory of a block, in bytes, that needs no special leave, less a binary32 for each warp.
const SHARED: usize = 49_152 - 4 * THREADS / 32;

/// Which of PyTorch's softmax kernels ran. All subtract the row's maximum and differ in the order of the sum.
///
/// *Source:* PyTorch 2.11, aten/src/ATen/native/cuda/SoftMax.cu (`host_softmax`), `PersistentSoftmax.cuh` and
/// `block_reduce.cuh`, restated.
///
/// ```
/// use mantissa_numerics::Dtype;
/// use mantissa_numerics::nvidia::softmax::TorchSoftmax;
/// let of = |length| TorchSoftmax::of(length, Dtype::F32);
/// assert_eq!([of(2048), of(9216)], [TorchSoftmax::Warp, TorchSoftmax::Block]);
/// assert_eq!([of(12_252), of(12_253)], [TorchSoftmax::Vectors(4), TorchSoftmax::Shifted(4)]);
/// // f16 goes into the kernel as it is; bf16 is converted to binary32 before.
/// assert_eq!(TorchSoftmax::of(2048, Dtype::F16), TorchSoftmax::Vectors(8));
/// assert_eq!(TorchSoftmax::of(2048, Dtype::Bf16), TorchSoftmax::Warp);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TorchSoftmax {
    /// A warp of 32 lanes, `softmax_warp_forward`: lane `k mod 32` (of fewer lanes, where the row is shorter) takes
    /// element `k`.
    Warp,
    /// A block of 1,024 threads, `cunn_SoftMaxForwardReg`: thread `k mod 1024` takes element `k`.
    Block,
    /// The same in loads of as many elements, `cunn_SoftMaxForwardSmem`: thread `(k / vector) mod 1024`.
    Vectors(u8),
    /// The same, `cunn_SoftMaxForward`: single elements up to an aligned address and behind the last whole round of
    /// loads. With `s` the elements of 16 bytes that lie before the row: where `s > 0`, thread `k + s` takes the first
    /// `1024 − s`; then rounds of `1024 · vector` as in [`Self::Vectors`]; thread `k mod 1024` takes what is left.
    Shifted(u8),
    /// Over a dimension that is not the last, `cunn_SpatialSoftMaxForward`: so many threads, of which thread
    /// `k mod threads` takes element `k`.
    Across(u16),
}

impl TorchSoftmax {
    /// Lanes of [`Self::Warp`].
    pub const WARP_LANES: u16 = 32;
    /// Threads of [`Self::Block`], [`Self::Vectors`] and [`Self::Shifted`].
    pub const BLOCK_THREADS: u16 = 1024;

    /// What PyTorch launches for the last dimension of a tensor that begins at an aligned address, as one of its own
    /// does. `input` is the tensor's format and the result binary32: where it is f16, the kernel reads f16.
    ///
    /// Example: [`Self`].
    #[must_use]
    pub const fn of(length: usize, input: Dtype) -> Self {
        Self::at(length, input, true)
    }

    /// [`Self::of`] of a tensor that may be part of another: `aligned` says whether it begins at a multiple of 16
    /// bytes.
    ///
    /// ```
    /// use mantissa_numerics::Dtype; use mantissa_numerics::nvidia::softmax::TorchSoftmax;
    /// assert_eq!(TorchSoftmax::at(9220, Dtype::F32, false), TorchSoftmax::Shifted(4));
    /// assert_eq!(TorchSoftmax::at(9220, Dtype::Bf16, false), TorchSoftmax::Vectors(4), "converted into one of its
    /// own");
    /// ```
    #[must_use]
    pub const fn at(length: usize, input: Dtype, aligned: bool) -> Self {
        let half = matches!(input, Dtype::F16);
        let (vector, width, warp, registers) =
            if half { (8, 2, 1024, 0) } else { (4, 4, 2048, REGISTERS * THREADS) };
        let aligned = aligned || matches!(input, Dtype::Bf16);
        if length <= warp {
            Self::Warp
        } else if length <= registers {
            Self::Block
        } else if length < SHARED / width && length.is_multiple_of(vector as usize) && aligned {
            Self::Vectors(vector)
        } else {
            Self::Shifted(vector)
        }
    }

    /// What PyTorch launches for the last dimension of a tensor of 16 bits whose result has its format: nothing is
    /// converted. Its choices were read and not compared.
    ///
    /// ```
    /// use mantissa_numerics::nvidia::softmax::TorchSoftmax::{self, Block, Shifted, Vectors, Warp};
    /// let of = TorchSoftmax::unconverted;
    /// assert_eq!([of(2048), of(2049), of(9216)], [Warp, Block, Block]);
    /// assert_eq!([of(9217), of(9224)], [Shifted(8), Vectors(8)]);
    /// ```
    #[must_use]
    pub const fn unconverted(length: usize) -> Self {
        let format = if length <= REGISTERS * THREADS { Dtype::F32 } else { Dtype::F16 };
        Self::of(length, format)
    }

    /// What PyTorch launches for a dimension of `length` with `steps` elements behind each of its own, as
    /// transformers' `compute_transition_scores` has it.
    ///
    /// ```
    /// use mantissa_numerics::nvidia::softmax::TorchSoftmax;
    /// let of = |steps| TorchSoftmax::across(32_000, steps);
    /// assert_eq!([of(30), of(64), of(65)], [32, 16, 1].map(TorchSoftmax::Across));
    /// // One step is the last dimension by another name.
    /// assert_eq!(of(1), TorchSoftmax::Shifted(4));
    /// ```
    #[must_use]
    pub fn across(length: usize, steps: usize) -> Self {
        if steps == 1 {
            return Self::of(length, Dtype::F32);
        }
        let (mut threads, most) = (1, THREADS);
        if steps <= 64 && length >= 64 {
            while 2 * steps * threads <= most && 2 * threads <= length {
                threads *= 2;
            }
        }
        Self::Across(u16::try_from(threads).unwrap_or(u16::MAX))
    }

    /// Softmax of the beginning of a row of `total` values, in place: those from `seen` on, and those of the row behind
    /// `x`, are masked and count as −∞.
    ///
    /// *Shape:* `before` values lie between an aligned address and the row; for row `r` of a tensor, `r · total`.
    /// *Rounding:* binary32; every exponential is divided by the sum.
    ///
    /// # Panics
    /// When more are seen than `x` has, or `x` has more than `total`.
    ///
    /// ```
    /// use mantissa_numerics::nvidia::softmax::TorchSoftmax;
    /// let mut x = [1.0, 1.0, 7.0];
    /// TorchSoftmax::Warp.softmax(&mut x, 2, 3, 0);
    /// assert_eq!(x, [0.5, 0.5, 0.0]);
    /// ```
    pub fn softmax(self, x: &mut [f32], seen: usize, total: usize, before: usize) {
        assert!(seen <= x.len() && x.len() <= total, "the beginning of a row");
        self.divide(x, seen, None, total, before);
    }

    /// [`Self::softmax`] of a row of `total` values and one more, `last`, whose own share is not returned. The kernel's
    /// rows have `total + 1` values: for row `r`, `before` is `r · (total + 1)`.
    ///
    /// # Panics
    /// As [`Self::softmax`].
    ///
    /// ```
    /// use mantissa_numerics::nvidia::softmax::TorchSoftmax;
    /// let mut x = [1.0, 7.0];
    /// TorchSoftmax::Warp.softmax_beside(1.0, &mut x, 1, 2, 0);
    /// assert_eq!(x, [0.5, 0.0]);
    /// ```
    pub fn softmax_beside(self, last: f32, x: &mut [f32], seen: usize, total: usize, before: usize) {
        assert!(seen <= x.len() && x.len() <= total, "the beginning of a row");
        self.divide(x, seen, Some(last), total + 1, before);
    }

    /// Exponentials of the first `seen` of a row of `total` values, divided by their sum and that of the row's last,
    /// where it is given.
    fn divide(self, x: &mut [f32], seen: usize, last: Option<f32>, total: usize, before: usize) {
        let (x, masked) = x.split_at_mut(seen);
        let largest = last.map_or(largest(x), |last| largest(x).max(last));
        exp_each(x, largest);
        let sum = self.sum(x, last.map(|last| exp(last - largest)), total, before);
        for x in x {
            *x /= sum;
        }
        // 0, or NaN where the sum is.
        masked.fill(0.0 / sum);
    }

    /// Log-softmax of a row, as `torch.log_softmax` computes it on binary32.
    ///
    /// *Shape:* `before` as in [`Self::softmax`]. *Rounding:* `(x − max) − ln(sum)`, binary32 at every step.
    ///
    /// ```
    /// use mantissa_numerics::nvidia::softmax::TorchSoftmax;
    /// let x = TorchSoftmax::Warp.log_softmax(&[2.0, 2.0], 0);
    /// assert_eq!(x, [-0.693_147_2; 2]);
    /// ```
    #[must_use]
    pub fn log_softmax(self, x: &[f32], before: usize) -> Vec<f32> {
        let (largest, log) = self.log_sum(x, before);
        x.iter().map(|x| x - largest - log).collect()
    }

    /// The two numbers that [`Self::log_softmax`] subtracts: the largest value, and the logarithm of the sum.
    ///
    /// ```
    /// use mantissa_numerics::nvidia::softmax::TorchSoftmax;
    /// assert_eq!(TorchSoftmax::Warp.log_sum(&[-3.0, -3.0, f32::NEG_INFINITY], 0), (-3.0, 0.693_147_2));
    /// ```
    #[must_use]
    pub fn log_sum(self, x: &[f32], before: usize) -> (f32, f32) {
        let largest = largest(x);
        let mut exponentials = x.to_vec();
        exp_each(&mut exponentials, largest);
        (largest, log(self.sum(&exponentials, None, x.len(), before)))
    }

    /// The sum of the exponentials of a row of `total` values. Those behind `x` are 0, but for the row's last where it
    /// is given.
    fn sum(self, x: &[f32], last: Option<f32>, total: usize, before: usize) -> f32 {
        let lanes = match self {
            Self::Warp => total.next_power_of_two().min(usize::from(Self::WARP_LANES)),
            Self::Across(threads) => usize::from(threads),
            Self::Block | Self::Vectors(_) | Self::Shifted(_) => THREADS,
        };
        let mut sums = vec![0.0; lanes];
        // Every lane takes its elements in ascending order: the row's last comes last.
        let of_last = |from: usize, vector: usize| (total.saturating_sub(from + 1) / vector) % lanes;
        let last_lane = match self {
            Self::Warp | Self::Across(_) | Self::Block => {
                add(&mut sums, x, 1);
                of_last(0, 1)
            }
            Self::Vectors(vector) => {
                add(&mut sums, x, usize::from(vector));
                of_last(0, usize::from(vector))
            }
            Self::Shifted(vector) => {
                let vector = usize::from(vector);
                let shift = before % vector;
                let head = if shift > 0 { THREADS - shift } else { 0 };
                let rest = total.saturating_sub(head);
                let rounds = head + rest - rest % (vector * THREADS);
                let (first, x) = x.split_at(x.len().min(head));
                add(&mut sums[shift..], first, 1);
                let (loads, tail) = x.split_at(x.len().min(rounds - head));
                add(&mut sums, loads, vector);
                add(&mut sums, tail, 1);
                match total {
                    _ if total <= head => shift + of_last(0, 1),
                    _ if total <= rounds => of_last(head, vector),
                    _ => of_last(rounds, 1),
                }
            }
        };
        sums[last_lane] += last.unwrap_or(0.0);
        match self {
            Self::Warp | Self::Across(_) => halved(&mut sums),
            Self::Block | Self::Vectors(_) | Self::Shifted(_) => block(&mut sums),
        }
    }
}

/// The largest value; NaNs are left out.
pub(super) fn largest(x: &[f32]) -> f32 {
    x.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// Sum `i mod sums` gets the `vector` values of load `i`, one after the other.
pub(super) fn add(sums: &mut [f32], x: &[f32], vector: usize) {
    for round in x.chunks(vector * sums.len()) {
        for (sum, load) in sums.iter_mut().zip(round.chunks(vector)) {
            *sum = load.iter().fold(*sum, |sum, x| sum + x);
        }
    }
}

/// The sum of a block of threads: warps of 32, then their sums, as [`halved`].
fn block(sums: &mut [f32]) -> f32 {
    let mut warps = [0.0_f32; THREADS / 32];
    for (warp, sums) in warps.iter_mut().zip(sums.chunks_exact_mut(32)) {
        *warp = halved(sums);
    }
    halved(&mut warps)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each kernel's loop as its source has it, thread by thread, with the bounds of a block.
    fn by_the_source(kernel: TorchSoftmax, x: &[f32], before: usize) -> f32 {
        let (size, threads) = (x.len().cast_signed(), THREADS.cast_signed());
        let at = |k: isize| x[k.cast_unsigned()];
        let of_thread = |thread: isize| -> f32 {
            let mut sum = 0.0;
            match kernel {
                TorchSoftmax::Vectors(vector) => {
                    let (vector, mut offset) = (isize::from(vector), thread);
                    while offset * vector < size {
                        (0..vector).for_each(|i| sum += at(offset * vector + i));
                        offset += threads;
                    }
                }
                TorchSoftmax::Shifted(vector) => {
                    let vector = isize::from(vector);
                    let shift = before.cast_signed() % vector;
                    let (mut data, mut size, mut offset) = (0, size, thread);
                    if shift > 0 {
                        data -= shift;
                        size += shift;
                        if offset >= shift && offset < size {
                            sum += at(data + offset);
                        }
                        size -= threads.min(size);
                        data += threads;
                    }
                    let last = size % (vector * threads);
                    while offset * vector < size - last {
                        (0..vector).for_each(|i| sum += at(data + offset * vector + i));
                        offset += threads;
                    }
                    offset = size - last + thread;
                    while offset < size {
                        sum += at(data + offset);
                        offset += threads;
                    }
                }
                _ => unreachable!("not tested here"),
            }
            sum
        };
        block(&mut (0..threads).map(of_thread).collect::<Vec<_>>())
    }

    #[test]
    fn threads_take_what_the_source_gives_them() {
        let mut shown = 0;
        for length in [1025, 1026, 9217, 9220, 10_067, 12_252, 12_288, 16_384, 32_767, 40_001] {
            let x: Vec<f32> =
                (0_u16..).take(length).map(|k| 1.0 / f32::from(k.wrapping_mul(7919) % 997 + 1)).collect();
            for vector in [4, 8] {
                for before in 0..16 {
                    let kernel = TorchSoftmax::Shifted(vector);
                    let found = kernel.sum(&x, None, length, before);
                    assert_eq!(
                        found.to_bits(),
                        by_the_source(kernel, &x, before).to_bits(),
                        "{length} {before}"
                    );
                }
                if length % usize::from(vector) == 0 {
                    let kernel = TorchSoftmax::Vectors(vector);
                    assert_eq!(
                        kernel.sum(&x, None, length, 0).to_bits(),
                        by_the_source(kernel, &x, 0).to_bits()
                    );
                    let sums =
                        [kernel, TorchSoftmax::Block].map(|one| one.sum(&x, None, length, 0).to_bits());
                    shown += usize::from(sums[0] != sums[1]);
                }
            }
        }
        assert!(shown > 0, "the order shows");
    }

    #[test]
    fn masked_values_change_no_order() {
        for (kernel, length) in [(TorchSoftmax::Shifted(4), 9217), (TorchSoftmax::Vectors(4), 9220)] {
            for seen in [1, 700, 1023, 4099, length] {
                let mut x: Vec<f32> =
                    (0_u16..).take(length).map(|k| f32::from(k.wrapping_mul(7919) % 997) / 100.0).collect();
                let mut masked = x.clone();
                masked[seen..].fill(f32::NEG_INFINITY);
                kernel.softmax(&mut masked, length, length, 5);
                let (found, rest) = x.split_at_mut(seen);
                kernel.softmax(found, seen, length, 5);
                assert!(found == &masked[..seen] && masked[seen..].iter().all(|x| *x == 0.0), "{seen}");
                kernel.softmax(&mut [found, rest].concat(), seen, length, 5);
            }
        }
    }

    /// A row that is written out, the last value among the others.
    #[test]
    fn one_more_value_stands_behind_the_row() {
        use TorchSoftmax::{Across, Block, Shifted, Vectors, Warp};
        let value = |i: usize| f32::from(u16::try_from(i * 7919 % 613).unwrap()) / 64.0;
        for total in [1, 7, 31, 32, 100, 1022, 1023, 2047, 4095, 5118, 8191, 9215, 12_287, 16_384] {
            for seen in [1, total / 2 + 1, total] {
                for kernel in [Warp, Across(16), Block, Vectors(4), Vectors(8), Shifted(4), Shifted(8)] {
                    for before in [0, 3, total + 1] {
                        let beside = 4.25;
                        let mut whole: Vec<f32> = (0..seen).map(value).collect();
                        whole.resize(total, f32::NEG_INFINITY);
                        whole.push(beside);
                        kernel.softmax(&mut whole, total + 1, total + 1, before);
                        let mut found: Vec<f32> = (0..seen + (total - seen) / 2).map(value).collect();
                        kernel.softmax_beside(beside, &mut found, seen, total, before);
                        assert!(found == whole[..found.len()], "{kernel:?} {seen} of {total}, {before}");
                        assert!(whole[total] > 0.0, "the last has its share");
                    }
                }
            }
        }
    }

    #[test]
    fn every_length_has_one_kernel() {
        use TorchSoftmax::{Block, Shifted, Vectors, Warp};
        for length in 1..=40_000 {
            for aligned in [true, false] {
                let wide = match length {
                    ..=2048 => Warp,
                    2049..=9216 => Block,
                    9217..12_256 if length % 4 == 0 && aligned => Vectors(4),
                    _ => Shifted(4),
                };
                let half = match length {
                    ..=1024 => Warp,
                    1025..24_512 if length % 8 == 0 && aligned => Vectors(8),
                    _ => Shifted(8),
                };
                let of = |input| TorchSoftmax::at(length, input, aligned);
                assert_eq!([of(Dtype::F32), of(Dtype::F16)], [wide, half], "{length}");
            }
        }
    }

    #[test]
    fn log_softmax_of_what_has_none() {
        for kernel in [TorchSoftmax::Warp, TorchSoftmax::Block] {
            let row = kernel.log_softmax(&[f32::NEG_INFINITY, 1.0, 1.0], 0);
            assert!(row[0].is_infinite() && row[0] < 0.0);
            assert!(row[1] < 0.0);
            assert!(kernel.log_softmax(&[f32::NAN, 1.0], 0).iter().all(|x| x.is_nan()));
            assert!(kernel.log_softmax(&[f32::INFINITY, 1.0], 0)[0].is_nan());
        }
    }
}
