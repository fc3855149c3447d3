//! Whether log-probabilities are binary32 values or were rounded to decimals.

/// More decimals than these are no rounding that anybody means.
const MOST: usize = 15;

/// Digits behind the point that values were rounded to; `None` where each is a binary32 value, written out or as the
/// shortest decimal that reads back as it.
///
/// Few values that happen to be short are binary32 values too, as −0.5 is. What stands in for a value has no part.
pub(super) fn decimals(values: impl Iterator<Item = f64> + Clone) -> Option<u8> {
    let values = values.filter(|value| value.is_finite() && *value > -9999.0);
    #[expect(clippy::cast_possible_truncation, reason = "compared with what it was on the same line")]
    let single = |value: f64| value as f32;
    let is_exact = |value: f64| f64::from(single(value)).to_bits() == value.to_bits();
    let is_shortest = |value: f64| format!("{}", single(value)) == format!("{value}");
    let behind = |value: f64| format!("{value}").split_once('.').map_or(0, |(_, rest)| rest.len());
    let mut longest = 0;
    let (mut shortest, mut exact) = (true, true);
    for value in values {
        longest = longest.max(behind(value));
        exact &= is_exact(value);
        shortest &= is_exact(value) || is_shortest(value);
    }
    // The shortest decimals of binary32 values between 1 and 16 have 6 or 7 digits behind the point.
    if exact || (shortest && longest >= 6) {
        return None;
    }
    u8::try_from(longest.min(MOST)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounded_values_are_told_from_binary32() {
        let of = |values: &[f64]| decimals(values.iter().copied());
        let whole: Vec<f64> =
            [-3.399_611_2_f32, -0.000_123_4, -17.25].iter().map(|x| f64::from(*x)).collect();
        assert_eq!(of(&whole), None, "binary32 values written as binary64");
        assert_eq!(of(&[-3.3996112, -0.0001234, -17.25]), None, "their shortest decimals");
        assert_eq!(of(&[-3.3996, -0.0001, -17.25, -9999.0]), Some(4));
        assert_eq!(of(&[-3.4, -0.0, -17.2]), Some(1));
        assert_eq!(of(&[-0.5, f64::NEG_INFINITY]), None);
    }
}
