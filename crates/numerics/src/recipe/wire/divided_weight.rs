//! How a weight of 4 bits is divided among ranks, as records have it.

use serde::{Deserialize, Serialize};

use super::super::collective::RankOrder;

/// How a weight of 4 bits is divided among tensor-parallel ranks.
///
/// Example: [`super::super::PackedRanks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum DividedWeight {
    /// Each rank has outputs of its own.
    Outputs {
        /// Outputs of this weight that a rank has.
        of_rank: u32,
        /// How many outputs before the first one are left out.
        #[serde(default, skip_serializing_if = "is_zero")]
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(x: &u32) -> bool {
    *x == 0
}
