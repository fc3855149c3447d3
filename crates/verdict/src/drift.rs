//! Drift: where two computations of the same tokens part, and what is known of why. The result of `mantissa drift`.
//!
//! A pair is one row (prompt, position, site) of both sides. Its answer says what the difference is: none, one that
//! named recipes explain, one that rounding may explain, or one that nothing explains. What a row inherits from its
//! inputs is told apart from what arises where it is computed: only that decides its answer. Left out: recomputing
//! (`mantissa-lab`), and how the result looks (`mantissa-report`).

mod against;
mod answer;
mod baseline;
mod change;
mod result;
mod within;

pub use answer::DriftAnswer;
pub use baseline::{BASELINE_VERSION, BaselineOf, BaselineSide, BaselineSite, DriftBaseline};
pub use change::{AgainstBaseline, AgainstSite, BaselineChange};
pub use result::{
    Cause, DRIFT_VERSION, Drift, DriftCounts, DriftPair, DriftPlace, DriftSide, DriftSite, Hypothesis,
};
pub use within::{FALSE_ALARM, Spread, false_alarm};
