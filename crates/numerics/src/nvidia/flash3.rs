//! FlashAttention-3 as vLLM compiles it: what is done with scores between the two products, into how many parts keys
//! are cut, and how the parts are put together.
//!
//! *Source:* vllm-project/flash-attention at 803020a8 (vLLM 0.24.0), hopper/{softmax.h, mainloop_fwd_sm90*.hpp,
//! tile_size.h, heuristics.h, `flash_api.cpp`, `flash_prepare_scheduler.cu`, `flash_fwd_combine_kernel.h`}, compiled
//! with fast math; restated. Which operations are fused or approximate was read in the shipped binary. Outputs
//! and parts of 62 steps were compared with an H200 (goldens/parallel/flash3.json), and whole models to 2,048 tokens.
//!
//! Left out: the products, which are the engine's; sliding windows, bounds of scores, sinks, FP8; the flush of
//! subnormal numbers to zero, which scores of activations do not reach.

use serde::{Deserialize, Serialize};

use super::flash::Scale;
use super::functions::{ex2, reciprocal};
use super::logarithm::{LN_2, log_fast};

/// Lanes that share a row of scores: lane `i` has columns `2i` and `2i + 1` of every eight.
const LANES: usize = 4;

/// A row's softmax while tiles of keys go by, **from the last to the first**.
///
/// ```
/// use mantissa_numerics::nvidia::flash::{self, Scale};
/// use mantissa_numerics::nvidia::flash3::Online;
/// let (mut row, scale) = (Online::default(), Scale::new(0.1));
/// let (mut fused, mut rounded) = ([71.0; 8], [71.0; 8]);
/// assert_eq!(row.tile(scale, &mut fused), 1.0);
/// // The largest score's product with the scale is fused here, so that its weight is not quite 1.
/// flash::Online::default().tile(scale, &mut rounded);
/// assert!(rounded == [1.0; 8] && fused != rounded && (fused[0] - 1.0).abs() < 1e-6);
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
    /// `ex2.approx(fma(s, c, −round(max · c)))`, `c` the binary scale; lanes add ascending columns, the first by
    /// `fma(sum, factor, p)`.
    pub fn tile(&mut self, scale: Scale, scores: &mut [f32]) -> f32 {
        let c = scale.binary();
        let before = self.state.map(|(largest, _)| largest);
        let largest = scores.iter().copied().fold(before.unwrap_or(f32::NEG_INFINITY), f32::max);
        let factor = before.map_or(1.0, |before| ex2((before - largest) * c));
        let offset = largest * c;
        for score in &mut *scores {
            *score = ex2(score.mul_add(c, -offset));
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

    /// What the product with the values is multiplied with, `rcp.approx` of the sum, and the natural logarithm of the
    /// sum of exponentials: 0 and −∞ for a row without keys.
    ///
    /// *Shape:* the logarithm is a NaN where 2^16 keys or more went by. *Rounding:*
    /// `fma(max, c · ln 2, lg2.approx(sum) · ln 2)`. A sum may be a little less than 1, of which the hardware's
    /// logarithm was not measured: the nearest value stands in. The kernel puts parts together by the logarithm and has
    /// no other use of it.
    ///
    /// ```
    /// use mantissa_numerics::nvidia::{flash::Scale, flash3::Online};
    /// let (mut row, scale) = (Online::default(), Scale::new(0.125));
    /// assert_eq!(row.finish(scale), (0.0, f32::NEG_INFINITY));
    /// row.tile(scale, &mut [8.0; 8]);
    /// let (inverse, log) = row.finish(scale);
    /// assert!((inverse - 0.125).abs() < 1e-7 && (log - (1.0 + 8.0_f32.ln())).abs() < 1e-6);
    /// ```
    #[must_use]
    pub fn finish(self, scale: Scale) -> (f32, f32) {
        let Some((largest, [a, b, c, d])) = self.state else { return (0.0, f32::NEG_INFINITY) };
        let sum = (a + c) + (b + d);
        if sum == 0.0 || sum.is_nan() {
            return (0.0, f32::NEG_INFINITY);
        }
        (reciprocal(sum), largest.mul_add(scale.binary() * LN_2, logarithm(sum)))
    }
}

/// `__logf` of a sum of exponentials.
fn logarithm(sum: f32) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "the nearest value, as said above")]
    let nearest = || libm::log2(f64::from(sum)) as f32 * LN_2;
    if sum < 1.0 { nearest() } else { log_fast(sum).unwrap_or(f32::NAN) }
}

