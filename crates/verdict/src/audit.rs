//! The verdict on claims: what replays of candidate setups say about evidence. The result of `mantissa verify`.
//!
//! What comes in ([`Case`]): facts about each run of evidence beside each class of candidates. What goes out
//! ([`Audit`]): plain data, one [`ClaimVerdict`] per setup that the evidence declares. Bits come first: a replay that
//! leaves different bits contradicts its setup. One that leaves the same bits is consistent with it, and so is every
//! other setup that leaves them. Statistics are used only where the evidence's own repetitions differ. Left out:
//! running replays (`mantissa-lab`), and how the result looks (`mantissa-report`).

mod case;
mod catalogs;
pub(crate) mod claim;
mod contested;
pub(crate) mod difference;
mod judge;
mod matrix;
mod no_verdict;
mod result;
mod sampled;
mod spot;

pub use case::{Case, RunFacts, SetupFacts};
pub use claim::{ClaimAnswer, ClaimVerdict, ReplayState, ReplayVerdict, RestsOn, SignalDistance};
pub use contested::Contested;
pub use difference::Difference;
pub use judge::audit;
pub use result::{AUDIT_VERSION, Audit, AuditedModel, Cost, Planted};
pub use spot::{MissedExtent, SpotCheck};
