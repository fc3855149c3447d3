//! A drift as text, Markdown and JSON.

use std::path::PathBuf;

use mantissa_report::{
    Style, drift_baseline_json, drift_baseline_schema, drift_json, drift_markdown, drift_schema,
    drift_summary, drift_text,
};

use mantissa_verdict::drift::{Drift, DriftBaseline};

use crate::checker::violations;
use crate::drift_sample::{baseline, beside, drift, hostile, large};
use crate::rendered;
use crate::sample::HOSTILE;

#[test]
fn a_drift_as_text() {
    let text = drift_text(&drift(), Style::default());
    insta::assert_snapshot!(text);
    for width in [60, 80, 200] {
        let narrow = drift_text(&drift(), Style { width, ..Style::default() });
        assert!(narrow.lines().all(|line| line.chars().count() <= width), "{narrow}");
    }
}

#[test]
fn a_drift_as_markdown() {
    let text = rendered(|out| drift_markdown(&drift(), out));
    insta::assert_snapshot!(text);
}

/// A few lines, no link, ten sites at most; beside a baseline only what is new.
#[test]
fn a_summary_for_a_pull_request() {
    fn summary(drift: &Drift) -> String {
        rendered(|out| drift_summary(drift, out))
    }
    insta::assert_snapshot!(format!(
        "{}\n----\n\n{}\n----\n\n{}",
        summary(&drift()),
        summary(&large()),
        summary(&beside())
    ));
    let hostile = summary(&hostile());
    assert!(!hostile.contains("<script") && !hostile.contains("https://") && !hostile.contains(HOSTILE));
    for drift in [drift(), large(), beside()] {
        let summary = summary(&drift);
        assert!(summary.lines().filter(|line| line.contains("| layer ")).count() <= 10, "{summary}");
        assert!(summary.lines().count() < 40 && !summary.contains("]("), "{summary}");
    }
}

#[test]
fn what_is_new_beside_a_baseline_as_text() {
    let text = drift_text(&beside(), Style::default());
    insta::assert_snapshot!(text);
    assert!(text.contains("Something is new beside the baseline known.json"), "{text}");
}

/// `MANTISSA_UPDATE=1 cargo test -p mantissa-report schema` writes them anew.
#[test]
fn published_drift_schemas_are_current_and_obeyed() {
    let drifts = [drift(), large(), beside()].map(|drift| rendered(|out| drift_json(&drift, out))).to_vec();
    let baselines = [rendered(|out| drift_baseline_json(&baseline(), out))].to_vec();
    for (name, schema, documents) in [
        ("drift.schema.json", drift_schema(), drifts),
        ("drift-baseline.schema.json", drift_baseline_schema(), baselines),
    ] {
        let text = format!("{}\n", serde_json::to_string_pretty(&schema).expect("plain"));
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/format").join(name);
        if std::env::var_os("MANTISSA_UPDATE").is_some() {
            std::fs::write(&path, &text).expect("docs/format is there");
        }
        let published = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(published == text, "{name} is not current; run the update");
        for document in documents {
            let document = serde_json::from_str(&document).expect("JSON");
            assert_eq!(violations(&schema, &document), Vec::<String>::new());
        }
    }
}

/// What the page of the format shows is a baseline.
#[test]
fn the_documented_baseline_is_one() {
    let page = include_str!("../../../../docs/format/drift-baseline.md");
    let shown = page.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let shown = shown.replace('…', &"0".repeat(64));
    let baseline = DriftBaseline::parse(shown.as_bytes(), "drift-baseline.md".as_ref()).expect("a baseline");
    assert_eq!(baseline.sites.len(), 1);
}
