//! A baseline: what of a drift is known, as a small file that is committed beside a project.
//!
//! It lists the sites that would fail a run, with the size of their effects, and says what it was made of. Left out:
//! what a later drift has that it does not list ([`super::AgainstBaseline`]).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mantissa_evidence::error::{Flaw, Result, one_line};
use mantissa_evidence::{Digest, EvidenceError, files};
use mantissa_numerics::{LayerIdx, Point, Site};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::DriftAnswer;
use super::result::Drift;

/// Version of a baseline.
pub const BASELINE_VERSION: u32 = 1;
/// What a damaged baseline asks for.
const RESTORE: &str = "restore the file, or write it anew with --write-baseline";

/// What is known of a drift.
///
/// ```
/// use mantissa_numerics::Point;
/// use mantissa_verdict::drift::{
///     BASELINE_VERSION, BaselineOf, BaselineSide, BaselineSite, Drift, DriftAnswer, DriftBaseline, DriftCounts,
///     DriftSide,
/// };
///
/// let side = || DriftSide { name: "a".into(), setup: "cpu_bs1".into(), digest: None, reproduced: None };
/// let drift = Drift::of([side(), side()], Vec::new(), DriftCounts::default());
/// let known = || BaselineSide { setup: "cpu_bs1".into(), digest: None };
/// let made_of = BaselineOf {
///     model: Some("smollm2".into()), weights_digest: None, tokens_digest: None, sides: [known(), known()],
/// };
/// let baseline = DriftBaseline::of(&drift, made_of, false);
/// let sites: &Vec<BaselineSite> = &baseline.sites;
/// assert_eq!((baseline.drift_baseline_version, sites.len()), (BASELINE_VERSION, 0));
///
/// let text = serde_json::to_vec(&baseline)?;
/// assert_eq!(DriftBaseline::parse(&text, "baseline.json".as_ref())?, baseline);
/// let cut = DriftBaseline::parse(&text[..40], "baseline.json".as_ref()).expect_err("it is cut");
/// assert!(cut.to_string().starts_with("baseline.json: line 1, column 40: "), "{cut}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DriftBaseline {
    /// [`BASELINE_VERSION`].
    pub drift_baseline_version: u32,
    /// What it was made of.
    pub made_of: BaselineOf,
    /// Sites that are known not to be in order, in the order of computation.
    pub sites: Vec<BaselineSite>,
}

/// What a baseline was made of: a drift of anything else is not compared with it.
///
/// Example: [`DriftBaseline`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaselineOf {
    /// Name of the model; absent where no side states any.
    pub model: Option<String>,
    /// Digest of its weights; absent where it is not known.
    pub weights_digest: Option<Digest>,
    /// Digest of the prompts' token ids; absent where they are not known.
    pub tokens_digest: Option<Digest>,
    /// The two sides, the reference first.
    pub sides: [BaselineSide; 2],
}

/// A side of a baseline.
///
/// Example: [`DriftBaseline`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaselineSide {
    /// Its setup; of a computed side with what of it was decoded.
    pub setup: String,
    /// Digest of the signals that it had then. A later run may have others: that is what is looked for.
    pub digest: Option<Digest>,
}

/// A site that is known not to be in order.
///
/// Example: [`DriftBaseline`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaselineSite {
    /// Block, counted from 1; null outside blocks.
    pub layer: Option<LayerIdx>,
    /// Point.
    pub point: Point,
    /// Its worst answer: `unexplained`, `not_localized`, or with `--strict` `within_rounding`.
    pub answer: DriftAnswer,
    /// Rows that were compared.
    pub pairs: u64,
    /// Of these, those that are not equal.
    pub differing: u64,
    /// How far all rows together are from what their inputs give; where nothing was recomputed, how far the two sides
    /// are apart. Null where that is not known, or not finite.
    pub effect: Option<f64>,
    /// What another order of the same sums may do to it; null where that is not known.
    pub spread: Option<f64>,
}

impl BaselineSite {
    /// Where it is.
    pub(super) const fn site(&self) -> Site {
        Site { layer: self.layer, point: self.point }
    }

    /// What a baseline says of each site of `drift`.
    pub(super) fn all(drift: &Drift) -> Vec<Self> {
        // The square of how far the sides are apart, while all distances are known.
        let mut apart: BTreeMap<Site, Option<f64>> = BTreeMap::new();
        for pair in &drift.pairs {
            let site = Site { layer: pair.place.layer, point: pair.place.point };
            let sum = apart.entry(site).or_insert(Some(0.0));
            *sum = sum.zip(pair.distance).map(|(sum, distance)| sum + distance * distance);
        }
        let finite = |value: &f64| value.is_finite();
        let sites = drift.sites.iter().map(|site| {
            let apart = apart.get(&site.site()).copied().flatten().map(f64::sqrt);
            Self {
                layer: site.layer,
                point: site.point,
                answer: site.answer,
                pairs: site.counts.pairs,
                differing: site.counts.pairs - site.counts.equal,
                effect: site.deviation.or(apart).filter(finite),
                spread: site.deviation.and(site.spread).filter(finite),
            }
        });
        sites.collect()
    }
}

/// Whether an answer fails a run.
pub(super) fn fails(answer: DriftAnswer, strict: bool) -> bool {
    match answer {
        DriftAnswer::Equal | DriftAnswer::Explained => false,
        DriftAnswer::WithinRounding => strict,
        DriftAnswer::NotLocalized | DriftAnswer::Unexplained => true,
    }
}

impl DriftBaseline {
    /// The sites of `drift` that fail it; `strict` counts what is within rounding among them.
    ///
    /// Example: [`DriftBaseline`].
    #[must_use]
    pub fn of(drift: &Drift, made_of: BaselineOf, strict: bool) -> Self {
        let mut sites = BaselineSite::all(drift);
        sites.retain(|site| fails(site.answer, strict));
        Self { drift_baseline_version: BASELINE_VERSION, made_of, sites }
    }

