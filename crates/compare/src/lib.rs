//! Facts about two or more records: which bits differ, by how much, and where first.
//!
//! [`Comparison`] is everything about some records. [`pairs`] compares runs row by row into [`PairFacts`];
//! [`classes`] groups them, [`reproducibility`] looks at repetitions and [`token_consistency`] at outputs. Every row
//! has one of four states ([`RowState`]): equal, different, missing, incomparable; none is ever read as another. Values
//! are compared only where both runs had consumed the same tokens ([`Tokens`]). The same runs give the same facts to
//! the bit, on any machine and any number of threads.
//!
//! Left out: thresholds and verdicts.
#![deny(unsafe_code)]

mod class;
mod comparison;
mod consistency;
mod distance;
mod error;
mod facts;
pub mod group;
mod logprobs;
mod profile;
mod repetitions;
pub mod replayed;
#[cfg(test)]
mod sample;
mod selection;
mod sweep;
mod tokens;

pub use class::{Classes, Conflict, Unplaced, UnplacedReason, classes};
pub use comparison::{ComparedPair, ComparedPrompt, ComparedRepetitions, ComparedRun, Comparison};
pub use consistency::{OutputGroup, TokenConsistency, token_consistency};
pub use error::CompareError;
pub use facts::{
    Counts, Distance, First, LogprobDistance, LogprobFacts, LogprobRow, Member, PairFacts, RowFact, RowState,
    SiteFacts,
};
pub use group::{Prompt, PromptGroup, by_prompt};
pub use profile::{SignalFacts, State};
pub use repetitions::{Repetitions, ShownBy, reproducibility};
pub use replayed::ReplayFacts;
pub use selection::{Selection, SignalKind};
pub use sweep::pairs;
pub use tokens::Tokens;
