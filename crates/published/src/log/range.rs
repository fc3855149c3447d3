//! What follows from printed cells, by interval arithmetic.
//!
//! A printed cell stands for every number within half a unit of its last digit, so what follows from such cells is a
//! range. Left out: what a printed figure may be called against its range (`ledger`).

use super::printed::Printed;

/// A number known to lie between two others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Range {
    /// Computed from figures at face value.
    pub(crate) face: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Range {
    pub(crate) const fn of(figure: &Printed) -> Self {
        Self {
            face: figure.value,
            low: figure.value - figure.half_unit,
            high: figure.value + figure.half_unit,
        }
    }

    pub(crate) const fn exact(value: f64) -> Self {
        Self { face: value, low: value, high: value }
    }

    /// Arithmetic mean; `None` of nothing.
    pub(crate) fn mean(of: &[Self]) -> Option<Self> {
        let count = f64::from(u32::try_from(of.len()).ok().filter(|&count| count > 0)?);
        let mean = |part: fn(&Self) -> f64| of.iter().map(part).sum::<f64>() / count;
        Some(Self { face: mean(|x| x.face), low: mean(|x| x.low), high: mean(|x| x.high) })
    }

    pub(crate) fn max(of: &[Self]) -> Option<Self> {
        of.iter().copied().reduce(|a, b| Self {
            face: a.face.max(b.face),
            low: a.low.max(b.low),
            high: a.high.max(b.high),
        })
    }

    pub(crate) fn min(of: &[Self]) -> Option<Self> {
        of.iter().copied().reduce(|a, b| Self {
            face: a.face.min(b.face),
            low: a.low.min(b.low),
            high: a.high.min(b.high),
        })
    }

    /// Standard deviation of the population.
    ///
    /// It moves by no more than the root of the mean square of what its numbers move by, which bounds the range.
    pub(crate) fn deviation(of: &[Self]) -> Option<Self> {
        let mean = Self::mean(of)?.face;
        let count = f64::from(u32::try_from(of.len()).ok()?);
        let face = (of.iter().map(|x| (x.face - mean).powi(2)).sum::<f64>() / count).sqrt();
        let slack = of.iter().map(|x| (x.high - x.face).max(x.face - x.low).powi(2)).sum::<f64>() / count;
        Some(Self { face, low: (face - slack.sqrt()).max(0.0), high: face + slack.sqrt() })
    }

    /// Quotient of two positive numbers; `None` where the divisor may be zero.
    pub(crate) fn over(self, divisor: Self) -> Option<Self> {
        (divisor.low > 0.0).then(|| Self {
            face: self.face / divisor.face,
            low: self.low / divisor.high,
            high: self.high / divisor.low,
        })
    }

    /// Whether a number of the range prints as `figure`.
    pub(crate) fn meets(self, figure: &Printed) -> bool {
        let printed = Self::of(figure);
        self.low <= printed.high && printed.low <= self.high
    }
}

/// `value` with as many digits, and in the same notation, as `like`.
pub(crate) fn digits(value: f64, like: &str) -> String {
    if value.is_infinite() {
        return "inf".to_owned();
    }
    let (mantissa, scientific) = match like.split_once('e') {
        Some((mantissa, _)) => (mantissa, true),
        None => (like, false),
    };
    let decimals = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    if !scientific {
        return if like == "inf" { format!("{value:.2e}") } else { format!("{value:.decimals$}") };
    }
    let text = format!("{value:.decimals$e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
            format!("{mantissa}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

/// Cells on and off the diagonal.
pub(crate) fn split(cells: &[Vec<Range>]) -> (Vec<Range>, Vec<Range>) {
    let mut parts = (Vec::new(), Vec::new());
    for (row, cells) in cells.iter().enumerate() {
        for (column, &cell) in cells.iter().enumerate() {
            if row == column { parts.0.push(cell) } else { parts.1.push(cell) }
        }
    }
    parts
}

/// Printed cells as ranges.
pub(crate) fn ranges(cells: &[Vec<Printed>]) -> Vec<Vec<Range>> {
    cells.iter().map(|row| row.iter().map(Range::of).collect()).collect()
}

/// The mean of several matrices, cell by cell.
pub(crate) fn mean_matrix(matrices: &[Vec<Vec<Range>>]) -> Vec<Vec<Range>> {
    let first = matrices.first().map_or(&[][..], Vec::as_slice);
    let cell = |row: usize, column: usize| {
        let cells: Vec<Range> =
            matrices.iter().filter_map(|matrix| matrix.get(row)?.get(column).copied()).collect();
        Range::mean(&cells)
    };
    first
        .iter()
        .enumerate()
        .map(|(row, cells)| (0..cells.len()).filter_map(|column| cell(row, column)).collect())
        .collect()
}
