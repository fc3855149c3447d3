//! JSON Schemas of the formats, generated from the types that write them.

use mantissa_numerics::schema::without_examples;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::Value;

use crate::container::manifest::{Manifest, Timing};
use crate::json::wire::{Document, ReadRun};
use crate::trace::{Line, StageTrace, TraceHeader};

/// Schema of the experiment JSON.
///
/// ```
/// let file = std::fs::read("../../docs/format/experiment.schema.json")?;
/// assert_eq!(mantissa_evidence::schema::experiment(), serde_json::from_slice::<serde_json::Value>(&file)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn experiment() -> Value {
    of::<Document<Vec<ReadRun>>>()
}

/// Schema of a container's `manifest.json`.
///
/// ```
/// let file = std::fs::read("../../docs/format/manifest.schema.json")?;
/// assert_eq!(mantissa_evidence::schema::manifest(), serde_json::from_slice::<serde_json::Value>(&file)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn manifest() -> Value {
    of::<Manifest>()
}

/// Schema of a container's `timing.json`.
///
/// ```
/// let file = std::fs::read("../../docs/format/timing.schema.json")?;
/// assert_eq!(mantissa_evidence::schema::timing(), serde_json::from_slice::<serde_json::Value>(&file)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn timing() -> Value {
    of::<Timing>()
}

/// Schema of a line of a trace.
///
/// ```
/// let file = std::fs::read("../../docs/format/trace.schema.json")?;
/// assert_eq!(mantissa_evidence::schema::trace(), serde_json::from_slice::<serde_json::Value>(&file)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn trace() -> Value {
    of::<Line<TraceHeader, StageTrace>>()
}

fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::default().with_transform(RecursiveTransform(without_examples));
    settings.into_generator().into_root_schema_for::<T>().to_value()
}
