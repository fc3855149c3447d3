//! `analysis_results.json` and its schema.

use std::path::PathBuf;

use mantissa_report::{json, schema};
use serde_json::Value;

use crate::checker::violations;
use crate::rendered;
use crate::sample::{HOSTILE, analysis};

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn json_of_a_rich_analysis() {
    insta::assert_snapshot!(rendered(|out| json(&analysis(), out)));
}

/// `MANTISSA_UPDATE=1 cargo test -p mantissa-report schema` writes it anew.
#[test]
fn published_schema_is_current() {
    let text = format!("{}\n", serde_json::to_string_pretty(&schema()).expect("plain"));
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/format/analysis.schema.json");
    if std::env::var_os("MANTISSA_UPDATE").is_some() {
        std::fs::write(&path, &text).expect("docs/format is there");
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(published == text, "analysis.schema.json is not current; run the update");
}

#[test]
fn what_is_written_obeys_the_schema() {
    let mut document = parsed(&rendered(|out| json(&analysis(), out)));
    assert_eq!(violations(&schema(), &document), Vec::<String>::new());
    assert_eq!(document["findings"][7]["sentence"], HOSTILE);

    // The checker can fail: each of these edits breaks the schema.
    document["outcome"] = "perhaps".into();
    document["pairs"][0]["n"] = "six".into();
    document["matrices"][0]["cells"][0][0]["state"] = Value::Null;
    document["profiles"][0]["points"][1] = "one".into();
    let found = violations(&schema(), &document);
    for place in ["outcome", "pairs[0].n", "matrices[0].cells[0][0].state", "profiles[0].points[1]"] {
        assert!(found.iter().any(|violation| violation.contains(place)), "{place}: {found:?}");
    }
}

#[test]
fn floats_read_back_to_their_bits() {
    let mut analysis = analysis();
    analysis.pairs[0].distance = Some(0.1 + 0.2);
    analysis.pairs[1].distance = Some(f64::from_bits(1));
    let document = parsed(&rendered(|out| json(&analysis, out)));
    for (i, expected) in [(0, 0.1 + 0.2), (1, f64::from_bits(1))] {
        let read = document["pairs"][i]["distance"].as_f64().expect("a number");
        assert_eq!(read.to_bits(), expected.to_bits());
    }
}

#[test]
fn a_number_that_json_cannot_hold_is_null_with_a_reason() {
    let sound = parsed(&rendered(|out| json(&analysis(), out)));
    assert_eq!(sound.get("non_finite"), None);

    let mut analysis = analysis();
    analysis.pairs[1].ratio = Some(f64::INFINITY);
    analysis.matrices[1].cells[1][0].value = Some(f64::NAN);
    analysis.profiles[0].points[2].1 = Some(f64::NEG_INFINITY);
    analysis.thresholds[0].value = f64::NAN;
    let document = parsed(&rendered(|out| json(&analysis, out)));
    assert_eq!(
        violations(&schema(), &document),
        ["$.thresholds[0].value: has another type"],
        "only what must be a number"
    );
    assert_eq!(document["pairs"][1]["ratio"], Value::Null);
    let places: Vec<(&str, &str)> = document["non_finite"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| (entry["place"].as_str().expect("text"), entry["value"].as_str().expect("text")))
        .collect();
    assert_eq!(
        places,
        [
            ("pairs[1].ratio", "inf"),
            ("matrices[1].cells[1][0].value", "NaN"),
            ("profiles[0].points[2][1]", "-inf"),
            ("thresholds[0].value", "NaN")
        ]
    );
}
