//! What was found about a claim, by replays or by a sample of single values.

use std::collections::BTreeSet;

use mantissa_evidence::Digest;
use mantissa_numerics::Phase;

use crate::audit::difference::Difference;

/// What decided about a claim.
#[derive(Debug)]
pub(crate) enum Claim<'f> {
    Replayed(Replayed<'f>),
    Sampled(Sampled<'f>),
}

/// What replays gave.
#[derive(Debug)]
pub(crate) struct Replayed<'f> {
    /// The claim's own class; absent where it was not replayed.
    pub(crate) class: Option<Vec<String>>,
    /// Classes that the evidence fits, and whether the claim is in it.
    pub(crate) fits: Vec<(bool, Vec<String>)>,
    /// Where the claim's replay first differs.
    pub(crate) first: Option<&'f Difference>,
    /// Values compared, of those recorded.
    pub(crate) compared: [u64; 2],
    pub(crate) enough: Option<SufficientEvidence<'f>>,
}

/// What a sample of single values gave.
#[derive(Debug)]
pub(crate) struct Sampled<'f> {
    pub(crate) candidate: &'f str,
    pub(crate) drawn: u64,
    pub(crate) different: u64,
    /// Values that a draw can reach, of those recorded.
    pub(crate) reach: [u64; 2],
    pub(crate) first: Option<&'f Difference>,
}

/// What would have been enough.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SufficientEvidence<'f> {
    /// What whoever refused the replay says.
    AsSaid(&'f str),
    /// More repetitions: so many of each prompt.
    Repetitions { runs: usize, level: f64, needed: u64 },
    /// Any run of this setup.
    ARun,
    /// Signals of the prompt's own pass, or a replay by decode.
    PromptPass,
    /// Signals of any layer.
    AnySignal,
    /// The inputs of recorded values.
    Inputs,
}

/// What cannot be told apart.
#[derive(Debug)]
pub(crate) enum OneClass<'f> {
    /// On any evidence: every kernel computes the same.
    SameKernels(&'f [String]),
    /// On this evidence: classes that left the same bits at what was compared.
    SameBitsHere(&'f [Vec<String>]),
    /// Batch sizes, by a replay in one pass.
    BatchSizesByPrefill,
    /// Whatever differs only where a sample drew nothing.
    NotDrawn,
}

/// Catalogs that a verdict rests on beside verified recipes.
#[derive(Debug, Default)]
pub(crate) struct RestingOn {
    /// Those that its user measured.
    pub(crate) measured: BTreeSet<Digest>,
    /// Those that name splits of sums by the library's heuristic.
    pub(crate) asked: BTreeSet<Digest>,
}

/// What was not checked.
#[derive(Debug)]
pub(crate) enum NotChecked<'f> {
    Candidates {
        names: Vec<&'f str>,
        why: &'f str,
    },
    Claim(&'f str),
    Run {
        reference: u32,
        repetition: u32,
        why: &'f str,
    },
    Rows {
        phase: Phase,
        why: &'f str,
    },
    /// A candidate whose recipes were compared with no hardware.
    Unproven(&'f str),
    /// Decode rows, by a replay in one pass.
    DecodeByPrefill,
}
