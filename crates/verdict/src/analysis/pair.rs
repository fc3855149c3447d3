//! What can be said of one pair of setups, and what it rests on.
//!
//! Left out: how distance is spread over all pairs or along layers (`matrix`).

use mantissa_numerics::Phase;
use schemars::JsonSchema;
use serde::Serialize;

use super::signal::Signal;
use super::source::Citation;

/// Which question a pair answers.
///
/// ```
/// use mantissa_verdict::analysis::Comparison;
///
/// # let file = mantissa_published::open(&mantissa_testkit::synthetic("attention.log"))?;
/// # let given = [((&file).into(), &file.content)];
/// # let analysis = mantissa_verdict::judge(&given, &mantissa_verdict::Options::default())?;
/// // `analysis` is what `judge` makes of `attention.log`.
/// let first = |comparison| {
///     let sdpa = analysis.pairs.iter().filter(|pair| pair.b.starts_with("sdpa"));
///     let mut sdpa = sdpa.filter(|pair| !pair.a.starts_with("eager"));
///     sdpa.find(|pair| pair.comparison == comparison).expect("a pair").distance
/// };
/// // Other hardware moves the keys of sdpa by 0.75. Other hardware and flash attention move them by less:
/// // 0.5 from sdpa's evidence and 0.75 from that of flash attention.
/// let (baseline, other) = (first(Comparison::CrossHardwareBaseline), first(Comparison::CrossHardware));
/// assert!(baseline == Some(0.75) && other < baseline);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// Same setup, other hardware: what hardware alone does.
    CrossHardwareBaseline,
    /// Other setup, same hardware.
    WithinHardware,
    /// Other setup, same hardware, where a pass over prompt and output replays what decoding left.
    DecodeByPrefill,
    /// Other setup, other hardware, against that pair's own baseline: can it be detected?
    CrossHardware,
}

/// What can be said of one pair of setups.
///
/// ```
/// use mantissa_verdict::analysis::{Answer, Needed, Tier};
///
/// # let file = mantissa_published::open(&mantissa_testkit::synthetic("quant_verification.json"))?;
/// # let given = [((&file).into(), &file.content)];
/// # let analysis = mantissa_verdict::judge(&given, &mantissa_verdict::Options::default())?;
/// // `analysis` is what `judge` makes of `quant_verification.json`.
/// let mut pairs = analysis.pairs.iter();
/// let pair = pairs.find(|pair| pair.a == "awq" && pair.b == "gptq").expect("a pair");
/// // 13 times the distance of honest replays, and yet not told apart: 2 prompts give no p below 1/2².
/// assert_eq!((pair.n, pair.p_value), (2, Some(0.25)));
/// assert!(matches!(pair.needed, Some(Needed::References(5..))));
/// assert!(pair.ratio > Some(13.0));
/// assert_eq!((pair.tier, pair.answer), (Tier::Statistical, Answer::Inconclusive));
/// // The floor: 2 prompts of either setup, each beside a replay of that setup.
/// assert_eq!(pair.floor.as_ref().map(|floor| floor.n), Some(4));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct PairVerdict {
    /// Which question.
    pub comparison: Comparison,
    /// The first setup (the claim).
    pub a: String,
    /// The second.
    pub b: String,
    /// The phase.
    pub phase: Phase,
    /// The signal.
    pub signal: Signal,
    /// The answer.
    pub answer: Answer,
    /// Which tier gave it.
    pub tier: Tier,
    /// Mean distance between the two.
    pub distance: Option<f64>,
    /// This pair's own noise floor.
    pub floor: Option<Floor>,
    /// `distance / floor`, where the floor is not zero.
    pub ratio: Option<f64>,
    /// Bootstrap interval of the ratio over sequences, with its confidence.
    pub interval: Option<Interval>,
    /// The ratio is below this at the level of the analysis, corrected for its pairs; absent where so few units allow
    /// no such statement.
    pub ratio_bound: Option<f64>,
    /// p-value of "the wrong setup fits as well as the right one", or of "repetitions of the two are exchangeable".
    pub p_value: Option<f64>,
    /// The same, corrected for the pairs of this analysis (Holm).
    pub p_adjusted: Option<f64>,
    /// Independent units (reference prompts) behind it.
    pub n: u64,
    /// What would be enough at the least, where the evidence is too little.
    pub needed: Option<Needed>,
    /// Units left out because tokens differ or data are missing.
    pub incomparable: u64,
    /// Rows of both by state; absent where only distances are stored.
    pub rows: Option<RowCounts>,
    /// A sentence that stands alone.
    pub sentence: String,
    /// Where the numbers came from.
    pub citations: Vec<Citation>,
}

/// Rows of two setups (one step and position of a site, or of log-probabilities) by state, over all references.
///
/// ```
/// use mantissa_numerics::Phase;
///
/// # let file = mantissa_published::open(&mantissa_testkit::synthetic("batch_generation.json"))?;
/// # let given = [((&file).into(), &file.content)];
/// # let analysis = mantissa_verdict::judge(&given, &mantissa_verdict::Options::default())?;
/// // `analysis` is what `judge` makes of `batch_generation.json`.
/// let rows = |phase, a, b| {
///     let mut pairs = analysis.pairs.iter().filter(|pair| pair.phase == phase);
///     pairs.find(|pair| pair.a == a && pair.b == b).and_then(|pair| pair.rows).expect("a pair")
/// };
/// // 2 prompts, of which the last 3 positions and the last 3 steps are stored.
/// assert_eq!(rows(Phase::Prefill, "batch_size_1", "batch_size_2").equal, 6);
/// assert_eq!(rows(Phase::Decode, "batch_size_1", "batch_size_2").different, 6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct RowCounts {
    /// Same bits.
    pub equal: u64,
    /// Other bits.
    pub different: u64,
    /// Recorded by one of the two only.
    pub missing: u64,
    /// Recorded by both, but tokens, formats or shapes forbid a comparison, or something stands in for a value on one
    /// side.
    pub incomparable: u64,
}

/// The answer about a pair.
///
/// Example: [`PairVerdict`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Same bits: one class, no test can separate them.
    Identical,
    /// Told apart.
    Separable,
    /// Not told apart, and a difference of the size asked for is excluded.
    NotSeparable,
    /// Too little evidence to say.
    Inconclusive,
    /// Nothing could be compared.
    Incomparable,
}

/// Which kind of reasoning gave an answer.
///
/// Example: [`PairVerdict`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Bits: both sides reproduce exactly, so any difference counts.
    Exact,
    /// Statistics over units: at least one side has noise.
    Statistical,
    /// Only averages are stored, so no uncertainty can be computed.
    Aggregate,
    /// Nothing to reason on.
    None,
}

/// What would be enough at the least for an answer.
///
/// Example: [`PairVerdict`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Needed {
    /// So many reference prompts.
    References(u64),
    /// Repetitions of each setup on each of the reference prompts.
    Repetitions {
        /// How many of each setup.
        each: u64,
        /// On how many reference prompts.
        references: u64,
    },
}

/// A pair's own noise floor.
///
/// Example: [`PairVerdict`].
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Floor {
    /// Mean distance of honest repeats.
    pub mean: f64,
    /// Largest of them.
    pub max: f64,
    /// How many.
    pub n: u64,
    /// Of what: repetitions, matching replays on other hardware.
    pub of: String,
}

/// A confidence interval.
///
/// Example: [`Bootstrap::interval`](crate::stats::Bootstrap::interval).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Confidence, 0 to 1.
    pub confidence: f64,
}
