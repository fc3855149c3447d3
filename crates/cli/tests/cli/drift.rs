//! `mantissa drift`: a page, a summary, and a baseline beside which only what is new fails.

use std::fs;

use mantissa_evidence::container;
use mantissa_numerics::Phase;
use serde_json::Value;

use crate::session::Session;

/// A model, and what the engine left of two prompts: `capture`.
fn with_capture() -> Session {
    let session = Session::new();
    let synth = ["synth", "--arch", "llama", "--seed", "3", "--out", "model"];
    assert!(session.output(&synth).status.success());
    fs::write(session.path("prompts.jsonl"), "[5, 6, 7, 8, 9]\n[10, 11, 12, 13, 14]\n").unwrap();
    record(&session, "model", POINTS, "capture");
    session
}

const POINTS: &str = "embed_out,x_in,q,k,v,attn_out,x_after_attn,ffn_norm,mlp_out,x_out,final_norm,logits";

fn record(session: &Session, model: &str, points: &str, out: &str) {
    let signals = ["--layers", "1,2", "--positions=-5,-4,-3,-2,-1", "--sites", points];
    let run = ["record", "--model", model, "--prompt", "prompts.jsonl", "--decode", "1", "--reps", "1"];
    let arguments = [&run[..], &signals, &["--out", out]].concat();
    assert!(session.output(&arguments).status.success(), "{}", session.run(&arguments));
}

/// A copy of the capture in which the first element of some rows is another.
fn altered(session: &Session, out: &str, sites: &[(&str, f32)]) {
    let mut capture = mantissa_evidence::read(&session.path("capture")).unwrap();
    let prefill = capture.runs[0].phase(Phase::Prefill).unwrap().clone();
    let mut altered = prefill;
    for (site, value) in sites {
        let tensor = altered.tensors.get_mut(&site.parse().unwrap()).unwrap();
        let mut bytes = Vec::new();
        tensor.dtype.encode(*value, &mut bytes);
        tensor.data[..bytes.len()].copy_from_slice(&bytes);
    }
    capture.runs[0].prefill = Some(altered);
    for configuration in &mut capture.configurations {
        configuration.mantissa = None;
    }
    container::write(&session.path(out), &capture).unwrap();
}

/// Runs `drift` of a capture beside the engine; its exit code and what it printed.
fn drift(session: &Session, capture: &str, more: &[&str]) -> (i32, String) {
    let arguments = [&["drift", capture, "--model", "model"][..], more].concat();
    let output = session.output(&arguments);
    (output.status.code().unwrap(), session.text(&arguments, &output))
}

