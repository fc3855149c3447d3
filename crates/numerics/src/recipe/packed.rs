//! Orders of the sums of vLLM's products with packed weights, which differ from tile to tile.

use std::num::NonZeroU32;

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
}

impl PackedSum {
    /// Of a product of `rows` rows with weights of `outputs` outputs that are put together, of which this weight's
    /// begin at `first`. Rows count as whole steps where more of the same step change nothing.
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
        Self { kernel, block, rows, outputs, first, multiprocessors }
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
        Self { first: self.first.saturating_add(output), ..self }
    }

    /// The launches where sums are of length `k`.
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
