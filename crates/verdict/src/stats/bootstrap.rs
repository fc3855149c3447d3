//! Bootstrap intervals of a statistic over sequences.
//!
//! Units are drawn whole, with all their tokens. Left out: studentized and double bootstraps.

use super::Random;
use super::binomial::level;
use super::special::{length, normal_cdf, normal_quantile, real};
use crate::analysis::Interval;
use crate::{Result, VerdictError};

/// Resamples drawn unless said otherwise: (B + 1) α/2 is whole for the usual α (Davison & Hinkley, Bootstrap Methods
/// and their Application, 1997, ch. 5).
pub const RESAMPLES: usize = 9999;

/// Below this many units no interval is given: at 5, a stated 95 % covered less than 87.5 % in every simulated study,
/// so it missed more than 2.5 times as often as it says; at 10, none did (`docs/statistics.md`).
pub const MINIMUM_UNITS: usize = 10;

/// Below this many units an interval is flagged as narrower than it says: from here on, every simulated study covered
/// 93 % or more of a stated 95 % (`docs/statistics.md`).
pub const FLAGGED_BELOW: usize = 50;

/// How an interval is read off the resampled statistics.
///
/// ```
/// use mantissa_verdict::VerdictError;
/// use mantissa_verdict::stats::{Bootstrap, IntervalMethod};
///
/// // Few large values among many small ones.
/// let units: Vec<f64> = (0..20).map(|i| f64::from(i).exp2()).collect();
/// let mean = |drawn: &[&f64]| drawn.iter().copied().sum::<f64>() / drawn.len() as f64;
/// let interval = |method| {
///     let found = Bootstrap { method, ..Bootstrap::new(7) }.interval(&units, mean)?;
///     Ok::<_, VerdictError>(found.expect("20 units that differ").interval)
/// };
/// let plain = interval(IntervalMethod::Percentile)?;
/// let corrected = interval(IntervalMethod::BiasCorrectedAccelerated)?;
/// // The correction moves both ends towards the long tail.
/// assert!(corrected.low > plain.low && corrected.high > plain.high);
/// # Ok::<(), VerdictError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntervalMethod {
    /// Their quantiles. *Source:* Efron & Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13.
    Percentile,
    /// Quantiles corrected for bias and skewness. *Source:* Efron, JASA 82(397), 1987; Efron & Tibshirani, eq. 14.9,
    /// 14.10 (quantiles), 14.14 (bias, here with half of the ties), 14.15 (acceleration by jackknife).
    BiasCorrectedAccelerated,
}

/// A bootstrap to be made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// How the interval is read off.
    pub method: IntervalMethod,
    /// Confidence, inside (0, 1).
    pub confidence: f64,
    /// Resamples.
    pub resamples: usize,
    /// Fewer units give no interval; lower it only to study coverage.
    pub minimum_units: usize,
    /// Seed of the draws; see [`super::seed_of`].
    pub seed: u64,
}

/// An interval with what is needed to judge it.
///
/// Example: [`Bootstrap::interval`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BootstrapInterval {
    /// The statistic of the units themselves.
    pub estimate: f64,
    /// The interval.
    pub interval: Interval,
    /// Units behind it.
    pub units: u64,
    /// Whether it covers less often than its confidence says, for want of units ([`FLAGGED_BELOW`]).
    pub under_covers: bool,
}

