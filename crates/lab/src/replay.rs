//! Replay: recompute what candidate setups would have left for given tokens, and compare it with the evidence.
//!
//! What flows:
//!
//! ```text
//! evidence (Record: setups, ids, rows on demand) ─┐
//! claim and grid ── Setup* (candidates) ──────────┼─ ReplayPlan: classes by recipe, before anything runs
//! checkpoint ─────────────────────────────────────┘     │
//!                                                 Walk: each distinct pass once, row 0 alone, rows compared at once
//!                                                       │
//!                                                 ReplayFacts per (run, class), for `mantissa_verdict::audit`
//! ```
//!
//! Two candidates are one class when every kernel of every pass computes the same ([`Computation`]) on the same weights
//! in the same format; such a class is computed once. Classes that diverge later share their passes until then, also
//! across runs, where prompt and tokens are the same. Rows of a batch do not mix, so only the row that is evidence is
//! computed; dispatch is asked about the whole batch. Left out: what facts mean (`mantissa-verdict`).

mod between;
mod claim;
mod job;
mod plan;
mod plant;
mod produce;
mod seen;
mod spot;
mod walk;

pub use between::between;
pub use claim::{Claim, Logprobs};
pub use mantissa_engine::plan::Computation;
pub use plan::{Class, Replay, ReplayPlan, RunPlan, Work};
pub use plant::{Deviations, PlantedRun};
pub use produce::{Wanted, produce};
pub use spot::{SpotCheck, SpotDifference, SpotFacts};
pub use walk::{Finished, Progress, Walk};
