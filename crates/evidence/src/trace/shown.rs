//! Values as another program printed them: some elements of some rows, with few decimals.
//!
//! Digits can show that two rows differ. That they are equal, digits of some elements can never show.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What was printed of the values of an event.
///
/// ```
/// use mantissa_evidence::trace::{Shown, ShownRow};
///
/// // The first and the last of four elements.
/// let row = ShownRow { position: 7, values: vec!["0.0123".to_owned(), "-1.5000".to_owned()] };
/// let shown = Shown { columns: vec![0, 3], rows: vec![row] };
/// let differing = |row: &[f32]| shown.differing(7, &|column| Some(f64::from(*row.get(column)?)));
/// assert_eq!(differing(&[0.01234, 9.0, 9.0, -1.5]), Some(0), "all that is shown agrees");
/// assert_eq!(differing(&[0.0125, 9.0, 9.0, -1.5]), Some(1));
/// assert_eq!(shown.differing(8, &|_| Some(0.0)), None, "nothing of this row is shown");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    /// Elements of a row that are shown, counted from 0, ascending.
    pub columns: Vec<u64>,
    /// Rows that are shown, by position, ascending.
    pub rows: Vec<ShownRow>,
}

/// A row as it was printed.
///
/// Example: [`Shown`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShownRow {
    /// Its position in the sequence, counted from 0.
    pub position: u64,
    /// A value for each column, with the digits that were printed.
    pub values: Vec<String>,
}

/// A number with as many decimals as were printed.
///
/// ```
/// use mantissa_evidence::trace::Printed;
///
/// let printed = Printed::read("-0.1250").expect("a number");
/// assert!(printed.may_be(-0.12504) && !printed.may_be(-0.1252));
/// assert!(Printed::read("nan").is_some_and(|printed| printed.may_be(f64::NAN)));
/// assert!(Printed::read("1e400").is_none());
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Printed {
    value: f64,
    /// The most that rounding to the decimals moved it by.
    slack: f64,
}

/// Decimals that a program prints at most.
const MOST_DECIMALS: usize = 60;

impl Printed {
    /// Reads a number without an exponent, `nan` or `inf`, either with a sign.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (sign, digits) = match text.strip_prefix('-') {
            Some(rest) => (-1.0, rest),
            None => (1.0, text),
        };
        match digits {
            "nan" => return Some(Self { value: f64::NAN, slack: 0.0 }),
            "inf" => return Some(Self { value: sign * f64::INFINITY, slack: 0.0 }),
            _ => {}
        }
        let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
        let numeric = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !numeric(whole) || !numeric(decimals) || decimals.len() > MOST_DECIMALS {
            return None;
        }
        let value: f64 = text.parse().ok()?;
        let places = i32::try_from(decimals.len()).ok()?;
        // Half a unit of the last decimal, and what binary64 cannot hold of either number.
        let slack = 0.5 * 10.0_f64.powi(-places) * (1.0 + 1e-9) + value.abs() * f64::EPSILON;
        value.is_finite().then_some(Self { value, slack })
    }

    /// Whether a value can be what was printed.
    #[must_use]
    pub fn may_be(self, value: f64) -> bool {
        if self.value.is_nan() || value.is_nan() {
            return self.value.is_nan() && value.is_nan();
        }
        self.value.to_bits() == value.to_bits() || (self.value - value).abs() <= self.slack
    }

    /// Whether one value can be what was printed twice.
    #[must_use]
    pub fn agrees(self, other: Self) -> bool {
        if self.value.is_nan() || other.value.is_nan() {
            return self.value.is_nan() && other.value.is_nan();
        }
        self.value.to_bits() == other.value.to_bits()
            || (self.value - other.value).abs() <= self.slack + other.slack
    }

    /// The number as it was printed.
    #[must_use]
    pub const fn value(self) -> f64 {
        self.value
    }
}

impl Shown {
    /// What was printed of the row at a position.
    #[must_use]
    pub fn row(&self, position: u64) -> Option<&ShownRow> {
        self.rows.iter().find(|row| row.position == position)
    }

    /// How many of the shown elements of a row cannot be those that `value` has; `None` where none are shown.
    #[must_use]
    pub fn differing(&self, position: u64, value: &dyn Fn(usize) -> Option<f64>) -> Option<u64> {
        let row = self.row(position)?;
        let differs = |(column, text): (&u64, &String)| {
            let printed = Printed::read(text);
            let own = usize::try_from(*column).ok().and_then(value);
            !printed.zip(own).is_some_and(|(printed, own)| printed.may_be(own))
        };
        Some(self.columns.iter().zip(&row.values).filter(|pair| differs(*pair)).count() as u64)
    }

    /// How many elements that both show of a row cannot be one value, and of how many; `None` where they share none.
    ///
    /// ```
    /// use mantissa_evidence::trace::{Shown, ShownRow};
    ///
    /// let shown = |text: &str| {
    ///     let row = ShownRow { position: 0, values: vec![text.to_owned()] };
    ///     Shown { columns: vec![0], rows: vec![row] }
    /// };
    /// assert_eq!(shown("0.5000").beside(&shown("0.5001"), 0), Some((0, 1)), "0.50005 is both");
    /// assert_eq!(shown("0.5000").beside(&shown("0.5002"), 0), Some((1, 1)));
    /// ```
    #[must_use]
    pub fn beside(&self, other: &Self, position: u64) -> Option<(u64, u64)> {
        let (own, others) = (self.row(position)?, other.row(position)?);
        let (mut differing, mut shared) = (0, 0);
        for (column, text) in self.columns.iter().zip(&own.values) {
            let Some(beside) = other.columns.iter().position(|one| one == column) else { continue };
            let Some(beside) = others.values.get(beside) else { continue };
            shared += 1;
            let both = Printed::read(text).zip(Printed::read(beside));
            differing += u64::from(!both.is_some_and(|(a, b)| a.agrees(b)));
        }
        (shared > 0).then_some((differing, shared))
    }

    /// What contradicts the event that has these values.
    pub(super) fn check(&self, positions: &[u64], shape: Option<[u64; 2]>) -> Result<(), String> {
        if !self.columns.is_sorted_by(|a, b| a < b) || !self.rows.is_sorted_by(|a, b| a.position < b.position)
        {
            return Err("columns or rows are not ascending".to_owned());
        }
        let width = shape.map_or(u64::MAX, |[_, width]| width);
        if self.columns.last().is_some_and(|last| *last >= width) {
            return Err(format!("a column behind the last of {width}"));
        }
        for row in &self.rows {
            if positions.binary_search(&row.position).is_err() {
                return Err(format!("position {} is none of the event's", row.position));
            }
            if row.values.len() != self.columns.len() {
                return Err(format!("{} values for {} columns", row.values.len(), self.columns.len()));
            }
            if row.values.iter().any(|text| Printed::read(text).is_none()) {
                return Err(format!(
                    "position {}: a value is no number as a program prints it",
                    row.position
                ));
            }
        }
        Ok(())
    }
}