impl Bootstrap {
    /// 95 %, percentile, [`RESAMPLES`] resamples, at least [`MINIMUM_UNITS`] units.
    ///
    /// Percentile, because BCa gained nothing on it in any study of `docs/statistics.md`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            method: IntervalMethod::Percentile,
            confidence: 0.95,
            resamples: RESAMPLES,
            minimum_units: MINIMUM_UNITS,
            seed,
        }
    }

    /// The interval of `statistic` over `units`, each a whole sequence; absent where the bootstrap knows nothing: too
    /// few units, or units so alike that every resample gives the same statistic (a question for the exact tier).
    ///
    /// *Shape:* `statistic` gets as many units as were given, with repetitions. *Units:* the statistic's. *Rounding:*
    /// the ends are resampled statistics, the outward ones where a rank is not whole. *Errors:* a statistic that is not
    /// finite (index 0: of the units themselves; else of that resample), `confidence` not inside (0, 1), fewer than 99
    /// resamples. *Source:* see [`IntervalMethod`]; clusters as units: Davison & Hinkley, §3.8.
    ///
    /// ```
    /// use mantissa_verdict::stats::Bootstrap;
    ///
    /// let units: Vec<f64> = (1..=20).map(f64::from).collect();
    /// let mean = |drawn: &[&f64]| drawn.iter().copied().sum::<f64>() / 20.0;
    /// let found = Bootstrap::new(7).interval(&units, mean)?.expect("enough units that differ");
    /// assert!(found.interval.low < 10.5 && found.interval.high > 10.5);
    /// // Twenty units give an interval that is narrower than it says.
    /// assert!(found.units == 20 && found.under_covers);
    /// # Ok::<(), mantissa_verdict::VerdictError>(())
    /// ```
    pub fn interval<U>(
        &self,
        units: &[U],
        statistic: impl Fn(&[&U]) -> f64,
    ) -> Result<Option<BootstrapInterval>> {
        level("confidence", self.confidence)?;
        if self.resamples < 99 {
            let value = real(self.resamples as u64);
            return Err(VerdictError::OutOfRange { what: "resamples", value, range: "at 99 or above" });
        }
        if units.len() < self.minimum_units.max(2) {
            return Ok(None);
        }
        let all: Vec<&U> = units.iter().collect();
        let estimate = finite(statistic(&all), 0)?;
        let mut random = Random::new(self.seed);
        let mut drawn = all.clone();
        let mut resampled = Vec::with_capacity(self.resamples);
        for index in 1..=self.resamples {
            for unit in &mut drawn {
                *unit = &units[random.below(units.len())];
            }
            resampled.push(finite(statistic(&drawn), index)?);
        }
        resampled.sort_by(f64::total_cmp);
        if resampled[0].total_cmp(&resampled[self.resamples - 1]).is_eq() {
            return Ok(None);
        }
        let tail = (1.0 - self.confidence) / 2.0;
        let levels = match self.method {
            IntervalMethod::Percentile => Some((tail, 1.0 - tail)),
            IntervalMethod::BiasCorrectedAccelerated => {
                corrected_levels(tail, estimate, &resampled, &left_out(&all, &statistic)?)
            }
        };
        Ok(levels.map(|(low, high)| BootstrapInterval {
            estimate,
            interval: Interval {
                low: resampled[rank(low, self.resamples, f64::floor)],
                high: resampled[rank(high, self.resamples, f64::ceil)],
                confidence: self.confidence,
            },
            units: units.len() as u64,
            under_covers: units.len() < FLAGGED_BELOW,
        }))
    }
}

/// The statistic with each unit left out in turn.
fn left_out<U>(all: &[&U], statistic: impl Fn(&[&U]) -> f64) -> Result<Vec<f64>> {
    let without = |index: usize| {
        let rest: Vec<&U> = [&all[..index], &all[index + 1..]].concat();
        finite(statistic(&rest), index)
    };
    (0..all.len()).map(without).collect()
}

/// α₁ and α₂ of Efron & Tibshirani, eq. 14.10; absent where the estimate lies outside all resamples or the formula has
/// its pole.
fn corrected_levels(tail: f64, estimate: f64, resampled: &[f64], left_out: &[f64]) -> Option<(f64, f64)> {
    let below = resampled.partition_point(|&value| value < estimate);
    let ties = resampled.partition_point(|&value| value <= estimate) - below;
    let bias = normal_quantile((real(below as u64) + 0.5 * real(ties as u64)) / length(resampled));
    if !bias.is_finite() {
        return None;
    }
    let mean = super::special::mean(left_out);
    let (mut squares, mut cubes) = (0.0, 0.0);
    for value in left_out {
        let deviation = mean - value;
        squares += deviation * deviation;
        cubes += deviation * deviation * deviation;
    }
    let acceleration = if squares > 0.0 { cubes / (6.0 * squares * libm::sqrt(squares)) } else { 0.0 };
    let corrected = |z: f64| {
        let stretch = 1.0 - acceleration * (bias + z);
        // Beyond its pole the formula turns around; so skewed a statistic has no such interval.
        (stretch > 0.0).then(|| normal_cdf(bias + (bias + z) / stretch))
    };
    let z = normal_quantile(tail);
    Some((corrected(z)?, corrected(-z)?))
}

/// The position of the `level` quantile among sorted resamples: rank (B + 1)·level, counted from 1, kept inside.
fn rank(level: f64, resamples: usize, round: fn(f64) -> f64) -> usize {
    let wanted = level * real(resamples as u64 + 1);
    // 0.025 × 10,000 is 250 up to rounding.
    let nearest = wanted.round();
    let exact = if (wanted - nearest).abs() < 1e-6 { nearest } else { round(wanted) };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and resamples + 1"
    )]
    let rank = exact as usize;
    rank.clamp(1, resamples) - 1
}

fn finite(value: f64, index: usize) -> Result<f64> {
    if value.is_finite() {
        Ok(value)
    } else {
        Err(VerdictError::NotANumber { what: "bootstrapped statistic", index, value })
    }
}

