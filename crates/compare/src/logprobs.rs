//! Two lists of candidates, matched by token id.
//!
//! Sums run over ids in ascending order, so neither rank nor the recorder's order of ties can change a bit. What stands
//! in for a log-probability (−∞, −9999.0, −1e30) was not measured: the candidate is missing, on both sides. Left out:
//! ids that a run did not list; their mass is stated instead.

use mantissa_evidence::record::Candidates;

use crate::distance::count;
use crate::facts::LogprobDistance;

/// Candidates of one position, ready to be matched.
pub(crate) struct Listed {
    /// In the recorder's order.
    ids: Vec<u32>,
    /// Those that were measured, ascending by id.
    sorted: Vec<(u32, f32)>,
    /// Ids that something stands in for, ascending.
    missing: Vec<u32>,
}

/// Whether a value stands in for a log-probability that a recorder did not have: −∞, −9999.0 as OpenAI-compatible
/// servers write it (vLLM 0.24, `entrypoints/openai`), −1e30 and below as masks do. NaN is a value: it was computed.
pub(crate) fn stands_in(value: f32) -> bool {
    const SERVERS: f32 = -9999.0;
    const MASKS: f32 = -1e30;
    value.to_bits() == SERVERS.to_bits() || value <= MASKS
}

impl Listed {
    pub(crate) fn new(candidates: Candidates) -> Self {
        let Candidates { token_ids, log_probs } = candidates;
        let mut all: Vec<(u32, f32)> = token_ids.iter().copied().zip(log_probs).collect();
        all.sort_by_key(|&(id, _)| id);
        let (missing, sorted): (Vec<_>, Vec<_>) = all.into_iter().partition(|&(_, value)| stands_in(value));
        Self { ids: token_ids, sorted, missing: missing.into_iter().map(|(id, _)| id).collect() }
    }

    /// Whether the lists can be matched by id: each names a candidate, none twice, and something was measured that the
    /// other does not lack.
    pub(crate) fn is_comparable(&self, other: &Self) -> bool {
        let sound = |list: &Self| {
            let twice = list.sorted.windows(2).any(|two| two[0].0 == two[1].0);
            !twice && !list.missing.iter().any(|id| list.get(*id).is_some())
        };
        sound(self) && sound(other) && self.len_beside(other) > 0 && other.len_beside(self) > 0
    }

    /// Whether something stands in for a candidate here that was measured there, or the other way round: what is equal
    /// beside it is not the whole row.
    pub(crate) fn is_partial_beside(&self, other: &Self) -> bool {
        let lacks =
            |lacking: &Self, measured: &Self| measured.sorted.iter().any(|&(id, _)| lacking.lacks(id));
        lacks(self, other) || lacks(other, self)
    }

    fn lacks(&self, id: u32) -> bool {
        self.missing.binary_search(&id).is_ok()
    }

    fn get(&self, id: u32) -> Option<f32> {
        let index = self.sorted.binary_search_by_key(&id, |&(id, _)| id).ok()?;
        Some(self.sorted[index].1)
    }

    /// Candidates that were measured and that `other` does not lack.
    fn len_beside(&self, other: &Self) -> u64 {
        self.sorted.iter().filter(|&&(id, _)| !other.lacks(id)).count() as u64
    }

    /// Probability mass of ids that `other` does not list.
    ///
    /// *Rounding:* each exponential in binary64 by the portable libm, added in the order of ids. A log-probability that
    /// is not finite has no mass.
    fn mass_outside(&self, other: &Self) -> f64 {
        let outside = self
            .sorted
            .iter()
            .filter(|(id, log_prob)| log_prob.is_finite() && other.get(*id).is_none() && !other.lacks(*id));
        outside.map(|&(_, log_prob)| libm::exp(f64::from(log_prob))).fold(0.0, |sum, mass| sum + mass)
    }
}