/// What each part's output is multiplied with, by `fma` in ascending order from zero.
///
/// *Shape:* `logs` are the parts' logarithms. *Rounding:* exponentials of `log − max` are `ex2.approx` of the rounded
/// product with log₂ e; lane `i mod lanes` adds ascending parts, then the halving tree; each is multiplied with
/// `rcp.approx` of the sum. There are 16 lanes for heads of up to 64, else 32.
///
/// ```
/// use mantissa_numerics::nvidia::flash3::combined;
/// // Two parts whose exponentials add up to e and 3e: a quarter and three quarters of the row.
/// let weights = combined(64, &[1.0, 1.0 + 3.0_f32.ln()]);
/// assert!((weights[0] - 0.25).abs() < 1e-6 && (weights[1] - 0.75).abs() < 1e-6);
/// // A part of which the row sees no key takes no part, exactly.
/// assert_eq!(combined(64, &[f32::NEG_INFINITY, 2.5]), [0.0, 1.0]);
/// assert_eq!(combined(128, &[f32::NEG_INFINITY; 3]), [0.0; 3]);
/// ```
#[must_use]
pub fn combined(dim: usize, logs: &[f32]) -> Vec<f32> {
    let lanes = if dim <= 64 { 16 } else { 32 };
    let largest = logs.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let largest = if largest == f32::NEG_INFINITY { 0.0 } else { largest };
    let exponentials: Vec<f32> =
        logs.iter().map(|log| ex2((log - largest) * std::f32::consts::LOG2_E)).collect();
    let mut sums = vec![0.0_f32; lanes];
    for (part, exponential) in exponentials.iter().enumerate() {
        sums[part % lanes] += exponential;
    }
    let sum = super::reduce::halved(&mut sums);
    let inverse = if sum == 0.0 || sum.is_nan() { 0.0 } else { reciprocal(sum) };
    exponentials.into_iter().map(|exponential| exponential * inverse).collect()
}

/// What one request has in a step.
///
/// Example: [`Step`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Its tokens in the step.
    pub queries: usize,
    /// Keys that are cached once the step has written its own.
    pub keys: usize,
}

/// A step of vLLM: what decides how its attention is launched. The cache is paged with fewer keys to a page than a tile
/// has (16 unless said otherwise), without CUDA graphs, cascades and context parallelism.
///
/// ```
/// use mantissa_numerics::nvidia::flash3::{Cut, Request, Step, Tile};
/// // Decode of one request with 3 KV heads of 64 for 9 query heads, on the 132 multiprocessors of an H200.
/// let requests = |keys: &[usize]| keys.iter().map(|keys| Request { queries: 1, keys: *keys }).collect::<Vec<_>>();
/// let alone = requests(&[2000]);
/// let step = Step { query_heads: 9, kv_heads: 3, dim: 64, multiprocessors: 132, requests: &alone };
/// assert_eq!(step.tile(), Some(Tile { rows: 64, keys: 192 }));
/// let cut = step.cut().unwrap();
/// assert_eq!((cut, cut.parts(2000_usize.div_ceil(192))), (Cut { rows: 64, most: 10, share: 1 }, 10));
/// // Beside many others, the same request is cut into fewer parts: its bits depend on their lengths.
/// let many = requests(&[2000; 20]);
/// let parts = Step { requests: &many, ..step }.cut().map(|cut| cut.parts(2000_usize.div_ceil(192)));
/// assert_eq!(parts, Some(2));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<'a> {
    /// Query heads of the rank.
    pub query_heads: usize,
    /// KV heads of the rank.
    pub kv_heads: usize,
    /// Elements of a head.
    pub dim: usize,
    /// Multiprocessors of the GPU.
    pub multiprocessors: usize,
    /// All requests of the step.
    pub requests: &'a [Request],
}