#[cfg(test)]
mod tests {
    use super::{Bootstrap, IntervalMethod, MINIMUM_UNITS, corrected_levels, rank, real};

    fn mean(units: &[&f64]) -> f64 {
        units.iter().copied().sum::<f64>() / real(units.len() as u64)
    }

    fn first(count: u64) -> Vec<f64> {
        (1..=count).map(real).collect()
    }

    #[test]
    fn too_few_or_equal_units_give_no_interval() {
        let bootstrap = Bootstrap::new(1);
        assert_eq!(bootstrap.interval(&first(MINIMUM_UNITS as u64 - 1), mean).unwrap(), None);
        assert_eq!(bootstrap.interval(&[2.0; 40], mean).unwrap(), None);
        let ten = bootstrap.interval(&first(10), mean).unwrap().unwrap();
        assert!(ten.under_covers && ten.units == 10);
        assert!(!bootstrap.interval(&first(50), mean).unwrap().unwrap().under_covers);
    }

    #[test]
    fn the_seed_decides_every_bit() {
        let interval = |seed| Bootstrap::new(seed).interval(&first(12), mean).unwrap().unwrap();
        assert_eq!(interval(5), interval(5));
        assert_ne!(interval(5), interval(6));
    }

    /// The mean of 1..=30 has standard error √(899/12/30) = 1.58; normal theory gives 15.5 ± 3.10.
    #[test]
    fn a_symmetric_statistic_agrees_with_normal_theory() {
        for method in [IntervalMethod::Percentile, IntervalMethod::BiasCorrectedAccelerated] {
            let result =
                Bootstrap { method, ..Bootstrap::new(3) }.interval(&first(30), mean).unwrap().unwrap();
            assert_eq!(result.estimate.to_bits(), 15.5_f64.to_bits());
            let (low, high) = (result.interval.low, result.interval.high);
            assert!((low - 12.4).abs() < 0.15 && (high - 18.6).abs() < 0.15, "{method:?}: {low} {high}");
        }
    }

    /// scipy 1.17.1, `stats.bootstrap` of the mean with 99,999 resamples: BCa 21.83 to 107.03, percentile 16.67 to
    /// 93.50; with a tenth of the resamples an end wanders by about 1.
    #[test]
    fn a_skewed_statistic_agrees_with_scipy() {
        let units = [1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0, 34.0, 55.0, 89.0, 144.0, 233.0];
        for (method, low, high) in [
            (IntervalMethod::BiasCorrectedAccelerated, 21.83, 107.03),
            (IntervalMethod::Percentile, 16.67, 93.50),
        ] {
            let interval =
                Bootstrap { method, ..Bootstrap::new(4) }.interval(&units, mean).unwrap().unwrap().interval;
            assert!((interval.low - low).abs() < 2.0 && (interval.high - high).abs() < 2.0, "{interval:?}");
        }
    }

    /// Efron & Tibshirani's formula by hand: bias 0 and no skewness leave the levels alone.
    #[test]
    fn corrected_levels_follow_the_formula() {
        let resampled = first(99);
        let (low, high) = corrected_levels(0.025, 50.0, &resampled, &[1.0, 2.0, 3.0]).unwrap();
        assert!((low - 0.025).abs() < 1e-12 && (high - 0.975).abs() < 1e-12);
        let (low, high) = corrected_levels(0.025, 70.0, &resampled, &[1.0, 2.0, 3.0]).unwrap();
        assert!(low > 0.025 && high > 0.975, "{low} {high}");
        assert_eq!(corrected_levels(0.025, 1000.0, &resampled, &[1.0, 2.0]), None);
        let mut skewed = vec![0.0; 1000];
        skewed[0] = -1.0;
        assert_eq!(corrected_levels(1e-9, 99.0, &resampled, &skewed), None);
    }

    #[test]
    fn ranks_are_whole_and_inside() {
        assert_eq!(rank(0.025, 9999, f64::floor), 249);
        assert_eq!(rank(0.975, 9999, f64::ceil), 9749);
        assert_eq!(rank(0.0, 9999, f64::floor), 0);
        assert_eq!(rank(1.0, 9999, f64::ceil), 9998);
    }

    #[test]
    fn a_ratio_without_a_floor_is_an_error_that_says_so() {
        let units = vec![(1.0, 0.0); 12];
        let ratio = |drawn: &[&(f64, f64)]| {
            drawn.iter().map(|unit| unit.0).sum::<f64>() / drawn.iter().map(|unit| unit.1).sum::<f64>()
        };
        let error = Bootstrap::new(1).interval(&units, ratio).unwrap_err().to_string();
        assert_eq!(
            error,
            "bootstrapped statistic[0] is inf; leave out units that could not be compared and state their count"
        );
    }
}
