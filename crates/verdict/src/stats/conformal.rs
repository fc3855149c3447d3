//! Conformal p-values: a score among scores of honest units.
//!
//! Left out: one-sidedness the other way (negate the scores) and weighting.

use super::PValue;
use crate::{Result, VerdictError};

/// How the tokens of a sequence become its one score.
///
/// Either choice keeps exchangeability only between sequences of like length: the maximum of more tokens is larger.
///
/// ```
/// use mantissa_verdict::stats::{Summary, sequence_scores};
///
/// // One strange token of four: the largest score shows it, the mean is that of an even sequence.
/// let sequences = [[1.0, 1.0, 1.0, 9.0], [3.0, 3.0, 3.0, 3.0]];
/// assert_eq!(sequence_scores(&sequences, Summary::Max)?, [9.0, 3.0]);
/// assert_eq!(sequence_scores(&sequences, Summary::Mean)?, [3.0, 3.0]);
/// # Ok::<(), mantissa_verdict::VerdictError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Summary {
    /// The largest token score.
    Max,
    /// The mean token score, summed in token order.
    Mean,
}

/// The p-value of `score` among the scores of honest units, large scores counting as strange.
///
/// p = (1 + #{s_i ≥ s}) / (n + 1): ties count against an alarm. If score and calibration are exchangeable, then
/// P(p ≤ α) ≤ α, averaged over calibration sets. For *one given* calibration set the rate of alarms is itself random;
/// [`super::false_alarm_bound`] of [`super::conformal_alarm_rank`] − 1 alarms in n bounds it.
///
/// *Shape:* one score per sequence, never per token. *Units:* any, only the order counts; infinite scores are allowed.
/// *Rounding:* none. *Errors:* NaN; no calibration. *Source:* Vovk, Gammerman & Shafer, Algorithmic Learning in a
/// Random World, 2005, §2.2; as "marginal conformal p-value" in Bates, Candès, Lei, Romano & Sesia, Ann. Statist.
/// 51(1), 2023 (arXiv:2104.08279), §1.
///
/// ```
/// use mantissa_verdict::stats::conformal_p;
///
/// let p = conformal_p(9.0, &[1.0, 2.0, 3.0])?;
/// assert_eq!((p.at_least(), p.of()), (1, 4));
/// # Ok::<(), mantissa_verdict::VerdictError>(())
/// ```
pub fn conformal_p(score: f64, calibration: &[f64]) -> Result<PValue> {
    refuse_nan("score", &[score])?;
    refuse_nan("calibration", calibration)?;
    if calibration.is_empty() {
        return Err(VerdictError::Empty { what: "calibration" });
    }
    let at_least = calibration.iter().filter(|&&honest| honest >= score).count() as u64;
    Ok(PValue::counted(1 + at_least, 1 + calibration.len() as u64, 1))
}

/// [`conformal_p`] of a sequence's tokens among honest sequences, each summarized to one score first.
///
/// *Shape:* `tokens`: token scores of the tested sequence; `calibration[sequence][token]`. *Errors:* NaN, an empty
/// list. *Source:* as [`conformal_p`], with clusters as units (the two-layer setting of Dunn, Wasserman & Ramdas,
/// arXiv:1809.07441; where they draw one observation of each group, a summary is taken here, so that no token is lost).
///
/// ```
/// use mantissa_verdict::stats::{Summary, conformal_p_by_sequence};
///
/// let honest = [[1.0, 2.0], [1.0, 3.0], [2.0, 2.0]];
/// let p = conformal_p_by_sequence(&[9.0, 1.0], &honest, Summary::Max)?;
/// assert_eq!((p.at_least(), p.of()), (1, 4));
/// # Ok::<(), mantissa_verdict::VerdictError>(())
/// ```
pub fn conformal_p_by_sequence<S: AsRef<[f64]>>(
    tokens: &[f64],
    calibration: &[S],
    summary: Summary,
) -> Result<PValue> {
    conformal_p(summarize(tokens, summary)?, &sequence_scores(calibration, summary)?)
}

/// One score per sequence. *Shape:* `sequences[sequence][token]`. *Errors:* NaN, a sequence without tokens.
///
/// ```
/// use mantissa_verdict::stats::{Summary, sequence_scores};
///
/// assert_eq!(sequence_scores(&[[1.0, 3.0], [2.0, 2.0]], Summary::Max)?, [3.0, 2.0]);
/// # Ok::<(), mantissa_verdict::VerdictError>(())
/// ```
pub fn sequence_scores<S: AsRef<[f64]>>(sequences: &[S], summary: Summary) -> Result<Vec<f64>> {
    sequences.iter().map(|tokens| summarize(tokens.as_ref(), summary)).collect()
}

fn summarize(tokens: &[f64], summary: Summary) -> Result<f64> {
    refuse_nan("token scores", tokens)?;
    if tokens.is_empty() {
        return Err(VerdictError::Empty { what: "token scores" });
    }
    Ok(match summary {
        Summary::Max => tokens.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        Summary::Mean => super::special::mean(tokens),
    })
}

pub(super) fn refuse_nan(what: &'static str, scores: &[f64]) -> Result<()> {
    match scores.iter().position(|score| score.is_nan()) {
        Some(index) => Err(VerdictError::NotANumber { what, index, value: f64::NAN }),
        None => Ok(()),
    }
}

pub(super) fn refuse_not_finite(what: &'static str, scores: &[f64]) -> Result<()> {
    match scores.iter().position(|score| !score.is_finite()) {
        Some(index) => Err(VerdictError::NotANumber { what, index, value: scores[index] }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Summary, conformal_p, conformal_p_by_sequence};

    #[test]
    fn ties_count_against_an_alarm() {
        let calibration = [1.0, 2.0, 2.0, 3.0];
        let p = |score| conformal_p(score, &calibration).unwrap();
        assert_eq!((p(3.5).at_least(), p(3.5).of()), (1, 5));
        assert_eq!(p(2.0).at_least(), 4);
        assert_eq!(p(0.0).at_least(), 5);
        assert_eq!(p(f64::INFINITY).at_least(), 1);
        assert_eq!(p(0.0).value().to_bits(), 1.0_f64.to_bits());
        assert_eq!(p(0.0).smallest_possible().to_bits(), 0.2_f64.to_bits());
    }

    #[test]
    fn hostile_scores_are_refused_in_one_line() {
        let error = conformal_p(1.0, &[0.0, f64::NAN]).unwrap_err().to_string();
        assert_eq!(
            error,
            "calibration[1] is NaN; leave out units that could not be compared and state their count"
        );
        let error = conformal_p(1.0, &[]).unwrap_err().to_string();
        assert_eq!(error, "calibration is empty; a test needs at least one unit of it");
        assert!(conformal_p(f64::NAN, &[0.0]).is_err());
        assert!(conformal_p_by_sequence(&[], &[[1.0]], Summary::Max).is_err());
    }

    #[test]
    fn sequences_are_the_units() {
        let calibration = [vec![0.0, 9.0, 0.0], vec![1.0, 1.0, 1.0], vec![2.0, 2.0, 2.0]];
        let largest = conformal_p_by_sequence(&[3.0, 0.0, 0.0], &calibration, Summary::Max).unwrap();
        assert_eq!((largest.at_least(), largest.of()), (2, 4));
        let mean = conformal_p_by_sequence(&[3.0, 0.0, 0.0], &calibration, Summary::Mean).unwrap();
        assert_eq!((mean.at_least(), mean.of()), (4, 4));
    }
}
