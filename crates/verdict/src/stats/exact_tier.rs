//! The exact tier: both sides reproduce their bits, so any difference is an alarm.
//!
//! Left out: whether two runs are equal (`mantissa-compare`).

use super::binomial::false_alarm_bound;
use super::units_needed;
use crate::Result;
use crate::analysis::FalseAlarmBound;

/// What honest comparisons show about "this setup reproduces its bits".
///
/// Given determinism, the test "bits differ" has a false-alarm rate of 0 by construction, on any number of units. What
/// is left to show is determinism, and n comparisons show it only up to a rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExactTier {
    /// Independent comparisons of an honest repeat with what was recorded.
    pub comparisons: u64,
    /// Of which the bits differed.
    pub differing: u64,
    /// Confidence of the bound, 0 to 1.
    pub confidence: f64,
    /// Upper bound of the rate at which an honest repeat differs: that of false alarms of the exact tier.
    pub rate_bound: f64,
}

impl ExactTier {
    /// From comparisons that are independent of each other, for example one per sequence.
    ///
    /// *Errors:* as [`false_alarm_bound`]. *Source:* Clopper & Pearson, 1934.
    ///
    /// ```
    /// use mantissa_verdict::stats::ExactTier;
    ///
    /// let tier = ExactTier::of_comparisons(300, 0, 0.95)?;
    /// assert!(tier.applies() && tier.rate_bound < 0.01);
    /// # Ok::<(), mantissa_verdict::VerdictError>(())
    /// ```
    pub fn of_comparisons(comparisons: u64, differing: u64, confidence: f64) -> Result<Self> {
        let rate_bound = false_alarm_bound(differing, comparisons, confidence)?;
        Ok(Self { comparisons, differing, confidence, rate_bound })
    }

    /// From `repeats` runs of one setup on one input, of which `differing` have other bits than the first.
    ///
    /// The first is what was recorded, so n equal runs are n − 1 comparisons; one run alone says nothing (bound 1).
    ///
    /// ```
    /// use mantissa_verdict::stats::ExactTier;
    ///
    /// assert_eq!(ExactTier::of_repeats(1, 0, 0.95)?.comparisons, 0);
    /// # Ok::<(), mantissa_verdict::VerdictError>(())
    /// ```
    pub fn of_repeats(repeats: u64, differing: u64, confidence: f64) -> Result<Self> {
        Self::of_comparisons(repeats.saturating_sub(1), differing, confidence)
    }

    /// Whether bits may be judged at all: something was compared and nothing differed.
    #[must_use]
    pub const fn applies(&self) -> bool {
        self.comparisons > 0 && self.differing == 0
    }

    /// The bound as a report shows it. *Errors:* none that [`Self::of_comparisons`] has not refused.
    pub fn bound(&self, of: String) -> Result<FalseAlarmBound> {
        Ok(FalseAlarmBound {
            of,
            honest_units: self.comparisons,
            alarms: self.differing,
            rate: self.rate_bound,
            confidence: self.confidence,
            needed_for_one_in_thousand: units_needed(1e-3, self.confidence)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::ExactTier;

    #[test]
    fn ten_equal_runs_are_nine_comparisons() {
        let tier = ExactTier::of_repeats(10, 0, 0.95).unwrap();
        assert!(tier.applies());
        // 1 − 0.05^(1/9)
        assert!((tier.rate_bound - 0.283_128_835_563_1).abs() < 1e-12, "{}", tier.rate_bound);
        let bound = tier.bound("repetitions".into()).unwrap();
        assert_eq!((bound.honest_units, bound.alarms, bound.needed_for_one_in_thousand), (9, 0, 2996));
    }

    #[test]
    fn one_run_says_nothing_and_a_difference_ends_the_tier() {
        let alone = ExactTier::of_repeats(1, 0, 0.95).unwrap();
        assert!(!alone.applies());
        assert_eq!(alone.rate_bound.to_bits(), 1.0_f64.to_bits());
        assert!(!ExactTier::of_repeats(0, 0, 0.95).unwrap().applies());
        assert!(!ExactTier::of_repeats(10, 1, 0.95).unwrap().applies());
        assert!(ExactTier::of_repeats(2, 2, 0.95).is_err());
    }
}