/// The tile of a step's kernel.
///
/// Example: [`Step`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    /// Rows of queries; those of a group of heads lie together, position after position.
    pub rows: u16,
    /// Keys.
    pub keys: u16,
}

/// How the keys of a step's requests are cut.
///
/// Example: [`Step`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Cut {
    /// Rows of a tile of queries, whose keys are cut together: as many of them as the last of the rows sees.
    pub rows: u16,
    /// Most parts of a request.
    pub most: u16,
    /// Tiles of keys for which a request gets a part.
    pub share: u32,
}

impl Cut {
    /// Whether a kernel may cut so.
    pub(crate) const fn is_launched(self) -> bool {
        matches!(self.rows, 64 | 128 | 192) && self.most > 1 && self.most <= 128 && self.share > 0
    }

    /// Parts of a request with so many tiles of keys.
    ///
    /// *Source:* `flash_prepare_scheduler.cu`.
    ///
    /// ```
    /// use mantissa_numerics::nvidia::flash3::Cut;
    /// let cut = Cut { rows: 64, most: 8, share: 3 };
    /// assert_eq!([1, 3, 4, 100].map(|tiles| cut.parts(tiles)), [1, 1, 2, 8]);
    /// ```
    #[must_use]
    pub fn parts(self, tiles: usize) -> usize {
        let share = usize::try_from(self.share).unwrap_or(usize::MAX).max(1);
        tiles.div_ceil(share).min(self.most.into()).max(1)
    }

    /// Tiles of keys that the rows of queries are given which share a tile with row `row` of a request, of the `tiles`
    /// of all its keys. Rows are counted from its first query, `group` to a position; `before` keys precede it.
    ///
    /// *Source:* `get_n_block_min_max` of hopper/block.h.
    ///
    /// ```
    /// use mantissa_numerics::nvidia::flash3::Cut;
    /// let cut = Cut { rows: 192, most: 5, share: 1 };
    /// // Of 3 heads to a group, 64 positions share a tile: those up to the 128th see one tile of 128 keys.
    /// assert_eq!([0, 3 * 127 + 2, 3 * 128, 3 * 599].map(|row| cut.seen(row, 3, 0, 128, 5)), [1, 1, 2, 5]);
    /// ```
    #[must_use]
    pub fn seen(self, row: usize, group: usize, before: usize, tile: usize, tiles: usize) -> usize {
        let rows = usize::from(self.rows).max(1);
        let positions = ((row / rows + 1) * rows - 1) / group + 1;
        tiles.min((before + positions).div_ceil(tile))
    }
}

