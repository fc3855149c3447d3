//! The result of an audit, plain data: what `verification.json` holds.
//!
//! Left out: samples of single values (`spot`).

use mantissa_evidence::UsedCatalog;
use schemars::JsonSchema;
use serde::Serialize;

use super::claim::{ClaimAnswer, ClaimVerdict};
use super::contested::Contested;
use super::spot::SpotCheck;
use crate::analysis::{Finding, Matrix, Outcome, Source, Threshold};

/// Version of `verification.json`.
pub const AUDIT_VERSION: u32 = 1;

/// What replays say about evidence.
///
/// ```
/// use mantissa_verdict::Audit;
/// use mantissa_verdict::audit::{AuditedModel, ClaimAnswer, Cost, Planted};
///
/// // Six candidates in two classes, evidence of 17 forward passes, and one planted deviation.
/// let audit = Audit {
///     model: Some(AuditedModel {
///         name: "tiny".into(),
///         claimed: vec![],
///         weights_digest: None,
///         stated_by_evidence: false,
///     }),
///     cost: Cost { candidates: 6, classes: 2, passes_planned: 34, passes_alone: 102, ..Cost::default() },
///     self_test: vec![Planted {
///         deviation: "recorded by cpu_bs2".into(),
///         dishonest: true,
///         answer: ClaimAnswer::Consistent,
///         changed: false,
///         passed: false,
///         found: "consistent with class {cpu_bs4}".into(),
///     }],
///     // …
/// #   audit_version: mantissa_verdict::audit::AUDIT_VERSION, sources: vec![], replay: "decode".into(),
/// #   outcome: Audit::outcome_of(&[]), candidates: vec![], claims: vec![], matrices: vec![],
/// #   consistency: vec![], contested: vec![], spot_checks: vec![], notes: vec![], thresholds: vec![],
/// #   catalogs: vec![],
/// };
/// // Members of a class share their passes: three candidates cost as much as one.
/// assert_eq!(audit.cost.passes_alone / audit.cost.passes_planned, 3);
/// // Not caught, and not a miss: the other setup left the same bits, so there was nothing to find.
/// assert!(audit.self_test.iter().all(|planted| planted.passed || !planted.changed));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Audit {
    /// [`AUDIT_VERSION`].
    pub audit_version: u32,
    /// The evidence.
    pub sources: Vec<Source>,
    /// The model that replays ran; absent where none was given.
    pub model: Option<AuditedModel>,
    /// How evidence was recomputed: `decode` (as it was generated), `prefill` (one pass over prompt and output),
    /// `spot_check` (single values) or `none`.
    pub replay: String,
    /// The answer in one word; decides the exit code. Divergent if any claim is contradicted.
    pub outcome: Outcome,
    /// Setups that were considered, over all claims.
    pub candidates: Vec<String>,
    /// One per setup that the evidence declares.
    pub claims: Vec<ClaimVerdict>,
    /// Claimed × verified by phase and signal, for the whole grid; empty where replays ended at their first
    /// contradiction.
    pub matrices: Vec<Matrix>,
    /// What was computed, and what was not because it would have been the same.
    pub cost: Cost,
    /// What the evidence says of itself, without any replay.
    pub consistency: Vec<Finding>,
    /// What the evidence states twice and not alike.
    pub contested: Vec<Contested>,
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
    ///
    /// ```
    /// use mantissa_verdict::Audit;
    /// use mantissa_verdict::analysis::Outcome;
    ///
    /// assert_eq!(Audit::outcome_of(&[]), Outcome::NotEnoughEvidence);
    /// ```
    #[must_use]
    pub fn outcome_of(claims: &[ClaimVerdict]) -> Outcome {
        let any = |answer: ClaimAnswer| claims.iter().any(|claim| claim.answer == answer);
        if any(ClaimAnswer::Contradicted) || any(ClaimAnswer::FitsNone) {
            Outcome::Divergent
        } else if claims.is_empty()
            || any(ClaimAnswer::NotEnoughEvidence)
            || any(ClaimAnswer::ContradictsItself)
        {
            Outcome::NotEnoughEvidence
        } else {
            Outcome::Consistent
        }
    }
}

/// The model that replays ran.
///
/// Example: [`Audit`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AuditedModel {
    /// Its name as given.
    pub name: String,
    /// The name that is claimed: what the evidence calls it, each spelling once, or what `--claim model=…` says.
    pub claimed: Vec<String>,
    /// Digest of its weights; absent where it was not computed because the evidence states none.
    pub weights_digest: Option<String>,
    /// Whether the evidence states these weights.
    pub stated_by_evidence: bool,
}

/// What was computed.
///
/// Example: [`Audit`].
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
///
/// Example: [`Audit`].
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
