//! What became of what a baseline lists, plain data: a part of `drift.json`.

use std::collections::BTreeMap;

use mantissa_numerics::{LayerIdx, Point};
use schemars::JsonSchema;
use serde::Serialize;

use super::answer::DriftAnswer;

/// What became of a site since the baseline.
///
/// Example: [`AgainstBaseline`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BaselineChange {
    /// The baseline does not list it.
    New,
    /// Its answer is worse.
    Worse,
    /// Its effect is larger than rounding can make it.
    Larger,
    /// It could be localized then, and cannot now; or fewer rows were compared than then.
    NotCompared,
    /// As the baseline says, or less.
    Known,
    /// Listed, and in order now.
    Resolved,
}

impl BaselineChange {
    /// In words.
    ///
    /// ```
    /// assert_eq!(mantissa_verdict::drift::BaselineChange::NotCompared.words(), "not compared as then");
    /// ```
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Worse => "worse",
            Self::Larger => "larger",
            Self::NotCompared => "not compared as then",
            Self::Known => "known",
            Self::Resolved => "resolved",
        }
    }
}

/// A site that the baseline lists, or should.
///
/// Example: [`AgainstBaseline`].
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct AgainstSite {
    /// Block, counted from 1; absent outside blocks.
    pub layer: Option<LayerIdx>,
    /// Point.
    pub point: Point,
    /// What became of it.
    pub change: BaselineChange,
    /// Its answer in the baseline; absent where it is not listed.
    pub was: Option<DriftAnswer>,
    /// Its answer now; absent where no row of it was compared.
    pub is: Option<DriftAnswer>,
    /// Its effect in the baseline.
    pub effect_was: Option<f64>,
    /// Its effect now.
    pub effect: Option<f64>,
    /// The largest effect that is no news: that of the baseline, and what other orders of sums add.
    pub allowed: Option<f64>,
}

/// A drift against a baseline.
///
/// ```
/// use mantissa_evidence::Digest;
/// use mantissa_numerics::{LayerIdx, Phase, Point};
/// use mantissa_verdict::drift::{
///     AgainstBaseline, AgainstSite, BaselineChange, BaselineOf, BaselineSide, Drift, DriftAnswer, DriftBaseline,
///     DriftCounts, DriftPair, DriftPlace, DriftSide,
/// };
///
/// let drift = |layer: u32| {
///     let side = || DriftSide { name: "a".into(), setup: "cpu_bs1".into(), digest: None, reproduced: None };
///     let place = DriftPlace {
///         prompt: "0".into(), position: 3, layer: Some(LayerIdx(layer)), point: Point::MlpOut,
///     };
///     let pair = DriftPair {
///         place, phases: [Phase::Prefill; 2], steps: [0; 2], answer: DriftAnswer::Unexplained, arrived: false,
///         differing: Some(9), width: 64, distance: Some(0.5), relative: None, deviation: None, bound: None,
///         spread: None, smallest: None,
///     };
///     Drift::of([side(), side()], vec![pair], DriftCounts::default())
/// };
/// let side = || BaselineSide { setup: "cpu_bs1".into(), digest: None };
/// let made_of = BaselineOf { model: None, weights_digest: None, tokens_digest: None, sides: [side(), side()] };
/// let known = DriftBaseline::of(&drift(4), made_of, false);
///
/// let same: AgainstBaseline = known.against(&drift(4), "known.json", false);
/// assert_eq!((same.sites[0].change, same.worst()), (BaselineChange::Known, None));
/// let other = known.against(&drift(5), "known.json", false);
/// let changes: Vec<BaselineChange> = other.sites.iter().map(|site: &AgainstSite| site.change).collect();
/// assert_eq!(changes, [BaselineChange::NotCompared, BaselineChange::New]);
/// assert_eq!(other.worst(), Some(DriftAnswer::Unexplained));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct AgainstBaseline {
    /// The baseline's file.
    pub file: String,
    /// Sites in the order of computation.
    pub sites: Vec<AgainstSite>,
}

impl AgainstBaseline {
    /// The worst of what the baseline does not cover: what was not compared as then counts as not localized. Absent
    /// where there is nothing of the kind.
    ///
    /// Example: [`AgainstBaseline`].
    #[must_use]
    pub fn worst(&self) -> Option<DriftAnswer> {
        let answers = self.sites.iter().filter_map(|site| match site.change {
            BaselineChange::New | BaselineChange::Worse | BaselineChange::Larger => site.is,
            BaselineChange::NotCompared => Some(DriftAnswer::NotLocalized),
            BaselineChange::Known | BaselineChange::Resolved => None,
        });
        answers.max()
    }

    /// How many sites there are of each change, without those that no site has.
    ///
    /// ```
    /// use mantissa_verdict::drift::AgainstBaseline;
    ///
    /// assert_eq!(AgainstBaseline { file: "known.json".into(), sites: Vec::new() }.counts(), []);
    /// ```
    #[must_use]
    pub fn counts(&self) -> Vec<(BaselineChange, usize)> {
        let mut counts: BTreeMap<BaselineChange, usize> = BTreeMap::new();
        self.sites.iter().for_each(|site| *counts.entry(site.change).or_default() += 1);
        counts.into_iter().collect()
    }
}
