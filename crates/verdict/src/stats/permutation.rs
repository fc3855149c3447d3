//! Permutation tests by sequence: exact where all rearrangements can be visited, seeded draws otherwise.
//!
//! Left out: stratified rearrangements ([`super::strata_p`]) and several statistics at once (correct with
//! [`super::holm`] instead).

use std::cmp::Ordering;

use super::special::{length, mean};
use super::{PValue, Random, conformal::refuse_not_finite};
use crate::{Result, VerdictError};

/// Up to this many rearrangements are all visited; beyond, one less is drawn, so that p is a multiple of 2⁻¹⁶.
pub const MAX_EXACT: u64 = 1 << 16;

/// What to compute from two groups of sequence scores; large values are strange.
///
/// ```
/// use mantissa_verdict::stats::{TwoSampleStatistic, two_sample_p};
///
/// let (a, b) = ([9.0, 8.0, 7.0], [1.0, 2.0, 3.0]);
/// let larger = two_sample_p(&a, &b, TwoSampleStatistic::Mean, 1)?;
/// assert_eq!((larger.at_least(), larger.of()), (1, 20));
/// // Either way counts twice: 3 and 3 sequences never reach 0.05.
/// let different = two_sample_p(&a, &b, TwoSampleStatistic::AbsoluteMean, 1)?;
/// assert_eq!((different.at_least(), different.of()), (2, 20));
/// # Ok::<(), mantissa_verdict::VerdictError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TwoSampleStatistic {
    /// mean(a) − mean(b): are the scores of `a` larger?
    Mean,
    /// |mean(a) − mean(b)|: do they differ either way?
    AbsoluteMean,
    /// max(a) − max(b): does `a` hold the outlier?
    Max,
}

/// What to compute from one difference per sequence; large values are strange.
///
/// ```
/// use mantissa_verdict::stats::{Shift, sign_flip_p};
///
/// // Five prompts that agree: enough for "positive", too few for "off zero".
/// let positive = sign_flip_p(&[0.5, 1.0, 2.0, 0.25, 1.5], Shift::Mean, 1)?;
/// assert_eq!((positive.at_least(), positive.of()), (1, 32));
/// let off_zero = sign_flip_p(&[0.5, 1.0, 2.0, 0.25, 1.5], Shift::AbsoluteMean, 1)?;
/// assert!(positive.value() < 0.05 && off_zero.value() > 0.05);
/// # Ok::<(), mantissa_verdict::VerdictError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shift {
    /// Their mean: are differences positive?
    Mean,
    /// Its absolute value: are they off zero either way?
    AbsoluteMean,
}

/// Whether two groups of sequences differ: the labels of whole sequences are permuted.
///
/// Valid if, without a difference, every assignment of the sequences to the two groups is equally likely.
///
/// *Shape:* one score per sequence in each group. *Units:* any. *Rounding:* two statistics closer than 4 n ε max|score|
/// count as tied, which can only enlarge p. *Errors:* a score that is not finite, an empty group. *Source:* Fisher's
/// exact permutation test (Lehmann & Romano, Testing Statistical Hypotheses, 3rd ed., §15.2); drawn rearrangements:
/// p = (1 + b)/(1 + m), Phipson & Smyth, Stat. Appl. Genet. Mol. Biol. 9(1), 2010, art. 39.
///
/// ```
/// use mantissa_verdict::stats::{TwoSampleStatistic, two_sample_p};
///
/// let p = two_sample_p(&[9.0, 8.0, 7.0], &[1.0, 2.0, 3.0], TwoSampleStatistic::Mean, 1)?;
/// assert_eq!((p.at_least(), p.of()), (1, 20));
/// # Ok::<(), mantissa_verdict::VerdictError>(())
/// ```
pub fn two_sample_p(a: &[f64], b: &[f64], statistic: TwoSampleStatistic, seed: u64) -> Result<PValue> {
    for (what, group) in [("first group", a), ("second group", b)] {
        refuse_not_finite(what, group)?;
        if group.is_empty() {
            return Err(VerdictError::Empty { what });
        }
    }
    let scores = [a, b].concat();
    let evaluate = |chosen: &[usize]| {
        let mut in_a = vec![false; scores.len()];
        for &index in chosen {
            in_a[index] = true;
        }
        let group = |wanted: bool| -> Vec<f64> {
            let members = scores.iter().zip(&in_a).filter(|&(_, &is)| is == wanted);
            members.map(|(&score, _)| score).collect()
        };
        difference(&group(true), &group(false), statistic)
    };
    let mut chosen: Vec<usize> = (0..a.len()).collect();
    let bar = evaluate(&chosen) - tie_margin(&scores);
    if let Some(all) = binomial_coefficient(scores.len() as u64, a.len() as u64) {
        let mut at_least = u64::from(reaches(evaluate(&chosen), bar));
        while next_subset(&mut chosen, scores.len()) {
            at_least += u64::from(reaches(evaluate(&chosen), bar));
        }
        let mirrored = statistic == TwoSampleStatistic::AbsoluteMean && a.len() == b.len();
        return Ok(PValue::counted(at_least, all, if mirrored { 2 } else { 1 }));
    }
    let mut random = Random::new(seed);
    let mut order: Vec<usize> = (0..scores.len()).collect();
    let mut at_least = 1;
    for _ in 1..MAX_EXACT {
        for place in 0..a.len() {
            order.swap(place, place + random.below(scores.len() - place));
        }
        at_least += u64::from(reaches(evaluate(&order[..a.len()]), bar));
    }
    Ok(PValue::sampled(at_least, MAX_EXACT))
}

