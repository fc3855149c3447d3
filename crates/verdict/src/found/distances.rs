//! What was found of two setups by distances that others measured.

use mantissa_numerics::Phase;

use super::place::Unshown;
use crate::analysis::{Answer, Signal};

/// Two setups on one machine, where a distance tells bits.
#[derive(Debug)]
pub(crate) struct DistancesOfPair {
    pub(crate) a: String,
    pub(crate) b: String,
    pub(crate) phase: Phase,
    pub(crate) signal: Signal,
    pub(crate) gpu: String,
    /// References compared, and those of them that differ.
    pub(crate) references: u64,
    pub(crate) differing: u64,
    pub(crate) distance: Option<f64>,
    /// References left out.
    pub(crate) incomparable: u64,
    /// References that are not in the mean distance, because their tokens part.
    pub(crate) not_averaged: Vec<String>,
    /// Setups that do not repeat themselves.
    pub(crate) noisy: Vec<String>,
    pub(crate) unshown: Unshown,
}

impl DistancesOfPair {
    pub(crate) const fn answer(&self) -> Answer {
        match (self.references, self.differing) {
            (0, _) => Answer::Incomparable,
            _ if !self.noisy.is_empty() => Answer::Inconclusive,
            (_, 0) => Answer::Identical,
            _ => Answer::Separable,
        }
    }
}

/// The same setup on two machines.
#[derive(Debug)]
pub(crate) struct SameSetup {
    pub(crate) name: String,
    pub(crate) phase: Phase,
    pub(crate) signal: Signal,
    pub(crate) here: String,
    pub(crate) there: String,
    pub(crate) distance: f64,
    /// Whether every distance is 0.
    pub(crate) same: bool,
    /// References compared; absent where only averages over them are stored.
    pub(crate) references: Option<u64>,
    /// Fields of the environments that differ besides the GPU.
    pub(crate) versions: Vec<String>,
}
