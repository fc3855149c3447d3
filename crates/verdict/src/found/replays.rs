//! What was found of two setups by how far right and wrong replays are from their evidence.

use mantissa_numerics::Phase;

use super::place::{FloorOf, Place};
use crate::analysis::{Answer, Interval, Needed, Signal};

/// A member of a pair: whose evidence is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Member {
    A,
    B,
}

/// What one member's evidence says, over references.
#[derive(Debug, Clone)]
pub(crate) struct Side {
    pub(crate) member: Member,
    pub(crate) wrong: f64,
    pub(crate) right: f64,
    /// References in which the wrong replay is as near as the right one or nearer.
    pub(crate) near: usize,
    pub(crate) of: usize,
    /// Smallest quotient of wrong by right.
    pub(crate) least: f64,
}

/// A p-value, corrected for the pairs of its family.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Test {
    pub(crate) p: f64,
    /// The smallest that data of this shape could give.
    pub(crate) least: f64,
    pub(crate) adjusted: f64,
    pub(crate) pairs: usize,
}

/// What an answer rests on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reason {
    Nothing,
    /// Every matching replay is exactly 0 away.
    Exact,
    Test,
    /// Every wrong replay is exactly as far as the right one, in unrounded figures: the replays are the same.
    Tied,
    /// A difference of the size asked for is excluded.
    Excluded(Excluded),
    /// Only averages over references are stored.
    Averages,
    /// The evidence of one member only could be compared.
    OneSided(Member),
    /// No p-value of such data is small enough.
    TooFew(Needed),
    /// The test finds nothing, and a difference of the size asked for is not excluded, which takes this at the least.
    Open(Needed),
}

/// A factor from which on differences are excluded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Excluded {
    /// Whose evidence excludes them; absent where repetitions of both do.
    pub(crate) member: Option<Member>,
    pub(crate) factor: f64,
}

/// References that were left out, and why.
#[derive(Debug, Clone)]
pub(crate) enum OmittedReferences {
    /// So many, for want of comparable rows.
    NoComparableRows(u64),
    /// No row is in common after equal tokens.
    NoRowInCommon(Vec<String>),
    /// Tokens differ or nothing is in common.
    TokensDiffer(Vec<String>),
}

/// A judged pair.
#[derive(Debug)]
pub(crate) struct ReplaysOfPair<'f> {
    /// What the members are called.
    pub(crate) names: &'f [String; 2],
    pub(crate) phase: Phase,
    pub(crate) signal: Signal,
    pub(crate) place: &'f Place,
    /// Setups that do not repeat themselves.
    pub(crate) noisy: &'f [String],
    pub(crate) floor_of: &'f FloorOf,
    pub(crate) left_out: Option<&'f OmittedReferences>,
    /// Both members, first member first; one only where the other could not be compared.
    pub(crate) sides: Vec<Side>,
    pub(crate) answer: Answer,
    pub(crate) reason: Reason,
    pub(crate) ratio: Option<f64>,
    pub(crate) interval: Option<Interval>,
    pub(crate) test: Option<Test>,
    pub(crate) excluded: Option<Excluded>,
    /// The difference that was asked for, in units of the floor.
    pub(crate) effect: f64,
    /// Whether repetitions of both were permuted.
    pub(crate) repeated: bool,
    /// References behind it.
    pub(crate) references: u64,
}

impl ReplaysOfPair<'_> {
    /// What a member is called.
    pub(crate) const fn name(&self, member: Member) -> &String {
        match member {
            Member::A => &self.names[0],
            Member::B => &self.names[1],
        }
    }
}

impl Member {
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}
