//! Facts about evidence beside one replay of it, gathered row by row while the replay runs.
//!
//! What comes in: a row of the evidence, and the row that a replay computed for the same tokens, both in the evidence's
//! storage format. What goes out: [`ReplayFacts`], per phase, with the four states of a row and the first difference in
//! the order of computation. Left out: running the replay (`mantissa-lab`), thresholds and verdicts.

use mantissa_evidence::Answers;
use mantissa_numerics::{Dtype, Phase};
use serde::{Deserialize, Serialize};

use crate::distance;
use crate::facts::Counts;
use crate::logprobs::stands_in;
use crate::selection::SignalKind;

/// What is known about one run of evidence and one replay of it.
///
/// ```
/// use mantissa_compare::ReplayFacts;
/// use mantissa_numerics::{Dtype, Point, Site};
///
/// let (evidence, replay) = (1.0_f32.to_le_bytes(), 1.5_f32.to_le_bytes());
/// let mut facts = ReplayFacts::default();
/// facts.prefill.row((0, -1), Site::at(1, Point::K), Dtype::F32, &evidence, &replay);
/// assert!(facts.differs());
/// assert_eq!(facts.prefill.signals[1].mean_l2(), Some(0.5));
/// let first = facts.prefill.first.as_ref().expect("a difference");
/// assert_eq!((first.site.as_str(), first.evidence.as_str()), ("layer_1.k", "0x3f800000"));
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ReplayFacts {
    /// Rows of the prompt's pass.
    pub prefill: PhaseReplay,
    /// Rows of the decode steps.
    pub decode: PhaseReplay,
    /// Output tokens set against the replay's largest logit; 0 where the evidence does not claim greedy decoding.
    pub tokens: u64,
    /// The first output token that is not the replay's choice.
    pub first_token: Option<TokenDifference>,
    /// Where the evidence states no settings of generation and its tokens are those of the model's own: the first token
    /// that is not the replay's choice without them.
    #[serde(default)]
    pub first_token_without_settings: Option<TokenDifference>,
    /// Forward passes that were compared, out of [`Self::passes_in_all`]; fewer where the replay was stopped early.
    pub passes: u64,
    /// Forward passes of the run.
    pub passes_in_all: u64,
    /// Why the replay ended before the run did, where a pass turned out to be one that nothing computes: what tokens
    /// chose decides it, and no plan knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// What is known about one phase.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PhaseReplay {
    /// Rows (a step and a position of a site, or of log-probabilities) by state. Those that an early stop left are in
    /// none.
    pub rows: Counts,
    /// Values compared.
    pub values: u64,
    /// Of those, values with other bits.
    pub different: u64,
    /// The first difference.
    pub first: Option<ReplayDifference>,
    /// Distances by kind of signal, in the order of [`SignalKind::ALL`].
    pub signals: [SignalReplay; 3],
    /// Why rows are missing or incomparable, each reason once.
    pub reasons: Vec<String>,
}

/// Distances of one kind of signal.
///
/// Example: [`ReplayFacts`].
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct SignalReplay {
    /// Rows compared.
    pub rows: u64,
    /// Of those, rows with other bits.
    pub different: u64,
    /// Rows that differ and have no distance: a NaN, an infinity, no candidate in common.
    pub without_distance: u64,
    /// Sum over rows, in order, of the Euclidean norm of the difference.
    pub sum_l2: f64,
}

impl SignalReplay {
    /// Mean Euclidean norm of the difference over rows; absent where a row has none, or there is no row.
    #[must_use]
    pub fn mean_l2(&self) -> Option<f64> {
        (self.rows > 0 && self.without_distance == 0).then(|| self.sum_l2 / distance::count(self.rows))
    }

    /// Adds the rows of another, which come after these.
    ///
    /// ```
    /// use mantissa_compare::replayed::SignalReplay;
    ///
    /// let equal = SignalReplay { rows: 3, ..SignalReplay::default() };
    /// let mut both = SignalReplay { rows: 1, different: 1, sum_l2: 2.0, ..SignalReplay::default() };
    /// both.add(equal);
    /// assert_eq!((both.rows, both.different, both.mean_l2()), (4, 1, Some(0.5)));
    /// ```
    pub fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.different += other.different;
        self.without_distance += other.without_distance;
        self.sum_l2 += other.sum_l2;
    }
}

