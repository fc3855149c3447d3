//! Several tests at once: Holm, Benjamini–Hochberg, and which of several candidates remain, possibly none.
//!
//! Left out: corrections that need the tests' joint distribution.

use super::PValue;
use super::binomial::level;
use crate::{Result, VerdictError};

/// Which candidates an observation does not rule out.
///
/// ```
/// use mantissa_verdict::stats::{Identified, conformal_p, identify};
///
/// let found = |honest: usize| {
///     let honest = vec![1.0; honest];
///     identify(&[conformal_p(50.0, &honest)?, conformal_p(60.0, &honest)?], 0.05)
/// };
/// // Neither candidate fits. Ruling one of two out at 0.05 takes 2/0.05 − 1 = 39 honest units.
/// assert_eq!(found(39)?.identified(), Identified::NoneOfThese);
/// let too_few = found(38)?;
/// assert_eq!((too_few.identified(), too_few.out_of_reach), (Identified::Several(vec![0, 1]), vec![0, 1]));
/// # Ok::<(), mantissa_verdict::VerdictError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Identification {
    /// The level: the probability of ruling out any candidate wrongly is at most this.
    pub alpha: f64,
    /// Holm-adjusted p-values, in the order given.
    pub adjusted: Vec<f64>,
    /// Positions of the candidates that remain, in the order given.
    pub accepted: Vec<usize>,
    /// Of these, the ones that no data of this size could have ruled out: accepted for want of units, not on evidence.
    pub out_of_reach: Vec<usize>,
}

/// What remains of the candidates.
///
/// Example: [`Identification`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identified {
    /// Every candidate is ruled out: the truth is none of these.
    NoneOfThese,
    /// One remains (and may still be wrong: only the others were ruled out).
    One(usize),
    /// Several remain; this evidence does not tell them apart.
    Several(Vec<usize>),
}

impl Identification {
    /// What remains.
    #[must_use]
    pub fn identified(&self) -> Identified {
        match self.accepted[..] {
            [] => Identified::NoneOfThese,
            [one] => Identified::One(one),
            _ => Identified::Several(self.accepted.clone()),
        }
    }
}

/// Which candidates remain at level `alpha`, each tested by the p-value of "this candidate produced the observation".
///
/// Inverts the tests: a candidate remains unless Holm's procedure rejects it. "None of these" is therefore said of a
/// true candidate with probability at most `alpha`, however many candidates share its bits. With m candidates and
/// conformal p-values, rejecting one takes n ≥ m/α − 1 honest units; below that it is listed as out of reach.
///
/// *Shape:* one p-value per candidate. *Errors:* no candidate; `alpha` not inside (0, 1). *Source:* [`holm`];
/// test inversion: Lehmann & Romano, Testing Statistical Hypotheses, 3rd ed., §3.5.
///
/// ```
/// use mantissa_verdict::stats::{Identified, conformal_p, identify};
///
/// let honest: Vec<f64> = (0..60).map(f64::from).collect();
/// let p_values = [conformal_p(99.0, &honest)?, conformal_p(30.0, &honest)?];
/// assert_eq!(identify(&p_values, 0.05)?.identified(), Identified::One(1));
/// # Ok::<(), mantissa_verdict::VerdictError>(())
/// ```
pub fn identify(p_values: &[PValue], alpha: f64) -> Result<Identification> {
    level("alpha", alpha)?;
    if p_values.is_empty() {
        return Err(VerdictError::Empty { what: "candidates" });
    }
    let adjusted = holm(p_values);
    // Holm is monotone: if a candidate stays even when all p-values are the smallest possible, nothing could reject it.
    let smallest: Vec<PValue> = p_values.iter().map(|p| p.at_its_smallest()).collect();
    let at_best = holm(&smallest);
    let above = |adjusted: &[f64]| (0..p_values.len()).filter(|&index| adjusted[index] > alpha).collect();
    Ok(Identification { alpha, accepted: above(&adjusted), out_of_reach: above(&at_best), adjusted })
}

/// Holm-adjusted p-values: rejecting those ≤ α keeps the probability of any false rejection at most α, whatever the
/// dependence between tests.
///
/// *Shape:* as given. *Rounding:* one division each. *Source:* Holm, Scand. J. Statist. 6, 1979: p̃₍ᵢ₎ =
/// max over j ≤ i of (m − j + 1) p₍ⱼ₎, at most 1.
///
/// ```
/// use mantissa_verdict::stats::{conformal_p, holm};
///
/// let honest: Vec<f64> = (0..99).map(f64::from).collect();
/// let p_values = [conformal_p(200.0, &honest)?, conformal_p(50.0, &honest)?];
/// assert_eq!(holm(&p_values), [0.02, 0.5]);
/// # Ok::<(), mantissa_verdict::VerdictError>(())
/// ```
#[must_use]
pub fn holm(p_values: &[PValue]) -> Vec<f64> {
    let mut adjusted = vec![0.0; p_values.len()];
    let mut running = 0.0_f64;
    for (rank, index) in by_size(p_values).into_iter().enumerate() {
        running = running.max(p_values[index].scaled(p_values.len() - rank, 1));
        adjusted[index] = running;
    }
    adjusted
}

