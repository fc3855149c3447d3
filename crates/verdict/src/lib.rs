//! Judgement on facts: noise floors, statistics, thresholds, detectability.
//!
//! [`Analysis`] is the one result: everything a report shows, each number with the file, run and site it came from.
//! Facts come from [`mantissa_compare`]; nothing here reads a file, asks a clock or draws an unseeded number.
#![deny(unsafe_code)]

pub mod analysis;
pub mod as_published;
pub mod audit;
pub mod drift;
mod error;
mod found;
pub mod judge;
mod pool;
mod said;
pub mod stats;
pub mod thresholds;

pub use analysis::Analysis;
pub use as_published::as_published;
pub use audit::Audit;
pub use error::{Result, VerdictError};
pub use judge::{Options, judge};
pub use pool::pools;
pub use said::conflict;
