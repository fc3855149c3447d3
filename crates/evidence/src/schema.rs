//! JSON Schemas of the formats, generated from the types that write them.

use schemars::schema_for;
use serde_json::Value;

use crate::container::manifest::{Manifest, Timing};
use crate::json::wire::{Document, ReadRun};

/// Schema of the experiment JSON.
///
/// ```
/// let schema = mantissa_evidence::schema::experiment();
/// assert!(schema["properties"]["runs"].is_object());
/// ```
#[must_use]
pub fn experiment() -> Value {
    schema_for!(Document<Vec<ReadRun>>).to_value()
}

/// Schema of a container's `manifest.json`.
///
/// ```
/// let schema = mantissa_evidence::schema::manifest();
/// assert!(schema["properties"]["format"].is_object());
/// ```
#[must_use]
pub fn manifest() -> Value {
    schema_for!(Manifest).to_value()
}

/// Schema of a container's `timing.json`.
///
/// ```
/// let schema = mantissa_evidence::schema::timing();
/// assert!(schema["properties"]["date_created"].is_object());
/// ```
#[must_use]
pub fn timing() -> Value {
    schema_for!(Timing).to_value()
}
