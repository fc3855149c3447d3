//! The result of an analysis: what `analysis_results.json` holds and every report shows.
//!
//! Plain data. A number that a reader may doubt has a [`Citation`]; a number that does not exist is absent, never 0.
//! Left out: how any of it was computed (the other modules) and how it looks (`mantissa-report`).

use mantissa_numerics::Phase;
use schemars::JsonSchema;
use serde::Serialize;

/// Version of `analysis_results.json`.
pub const ANALYSIS_VERSION: u32 = 1;

/// What the evidence shows.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Analysis {
    /// [`ANALYSIS_VERSION`].
    pub analysis_version: u32,
    /// Whose definitions were used.
    pub mode: Mode,
    /// The files analyzed, in the order given.
    pub sources: Vec<Source>,
    /// What was asked.
    pub question: Question,
    /// The answer in one word; decides the exit code.
    pub outcome: Outcome,
    /// What the data say, in plain sentences, most important first.
    pub findings: Vec<Finding>,
    /// Whether references produced the same tokens in every setup.
    pub tokens: Vec<TokenConsistency>,
    /// Whether repetitions agreed.
    pub reproducibility: Vec<Reproducibility>,
    /// Setups that no test on this evidence can tell apart.
    pub classes: Vec<ClassSet>,
    /// One verdict per pair of setups, phase and signal.
    pub pairs: Vec<PairVerdict>,
    /// Distances between setups.
    pub matrices: Vec<Matrix>,
    /// How distance grows along layers or steps.
    pub profiles: Vec<Profile>,
    /// What can be claimed about false alarms.
    pub bounds: Vec<FalseAlarmBound>,
    /// Tables of the published definitions; empty in the default mode.
    pub tables: Vec<Table>,
    /// Printed figures set against what their own data give; empty unless a file prints some.
    pub published: Vec<PublishedFigure>,
    /// The thresholds that were used, each with its source.
    pub thresholds: Vec<Threshold>,
}

/// Whose definitions were used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Ours: exact tier first, per pair, by token id.
    Default,
    /// The published ones, to reproduce old tables. Not a verdict.
    AsPublished,
}

/// A file that was analyzed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Source {
    /// Name without folder, unique in the analysis.
    pub name: String,
    /// blake3 of its bytes (of a container: of its manifest), in hexadecimal.
    pub digest: String,
    /// What it is: `experiment_json`, `container`, `activations`, …
    pub layout: String,
    /// What was lenient or assumed in reading it.
    pub warnings: Vec<String>,
}

/// Where a number came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Citation {
    /// [`Source::name`].
    pub source: String,
    /// Place in it: `runs[3] layer_28.k`, `comparisons[17].prefill_distances.logprobs_mean`, `line 412`.
    pub place: String,
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Question {
    /// The setup field that varies: `batch_size`, `attention`, `hardware`, …
    pub variable: String,
    /// The configuration everything is measured against, named explicitly; absent where all pairs count alike.
    pub reference: Option<String>,
    /// Signals analyzed.
    pub signals: Vec<Signal>,
}

/// A kind of signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// Block outputs and the final norm.
    HiddenStates,
    /// Keys as cached.
    KeyVectors,
    /// Log-probabilities by token id.
    Logprobs,
}

/// The answer in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything compared agrees. Exit code 0.
    Consistent,
    /// Something compared differs. Exit code 1.
    Divergent,
    /// Nothing could be compared, or too little to say. Exit code 3.
    NotEnoughEvidence,
}

/// One thing the data say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    /// What it is about.
    pub kind: FindingKind,
    /// One plain sentence with its numbers.
    pub sentence: String,
    /// Where they came from.
    pub citations: Vec<Citation>,
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// Setups that are one equivalence class.
    OneClass,
    /// Setups that can be told apart.
    Separable,
    /// Setups that cannot.
    NotSeparable,
    /// Tokens part.
    TokensDiverge,
    /// Repetitions of one setup differ.
    NonDeterministic,
    /// A difference too large to be rounding: other weights, other inputs.
    NotRounding,
    /// A published figure that does not follow from its data, or does not mean what it says.
    Published,
    /// Something the evidence lacks.
    Missing,
}

/// The four states of anything that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Same bits.
    Equal,
    /// Other bits.
    Different,
    /// Not recorded on one side.
    Missing,
    /// Recorded, but tokens, formats or shapes forbid a comparison.
    Incomparable,
}

/// Tokens of one reference prompt across setups.
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

