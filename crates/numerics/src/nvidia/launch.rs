//! How a launch of a kernel with packed weights cuts a product: tiles of outputs, and for each the parts of `K` that
//! different blocks of threads sum.
//!
//! Left out: how cuts are chosen ([`machete`](super::machete), [`marlin`](super::marlin)).

use std::ops::Range;

use super::bnb::flushed;

/// Neighbours of `K` that a warp of Marlin takes of a tile: two steps of 16.
const WARP: usize = 32;

/// How the parts of a sum are put together.
///
/// ```
/// use mantissa_numerics::nvidia::launch::PartOrder;
/// // Beside 2^24 a single 1 is lost: it counts which parts meet first.
/// let parts = [16_777_216.0, 1.0, 1.0];
/// assert_eq!(PartOrder::Ascending.sum(&parts), 16_777_216.0);
/// assert_eq!(PartOrder::Descending.sum(&parts), 16_777_218.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PartOrder {
    /// CUTLASS' stream-K: the part of the lowest `K` is stored, the next ones are added to it by `red.add`, which
    /// flushes subnormals, and the last adds what is stored to its own.
    Ascending,
    /// Marlin: the part of the highest `K` is stored, and each before it adds what is stored to its own.
    Descending,
}

impl PartOrder {
    /// The sum of parts, given in ascending order of `K`; 0 of none.
    #[must_use]
    pub fn sum(self, parts: &[f32]) -> f32 {
        match (self, parts) {
            (_, []) => 0.0,
            (_, [one]) => *one,
            (Self::Ascending, [first, middle @ .., last]) => {
                last + middle.iter().fold(*first, |sum, part| flushed(flushed(sum) + flushed(*part)))
            }
            (Self::Descending, [parts @ .., last]) => parts.iter().rev().fold(*last, |sum, part| part + sum),
        }
    }
}

/// One launch over some rows of a product.
///
/// Example: [`machete::launch`](super::machete::launch), [`marlin::launches`](super::marlin::launches).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Rows of the input.
    pub rows: Range<usize>,
    /// Rows and outputs of a tile.
    pub tile: [usize; 2],
    /// How parts are put together.
    pub order: PartOrder,
    /// Warps that share each part: 1, 2 or 4.
    pub warps: usize,
    /// Tiles along the outputs.
    across: usize,
    /// Cuts of each tile, tiles of the first rows first.
    cuts: Vec<Vec<Range<usize>>>,
}

impl Launch {
    pub(super) fn new(
        rows: Range<usize>,
        tile: [usize; 2],
        order: PartOrder,
        warps: usize,
        across: usize,
        cuts: Vec<Vec<Range<usize>>>,
    ) -> Self {
        Self { rows, tile, order, warps, across, cuts }
    }

    /// The parts of `K` of an output, ascending: of a row of the product's input and an output of all it has.
    ///
    /// # Panics
    /// When the launch has not that row, or no tile with that output.
    #[must_use]
    pub fn cuts(&self, row: usize, output: usize) -> &[Range<usize>] {
        assert!(self.rows.contains(&row), "a row of this launch");
        let [rows, outputs] = self.tile;
        &self.cuts[(row - self.rows.start) / rows * self.across + output / outputs]
    }

    /// Where element `k` of a row of `length` stands once warps' elements are put together, those of the first warp
    /// first: then every warp's part of a cut is a range, [`Self::part`].
    ///
    /// *Shape:* with more warps than one `length` is a multiple of `32 · warps`.
    #[must_use]
    pub const fn place(&self, length: usize, k: usize) -> usize {
        if self.warps == 1 {
            return k;
        }
        let (tile, warp) = (k / (WARP * self.warps), k / WARP % self.warps);
        warp * (length / self.warps) + tile * WARP + k % WARP
    }

    /// A row whose elements are where [`Self::place`] says.
    ///
    /// ```
    /// use mantissa_numerics::nvidia::marlin::{Marlin, launches};
    /// let shape = Marlin { m: 1, n: 64, k: 256, group: Some(128), multiprocessors: 132 };
    /// let launch = &launches(shape)[0];
    /// let row: Vec<usize> = (0..256).collect();
    /// let laid = launch.laid(&row);
    /// assert!(row.iter().all(|k| laid[launch.place(256, *k)] == *k));
    /// ```
    #[must_use]
    pub fn laid<T: Copy>(&self, row: &[T]) -> Vec<T> {
        if self.warps == 1 {
            return row.to_vec();
        }
        let mut laid = Vec::with_capacity(row.len());
        for warp in 0..self.warps {
            for tile in row.chunks_exact(WARP * self.warps) {
                laid.extend_from_slice(&tile[WARP * warp..][..WARP]);
            }
        }
        laid
    }

    /// The places ([`Self::place`]) of a warp's part of `cut`.
    #[must_use]
    pub const fn part(&self, length: usize, cut: &Range<usize>, warp: usize) -> Range<usize> {
        let first = warp * (length / self.warps);
        first + cut.start / self.warps..first + cut.end / self.warps
    }

    /// What warps of a part have together: `w0 + w1`, or `w0 + (w1 + (w3 + w2))`.
    #[must_use]
    pub fn of_warps(sums: &[f32]) -> f32 {
        match *sums {
            [a, b] => a + b,
            [a, b, c, d] => a + (b + (d + c)),
            _ => sums.first().copied().unwrap_or_default(),
        }
    }

    /// One output: `chain` sums elements of `K` at some places, one step of a tensor core after the other from `+0`.
    ///
    /// ```
    /// use mantissa_numerics::nvidia::marlin::{Marlin, launches};
    /// let shape = Marlin { m: 1, n: 64, k: 256, group: Some(128), multiprocessors: 132 };
    /// let launch = &launches(shape)[0];
    /// // Two blocks, and four warps in each, of which one takes 32 neighbours.
    /// let mut seen = Vec::new();
    /// launch.sum(256, 0, 0, |places| { seen.push(places.len()); 0.0 });
    /// assert_eq!(seen, [32; 8]);
    /// ```
    pub fn sum(
        &self,
        length: usize,
        row: usize,
        output: usize,
        mut chain: impl FnMut(Range<usize>) -> f32,
    ) -> f32 {
        let mut of_cut = |cut: &Range<usize>| {
            let sums: Vec<f32> = (0..self.warps).map(|warp| chain(self.part(length, cut, warp))).collect();
            Self::of_warps(&sums)
        };
        let parts: Vec<f32> = self.cuts(row, output).iter().map(&mut of_cut).collect();
        self.order.sum(&parts)
    }
}