    /// Reads a baseline.
    ///
    /// *Errors:* a file that cannot be read, and those of [`DriftBaseline::parse`].
    ///
    /// ```
    /// use mantissa_verdict::drift::DriftBaseline;
    ///
    /// let error = DriftBaseline::open("no such file".as_ref()).expect_err("there is none");
    /// assert!(error.to_string().starts_with("no such file: cannot "), "{error}");
    /// ```
    pub fn open(path: &Path) -> Result<Self> {
        Self::parse(&files::map(path)?, path)
    }

    /// Reads a baseline from memory.
    ///
    /// *Errors:* text that is no baseline, with its line and column; a site twice, a site that there is not, an answer
    /// that fails nothing, sizes that cannot be; a later version.
    ///
    /// Example: [`DriftBaseline`].
    pub fn parse(text: &[u8], path: &Path) -> Result<Self> {
        /// What every version has.
        #[derive(Deserialize)]
        struct Versioned {
            drift_baseline_version: u64,
        }
        let later = serde_json::from_slice::<Versioned>(text)
            .ok()
            .map(|found| found.drift_baseline_version)
            .filter(|found| *found > u64::from(BASELINE_VERSION));
        if let Some(found) = later {
            return Err(EvidenceError::Version { path: path.to_owned(), found, known: BASELINE_VERSION });
        }
        let baseline: Self = serde_json::from_slice(text).map_err(|error| {
            let said = error.to_string();
            let problem = said.rsplit_once(" at line ").map_or(said.as_str(), |(problem, _)| problem);
            EvidenceError::Json {
                path: path.to_owned(),
                line: error.line(),
                column: error.column(),
                problem: format!("no baseline of a drift: {}", one_line(problem)),
                remedy: RESTORE.to_owned(),
            }
        })?;
        baseline.check().map_err(|flaw| flaw.in_file(path))?;
        Ok(baseline)
    }

    /// What types do not say.
    fn check(&self) -> std::result::Result<(), Flaw> {
        if self.drift_baseline_version == 0 {
            return Err(Flaw::new("drift_baseline_version", "it is 0", RESTORE));
        }
        let mut known = BTreeSet::new();
        for (number, one) in self.sites.iter().enumerate() {
            let flaw = |problem: String| Flaw::new(format!("sites[{number}]"), problem, RESTORE);
            let site = one.site();
            if one.point.has_layer() != one.layer.is_some_and(|LayerIdx(layer)| layer > 0) {
                return Err(flaw(format!("{site} is no site")));
            }
            if !known.insert(site) {
                return Err(flaw(format!("{site} stands there twice")));
            }
            if !fails(one.answer, true) {
                return Err(flaw(format!("{site} is {}, which fails nothing", one.answer.words())));
            }
            if one.differing > one.pairs || one.differing == 0 {
                return Err(flaw(format!("{} of {} rows differ", one.differing, one.pairs)));
            }
            if [one.effect, one.spread].into_iter().flatten().any(|size| size < 0.0) {
                return Err(flaw(format!("{site} has a size below 0")));
            }
        }
        Ok(())
    }

    /// Refuses a drift of something else than this was made of. `path` is where this stands.
    ///
    /// *Errors:* another model, other prompts, another setup of a side.
    ///
    /// ```
    /// use mantissa_verdict::drift::{BASELINE_VERSION, BaselineOf, BaselineSide, DriftBaseline};
    ///
    /// let side = |setup: &str| BaselineSide { setup: setup.into(), digest: None };
    /// let of = |model: &str| BaselineOf {
    ///     model: Some(model.into()), weights_digest: None, tokens_digest: None, sides: [side("bs1"), side("bs8")],
    /// };
    /// let known = DriftBaseline {
    ///     drift_baseline_version: BASELINE_VERSION, made_of: of("smollm2"), sites: Vec::new(),
    /// };
    /// assert!(known.is_of(&of("smollm2"), "known.json".as_ref()).is_ok());
    /// let refused = known.is_of(&of("qwen"), "known.json".as_ref()).expect_err("another model");
    /// assert!(refused.to_string().starts_with("known.json: made_of.model: smollm2, and this is qwen; "));
    /// ```
    pub fn is_of(&self, drift: &BaselineOf, path: &Path) -> Result<()> {
        let other = |place: &str, was: &str, is: &str| {
            let remedy = "give the baseline of this comparison, or write one with --write-baseline";
            Err(Flaw::new(place, format!("{was}, and this is {is}"), remedy).in_file(path))
        };
        let own = &self.made_of;
        let stated = |name: &Option<String>| one_line(name.as_deref().unwrap_or("of no stated model"));
        match (own.weights_digest, drift.weights_digest) {
            (Some(was), Some(is)) if was != is => {
                let of = |name, digest: Digest| {
                    format!("{} with weights {}", stated(name), &digest.to_string()[..12])
                };
                return other("made_of.weights_digest", &of(&own.model, was), &of(&drift.model, is));
            }
            (Some(_), Some(_)) => {}
            _ if own.model != drift.model => {
                return other("made_of.model", &stated(&own.model), &stated(&drift.model));
            }
            _ => {}
        }
        for (number, (was, is)) in own.sides.iter().zip(&drift.sides).enumerate() {
            if was.setup != is.setup {
                let place = format!("made_of.sides[{number}].setup");
                return other(&place, &one_line(&was.setup), &one_line(&is.setup));
            }
        }
        if own.tokens_digest != drift.tokens_digest {
            return other("made_of.tokens_digest", "of other prompts", "a comparison of others");
        }
        Ok(())
    }
}
