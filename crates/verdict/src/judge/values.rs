//! What distances amount to: their mean, and whether one is exactly zero.

/// The mean of finite values, summed in order; absent when there is none.
pub(super) fn mean(values: &[f64]) -> Option<f64> {
    let n = f64::from(u32::try_from(values.len()).ok()?);
    if values.is_empty() {
        return None;
    }
    let sum: f64 = values.iter().sum();
    // Where the sum of finite values is too large, that of their shares is not.
    let mean = if sum.is_finite() { sum / n } else { values.iter().map(|value| value / n).sum() };
    Some(mean).filter(|mean| mean.is_finite())
}

/// Whether a distance is 0, of either sign.
pub(super) fn is_zero(value: f64) -> bool {
    value.abs().to_bits() == 0
}

#[cfg(test)]
mod tests {
    use super::mean;

    #[test]
    fn a_mean_is_finite_or_absent() {
        assert_eq!(mean(&[]), None);
        assert_eq!(mean(&[1.0, 2.0]), Some(1.5));
        assert_eq!(mean(&[1e308; 4]), Some(1e308));
        assert_eq!(mean(&[f64::INFINITY, 1.0]), None);
    }
}
