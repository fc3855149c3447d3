//! Files that are known and not read: what each one is, and what to give instead.
//!
//! A reader exists for what can be judged. The rest is named, so that nobody is told that a sound file is broken.

use std::collections::BTreeSet;

use crate::recognize;

/// A file that is something else than evidence this program reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// What it is.
    pub(crate) what: String,
    /// What to give instead.
    pub(crate) instead: &'static str,
}

impl Named {
    #[expect(clippy::unnecessary_wraps, reason = "every caller returns whether something was named")]
    fn new(what: impl Into<String>, instead: &'static str) -> Option<Self> {
        Some(Self { what: what.into(), instead })
    }
}

/// Longest header of a safetensors file that is looked at.
const LONGEST_HEADER: u64 = 1 << 24;
/// Longest first line of a file of lines.
const LONGEST_LINE: usize = 1 << 20;
/// Tensors that are listed by name.
const MOST_TENSORS: usize = 6;

const RECORD: &str = "give an experiment JSON or a container that holds token ids, signals and the setup";

/// JSON keys, all of which tell a kind of file: what it is, what to give instead.
const BY_KEYS: &[(&[&str], &str, &str)] = &[
    (
        &["prompt_logprobs"],
        "log-probabilities of a prompt as vLLM reports them, without the prompt and its setup",
        RECORD,
    ),
    (
        &["analysis_version"],
        "an analysis that this program wrote, not evidence",
        "give the evidence it was made from",
    ),
    (
        &["audit_version"],
        "a verification that this program wrote, not evidence",
        "give the evidence it was made from",
    ),
    (
        &["weight_map"],
        "the index of a model's weights, not evidence",
        "use `mantissa inspect` on the model's folder",
    ),
    (
        &["architectures", "model_type"],
        "the configuration of a model, not evidence",
        "use `mantissa inspect` on the model's folder",
    ),
    (&["added_tokens", "model"], "a tokenizer, not evidence", "use `mantissa inspect` on the model's folder"),
    (
        &["scores", "config"],
        "scores per token (DiFR), which are judged already: it holds neither signals nor distances between setups",
        "give the signals that the scores were computed from",
    ),
    (
        &["samples", "config"],
        "generated samples without log-probabilities or activations",
        "give what was recorded beside them",
    ),
    (
        &["forensics"],
        "a summary of runs with and without concurrent streams: it keeps yes and no, not the keys they are about",
        "give the files it was made from",
    ),
    (
        &["timing_forensics"],
        "a summary of times of concurrent streams, not of numbers",
        "give the files it was made from",
    ),
    (
        &["activation_comparison"],
        "a summary of two providers' activations: it keeps figures per layer, not the vectors they are of",
        "give the files it was made from",
    ),
    (
        &["results", "conclusion"],
        "a summary of an experiment: it keeps one distance and a conclusion, not what they are of",
        "give the files it was made from",
    ),
    (
        &["cells"],
        "a table of an experiment's cells (rates, latencies), not of signals",
        "give the files it was made from",
    ),
];

/// What bytes are, if it is known.
pub(crate) fn name(bytes: &[u8]) -> Option<Named> {
    binary(bytes).or_else(|| lines(bytes)).or_else(|| by_keys(&recognize::outline(bytes)))
}

fn binary(bytes: &[u8]) -> Option<Named> {
    if bytes.starts_with(b"GGUF") {
        return Named::new("a GGUF model, not evidence", "use `mantissa inspect` on it");
    }
    if bytes.starts_with(b"version https://git-lfs.github.com/spec/") {
        return Named::new(
            "a pointer of Git LFS, not the file itself",
            "run `git lfs pull` in its repository",
        );
    }
    if bytes.starts_with(b"%PDF") {
        return Named::new("a PDF document, not evidence", "use `mantissa record --document` with it");
    }
    if bytes.starts_with(b"PK\x03\x04") {
        let arrays = bytes.windows(4).take(LONGEST_LINE).any(|window| window == b".npy");
        let what = if arrays { "a NumPy archive (.npz) of arrays" } else { "a ZIP archive" };
        return Named::new(format!("{what}, which states neither tokens nor setup"), RECORD);
    }
    if bytes.starts_with(b"\x93NUMPY") {
        return Named::new("a NumPy array, which states neither tokens nor setup", RECORD);
    }
    safetensors(bytes)
}

