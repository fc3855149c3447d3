//! Dumps of other programs, which are no traces: they are told by name, with what makes a trace of them.
//!
//! *Source:* llama.cpp, examples/eval-callback (lines that begin with `ggml_debug:`, later `common_debug_cb_eval:`,
//! then values with four decimals, the first and last three of each axis). SGLang, srt/debug_utils/dumper.py (a folder
//! with a `.pt` file for each tensor, named `forward_pass_id=…___rank=…___name=….pt`).

use std::path::Path;

use crate::error::EvidenceError;

/// Lines of a log that are looked through for those of llama.cpp.
pub(super) const LOG_LINES: usize = 10_000;

/// What is said of a folder or a file that is no text; `None` where it may be a trace.
pub(super) fn of_path(path: &Path) -> Option<EvidenceError> {
    let is_pickle = |path: &Path| path.extension().is_some_and(|extension| extension == "pt");
    let is_dump = if path.is_dir() {
        std::fs::read_dir(path).ok()?.flatten().any(|entry| is_pickle(&entry.path()))
    } else {
        is_pickle(path)
    };
    if !is_dump {
        return None;
    }
    Some(told(path, "a dump of tensors of SGLang or another program of PyTorch"))
}

/// What is said of a log with this line; `None` where nothing is known of it.
pub(super) fn of_line(path: &Path, line: &[u8]) -> Option<EvidenceError> {
    let is_callback = [&b"ggml_debug:"[..], b"common_debug_cb_eval:"]
        .iter()
        .any(|mark| line.windows(mark.len()).any(|part| part == *mark));
    is_callback.then(|| told(path, "what llama.cpp's eval-callback prints"))
}

fn told(path: &Path, what: &str) -> EvidenceError {
    let remedy = format!("`mantissa trace {} --out trace.jsonl` makes a trace of it", path.display());
    EvidenceError::NotEvidence { path: path.to_owned(), what: what.to_owned(), remedy }
}
