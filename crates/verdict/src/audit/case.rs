//! What an audit judges: facts about each run of evidence beside each class of candidates.

use mantissa_compare::ReplayFacts;

/// Facts to judge.
#[derive(Debug, Clone, Default)]
pub struct Case {
    /// How evidence was recomputed.
    pub prefill_replay: bool,
    /// Names of the candidates.
    pub candidates: Vec<String>,
    /// Those whose recipes were never compared with hardware. That they fit is no evidence; that they do not fit is
    /// evidence only beside one that does.
    pub unproven: Vec<usize>,
    /// One per setup that the evidence declares.
    pub setups: Vec<SetupFacts>,
}

/// Facts about one setup.
///
/// Example: [`audit`](super::audit()).
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
///
/// Example: [`ClaimVerdict`](super::ClaimVerdict).
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
    /// Values that it recorded, whether or not they can be compared.
    pub recorded: u64,
    /// Candidates by class, with what their replay gave.
    pub classes: Vec<(Vec<usize>, ReplayFacts)>,
    /// Candidates that cannot be replayed, and why.
    pub unchecked: Vec<(usize, String)>,
    /// Facts about this run beside each other repetition of its prompt, where they differ.
    pub repetitions: Vec<ReplayFacts>,
}
