//! Verdicts tested through the public API: statistics by simulation, judgements and published tables by goldens.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod as_published;
mod baseline;
mod judgement;
mod simulation;
