//! What a count of alarms on honest units says about the rate of false alarms.
//!
//! Left out: lower bounds and two-sided intervals; a claim of safety needs the upper end only.

use super::special::{beta_quantile, real};
use crate::{Result, VerdictError};

/// The largest rate that `alarms` among `n` independent honest units do not contradict at `confidence`.
///
/// If the true rate were above the bound, so few alarms would have had a probability below 1 − confidence. No unit at
/// all gives 1.
///
/// *Units:* a rate per unit; a unit is a sequence on one occasion. *Rounding:* relative 10⁻⁹ or better; without alarms
/// to the last few bits. *Errors:* `confidence` not inside (0, 1); more alarms than units. *Source:* Clopper & Pearson,
/// Biometrika 26(4), 1934: the 1 − δ quantile of Beta(alarms + 1, n − alarms); for no alarm 1 − δ^(1/n).
///
/// ```
/// use mantissa_verdict::stats::false_alarm_bound;
///
/// // The rule of three.
/// let bound = false_alarm_bound(0, 300, 0.95)?;
/// assert!((0.0099..0.01).contains(&bound));
/// # Ok::<(), mantissa_verdict::VerdictError>(())
/// ```
pub fn false_alarm_bound(alarms: u64, n: u64, confidence: f64) -> Result<f64> {
    level("confidence", confidence)?;
    if alarms > n {
        return Err(VerdictError::OutOfRange {
            what: "alarms",
            value: real(alarms),
            range: "between 0 and the number of units",
        });
    }
    Ok(if alarms == n {
        1.0
    } else if alarms == 0 {
        -libm::expm1(libm::log1p(-confidence) / real(n))
    } else {
        beta_quantile(real(alarms + 1), real(n - alarms), confidence)
    })
}

/// Honest units without an alarm after which a false-alarm rate of at most `rate` may be claimed at `confidence`.
///
/// n ≥ ln(1/δ)/p: the rule to quote, never less than [`units_needed_exact`].
///
/// *Errors:* `rate` or `confidence` not inside (0, 1). *Source:* 1 − p ≤ e⁻ᵖ in (1 − p)ⁿ ≤ δ; for δ = 0.05 the "rule of
/// three" (Hanley & Lippman-Hand, JAMA 249(13), 1983).
///
/// ```
/// use mantissa_verdict::stats::units_needed;
///
/// assert_eq!(units_needed(1e-3, 0.95)?, 2996);
/// # Ok::<(), mantissa_verdict::VerdictError>(())
/// ```
pub fn units_needed(rate: f64, confidence: f64) -> Result<u64> {
    level("rate", rate)?;
    level("confidence", confidence)?;
    Ok(whole(-libm::log1p(-confidence) / rate))
}

/// The smallest n with (1 − p)ⁿ ≤ δ: n = ⌈ln δ / ln(1 − p)⌉. *Errors:* as [`units_needed`].
///
/// ```
/// use mantissa_verdict::stats::units_needed_exact;
///
/// assert_eq!(units_needed_exact(1e-3, 0.95)?, 2995);
/// # Ok::<(), mantissa_verdict::VerdictError>(())
/// ```
pub fn units_needed_exact(rate: f64, confidence: f64) -> Result<u64> {
    level("rate", rate)?;
    level("confidence", confidence)?;
    Ok(whole(libm::log1p(-confidence) / libm::log1p(-rate)))
}

/// Refuses what is not strictly between 0 and 1.
pub(super) fn level(what: &'static str, value: f64) -> Result<()> {
    if value > 0.0 && value < 1.0 {
        Ok(())
    } else {
        Err(VerdictError::OutOfRange { what, value, range: "between 0 and 1, both excluded" })
    }
}

/// The next whole number; a number within 10⁻¹² of one is that one, since the logarithms were rounded.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive; a cast saturates beyond 2^64"
)]
pub(super) fn whole(count: f64) -> u64 {
    (count * (1.0 - 1e-12)).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::{false_alarm_bound, real, units_needed, units_needed_exact};

    /// The defining equation, P(X ≤ alarms | bound) = δ, by exact summation.
    #[test]
    fn the_bound_solves_its_equation() {
        for (alarms, n) in [(0, 1), (0, 10), (1, 10), (3, 50), (7, 100), (60, 100)] {
            let rate = false_alarm_bound(alarms, n, 0.95).unwrap();
            let mut term = libm::pow(1.0 - rate, real(n));
            let mut sum = term;
            for i in 0..alarms {
                term *= real(n - i) / real(i + 1) * rate / (1.0 - rate);
                sum += term;
            }
            assert!((sum - 0.05).abs() < 1e-10, "{alarms} of {n}: {rate} {sum}");
        }
        assert_eq!(false_alarm_bound(0, 0, 0.95).unwrap().to_bits(), 1.0_f64.to_bits());
        assert_eq!(false_alarm_bound(4, 4, 0.95).unwrap().to_bits(), 1.0_f64.to_bits());
        assert!(false_alarm_bound(5, 4, 0.95).is_err());
        assert!(false_alarm_bound(0, 4, f64::NAN).is_err());
    }

    /// scipy 1.17.1: `stats.beta.ppf(0.95, 3, 28)`.
    #[test]
    fn two_of_thirty() {
        let rate = false_alarm_bound(2, 30, 0.95).unwrap();
        assert!((rate - 0.195_326_043_654_925_95).abs() < 1e-11, "{rate}");
    }

    #[test]
    fn needed_units_are_the_first_that_suffice() {
        assert_eq!(units_needed(1e-3, 0.95).unwrap(), 2996);
        assert_eq!(units_needed_exact(1e-3, 0.95).unwrap(), 2995);
        assert_eq!(units_needed_exact(0.5, 0.75).unwrap(), 2);
        for rate in [0.3, 0.1, 0.01, 1e-3, 1e-4] {
            for confidence in [0.9, 0.95, 0.99] {
                let n = units_needed_exact(rate, confidence).unwrap();
                assert!(false_alarm_bound(0, n, confidence).unwrap() <= rate * (1.0 + 1e-11));
                assert!(false_alarm_bound(0, n - 1, confidence).unwrap() > rate);
                assert!(units_needed(rate, confidence).unwrap() >= n);
            }
        }
        let error = units_needed(0.0, 0.95).unwrap_err().to_string();
        assert_eq!(error, "rate is 0; it must lie between 0 and 1, both excluded");
    }
}
