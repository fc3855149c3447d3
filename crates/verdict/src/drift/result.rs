//! The result, plain data: what `drift.json` holds.

use std::collections::BTreeMap;

use mantissa_evidence::Digest;
use mantissa_numerics::{LayerIdx, Phase, Point, Site};
use schemars::JsonSchema;
use serde::Serialize;

use super::answer::DriftAnswer;
use super::change::AgainstBaseline;
use crate::analysis::Threshold;

/// Version of `drift.json`.
pub const DRIFT_VERSION: u32 = 1;

/// One of the two that are compared.
///
/// Example: [`Drift`].
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct DriftSide {
    /// Its file, or what computed it.
    pub name: String,
    /// Name of its configuration, or the setup.
    pub setup: String,
    /// Digest of its signals, over the runs that were compared; absent for hashes.
    pub digest: Option<Digest>,
    /// Whether every row that can be recomputed from recorded rows is, to the bit, what the setup leaves of them;
    /// absent where none can, and where it was not tried.
    pub reproduced: Option<bool>,
}

/// How many pairs there are of each answer.
///
/// Example: [`Drift`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct DriftCounts {
    /// Rows that both sides have.
    pub pairs: u64,
    /// Of them, the same bits.
    pub equal: u64,
    /// Explained.
    pub explained: u64,
    /// Within rounding.
    pub within_rounding: u64,
    /// Unexplained.
    pub unexplained: u64,
    /// Not localized.
    pub not_localized: u64,
    /// Rows of the first side whose tokens the second has, and which it did not record.
    pub missing: u64,
    /// The same of the second side.
    pub missing_in_a: u64,
    /// Rows whose hashes are of other kinds or formats.
    pub incomparable: u64,
    /// Rows behind the first token that is not the same on both sides.
    pub other_tokens: u64,
}

impl DriftCounts {
    /// Counts one more pair.
    ///
    /// ```
    /// use mantissa_verdict::drift::{DriftAnswer, DriftCounts};
    ///
    /// let mut counts = DriftCounts::default();
    /// counts.add(DriftAnswer::Explained);
    /// assert_eq!((counts.pairs, counts.explained, counts.equal), (1, 1, 0));
    /// ```
    pub fn add(&mut self, answer: DriftAnswer) {
        self.pairs += 1;
        *match answer {
            DriftAnswer::Equal => &mut self.equal,
            DriftAnswer::Explained => &mut self.explained,
            DriftAnswer::WithinRounding => &mut self.within_rounding,
            DriftAnswer::NotLocalized => &mut self.not_localized,
            DriftAnswer::Unexplained => &mut self.unexplained,
        } += 1;
    }
}

/// Where a row is.
///
/// Example: [`Drift`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DriftPlace {
    /// Which prompt.
    pub prompt: String,
    /// Position of the token in its sequence, counted from 0.
    pub position: u64,
    /// Block, counted from 1; absent outside blocks.
    pub layer: Option<LayerIdx>,
    /// Point.
    pub point: Point,
}

/// A row of both sides.
///
/// Example: [`Drift`].
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct DriftPair {
    /// Where.
    #[serde(flatten)]
    pub place: DriftPlace,
    /// The pass of each side that computed it.
    pub phases: [Phase; 2],
    /// Decode step of each side's pass, 0 in a prefill.
    pub steps: [u64; 2],
    /// What the difference is.
    pub answer: DriftAnswer,
    /// Whether a recorded input of the row differs already.
    pub arrived: bool,
    /// Elements with other bits; absent where only hashes are known.
    pub differing: Option<u64>,
    /// Elements; 0 where they are not known.
    pub width: u64,
    /// Euclidean distance of the two rows; absent beside NaN or infinity.
    pub distance: Option<f64>,
    /// The same as a share of the length of the first side's row; absent where that is 0 or not finite.
    pub relative: Option<f64>,
    /// Euclidean distance of a side's row from the same row recomputed from its own inputs: what arose here, on the
    /// side that is answered worse.
    pub deviation: Option<f64>,
    /// The largest share of the bound of any order of sums that an element deviates by; above 1, no order gives it.
    pub bound: Option<f64>,
    /// The largest deviation that an ensemble of orders explains.
    pub spread: Option<f64>,
    /// The smallest effect, as a share of the row's length, that would have been found in this row alone.
    pub smallest: Option<f64>,
}