#[test]
fn only_what_is_new_beside_a_baseline_fails() {
    let session = with_capture();
    altered(&session, "bug", &[("layer_1.mlp_out", 1.0)]);
    altered(&session, "larger", &[("layer_1.mlp_out", 64.0)]);
    altered(&session, "another", &[("layer_1.mlp_out", 1.0), ("logits", 500.0)]);
    let (code, text) = drift(&session, "bug", &["--write-baseline", "known.json"]);
    assert_eq!(code, 1, "{text}");
    let known = fs::read(session.path("known.json")).unwrap();
    let listed: Value = serde_json::from_slice(&known).unwrap();
    let sites: Vec<&str> =
        listed["sites"].as_array().unwrap().iter().map(|site| site["answer"].as_str().unwrap()).collect();
    assert!(!sites.is_empty() && sites.iter().all(|answer| *answer == "unexplained"), "{listed}");
    // The same again, from wherever the capture lies.
    fs::rename(session.path("bug"), session.path("moved")).unwrap();
    let (code, text) = drift(&session, "moved", &["--baseline", "known.json"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("Nothing is new beside the baseline known.json: "), "{text}");
    let (code, text) = drift(&session, "larger", &["--baseline", "known.json"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("Something is new beside the baseline known.json: ") && text.contains("larger"));
    let files = ["--summary", "drift.md", "--html", "drift.html", "--output", "drift.json"];
    let (code, text) = drift(&session, "another", &[&["--baseline", "known.json"][..], &files].concat());
    assert_eq!(code, 1, "{text}");
    let summary = fs::read_to_string(session.path("drift.md")).unwrap();
    let new: Vec<&str> = summary.lines().filter(|line| line.contains("| new |")).collect();
    assert!(new.len() == 1 && new[0].starts_with("| logits | new | unexplained |"), "{summary}");
    let page = fs::read_to_string(session.path("drift.html")).unwrap();
    assert!(page.contains(">Unexplained</h2>") && page.contains("Something is new beside"), "{page}");
    let data: Value = serde_json::from_slice(&fs::read(session.path("drift.json")).unwrap()).unwrap();
    assert_eq!(data["baseline"]["file"], "known.json");
    // What was wrong is in order: nothing fails, and the entry is said to be resolved.
    let (code, text) = drift(&session, "capture", &["--baseline", "known.json"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("resolved"), "{text}");
    // What is not recorded any more is not resolved.
    record(&session, "model", "x_in,q,v,attn_out,x_after_attn", "less");
    let (code, text) = drift(&session, "less", &["--baseline", "known.json"]);
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("not compared as then"), "{text}");
    assert_eq!(
        fs::read(session.path("known.json")).unwrap(),
        known,
        "a baseline that is read stays as it is"
    );
}

#[test]
fn a_baseline_of_something_else_or_damaged_is_one_line() {
    let session = with_capture();
    let (code, text) = drift(&session, "capture", &["--write-baseline", "known.json"]);
    assert_eq!(code, 0, "{text}");
    let failure = |arguments: &[&str]| session.failure(&[&["--quiet"], arguments].concat());
    let synth = ["synth", "--arch", "llama", "--seed", "4", "--out", "other"];
    assert!(session.output(&synth).status.success());
    record(&session, "other", "q", "of_other");
    let line = failure(&["drift", "of_other", "--model", "other", "--baseline", "known.json", "--html", "x"]);
    assert!(line.starts_with("error: known.json: made_of.weights_digest: model with weights "), "{line}");
    assert!(
        line.contains(", and this is other with weights ") && line.contains("--write-baseline"),
        "{line}"
    );
    assert!(!session.path("x").exists(), "nothing is written of what is refused");
    // Both sides computed: another comparison of the same model.
    let computed = ["drift", "--model", "model", "--phases", "prefill,decode", "--prompt", "prompts.jsonl"];
    let line = failure(&[&computed[..], &["--baseline", "known.json"]].concat());
    assert!(line.contains("known.json: made_of.sides[1].setup: "), "{line}");
    // Other prompts.
    fs::write(session.path("prompts.jsonl"), "[5, 6, 7, 8, 9]\n").unwrap();
    record(&session, "model", "q", "fewer");
    let line = failure(&["drift", "fewer", "--model", "model", "--baseline", "known.json"]);
    assert!(line.contains("known.json: made_of.tokens_digest: of other prompts"), "{line}");
    let whole = fs::read(session.path("known.json")).unwrap();
    fs::write(session.path("cut.json"), &whole[..whole.len() / 2]).unwrap();
    let line = failure(&["drift", "capture", "--model", "model", "--baseline", "cut.json"]);
    assert!(line.starts_with("error: cut.json: line ") && line.contains("column"), "{line}");
    let line = failure(&["drift", "capture", "--model", "model", "--baseline", "nowhere.json"]);
    assert!(line.contains("nowhere.json"), "{line}");
    let line = failure(&["drift", "capture", "--model", "model", "--write-baseline", "known.json"]);
    assert!(line.contains("known.json: already exists") && line.contains("--force"), "{line}");
    // With --force it is written anew, beside itself.
    let anew = ["--baseline", "known.json", "--write-baseline", "known.json", "--force"];
    assert_eq!(drift(&session, "capture", &anew).0, 0);
    assert_eq!(fs::read(session.path("known.json")).unwrap(), whole);
}

/// Traces have pages, summaries and baselines too, by hashes.
#[test]
fn traces_have_a_page_and_a_baseline() {
    let session = with_capture();
    altered(&session, "bug", &[("layer_1.mlp_out", 1.0)]);
    for (record, trace) in [("capture", "a.jsonl"), ("bug", "b.jsonl")] {
        assert!(session.output(&["trace", record, "--out", trace]).status.success());
    }
    let run = |more: &[&str]| {
        let arguments = [&["drift", "a.jsonl", "b.jsonl"][..], more].concat();
        let output = session.output(&arguments);
        (output.status.code().unwrap(), session.text(&arguments, &output))
    };
    let (code, text) =
        run(&["--write-baseline", "known.json", "--html", "page.html", "--summary", "drift.md"]);
    assert_eq!(code, 3, "{text}");
    let page = fs::read_to_string(session.path("page.html")).unwrap();
    assert!(page.contains("Share of rows that differ by layer") && page.contains("a trace holds hashes"));
    insta::assert_snapshot!(fs::read_to_string(session.path("drift.md")).unwrap());
    insta::assert_snapshot!(
        fs::read_to_string(session.path("known.json"))
            .unwrap()
            .lines()
            .skip(1)
            .filter(|line| { !line.contains("digest") })
            .collect::<Vec<_>>()
            .join("\n")
    );
    let (code, text) = run(&["--baseline", "known.json"]);
    assert_eq!(code, 0, "{text}");
}
