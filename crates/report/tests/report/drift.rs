//! A drift as text, Markdown and JSON.

use std::path::PathBuf;

use mantissa_numerics::{LayerIdx, Phase, Point};
use mantissa_report::{Style, drift_json, drift_markdown, drift_schema, drift_text};
use mantissa_verdict::drift::{
    Cause, Drift, DriftAnswer, DriftCounts, DriftPair, DriftPlace, DriftSide, Hypothesis,
};

use crate::checker::violations;
use crate::rendered;

fn pair(layer: u32, point: Point, answer: DriftAnswer) -> DriftPair {
    let equal = answer == DriftAnswer::Equal;
    DriftPair {
        place: DriftPlace { prompt: "0".into(), position: 37, layer: Some(LayerIdx(layer)), point },
        phases: [Phase::Prefill, Phase::Decode],
        steps: [0, 0],
        answer,
        arrived: !equal && layer > 1,
        differing: Some(if equal { 0 } else { 12 }),
        width: 576,
        distance: Some(if equal { 0.0 } else { 0.25 }),
        deviation: (!equal).then_some(0.125),
        bound: (answer == DriftAnswer::Unexplained).then_some(8.0),
        spread: (!equal).then_some(0.03125),
        smallest: (!equal).then_some(0.001),
    }
}

/// One pair of each answer, a cause and a hypothesis.
fn drift() -> Drift {
    let side = |name: &str, reproduced| DriftSide {
        name: name.into(),
        setup: "h200_bs1_eager_bf16".into(),
        digest: None,
        reproduced: Some(reproduced),
    };
    let pairs = vec![
        pair(1, Point::XIn, DriftAnswer::Equal),
        pair(1, Point::AttnOut, DriftAnswer::Explained),
        pair(2, Point::Q, DriftAnswer::WithinRounding),
        pair(2, Point::AttnOut, DriftAnswer::Unexplained),
        pair(3, Point::MlpOut, DriftAnswer::NotLocalized),
    ];
    let counts = DriftCounts { missing: 2, ..DriftCounts::default() };
    let mut drift = Drift::of([side("a|b.json", true), side("capture", false)], pairs, counts);
    drift.causes.push(Cause {
        node: "o_proj".into(),
        layers: vec![LayerIdx(1), LayerIdx(2), LayerIdx(4)],
        rows: 3,
        a: "prefill of 38 rows, parts 1".into(),
        b: "decode of 1 row, parts 4".into(),
    });
    drift.hypotheses.push(Hypothesis {
        name: "attention_scale".into(),
        layer: Some(LayerIdx(2)),
        point: Point::AttnOut,
        detail: "no scale of the scores".into(),
        answer: DriftAnswer::Equal,
        deviation: 0.0,
    });
    drift.sites.iter_mut().filter(|site| site.point == Point::MlpOut).for_each(|site| {
        site.needs = Some("record layer_3.ffn_norm".into());
    });
    drift
}

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

/// `MANTISSA_UPDATE=1 cargo test -p mantissa-report schema` writes it anew.
#[test]
fn published_drift_schema_is_current_and_obeyed() {
    let text = format!("{}\n", serde_json::to_string_pretty(&drift_schema()).expect("plain"));
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/format/drift.schema.json");
    if std::env::var_os("MANTISSA_UPDATE").is_some() {
        std::fs::write(&path, &text).expect("docs/format is there");
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(published == text, "drift.schema.json is not current; run the update");
    let document = serde_json::from_str(&rendered(|out| drift_json(&drift(), out))).expect("JSON");
    assert_eq!(violations(&drift_schema(), &document), Vec::<String>::new());
}
