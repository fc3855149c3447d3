//! Marlin, vLLM's product with packed weights where Machete refuses: what a weight is worth, which tiles a product
//! gets, and where its sums are cut.
//!
//! *Source:* vLLM 0.24's `csrc/libtorch_stable/quantization/marlin` (`marlin.cu`, `marlin_template.h`). Left out:
//! experts ([`super::marlin_experts`]), weights of 8 bits and of floating point, activations of 8 bits, sums by atomic
//! additions, which vLLM does not use unless asked to.

use std::ops::Range;

use super::launch::{Launch, PartOrder};
use crate::Dtype;

/// Rows of the largest tile.
const ROWS: usize = 64;
/// Rows that a step of a tensor core has, and elements of `K`.
const STEP: usize = 16;
/// Blocks of 64 rows of a launch, at most; of up to [`FEW_OUTPUTS`] more.
const BLOCKS: usize = 16;
const MORE_BLOCKS: usize = 128;
const FEW_OUTPUTS: usize = 4096;

/// A product with a weight as Marlin has it ([`padded`]).
///
/// Example: [`launches`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Marlin {
    /// Rows of the input.
    pub m: usize,
    /// Outputs.
    pub n: usize,
    /// Length of the sums.
    pub k: usize,
    /// Elements that share a scale; `None` where all of an output do.
    pub group: Option<usize>,
    /// Multiprocessors of the GPU.
    pub multiprocessors: usize,
}

/// The weight of an integer of 4 bits around `zero`, which is 8 where there are no zero points.
///
/// *Rounding:* `round((q − z) · s)`, once.
///
/// ```
/// use mantissa_numerics::{Dtype, nvidia::marlin::weight};
/// assert_eq!([8, 9, 0].map(|q| weight(Dtype::Bf16, q, 8, 0.5)), [0.0, 0.5, -4.0]);
/// ```
#[must_use]
pub fn weight(dtype: Dtype, q: u8, zero: u8, scale: f32) -> f32 {
    dtype.round((f32::from(q & 15) - f32::from(zero & 15)) * scale)
}

/// Outputs and length to which a weight is filled up with zeros: the smaller of two shapes that have whole tiles.
///
/// ```
/// use mantissa_numerics::nvidia::marlin::padded;
/// assert_eq!(padded(960, 576, Some(64)), [1024, 576]);
/// assert_eq!(padded(1088, 1024, Some(128)), [1088, 1024]);
/// ```
#[must_use]
pub fn padded(n: usize, k: usize, group: Option<usize>) -> [usize; 2] {
    let group = group.unwrap_or(1);
    // Groups are powers of two.
    let shape =
        |outputs: usize, length: usize| [n.next_multiple_of(outputs), k.next_multiple_of(length.max(group))];
    let [one, other] = [shape(64, 128), shape(128, 64)];
    let size = |[n, k]: [usize; 2]| (n * k, n + k);
    if size(other) < size(one) { other } else { one }
}

/// A tile: its length along `K`, and its outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tile {
    pub depth: usize,
    pub outputs: usize,
}

impl Tile {
    pub(super) const WIDE: Self = Self { depth: 64, outputs: 256 };
    pub(super) const DEEP: Self = Self { depth: 128, outputs: 128 };
    pub(super) const MIDDLE: Self = Self { depth: 64, outputs: 128 };
    pub(super) const SMALL: Self = Self { depth: 128, outputs: 64 };

    /// Threads of a block.
    pub(super) const fn threads(self) -> usize {
        self.depth * self.outputs / 64
    }

    /// Whether a weight of `n` outputs and length `k` has whole tiles.
    pub(super) const fn divides(self, n: usize, k: usize) -> bool {
        k.is_multiple_of(self.depth) && n.is_multiple_of(self.outputs)
    }

