//! Do repetitions of two setups differ? Labels are permuted among the repetitions of each prompt.
//!
//! Only distances between repetitions enter, so signals of any shape can be tested. Left out: which distance.

use super::permutation::{MAX_EXACT, binomial_coefficient, next_subset, reaches};
use super::special::length;
use super::{PValue, Random};
use crate::{Result, VerdictError};

/// The repetitions of two setups on one prompt.
///
/// Example: [`strata_p`].
#[derive(Debug, Clone, PartialEq)]
pub struct Stratum {
    /// Distance between every two repetitions: symmetric, those of the first setup before those of the second.
    pub distances: Vec<Vec<f64>>,
    /// How many are of the first setup.
    pub first: usize,
}

/// Whether repetitions of two setups lie farther from each other than from their like, over all prompts.
///
/// Valid if, without a difference, every assignment of a prompt's repetitions to the two setups is equally likely.
/// The statistic of a prompt is the mean distance between the two setups minus the mean distance within them, over the
/// mean of all distances; prompts add up, and each is permuted by itself. With 3 and 3 repetitions of one prompt, 2 of
/// 20 assignments are the observed one and its mirror image: p is never below 2/20.
///
/// *Shape:* a square of distances per prompt. *Units:* any, the same within a prompt. *Rounding:* two statistics closer
/// than 8 n² ε count as tied, which can only enlarge p. *Errors:* no prompt, a distance that is not finite, a
/// square that is none, a prompt without a repetition of either setup or with fewer than three in all. *Source:*
/// multi-response permutation procedure, Mielke & Berry, Permutation Methods, 2nd ed. 2007, ch. 2, stratified; drawn
/// assignments as in [`two_sample_p`](super::two_sample_p).
///
/// ```
/// use mantissa_verdict::stats::{Stratum, strata_p};
///
/// let apart = |x: f64, y: f64| (x - y).abs();
/// let all = [0.0, 0.1, 0.2, 5.0, 5.1, 5.2];
/// let distances = all.iter().map(|&x| all.iter().map(|&y| apart(x, y)).collect()).collect();
/// let one = Stratum { distances, first: 3 };
/// let p = strata_p(&[one.clone()], 1)?;
/// assert_eq!((p.at_least(), p.of()), (2, 20));
/// // A second prompt that says the same.
/// let p = strata_p(&[one.clone(), one], 1)?;
/// assert_eq!((p.at_least(), p.of()), (4, 400));
/// # Ok::<(), mantissa_verdict::VerdictError>(())
/// ```
pub fn strata_p(strata: &[Stratum], seed: u64) -> Result<PValue> {
    if strata.is_empty() {
        return Err(VerdictError::Empty { what: "prompts with repetitions" });
    }
    for stratum in strata {
        stratum.check()?;
    }
    let all = strata.iter().try_fold(1_u64, |product, stratum| {
        let of = binomial_coefficient(stratum.distances.len() as u64, stratum.first as u64)?;
        product.checked_mul(of).filter(|&product| product <= MAX_EXACT)
    });
    let largest = strata.iter().map(|stratum| stratum.distances.len()).max().unwrap_or(0);
    let size = f64::from(u32::try_from(largest).unwrap_or(u32::MAX));
    let margin = 8.0 * size * size * f64::EPSILON * length(strata);
    let seen: f64 = strata.iter().map(|stratum| stratum.statistic(&stratum.observed())).sum();
    let bar = seen - margin;
    let mirrored = strata.iter().filter(|stratum| 2 * stratum.first == stratum.distances.len());
    let least = mirrored.fold(1_u64, |least, _| least.saturating_mul(2));
    if let Some(all) = all {
        // Sums over every combination of assignments, prompt by prompt.
        let mut sums = vec![0.0];
        for stratum in strata {
            let of_prompt = stratum.every_statistic();
            sums = sums.iter().flat_map(|sum| of_prompt.iter().map(move |one| sum + one)).collect();
        }
        let at_least = sums.into_iter().filter(|&sum| reaches(sum, bar)).count();
        return Ok(PValue::counted(at_least as u64, all, least));
    }
    let mut random = Random::new(seed);
    let mut orders: Vec<Vec<usize>> =
        strata.iter().map(|stratum| (0..stratum.distances.len()).collect()).collect();
    let mut at_least = 1;
    for _ in 1..MAX_EXACT {
        let mut sum = 0.0;
        for (stratum, order) in strata.iter().zip(&mut orders) {
            let all = order.len();
            for place in 0..stratum.first {
                order.swap(place, place + random.below(all - place));
            }
            sum += stratum.statistic(&order[..stratum.first]);
        }
        at_least += u64::from(reaches(sum, bar));
    }
    Ok(PValue::sampled(at_least, MAX_EXACT))
}

/// Repetitions of each setup, on each of so many prompts, without which no p-value, corrected for `pairs`, is at most
/// `alpha`: pairs · (2 / C(2r, r))^prompts ≤ alpha.
///
/// ```
/// use mantissa_verdict::stats::repetitions_needed;
///
/// // 2/20 with three each, 2/70 with four.
/// assert_eq!(repetitions_needed(1, 1, 0.05), 4);
/// assert_eq!(repetitions_needed(2, 1, 0.05), 3);
/// ```
#[must_use]
pub fn repetitions_needed(prompts: usize, pairs: usize, alpha: f64) -> u64 {
    let pairs = f64::from(u32::try_from(pairs).unwrap_or(u32::MAX));
    let prompts = f64::from(u32::try_from(prompts.max(1)).unwrap_or(u32::MAX));
    let mut assignments = 2.0_f64;
    let mut each = 1_u32;
    while pairs * libm::pow(2.0 / assignments, prompts) > alpha && each < 512 {
        let n = f64::from(each);
        // C(2n + 2, n + 1) = C(2n, n) · 2 (2n + 1) / (n + 1)
        assignments *= 2.0 * (2.0 * n + 1.0) / (n + 1.0);
        each += 1;
    }
    u64::from(each)
}

