//! The verdict on claims: what replays of candidate setups say about evidence. The result of `mantissa verify`.
//!
//! What comes in ([`Case`]): facts about each run of evidence beside each class of candidates. What goes out ([`Audit`]): plain
//! data, one [`ClaimVerdict`] per setup that the evidence declares. Bits come first: a replay that leaves other bits
//! contradicts its setup, one that leaves the same is consistent with it, and so is every other setup that leaves them.
//! Statistics only where the evidence's own repetitions differ. Left out: running replays (`mantissa-lab`), and how it looks
//! (`mantissa-report`).

mod catalogs;
mod judge;
mod matrix;

use mantissa_compare::ReplayFacts;
use mantissa_evidence::UsedCatalog;
use mantissa_numerics::Phase;
use schemars::JsonSchema;
use serde::Serialize;

use crate::analysis::{Finding, Matrix, Outcome, Signal, Source, Threshold, Tier};

pub use judge::audit;

/// Version of `verification.json`.
pub const AUDIT_VERSION: u32 = 1;

/// What replays say about evidence.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Audit {
    /// [`AUDIT_VERSION`].
    pub audit_version: u32,
    /// The evidence.
    pub sources: Vec<Source>,
    /// The model that replays ran; absent where none was given.
    pub model: Option<AuditedModel>,
    /// How evidence was recomputed: `decode` (as it was generated), `prefill` (one pass over prompt and output), `spot_check`
    /// (single values) or `none`.
    pub replay: String,
    /// The answer in one word; decides the exit code. Divergent if any claim is contradicted.
    pub outcome: Outcome,
    /// Setups that were considered, over all claims.
    pub candidates: Vec<String>,
    /// One per setup that the evidence declares.
    pub claims: Vec<ClaimVerdict>,
    /// Claimed × verified by phase and signal, for the whole grid; empty where replays ended at their first contradiction.
    pub matrices: Vec<Matrix>,
    /// What was computed, and what was not because it would have been the same.
    pub cost: Cost,
    /// What the evidence says of itself, without any replay.
    pub consistency: Vec<Finding>,
    /// What samples of single values say, one per setup, where they were taken.
    pub spot_checks: Vec<SpotCheck>,
    /// Known deviations and whether they were caught; empty unless a self-test was asked for.
    pub self_test: Vec<Planted>,
    /// What to know before relying on it.
    pub notes: Vec<String>,
    /// The thresholds that decided, each with its source; empty where only bits did.
    pub thresholds: Vec<Threshold>,
    /// The catalogs that replays took recipes from; empty where no GPU was predicted from one.
    pub catalogs: Vec<UsedCatalog>,
}

impl Audit {
    /// The outcome that `claims` amount to.
    #[must_use]
    pub fn outcome_of(claims: &[ClaimVerdict]) -> Outcome {
        let any = |answer: ClaimAnswer| claims.iter().any(|claim| claim.answer == answer);
        if any(ClaimAnswer::Contradicted) || any(ClaimAnswer::FitsNone) {
            Outcome::Divergent
        } else if claims.is_empty() || any(ClaimAnswer::NotEnoughEvidence) {
            Outcome::NotEnoughEvidence
        } else {
            Outcome::Consistent
        }
    }
}

/// The model that replays ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AuditedModel {
    /// Its name as given.
    pub name: String,
    /// Digest of its weights; absent where it was not computed because the evidence states none.
    pub weights_digest: Option<String>,
    /// Whether the evidence states these weights.
    pub stated_by_evidence: bool,
}

/// What can be said of one claim.
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
    pub rests_on: Basis,
    /// Every class that was replayed.
    pub replays: Vec<ReplayVerdict>,
}

/// The answer about a claim. The set of candidates is open: the truth may be none of them.
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
}

/// What a verdict rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct Basis {
    /// Runs of evidence.
    pub runs: u64,
    /// Values compared with the claim's replay, or with the first class where there is none.
    pub values: u64,
    /// Rows they stand in.
    pub rows: u64,
    /// Tokens that were fed.
    pub tokens_fed: u64,
    /// Output tokens that were held against the replay's choice.
    pub tokens_checked: u64,
}

/// What one class's replay gave.
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

/// Where evidence and replay first differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Difference {
    /// The run: `ref 0 rep 2`.
    pub run: String,
    /// The phase.
    pub phase: Phase,
    /// Forward pass of the phase.
    pub step: u64,
    /// Position relative to the end; absent for a token.
    pub position: Option<i32>,
    /// The site, `layer_4.x_out`; `logprobs`; or `output_token`.
    pub site: String,
    /// Element of the row, or candidate.
    pub element: Option<u64>,
    /// In the evidence.
    pub evidence: String,
    /// In the replay.
    pub replay: String,
}

/// How far evidence and replay are apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct SignalDistance {
    /// The phase.
    pub phase: Phase,
    /// The signal.
    pub signal: Signal,
    /// Rows compared.
    pub rows: u64,
    /// Mean over rows of the Euclidean norm of the difference.
    pub mean_l2: Option<f64>,
}

/// What was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct Cost {
    /// Candidate setups, over all runs.
    pub candidates: u64,
    /// Classes that their recipes fall into, over all runs.
    pub classes: u64,
    /// Forward passes that were planned: each distinct one once.
    pub passes_planned: u64,
    /// Forward passes if every candidate were replayed by itself.
    pub passes_alone: u64,
    /// Rows of tokens fed in the planned passes.
    pub rows_planned: u64,
    /// Rows if every candidate were replayed by itself, with all sequences of its batch.
    pub rows_alone: u64,
    /// Classes that were left at their first contradiction.
    pub stopped_early: u64,
}