    /// The tile of a launch of `rows` rows in tiles of `blocks` times 16; `None` where no tile fits.
    fn of(shape: Marlin, rows: usize, blocks: usize) -> Option<Self> {
        let wide = if blocks > 1 { Self::WIDE } else { Self::DEEP };
        let fits = |tile: &Self| tile.divides(shape.n, shape.k);
        let tile = [wide, Self::MIDDLE, Self::SMALL].into_iter().find(fits)?;
        let few = shape.n / tile.outputs * rows.div_ceil(blocks * STEP) * 4 <= shape.multiprocessors;
        Some(if few && fits(&Self::SMALL) { Self::SMALL } else { tile })
    }
}

/// The launches of a product: 64 rows at a time, as many as fit, then the rest. None where the weight has no whole
/// tiles.
///
/// Each launch has a block of threads for each multiprocessor. Whole waves of tiles are not cut; what is left, and one
/// wave more where that is at most a third of one, is a line of tiles of `K`, tile after tile, that is dealt to the
/// blocks in equal stripes of whole groups. Warps of a block share a stripe: in each tile of `K` each takes 32
/// neighbours.
///
/// ```
/// use mantissa_numerics::nvidia::marlin::{Marlin, launches};
/// let shape = Marlin { m: 9, n: 4096, k: 1024, group: Some(128), multiprocessors: 132 };
/// let few = &launches(shape)[0];
/// assert_eq!((few.tile, few.warps), ([16, 64], 4));
/// assert_eq!(few.cuts(0, 0), [0..512, 512..1024]);
/// let rows = |m| launches(Marlin { m, ..shape }).iter().map(|launch| launch.rows.clone()).collect::<Vec<_>>();
/// assert_eq!(rows(200), [0..192, 192..200]);
/// ```
#[must_use]
pub fn launches(shape: Marlin) -> Vec<Launch> {
    let most = if shape.n <= FEW_OUTPUTS { MORE_BLOCKS } else { BLOCKS };
    let mut launches = Vec::new();
    let mut first = 0;
    while first < shape.m {
        let rest = shape.m - first;
        let rows = if rest >= ROWS { (rest / ROWS).min(most) * ROWS } else { rest };
        let blocks = rows.div_ceil(STEP).min(ROWS / STEP);
        let Some(tile) = Tile::of(shape, rows, blocks) else { return Vec::new() };
        let of_tile = if rows <= 8 { 8 } else { blocks * STEP };
        // What is not a whole tile is a launch of its own.
        let down = (rows / of_tile).max(1);
        launches.push(launch(shape, first..first + rows, [of_tile, down], tile, shape.multiprocessors));
        first += rows;
    }
    launches
}

fn launch(
    shape: Marlin,
    rows: Range<usize>,
    [of_tile, down]: [usize; 2],
    tile: Tile,
    blocks: usize,
) -> Launch {
    let (across, depth) = (shape.n / tile.outputs, shape.k / tile.depth);
    let group = shape.group.filter(|group| *group < shape.k).unwrap_or(0);
    let cuts = stripes(down * across, depth, group / tile.depth, blocks);
    let in_elements = |part: Range<usize>| part.start * tile.depth..part.end * tile.depth;
    let cuts = cuts.into_iter().map(|parts| parts.into_iter().map(in_elements).collect()).collect();
    Launch::new(rows, [of_tile, tile.outputs], PartOrder::Descending, tile.depth / 32, across, cuts)
}

/// Where the `depth` tiles of `K` of each of `tiles` are cut among `blocks`, each of which has whole groups of `group`
/// of them.
pub(super) fn stripes(tiles: usize, depth: usize, group: usize, blocks: usize) -> Vec<Vec<Range<usize>>> {
    let mut dealt = tiles;
    if tiles > blocks {
        dealt = tiles % blocks;
        if dealt * 3 <= blocks {
            dealt += blocks;
        }
    }
    let each = (depth * dealt).div_ceil(blocks).next_multiple_of(group.max(1));
    let cut = |number: usize| {
        let from = number * depth;
        let inside = (from / each + 1..).map(|stripe| stripe * each - from);
        let ends = inside.take_while(|end| *end < depth).chain([depth]);
        ends.scan(0, |start, end| Some(std::mem::replace(start, end)..end)).collect()
    };
    let whole = (dealt..tiles).map(|_| std::iter::once(0..depth).collect());
    whole.chain((0..dealt).map(cut)).collect()
}