/// Whether paired differences, one per sequence, are centred on zero: the signs of whole sequences are flipped.
///
/// Valid if, without an effect, each difference is as likely to have the other sign. The smallest p-value of n
/// sequences is 1/2ⁿ ([`Shift::Mean`]) or 2/2ⁿ ([`Shift::AbsoluteMean`]): four reference prompts never reach 0.05.
///
/// *Shape:* one difference per sequence. *Units:* any. *Rounding:* as [`two_sample_p`]. *Errors:* a difference that is
/// not finite, no difference. *Source:* Fisher, The Design of Experiments, 1935, §21; Lehmann & Romano, §15.2.
///
/// ```
/// use mantissa_verdict::stats::{Shift, sign_flip_p};
///
/// let p = sign_flip_p(&[0.5, 1.0, 2.0, 0.25], Shift::Mean, 1)?;
/// // Four reference prompts never reach 0.05.
/// assert_eq!((p.at_least(), p.of()), (1, 16));
/// # Ok::<(), mantissa_verdict::VerdictError>(())
/// ```
pub fn sign_flip_p(differences: &[f64], statistic: Shift, seed: u64) -> Result<PValue> {
    refuse_not_finite("differences", differences)?;
    if differences.is_empty() {
        return Err(VerdictError::Empty { what: "differences" });
    }
    let evaluate = |mut flipped: Box<dyn FnMut() -> bool + '_>| {
        let sum: f64 = differences.iter().map(|&value| if flipped() { -value } else { value }).sum();
        let mean = sum / length(differences);
        if statistic == Shift::Mean { mean } else { mean.abs() }
    };
    let bar = evaluate(Box::new(|| false)) - tie_margin(differences);
    let least = if statistic == Shift::Mean { 1 } else { 2 };
    if differences.len() <= 16 {
        let all = 1_u64 << differences.len();
        let at_least = (0..all)
            .filter(|&signs| {
                let mut rest = signs;
                reaches(evaluate(Box::new(move || (rest & 1 == 1, rest >>= 1).0)), bar)
            })
            .count();
        return Ok(PValue::counted(at_least as u64, all, least));
    }
    let mut random = Random::new(seed);
    let drawn =
        (1..MAX_EXACT).filter(|_| reaches(evaluate(Box::new(|| random.bits() >> 63 == 1)), bar)).count();
    Ok(PValue::sampled(1 + drawn as u64, MAX_EXACT))
}

fn difference(a: &[f64], b: &[f64], statistic: TwoSampleStatistic) -> f64 {
    let max = |scores: &[f64]| scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match statistic {
        TwoSampleStatistic::Mean => mean(a) - mean(b),
        TwoSampleStatistic::AbsoluteMean => (mean(a) - mean(b)).abs(),
        TwoSampleStatistic::Max => max(a) - max(b),
    }
}

/// A statistic that overflowed to NaN counts as strange, so that it cannot make p small.
pub(super) fn reaches(statistic: f64, bar: f64) -> bool {
    statistic.partial_cmp(&bar) != Some(Ordering::Less)
}

/// Twice the most that reordering can change a difference of two means of n scores by rounding
/// (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., eq. 4.4).
fn tie_margin(scores: &[f64]) -> f64 {
    let largest = scores.iter().fold(0.0_f64, |largest, score| largest.max(score.abs()));
    4.0 * length(scores) * f64::EPSILON * largest
}

/// `n` choose `k` where it is at most [`MAX_EXACT`].
pub(super) fn binomial_coefficient(n: u64, k: u64) -> Option<u64> {
    let mut coefficient = 1_u64;
    for i in 0..k.min(n - k) {
        coefficient = coefficient * (n - i) / (i + 1);
        if coefficient > MAX_EXACT {
            return None;
        }
    }
    Some(coefficient)
}

