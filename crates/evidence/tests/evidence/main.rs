//! The formats of the record, tested through the public API: round trips, old files, hostile files, schemas.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod checker;
mod fixtures;
mod hostile;
mod lazy;
mod repetitions;
mod round_trip;
mod sample;
mod schemas;
mod traces;