/// Which question a pair answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// Same setup, other hardware: what hardware alone does.
    CrossHardwareBaseline,
    /// Other setup, same hardware.
    WithinHardware,
    /// Other setup, other hardware, against that pair's own baseline: can it be detected?
    CrossHardware,
}

/// What can be said of one pair of setups.
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
    /// p-value of "the wrong setup fits as well as the right one".
    pub p_value: Option<f64>,
    /// The same, corrected for the pairs of this analysis (Holm).
    pub p_adjusted: Option<f64>,
    /// Independent units (reference prompts) behind it.
    pub n: u64,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct RowCounts {
    /// Same bits.
    pub equal: u64,
    /// Other bits.
    pub different: u64,
    /// Recorded by one of the two only.
    pub missing: u64,
    /// Recorded by both, but tokens, formats or shapes forbid a comparison.
    pub incomparable: u64,
}

/// The answer about a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Same bits: one class, no test can separate them.
    Identical,
    /// Told apart.
    Separable,
    /// Not told apart: the distance is within the pair's own floor.
    NotSeparable,
    /// The evidence leans, and is too little to say.
    Inconclusive,
    /// Nothing could be compared.
    Incomparable,
}

/// Which kind of reasoning gave an answer.
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

/// A pair's own noise floor.
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
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Confidence, 0 to 1.
    pub confidence: f64,
}

/// Distances between setups, rows against columns.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Matrix {
    /// For a heading and an anchor, unique in the analysis.
    pub title: String,
    /// What rows and columns are.
    pub kind: MatrixKind,
    /// The phase.
    pub phase: Phase,
    /// The signal.
    pub signal: Signal,
    /// The reference prompt; absent for an average over references.
    pub reference: Option<String>,
    /// What a cell holds: `mean L2 over positions`.
    pub statistic: String,
    /// Row labels.
    pub rows: Vec<String>,
    /// Column labels.
    pub columns: Vec<String>,
    /// Cells, row by row.
    pub cells: Vec<Vec<Cell>>,
}

/// What rows and columns of a matrix are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MatrixKind {
    /// Setups against setups, one phase.
    WithinMode,
    /// Rows generated by decode, columns replayed by prefill.
    DecodePrefill,
    /// Rows claimed, columns replayed by the verifier.
    ClaimedVerified,
    /// Hardware against hardware.
    CrossHardware,
}

/// A cell of a matrix.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Cell {
    /// Its state.
    pub state: State,
    /// The distance, for equal (0) and different.
    pub value: Option<f64>,
    /// Units behind it.
    pub n: u64,
    /// Where it came from.
    pub citation: Option<Citation>,
}

/// Distance along layers or steps.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Profile {
    /// The first setup.
    pub a: String,
    /// The second.
    pub b: String,
    /// The phase.
    pub phase: Phase,
    /// The signal.
    pub signal: Signal,
    /// What the horizontal axis counts.
    pub axis: Axis,
    /// Coordinate and mean L2, in order; a gap is a coordinate that could not be compared.
    pub points: Vec<(u64, Option<f64>)>,
    /// Where.
    pub citation: Option<Citation>,
}

/// A horizontal axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Decoder blocks, counted from 1.
    Layer,
    /// Forward passes.
    Step,
}

/// What can be claimed about false alarms: `failures` of `honest_units` gives at most `rate` with `confidence`.
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

/// A table of text, as the published definitions print it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Table {
    /// Heading.
    pub title: String,
    /// Column titles.
    pub columns: Vec<String>,
    /// Rows.
    pub rows: Vec<Vec<String>>,
    /// What to know before using it.
    pub note: Option<String>,
}

/// A printed figure against what its own data give.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct PublishedFigure {
    /// What it is: `SNR of key vectors, decode × prefill`.
    pub name: String,
    /// As printed or stored.
    pub printed: String,
    /// Computed from the same file (or its companion) and shown with as many digits.
    pub recomputed: Option<String>,
    /// Whether they agree.
    pub agreement: Agreement,
    /// Why, where it is not plain.
    pub note: Option<String>,
    /// Where it is printed.
    pub citation: Citation,
}

/// Whether a printed figure follows from its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Agreement {
    /// Every printed digit.
    EveryDigit,
    /// Its inputs are printed too short to tell; it lies in the range they leave.
    WithinRounding,
    /// It does not follow.
    DoesNotFollow,
    /// Its inputs are not in the file.
    NotInFile,
}

/// A threshold and where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Threshold {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: f64,
    /// What it decides.
    pub decides: String,
    /// Why this value: a paper, a measurement, a convention.
    pub source: String,
}
