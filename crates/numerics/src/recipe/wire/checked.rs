//! What is refused of recipes that are read, wherever it stands in one.

use crate::recipe::{AllReduceSum, RankOrder, RecipeError};

pub(super) const NO_PARTS: RecipeError = RecipeError("a sum has at least one part");

/// An error unless `holds`.
pub(super) const fn ensure(holds: bool, why: &'static str) -> Result<(), RecipeError> {
    if holds { Ok(()) } else { Err(RecipeError(why)) }
}

/// The all-reduce of ranks in an order.
pub(super) fn all_reduce(ranks: u16, order: RankOrder) -> Result<AllReduceSum, RecipeError> {
    let sum = AllReduceSum::new(ranks, order).ok_or(RecipeError("there are 2 to 8 ranks"))?;
    ensure(sum.order() == order, "of two ranks sums are rounded once")?;
    Ok(sum)
}
