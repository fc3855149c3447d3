//! The formats of the record, tested through the public API: round trips, old files, hostile files, schemas.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod checker;
mod fixtures;
mod hostile;
mod published;
mod published_logs;
mod lazy;
mod repetitions;
mod round_trip;
mod sample;
mod schemas;