/// All pairs of a site.
///
/// Example: [`Drift`].
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct DriftSite {
    /// Block, counted from 1; absent outside blocks.
    pub layer: Option<LayerIdx>,
    /// Point.
    pub point: Point,
    /// How many pairs of each answer.
    pub counts: DriftCounts,
    /// The worst answer.
    pub answer: DriftAnswer,
    /// Pairs of which an input differs already.
    pub arrived: u64,
    /// Mean distance of pairs that have one.
    pub distance: Option<f64>,
    /// Mean of [`DriftPair::relative`] over pairs that have one.
    pub relative: Option<f64>,
    /// As [`DriftPair::deviation`], of all rows together.
    pub deviation: Option<f64>,
    /// As [`DriftPair::spread`], of all rows together.
    pub spread: Option<f64>,
    /// As [`DriftPair::smallest`], of all rows together.
    pub smallest: Option<f64>,
    /// What it takes to localize it: the flags that record it.
    pub needs: Option<String>,
}

impl DriftSite {
    /// Where it is.
    ///
    /// Example: [`Drift`].
    #[must_use]
    pub const fn site(&self) -> Site {
        Site { layer: self.layer, point: self.point }
    }
}

/// Nodes whose recipes are not the same on both sides, and have an effect.
///
/// Example: [`Drift`].
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Cause {
    /// The node's name: `o_proj`.
    pub node: String,
    /// Blocks in which it has an effect, counted from 1; empty outside blocks.
    pub layers: Vec<LayerIdx>,
    /// Rows that it changes, computed from the same inputs.
    pub rows: u64,
    /// How the first side computes it.
    pub a: String,
    /// How the second does.
    pub b: String,
}

/// Something else that the other program may have done, and what becomes of the difference then.
///
/// Example: [`Drift`].
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Hypothesis {
    /// Its kind: `rope_position`, `norm_epsilon`.
    pub name: String,
    /// Block of the site that it is about, counted from 1; absent outside blocks.
    pub layer: Option<LayerIdx>,
    /// Point of the site.
    pub point: Point,
    /// What exactly was tried: `epsilon 1e-5 in place of 1e-6`.
    pub detail: String,
    /// `equal` where the difference vanishes, `within_rounding` where it is no more than rounding then.
    pub answer: DriftAnswer,
    /// What is left of the deviation.
    pub deviation: f64,
}

/// Where two computations of the same tokens part.
///
/// ```
/// use mantissa_numerics::{Phase, Point};
/// use mantissa_verdict::drift::{
///     Cause, DRIFT_VERSION, Drift, DriftAnswer, DriftCounts, DriftPair, DriftPlace, DriftSide, DriftSite, Hypothesis,
/// };
///
/// let side = |name: &str| DriftSide {
///     name: name.into(), setup: "cpu_bs1".into(), digest: None, reproduced: Some(true),
/// };
/// let place = DriftPlace { prompt: "0".into(), position: 37, layer: None, point: Point::EmbedOut };
/// let pair = DriftPair {
///     place, phases: [Phase::Prefill, Phase::Decode], steps: [0, 0], answer: DriftAnswer::Equal, arrived: false,
///     differing: Some(0), width: 576, distance: Some(0.0), relative: Some(0.0), deviation: None, bound: None,
///     spread: None, smallest: None,
/// };
/// let drift = Drift::of([side("a"), side("b")], vec![pair], DriftCounts::default());
/// assert_eq!((drift.drift_version, drift.answer, drift.first), (DRIFT_VERSION, DriftAnswer::Equal, None));
/// assert_eq!((drift.counts.pairs, drift.sites[0].counts.equal), (1, 1));
/// assert_eq!(drift.sites[0].site(), mantissa_numerics::Site::outside(Point::EmbedOut));
/// let causes: Vec<Cause> = drift.causes;
/// let hypotheses: Vec<Hypothesis> = drift.hypotheses;
/// assert!(causes.is_empty() && hypotheses.is_empty());
/// let sites: Vec<DriftSite> = drift.sites;
/// assert_eq!(sites.len(), 1);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Drift {
    /// [`DRIFT_VERSION`].
    pub drift_version: u32,
    /// The worst answer of all pairs; decides the exit code. `not_localized` where there is no pair.
    pub answer: DriftAnswer,
    /// What is compared, the reference first.
    pub sides: [DriftSide; 2],
    /// Pairs by answer.
    pub counts: DriftCounts,
    /// The first pair that is not equal: by prompt, position, then order of computation; absent where all are.
    pub first: Option<DriftPlace>,
    /// The first pair that is unexplained, in the same order.
    pub first_unexplained: Option<DriftPlace>,
    /// Sites in the order of computation.
    pub sites: Vec<DriftSite>,
    /// Why: nodes that are computed otherwise.
    pub causes: Vec<Cause>,
    /// What would explain the unexplained, best first.
    pub hypotheses: Vec<Hypothesis>,
    /// What was tried on the unexplained, by name.
    pub tried: Vec<String>,
    /// Every pair: by prompt, position, order of computation.
    pub pairs: Vec<DriftPair>,
    /// What to know before relying on it.
    pub notes: Vec<String>,
    /// The thresholds that decided; empty where only bits did.
    pub thresholds: Vec<Threshold>,
    /// What is new beside a baseline; absent where none was given.
    pub baseline: Option<AgainstBaseline>,
}

