//! Products with packed weights: how a weight is divided among ranks, and what is refused.

use std::num::{NonZeroU16, NonZeroU32};

use super::checked::{NO_PARTS, all_reduce, ensure};
use super::divided_weight::DividedWeight;
use crate::recipe::{LinearSum, PackedExperts, PackedKernel, PackedRanks, PackedSum, RankOrder, RecipeError};
use crate::tensor_core::BlockRecipe;

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

/// An error unless a rank's outputs, of which the first is at `first`, are among `outputs`.
fn fits(ranks: PackedRanks, first: u32, outputs: u32) -> Result<(), RecipeError> {
    let fits = match ranks {
        PackedRanks::Outputs { of_rank, .. } => {
            first.checked_add(of_rank.get()).is_some_and(|end| end <= outputs)
        }
        _ => true,
    };
    ensure(fits, "a rank's outputs are among those that are joined")
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
    fits(ranks, shape[2], shape[1])?;
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
    fits(sum.ranks, first, outputs)?;
    ensure(experts.is_multiple_of(sum.of_rank()), "ranks have equally many experts")?;
    ensure(!matches!(sum.ranks, PackedRanks::Added(_)), "ranks are added after the sum over experts")?;
    Ok(LinearSum::PackedExperts(sum))
}