/// Where evidence and replay first have other bits.
///
/// Example: [`ReplayFacts`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayDifference {
    /// Forward pass.
    pub step: u64,
    /// Position relative to the end.
    pub position: i32,
    /// The site, `layer_4.x_out`, or `logprobs`.
    pub site: String,
    /// Element of the row, or candidate of the evidence.
    pub element: u64,
    /// Bits in the evidence, in hexadecimal; of a candidate, its id and bits.
    pub evidence: String,
    /// Bits in the replay.
    pub replay: String,
}

/// An output token that the replay would not have chosen.
///
/// ```
/// use mantissa_compare::ReplayFacts;
/// use mantissa_compare::replayed::TokenDifference;
///
/// let first_token = Some(TokenDifference { index: 3, evidence: 17, replay: 42 });
/// assert!(ReplayFacts { first_token, ..ReplayFacts::default() }.differs());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenDifference {
    /// Index into the output ids.
    pub index: u64,
    /// The evidence's id.
    pub evidence: u32,
    /// The replay's.
    pub replay: u32,
}

/// A candidate: token id and log-probability.
pub type Candidate = (u32, f32);

/// Candidates as a program handed them out, the chosen token first.
///
/// Example: [`PhaseReplay::listed`].
#[derive(Debug, Clone, Copy)]
pub struct Listed<'l> {
    /// Ids and values.
    pub candidates: &'l [Candidate],
    /// Digits behind the point that values were rounded to; `None` where they are binary32 values.
    pub decimals: Option<u8>,
}

/// Whether `value`, printed with so many decimals, may be `printed`.
fn rounds_to(value: f32, printed: f32, decimals: u8) -> bool {
    let scale = 10_f64.powi(i32::from(decimals));
    let printed = (f64::from(printed) * scale).round();
    // A half may go either way, and the product is rounded too.
    (f64::from(value) * scale - printed).abs() <= 0.5 + printed.abs().max(1.0) * f64::EPSILON
}

impl ReplayFacts {
    /// One phase.
    #[must_use]
    pub const fn phase(&self, phase: Phase) -> &PhaseReplay {
        match phase {
            Phase::Prefill => &self.prefill,
            Phase::Decode => &self.decode,
        }
    }

    /// One phase, to add to.
    pub const fn phase_mut(&mut self, phase: Phase) -> &mut PhaseReplay {
        match phase {
            Phase::Prefill => &mut self.prefill,
            Phase::Decode => &mut self.decode,
        }
    }

    /// Whether any bit or token that was compared differs.
    #[must_use]
    pub const fn differs(&self) -> bool {
        self.prefill.rows.different > 0 || self.decode.rows.different > 0 || self.first_token.is_some()
    }

    /// Values compared in both phases.
    #[must_use]
    pub const fn values(&self) -> u64 {
        self.prefill.values + self.decode.values
    }
}

