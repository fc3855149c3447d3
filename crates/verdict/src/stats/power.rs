//! What can be detected: predictions to make before collecting, and to test the tests against.
//!
//! Left out: power of permutation tests (simulate) and of scores that are not Gaussian.

use super::binomial::{level, whole};
use super::special::{beta_cdf, normal_cdf, normal_density, real};
use crate::{Result, VerdictError};

/// How many of the n + 1 ranks are an alarm: [`super::conformal_p`] ≤ α exactly if fewer than this many of the n honest
/// scores reach the tested one. 0: n is too small for α, the test never alarms. *Source:* ⌊α (n + 1)⌋.
///
/// ```
/// use mantissa_verdict::stats::conformal_alarm_rank;
///
/// assert_eq!((conformal_alarm_rank(18, 0.05)?, conformal_alarm_rank(19, 0.05)?), (0, 1));
/// # Ok::<(), mantissa_verdict::VerdictError>(())
/// ```
pub fn conformal_alarm_rank(n: u64, alpha: f64) -> Result<u64> {
    level("alpha", alpha)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and n + 1")]
    let mut rank = (alpha * real(n + 1)) as u64;
    // The product was rounded; the p-value itself decides.
    while rank < n && real(rank + 1) / real(n + 1) <= alpha {
        rank += 1;
    }
    while rank > 0 && real(rank) / real(n + 1) > alpha {
        rank -= 1;
    }
    Ok(rank)
}

/// The probability that a conformal test at level `alpha` on `n` honest units alarms, where honest scores are N(0, 1)
/// and the tested one is N(`shift`, 1), all independent.
///
/// ∫ φ(s − δ) P(Bin(n, 1 − Φ(s)) < r) ds with r = ⌊α (n + 1)⌋; at shift 0 this is r/(n + 1), the exact false-alarm
/// rate.
///
/// *Units:* `shift` in standard deviations of honest scores. *Rounding:* absolute 10⁻⁹ (Simpson's rule, 4,000
/// intervals over ±10 standard deviations). *Errors:* `alpha` not inside (0, 1); `shift` not finite. *Source:*
/// David & Nagaraja, Order Statistics, 3rd ed., eq. 2.1.3 and 2.1.5 (a binomial
/// tail as an incomplete beta function).
///
/// ```
/// use mantissa_verdict::stats::power_of_conformal;
///
/// assert!(power_of_conformal(99, 0.05, 3.0)? > 0.8);
/// # Ok::<(), mantissa_verdict::VerdictError>(())
/// ```
pub fn power_of_conformal(n: u64, alpha: f64, shift: f64) -> Result<f64> {
    const INTERVALS: u64 = 4000;
    const REACH: f64 = 10.0;
    let rank = conformal_alarm_rank(n, alpha)?;
    if !shift.is_finite() {
        return Err(VerdictError::OutOfRange {
            what: "shift",
            value: shift,
            range: "among the finite numbers",
        });
    }
    if rank == 0 {
        return Ok(0.0);
    }
    let step = 2.0 * REACH / real(INTERVALS);
    let sum: f64 = (0..=INTERVALS)
        .map(|point| {
            let offset = real(point) * step - REACH;
            let weight = match point {
                0 | INTERVALS => 1.0,
                odd if odd % 2 == 1 => 4.0,
                _ => 2.0,
            };
            let above = normal_cdf(-(shift + offset));
            weight * normal_density(offset) * (1.0 - beta_cdf(real(rank), real(n - rank + 1), above))
        })
        .sum();
    Ok((sum * step / 3.0).clamp(0.0, 1.0))
}

/// The probability that the exact tier detects another setup on `units` independent units, where each unit has the same
/// bits under both setups with probability `collision`: 1 − c^units.
///
/// *Errors:* `collision` outside [0, 1]. A collision of 1 (one equivalence class) has power 0 on any number of units.
///
/// ```
/// use mantissa_verdict::stats::power_of_exact;
///
/// assert!((power_of_exact(0.5, 3)? - 0.875).abs() < 1e-12);
/// # Ok::<(), mantissa_verdict::VerdictError>(())
/// ```
pub fn power_of_exact(collision: f64, units: u64) -> Result<f64> {
    if !(0.0..=1.0).contains(&collision) {
        return Err(VerdictError::OutOfRange {
            what: "collision",
            value: collision,
            range: "between 0 and 1",
        });
    }
    Ok(if units == 0 { 0.0 } else { 1.0 - libm::pow(collision, real(units)) })
}

