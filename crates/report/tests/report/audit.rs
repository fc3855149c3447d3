//! An audit as text, Markdown and JSON, and its schema.

use std::path::PathBuf;

use mantissa_evidence::{CatalogBasis, Digest, UsedCatalog};
use mantissa_numerics::Phase;
use mantissa_report::{Style, audit_json, audit_markdown, audit_schema, audit_text};
use mantissa_verdict::Audit;
use mantissa_verdict::analysis::{Outcome, Signal, Source, Tier};
use mantissa_verdict::audit::{
    AUDIT_VERSION, AuditedModel, ClaimAnswer, ClaimVerdict, Contested, Cost, Difference, Planted,
    ReplayState, ReplayVerdict, RestsOn, SignalDistance, SpotCheck,
};

use crate::checker::violations;
use crate::rendered;

const HOSTILE: &str = "a\u{1b}[2J | <b>`b`</b> \u{202e}";

/// A conflict that a claim settled.
fn contested() -> Vec<Contested> {
    vec![Contested {
        about: "the batch_size".to_owned(),
        config_id: Some(HOSTILE.to_owned()),
        statements: vec![["here".to_owned(), HOSTILE.to_owned()], ["there".to_owned(), "2".to_owned()]],
        more: 0,
        settled: true,
        sentence: format!("the file contradicts itself about the batch_size: here says '{HOSTILE}'"),
    }]
}

fn spot_check(first: Difference) -> SpotCheck {
    SpotCheck {
        config_id: "c".to_owned(),
        seed: 7,
        population: 1_000_000,
        recorded: 4_000_000,
        drawn: 700,
        distinct: 699,
        different: 1,
        first: Some(first),
        missed: SpotCheck::missed(700),
        kernels: vec![("mlp_out".to_owned(), 700)],
        out_of_reach: vec!["attn_out".to_owned()],
    }
}

/// An audit with something in each of its places.
fn audit() -> Audit {
    let first = Difference {
        run: "ref 0 rep 2".to_owned(),
        phase: Phase::Decode,
        step: 3,
        position: Some(-1),
        site: "layer_4.attn_out".to_owned(),
        element: Some(17),
        evidence: "0x3f80".to_owned(),
        replay: "0x3f81".to_owned(),
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    Audit {
        audit_version: AUDIT_VERSION,
        sources: vec![Source {
            name: HOSTILE.to_owned(),
            digest: "ab".repeat(32),
            layout: "container".to_owned(),
            warnings: vec!["read leniently".to_owned()],
        }],
        model: Some(AuditedModel {
            name: "model".to_owned(),
            claimed: vec![HOSTILE.to_owned()],
            weights_digest: Some("cd".repeat(32)),
            stated_by_evidence: true,
        }),
        replay: "decode".to_owned(),
        outcome: Outcome::Divergent,
        candidates: names(&["cpu_bs1_eager_bf16", "cpu_bs2_eager_bf16", "cpu_bs4_eager_bf16"]),
        claims: vec![ClaimVerdict {
            config_id: HOSTILE.to_owned(),
            claim: Some("cpu_bs1_eager_bf16".to_owned()),
            answer: ClaimAnswer::Contradicted,
            tier: Tier::Exact,
            sentence: "contradicted: fits {cpu_bs2_eager_bf16, cpu_bs4_eager_bf16} instead".to_owned(),
            fits: vec![names(&["cpu_bs2_eager_bf16", "cpu_bs4_eager_bf16"])],
            cannot_tell_apart: names(&["{cpu_bs2_eager_bf16, cpu_bs4_eager_bf16}: the same is computed"]),
            not_checked: names(&["h200_bs1_eager_bf16: not covered"]),
            enough: None,
            rests_on: RestsOn {
                runs: 1,
                values: 12_345,
                recorded: 12_345,
                rows: 60,
                tokens_fed: 542,
                tokens_checked: 30,
            },
            replays: vec![ReplayVerdict {
                class: names(&["cpu_bs1_eager_bf16"]),
                claimed: true,
                state: ReplayState::Different,
                first: Some(first.clone()),
                values: 4_000,
                different: 12,
                passes: [5, 31],
                distances: vec![SignalDistance {
                    phase: Phase::Decode,
                    signal: Signal::KeyVectors,
                    rows: 30,
                    mean_l2: Some(0.125),
                }],
                p_value: None,
                p_adjusted: None,
            }],
        }],
        matrices: Vec::new(),
        cost: Cost {
            candidates: 8,
            classes: 4,
            passes_planned: 60,
            passes_alone: 248,
            rows_planned: 900,
            rows_alone: 28_520,
            stopped_early: 3,
        },
        consistency: Vec::new(),
        contested: contested(),
        spot_checks: vec![spot_check(first)],
        self_test: vec![Planted {
            deviation: "one bit".to_owned(),
            dishonest: true,
            answer: ClaimAnswer::FitsNone,
            changed: true,
            passed: true,
            found: "fits none of the candidates".to_owned(),
        }],
        notes: names(&["A note."]),
        thresholds: Vec::new(),
        catalogs: [(CatalogBasis::Verified, "part of the program"), (CatalogBasis::Measured, "a file")]
            .map(|(basis, text)| UsedCatalog {
                hardware: "h200".to_owned(),
                cublas: "13.1.0".to_owned(),
                basis,
                asked: basis == CatalogBasis::Verified,
                digest: Digest::of_bytes(text.as_bytes()),
            })
            .to_vec(),
    }
}

#[test]
fn an_audit_for_a_terminal() {
    let text = audit_text(&audit(), Style::default());
    insta::assert_snapshot!(text);
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'));
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
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
        "not shown: 1 candidate(s) that fit no claim's evidence · not shown: 40 candidate(s) not checked";
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
