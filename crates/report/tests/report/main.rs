//! Every rendering of one rich analysis.

mod audit;
mod audit_sample;
mod drift;
mod drift_sample;
mod experiment;
mod html;
mod html_audit;
mod html_comparison;
mod html_drift;
mod json;
mod large;
mod sample;
mod words;

/// What a renderer writes, twice: both have to be equal.
fn rendered(render: impl Fn(&mut dyn std::io::Write) -> std::io::Result<()>) -> String {
    let once = || {
        let mut out = Vec::new();
        render(&mut out).expect("memory takes all");
        String::from_utf8(out).expect("text")
    };
    let text = once();
    assert!(text == once(), "two renderings differ");
    text
}

#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#[path = "../../../evidence/tests/evidence/checker.rs"]
mod checker;