impl Step<'_> {
    fn group(self) -> usize {
        self.query_heads / self.kv_heads.max(1)
    }

    /// Queries of the request that has the most.
    fn most_queries(self) -> usize {
        self.requests.iter().map(|request| request.queries).max().unwrap_or(0)
    }

    /// The tile that the kernel is compiled for; `None` for heads that are neither of 64 nor of 128.
    ///
    /// *Source:* `tile_size_fwd_sm90` and `use_one_mma_wg`. One query for each request is not causal for heads of 64.
    ///
    /// ```
    /// use mantissa_numerics::nvidia::flash3::{Request, Step};
    /// let keys = |dim, queries, heads| {
    ///     let requests = [Request { queries, keys: 4000 }];
    ///     let step = Step { query_heads: heads, kv_heads: 1, dim, multiprocessors: 132, requests: &requests };
    ///     step.tile().map(|tile| (tile.rows, tile.keys))
    /// };
    /// assert_eq!([keys(64, 1, 3), keys(64, 21, 3), keys(64, 22, 3)], [(64, 192), (64, 192), (192, 128)].map(Some));
    /// assert_eq!([keys(64, 1, 71), keys(128, 1, 8), keys(128, 9, 8)], [(192, 160), (64, 128), (128, 128)].map(Some));
    /// assert_eq!(keys(96, 1, 8), None);
    /// ```
    #[must_use]
    pub fn tile(self) -> Option<Tile> {
        let queries = self.most_queries();
        let few = queries * self.group() <= 64;
        let (rows, keys) = match (self.dim, few) {
            (64, true) => (64, 192),
            (64, false) => (192, if queries == 1 { 160 } else { 128 }),
            (128, true) => (64, 128),
            (128, false) => (128, 128),
            _ => return None,
        };
        Some(Tile { rows, keys })
    }

    /// How keys are cut; `None` where no request's are, and where there is no [`tile`](Self::tile).
    ///
    /// *Rounding:* binary32, the division by the number of multiprocessors a product with `rcp.approx` of it. *Source:*
    /// `get_num_splits`, with the longest request's queries and keys, and `flash_prepare_scheduler.cu`.
    ///
    /// Example: [`Self`].
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^24, as in the source")]
    pub fn cut(self) -> Option<Cut> {
        /// Requests of a step from which on none is cut.
        const MANY: usize = 992;
        let Tile { rows, keys } = self.tile()?;
        let row_tiles = |queries: usize| (queries * self.group()).div_ceil(rows.into());
        let key_tiles = |length: usize| length.div_ceil(keys.into());
        let longest = self.requests.iter().map(|request| request.keys).max()?;
        let blocks = self.kv_heads * row_tiles(self.most_queries());
        let most = most_parts(blocks, key_tiles(longest), self.multiprocessors);
        if most == 1 || self.requests.len() > MANY {
            return None;
        }
        let work = |request: &Request| row_tiles(request.queries) * key_tiles(request.keys);
        let total: usize = self.requests.iter().map(work).sum();
        let share = total as f32 * 1.1 * self.kv_heads as f32 * reciprocal(self.multiprocessors as f32);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
        let share = (share.ceil() as u32).max(1);
        let cut = Cut { rows, most: u16::try_from(most).ok()?, share };
        self.requests.iter().any(|request| cut.parts(key_tiles(request.keys)) > 1).then_some(cut)
    }
}

