//! What a difference is, from harmless to not.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a difference is.
///
/// ```
/// use mantissa_verdict::drift::DriftAnswer;
///
/// // From harmless to not: the worst of its pairs is a site's answer.
/// assert!(DriftAnswer::Equal < DriftAnswer::Explained && DriftAnswer::WithinRounding < DriftAnswer::Unexplained);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DriftAnswer {
    /// The same bits.
    Equal,
    /// Recomputed from their own inputs by recipes that are named, both sides are equal to the bit.
    Explained,
    /// The recipe is not known. Recomputed from its inputs the row lies inside the bound of any order of sums, and
    /// inside what an ensemble of orders spreads over.
    WithinRounding,
    /// The inputs that it takes to recompute the row were not recorded.
    NotLocalized,
    /// Neither a recipe nor rounding.
    Unexplained,
}

impl DriftAnswer {
    /// In words.
    ///
    /// ```
    /// assert_eq!(mantissa_verdict::drift::DriftAnswer::NotLocalized.words(), "cannot be localized");
    /// ```
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Explained => "explained",
            Self::WithinRounding => "within rounding, not proven",
            Self::NotLocalized => "cannot be localized",
            Self::Unexplained => "unexplained",
        }
    }
}
