//! bitsandbytes' products with weights of nf4 on a Hopper GPU: which of its three ways a product goes, what a weight is
//! worth on each, and the order of sums of the one without tensor cores.
//!
//! *Source:* bitsandbytes 0.50.2 for CUDA 13.0: `backends/cuda/ops.py` (`_gemm_4bit_use_custom_cuda`), `gemm_4bit.cu`,
//! `gemm_4bit_simt.cu`, `gemm_4bit_sm80.cu` and `kernels.cu`, and the machine code of its library for `sm_90`, which is
//! built with fast math: sums and products in binary32 flush subnormals. Left out: other formats than bf16, other GPUs.

use crate::Dtype;

/// What an index of nf4 is worth.
///
/// ```
/// use mantissa_numerics::nvidia::bnb::NF4;
/// assert!(NF4.is_sorted() && NF4[0] == -1.0 && NF4[7] == 0.0 && NF4[15] == 1.0);
/// ```
#[expect(clippy::excessive_precision, reason = "as bitsandbytes spells them")]
pub const NF4: [f32; 16] = [
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
];

/// Rows of more than so many are multiplied by decoded weights.
const MOST_ROWS: usize = 1536;
/// Columns of a block of threads, by which the number of blocks is told.
const COLUMNS: usize = 64;
/// Rows of a block of threads of the kernel with tensor cores.
const ROWS: usize = 32;
/// Weights of fewer values go by other numbers.
const SMALL: usize = 4 << 20;

/// Which way a product goes.
///
/// ```
/// use mantissa_numerics::nvidia::bnb::{Nf4Shape, Nf4Way};
/// // Llama-3.2-1B's `gate_proj` on an H200: by rows.
/// let of = |m| Nf4Way::of(Nf4Shape { m, n: 8192, k: 2048, block: 64, multiprocessors: 132 });
/// assert_eq!([1, 4, 5, 16, 17].map(of), [
///     Nf4Way::Simt, Nf4Way::Simt, Nf4Way::Mma, Nf4Way::Mma, Nf4Way::Decoded,
/// ]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Nf4Way {
    /// `gemm_4bit_simt`: a warp for each output, products rounded to bf16.
    Simt,
    /// `gemm_4bit_sm80_m16n8k16`: one chain of a tensor core's steps along `K`.
    Mma,
    /// `kDequantizeBlockwise`, then the product of a library.
    Decoded,
}

/// What the way depends on.
///
/// Example: [`Nf4Way`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nf4Shape {
    /// Rows of the input.
    pub m: usize,
    /// Rows of the weight.
    pub n: usize,
    /// Length of the sums.
    pub k: usize,
    /// Values of the weight that share a scale.
    pub block: usize,
    /// Multiprocessors of the GPU.
    pub multiprocessors: usize,
}

impl Nf4Way {
    /// Of a product of bf16 on a GPU of compute capability 9.0. Whether scales are nested makes no difference.
    #[must_use]
    pub const fn of(shape: Nf4Shape) -> Self {
        if !shape.is_fused() {
            Self::Decoded
        } else if shape.is_without_tensor_cores() {
            Self::Simt
        } else {
            Self::Mma
        }
    }

    /// The scale of a block of values.
    ///
    /// *Rounding:* nested scales are one `fma` in the kernels that decode while they multiply; in the third way a
    /// product and a sum, of which the product alone flushes subnormals.
    ///
    /// ```
    /// use mantissa_numerics::nvidia::bnb::{Absmax, Nf4Way};
    /// let nested = Absmax::Nested { code: 0.33, scale: 0.01, offset: 0.05 };
    /// let scales = [Nf4Way::Simt, Nf4Way::Mma, Nf4Way::Decoded].map(|way| way.scale(nested).to_bits());
    /// assert_eq!(scales[0], scales[1]);
    /// assert_eq!(scales[2], (0.33_f32 * 0.01 + 0.05).to_bits());
    /// ```
    #[must_use]
    pub fn scale(self, absmax: Absmax) -> f32 {
        match (self, absmax) {
            (_, Absmax::Stored(absmax)) => absmax,
            (Self::Simt | Self::Mma, Absmax::Nested { code, scale, offset }) => {
                flushed(flushed(code).mul_add(flushed(scale), flushed(offset)))
            }
            (Self::Decoded, Absmax::Nested { code, scale, offset }) => {
                flushed(flushed(code) * flushed(scale)) + offset
            }
        }
    }

