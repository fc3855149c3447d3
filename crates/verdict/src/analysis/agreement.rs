//! What agrees within one setup and between several: tokens, repetitions, classes of equal bits.
//!
//! Left out: distances (`pair`, `matrix`).

use mantissa_numerics::Phase;
use schemars::JsonSchema;
use serde::Serialize;

use super::signal::{Signal, State};
use super::source::Citation;

/// Tokens of one reference prompt across setups.
///
/// ```
/// use mantissa_verdict::analysis::TokenBasis;
///
/// # let file = mantissa_published::open(&mantissa_testkit::synthetic("batch_matrix.log"))?;
/// # let given = [((&file).into(), &file.content)];
/// # let analysis = mantissa_verdict::judge(&given, &mantissa_verdict::Options::default())?;
/// // `analysis` is what `judge` makes of `batch_matrix.log`.
/// let [same, parted] = &analysis.tokens[..] else { panic!("two prompts") };
/// assert_eq!((same.groups.len(), same.part_at), (1, None));
/// // Batch size decides which text comes out after 3 tokens, as their ids show.
/// assert_eq!(parted.groups, [vec!["4"], vec!["5"]]);
/// assert_eq!((parted.part_at, parted.basis), (Some(3), TokenBasis::Ids));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TokenConsistency {
    /// The reference prompt.
    pub reference: String,
    /// Setups by equal output ids, largest group first, then in the order given; without those that stop early.
    pub groups: Vec<Vec<String>>,
    /// Index into the outputs at which not all agree any more; absent when they do.
    pub part_at: Option<u64>,
    /// Setups whose output is the beginning of another's, and the number of ids after which it stops: what follows is
    /// missing, not different.
    pub stopped: Vec<(String, u64)>,
    /// How tokens are known.
    pub basis: TokenBasis,
    /// Where they stand.
    pub citations: Vec<Citation>,
}

/// How the tokens of two runs are known to be the same.
///
/// Example: [`TokenConsistency`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenBasis {
    /// By their ids.
    Ids,
    /// Both records declare the same prompt without its ids.
    Declared,
    /// Not at all.
    Unknown,
}

/// Repetitions of one setup.
///
/// ```
/// use mantissa_numerics::Phase;
/// use mantissa_verdict::analysis::State;
///
/// # let file = mantissa_published::open(&mantissa_testkit::synthetic("quantization.log"))?;
/// # let given = [((&file).into(), &file.content)];
/// # let analysis = mantissa_verdict::judge(&given, &mantissa_verdict::Options::default())?;
/// // `analysis` is what `judge` makes of `quantization.log`.
/// let gptq = |phase| {
///     let mut found = analysis.reproducibility.iter();
///     found.find(|one| one.setup == "gptq" && one.phase == Some(phase)).expect("a check of repetitions")
/// };
/// assert_eq!(gptq(Phase::Prefill).state, State::Equal);
/// // The log prints 4.67e-02 and twice `inf`, where tokens part: only the first is a distance.
/// assert_eq!(gptq(Phase::Decode).state, State::Different);
/// assert_eq!((gptq(Phase::Decode).distance, gptq(Phase::Decode).tokens_part), (Some(0.0467), Some(true)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Reproducibility {
    /// The setup.
    pub setup: String,
    /// The phase, where phases were compared apart.
    pub phase: Option<Phase>,
    /// Repetitions compared (stored or stated); absent where their number is not stated.
    pub repetitions: Option<u64>,
    /// Equal, different; missing when there was only one, or when some lack what others recorded.
    pub state: State,
    /// Largest distance between two repetitions, where finite and known.
    pub distance: Option<f64>,
    /// Whether tokens parted between repetitions; absent where that was neither compared nor stated.
    pub tokens_part: Option<bool>,
    /// In a sentence.
    pub note: String,
    /// Where.
    pub citations: Vec<Citation>,
}

/// Setups grouped by equal bits.
///
/// ```
/// use mantissa_numerics::Phase;
///
/// # let file = mantissa_published::open(&mantissa_testkit::synthetic("batch_generation.json"))?;
/// # let given = [((&file).into(), &file.content)];
/// # let analysis = mantissa_verdict::judge(&given, &mantissa_verdict::Options::default())?;
/// // `analysis` is what `judge` makes of `batch_generation.json`.
/// let decode = analysis.classes.iter().find(|set| set.phase == Phase::Decode).expect("classes");
/// // From batch size 2 on, decode leaves the same bits: no test tells 2 from 4.
/// let sizes: Vec<usize> = decode.classes.iter().map(Vec::len).collect();
/// assert_eq!(sizes, [1, 2]);
/// assert_eq!(decode.classes[1][0], "batch_size_2");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ClassSet {
    /// The phase.
    pub phase: Phase,
    /// The signals that have to be equal.
    pub signals: Vec<Signal>,
    /// Where this holds: a machine, a role (`claimed`, `verified`).
    pub scope: String,
    /// Classes; setups in the order given.
    pub classes: Vec<Vec<String>>,
    /// Setups that could be placed in none, and why.
    pub unplaced: Vec<(String, String)>,
    /// What the equality rests on: bits of signals, zero distances, equal printed columns.
    pub basis: String,
    /// References that were compared.
    pub references: u64,
    /// Where.
    pub citations: Vec<Citation>,
}

/// What can be claimed about false alarms: `failures` of `honest_units` gives at most `rate` with `confidence`.
///
/// ```
/// use mantissa_verdict::stats::ExactTier;
///
/// let bound = ExactTier::of_repeats(10, 0, 0.95)?.bound("repetitions of one setup".to_owned())?;
/// // Ten equal runs are nine comparisons: up to 28 % of false alarms are not excluded.
/// assert_eq!((bound.honest_units, bound.alarms), (9, 0));
/// assert!((0.28..0.29).contains(&bound.rate));
/// assert_eq!(bound.needed_for_one_in_thousand, 2996);
/// # Ok::<(), mantissa_verdict::VerdictError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct FalseAlarmBound {
    /// What was tested on honest units.
    pub of: String,
    /// Independent honest units.
    pub honest_units: u64,
    /// Of which the test alarmed.
    pub alarms: u64,
    /// Upper bound of the rate (Clopper–Pearson).
    pub rate: f64,
    /// Its confidence, 0 to 1.
    pub confidence: f64,
    /// Honest units without an alarm that a rate of 1 in 1,000 would need at this confidence.
    pub needed_for_one_in_thousand: u64,
}
