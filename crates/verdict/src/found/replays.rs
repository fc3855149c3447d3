//! What was found of two setups by how far right and wrong replays are from their evidence.

use mantissa_numerics::Phase;

use super::place::{FloorOf, Place};
use crate::analysis::{Answer, Interval, Signal};

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
    /// Mean of `wrong − right`, and how far rounding can have moved it.
    pub(crate) margin: f64,
    pub(crate) slack: f64,
    /// References in which the wrong replay is as near as the right one or nearer.
    pub(crate) near: usize,
    pub(crate) of: usize,
    /// Smallest quotient of wrong by right.
    pub(crate) least: f64,
}

impl Side {
    /// Whether the wrong replay is on the whole as near as the right one or nearer: on average, or in several
    /// references that are half of them or more. One overlap alone says nothing.
    pub(crate) fn is_near(&self) -> bool {
        self.margin <= self.slack || (self.near > 1 && 2 * self.near >= self.of)
    }
}

/// A p-value, corrected for the pairs of its family.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Test {
    pub(crate) p: f64,
    pub(crate) adjusted: f64,
    pub(crate) pairs: usize,
}

/// What an answer rests on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reason {
    Nothing,
    /// Every matching replay is exactly 0 away.
    Exact,
    /// Every wrong replay is exactly as far as the right one.
    Tied,
    Test,
    /// To the evidence of one member the wrong replay is on the whole as near or nearer.
    Near(Member),
    /// Averages only: the smallest quotient is [`CLEAR_MARGIN`](crate::thresholds::CLEAR_MARGIN) or more.
    Margin(f64),
    /// Averages only: one member's quotient is below [`WITHIN_FLOOR`](crate::thresholds::WITHIN_FLOOR).
    WithinFloor(Member, f64),
    /// Averages only: the smallest quotient is between the two.
    Between(f64),
    /// The evidence of one member only could be compared.
    OneSided(Member),
    /// The wrong replay is farther on the whole, and the test does not confirm it; so many references are needed at the
    /// least for a p-value that could.
    Leans {
        needed: u64,
    },
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
    /// Whether the only unit is an average over references.
    pub(crate) averages_only: bool,
    pub(crate) left_out: Option<&'f OmittedReferences>,
    /// Both members, first member first; one only where the other could not be compared.
    pub(crate) sides: Vec<Side>,
    pub(crate) answer: Answer,
    pub(crate) reason: Reason,
    pub(crate) ratio: Option<f64>,
    pub(crate) interval: Option<Interval>,
    pub(crate) test: Option<Test>,
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
