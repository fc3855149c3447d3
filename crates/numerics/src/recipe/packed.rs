//! Orders of the sums of vLLM's products with packed weights, which differ from tile to tile.

use std::num::{NonZeroU16, NonZeroU32};
use std::ops::Range;

use super::collective::AllReduceSum;
use crate::nvidia::launch::Launch;
use crate::nvidia::machete::{self, Machete};
use crate::nvidia::marlin::{self, Marlin};
use crate::tensor_core::BlockRecipe;

/// Rows of a step of a tensor core.
const STEP: u32 = 16;
/// Rows of Marlin's largest tile: what is less is a launch of its own.
const TILE: u32 = 64;

/// A kernel with weights of 4 bits.
///
/// ```
/// use mantissa_numerics::Dtype::Bf16;
/// use mantissa_numerics::recipe::PackedKernel;
/// let marlin = PackedKernel::Marlin { group: 128.try_into().unwrap() };
/// let of = |zero| [PackedKernel::Machete, marlin].map(|kernel| kernel.weight(Bf16, 11, zero, 0.010_009_766));
/// // Without zero points they multiply by the same weights, with them by others.
/// assert_eq!(of(None)[0], of(None)[1]);
/// assert_ne!(of(Some(7))[0], of(Some(7))[1]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PackedKernel {
    /// [`nvidia::machete`](crate::nvidia::machete).
    Machete,
    /// [`nvidia::marlin`](crate::nvidia::marlin).
    Marlin {
        /// Elements that share a scale: stripes are whole groups.
        group: NonZeroU32,
    },
}

impl PackedKernel {
    /// What it multiplies by: an integer of 4 bits, around 8 where there is no zero point.
    #[must_use]
    pub fn weight(self, dtype: crate::Dtype, q: u8, zero: Option<u8>, scale: f32) -> f32 {
        match self {
            Self::Machete => machete::weight(dtype, q, zero, scale),
            Self::Marlin { .. } => marlin::weight(dtype, q, zero.unwrap_or(8), scale),
        }
    }
}

/// How a packed weight is divided among tensor-parallel ranks.
///
/// ```
/// use mantissa_numerics::recipe::PackedRanks;
/// // 40 outputs of two ranks, joined behind 100 others of each: both have them at places 100 to 119.
/// let two = PackedRanks::Outputs { of_rank: 20.try_into().unwrap(), skipped: 0 };
/// assert_eq!(two.runs(100, 40), [(0..20, 100), (20..40, 100)]);
/// assert_eq!(two.from_output(15).runs(100, 10), [(0..5, 115), (5..10, 100)]);
/// assert_eq!(PackedRanks::One.runs(100, 40), [(0..40, 100)]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PackedRanks {
    /// There is one.
    #[default]
    One,
    /// Each has outputs of its own, in order, joined with its part of the other weights.
    Outputs {
        /// Outputs of this weight that a rank has.
        of_rank: NonZeroU32,
        /// How many outputs before the first one are left out.
        skipped: u32,
    },
    /// Each has an equal part of `K`; their sums are rounded and added.
    Added(AllReduceSum),
    /// The same, but sums stand side by side, those of rank 0 first: an expert's, whose parts meet after the sum over
    /// experts.
    SideBySide(NonZeroU16),
}

impl PackedRanks {
    /// Equal parts of `K`.
    #[must_use]
    pub fn parts_of_k(self) -> usize {
        match self {
            Self::One | Self::Outputs { .. } => 1,
            Self::Added(reduce) => reduce.ranks().into(),
            Self::SideBySide(ranks) => ranks.get().into(),
        }
    }

    /// Sums that a product shows of each output.
    #[must_use]
    pub fn shown(self) -> usize {
        if matches!(self, Self::SideBySide(_)) { self.parts_of_k() } else { 1 }
    }

    /// The same of the outputs from `output` on.
    #[must_use]
    pub fn from_output(self, output: u32) -> Self {
        match self {
            Self::Outputs { of_rank, skipped } => {
                Self::Outputs { of_rank, skipped: skipped.saturating_add(output) }
            }
            other => other,
        }
    }

    /// The first `count` outputs in runs, and the place of each run's first among what is joined, where the weight's
    /// first is at `first`.
    #[must_use]
    pub fn runs(self, first: usize, count: usize) -> Vec<(Range<usize>, usize)> {
        let Self::Outputs { of_rank, skipped } = self else { return vec![(0..count, first)] };
        let (of_rank, skipped) = (of_rank.get() as usize, skipped as usize);
        let mut runs = Vec::new();
        let mut start = 0;
        while start < count {
            let within = (skipped + start) % of_rank;
            let end = count.min(start + of_rank - within);
            runs.push((start..end, first + within));
            start = end;
        }
        runs
    }
}

/// The sum of a product with packed weights: steps of a tensor core over parts of `K`, which the place of the output
/// says.
///
/// *Source:* [`nvidia::launch`](crate::nvidia::launch).
///
/// ```
/// use mantissa_numerics::recipe::{PackedKernel, PackedSum};
/// use mantissa_numerics::tensor_core::{Architecture, Operand};
/// let block = Architecture::Hopper.block(Operand::Bf16).unwrap();
/// let of = |rows| PackedSum::new(PackedKernel::Machete, block, [rows, 4096, 0], 132);
/// // Rows of the same tile are computed alike.
/// assert_eq!(of(1), of(16));
/// assert_eq!(of(9).launches(1024)[0].cuts(0, 4095), [0..512, 512..1024]);
/// // What is asked of output 100 alone is that of the whole product.
/// assert_eq!(of(9).from_output(100).shape(), [16, 4096, 100]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PackedSum {
    kernel: PackedKernel,
    block: BlockRecipe,
    rows: u32,
    outputs: u32,
    first: u32,
    multiprocessors: u32,
    ranks: PackedRanks,
}

