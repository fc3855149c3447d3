//! `analysis_results.json`: the analysis as it is, and its schema.
//!
//! Keys stand in the order of the types; floats are the shortest decimals that read back to the same bits. JSON has no
//! infinity: should a number not be finite all the same, it is written as `null` and `non_finite` says where and what.

use std::io::{self, Write};

use mantissa_numerics::schema::without_examples;
use mantissa_verdict::Analysis;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde::Serialize;
use serde_json::Value;

/// The file.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "Analysis")]
struct Document<'a> {
    #[serde(flatten)]
    analysis: &'a Analysis,
    /// Numbers that are `null` because JSON cannot hold them. A sound analysis has none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    non_finite: Vec<NonFinite>,
}

/// A number that JSON cannot hold.
#[derive(Serialize, JsonSchema)]
struct NonFinite {
    /// Where the `null` stands: `pairs[3].ratio`.
    place: String,
    /// `inf`, `-inf` or `NaN`.
    value: String,
}

/// Writes `analysis_results.json`.
///
/// ```
/// use mantissa_report::json;
/// use mantissa_verdict::{Options, judge, thresholds};
///
/// // An analysis of no file at all, with a number that JSON has no word for.
/// let mut analysis = judge(&[], &Options::default())?;
/// analysis.thresholds = vec![thresholds::alpha(f64::INFINITY)];
/// let mut file = Vec::new();
/// json(&analysis, &mut file)?;
/// let read: serde_json::Value = serde_json::from_slice(&file)?;
/// assert_eq!(read["outcome"], "not_enough_evidence");
/// assert!(read["thresholds"][0]["value"].is_null());
/// assert_eq!(read["non_finite"][0], serde_json::json!({"place": "thresholds[0].value", "value": "inf"}));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn json(analysis: &Analysis, out: &mut dyn Write) -> io::Result<()> {
    let document = Document { analysis, non_finite: non_finite(analysis) };
    serde_json::to_writer_pretty(&mut *out, &document).map_err(io::Error::from)?;
    out.write_all(b"\n")
}

/// Its JSON Schema (draft 2020-12).
///
/// ```
/// let file = std::fs::read("../../docs/format/analysis.schema.json")?;
/// assert_eq!(mantissa_report::schema(), serde_json::from_slice::<serde_json::Value>(&file)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn schema() -> Value {
    SchemaSettings::draft2020_12()
        .for_serialize()
        .with_transform(RecursiveTransform(without_examples))
        .into_generator()
        .into_root_schema_for::<Document<'_>>()
        .to_value()
}

fn non_finite(analysis: &Analysis) -> Vec<NonFinite> {
    let mut found = Vec::new();
    let mut look = |place: String, value: Option<f64>| {
        if let Some(value) = value.filter(|value| !value.is_finite()) {
            found.push(NonFinite { place, value: value.to_string() });
        }
    };
    for (i, repeated) in analysis.reproducibility.iter().enumerate() {
        look(format!("reproducibility[{i}].distance"), repeated.distance);
    }
    for (i, pair) in analysis.pairs.iter().enumerate() {
        let (floor, interval) = (pair.floor.as_ref(), pair.interval.as_ref());
        look(format!("pairs[{i}].distance"), pair.distance);
        look(format!("pairs[{i}].floor.mean"), floor.map(|floor| floor.mean));
        look(format!("pairs[{i}].floor.max"), floor.map(|floor| floor.max));
        look(format!("pairs[{i}].ratio"), pair.ratio);
        look(format!("pairs[{i}].interval.low"), interval.map(|interval| interval.low));
        look(format!("pairs[{i}].interval.high"), interval.map(|interval| interval.high));
        look(format!("pairs[{i}].interval.confidence"), interval.map(|interval| interval.confidence));
        look(format!("pairs[{i}].p_value"), pair.p_value);
        look(format!("pairs[{i}].p_adjusted"), pair.p_adjusted);
    }
    for (i, matrix) in analysis.matrices.iter().enumerate() {
        for (row, cells) in matrix.cells.iter().enumerate() {
            for (column, cell) in cells.iter().enumerate() {
                look(format!("matrices[{i}].cells[{row}][{column}].value"), cell.value);
            }
        }
    }
    for (i, profile) in analysis.profiles.iter().enumerate() {
        for (point, (_, value)) in profile.points.iter().enumerate() {
            look(format!("profiles[{i}].points[{point}][1]"), *value);
        }
    }
    for (i, bound) in analysis.bounds.iter().enumerate() {
        look(format!("bounds[{i}].rate"), Some(bound.rate));
        look(format!("bounds[{i}].confidence"), Some(bound.confidence));
    }
    for (i, threshold) in analysis.thresholds.iter().enumerate() {
        look(format!("thresholds[{i}].value"), Some(threshold.value));
    }
    found
}
