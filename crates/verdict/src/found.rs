//! What a judgement finds, as typed data: the facts and numbers that decide.
//!
//! The judging (`judge`, `audit`) makes these and no sentence. Left out: how they read (`said`).

mod claim;

pub(crate) use claim::{Claim, Enough, NotChecked, OneClass, Replayed, Sampled};