/// The units after which the exact tier detects with probability `power`: ⌈ln(1 − power)/ln c⌉.
///
/// *Errors:* `collision` or `power` not inside (0, 1).
///
/// ```
/// use mantissa_verdict::stats::units_for_power_of_exact;
///
/// assert_eq!(units_for_power_of_exact(0.5, 0.95)?, 5);
/// # Ok::<(), mantissa_verdict::VerdictError>(())
/// ```
pub fn units_for_power_of_exact(collision: f64, power: f64) -> Result<u64> {
    level("collision", collision)?;
    level("power", power)?;
    Ok(whole(libm::log1p(-power) / libm::log(collision)))
}

#[cfg(test)]
mod tests {
    use super::{conformal_alarm_rank, power_of_conformal, power_of_exact, real, units_for_power_of_exact};

    #[test]
    fn the_level_is_met_at_equality() {
        for (n, alpha, rank) in
            [(98, 0.01, 0), (99, 0.01, 1), (999, 0.01, 10), (999, 0.001, 1), (9, 0.3, 3), (19, 0.999, 19)]
        {
            assert_eq!(conformal_alarm_rank(n, alpha).unwrap(), rank, "{n} {alpha}");
        }
    }

    /// Without a shift the integral must give the exact rate.
    #[test]
    fn no_shift_no_power_beyond_the_level() {
        for (n, alpha) in [(9, 0.1), (99, 0.01), (99, 0.05), (999, 0.001), (999, 0.01), (19, 0.5)] {
            let expected = real(conformal_alarm_rank(n, alpha).unwrap()) / real(n + 1);
            let power = power_of_conformal(n, alpha, 0.0).unwrap();
            assert!((power - expected).abs() < 1e-9, "{n} {alpha}: {power} {expected}");
        }
        assert_eq!(power_of_conformal(98, 0.01, 50.0).unwrap().to_bits(), 0.0_f64.to_bits());
        assert!(power_of_conformal(99, 0.01, 50.0).unwrap() > 1.0 - 1e-9);
    }

    /// One honest unit, r = 1 of 2: P(N(δ, 1) > N(0, 1)) = Φ(δ/√2).
    #[test]
    fn one_unit_is_a_comparison_of_two_normals() {
        let expected = super::normal_cdf(1.5 / std::f64::consts::SQRT_2);
        assert!((power_of_conformal(1, 0.5, 1.5).unwrap() - expected).abs() < 1e-9);
    }

    /// scipy 1.17.1: `integrate.quad` of `norm.pdf(s − 3) · binom.cdf(r − 1, n, norm.sf(s))`, r = 1, 1 and 29.
    #[test]
    fn power_is_what_quadrature_gives() {
        for (n, alpha, expected) in
            [(99, 0.01, 0.677_857_341_9), (30, 0.05, 0.805_444_297_6), (2996, 0.01, 0.743_497_349_2)]
        {
            let power = power_of_conformal(n, alpha, 3.0).unwrap();
            assert!((power - expected).abs() < 1e-8, "{n} {alpha}: {power}");
        }
    }

    #[test]
    fn collisions_multiply() {
        assert_eq!(power_of_exact(0.5, 3).unwrap().to_bits(), 0.875_f64.to_bits());
        assert_eq!(power_of_exact(1.0, 1000).unwrap().to_bits(), 0.0_f64.to_bits());
        assert_eq!(power_of_exact(0.0, 0).unwrap().to_bits(), 0.0_f64.to_bits());
        assert_eq!(units_for_power_of_exact(0.5, 0.875).unwrap(), 3);
        assert!(power_of_exact(1.1, 1).is_err());
    }
}