/// Most parts that keys are cut into, for `blocks` tiles of queries of the longest request in all heads and `tiles` of
/// its keys: the fewest that keep 85 % of the best share of multiprocessors busy.
///
/// The rule for keys beyond the level-2 cache needs more than one query and no causal mask, which no step of a language
/// model has.
///
/// *Source:* `num_splits_heuristic` of hopper/heuristics.h.
///
/// ```
/// use mantissa_numerics::nvidia::flash3::most_parts;
/// // One block for each of 3 KV heads: 44 parts of each would keep all multiprocessors busy.
/// assert_eq!([4, 5, 11, 60].map(|tiles| most_parts(3, tiles, 132)), [1, 5, 10, 38]);
/// assert_eq!(most_parts(106, 60, 132), 1, "multiprocessors are busy anyway");
/// ```
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "small counts, as in the source")]
pub fn most_parts(blocks: usize, tiles: usize, multiprocessors: usize) -> usize {
    if blocks as f32 >= 0.8_f32 * multiprocessors as f32 || tiles <= 4 {
        return 1;
    }
    let most = multiprocessors.min(tiles).min(128);
    let busy = |parts: usize| {
        let waves = (blocks * parts) as f32 / multiprocessors as f32;
        waves / waves.ceil()
    };
    let best = (1..=most).map(busy).fold(0.0, f32::max);
    (1..=most).find(|parts| f64::from(busy(*parts)) >= 0.85 * f64::from(best)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(requests: &[Request]) -> Step<'_> {
        Step { query_heads: 9, kv_heads: 3, dim: 64, multiprocessors: 132, requests }
    }

    /// 40 tiles of 3 heads are 132 / 1.1 pieces of work: whether a multiprocessor has one of them or two is decided by
    /// the reciprocal's last bit.
    #[test]
    fn shares_are_counted_with_the_approximate_reciprocal() {
        let requests = [Request { queries: 1, keys: 40 * 192 }];
        let product = 40.0_f32 * 1.1 * 3.0;
        assert_eq!(product.to_bits(), 132.0_f32.to_bits());
        let share = if product * reciprocal(132.0) > 1.0 { 2 } else { 1 };
        assert_eq!(step(&requests).cut().map(|cut| cut.share), Some(share));
    }

    #[test]
    fn a_prompt_is_cut_by_the_last_row_of_its_tiles() {
        let requests = [Request { queries: 600, keys: 600 }];
        let cut = step(&requests).cut().unwrap();
        // 10 tiles of queries and 5 of keys, in 3 heads: 1.25 for each multiprocessor.
        assert_eq!((cut.rows, cut.share), (192, 2));
        assert_eq!(cut.parts(5), 3);
        assert_eq!(step(&[Request { queries: 512, keys: 512 }]).cut(), None);
        assert_eq!(step(&[Request { queries: 1, keys: 768 }]).cut(), None);
        assert!(step(&[Request { queries: 1, keys: 769 }]).cut().is_some());
    }

    #[test]
    fn rows_without_keys_weigh_nothing() {
        let mut row = Online::default();
        let mut scores = [f32::NEG_INFINITY; 16];
        scores[3] = 4.0;
        row.tile(Scale::new(0.25), &mut scores);
        assert_eq!((scores[3], scores[0]), (1.0, 0.0));
        assert_eq!(row.finish(Scale::new(0.25)), (1.0, 1.0));
    }

    /// In the order of the kernel: every lane by itself, then the two exchanges.
    #[test]
    fn tiles_are_added_as_lanes_add_them() {
        let scale = Scale::new(0.125);
        let score = |i: u16| f32::from(i * 37 % 101) / 3.0 - 20.0;
        let tiles: Vec<Vec<f32>> = (0..3).map(|t| (0..192).map(|i| score(192 * t + i)).collect()).collect();
        let (mut row, mut largest, mut sums) = (Online::default(), f32::NEG_INFINITY, [0.0_f32; 4]);
        for tile in tiles.iter().rev() {
            let before = largest;
            largest = tile.iter().copied().fold(largest, f32::max);
            let factor =
                if before == f32::NEG_INFINITY { 0.0 } else { ex2((before - largest) * scale.binary()) };
            let p = |x: f32| ex2(x.mul_add(scale.binary(), -(largest * scale.binary())));
            for (lane, sum) in sums.iter_mut().enumerate() {
                *sum = sum.mul_add(factor, p(tile[2 * lane])) + p(tile[2 * lane + 1]);
                for eight in 1..24 {
                    *sum = (*sum + p(tile[8 * eight + 2 * lane])) + p(tile[8 * eight + 2 * lane + 1]);
                }
            }
            let mut weights = tile.clone();
            row.tile(scale, &mut weights);
            assert!(weights.iter().zip(tile).all(|(found, x)| found.to_bits() == p(*x).to_bits()));
        }
        let exchanged = |sums: [f32; 4], by: usize| std::array::from_fn(|i| sums[i] + sums[i ^ by]);
        let sums = exchanged(exchanged(sums, 2), 1);
        let inverse = reciprocal(sums[3]);
        assert_eq!(row.finish(scale).0.to_bits(), inverse.to_bits());
    }
}
