//! The tests that a judgement asks for, in its own terms.
//!
//! Left out: the tests themselves (`stats`).

use crate::Result;
use crate::analysis::{FalseAlarmBound, Interval};
use crate::stats::{self, Bootstrap, PValue, Shift};

/// p-value of "the wrong setup fits as well as the right one", one margin per reference prompt.
pub(super) fn sign_flip(margins: &[f64], seed: &[String]) -> Result<PValue> {
    stats::sign_flip_p(margins, Shift::Mean, seed_of(seed))
}

/// Corrected p-values, in the order given.
pub(super) fn holm(p_values: &[PValue]) -> Vec<f64> {
    stats::holm(p_values)
}

/// Interval of mean(wrong) / mean(right) over reference prompts; absent for too few of them or a zero floor.
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
    let ratio = |drawn: &[&(f64, f64)]| {
        let sum = |of: fn(&(f64, f64)) -> f64| drawn.iter().map(|unit| of(unit)).sum::<f64>();
        sum(|unit| unit.0) / sum(|unit| unit.1)
    };
    let bootstrap = Bootstrap { confidence, ..Bootstrap::new(seed_of(seed)) };
    Ok(bootstrap.interval(&units, ratio)?.map(|found| found.interval))
}

/// References without which no sign-flip p-value, corrected for `pairs`, reaches `alpha`: pairs · 2⁻ⁿ ≤ alpha.
pub(super) fn references_needed(pairs: usize, alpha: f64) -> u64 {
    let mut smallest = f64::from(u32::try_from(pairs).unwrap_or(u32::MAX));
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

fn seed_of(parts: &[String]) -> u64 {
    stats::seed_of(&parts.iter().map(String::as_str).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::references_needed;

    #[test]
    fn more_pairs_need_more_references() {
        assert_eq!(references_needed(1, 0.05), 5);
        assert_eq!(references_needed(3, 0.05), 6);
        assert_eq!(references_needed(36, 0.05), 10);
        assert_eq!(references_needed(1, 0.5), 1);
    }
}
