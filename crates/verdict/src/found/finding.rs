//! What stands in the list of findings.

use mantissa_numerics::Phase;

use super::classes::{SameBy, Scope};
use super::place::{Caveat, Place, Unshown};
use crate::analysis::{
    Answer, ClassSet, FindingKind, PairVerdict, Reproducibility, Signal, State, TokenConsistency,
};

/// One thing that was found.
#[derive(Debug)]
pub(crate) enum Found<'f> {
    /// Outputs of a reference part.
    TokensPart(&'f TokenConsistency),
    /// Outputs of a reference stop early in some setups.
    TokensStop(&'f TokenConsistency),
    /// Distances show that outputs part, although no tokens are stated.
    DistancesPart(DistancesPart<'f>),
    /// Repetitions differ, or cannot tell.
    Repetitions(&'f Reproducibility),
    /// A file whose contents are those of another.
    FileCopy { file: &'f str, of: &'f str },
    /// Runs that hold what another of the same repetition holds.
    RunCopies { setup: &'f str, copies: u64 },
    /// These setups have one repetition each.
    OneRepetition(&'f [String]),
    /// A class of several setups.
    OneClass { class: &'f [String], of: Classes<'f> },
    /// Classes that can be told apart.
    ToldApart(Classes<'f>),
    /// Verdicts on pairs.
    Pairs(Pairs<'f>),
    /// Other weights beside other kernels.
    OtherWeights(OtherWeights<'f>),
    /// A file that holds distances over another variable than the one asked for.
    OtherVariable { file: &'f str, variable: &'f str },
    /// Environments that differ besides the GPU: field, here, there.
    Environments { here: &'f str, there: &'f str, fields: &'f [(String, String, String)] },
    /// Setups that differ in more than the variable.
    AlsoDiffer { variable: &'f str, fields: &'f [String] },
}

/// A set of classes with what decides how it reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Classes<'f> {
    pub(crate) set: &'f ClassSet,
    pub(crate) scope: &'f Scope,
    pub(crate) basis: SameBy,
    pub(crate) unshown: Unshown,
}

/// Outputs that part, shown by distances that are not the same both ways.
#[derive(Debug)]
pub(crate) struct DistancesPart<'f> {
    pub(crate) reference: &'f str,
    pub(crate) phase: Phase,
    pub(crate) groups: Vec<Vec<String>>,
    /// By signal: pairs that differ, of how many.
    pub(crate) uneven: Vec<(Signal, usize, usize)>,
    /// The largest difference between vectors, and whose it is.
    pub(crate) largest: Option<(f64, [String; 2])>,
}

/// Verdicts of one answer.
#[derive(Debug)]
pub(crate) struct Pairs<'f> {
    pub(crate) verdicts: &'f [&'f PairVerdict],
    pub(crate) place: &'f Place,
    pub(crate) told: Wording<'f>,
}

/// How verdicts are told.
#[derive(Debug)]
pub(crate) enum Wording<'f> {
    /// One pair, by one signal or by several.
    Once,
    /// Many pairs, summed up.
    SummedUp {
        /// Pairs of this phase and signal, and those of them with a p-value.
        of: usize,
        tested: usize,
        caveat: &'f Caveat,
    },
}

/// Pairs of other weights whose log-probabilities lie farther apart than those of any pair that shares weights.
#[derive(Debug)]
pub(crate) struct OtherWeights<'f> {
    /// Every such pair.
    pub(crate) pairs: Vec<&'f [String; 2]>,
    /// How many pairs share weights.
    pub(crate) sharing: usize,
    pub(crate) phase: Phase,
    pub(crate) metric: Metric,
    /// The nearest of them.
    pub(crate) nearest: &'f WeightDistance,
    /// The largest distance between kernels that share weights.
    pub(crate) yardstick: &'f WeightDistance,
}

/// How log-probabilities were compared.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Metric {
    RootMeanSquare,
    AsStored,
}

/// How far apart the log-probabilities of two setups are.
#[derive(Debug)]
pub(crate) struct WeightDistance {
    /// What the setups are called, and the models they declare.
    pub(crate) names: [String; 2],
    pub(crate) models: [String; 2],
    pub(crate) mean: f64,
    /// Mean over rows of the probability mass outside the common candidates, where known.
    pub(crate) moved: Option<f64>,
    pub(crate) references: u64,
}

impl Found<'_> {
    /// What it is about.
    pub(crate) fn kind(&self) -> FindingKind {
        match self {
            Self::TokensPart(_) | Self::DistancesPart(_) => FindingKind::TokensDiverge,
            Self::Repetitions(found) if found.state == State::Different => FindingKind::NonDeterministic,
            Self::OneClass { .. } => FindingKind::OneClass,
            Self::ToldApart(_) => FindingKind::Separable,
            Self::Pairs(pairs) => match pairs.verdicts.first().map(|verdict| verdict.answer) {
                Some(Answer::Separable | Answer::Identical) => FindingKind::Separable,
                Some(Answer::NotSeparable) => FindingKind::NotSeparable,
                Some(Answer::Inconclusive) => FindingKind::NotEnoughEvidence,
                Some(Answer::Incomparable) | None => FindingKind::Missing,
            },
            Self::OtherWeights(_) => FindingKind::OtherWeights,
            Self::FileCopy { .. } | Self::RunCopies { .. } => FindingKind::Copy,
            Self::Environments { .. } | Self::AlsoDiffer { .. } => FindingKind::Confounded,
            Self::TokensStop(_)
            | Self::Repetitions(_)
            | Self::OneRepetition(_)
            | Self::OtherVariable { .. } => FindingKind::Missing,
        }
    }
}
