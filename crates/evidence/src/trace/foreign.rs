//! Traces of other programs that do not hold enough to compare: they are told by name, never guessed at.
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
    Some(told(
        path,
        "a dump of SGLang or another program of PyTorch: pickled tensors without token positions",
        "a pickle can run code, so it is not read: save its tensors with safetensors where it was made, and read them \
         with `mantissa import --map`",
    ))
}

/// What is said of a log with this line; `None` where nothing is known of it.
pub(super) fn of_line(path: &Path, line: &[u8]) -> Option<EvidenceError> {
    let line = line.trim_ascii_start();
    let is_callback =
        [&b"ggml_debug:"[..], b"common_debug_cb_eval:"].iter().any(|mark| line.starts_with(mark));
    is_callback.then(|| {
        told(
            path,
            "what llama.cpp's eval-callback prints: four decimals of at most six values an axis, so no bits are there",
            "trace its GGUF file with `mantissa trace --model FILE.gguf`, or keep tensors and read them with `mantissa \
             import --map`",
        )
    })
}

fn told(path: &Path, what: &str, remedy: &str) -> EvidenceError {
    EvidenceError::NotEvidence { path: path.to_owned(), what: what.to_owned(), remedy: remedy.to_owned() }
}
