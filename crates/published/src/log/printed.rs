//! Figures, values and matrices as a log prints them, each with its line.

use mantissa_evidence::verification::CellDistance;

/// A figure as printed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Printed {
    /// Its digits: `2.54e-01`, `0.91`, `inf`.
    pub(crate) text: String,
    /// The number they name.
    pub(crate) value: f64,
    /// Half a unit of the last printed digit; 0 for an exact figure (`0.00e+00` prints only for zero, `inf`).
    pub(crate) half_unit: f64,
    /// Where, counted from 1.
    pub(crate) line: usize,
}

/// A value and the line that states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed<T> {
    /// What is stated.
    pub(crate) value: T,
    /// Where, counted from 1.
    pub(crate) line: usize,
}

/// A printed matrix.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PrintedMatrix {
    /// Row labels.
    pub(crate) rows: Vec<String>,
    /// Column labels.
    pub(crate) columns: Vec<String>,
    /// Cells, row by row; as many in each row as there are columns.
    pub(crate) cells: Vec<Vec<Printed>>,
    /// Line of the column labels.
    pub(crate) line: usize,
}

impl Printed {
    /// A figure of decimal digits, with or without a fraction and an exponent, or `inf`; `None` for anything else.
    ///
    /// Rounding: `value` is the nearest double; `half_unit` is 5 units of the digit after the last one printed.
    #[must_use]
    pub(crate) fn parse(text: &str, line: usize) -> Option<Self> {
        let exact = |value| Self { text: text.to_owned(), value, half_unit: 0.0, line };
        if text == "inf" {
            return Some(exact(f64::INFINITY));
        }
        let (mantissa, exponent) = match text.split_once('e') {
            Some((mantissa, exponent)) => {
                let digits = exponent.strip_prefix(['+', '-'])?;
                if digits.len() < 2 || digits.len() > 3 || !all_digits(digits) {
                    return None;
                }
                (mantissa, exponent.parse::<i32>().ok()?)
            }
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let sound = all_digits(whole)
            && (fraction.is_empty() != mantissa.contains('.'))
            && (fraction.is_empty() || all_digits(fraction))
            && whole.len() <= 15
            && fraction.len() <= 17;
        if !sound {
            return None;
        }
        let value: f64 = text.parse().ok().filter(|value: &f64| value.is_finite())?;
        if text.contains('e') && mantissa.bytes().all(|byte| matches!(byte, b'0' | b'.')) {
            return Some(exact(0.0));
        }
        let unit = exponent - i32::try_from(fraction.len()).ok()?;
        let half_unit: f64 = format!("5e{}", unit - 1).parse().ok()?;
        (half_unit.is_finite()).then(|| Self { text: text.to_owned(), value, half_unit, line })
    }
}

impl Printed {
    /// A printed mean as a distance.
    pub(crate) fn average(&self) -> CellDistance {
        CellDistance {
            mean: self.value,
            max: None,
            rounding: self.half_unit,
            place: format!("line {}", self.line),
        }
    }

    /// A printed maximum as a distance: where a log has no mean, both fields hold it.
    pub(crate) fn largest(&self) -> CellDistance {
        CellDistance { max: Some(self.value), ..self.average() }
    }
}

/// Whether `text` is a whole number without a sign.
pub(crate) fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_keep_their_precision() {
        let of = |text: &str| Printed::parse(text, 7).map(|figure| (figure.value, figure.half_unit));
        assert_eq!(of("2.54e-01"), Some((0.254, 0.0005)));
        assert_eq!(of("0.91"), Some((0.91, 0.005)));
        assert_eq!(of("10.94"), Some((10.94, 0.005)));
        assert_eq!(of("0.00e+00"), Some((0.0, 0.0)));
        assert_eq!(of("0.00"), Some((0.0, 0.005)));
        assert_eq!(of("inf"), Some((f64::INFINITY, 0.0)));
        for refused in
            ["", "nan", "-1.0", "1.", ".5", "1e5", "1.0e+9999", "1.0e+400", "0x1", "1,5", "1.0e-0a"]
        {
            assert_eq!(of(refused), None, "{refused}");
        }
    }
}