/// Benjamini–Hochberg-adjusted p-values: rejecting those ≤ q keeps the expected share of false rejections at most q for
/// independent tests, and for conformal p-values that share their calibration.
///
/// *Shape:* as given. *Rounding:* one division each. *Source:* Benjamini & Hochberg, J. R. Statist. Soc. B 57, 1995:
/// p̃₍ᵢ₎ = min over j ≥ i of m p₍ⱼ₎ / j, at most 1; shared calibration: Bates, Candès, Lei, Romano & Sesia, Ann.
/// Statist. 51(1), 2023 (arXiv:2104.08279).
///
/// ```
/// use mantissa_verdict::stats::{benjamini_hochberg, conformal_p};
///
/// let honest: Vec<f64> = (0..99).map(f64::from).collect();
/// let p_values = [conformal_p(200.0, &honest)?, conformal_p(50.0, &honest)?];
/// assert_eq!(benjamini_hochberg(&p_values), [0.02, 0.5]);
/// # Ok::<(), mantissa_verdict::VerdictError>(())
/// ```
#[must_use]
pub fn benjamini_hochberg(p_values: &[PValue]) -> Vec<f64> {
    let mut adjusted = vec![0.0; p_values.len()];
    let mut running = 1.0_f64;
    for (rank, index) in by_size(p_values).into_iter().enumerate().rev() {
        running = running.min(p_values[index].scaled(p_values.len(), rank + 1));
        adjusted[index] = running;
    }
    adjusted
}

fn by_size(p_values: &[PValue]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&left, &right| p_values[left].compare(p_values[right]));
    order
}

#[cfg(test)]
mod tests {
    use super::{Identified, PValue, benjamini_hochberg, holm, identify};

    fn thousandths(counts: &[u64]) -> Vec<PValue> {
        counts.iter().map(|&count| PValue::counted(count, 1000, 1)).collect()
    }

    fn bits(values: &[f64]) -> Vec<u64> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    /// Holm by hand: 4 · 0.005, 3 · 0.01, 2 · 0.03, 1 · 0.04 and the running maximum. Benjamini–Hochberg: scipy 1.17.1,
    /// `stats.false_discovery_control`.
    #[test]
    fn adjusted_values_are_the_published_procedures() {
        let p = thousandths(&[10, 40, 30, 5]);
        assert_eq!(bits(&holm(&p)), bits(&[0.03, 0.06, 0.06, 0.02]));
        assert_eq!(bits(&benjamini_hochberg(&p)), bits(&[0.02, 0.04, 0.04, 0.02]));
        assert_eq!(bits(&holm(&thousandths(&[600, 700]))), bits(&[1.0, 1.0]));
        assert!(holm(&[]).is_empty());
    }

    #[test]
    fn what_remains_may_be_one_several_or_none() {
        let identified = |counts: &[u64]| identify(&thousandths(counts), 0.05).unwrap().identified();
        assert_eq!(identified(&[1, 2, 500]), Identified::One(2));
        assert_eq!(identified(&[900, 2, 500]), Identified::Several(vec![0, 2]));
        assert_eq!(identified(&[1, 2, 3]), Identified::NoneOfThese);
        // Equality rejects: 0.05 ≤ 0.05.
        assert_eq!(identified(&[50]), Identified::NoneOfThese);
        assert!(identify(&[], 0.05).is_err());
        assert!(identify(&thousandths(&[1]), 1.0).is_err());
    }

    #[test]
    fn too_few_units_are_not_evidence() {
        // Nine honest units: 2 × 1/10 > 0.1, so no candidate of two can be ruled out at 0.1.
        let few = [PValue::counted(1, 10, 1), PValue::counted(1, 10, 1)];
        let result = identify(&few, 0.1).unwrap();
        assert_eq!(result.identified(), Identified::Several(vec![0, 1]));
        assert_eq!(result.out_of_reach, [0, 1]);
        let enough = [PValue::counted(1, 20, 1), PValue::counted(20, 20, 1)];
        let result = identify(&enough, 0.1).unwrap();
        assert_eq!(result.identified(), Identified::One(1));
        assert!(result.out_of_reach.is_empty());
    }
}