/// How two lists differ, and the first candidate of the first list that does; `None` when both list the same ids with
/// the same bits.
///
/// The candidate is the length of the first list when only the second lists more.
pub(crate) fn distance(a: &Listed, b: &Listed) -> Option<(LogprobDistance, u64)> {
    let (mut common, mut different, mut finite, mut non_finite) = (0_u64, 0_u64, 0_u64, false);
    let (mut squares, mut max_abs) = (0.0_f64, 0.0_f64);
    for &(id, x) in &a.sorted {
        let Some(y) = b.get(id) else { continue };
        common += 1;
        different += u64::from(x.to_bits() != y.to_bits());
        if x.is_finite() && y.is_finite() {
            finite += 1;
            let difference = (f64::from(x) - f64::from(y)).abs();
            squares += difference * difference;
            max_abs = max_abs.max(difference);
        } else if x.to_bits() != y.to_bits() {
            non_finite = true;
        }
    }
    let (k_a, k_b) = (a.len_beside(b), b.len_beside(a));
    if different == 0 && common == k_a && common == k_b {
        return None;
    }
    // Lists that differ in their ids alone are not 0 apart: how far, their mass says.
    let known = |value: f64| (different > 0 && finite > 0 && !non_finite).then_some(value);
    let distance = LogprobDistance {
        k_a,
        k_b,
        common,
        different,
        l2: known(squares.sqrt()),
        rms: known((squares / count(finite)).sqrt()),
        max_abs: known(max_abs),
        mass_only_in_a: a.mass_outside(b),
        mass_only_in_b: b.mass_outside(a),
    };
    let differs = |&id: &u32| {
        a.get(id).map(f32::to_bits) != b.get(id).map(f32::to_bits) && !a.lacks(id) && !b.lacks(id)
    };
    let element = a.ids.iter().position(differs).unwrap_or(a.ids.len());
    Some((distance, element as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(pairs: &[(u32, f32)]) -> Listed {
        let (token_ids, log_probs) = pairs.iter().copied().unzip();
        Listed::new(Candidates { token_ids, log_probs })
    }

    #[test]
    fn rank_never_matters() {
        let a = listed(&[(7, -0.5), (9, -1.5), (4, -1.5)]);
        let b = listed(&[(7, -0.5), (4, -1.5), (9, -1.5)]);
        assert!(distance(&a, &b).is_none());
    }

    #[test]
    fn distances_cover_common_ids_and_mass_states_the_rest() {
        let a = listed(&[(7, -0.5), (9, -1.0), (4, -2.0)]);
        let b = listed(&[(9, -4.0), (7, -4.5), (5, -3.0), (6, f32::NEG_INFINITY)]);
        let (d, element) = distance(&a, &b).unwrap();
        assert_eq!((d.k_a, d.k_b, d.common, d.different), (3, 3, 2, 2), "6 is missing");
        assert_eq!(d.l2.map(f64::to_bits), Some(5.0_f64.to_bits()), "4 and 3");
        assert_eq!(d.rms.map(f64::to_bits), Some(12.5_f64.sqrt().to_bits()));
        assert_eq!(d.max_abs.map(f64::to_bits), Some(4.0_f64.to_bits()));
        assert_eq!(d.mass_only_in_a.to_bits(), libm::exp(-2.0).to_bits());
        assert_eq!(d.mass_only_in_b.to_bits(), libm::exp(-3.0).to_bits(), "-inf has no mass");
        assert_eq!(element, 0);
        let (back, _) = distance(&b, &a).unwrap();
        assert_eq!((back.l2, back.rms, back.max_abs), (d.l2, d.rms, d.max_abs));
        assert_eq!((back.mass_only_in_a, back.mass_only_in_b), (d.mass_only_in_b, d.mass_only_in_a));
    }

    #[test]
    fn nothing_in_common_is_no_distance() {
        let (d, element) = distance(&listed(&[(1, -0.5)]), &listed(&[(2, -0.5)])).unwrap();
        assert_eq!((d.common, d.l2, d.rms, d.max_abs, element), (0, None, None, None, 0));
        let nan = distance(&listed(&[(1, f32::NAN)]), &listed(&[(1, -0.5)])).unwrap().0;
        assert_eq!((nan.common, nan.different, nan.l2), (1, 1, None));
        assert_eq!(nan.mass_only_in_a.to_bits(), 0);
        assert!(distance(&listed(&[(1, f32::NAN)]), &listed(&[(1, f32::NAN)])).is_none(), "bits decide");
        let half = distance(&listed(&[(1, f32::INFINITY), (2, -1.0)]), &listed(&[(1, -9.0), (2, -2.0)]));
        let half = half.unwrap().0;
        assert_eq!((half.different, half.l2, half.rms, half.max_abs), (2, None, None, None));
    }

    /// A report: −∞ against −9999.0 was called separable.
    #[test]
    fn what_stands_in_for_a_value_is_missing_on_both_sides() {
        for stand_in in [f32::NEG_INFINITY, -9999.0, -1e30, -3.4e38] {
            for other in [f32::NEG_INFINITY, -9999.0, -1e30, -12.5, 0.0] {
                let (a, b) = (listed(&[(1, stand_in), (2, -1.0)]), listed(&[(2, -1.0), (1, other)]));
                assert!(a.is_comparable(&b) && distance(&a, &b).is_none(), "{stand_in} against {other}");
                assert!(distance(&b, &a).is_none());
                let measured = !stands_in(other);
                assert_eq!((a.is_partial_beside(&b), b.is_partial_beside(&a)), (measured, measured));
                let b = listed(&[(1, other), (2, -2.0)]);
                let (found, element) = distance(&a, &b).unwrap();
                let numbers = (found.k_a, found.k_b, found.common, found.different, element);
                assert_eq!(numbers, (1, 1, 1, 1, 1), "{stand_in} against {other}");
                assert_eq!(found.l2.map(f64::to_bits), Some(1.0_f64.to_bits()));
                assert_eq!(found.mass_only_in_b.to_bits(), 0, "not listed is not missing");
            }
            // Nothing that both measured is not the same.
            let (a, b) = (listed(&[(1, stand_in), (2, -1.0)]), listed(&[(1, -1.0), (2, stand_in)]));
            assert!(!a.is_comparable(&b) && !b.is_comparable(&a));
            assert!(!listed(&[(1, stand_in)]).is_comparable(&listed(&[(1, -1.0)])));
            let twice = listed(&[(1, stand_in), (1, -1.0), (2, -1.0)]);
            assert!(!twice.is_comparable(&twice));
        }
        // −9998.0 is an unlikely value, not a stand-in.
        assert!(distance(&listed(&[(1, -9998.0)]), &listed(&[(1, -9999.5)])).is_some());
    }

    #[test]
    fn a_longer_list_differs_where_the_shorter_ends() {
        let (d, element) = distance(&listed(&[(1, -0.5)]), &listed(&[(1, -0.5), (2, -1.0)])).unwrap();
        assert_eq!((d.common, d.different, element), (1, 0, 1));
        assert_eq!((d.l2, d.rms, d.max_abs), (None, None, None), "other ids are no distance of 0");
        let zeros = distance(&listed(&[(1, 0.0)]), &listed(&[(1, -0.0)])).unwrap().0;
        assert_eq!((zeros.different, zeros.l2.map(f64::to_bits)), (1, Some(0)));
    }
}