    /// The weight of an index, in bf16.
    ///
    /// *Rounding:* without tensor cores the code and the scale are rounded to bf16, and their product again; otherwise
    /// the product is in binary32 and rounded once.
    ///
    /// ```
    /// use mantissa_numerics::nvidia::bnb::Nf4Way;
    /// let weights = [Nf4Way::Simt, Nf4Way::Mma, Nf4Way::Decoded].map(|way| way.weight(1, 0.07));
    /// assert_eq!(weights, [-0.048583984, -0.048828125, -0.048828125]);
    /// ```
    #[must_use]
    pub fn weight(self, index: u8, scale: f32) -> f32 {
        let code = NF4[usize::from(index & 15)];
        let round = |x| Dtype::Bf16.round(x);
        match self {
            Self::Simt => round(round(code) * round(scale)),
            Self::Mma | Self::Decoded => round(flushed(code * flushed(scale))),
        }
    }
}

impl Nf4Shape {
    const fn blocks(self) -> usize {
        self.n.div_ceil(COLUMNS)
    }

    /// Whether a kernel decodes while it multiplies.
    const fn is_fused(self) -> bool {
        let Self { m, n, k, block, multiprocessors: all } = self;
        let blocks = self.blocks();
        if m > MOST_ROWS || !k.is_multiple_of(block) {
            return false;
        }
        if m <= 4 {
            return true;
        }
        if n * k < SMALL {
            return m
                <= if 2 * k < n {
                    if 3 * blocks < all { 512 } else { 320 }
                } else if 4 * blocks <= all {
                    32
                } else if 2 * blocks <= all {
                    16
                } else {
                    0
                };
        }
        let (below_three_fifths, below_three_quarters) = (5 * blocks < 3 * all, 4 * blocks < 3 * all);
        if m < 8 {
            let undecided = m >= 6 && blocks >= 36 && below_three_quarters;
            return !(undecided && (k > n || k == n && !below_three_fifths));
        }
        m <= if blocks >= 3 * all {
            64
        } else if blocks >= 2 * all {
            48
        } else if blocks >= all {
            32
        } else if blocks >= all / 2 && !(k >= n && below_three_quarters) {
            16
        } else {
            0
        }
    }

    /// Whether the kernel that decodes does without tensor cores.
    const fn is_without_tensor_cores(self) -> bool {
        let Self { m, k, multiprocessors: all, .. } = self;
        let tiles = m.div_ceil(ROWS) * self.blocks();
        m <= 3
            || m <= 8 && 3 * tiles <= 2 * all
            || m == 4 && tiles <= all
            || m <= 16 && 4 * tiles <= all
            || m <= 32 && 8 * tiles <= all
            || !k.is_multiple_of(64)
    }
}

/// The scale of a block of values as it is stored.
///
/// Example: [`Nf4Way::scale`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Absmax {
    /// As a number.
    Stored(f32),
    /// Quantized too.
    Nested {
        /// What its byte is worth.
        code: f32,
        /// The scale of its block of 256.
        scale: f32,
        /// What is added.
        offset: f32,
    },
}

/// The dynamic code book of 256 numbers: for each power of ten from 1e-6 to 1 as many steps as fit, both signs, 0 and
/// 1.
///
/// *Rounding:* a range from 0.1 to 1 in `n` steps is `fma(k, (1 − 0.1) / n, 0.1)` in its first half and
/// `fma(−(n − k), (1 − 0.1) / n, 1)` in its second; numbers are the steps' midpoints times the power, all in binary32.
/// *Source:* `create_dynamic_map`, whose `torch.linspace` rounds so; checked bit for bit.
///
/// ```
/// use mantissa_numerics::nvidia::bnb::dynamic_map;
/// let map = dynamic_map();
/// assert!(map.is_sorted() && map[127] == 0.0 && map[255] == 1.0);
/// assert_eq!(map[254], 0.99296874);
/// ```
#[must_use]
pub fn dynamic_map() -> [f32; 256] {
    const POWERS: [f32; 7] = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0];
    let mut map = [0.0; 256];
    map[0] = 1.0;
    let mut filled = 1;
    for (power, steps) in POWERS.into_iter().zip((0..7).map(|i| 1_u8 << i)) {
        let step = (1.0 - 0.1_f32) / f32::from(steps);
        let at = |k: u8| {
            if k < steps.div_ceil(2) {
                f32::from(k).mul_add(step, 0.1)
            } else {
                f32::from(steps - k).mul_add(-step, 1.0)
            }
        };
        for k in 0..steps {
            let middle = power * f32::midpoint(at(k), at(k + 1));
            map[filled] = middle;
            map[filled + 1] = -middle;
            filled += 2;
        }
    }
    // The last place keeps the zero.
    map.sort_by(f32::total_cmp);
    map
}

/// Lanes of a warp.
const LANES: usize = 32;
/// Neighbours of `K` that a lane takes at a time.
const RUN: usize = 32;

