//! Sums over pairs of values, the lanes they are added in, and the distance they give.

use crate::facts::Distance;

/// Lanes of every sum.
pub(super) const LANES: usize = 16;

/// Sums over pairs of values: of a row, or of rows in order.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Sums {
    /// Pairs.
    pub(crate) values: u64,
    /// Pairs whose bits differ.
    pub(crate) different: u64,
    /// Pairs with a NaN or an infinity, which the sums below leave out.
    pub(crate) left_out: u64,
    /// Of those, pairs whose bits differ.
    pub(crate) non_finite: u64,
    /// Of those, pairs with a NaN.
    pub(crate) with_nan: u64,
    /// Largest distance in representable values over pairs without a NaN.
    pub(crate) max_ulps: u32,
    /// Of squared differences.
    pub(crate) squares: f64,
    /// Of absolute differences.
    pub(crate) absolute: f64,
    /// Largest absolute difference.
    pub(crate) max_abs: f64,
    /// Of squares of the first side.
    pub(crate) norm_a: f64,
    /// Of squares of the second side.
    pub(crate) norm_b: f64,
    /// Of products.
    pub(crate) dot: f64,
}

impl Sums {
    /// Adds those of the next row.
    pub(crate) fn add(&mut self, row: &Self) {
        self.values += row.values;
        self.different += row.different;
        self.left_out += row.left_out;
        self.non_finite += row.non_finite;
        self.with_nan += row.with_nan;
        self.max_ulps = self.max_ulps.max(row.max_ulps);
        self.squares += row.squares;
        self.absolute += row.absolute;
        self.max_abs = self.max_abs.max(row.max_abs);
        self.norm_a += row.norm_a;
        self.norm_b += row.norm_b;
        self.dot += row.dot;
    }

    pub(crate) fn distance(&self) -> Distance {
        let finite = self.values - self.left_out;
        // What is left of a row beside a NaN or an infinity says nothing about the row.
        let known = |x: f64| (finite > 0 && self.non_finite == 0).then_some(x);
        let l2 = self.squares.sqrt();
        // The square root of a square is exact, so equal rows have a cosine of exactly 1.
        let norms = (self.norm_a * self.norm_b).sqrt();
        Distance {
            values: self.values,
            different: self.different,
            non_finite: self.non_finite,
            max_ulps: (self.with_nan == 0).then_some(self.max_ulps),
            l2: known(l2),
            max_abs: known(self.max_abs),
            mean_abs: known(self.absolute / count(finite)),
            relative: known(l2 / self.norm_a.sqrt()).filter(|_| self.norm_a > 0.0),
            cosine: known((self.dot / norms).clamp(-1.0, 1.0)).filter(|_| norms > 0.0),
        }
    }
}

/// A count as a divisor.
pub(crate) fn count(n: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "no record holds 2^53 values")]
    let n = n as f64;
    n
}

/// Joins lanes by a tree.
pub(super) fn join(mut lanes: [f64; LANES]) -> f64 {
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0]
}