impl Drift {
    /// Counts `pairs` by site and answer. `left_out` holds what had no partner.
    ///
    /// Example: [`Drift`].
    #[must_use]
    pub fn of(sides: [DriftSide; 2], mut pairs: Vec<DriftPair>, left_out: DriftCounts) -> Self {
        let site = |place: &DriftPlace| Site { layer: place.layer, point: place.point };
        pairs.sort_by(|a, b| {
            let by_place = |pair: &DriftPair| (pair.place.position, site(&pair.place));
            a.place.prompt.cmp(&b.place.prompt).then_with(|| by_place(a).cmp(&by_place(b)))
        });
        let mut counts = left_out;
        let mut sites: BTreeMap<Site, (DriftSite, [Mean; 2])> = BTreeMap::new();
        for pair in &pairs {
            counts.add(pair.answer);
            let DriftPlace { layer, point, .. } = pair.place;
            let new = || DriftSite {
                layer,
                point,
                counts: DriftCounts::default(),
                answer: DriftAnswer::Equal,
                arrived: 0,
                distance: None,
                relative: None,
                deviation: None,
                spread: None,
                smallest: None,
                needs: None,
            };
            let (known, [distance, relative]) =
                sites.entry(site(&pair.place)).or_insert_with(|| (new(), [Mean::default(); 2]));
            distance.add(pair.distance);
            relative.add(pair.relative);
            known.counts.add(pair.answer);
            known.answer = known.answer.max(pair.answer);
            known.arrived += u64::from(pair.arrived);
        }
        let sites = sites.into_values().map(|(known, [distance, relative])| DriftSite {
            distance: distance.value(),
            relative: relative.value(),
            ..known
        });
        let sites = sites.collect();
        let first = |wanted: &dyn Fn(DriftAnswer) -> bool| {
            let found = pairs.iter().find(|pair| wanted(pair.answer));
            found.map(|pair| pair.place.clone())
        };
        Self {
            drift_version: DRIFT_VERSION,
            answer: pairs.iter().map(|pair| pair.answer).max().unwrap_or(DriftAnswer::NotLocalized),
            sides,
            counts,
            first: first(&|answer| answer != DriftAnswer::Equal),
            first_unexplained: first(&|answer| answer == DriftAnswer::Unexplained),
            sites,
            causes: Vec::new(),
            hypotheses: Vec::new(),
            tried: Vec::new(),
            pairs,
            notes: Vec::new(),
            thresholds: Vec::new(),
            baseline: None,
        }
    }
}

/// A mean under way, of what is there.
#[derive(Clone, Copy, Default)]
struct Mean {
    sum: f64,
    of: f64,
}

impl Mean {
    fn add(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            self.sum += value;
            self.of += 1.0;
        }
    }

    fn value(self) -> Option<f64> {
        (self.of > 0.0).then(|| self.sum / self.of)
    }
}
