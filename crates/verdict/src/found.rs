//! What a judgement finds, as typed data: the facts and numbers that decide.
//!
//! The judging (`judge`, `audit`) makes these and no sentence. Left out: how they read (`said`).

mod bits;
mod claim;
mod classes;
mod distances;
mod finding;
mod place;
mod repeats;
mod replays;

pub(crate) use bits::{BitsOfPair, FirstRow, Noise, Rows};
pub(crate) use claim::{Claim, NotChecked, OneClass, Replayed, RestingOn, Sampled, SufficientEvidence};
pub(crate) use classes::{SameBy, Scope, Unplaced};
pub(crate) use distances::{DistancesOfPair, SameSetup};
pub(crate) use finding::{
    Classes, DistancesPart, Found, Metric, OtherWeights, Pairs, WeightDistance, Wording,
};
pub(crate) use place::{Caveat, FloorOf, HonestUnits, Place, Unshown};
pub(crate) use repeats::{FilePair, Repeats, StatedDigests, Tally};
pub(crate) use replays::{Excluded, Member, OmittedReferences, Reason, ReplaysOfPair, Side, Test};