impl PhaseReplay {
    /// Adds a row of `site`: evidence and replay in `dtype`, little-endian, of one length.
    pub fn row(
        &mut self,
        (step, position): (u64, i32),
        site: mantissa_numerics::Site,
        dtype: Dtype,
        evidence: &[u8],
        replay: &[u8],
    ) {
        let kind = SignalKind::of(site);
        self.values += (evidence.len() / dtype.size()) as u64;
        if evidence == replay {
            self.rows.equal += 1;
            if let Some(kind) = kind {
                self.signals[kind as usize].rows += 1;
            }
            return;
        }
        let found = distance::different(dtype, evidence, replay).distance();
        self.rows.different += 1;
        self.different += found.different;
        if let Some(kind) = kind {
            self.signals[kind as usize].differs(found.l2);
        }
        if self.first.is_none() {
            let element = distance::first_element(dtype, evidence, replay);
            let bits = |row: &[u8]| {
                let at = usize::try_from(element).unwrap_or(usize::MAX).saturating_mul(dtype.size());
                let bytes = row.get(at..at.saturating_add(dtype.size())).unwrap_or_default();
                let value = bytes.iter().rev().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte));
                format!("0x{value:0digits$x}", digits = 2 * dtype.size())
            };
            let (evidence, replay) = (bits(evidence), bits(replay));
            self.first =
                Some(ReplayDifference { step, position, site: site.to_string(), element, evidence, replay });
        }
    }

    /// Adds the candidates of one position, matched by token id; equal are the same ids with the same bits.
    ///
    /// ```
    /// use mantissa_compare::ReplayFacts;
    ///
    /// let mut facts = ReplayFacts::default();
    /// facts.decode.candidates((0, -1), &[(7, -0.5), (9, -1.5)], &[(9, -1.5), (7, -0.5)]);
    /// assert!(!facts.differs() && facts.values() == 2);
    /// ```
    pub fn candidates(&mut self, (step, position): (u64, i32), evidence: &[Candidate], replay: &[Candidate]) {
        let of = |id: u32| replay.iter().find(|(other, _)| *other == id).map(|(_, p)| *p);
        let same = |(id, p): &Candidate| of(*id).is_some_and(|other| other.to_bits() == p.to_bits());
        let differ = evidence.iter().filter(|candidate| !same(candidate)).count() as u64;
        self.values += evidence.len() as u64;
        let signal = &mut self.signals[SignalKind::Logprobs as usize];
        if differ == 0 && evidence.len() == replay.len() {
            self.rows.equal += 1;
            signal.rows += 1;
            return;
        }
        self.rows.different += 1;
        self.different += differ;
        let squares: Vec<f64> = evidence
            .iter()
            .filter_map(|(id, p)| of(*id).map(|other| (f64::from(*p) - f64::from(other)).powi(2)))
            .collect();
        let l2 = (!squares.is_empty()).then(|| squares.iter().sum::<f64>().sqrt());
        signal.differs(l2.filter(|l2| l2.is_finite()));
        if self.first.is_none() {
            let element = evidence.iter().position(|candidate| !same(candidate)).unwrap_or(evidence.len());
            let said = |p: f32| format!("0x{:08x}", p.to_bits());
            let (id, p) = evidence
                .get(element)
                .map_or((None, "absent".to_owned()), |(id, p)| (Some(*id), format!("{id}: {}", said(*p))));
            let other = id.and_then(of).map_or_else(|| "absent".to_owned(), said);
            self.first = Some(ReplayDifference {
                step,
                position,
                site: "logprobs".to_owned(),
                element: element as u64,
                evidence: p,
                replay: other,
            });
        }
    }

    /// Adds the candidates that evidence lists of one position, beside the log-probabilities of any token in a replay:
    /// equal are the same bits, or values that round to the decimals which the evidence has. What stands in for a value
    /// is not compared. `passed_over` counts tokens outside a list that are more likely than the least of it: the most
    /// likely ones are listed, and before them the chosen one, wherever it is.
    ///
    /// ```
    /// use mantissa_compare::ReplayFacts;
    /// use mantissa_compare::replayed::Listed;
    ///
    /// let mut facts = ReplayFacts::default();
    /// let replay = |id: u32| [-0.123_456_7, -2.5].get(id as usize).copied();
    /// let listed = |candidates, decimals| Listed { candidates, decimals };
    /// facts.decode.listed((0, -1), listed(&[(0, -0.123), (1, -2.5)], Some(3)), &replay, &|_| 0);
    /// assert!(!facts.differs() && facts.values() == 2);
    /// facts.decode.listed((1, -1), listed(&[(0, -0.123), (1, -2.5)], None), &replay, &|_| 0);
    /// assert!(facts.differs() && facts.decode.different == 1);
    /// ```
    pub fn listed(
        &mut self,
        (step, position): (u64, i32),
        listed: Listed<'_>,
        replay: &dyn Fn(u32) -> Option<f32>,
        passed_over: &dyn Fn(&[u32]) -> u64,
    ) {
        let Listed { candidates, decimals } = listed;
        let measured: Vec<Candidate> =
            candidates.iter().copied().filter(|(_, value)| !stands_in(*value)).collect();
        if measured.len() < candidates.iter().filter(|(id, _)| *id < Answers::UNKNOWN).count() {
            self.reason("logprobs: what stands in for a value (-9999.0, minus infinity) is not compared");
        }
        if measured.is_empty() {
            self.incomparable(1, "logprobs: no candidate of such a row is known by its id");
            return;
        }
        let same = |(id, value): &Candidate| {
            replay(*id).is_some_and(|other| match decimals {
                None => other.to_bits() == value.to_bits(),
                Some(decimals) => rounds_to(other, *value, decimals),
            })
        };
        let ids: Vec<u32> = measured.iter().map(|(id, _)| *id).collect();
        let whole = !candidates.iter().any(|(id, _)| (Answers::UNKNOWN..Answers::FILLER).contains(id));
        let passed = if whole { passed_over(&ids) } else { 0 };
        let differ = measured.iter().filter(|candidate| !same(candidate)).count() as u64;
        self.values += measured.len() as u64;
        let signal = &mut self.signals[SignalKind::Logprobs as usize];
        if differ == 0 && passed == 0 {
            self.rows.equal += 1;
            signal.rows += 1;
            return;
        }
        self.rows.different += 1;
        self.different += differ;
        let square =
            |(id, value): &Candidate| replay(*id).map(|other| (f64::from(*value) - f64::from(other)).powi(2));
        let squares: Vec<f64> = measured.iter().filter_map(square).collect();
        let l2 = (!squares.is_empty()).then(|| squares.iter().sum::<f64>().sqrt());
        signal.differs(l2.filter(|l2| l2.is_finite()));
        if self.first.is_some() {
            return;
        }
        let element = measured.iter().position(|candidate| !same(candidate)).unwrap_or(measured.len());
        let said = |p: f32| format!("0x{:08x}", p.to_bits());
        let (evidence, replay) = match measured.get(element) {
            Some((id, p)) => {
                (format!("{id}: {}", said(*p)), replay(*id).map_or_else(|| "absent".to_owned(), said))
            }
            None => {
                ("the most likely tokens".to_owned(), format!("{passed} more likely than the last of them"))
            }
        };
        self.first = Some(ReplayDifference {
            step,
            position,
            site: "logprobs".to_owned(),
            element: element as u64,
            evidence,
            replay,
        });
    }

    /// Notes a row that the replay does not have.
    pub fn missing(&mut self, rows: u64, reason: &str) {
        self.rows.missing += rows;
        self.reason(reason);
    }

    /// Notes a row that formats or shapes forbid to compare.
    pub fn incomparable(&mut self, rows: u64, reason: &str) {
        self.rows.incomparable += rows;
        self.reason(reason);
    }

    fn reason(&mut self, reason: &str) {
        if !self.reasons.iter().any(|known| known == reason) {
            self.reasons.push(reason.to_owned());
        }
    }
}

