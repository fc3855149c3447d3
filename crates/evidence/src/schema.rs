//! JSON Schemas of the formats, generated from the types that write them.

use mantissa_numerics::schema::without_examples;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
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
    of::<Document<Vec<ReadRun>>>()
}

/// Schema of a container's `manifest.json`.
///
/// ```
/// let schema = mantissa_evidence::schema::manifest();
/// assert!(schema["properties"]["format"].is_object());
/// ```
#[must_use]
pub fn manifest() -> Value {
    of::<Manifest>()
}

/// Schema of a container's `timing.json`.
///
/// ```
/// let schema = mantissa_evidence::schema::timing();
/// assert!(schema["properties"]["date_created"].is_object());
/// ```
#[must_use]
pub fn timing() -> Value {
    of::<Timing>()
}

fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::default().with_transform(RecursiveTransform(without_examples));
    settings.into_generator().into_root_schema_for::<T>().to_value()
}
