//! cuDNN's attention on a Hopper GPU, as PyTorch's `scaled_dot_product_attention` launches it when it is left alone:
//! what is done with scores between the two products, and a reference of one row.
//!
//! *Source:* outputs of cuDNN 9.19 on an H200 (`goldens/gpu/cudnn.py`), from which all of this was inferred: the order
//! of tiles, lanes and warps, and every rounding. Nothing of it is published.
//!
//! Which rows share a kernel's tile of queries has no effect. Left out: the products, which are the engine's; masks but
//! the causal one, soft caps, sinks, dropout; the kernel of long decodes ([`CudnnKernel::of_decode`]), whose four warps
//! put their sums together in an order that is not fixed.

use super::functions::{ex2, reciprocal};
use crate::tensor_core::BlockRecipe;

/// Lanes that share a row of scores: lane `i` has columns `2i` and `2i + 1` of every eight.
const LANES: usize = 4;

/// Most query heads of all sequences with which decode over 129 to 256 keys has one warp to a row: as many as there are
/// multiprocessors.
const FEW_HEADS: usize = 132;

/// Which of cuDNN's kernels.
///
/// ```
/// use mantissa_numerics::nvidia::cudnn::CudnnKernel;
/// let nine_heads = |keys| CudnnKernel::of_decode(9, keys);
/// let (narrow, middle) = (CudnnKernel::Narrow, CudnnKernel::Middle);
/// assert_eq!([32, 33, 256].map(nine_heads), [narrow, middle, middle].map(Some));
/// // Of more keys, or of more heads over as many, four warps add a row in no fixed order.
/// assert_eq!((nine_heads(257), CudnnKernel::of_decode(15 * 9, 129)), (None, None));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CudnnKernel {
    /// Of prefill (`sm90 … wgmma … 64x128`): tiles of 128 keys.
    Prefill,
    /// Of decode over up to 32 keys (`sm80 … 64x32`): one tile of 32.
    Narrow,
    /// Of decode over up to 256 keys (`sm80 … 64x64`): tiles of 64.
    Middle,
}

impl CudnnKernel {
    /// Every kernel that repeats itself.
    pub const ALL: [Self; 3] = [Self::Prefill, Self::Narrow, Self::Middle];

    /// Of one query to a sequence, for `heads` query heads of all sequences; `None` where another kernel is launched.
    ///
    /// *Shape:* at least two keys: PyTorch's own flash kernel takes a single one.
    #[must_use]
    pub const fn of_decode(heads: usize, keys: usize) -> Option<Self> {
        match keys {
            2..=32 => Some(Self::Narrow),
            33..=128 => Some(Self::Middle),
            129..=256 if heads <= FEW_HEADS => Some(Self::Middle),
            _ => None,
        }
    }

    /// Keys of a tile; tiles are walked from the first to the last.
    ///
    /// Example: [`Online`].
    #[must_use]
    pub const fn tile(self) -> usize {
        match self {
            Self::Narrow => 32,
            Self::Middle => 64,
            Self::Prefill => 128,
        }
    }

    /// Whether scores are rounded after their product with the scale and again after that with log₂ e, and not once
    /// after the product with both.
    ///
    /// Example: [`Scale::of`].
    #[must_use]
    pub const fn scales_twice(self) -> bool {
        !matches!(self, Self::Prefill)
    }
}

/// What scores are multiplied with, one factor after the other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    first: f32,
    second: Option<f32>,
}

impl Scale {
    /// Of a kernel and the factor of the scores. *Rounding:* where they are one factor, its product with log₂ e in
    /// binary32.
    #[must_use]
    pub const fn new(kernel: CudnnKernel, natural: f32) -> Self {
        const LOG2_E: f32 = std::f32::consts::LOG2_E;
        if kernel.scales_twice() {
            return Self { first: natural, second: Some(LOG2_E) };
        }
        Self { first: natural * LOG2_E, second: None }
    }

    /// The exponent of two that a score becomes.
    ///
    /// ```
    /// use mantissa_numerics::nvidia::cudnn::{CudnnKernel, Scale};
    /// let [once, twice] = [CudnnKernel::Prefill, CudnnKernel::Middle].map(|kernel| Scale::new(kernel, 1.0 / 3.0));
    /// assert_eq!((once.of(5.0), twice.of(5.0)), (2.4044917, 2.4044917_f32.next_up()));
    /// ```
    #[must_use]
    pub fn of(self, score: f32) -> f32 {
        let scaled = score * self.first;
        self.second.map_or(scaled, |second| scaled * second)
    }
}

/// A row's softmax while tiles of keys go by, from the first to the last.
///
/// ```
/// use mantissa_numerics::nvidia::cudnn::{CudnnKernel, Online, Scale};
/// let (scale, mut row) = (Scale::new(CudnnKernel::Middle, 0.125), Online::default());
/// // The first tile: the largest gets the weight 1.
/// let (mut first, mut second) = ([0.0; 64], [64.0; 64]);
/// assert_eq!((row.tile(scale, &mut first), first), (1.0, [1.0; 64]));
/// // 64 / √64 raises the maximum by 8: what was summed so far shrinks by e^-8.
/// let factor = row.tile(scale, &mut second);
/// assert!((factor - (-8.0_f32).exp()).abs() < 1e-9);
/// assert_eq!(second, [1.0; 64]);
/// // 64 keys of weight 1, and 64 of e^-8.
/// assert!((row.inverse() * (64.0 + 64.0 * factor) - 1.0).abs() < 1e-6);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Online {
    /// The largest exponent, and the sums of lanes; `None` before the first tile.
    state: Option<(f32, [f32; LANES])>,
}

