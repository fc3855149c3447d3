//! What is known about pairs of runs: the types that [`crate::pairs`] fills.
//!
//! Plain data, in the order of data flow. Left out: how it is computed, and any threshold.

use mantissa_evidence::Record;
use mantissa_numerics::{Phase, Site};
use serde::{Deserialize, Serialize};

use crate::Tokens;

/// One run of a record.
///
/// Example: [`PairFacts`].
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// The record.
    pub record: &'a Record,
    /// Index of the run in it.
    pub run: usize,
}

/// Everything known about two runs.
///
/// ```
/// use mantissa_compare::{CompareError, Member, RowState, Selection, pairs};
/// use mantissa_evidence::Record;
/// use mantissa_numerics::{Phase, Point, Site};
///
/// let (path, site) = ("../../fixtures/evidence/v1/experiment.json".as_ref(), Site::at(1, Point::K));
/// let mut experiment = mantissa_evidence::read(path)?;
/// // A run beside itself, but for one bit of the last key and one of a log-probability.
/// experiment.runs[1] = experiment.runs[0].clone();
/// let decode = experiment.runs[1].decode.as_mut().expect("decode steps");
/// decode.tensors.get_mut(&site).expect("keys").data[46] ^= 1;
/// let first = &mut decode.logprobs.as_mut().expect("candidates").log_probs[0];
/// *first = f32::from_bits(first.to_bits() ^ 1);
/// let record = Record::from_experiment(experiment, path);
/// let members = [0, 1].map(|run| Member { record: &record, run });
/// let facts = pairs(&members, &[(0, 1)], &Selection::default())?.remove(0);
///
/// let keys = facts.sites.iter().find(|fact| (fact.phase, fact.site) == (Phase::Decode, site));
/// let keys = keys.expect("a fact for each recorded site");
/// assert_eq!((keys.counts.equal, keys.counts.different), (5, 1));
/// let RowState::Different(distance) = keys.rows[5].state else { panic!("the last row differs") };
/// assert_eq!((distance.values, distance.different), (4, 1));
/// let candidates = facts.logprobs.iter().find(|fact| fact.phase == Phase::Decode).expect("candidates");
/// let RowState::Different(distance) = candidates.rows[0].state else { panic!("the first differs") };
/// assert_eq!((distance.common, distance.different), (5, 1));
/// let first = facts.first.expect("a difference");
/// assert_eq!((first.phase, first.step, first.site, first.element), (Phase::Decode, 0, None, 0));
/// let beyond = pairs(&members, &[(0, 2)], &Selection::default());
/// assert!(matches!(beyond, Err(CompareError::NoSuchMember { a: 0, b: 2, count: 2 })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairFacts {
    /// How far their tokens agree, and how that is known.
    pub tokens: Tokens,
    /// A fact per site that either recorded, prefill first, in the order of data flow.
    pub sites: Vec<SiteFacts>,
    /// A fact per phase in which either recorded log-probabilities.
    pub logprobs: Vec<LogprobFacts>,
    /// The first difference in the order of computation, among what could be compared.
    pub first: Option<First>,
}

/// What is known about one site of two runs, row by row.
///
/// Example: [`PairFacts`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SiteFacts {
    /// The phase.
    pub phase: Phase,
    /// The site.
    pub site: Site,
    /// Rows by state.
    pub counts: Counts,
    /// All compared rows together; absent when none was.
    pub total: Option<Distance>,
    /// Every row, by step and position.
    pub rows: Vec<RowFact>,
}

/// Rows (a step and a position) by state. They add up to those that either run has, each counted once: what a decode
/// step stores of an earlier token, with the bits of that token's own pass, is no further row.
///
/// Example: [`PairFacts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Compared, and the same bits.
    pub equal: u64,
    /// Compared, and other bits.
    pub different: u64,
    /// Recorded in one run only.
    pub missing: u64,
    /// In both, but tokens, formats or widths forbid a comparison, a list of candidates names an id twice, or something
    /// stands in on one side for the value of a candidate that the other measured, and the rest is equal.
    pub incomparable: u64,
}

