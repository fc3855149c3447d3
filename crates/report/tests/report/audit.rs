//! An audit as text, Markdown and JSON, and its schema.

use std::path::PathBuf;

use mantissa_report::{Style, audit_json, audit_markdown, audit_schema, audit_text};
use mantissa_verdict::audit::{ReplayState, SpotCheck};

use crate::audit_sample::audit;
use crate::checker::violations;
use crate::rendered;

#[test]
fn an_audit_for_a_terminal() {
    let text = audit_text(&audit(), Style::default());
    insta::assert_snapshot!(text);
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'));
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}

/// A spot check feeds no token and has no row: neither is said.
#[test]
fn what_there_is_none_of_is_no_basis() {
    let mut audit = audit();
    let basis = &mut audit.claims[0].rests_on;
    (basis.rows, basis.tokens_fed, basis.tokens_checked) = (0, 0, 0);
    let text = audit_text(&audit, Style::default());
    assert!(text.contains("rests on     12,345 of 12,345 recorded values of 1 run\n"), "{text}");
}

/// Where candidates do not fit side by side, those that fit nothing are counted.
#[test]
fn a_grid_without_room_shows_the_candidates_that_fit() {
    let mut audit = audit();
    let more = (0..40).map(|i| format!("h200_bs{i}_sdpa_f16"));
    audit.candidates.extend(more);
    let mut fitting = audit.claims[0].replays[0].clone();
    fitting.class = vec!["cpu_bs2_eager_bf16".to_owned(), "cpu_bs4_eager_bf16".to_owned()];
    fitting.claimed = false;
    fitting.state = ReplayState::Equal;
    audit.claims[0].replays.push(fitting);
    audit.claims.push(audit.claims[0].clone());
    let text = audit_text(&audit, Style::default());
    let grid: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("Claimed × verified")).collect();
    assert_eq!(grid[1].split_whitespace().collect::<Vec<_>>(), ["cpu_bs2_eager_bf16", "cpu_bs4_eager_bf16"]);
    let said = grid[2..].iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
    let note =
        "not shown: 1 candidate without a claim whose evidence fits · not shown: 40 candidates not checked";
    assert!(said.contains(note), "{text}");
    // With none that fits, all are there.
    for claim in &mut audit.claims {
        claim.replays.truncate(1);
    }
    let text = audit_text(&audit, Style::default());
    assert!(text.contains("h200_bs39_sdpa_f16") && !text.contains("not shown"), "{text}");
}

#[test]
fn an_audit_as_markdown() {
    let text = rendered(|out| audit_markdown(&audit(), out));
    insta::assert_snapshot!(text);
    assert!(!text.contains("<b>"), "{text}");
}

/// `MANTISSA_UPDATE=1 cargo test -p mantissa-report schema` writes it anew.
#[test]
fn published_audit_schema_is_current_and_obeyed() {
    let text = format!("{}\n", serde_json::to_string_pretty(&audit_schema()).expect("plain"));
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/format/verification.schema.json");
    if std::env::var_os("MANTISSA_UPDATE").is_some() {
        std::fs::write(&path, &text).expect("docs/format is there");
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(published == text, "verification.schema.json is not current; run the update");

    let mut document: serde_json::Value =
        serde_json::from_str(&rendered(|out| audit_json(&audit(), out))).expect("JSON");
    assert_eq!(violations(&audit_schema(), &document), Vec::<String>::new());
    document["claims"][0]["answer"] = "perhaps".into();
    document["claims"][0]["replays"][0]["values"] = "many".into();
    let found = violations(&audit_schema(), &document);
    for place in ["claims[0].answer", "claims[0].replays[0].values"] {
        assert!(found.iter().any(|violation| violation.contains(place)), "{place}: {found:?}");
    }
}

/// The number that a spot check promises: 700 draws miss a deviation in 1% of the values less often than once in a
/// thousand.
#[test]
fn what_a_sample_misses_is_what_is_said() {
    let of = |draws: u64| {
        let missed = SpotCheck::missed(draws);
        missed.iter().find(|m| m.extent.to_bits() == 0.01_f64.to_bits()).expect("1% is stated").probability
    };
    assert!(of(700) < 1e-3 && of(687) > 1e-3, "{} {}", of(700), of(687));
    assert!((of(1) - 0.99).abs() < 1e-15);
}
