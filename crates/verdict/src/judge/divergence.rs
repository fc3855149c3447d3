//! Outputs that diverge, as stored distances show it.

use mantissa_numerics::Phase;

use crate::analysis::Signal;

/// A reference on which a verifier without noise shows that setups emitted other tokens.
///
/// The verifier replays the tokens of the claim. Where it computes the claim's bits exactly, the distance of claim *a*
/// from setup *b* is the distance of two sequences of signals that does not depend on which of them is claimed, unless
/// *a* and *b* emitted other tokens. Distances between vectors are symmetric to the bit; those between
/// log-probabilities are not, since they look the row's candidates up in the column, so they prove nothing here.
pub(super) struct Divergence {
    pub(super) phase: Phase,
    pub(super) reference: String,
    /// Setups by distances that are the same both ways.
    pub(super) groups: Vec<Vec<usize>>,
    /// Pairs that differ, pairs compared, the largest difference, and the pair it belongs to, per signal.
    pub(super) uneven: Vec<Asymmetry>,
}

/// How one signal differs from one way to the other.
pub(super) struct Asymmetry {
    pub(super) signal: Signal,
    pub(super) pairs: usize,
    pub(super) of: usize,
    pub(super) largest: f64,
    pub(super) at: (usize, usize),
}

impl Divergence {
    /// Whether two setups are shown to have emitted other tokens.
    pub(super) fn parts(&self, phase: Phase, reference: Option<&String>, a: usize, b: usize) -> bool {
        self.phase == phase
            && reference == Some(&self.reference)
            && !self.groups.iter().any(|group| group.contains(&a) && group.contains(&b))
    }
}
