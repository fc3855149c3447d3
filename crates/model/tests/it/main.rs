//! Reading checkpoints: agreement of formats, refusals, hostile files, downloads from a local hub.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod agreement;
mod config;
mod decisions;
mod hostile;
mod hub;
mod prompts;
mod tiny;
mod tokenizer;

/// An error as users see it: one line, with a remedy after the last "; ".
#[track_caller]
fn one_line<T>(result: Result<T, mantissa_model::ModelError>) -> String {
    let text = match result {
        Ok(_) => panic!("accepted"),
        Err(error) => error.to_string(),
    };
    assert!(!text.contains('\n') && text.contains("; ") && text.len() < 1000, "{text:?}");
    text
}