impl SignalReplay {
    fn differs(&mut self, l2: Option<f64>) {
        self.rows += 1;
        self.different += 1;
        match l2 {
            Some(l2) => self.sum_l2 += l2,
            None => self.without_distance += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use mantissa_numerics::{Point, Site};

    use super::*;

    #[test]
    fn a_flipped_bit_is_named_by_place_and_bits() {
        let mut facts = PhaseReplay::default();
        let (a, mut b) = (vec![0x80, 0x3f, 0x00, 0x40], vec![0x80, 0x3f, 0x00, 0x40]);
        facts.row((3, -1), Site::at(2, Point::XOut), Dtype::Bf16, &a, &b);
        assert_eq!((facts.rows.equal, facts.first.clone()), (1, None));
        b[2] = 1;
        facts.row((4, -2), Site::at(2, Point::K), Dtype::Bf16, &a, &b);
        let first = facts.first.clone().expect("they differ");
        assert_eq!((first.step, first.position, first.site.as_str(), first.element), (4, -2, "layer_2.k", 1));
        assert_eq!((first.evidence.as_str(), first.replay.as_str()), ("0x4000", "0x4001"));
        assert_eq!((facts.values, facts.different), (4, 1));
        let keys = facts.signals[SignalKind::KeyVectors as usize];
        assert_eq!(keys.mean_l2(), Some(2.0_f64.powi(-6)));
    }

    #[test]
    fn a_nan_has_no_distance_and_still_differs() {
        let mut facts = PhaseReplay::default();
        facts.row((0, -1), Site::at(1, Point::XOut), Dtype::Bf16, &[0xc0, 0x7f], &[0x80, 0x3f]);
        assert_eq!(facts.rows.different, 1);
        assert_eq!(facts.signals[SignalKind::HiddenStates as usize].mean_l2(), None);
    }

    #[test]
    fn candidates_match_by_id_and_never_by_rank() {
        let mut facts = PhaseReplay::default();
        facts.candidates((0, -1), &[(5, -1.0), (6, -2.0)], &[(6, -2.0), (5, -1.0)]);
        assert_eq!(facts.rows.equal, 1);
        facts.candidates((1, -1), &[(5, -1.0), (6, -2.0)], &[(5, -1.0), (7, -2.0)]);
        let first = facts.first.clone().expect("an id is missing");
        assert_eq!((first.step, first.element, first.replay.as_str()), (1, 1, "absent"));
        // A list that has more than the evidence is another list.
        facts.candidates((2, -1), &[(5, -1.0)], &[(5, -1.0), (7, -2.0)]);
        assert_eq!(facts.rows.different, 2);
    }
}