impl Online {
    /// Replaces the scores of a tile, of which the row sees at least one, by what their exponentials are in proportion
    /// to, in binary32. Returns what the product with the values so far is to be multiplied with, by itself, before
    /// this tile's is added.
    ///
    /// *Shape:* a multiple of 8; keys that the row does not see are −∞. *Rounding:* the scaled score less the maximum
    /// of all scaled so far, rounded; `ex2`. A lane adds a tile's from zero, in ascending columns; then
    /// `fma(sum, factor, tile's)`.
    pub fn tile(&mut self, scale: Scale, scores: &mut [f32]) -> f32 {
        for score in &mut *scores {
            *score = scale.of(*score);
        }
        let before = self.state.map(|(largest, _)| largest);
        let largest = scores.iter().copied().fold(before.unwrap_or(f32::NEG_INFINITY), f32::max);
        let factor = before.map_or(1.0, |before| ex2(before - largest));
        for score in &mut *scores {
            *score = ex2(*score - largest);
        }
        let mut sums = self.state.map_or([0.0; LANES], |(_, sums)| sums);
        for (lane, sum) in sums.iter_mut().enumerate() {
            let columns = scores.chunks_exact(8).flat_map(|eight| &eight[2 * lane..2 * lane + 2]);
            let of_tile = columns.fold(0.0, |sum, p| sum + p);
            *sum = sum.mul_add(factor, of_tile);
        }
        self.state = Some((largest, sums));
        factor
    }

    /// What the product with the values is multiplied with: 0 for a row without keys.
    ///
    /// *Rounding:* lanes as `(0 + 1) + (2 + 3)`, then [`reciprocal`].
    #[must_use]
    pub fn inverse(self) -> f32 {
        self.state.map_or(0.0, |(_, [a, b, c, d])| reciprocal((a + b) + (c + d)))
    }
}

/// Attention of one query over all keys given, step by step: what faster code is compared with.
///
/// *Shape:* `query` and every key and value are patterns of the steps' factors, of one length; at least one key.
/// *Rounding:* probabilities and the output to the factors' format; the rest as [`Online`] and [`BlockRecipe`]. A
/// tile's product goes on from the sum so far, times the factor.
///
/// # Panics
/// When the lengths differ or the steps' factors are no storage format.
///
/// ```
/// use mantissa_numerics::nvidia::cudnn::{CudnnKernel, attention};
/// use mantissa_numerics::tensor_core::{Architecture, Operand};
/// let block = Architecture::Hopper.block(Operand::Bf16).unwrap();
/// // Keys of zeros: the mean of the values 1 and 3.
/// let (keys, values) = (vec![vec![0; 16]; 2], vec![vec![0x3F80; 16], vec![0x4040; 16]]);
/// assert_eq!(attention(block, CudnnKernel::Narrow, 0.25, &[0x3F80; 16], &keys, &values), [2.0; 16]);
/// ```
#[must_use]
pub fn attention(
    block: BlockRecipe,
    kernel: CudnnKernel,
    scale: f32,
    query: &[u32],
    keys: &[Vec<u32>],
    values: &[Vec<u32>],
) -> Vec<f32> {
    let Some(storage) = block.operand.dtype() else { unreachable!("factors of a storage format") };
    let tile = kernel.tile();
    let (mut row, scale) = (Online::default(), Scale::new(kernel, scale));
    let mut sums = vec![0.0; query.len()];
    for (keys, values) in keys.chunks(tile).zip(values.chunks(tile)) {
        let mut scores = vec![f32::NEG_INFINITY; tile];
        for (score, key) in scores.iter_mut().zip(keys) {
            *score = block.chain(query, key, 0.0);
        }
        let factor = row.tile(scale, &mut scores);
        let weights: Vec<u32> = scores.iter().map(|p| storage.pattern(storage.round(*p))).collect();
        for (element, sum) in sums.iter_mut().enumerate() {
            let column: Vec<u32> = values.iter().map(|value| value[element]).collect();
            *sum = block.chain(&weights[..column.len()], &column, *sum * factor);
        }
    }
    let inverse = row.inverse();
    sums.into_iter().map(|sum| storage.round(sum * inverse)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At the borders of what was launched on an H200 (`goldens/gpu/cudnn.py`, its map).
    #[test]
    fn kernels_are_those_that_were_launched() {
        use CudnnKernel::{Middle, Narrow};
        for (heads, keys, kernel) in [
            (9, 1, None),
            (9, 2, Some(Narrow)),
            (9 * 64, 32, Some(Narrow)),
            (9 * 64, 128, Some(Middle)),
            (132, 256, Some(Middle)),
            (133, 129, None),
            (9, 257, None),
        ] {
            assert_eq!(CudnnKernel::of_decode(heads, keys), kernel, "{heads} {keys}");
        }
    }

    /// Measured: with a scale of 168^-½ (Gemma 3 27B) the product with log₂ e in binary64 would be one step higher.
    #[test]
    fn one_factor_is_a_product_of_binary32() {
        let scale = Scale::new(CudnnKernel::Prefill, 168_f32.sqrt().recip());
        assert_eq!(scale.first.to_bits(), 0x3DE3_F494);
    }

    #[test]
    fn one_key_has_all_the_weight() {
        for kernel in CudnnKernel::ALL {
            let (mut row, mut scores) = (Online::default(), vec![f32::NEG_INFINITY; kernel.tile()]);
            scores[5] = 7.25;
            let factor = row.tile(Scale::new(kernel, 0.125), &mut scores);
            assert_eq!((factor, scores[5], row.inverse()), (1.0, 1.0, 1.0), "{kernel:?}");
            assert_eq!(scores.iter().filter(|p| **p == 0.0).count(), kernel.tile() - 1, "{kernel:?}");
        }
    }
}
