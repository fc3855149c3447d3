//! The order of the sums of Marlin's product of a step's tokens with their experts, as far as it is known before they
//! chose.

use std::num::NonZeroU32;

use super::packed::PackedRanks;
use crate::Dtype;
use crate::nvidia::launch::Launch;
use crate::nvidia::marlin_experts::{self, MarlinExperts};
use crate::tensor_core::BlockRecipe;

/// The sum of a product of tokens with weights of 4 bits of the experts that they chose: steps of a tensor core over
/// parts of `K`, which the place of the expert among all that the step's tokens chose says, beside that of the output.
///
/// *Source:* [`nvidia::marlin_experts`](crate::nvidia::marlin_experts), in groups of
/// [`GROUP`](crate::nvidia::marlin_experts::GROUP).
///
/// ```
/// use mantissa_numerics::recipe::{PackedExperts, PackedRanks};
/// use mantissa_numerics::tensor_core::{Architecture, Operand};
/// let block = Architecture::Hopper.block(Operand::Bf16).unwrap();
/// let up = PackedExperts {
///     block, tokens: 1, top: 8, experts: 128, of_rank: None, outputs: 1536, first: 768, zeros: true,
///     multiprocessors: 132, ranks: PackedRanks::One,
/// };
/// // A token's eight experts have a block each; neighbouring tiles of outputs are cut in different places.
/// let launch = up.launch(2048, 8).unwrap();
/// assert_eq!(up.rows(), 8);
/// assert_ne!(launch.cuts(7 * 8, 768), launch.cuts(7 * 8, 832));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PackedExperts {
    /// One step of a tensor core.
    pub block: BlockRecipe,
    /// Tokens of the step.
    pub tokens: u32,
    /// Experts that each of them chooses.
    pub top: u32,
    /// Of how many.
    pub experts: u32,
    /// How many of them a rank has whole, in order; `None` where it has all.
    pub of_rank: Option<NonZeroU32>,
    /// Outputs of an expert's weights that are put together, on a rank.
    pub outputs: u32,
    /// Which of them is this weight's first.
    pub first: u32,
    /// Whether groups have zero points: it counts for the kernel's registers.
    pub zeros: bool,
    /// Multiprocessors of the GPU.
    pub multiprocessors: u32,
    /// How an expert's weight is divided.
    pub ranks: PackedRanks,
}

impl PackedExperts {
    /// Rows of a block of tokens.
    ///
    /// Example: [`Self`].
    #[must_use]
    pub fn rows(self) -> usize {
        marlin_experts::block_rows(self.tokens as usize, self.top as usize, self.of_rank() as usize)
    }

    /// Experts that a rank has.
    #[must_use]
    pub fn of_rank(self) -> u32 {
        self.of_rank.map_or(self.experts, NonZeroU32::get)
    }

    /// Pairs of the step, token by token, in the order in which those of one expert are put into its blocks; `None`
    /// where atomic additions decide it ([`marlin_experts::lined_up`]).
    #[must_use]
    pub fn lined_up(self) -> Option<Vec<usize>> {
        marlin_experts::lined_up(self.tokens as usize * self.top as usize, self.experts as usize)
    }

    /// The launch of a rank where sums are of length `k` and the step's tokens chose experts of its own that fill
    /// `blocks` blocks; `None` where the weight has no whole tiles.
    ///
    /// Example: [`Self`].
    #[must_use]
    pub fn launch(self, k: usize, blocks: usize) -> Option<Launch> {
        marlin_experts::launch(MarlinExperts {
            pairs: self.tokens as usize * self.top as usize,
            rows: self.rows(),
            blocks,
            n: self.outputs as usize,
            k,
            zeros: self.zeros,
            format: self.block.operand.dtype().unwrap_or(Dtype::Bf16),
            multiprocessors: self.multiprocessors as usize,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use crate::recipe::{KernelRecipe, LinearSum, PackedRanks};

    #[test]
    fn evidence_states_it_whole() {
        let json = r#"{"kernel":"expert_sum","output":"bf16","sums":4,"rounded_weights":true}"#;
        let found: KernelRecipe = serde_json::from_str(json).expect("a recipe");
        assert!(matches!(found, KernelRecipe::ExpertSum(sum) if sum.rounded_weights));
        assert_eq!(serde_json::to_string(&found).expect("JSON"), json);
        let block = crate::tensor_core::Architecture::Hopper.block(crate::tensor_core::Operand::Bf16);
        let sum = super::PackedExperts {
            block: block.expect("bf16"),
            tokens: 9,
            top: 8,
            experts: 128,
            of_rank: NonZeroU32::new(64),
            outputs: 768,
            first: 384,
            zeros: true,
            multiprocessors: 132,
            ranks: PackedRanks::Outputs { of_rank: NonZeroU32::new(384).expect("some"), skipped: 3 },
        };
        let wire = crate::recipe::wire::Summation::from(LinearSum::PackedExperts(sum));
        assert_eq!(LinearSum::try_from(wire), Ok(LinearSum::PackedExperts(sum)));
        for refused in [
            super::PackedExperts { top: 129, ..sum },
            super::PackedExperts { tokens: 0, ..sum },
            super::PackedExperts { first: 768, ..sum },
            super::PackedExperts { of_rank: NonZeroU32::new(48), ..sum },
            super::PackedExperts { outputs: 767, ..sum },
            super::PackedExperts { ranks: PackedRanks::SideBySide(std::num::NonZeroU16::MIN), ..sum },
        ] {
            let wire = crate::recipe::wire::Summation::from(LinearSum::PackedExperts(refused));
            assert!(LinearSum::try_from(wire).is_err(), "{refused:?}");
        }
    }
}
