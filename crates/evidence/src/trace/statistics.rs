//! Statistics of rows, in binary64 and in one order.

/// Values of a row are added in so many lanes.
const LANES: usize = 16;

/// Extremes, sums and counts of the rows of a tensor.
///
/// *Order:* within a row, lane `k mod 16` adds element `k`; the lanes are joined by a tree (8 + 8, 4 + 4, 2 + 2,
/// 1 + 1); rows are added in their order. *Rounding:* binary64. A zero has no sign here.
///
/// ```
/// use mantissa_evidence::trace::Statistics;
///
/// let mut found = Statistics::of(&[1.0, f32::NAN, -0.0]);
/// found.add(&Statistics::of(&[-3.0, f32::INFINITY, 0.0]));
/// assert_eq!((found.min(), found.max()), (Some(-3.0), Some(f64::INFINITY)));
/// // What is not finite enters no sum: four values are.
/// assert_eq!((found.mean(), found.abs_sum()), (Some(-0.5), 4.0));
/// assert_eq!((found.nan(), found.inf(), found.nonzero()), (1, 1, 4));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Statistics {
    min: f64,
    max: f64,
    sum: f64,
    abs_sum: f64,
    values: u64,
    nan: u64,
    inf: u64,
    zero: u64,
}

impl Default for Statistics {
    fn default() -> Self {
        let (min, max) = (f64::INFINITY, f64::NEG_INFINITY);
        Self { min, max, sum: 0.0, abs_sum: 0.0, values: 0, nan: 0, inf: 0, zero: 0 }
    }
}

/// Sixteen partial sums and what else a row has.
#[derive(Clone, Copy)]
struct Lanes {
    min: [f32; LANES],
    max: [f32; LANES],
    sum: [f64; LANES],
    abs_sum: [f64; LANES],
    nan: [u32; LANES],
    inf: [u32; LANES],
    zero: [u32; LANES],
}

impl Lanes {
    const EMPTY: Self = Self {
        min: [f32::INFINITY; LANES],
        max: [f32::NEG_INFINITY; LANES],
        sum: [0.0; LANES],
        abs_sum: [0.0; LANES],
        nan: [0; LANES],
        inf: [0; LANES],
        zero: [0; LANES],
    };

    #[inline]
    fn take(&mut self, lane: usize, x: f32) {
        let magnitude = x.to_bits() & 0x7FFF_FFFF;
        // A comparison with NaN is false.
        self.min[lane] = if x < self.min[lane] { x } else { self.min[lane] };
        self.max[lane] = if x > self.max[lane] { x } else { self.max[lane] };
        let finite = if magnitude < 0x7F80_0000 { x } else { 0.0 };
        self.sum[lane] += f64::from(finite);
        self.abs_sum[lane] += f64::from(finite.abs());
        self.nan[lane] += u32::from(magnitude > 0x7F80_0000);
        self.inf[lane] += u32::from(magnitude == 0x7F80_0000);
        self.zero[lane] += u32::from(magnitude == 0);
    }
}

fn joined(mut lanes: [f64; LANES]) -> f64 {
    for width in [8, 4, 2, 1] {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
    }
    lanes[0]
}

fn counted(lanes: [u32; LANES]) -> u64 {
    lanes.into_iter().map(u64::from).sum()
}

impl Statistics {
    /// Of one row.
    #[must_use]
    pub fn of(row: &[f32]) -> Self {
        let mut lanes = Lanes::EMPTY;
        let mut blocks = row.chunks_exact(LANES);
        for block in &mut blocks {
            for (lane, x) in block.iter().enumerate() {
                lanes.take(lane, *x);
            }
        }
        for (lane, x) in blocks.remainder().iter().enumerate() {
            lanes.take(lane, *x);
        }
        // A sum with zero drops the sign of a zero.
        let least =
            |lanes: [f32; LANES]| lanes.into_iter().map(f64::from).fold(f64::INFINITY, f64::min) + 0.0;
        Self {
            min: least(lanes.min),
            max: -least(lanes.max.map(|x| -x)) + 0.0,
            sum: joined(lanes.sum),
            abs_sum: joined(lanes.abs_sum),
            values: row.len() as u64,
            nan: counted(lanes.nan),
            inf: counted(lanes.inf),
            zero: counted(lanes.zero),
        }
    }

    /// Adds the rows that follow.
    pub fn add(&mut self, next: &Self) {
        self.min = self.min.min(next.min);
        self.max = self.max.max(next.max);
        self.sum += next.sum;
        self.abs_sum += next.abs_sum;
        self.values += next.values;
        self.nan += next.nan;
        self.inf += next.inf;
        self.zero += next.zero;
    }

    /// Smallest value that is not NaN; `None` where there is none.
    #[must_use]
    pub fn min(&self) -> Option<f64> {
        (self.values > self.nan).then_some(self.min)
    }

    /// Largest value that is not NaN; `None` where there is none.
    #[must_use]
    pub fn max(&self) -> Option<f64> {
        (self.values > self.nan).then_some(self.max)
    }

    /// Mean of the finite values; `None` where there is none.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "no tensor has 2^53 values")]
    pub fn mean(&self) -> Option<f64> {
        let finite = self.values - self.nan - self.inf;
        (finite > 0).then(|| self.sum / finite as f64)
    }

    /// Sum of the magnitudes of the finite values.
    #[must_use]
    pub const fn abs_sum(&self) -> f64 {
        self.abs_sum
    }

    /// Values that are NaN.
    #[must_use]
    pub const fn nan(&self) -> u64 {
        self.nan
    }

    /// Values that are infinite.
    #[must_use]
    pub const fn inf(&self) -> u64 {
        self.inf
    }

    /// Values that are not zero; NaN is not.
    #[must_use]
    pub const fn nonzero(&self) -> u64 {
        self.values - self.zero
    }
}