/// A safetensors file by its tensors.
fn safetensors(bytes: &[u8]) -> Option<Named> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let length = Some(u64::from_le_bytes(*length)).filter(|length| *length <= LONGEST_HEADER)?;
    let header = rest.get(..usize::try_from(length).ok()?)?;
    let tensors: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(header).ok()?;
    let names = || tensors.keys().filter(|name| *name != "__metadata__");
    if names().any(|name| name.contains(".lora_A.") || name.contains(".lora_B.")) {
        let what = format!("the weights of a LoRA adapter ({} tensors), not evidence", names().count());
        return Named::new(
            what,
            "merge it into its model (PEFT's merge_and_unload) and inspect the merged folder",
        );
    }
    if names().any(|name| name.contains("layers.") && name.ends_with("weight")) {
        let what = format!("one file of a model's weights ({} tensors), not evidence", names().count());
        return Named::new(what, "use `mantissa inspect` on the model's folder, which holds config.json too");
    }
    let tensors: Vec<String> = tensors
        .iter()
        .filter(|(name, _)| *name != "__metadata__")
        .map(|(name, of)| {
            let shape = of.get("shape").map(ToString::to_string).unwrap_or_default();
            format!(
                "{name} {}{shape}",
                of.get("dtype").and_then(serde_json::Value::as_str).unwrap_or_default()
            )
        })
        .collect();
    let more = tensors.len().saturating_sub(MOST_TENSORS);
    let listed = tensors[..tensors.len().min(MOST_TENSORS)].join(", ");
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let hidden =
        tensors.len() < 8 && tensors.iter().any(|name| name.contains("hidden") || name.contains("logprob"));
    if hidden {
        let what = format!(
            "a safetensors file of signals ({listed}{more}), as a hidden-state connector writes it: it states no setup"
        );
        return Named::new(what, RECORD);
    }
    let what = format!("a safetensors file of tensors ({listed}{more}) without tokens and setup");
    Named::new(what, "a container keeps its tensors beside manifest.json; a model is inspected by its folder")
}

fn by_keys(keys: &BTreeSet<String>) -> Option<Named> {
    let (_, what, instead) = BY_KEYS.iter().find(|(all, _, _)| all.iter().all(|key| keys.contains(*key)))?;
    Named::new(*what, instead)
}

/// Files of lines: JSON lines, streamed answers, tables.
fn lines(bytes: &[u8]) -> Option<Named> {
    let end = bytes
        .iter()
        .take(LONGEST_LINE)
        .position(|byte| *byte == b'\n')
        .unwrap_or(bytes.len().min(LONGEST_LINE));
    let first = std::str::from_utf8(&bytes[..end]).ok()?.trim();
    if let Some(event) = first.strip_prefix("data:") {
        let object = event.trim().starts_with('{');
        return object.then(|| Named::new("a streamed answer of a server, which states no setup", RECORD))?;
    }
    if first.starts_with("PROMPT") && first.contains("LAYER") && first.contains("TENSOR") {
        return Named::new(
            "a drift report, a table of first differences without the signals",
            "give the two traces",
        );
    }
    // One object on one line is no file of lines.
    let more = bytes[end..].iter().any(|byte| !byte.is_ascii_whitespace());
    if !first.starts_with('{') || !first.ends_with('}') || !more {
        return None;
    }
    let keys = recognize::outline(first.as_bytes());
    if keys.contains("event") && keys.contains("layer") {
        let what = "a stage trace (JSON lines), statistics of tensors layer by layer";
        return Named::new(what, "traces are compared as drift, not judged as evidence");
    }
    match by_keys(&keys) {
        Some(Named { what, instead }) => Named::new(format!("lines of JSON, each {what}"), instead),
        None => Named::new("lines of JSON of no known kind", RECORD),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_files_are_named_and_unknown_ones_are_not() {
        let file = |name: &str| {
            let header =
                format!(r#"{{"{name}": {{"dtype": "BF16", "shape": [5, 3], "data_offsets": [0, 30]}}}}"#);
            [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()
        };
        let tensors = file("hidden_states");
        let weights = file("model.layers.0.mlp.up_proj.weight");
        let adapter = file("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight");
        for (bytes, words) in [
            (&tensors[..], "hidden_states BF16[5,3]"),
            (&weights[..], "one file of a model's weights"),
            (&adapter[..], "the weights of a LoRA adapter"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 3\n", "pointer of Git LFS"),
            (br#"{"prompt_logprobs": [null]}"#, "log-probabilities of a prompt"),
            (b"{\"event\": \"stage_trace\", \"layer\": 3}\n{}\n", "a stage trace"),
            (b"data: {\"choices\": []}\n\n", "a streamed answer"),
            (b"PK\x03\x04....a.npy", "NumPy archive"),
            (b"GGUF....", "GGUF model"),
            (b"PROMPT\tTOKEN_ID\tPOS_ID\tLAYER\tTENSOR\n", "a drift report"),
        ] {
            let named = name(bytes).expect("it is known");
            assert!(named.what.contains(words), "{words}: {named:?}");
        }
        for bytes in
            [&b"once upon a time"[..], b"{\"a\": 1}", b"[1, 2]", b"", b"\xff\xff\xff\xff\xff\xff\xff\xff{"]
        {
            assert_eq!(name(bytes), None);
        }
    }
}
