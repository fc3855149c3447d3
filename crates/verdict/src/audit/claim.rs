//! The verdict on one claim, and what each class's replay gave.

use mantissa_numerics::Phase;
use schemars::JsonSchema;
use serde::Serialize;

use super::difference::Difference;
use crate::analysis::{Signal, Tier};

/// What can be said of one claim.
///
/// ```
/// use mantissa_compare::ReplayFacts;
/// use mantissa_numerics::{Dtype, Point, Site};
/// use mantissa_verdict::audit::{Case, ClaimAnswer, RunFacts, SetupFacts, audit};
///
/// // One recorded key beside the replays of two candidates.
/// let beside = |replay: f32| {
///     let mut facts = ReplayFacts::default();
///     let (evidence, replay) = (1.0_f32.to_le_bytes(), replay.to_le_bytes());
///     facts.prefill.row((0, -1), Site::at(1, Point::K), Dtype::F32, &evidence, &replay);
///     facts
/// };
/// let run = RunFacts {
///     classes: vec![(vec![0], beside(1.5)), (vec![1], beside(1.0))],
///     ..RunFacts::default()
/// };
/// # let case = Case {
/// #     candidates: vec!["bs1".into(), "bs2".into()],
/// #     setups: vec![SetupFacts { claim: Some(0), runs: vec![run], ..SetupFacts::default() }],
/// #     ..Case::default()
/// # };
/// // "bs1" is claimed, and "bs2" leaves the recorded bits.
/// let claim = &audit(&case)?[0];
/// assert_eq!((claim.answer, claim.rests_on.values), (ClaimAnswer::Contradicted, 1));
/// assert_eq!(claim.fits, [["bs2"]]);
/// # Ok::<(), mantissa_verdict::VerdictError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ClaimVerdict {
    /// Name of the configuration in the evidence.
    pub config_id: String,
    /// The setup that is claimed, by the name of its candidate; absent where it cannot be replayed.
    pub claim: Option<String>,
    /// The answer.
    pub answer: ClaimAnswer,
    /// Which tier gave it.
    pub tier: Tier,
    /// It in a sentence that stands alone.
    pub sentence: String,
    /// Candidates that the evidence fits, as classes: members of one leave the same bits on any evidence.
    pub fits: Vec<Vec<String>>,
    /// What cannot be told apart on this evidence, and why.
    pub cannot_tell_apart: Vec<String>,
    /// What was not checked, and why.
    pub not_checked: Vec<String>,
    /// What would be enough, where the evidence was not.
    pub enough: Option<String>,
    /// What the verdict rests on.
    pub rests_on: RestsOn,
    /// Every class that was replayed.
    pub replays: Vec<ReplayVerdict>,
}

/// The answer about a claim. The set of candidates is open: the truth may be none of them.
///
/// Example: [`ClaimVerdict`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClaimAnswer {
    /// The evidence is what the claimed setup leaves.
    Consistent,
    /// It is not, and another candidate leaves it.
    Contradicted,
    /// It is not, and no candidate leaves it.
    FitsNone,
    /// Nothing was compared, or too little to say.
    NotEnoughEvidence,
    /// The evidence states something twice and not alike, and no claim says what is meant: no verdict.
    ContradictsItself,
}

/// What a verdict rests on.
///
/// Example: [`ClaimVerdict`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[schemars(rename = "Basis")]
pub struct RestsOn {
    /// Runs of evidence.
    pub runs: u64,
    /// Values compared with the claim's replay, or with the first class where there is none.
    pub values: u64,
    /// Values that the evidence of this setup recorded, of which they are a part.
    pub recorded: u64,
    /// Rows they stand in.
    pub rows: u64,
    /// Tokens that were fed.
    pub tokens_fed: u64,
    /// Output tokens that were held against the replay's choice.
    pub tokens_checked: u64,
}

/// What one class's replay gave.
///
/// ```
/// use mantissa_compare::ReplayFacts;
/// use mantissa_numerics::{Dtype, Point, Site};
/// use mantissa_verdict::audit::{Case, ReplayState, RunFacts, SetupFacts, audit};
///
/// let (evidence, replay) = (1.0_f32.to_le_bytes(), 1.5_f32.to_le_bytes());
/// let mut facts = ReplayFacts::default();
/// facts.prefill.row((0, -1), Site::at(1, Point::K), Dtype::F32, &evidence, &replay);
/// # let run = RunFacts { classes: vec![(vec![0], facts)], ..RunFacts::default() };
/// # let case = Case {
/// #     candidates: vec!["bs1".into(), "bs2".into()],
/// #     setups: vec![SetupFacts { claim: Some(0), runs: vec![run], ..SetupFacts::default() }],
/// #     ..Case::default()
/// # };
/// let found = &audit(&case)?[0].replays[0];
/// assert_eq!((found.state, found.distances[0].mean_l2), (ReplayState::Different, Some(0.5)));
/// let first = found.first.as_ref().expect("a difference");
/// assert_eq!((first.run.as_str(), first.site.as_str()), ("ref 0 rep 0", "layer_1.k"));
/// assert_eq!((first.evidence.as_str(), first.replay.as_str()), ("0x3f800000", "0x3fc00000"));
/// # Ok::<(), mantissa_verdict::VerdictError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ReplayVerdict {
    /// Candidates that leave the same bits.
    pub class: Vec<String>,
    /// Whether the claim is among them.
    pub claimed: bool,
    /// What was found.
    pub state: ReplayState,
    /// The first difference, in the order of computation.
    pub first: Option<Difference>,
    /// Values compared.
    pub values: u64,
    /// Of those, with other bits.
    pub different: u64,
    /// Forward passes compared, of how many; fewer where the first contradiction ended it.
    pub passes: [u64; 2],
    /// Mean Euclidean norm of the difference, by phase and signal; absent where the replay was ended early.
    pub distances: Vec<SignalDistance>,
    /// p-value of "this setup left the evidence", by repetitions; absent where bits decided.
    pub p_value: Option<f64>,
    /// The same, corrected for the classes tested (Holm).
    pub p_adjusted: Option<f64>,
}

/// What a replay gave.
///
/// Example: [`ReplayVerdict`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplayState {
    /// All compared bits are equal.
    Equal,
    /// Some differ.
    Different,
    /// Bits differ, as they do between the evidence's own repetitions, and by no more than those.
    WithinNoise,
    /// Bits differ, as they do between the evidence's own repetitions, which are too few to say more.
    TooFewRepetitions,
    /// Nothing was compared.
    NotCompared,
}

/// How far evidence and replay are apart.
///
/// Example: [`ReplayVerdict`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct SignalDistance {
    /// The phase.
    pub phase: Phase,
    /// The signal.
    pub signal: Signal,
    /// Rows compared.
    pub rows: u64,
    /// Of those, with other bits: more than none also where the distance is 0, as between +0 and -0.
    pub different: u64,
    /// Mean over rows of the Euclidean norm of the difference.
    pub mean_l2: Option<f64>,
}
