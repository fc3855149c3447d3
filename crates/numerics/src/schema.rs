//! What the JSON Schemas of all crates have in common.

use schemars::Schema;

/// A description without what is meant for readers of Rust: examples, and lines that point to one.
///
/// ```
/// let mut schema = schemars::json_schema!({ "description": "A name.\n\nExample: [`Run`]." });
/// mantissa_numerics::schema::without_examples(&mut schema);
/// assert_eq!(schema.get("description").unwrap(), "A name.");
/// ```
pub fn without_examples(schema: &mut Schema) {
    let Some(description) = schema.get("description").and_then(|text| text.as_str()) else { return };
    // Fences part a description into prose and code, in turn.
    let prose = description.split("```").step_by(2).flat_map(|prose| prose.split("\n\n"));
    let kept: Vec<&str> = prose
        .map(str::trim)
        .filter(|paragraph| !paragraph.is_empty() && !paragraph.starts_with("Example: ["))
        .collect();
    let kept = kept.join("\n\n");
    if kept != description {
        schema.insert("description".to_owned(), kept.into());
    }
}
