//! The header of a safetensors file, read without trusting it.
//!
//! The safetensors crate's own reader adds offsets unchecked and lets a duplicate name win; evidence must allow
//! neither. *Source:* the format as described in the README of huggingface/safetensors 0.8.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;

use crate::error::{Flaw, one_line};
use crate::strict::Unique;

/// Longest header; a run of a thousand sites needs a tenth of a megabyte.
const MAX_HEADER: u64 = 16 << 20;
const REMEDY: &str = "copy the container again or record it again";

/// A tensor of the file.
#[derive(Debug)]
pub(crate) struct Tensor {
    pub(crate) dtype: String,
    pub(crate) shape: Vec<usize>,
    /// Place in the file.
    pub(crate) range: Range<usize>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Tensor(Info),
    /// `__metadata__`, which other writers fill with text of their own.
    Metadata(#[expect(dead_code, reason = "checked to be text, never used")] BTreeMap<String, String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Info {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

/// Reads the header of `file`; every range lies inside it, and ranges cover its data without overlap.
pub(crate) fn read(file: &[u8]) -> Result<BTreeMap<String, Tensor>, Flaw> {
    let header = |problem: String| Flaw::new("safetensors header", problem, REMEDY);
    let length = file.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    let length = length.ok_or_else(|| header(format!("the file has only {} bytes", file.len())))?;
    let end = usize::try_from(length).ok().filter(|_| length <= MAX_HEADER).and_then(|n| n.checked_add(8));
    let Some((text, end)) = end.and_then(|end| Some((file.get(8..end)?, end))) else {
        return Err(header(format!(
            "its length of {length} bytes is too large, the file has {}",
            file.len()
        )));
    };
    let entries: Unique<String, Entry> =
        serde_json::from_slice(text).map_err(|error| header(one_line(&error.to_string())))?;
    let mut tensors = BTreeMap::new();
    for (name, entry) in entries.0 {
        match entry {
            Entry::Metadata(_) if name == "__metadata__" => (),
            Entry::Tensor(info) if name != "__metadata__" => {
                let tensor =
                    locate(info, end, file.len()).map_err(|problem| Flaw::new(&*name, problem, REMEDY))?;
                tensors.insert(name, tensor);
            }
            _ => return Err(header(format!("the entry '{name}' is not a tensor"))),
        }
    }
    let mut ranges: Vec<_> = tensors.values().map(|tensor| (tensor.range.start, tensor.range.end)).collect();
    ranges.sort_unstable();
    let covered = ranges.iter().try_fold(end, |at, &(start, end)| (start == at).then_some(end));
    match covered {
        Some(covered) if covered == file.len() => Ok(tensors),
        _ => Err(header("tensors overlap or leave gaps".to_owned())),
    }
}

fn locate(info: Info, data: usize, length: usize) -> Result<Tensor, String> {
    let Info { dtype, shape, data_offsets: [start, end] } = info;
    let size = match dtype.as_str() {
        "F32" | "U32" => 4,
        "BF16" | "F16" => 2,
        other => return Err(format!("has the format '{other}', which no signal has")),
    };
    let bytes = shape.iter().try_fold(size, |bytes: usize, &dim| bytes.checked_mul(dim));
    let range = data.checked_add(start).zip(data.checked_add(end)).filter(|&(start, end)| start <= end);
    match (bytes, range) {
        (Some(bytes), Some((start, end))) if end <= length && end - start == bytes => {
            Ok(Tensor { dtype, shape, range: start..end })
        }
        _ => Err(format!("offsets {start}..{end} do not fit its shape and the file's {length} bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    #[test]
    fn a_header_that_lies_is_refused() {
        let good =
            r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F16","shape":[1,2,3],"data_offsets":[0,12]}}"#;
        let tensors = read(&file(good, 12)).unwrap();
        assert_eq!(tensors["a"].range, good.len() + 8..good.len() + 20);
        assert!(read(&file(good, 11)).is_err(), "truncated");
        assert!(read(&file(good, 13)).is_err(), "trailing");
        let lies = [
            r#"{"a":{"dtype":"F16","shape":[6],"data_offsets":[0,13]}}"#,
            r#"{"a":{"dtype":"F16","shape":[18446744073709551615,2],"data_offsets":[0,12]}}"#,
            r#"{"a":{"dtype":"F16","shape":[6],"data_offsets":[18446744073709551604,18446744073709551615]}}"#,
            r#"{"a":{"dtype":"F16","shape":[6],"data_offsets":[0,12]},"a":{"dtype":"F16","shape":[6],"data_offsets":[0,12]}}"#,
            r#"{"a":{"dtype":"F16","shape":[6],"data_offsets":[0,12]},"b":{"dtype":"F16","shape":[1],"data_offsets":[5,7]}}"#,
            r#"{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#,
            r#"{"a":{"x":"y"}}"#,
            r#"{"__metadata__":{"dtype":"F16","shape":[6],"data_offsets":[0,12]}}"#,
            "[[[[",
            "{}",
        ];
        for lie in lies {
            assert!(read(&file(lie, 12)).is_err(), "{lie}");
        }
        assert!(read(&[1, 2, 3]).is_err());
        assert!(read(&[0xff; 64]).is_err());
    }
}
