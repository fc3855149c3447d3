//! How far at most is the wrong setup, in units of the right one?
//!
//! Left out: intervals with two ends ([`super::Bootstrap`]).

use super::permutation::MAX_EXACT;
use super::{Random, conformal::refuse_not_finite};
use crate::{Result, VerdictError};

/// Upper bound of wrong / right over sequences: the smallest factor that a sign-flip test at `level` excludes.
///
/// For a factor f the test flips signs of f · rightᵢ − wrongᵢ, one per sequence. Of 2ⁿ choices those count as extreme
/// whose flipped sequences have Σ wrong ≥ f · Σ right, and the choice that flips none. So the bound is an order
/// statistic of the quotients Σ wrong / Σ right over all subsets of sequences, and n sequences have a bound only where
/// 2⁻ⁿ is at most the level. Two setups are equivalent up to f, at this level, if the bound is below f.
///
/// Valid if f · right − wrong is as likely above its centre as below, sequence by sequence.
///
/// *Shape:* two distances per sequence, neither below 0. *Units:* a quotient. *Rounding:* sums in order, one division a
/// subset. *Errors:* lists of other lengths, a distance that is not finite, a level outside (0, 1). *Source:* Hartigan,
/// Using subsample values as typical values, JASA 64, 1969, 1303–1317; equivalence by one-sided tests: Wellek, Testing
/// Statistical Hypotheses of Equivalence, 2nd ed. 2010, ch. 1. Over 16 sequences 65,535 subsets are drawn.
///
/// ```
/// use mantissa_verdict::stats::ratio_bound;
///
/// let right = [1.0, 1.2, 0.9, 1.1, 1.0];
/// let wrong = [1.1, 1.2, 1.0, 1.0, 1.1];
/// let bound = ratio_bound(&wrong, &right, 0.05, 1)?.expect("5 sequences are enough for 0.05");
/// assert!(bound > 1.0 && bound < 1.2);
/// assert_eq!(ratio_bound(&wrong[..4], &right[..4], 0.05, 1)?, None);
/// # Ok::<(), mantissa_verdict::VerdictError>(())
/// ```
pub fn ratio_bound(wrong: &[f64], right: &[f64], level: f64, seed: u64) -> Result<Option<f64>> {
    refuse_not_finite("wrong distances", wrong)?;
    refuse_not_finite("right distances", right)?;
    if wrong.len() != right.len() {
        return Err(VerdictError::Empty { what: "sequences with both distances" });
    }
    if !(level > 0.0 && level < 1.0) {
        return Err(VerdictError::OutOfRange {
            what: "level",
            value: level,
            range: "between 0 and 1, both excluded",
        });
    }
    let quotient = |mut flipped: Box<dyn FnMut() -> bool + '_>| {
        let (mut above, mut below) = (0.0, 0.0);
        for (wrong, right) in wrong.iter().zip(right) {
            if flipped() {
                (above, below) = (above + wrong, below + right);
            }
        }
        // Nothing right to measure by: no factor is excluded.
        if below > 0.0 { above / below } else { f64::INFINITY }
    };
    let (mut quotients, of): (Vec<f64>, u64) = if wrong.len() <= 16 {
        let all = 1_u64 << wrong.len();
        let every = (1..all).map(|signs| {
            let mut rest = signs;
            quotient(Box::new(move || (rest & 1 == 1, rest >>= 1).0))
        });
        (every.collect(), all)
    } else {
        let mut random = Random::new(seed);
        let drawn = (1..MAX_EXACT).map(|_| quotient(Box::new(|| random.bits() >> 63 == 1)));
        (drawn.collect(), MAX_EXACT)
    };
    // The choice that flips none counts; so many others may reach a factor that is still excluded.
    let allowed = (0..of).take_while(|&others| real_share(others + 1, of) <= level).count();
    if allowed == 0 {
        return Ok(None);
    }
    quotients.sort_by(|x, y| y.total_cmp(x));
    // At most `allowed − 1` quotients lie at the bound or above it, so it is the next one.
    Ok(quotients.get(allowed - 1).copied().filter(|bound| bound.is_finite()))
}

fn real_share(count: u64, of: u64) -> f64 {
    super::special::real(count) / super::special::real(of)
}

#[cfg(test)]
mod tests {
    use super::ratio_bound;
    use crate::stats::{Random, Shift, sign_flip_p};

    /// The bound is where the test turns: a factor above it is excluded, one below it is not.
    #[test]
    fn a_bound_inverts_the_test() {
        let mut random = Random::new(5);
        for n in [5_usize, 6, 9, 12] {
            let mut draw = || (0..n).map(|_| 0.5 + random.unit()).collect::<Vec<f64>>();
            let (wrong, right) = (draw(), draw());
            let bound = ratio_bound(&wrong, &right, 0.05, 1).unwrap().unwrap();
            let p = |factor: f64| {
                let margins: Vec<f64> = wrong.iter().zip(&right).map(|(w, r)| factor * r - w).collect();
                sign_flip_p(&margins, Shift::Mean, 1).unwrap().value()
            };
            assert!(p(bound * 1.000_001) <= 0.05, "{n}");
            assert!(p(bound * 0.999_999) > 0.05, "{n}");
        }
    }

    #[test]
    fn too_few_sequences_and_nothing_right_have_no_bound() {
        assert_eq!(ratio_bound(&[1.0; 4], &[1.0; 4], 0.05, 1).unwrap(), None);
        assert_eq!(ratio_bound(&[1.0; 5], &[1.0; 5], 0.05, 1).unwrap(), Some(1.0));
        assert_eq!(ratio_bound(&[0.0; 9], &[0.0; 9], 0.05, 1).unwrap(), None);
        assert!(ratio_bound(&[1.0; 5], &[1.0; 4], 0.05, 1).is_err());
        assert!(ratio_bound(&[1.0; 5], &[1.0; 5], 1.0, 1).is_err());
    }

    #[test]
    fn many_sequences_are_drawn() {
        let right: Vec<f64> = (0..40).map(|i| 1.0 + f64::from(i % 5) / 10.0).collect();
        let wrong: Vec<f64> = (0..40).map(|i| 1.0 + f64::from(i % 7) / 10.0).collect();
        let bound = ratio_bound(&wrong, &right, 0.05, 1).unwrap().unwrap();
        assert!((1.0..1.3).contains(&bound), "{bound}");
    }
}
