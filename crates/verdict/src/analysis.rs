//! The result of an analysis: what `analysis_results.json` holds and every report shows.
//!
//! Plain data. A number that a reader may doubt has a [`Citation`]; a number that does not exist is absent, never 0.
//! Left out: how any of it was computed (the other modules) and how it looks (`mantissa-report`).

mod agreement;
mod first;
mod matrix;
mod pair;
mod printed;
mod signal;
mod source;

use schemars::JsonSchema;
use serde::Serialize;

pub use agreement::{ClassSet, FalseAlarmBound, Reproducibility, TokenBasis, TokenConsistency};
pub use first::{FirstDifference, FirstDifferences};
pub use matrix::{Axis, Cell, Matrix, MatrixKind, Profile};
pub use pair::{Answer, Comparison, Floor, Interval, Needed, PairVerdict, RowCounts, Tier};
pub use printed::{Agreement, PublishedFigure, Table};
pub use signal::{Signal, State};
pub use source::{Citation, Source};

/// Version of `analysis_results.json`.
pub const ANALYSIS_VERSION: u32 = 1;

/// What the evidence shows.
///
/// ```
/// use mantissa_published::open;
/// use mantissa_verdict::analysis::{FindingKind, Outcome, Source};
/// use mantissa_verdict::{Options, judge};
///
/// # let path = mantissa_testkit::synthetic("attention.log");
/// let file = open(&path)?;
/// let analysis = judge(&[(Source::from(&file), &file.content)], &Options::default())?;
/// assert_eq!((analysis.question.variable.as_str(), analysis.outcome), ("attention", Outcome::Divergent));
/// let first = &analysis.findings[0];
/// assert_eq!(first.kind, FindingKind::Separable);
/// assert!(first.sentence.starts_with("The same setup on two machines, by prefill key vectors"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    /// Where setups first differ, by phase and signal.
    pub first_differences: Vec<FirstDifferences>,
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
///
/// Example: [`as_published()`](crate::as_published()).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Ours: exact tier first, per pair, by token id.
    Default,
    /// The published ones, to reproduce old tables. Not a verdict.
    AsPublished,
}

/// What was asked.
///
/// Example: [`Analysis`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Question {
    /// The setup field that varies: `batch_size`, `attention`, `hardware`, …
    pub variable: String,
    /// The configuration everything is measured against, named explicitly; absent where all pairs count alike.
    pub reference: Option<String>,
    /// Signals analyzed.
    pub signals: Vec<Signal>,
}

/// The answer in one word.
///
/// ```
/// use mantissa_verdict::analysis::Outcome;
/// use mantissa_verdict::{Options, judge};
///
/// // Nothing was contradicted, and nothing was shown to agree.
/// let analysis = judge(&[], &Options::default())?;
/// assert_eq!(analysis.outcome, Outcome::NotEnoughEvidence);
/// # Ok::<(), mantissa_verdict::VerdictError>(())
/// ```
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
///
/// ```
/// use mantissa_verdict::analysis::FindingKind;
///
/// # let file = mantissa_published::open(&mantissa_testkit::synthetic("quantization.log"))?;
/// # let given = [((&file).into(), &file.content)];
/// # let analysis = mantissa_verdict::judge(&given, &mantissa_verdict::Options::default())?;
/// // `analysis` is what `judge` makes of `quantization.log`.
/// let mut findings = analysis.findings.iter();
/// let noisy = findings.find(|one| one.kind == FindingKind::NonDeterministic).expect("noise");
/// assert!(noisy.sentence.starts_with("gptq is non-deterministic in decode"));
/// // There the log prints the distances between three runs.
/// assert_eq!(noisy.citations[0].place, "lines 63, 64, 65");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///
/// Example: [`Finding`].
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
    /// Setups of other weights that all lie farther apart than those that share weights.
    OtherWeights,
    /// A published figure that does not follow from its data, or does not mean what it says.
    Published,
    /// Setups of which the evidence is too little to say either.
    NotEnoughEvidence,
    /// Files or runs that hold what others hold, and count once with them.
    Copy,
    /// Setups that differ in more than what was asked about.
    Confounded,
    /// Something the evidence lacks.
    Missing,
}

/// A threshold and where it comes from.
///
/// ```
/// # let file = mantissa_published::open(&mantissa_testkit::synthetic("attention.log"))?;
/// # let given = [((&file).into(), &file.content)];
/// # let analysis = mantissa_verdict::judge(&given, &mantissa_verdict::Options::default())?;
/// // `analysis` is what `judge` makes of `attention.log`.
/// // Only averages are stored: nothing was tested, so no threshold decided anything.
/// assert!(analysis.thresholds.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