/// A known deviation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Planted {
    /// What was planted.
    pub deviation: String,
    /// Whether it has to be caught; false for honest evidence.
    pub dishonest: bool,
    /// The verdict it got.
    pub answer: ClaimAnswer,
    /// Whether any recorded bit or token is other than in honest evidence; what changes none cannot be found.
    pub changed: bool,
    /// Whether that is right.
    pub passed: bool,
    /// The first difference, or why there is none.
    pub found: String,
}

/// What a sample of single values says.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct SpotCheck {
    /// Name of the configuration.
    pub config_id: String,
    /// Seed of the sample.
    pub seed: u64,
    /// Values that can be recomputed from recorded inputs.
    pub population: u64,
    /// Values drawn, uniformly and with replacement.
    pub drawn: u64,
    /// Distinct values among them.
    pub distinct: u64,
    /// Draws with other bits.
    pub different: u64,
    /// The first of them.
    pub first: Option<Difference>,
    /// How likely a deviation of each extent would have been missed: `(1 − extent)^drawn`.
    pub missed: Vec<MissedExtent>,
    /// Draws by what was recomputed: kernel and draws.
    pub kernels: Vec<(String, u64)>,
    /// What no draw could reach.
    pub out_of_reach: Vec<String>,
}

/// How likely a deviation would have been missed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct MissedExtent {
    /// Share of the population that deviates.
    pub extent: f64,
    /// Probability that no draw met it.
    pub probability: f64,
}

impl SpotCheck {
    /// Extents that a report states, largest first.
    pub const EXTENTS: [f64; 4] = [0.1, 0.01, 0.001, 0.0001];

    /// How likely `draws` uniform draws miss a deviation of each of [`Self::EXTENTS`]: `(1 − extent)^draws`.
    #[must_use]
    pub fn missed(draws: u64) -> Vec<MissedExtent> {
        #[expect(clippy::cast_precision_loss, reason = "nobody draws 2^53 values")]
        let draws = draws as f64;
        let probability = |extent: f64| libm::exp(draws * libm::log1p(-extent));
        Self::EXTENTS.map(|extent| MissedExtent { extent, probability: probability(extent) }).to_vec()
    }

    /// The verdict that this sample gives on the claim `candidate`.
    #[must_use]
    pub fn verdict(&self, candidate: &str, runs: u64) -> ClaimVerdict {
        let (answer, sentence) = match (self.drawn, self.different) {
            (0, _) => (
                ClaimAnswer::NotEnoughEvidence,
                "not enough evidence about the claim: no recorded value has all its inputs recorded beside it; the sites x_in, v, attn_out, x_after_attn, ffn_norm, mlp_out and x_out of one layer would be enough".to_owned(),
            ),
            (_, 0) => (
                ClaimAnswer::Consistent,
                format!("consistent with {candidate} at each of {} sampled values", self.drawn),
            ),
            (_, different) => (
                ClaimAnswer::FitsNone,
                format!(
                    "contradicted: {different} of {} sampled values are not what {candidate} computes from their recorded inputs{}",
                    self.drawn,
                    self.first.as_ref().map_or_else(String::new, |d| format!("; first: {}", judge::place(d)))
                ),
            ),
        };
        ClaimVerdict {
            config_id: self.config_id.clone(),
            claim: Some(candidate.to_owned()),
            answer,
            tier: if self.drawn == 0 { Tier::None } else { Tier::Exact },
            sentence,
            fits: if answer == ClaimAnswer::Consistent { vec![vec![candidate.to_owned()]] } else { Vec::new() },
            cannot_tell_apart: vec![
                "setups whose kernels compute the same, and any whose values differ only where none was drawn".to_owned(),
            ],
            not_checked: self.out_of_reach.clone(),
            enough: (answer == ClaimAnswer::NotEnoughEvidence)
                .then(|| "evidence that holds the inputs of recorded values".to_owned()),
            rests_on: Basis { runs, values: self.distinct, rows: 0, tokens_fed: 0, tokens_checked: 0 },
            replays: Vec::new(),
        }
    }
}

/// Facts to judge.
#[derive(Debug, Clone, Default)]
pub struct Case {
    /// How evidence was recomputed.
    pub prefill_replay: bool,
    /// Names of the candidates.
    pub candidates: Vec<String>,
    /// Those whose recipes were compared with no hardware: that they fit is no evidence, that they do not only beside one that does.
    pub unproven: Vec<usize>,
    /// One per setup that the evidence declares.
    pub setups: Vec<SetupFacts>,
}

/// Facts about one setup.
#[derive(Debug, Clone, Default)]
pub struct SetupFacts {
    /// Name of the configuration.
    pub config_id: String,
    /// The claim, a place in [`Case::candidates`].
    pub claim: Option<usize>,
    /// Why the claim cannot be replayed.
    pub unreadable: Option<String>,
    /// Its stored runs.
    pub runs: Vec<RunFacts>,
}

/// Facts about one run.
#[derive(Debug, Clone, Default)]
pub struct RunFacts {
    /// Its reference prompt.
    pub reference_id: u32,
    /// Its repetition.
    pub rep_id: u32,
    /// Why nothing of it could be replayed.
    pub refused: Option<String>,
    /// Tokens of its prompt and of its output that are fed.
    pub tokens: u64,
    /// Candidates by class, with what their replay gave.
    pub classes: Vec<(Vec<usize>, ReplayFacts)>,
    /// Candidates that cannot be replayed, and why.
    pub unchecked: Vec<(usize, String)>,
    /// Facts about this run beside each other repetition of its prompt, where they differ.
    pub repetitions: Vec<ReplayFacts>,
}