/// One row.
///
/// Example: [`PairFacts`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RowFact {
    /// Forward pass.
    pub step: u64,
    /// Position relative to the end.
    pub position: i32,
    /// What is known.
    pub state: RowState<Distance>,
}

/// The four states of a row. `D` is how far apart different rows are.
///
/// Example: [`PairFacts`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RowState<D> {
    /// Same bits.
    Equal,
    /// Other bits.
    Different(D),
    /// Recorded in one run only.
    Missing,
    /// In both, but not comparable.
    Incomparable,
}

/// How two rows (or all compared rows of a site) differ.
///
/// *Units:* those of the site, but for `ulps`, `relative` and `cosine`. *Rounding:* values are exact in binary64, each
/// difference is rounded once; sums run over sixteen lanes (lane `k mod 16` takes element `k` of a row), joined by a
/// tree, rows in order. Where two values differ and one is a NaN or an infinity ([`Self::non_finite`]), there is no
/// distance: everything below `max_ulps` is absent (`null` in JSON), never that of the values which are left. Values
/// that are not finite and have the same bits are left out of the sums; where nothing else is there, all is absent too.
///
/// Example: [`PairFacts`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Distance {
    /// Values compared.
    pub values: u64,
    /// Values whose bits differ.
    pub different: u64,
    /// Of those, pairs with a NaN or an infinity.
    pub non_finite: u64,
    /// Largest distance in representable values of the format, an infinity one beyond the largest finite value; absent
    /// when a differing pair has a NaN. `+0` and `−0` differ in bits and are 0 apart.
    pub max_ulps: Option<u32>,
    /// Euclidean norm of the difference.
    pub l2: Option<f64>,
    /// Largest absolute difference.
    pub max_abs: Option<f64>,
    /// Mean absolute difference over all finite pairs.
    pub mean_abs: Option<f64>,
    /// `l2` over the Euclidean norm of the first run's values; absent also when that is zero.
    pub relative: Option<f64>,
    /// Cosine of the angle between the two; absent also when either norm is zero.
    pub cosine: Option<f64>,
}

/// What is known about the log-probabilities of one phase of two runs.
///
/// Example: [`PairFacts`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LogprobFacts {
    /// The phase.
    pub phase: Phase,
    /// Positions by state. Different means other ids or other bits.
    pub counts: Counts,
    /// Every position.
    pub rows: Vec<LogprobRow>,
}

/// Candidates of one position in two runs.
///
/// Example: [`PairFacts`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LogprobRow {
    /// Forward pass.
    pub step: u64,
    /// Position relative to the end.
    pub position: i32,
    /// What is known.
    pub state: RowState<LogprobDistance>,
}

/// How two lists of candidates differ, matched by token id and never by rank.
///
/// There is no distance where the lists differ in their ids alone, or where a common id that differs has a NaN or an
/// infinity.
///
/// Example: [`PairFacts`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LogprobDistance {
    /// Candidates of the first run.
    pub k_a: u64,
    /// Candidates of the second.
    pub k_b: u64,
    /// Ids in both: what the distances below cover.
    pub common: u64,
    /// Of those, ids whose log-probabilities have other bits.
    pub different: u64,
    /// Euclidean norm over common ids.
    pub l2: Option<f64>,
    /// Root mean square over common ids, which lists of other coverage may be compared by.
    pub rms: Option<f64>,
    /// Largest absolute difference over common ids.
    pub max_abs: Option<f64>,
    /// Probability mass that the first run gave to ids the second did not list.
    pub mass_only_in_a: f64,
    /// Probability mass that the second run gave to ids the first did not list.
    pub mass_only_in_b: f64,
}

/// The first difference in the order of computation: phase, step, site (log-probabilities last), position.
///
/// Example: [`PairFacts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct First {
    /// The phase.
    pub phase: Phase,
    /// Forward pass.
    pub step: u64,
    /// Position relative to the end.
    pub position: i32,
    /// The site; absent for log-probabilities.
    pub site: Option<Site>,
    /// Element of the row, or candidate of the first run (their number, when only the second run lists more).
    pub element: u64,
}