/// The next subset of 0..n of the same size in lexicographic order (Knuth, TAOCP 4A, algorithm 7.2.1.3 L).
pub(super) fn next_subset(chosen: &mut [usize], n: usize) -> bool {
    let size = chosen.len();
    let Some(place) = (0..size).rev().find(|&place| chosen[place] < n - size + place) else {
        return false;
    };
    let first = chosen[place] + 1;
    for (offset, index) in chosen[place..].iter_mut().enumerate() {
        *index = first + offset;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::{Shift, TwoSampleStatistic, binomial_coefficient, sign_flip_p, two_sample_p};
    use crate::stats::special::real;

    /// Fisher's exact count by hand: of C(5, 2) = 10 choices only {5, 4} and, for the mean, {5, 4} reach 4.5.
    #[test]
    fn all_rearrangements_are_counted() {
        let p = two_sample_p(&[5.0, 4.0], &[1.0, 2.0, 3.0], TwoSampleStatistic::Mean, 0).unwrap();
        assert_eq!((p.at_least(), p.of(), p.is_sampled()), (1, 10, false));
        let p = two_sample_p(&[5.0, 3.0], &[1.0, 2.0, 4.0], TwoSampleStatistic::Mean, 0).unwrap();
        assert_eq!(p.at_least(), 2);
        let p = two_sample_p(&[4.0, 3.0], &[1.0, 2.0], TwoSampleStatistic::AbsoluteMean, 0).unwrap();
        assert_eq!((p.at_least(), p.of()), (2, 6));
        assert_eq!(p.smallest_possible().to_bits(), (2.0_f64 / 6.0).to_bits());
        let p = two_sample_p(&[9.0, 0.0], &[1.0, 2.0], TwoSampleStatistic::Max, 0).unwrap();
        // {9, 2} − 1 = 8, {9, 0} − 2 = 7 and {9, 1} − 2 = 7 reach 7.
        assert_eq!(p.at_least(), 3);
    }

    #[test]
    fn rounding_does_not_break_ties() {
        let tenths = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6];
        let p = two_sample_p(&tenths[..3], &tenths[3..], TwoSampleStatistic::AbsoluteMean, 0).unwrap();
        assert_eq!((p.at_least(), p.of()), (2, 20));
        let p = sign_flip_p(&[0.1, 0.2, -0.3], Shift::AbsoluteMean, 0).unwrap();
        assert_eq!((p.at_least(), p.of()), (8, 8));
    }

    #[test]
    fn the_smallest_sign_flip_is_one_of_two_to_the_n() {
        for n in 1..=16 {
            let differences: Vec<f64> = (1..=n).map(real).collect();
            let p = sign_flip_p(&differences, Shift::Mean, 0).unwrap();
            assert_eq!((p.at_least(), p.of()), (1, 1 << n));
            assert_eq!(p.value().to_bits(), p.smallest_possible().to_bits());
            let p = sign_flip_p(&differences, Shift::AbsoluteMean, 0).unwrap();
            assert_eq!(p.at_least(), 2);
            assert_eq!(p.value().to_bits(), p.smallest_possible().to_bits());
        }
    }

    /// The same test drawn and visited: |p̂ − p| within five standard errors √(p(1−p)/65535).
    #[test]
    fn draws_agree_with_the_exact_count() {
        let differences: Vec<f64> = (0..16).map(|i| real(i) - 5.0).collect();
        let exact = sign_flip_p(&differences, Shift::Mean, 0).unwrap();
        let with_zero = [&differences[..], &[0.0]].concat();
        let drawn = sign_flip_p(&with_zero, Shift::Mean, 7).unwrap();
        assert!(drawn.is_sampled() && !exact.is_sampled());
        let error = 5.0 * (exact.value() * (1.0 - exact.value()) / 65535.0).sqrt();
        assert!((drawn.value() - exact.value()).abs() < error, "{exact:?} {drawn:?}");
        assert_eq!(drawn, sign_flip_p(&with_zero, Shift::Mean, 7).unwrap());
        assert_ne!(drawn, sign_flip_p(&with_zero, Shift::Mean, 8).unwrap());
    }

    #[test]
    fn large_groups_are_drawn() {
        assert_eq!(binomial_coefficient(18, 9), Some(48_620));
        assert_eq!(binomial_coefficient(20, 10), None);
        assert_eq!(binomial_coefficient(u64::from(u32::MAX), u64::from(u32::MAX) / 2), None);
        let low: Vec<f64> = (0..10).map(real).collect();
        let high: Vec<f64> = (100..110).map(real).collect();
        let p = two_sample_p(&high, &low, TwoSampleStatistic::Mean, 1).unwrap();
        assert!(p.is_sampled());
        // One of 184,756 assignments is as extreme: 65,535 draws find it about once in three tests.
        assert!(p.at_least() <= 6, "{p:?}");
    }

    #[test]
    fn overflow_never_makes_p_small() {
        let p =
            two_sample_p(&[f64::MAX, f64::MAX], &[f64::MAX, f64::MAX], TwoSampleStatistic::Mean, 0).unwrap();
        assert_eq!(p.at_least(), p.of());
        assert!(two_sample_p(&[f64::INFINITY], &[0.0], TwoSampleStatistic::Mean, 0).is_err());
        assert!(sign_flip_p(&[], Shift::Mean, 0).is_err());
    }
}