impl Stratum {
    fn check(&self) -> Result<()> {
        let size = self.distances.len();
        if self.first == 0 || self.first >= size || size < 3 {
            return Err(VerdictError::Empty { what: "repetitions of a prompt" });
        }
        for row in &self.distances {
            if row.len() != size {
                return Err(VerdictError::Empty { what: "distances between repetitions" });
            }
            super::conformal::refuse_not_finite("distances between repetitions", row)?;
        }
        Ok(())
    }

    fn observed(&self) -> Vec<usize> {
        (0..self.first).collect()
    }

    fn every_statistic(&self) -> Vec<f64> {
        let mut chosen = self.observed();
        let mut all = vec![self.statistic(&chosen)];
        while next_subset(&mut chosen, self.distances.len()) {
            all.push(self.statistic(&chosen));
        }
        all
    }

    /// Mean distance between minus mean distance within, over the mean of all.
    fn statistic(&self, chosen: &[usize]) -> f64 {
        let mut is_first = vec![false; self.distances.len()];
        for &index in chosen {
            is_first[index] = true;
        }
        let (mut between, mut within) = ((0.0, 0_u32), (0.0, 0_u32));
        for (row, distances) in self.distances.iter().enumerate() {
            for (column, &distance) in distances.iter().enumerate().take(row) {
                let sum = if is_first[row] == is_first[column] { &mut within } else { &mut between };
                *sum = (sum.0 + distance, sum.1 + 1);
            }
        }
        let total = (between.0 + within.0) / f64::from(between.1 + within.1);
        if total > 0.0 {
            (between.0 / f64::from(between.1) - within.0 / f64::from(within.1)) / total
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Stratum, repetitions_needed, strata_p};

    fn line(a: &[f64], b: &[f64]) -> Stratum {
        let all = [a, b].concat();
        let distances = all.iter().map(|x| all.iter().map(|y| (x - y).abs()).collect()).collect();
        Stratum { distances, first: a.len() }
    }

    /// By hand: of the 4 ways to single out one of four repetitions, only the observed one is the farthest.
    #[test]
    fn one_repetition_beside_three_is_one_of_four() {
        let p = strata_p(&[line(&[9.0], &[1.0, 2.0, 4.0])], 0).unwrap();
        assert_eq!((p.at_least(), p.of()), (1, 4));
        let p = strata_p(&[line(&[2.0], &[1.0, 4.0, 9.0])], 0).unwrap();
        assert_eq!((p.at_least(), p.of()), (4, 4));
    }

    #[test]
    fn equal_repetitions_say_nothing_and_order_is_nothing() {
        let p = strata_p(&[line(&[1.0, 1.0], &[1.0, 1.0])], 0).unwrap();
        assert_eq!((p.at_least(), p.of()), (6, 6));
        let one = strata_p(&[line(&[1.0, 2.0, 3.5], &[2.5, 4.0, 5.0]), line(&[1.0, 2.0], &[3.0, 4.0])], 0);
        let other = strata_p(&[line(&[2.0, 1.0], &[4.0, 3.0]), line(&[3.5, 1.0, 2.0], &[5.0, 2.5, 4.0])], 9);
        assert_eq!(one.unwrap(), other.unwrap());
    }

    #[test]
    fn the_smallest_p_is_that_of_repetitions_needed() {
        for (prompts, pairs) in [(1, 1), (1, 10), (2, 1), (3, 4)] {
            let each = usize::try_from(repetitions_needed(prompts, pairs, 0.05)).unwrap();
            let p = |each: usize| {
                let side = |from: f64| {
                    (0..each).map(|i| from + 0.01 * crate::stats::special::real(i as u64)).collect::<Vec<_>>()
                };
                let strata = vec![line(&side(0.0), &side(9.0)); prompts];
                strata_p(&strata, 0).unwrap()
            };
            let pairs = f64::from(u32::try_from(pairs).unwrap());
            assert!(p(each).smallest_possible() * pairs <= 0.05, "{prompts} {pairs}");
            assert!(each == 2 || p(each - 1).smallest_possible() * pairs > 0.05, "{prompts} {pairs}");
        }
    }

    #[test]
    fn many_repetitions_are_drawn() {
        let side = |from: u32| (from..from + 12).map(f64::from).collect::<Vec<_>>();
        let p = strata_p(&[line(&side(0), &side(100))], 3).unwrap();
        assert!(p.is_sampled() && p.value() < 0.001, "{p:?}");
        let mixed = |odd: u32| (0..12).map(|i| f64::from(2 * i + odd)).collect::<Vec<_>>();
        let p = strata_p(&[line(&mixed(0), &mixed(1))], 3).unwrap();
        assert!(p.value() > 0.5, "{p:?}");
    }

    #[test]
    fn what_is_no_square_of_distances_is_refused() {
        assert!(strata_p(&[], 0).is_err());
        assert!(strata_p(&[line(&[1.0], &[2.0])], 0).is_err(), "nothing within");
        assert!(strata_p(&[line(&[1.0, 2.0, 3.0], &[])], 0).is_err());
        assert!(strata_p(&[line(&[f64::NAN], &[1.0, 2.0])], 0).is_err());
    }
}
