//! Whether a deviation is no more than what orders of sums spread over.
//!
//! An ensemble of recipes computes the same rows from the same inputs. Squared distances of its members from one of
//! them are what another order leaves. A deviation is one draw more of that kind, or it is not: Bernstein's inequality
//! bounds how far the sum of rows exceeds its mean where each row is at most as large as the largest that was seen.

use crate::analysis::Threshold;
use crate::thresholds::threshold;

/// The probability that one honest site, or one honest row, exceeds its spread.
pub const FALSE_ALARM: f64 = 1e-9;

/// What another order of sums does to the rows of a site.
///
/// ```
/// use mantissa_verdict::drift::Spread;
///
/// // Two rows, squared distances of three members each.
/// let spread = Spread::of(&[vec![1.0, 0.5, 0.0], vec![2.0, 1.0, 1.0]], 100.0, 1.0);
/// assert!(spread.rows > 2.0_f64.sqrt() && spread.site > 3.0_f64.sqrt());
/// // Twice the rows need not differ twice as far from each other.
/// let twice = Spread::of(&vec![vec![1.0, 1.0]; 200], 100.0, 1.0);
/// let once = Spread::of(&vec![vec![1.0, 1.0]; 50], 100.0, 1.0);
/// assert!(twice.site < 2.0 * once.site);
/// // An effect below what is stated may be missed.
/// assert!(spread.smallest > spread.site / 100.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The largest distance of one row that is explained.
    pub rows: f64,
    /// The largest distance of all rows together that is explained.
    pub site: f64,
    /// The smallest effect on all rows that is found, as a share of their length: what exceeds `site` whatever the
    /// order of sums takes away from it.
    pub smallest: f64,
    /// The largest distance of one row that a member has.
    pub seen: f64,
}

impl Spread {
    /// From the squared distances of an ensemble's members, row by row. `length` is the Euclidean length of all rows
    /// together, `unit` the square of the smallest step of an element: rounding one to its neighbour.
    ///
    /// *Source:* Bernstein's inequality for sums of independent bounded terms `0 ≤ x ≤ b` of mean `m`, whose variance
    /// is at most `b·m`: `P(sum ≥ n·m + t) ≤ exp(−t² / (2(n·b·m + b·t/3)))`.
    #[must_use]
    pub fn of(rows: &[Vec<f64>], length: f64, unit: f64) -> Self {
        let members = rows.iter().map(Vec::len).max().unwrap_or(0);
        let largest = rows.iter().flatten().copied().fold(unit, f64::max);
        let of_member =
            |member: usize| rows.iter().map(|row| row.get(member).copied().unwrap_or(0.0)).sum::<f64>();
        let whole = (0..members).map(of_member).fold(unit, f64::max);
        let site = tail(whole, largest).sqrt();
        Self {
            rows: tail(largest, largest).sqrt(),
            site,
            smallest: if length > 0.0 { (site + whole.sqrt()) / length } else { f64::INFINITY },
            seen: largest.sqrt(),
        }
    }
}

/// What a sum of mean `mean` whose terms are at most `largest` exceeds with probability [`FALSE_ALARM`].
fn tail(mean: f64, largest: f64) -> f64 {
    let third = largest * -FALSE_ALARM.ln() / 3.0;
    mean + third + (third * third + 6.0 * third * mean).sqrt()
}

/// [`FALSE_ALARM`] as a threshold.
///
/// ```
/// assert_eq!(mantissa_verdict::drift::false_alarm().value, mantissa_verdict::drift::FALSE_ALARM);
/// ```
#[must_use]
pub fn false_alarm() -> Threshold {
    threshold(
        "drift_false_alarm",
        FALSE_ALARM,
        "probability that an honest order of sums leaves one site or row outside its spread",
        "a report of 100,000 rows is then wrong once in 10,000 times; Bernstein's inequality",
    )
}
