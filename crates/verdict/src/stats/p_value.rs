//! A p-value as the fraction of counts that it is.

use std::cmp::Ordering;

use super::special::real;

/// A p-value: `at_least` of `of` equally likely arrangements score as high as what was seen, itself included.
///
/// Kept as two counts, because "p ≤ 0.01" is decided at equality (1 of 100), where a rounded product would decide by
/// chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PValue {
    at_least: u64,
    of: u64,
    least: u64,
    sampled: bool,
}

impl PValue {
    pub(super) const fn counted(at_least: u64, of: u64, least: u64) -> Self {
        Self { at_least, of, least, sampled: false }
    }

    pub(super) const fn sampled(at_least: u64, of: u64) -> Self {
        Self { at_least, of, least: 1, sampled: true }
    }

    /// The p-value, above 0 and at most 1. *Rounding:* one division of two counts, to nearest.
    #[must_use]
    pub fn value(self) -> f64 {
        real(self.at_least) / real(self.of)
    }

    /// The smallest p-value that any data of this shape could give; a level below it can never be reached.
    ///
    /// ```
    /// use mantissa_verdict::stats::conformal_p;
    ///
    /// // However strange a score is, 18 honest units are too few for 0.05.
    /// assert!(conformal_p(1e9, &[1.0; 18])?.smallest_possible() > 0.05);
    /// assert!(conformal_p(1e9, &[1.0; 19])?.smallest_possible() <= 0.05);
    /// # Ok::<(), mantissa_verdict::VerdictError>(())
    /// ```
    #[must_use]
    pub fn smallest_possible(self) -> f64 {
        real(self.least) / real(self.of)
    }

    /// Arrangements that score at least as high, the observed one included.
    #[must_use]
    pub const fn at_least(self) -> u64 {
        self.at_least
    }

    /// Arrangements counted.
    #[must_use]
    pub const fn of(self) -> u64 {
        self.of
    }

    /// Whether arrangements were drawn (seeded) instead of all being visited.
    #[must_use]
    pub const fn is_sampled(self) -> bool {
        self.sampled
    }

    /// `factor · p / divisor`, at most 1. *Rounding:* one division, since the product of counts is exact below 2⁵³.
    pub(super) fn scaled(self, factor: usize, divisor: usize) -> f64 {
        let numerator = u128::from(self.at_least) * factor as u128;
        let denominator = u128::from(self.of) * divisor as u128;
        if numerator >= denominator { 1.0 } else { wide(numerator) / wide(denominator) }
    }

    /// The smallest p-value that data of this shape could give.
    pub(super) const fn at_its_smallest(self) -> Self {
        Self { at_least: self.least, ..self }
    }

    /// By size, exactly.
    pub(super) fn compare(self, other: Self) -> Ordering {
        (u128::from(self.at_least) * u128::from(other.of))
            .cmp(&(u128::from(other.at_least) * u128::from(self.of)))
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact below 2^53, to nearest above: 2^33 units times 2^20 candidates"
)]
fn wide(count: u128) -> f64 {
    count as f64
}
