//! Products with packed weights: how a weight is divided among ranks, and what is refused.

use std::num::{NonZeroU16, NonZeroU32};

use serde::{Deserialize, Serialize};

use super::checked::{NO_PARTS, all_reduce, ensure};
use crate::recipe::{LinearSum, PackedExperts, PackedKernel, PackedRanks, PackedSum, RankOrder, RecipeError};
use crate::tensor_core::BlockRecipe;

/// How a weight of 4 bits is divided among tensor-parallel ranks.
///
/// Example: [`super::PackedRanks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum DividedWeight {
    /// Each rank has outputs of its own.
    Outputs {
        /// Outputs of this weight that a rank has.
        of_rank: u32,
        /// How many outputs before the first one are left out.
        #[serde(default, skip_serializing_if = "super::is_zero")]
        skipped: u32,
    },
    /// Each rank has an equal part of `K`; sums are rounded to the product's format and added.
    Added {
        /// Ranks, 2 to 8.
        ranks: u16,
        /// How ranks' sums are added.
        reduce: RankOrder,
    },
    /// The same without the sum: each rank's sums stand side by side. An expert's.
    SideBySide {
        /// Ranks, 2 to 8.
        ranks: u16,
    },
}

impl From<PackedRanks> for Option<DividedWeight> {
    fn from(ranks: PackedRanks) -> Self {
        match ranks {
            PackedRanks::One => None,
            PackedRanks::Outputs { of_rank, skipped } => {
                Some(DividedWeight::Outputs { of_rank: of_rank.get(), skipped })
            }
            PackedRanks::Added(reduce) => {
                Some(DividedWeight::Added { ranks: reduce.ranks(), reduce: reduce.order() })
            }
            PackedRanks::SideBySide(ranks) => Some(DividedWeight::SideBySide { ranks: ranks.get() }),
        }
    }
}

pub(super) fn divided(weight: Option<DividedWeight>) -> Result<PackedRanks, RecipeError> {
    Ok(match weight {
        None => PackedRanks::One,
        Some(DividedWeight::Outputs { of_rank, skipped }) => {
            let of_rank = NonZeroU32::new(of_rank).ok_or(RecipeError("a rank has outputs"))?;
            PackedRanks::Outputs { of_rank, skipped }
        }
        Some(DividedWeight::Added { ranks, reduce }) => PackedRanks::Added(all_reduce(ranks, reduce)?),
        Some(DividedWeight::SideBySide { ranks }) => {
            all_reduce(ranks, RankOrder::Once)?;
            PackedRanks::SideBySide(NonZeroU16::new(ranks).ok_or(NO_PARTS)?)
        }
    })
}

/// A sum with packed weights, as [`PackedSum::new`] makes it.
pub(super) fn packed(
    kernel: PackedKernel,
    block: BlockRecipe,
    shape: [u32; 3],
    multiprocessors: u32,
    weight: Option<DividedWeight>,
) -> Result<LinearSum, RecipeError> {
    let ranks = divided(weight)?;
    ensure(!matches!(ranks, PackedRanks::SideBySide(_)), "only sums of experts stand side by side")?;
    let sum = PackedSum::new(kernel, block, shape, multiprocessors).among(ranks);
    ensure(sum.shape() == shape, "rows of packed products are whole tiles")?;
    ensure(multiprocessors > 0 && shape[2] < shape[1], "a product has outputs and multiprocessors")?;
    Ok(LinearSum::Packed(sum))
}

/// A sum with packed weights of experts.
pub(super) fn packed_experts(sum: PackedExperts) -> Result<LinearSum, RecipeError> {
    let PackedExperts { tokens, top, experts, outputs, first, multiprocessors, .. } = sum;
    ensure(
        tokens > 0 && top > 0 && top <= experts && multiprocessors > 0,
        "experts are chosen, by tokens, on multiprocessors",
    )?;
    ensure(first < outputs, "a product has outputs")?;
    ensure(experts.is_multiple_of(sum.of_rank()), "ranks have equally many experts")?;
    ensure(!matches!(sum.ranks, PackedRanks::Added(_)), "ranks are added after the sum over experts")?;
    Ok(LinearSum::PackedExperts(sum))
}
