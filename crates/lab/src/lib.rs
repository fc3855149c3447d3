//! Prompts, setups, records and verification: where the engine meets the evidence.

mod capture;
mod catalog_use;
mod column;
pub mod coverage;
mod declared;
pub mod document;
pub mod drift;
mod environment;
pub mod error;
pub mod plan;
pub mod prompt;
pub mod record;
pub mod replay;
mod session;
pub mod setup;
pub mod trace;
mod uncovered;
pub mod verify;

pub use environment::environment;
pub use error::LabError;
pub use record::{Event, Recorded, Recorder};
pub use setup::{Layer, Machine, RecordSpec, SignalSpec};
pub use uncovered::{Unreadable, uncovered};