impl PackedSum {
    /// Of a product of `rows` rows with weights of `outputs` outputs that are put together, of which this weight's
    /// begin at `first`, on one rank. Rows count as whole steps where more of the same step change nothing.
    #[must_use]
    pub fn new(
        kernel: PackedKernel,
        block: BlockRecipe,
        [rows, outputs, first]: [u32; 3],
        multiprocessors: u32,
    ) -> Self {
        let rows = rows.max(1);
        let up = |to: u32| rows.next_multiple_of(to);
        let rows = match kernel {
            // Whatever the length is: tiles of more rows are of more rows alone.
            PackedKernel::Machete if rows > 128 => up(64),
            PackedKernel::Machete if rows > 16 && rows <= 32 => up(32),
            // Behind whole tiles 49 to 63 rows are launched alone, 64 with the others.
            PackedKernel::Marlin { .. } if rows > TILE && up(STEP) % TILE == 0 && rows % TILE != 0 => {
                up(STEP) - 1
            }
            PackedKernel::Machete | PackedKernel::Marlin { .. } => up(STEP),
        };
        Self { kernel, block, rows, outputs, first, multiprocessors, ranks: PackedRanks::One }
    }

    /// The same on ranks: outputs are those of a rank.
    #[must_use]
    pub const fn among(self, ranks: PackedRanks) -> Self {
        Self { ranks, ..self }
    }

    /// How the weight is divided.
    #[must_use]
    pub const fn ranks(self) -> PackedRanks {
        self.ranks
    }

    /// The kernel.
    #[must_use]
    pub const fn kernel(self) -> PackedKernel {
        self.kernel
    }

    /// One step.
    #[must_use]
    pub const fn block(self) -> BlockRecipe {
        self.block
    }

    /// Rows, in whole steps, outputs of all weights together, and which of these is this weight's first.
    #[must_use]
    pub const fn shape(self) -> [u32; 3] {
        [self.rows, self.outputs, self.first]
    }

    /// Multiprocessors of the GPU.
    #[must_use]
    pub const fn multiprocessors(self) -> u32 {
        self.multiprocessors
    }

    /// The same of the outputs from `output` on.
    #[must_use]
    pub fn from_output(self, output: usize) -> Self {
        let output = u32::try_from(output).unwrap_or(u32::MAX);
        match self.ranks {
            PackedRanks::Outputs { .. } => Self { ranks: self.ranks.from_output(output), ..self },
            _ => Self { first: self.first.saturating_add(output), ..self },
        }
    }

    /// The launches of a rank whose sums are of length `k`.
    #[must_use]
    pub fn launches(self, k: usize) -> Vec<Launch> {
        let [m, n, multiprocessors] = [self.rows, self.outputs, self.multiprocessors].map(|x| x as usize);
        match self.kernel {
            PackedKernel::Machete => vec![machete::launch(Machete { m, n, k, multiprocessors })],
            PackedKernel::Marlin { group } => {
                let group = Some(group.get() as usize);
                marlin::launches(Marlin { m, n, k, group, multiprocessors })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor_core::{Architecture, Operand};

    #[test]
    fn rounded_rows_are_launched_as_those_that_were_asked_for() {
        let block = Architecture::Hopper.block(Operand::Bf16).expect("bf16");
        let group = NonZeroU32::new(128).expect("not 0");
        // Sums that are cut at other places in each row of tiles, and outputs that make Marlin launch more often.
        for [n, k] in [[1024_u32, 2048], [1024, 3072], [2048, 8192], [6144, 1024], [640, 18944]] {
            let (outputs, length) = (n as usize, k as usize);
            for rows in (1..=400).chain(1281..1345).chain([2047, 2997, 8191]) {
                let m = rows as usize;
                let asked = marlin::launches(Marlin {
                    m,
                    n: outputs,
                    k: length,
                    group: Some(128),
                    multiprocessors: 132,
                });
                let machete = machete::launch(Machete { m, n: outputs, k: length, multiprocessors: 132 });
                for (kernel, asked) in
                    [(PackedKernel::Marlin { group }, asked), (PackedKernel::Machete, vec![machete])]
                {
                    let found = PackedSum::new(kernel, block, [rows, n, 0], 132).launches(length);
                    assert_eq!(asked.len(), found.len(), "{kernel:?} {rows} {n} {k}");
                    for (asked, found) in asked.iter().zip(&found) {
                        assert_eq!((asked.warps, asked.rows.start), (found.warps, found.rows.start));
                        for row in asked.rows.clone() {
                            for output in (0..outputs).step_by(64) {
                                let (asked, found) = (asked.cuts(row, output), found.cuts(row, output));
                                assert_eq!(
                                    asked, found,
                                    "{kernel:?} {rows} {n} {k}: row {row}, output {output}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}
