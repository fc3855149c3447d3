//! The tests that a judgement asks for, in its own terms.
//!
//! Left out: the tests themselves (`stats`).

use crate::Result;
use crate::analysis::{FalseAlarmBound, Interval};
use crate::stats::{self, Bootstrap, PValue, Shift, Stratum};

/// p-value of "the wrong setup fits as well as the right one", one margin per reference prompt.
pub(super) fn sign_flip(margins: &[f64], seed: &[String]) -> Result<PValue> {
    stats::sign_flip_p(margins, Shift::Mean, seed_of(seed))
}

/// p-value of "repetitions of the two are exchangeable", permuted within each prompt.
pub(super) fn permuted(strata: &[Stratum], seed: &[String]) -> Result<PValue> {
    stats::strata_p(strata, seed_of(seed))
}

/// Upper bound of wrong by right over reference prompts at a level; absent where they are too few.
pub(super) fn ratio_bound(wrong: &[f64], right: &[f64], level: f64, seed: &[String]) -> Result<Option<f64>> {
    stats::ratio_bound(wrong, right, level, seed_of(seed))
}

/// A number of pairs.
pub(super) fn real(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Corrected p-values, in the order given.
pub(super) fn holm(p_values: &[PValue]) -> Vec<f64> {
    stats::holm(p_values)
}

/// Interval of mean(wrong) / mean(right) over reference prompts; absent for too few of them, a zero floor, or figures
/// so large or small that a ratio or a sum of any resample might not be finite.
pub(super) fn ratio_interval(
    wrong: &[f64],
    right: &[f64],
    confidence: f64,
    seed: &[String],
) -> Result<Option<Interval>> {
    if !right.iter().all(|floor| *floor > 0.0) {
        return Ok(None);
    }
    let units: Vec<(f64, f64)> = wrong.iter().copied().zip(right.iter().copied()).collect();
    // A ratio of sums lies between the ratios of their terms; half of the range is left for rounding.
    let limit = f64::MAX / 2.0;
    let longest_sum =
        |values: &[f64]| values.iter().fold(0.0, |sum, value| f64::max(sum, value.abs())) * length(values);
    let bounded = |value: f64| value <= limit;
    let tame = bounded(longest_sum(wrong))
        && bounded(longest_sum(right))
        && wrong.iter().chain(right).all(|value| value.is_finite())
        && units.iter().all(|unit| bounded((unit.0 / unit.1).abs()));
    if !tame {
        return Ok(None);
    }
    let ratio = |drawn: &[&(f64, f64)]| {
        let sum = |of: fn(&(f64, f64)) -> f64| drawn.iter().map(|unit| of(unit)).sum::<f64>();
        sum(|unit| unit.0) / sum(|unit| unit.1)
    };
    let bootstrap = Bootstrap { confidence, ..Bootstrap::new(seed_of(seed)) };
    Ok(bootstrap.interval(&units, ratio)?.map(|found| found.interval))
}

/// References without which no sign-flip p-value, corrected for `pairs`, reaches `alpha`: pairs · 2⁻ⁿ ≤ alpha.
pub(super) fn references_needed(pairs: usize, alpha: f64) -> u64 {
    let mut smallest = real(pairs);
    let mut needed = 0;
    while smallest > alpha && needed < 1024 {
        smallest /= 2.0;
        needed += 1;
    }
    needed
}

/// What `alarms` among honest units allow to be claimed.
pub(super) fn bound(of: String, honest_units: u64, alarms: u64, confidence: f64) -> Result<FalseAlarmBound> {
    Ok(FalseAlarmBound {
        of,
        honest_units,
        alarms,
        rate: stats::false_alarm_bound(alarms, honest_units, confidence)?,
        confidence,
        needed_for_one_in_thousand: stats::units_needed(1e-3, confidence)?,
    })
}

fn length(values: &[f64]) -> f64 {
    real(values.len())
}

fn seed_of(parts: &[String]) -> u64 {
    stats::seed_of(&parts.iter().map(String::as_str).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::{ratio_interval, references_needed};

    #[test]
    fn figures_beyond_what_a_ratio_can_hold_give_no_interval() {
        let interval = |wrong: f64, right: f64| {
            let wrongs: Vec<f64> =
                (0..12_u8).map(|index| wrong + f64::from(index % 3) * wrong / 8.0).collect();
            let rights = vec![right; 12];
            ratio_interval(&wrongs, &rights, 0.95, &["seed".to_owned()]).unwrap()
        };
        let plain = interval(2.0, 1.0).unwrap();
        assert!(plain.low >= 2.0 && plain.high <= 2.5 && plain.low < plain.high, "{plain:?}");
        for (wrong, right) in [
            (1e308, 1.0),
            (1.0, 1e308),
            (1.0, 5e-324),
            (1e308, 5e-324),
            (f64::INFINITY, 1.0),
            (f64::NAN, 1.0),
            (1.0, f64::INFINITY),
            (1.0, f64::NAN),
            (1.0, 0.0),
        ] {
            assert_eq!(interval(wrong, right), None, "{wrong} {right}");
        }
    }

    #[test]
    fn more_pairs_need_more_references() {
        assert_eq!(references_needed(1, 0.05), 5);
        assert_eq!(references_needed(3, 0.05), 6);
        assert_eq!(references_needed(36, 0.05), 10);
        assert_eq!(references_needed(1, 0.5), 1);
    }
}