/// The sum of [`Nf4Way::Simt`]: lane `(k / 32) mod 32` of a warp takes `k`, ascending, two neighbours at a time: their
/// products, each rounded to bf16, are added to each other and then to the lane's sum, from `+0`; then lanes are added
/// by `a[i] += a[i + half]` for `half = 16 … 1`.
///
/// *Shape:* an even `length`. *Rounding:* binary32 after every addition, with subnormals flushed before and after it.
///
/// ```
/// use mantissa_numerics::nvidia::bnb::by_warp;
/// // Neighbours meet before they meet 2^24, beside which a single 1 is lost.
/// let sum = |x: [f32; 4]| by_warp(4, |k| (x[k], 1.0));
/// assert_eq!(sum([16_777_216.0, 0.0, 1.0, 1.0]), 16_777_218.0);
/// assert_eq!(sum([16_777_216.0, 1.0, 1.0, 0.0]), 16_777_216.0);
/// ```
#[must_use]
pub fn by_warp(length: usize, pair: impl Fn(usize) -> (f32, f32)) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let product = |k| {
        let (x, w) = pair(k);
        flushed(Dtype::Bf16.round(x * w))
    };
    for k in (0..length).step_by(2) {
        let lane = &mut lanes[k / RUN % LANES];
        *lane = flushed(*lane + flushed(product(k) + product(k + 1)));
    }
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = flushed(lanes[i] + lanes[i + half]);
        }
        half /= 2;
    }
    // A bias follows, or zero.
    lanes[0] + 0.0
}

/// `x`, or a zero of its sign if it is subnormal: what `.FTZ` does to operands and results.
///
/// ```
/// use mantissa_numerics::nvidia::bnb::flushed;
/// assert_eq!(flushed(-1e-39).to_bits(), (-0.0_f32).to_bits());
/// assert_eq!(flushed(f32::MIN_POSITIVE), f32::MIN_POSITIVE);
/// ```
#[must_use]
pub const fn flushed(x: f32) -> f32 {
    if x.is_subnormal() { 0.0_f32.copysign(x) } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: usize = 132;

    fn fused(m: usize, [n, k]: [usize; 2]) -> bool {
        Nf4Way::of(Nf4Shape { m, n, k, block: 64, multiprocessors: ALL }) != Nf4Way::Decoded
    }

    /// The last number of rows of which a kernel decodes while it multiplies, from 8 on.
    fn most(shape: [usize; 2]) -> usize {
        (8..=1537).take_while(|&m| fused(m, shape)).last().unwrap_or(7)
    }

    /// bitsandbytes' own function says the same: goldens/parallel/bnb_choice.py.
    #[test]
    fn the_choice_is_that_of_the_source() {
        #[derive(serde::Deserialize)]
        struct Weight {
            n: usize,
            k: usize,
            runs: Vec<(usize, bool)>,
        }
        let golden = include_str!("../../../../goldens/parallel/bnb_choice.json");
        let golden: Vec<Weight> = serde_json::from_str(golden).expect("JSON");
        assert!(golden.len() > 100);
        for Weight { n, k, runs } in golden {
            let mut found: Vec<(usize, bool)> = Vec::new();
            for m in 1..=1600 {
                let fused = fused(m, [n, k]);
                if found.last().is_none_or(|(_, last)| *last != fused) {
                    found.push((m, fused));
                }
            }
            assert_eq!(found, runs, "{n} × {k}");
        }
    }

    /// The tables in the source's own words, for 132 multiprocessors.
    #[test]
    fn large_weights_are_fused_up_to_their_waves() {
        // Three waves of blocks, two, one, a half.
        assert_eq!([[25_344, 3584], [16_896, 3584], [8448, 3584], [4224, 3584]].map(most), [64, 48, 32, 16]);
        // Square or tall below three quarters of a wave, and anything below a half.
        assert_eq!([[4224, 4224], [4096, 4096]].map(most), [7, 7]);
        assert!(fused(4, [4096, 14_336]) && fused(5, [4096, 14_336]) && !fused(6, [4096, 14_336]));
        assert!(!fused(2, [640, 1100]), "a block of scales crosses a row");
    }

    #[test]
    fn few_rows_and_few_blocks_do_without_tensor_cores() {
        let way = |m, n, k| Nf4Way::of(Nf4Shape { m, n, k, block: 32, multiprocessors: ALL });
        let last = |n| (1..=32).take_while(|&m| way(m, n, 1024) == Nf4Way::Simt).last();
        // An eighth of a wave, a quarter, two thirds, a wave, and more.
        assert_eq!([1024, 2112, 5632, 8448, 8512].map(last), [32, 16, 8, 4, 3].map(Some));
        assert_eq!([way(33, 2048, 96), way(512, 2048, 96)], [Nf4Way::Simt; 2]);
    }
}
