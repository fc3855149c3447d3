//! The header of a safetensors file, read without trusting it.
//!
//! Own walk rather than the `safetensors` crate: that one keeps the last of two tensors of the same name and
//! does not say which tensor is wrong. Layout: u64 length, that many bytes of JSON, then the data.
//! *Source:* the format section of the safetensors README (0.7).

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use mantissa_numerics::Dtype;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::error::{ModelError, is_plain_name, shown};

/// Longest header that is read; the format's own limit.
const LONGEST_HEADER: usize = 100_000_000;

/// One tensor of a safetensors file.
///
/// Example: [`read_header`].
#[derive(Debug, Clone)]
pub struct TensorEntry {
    /// Name.
    pub name: String,
    /// Element type as the file spells it (`BF16`, `I64`).
    pub dtype: String,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Where in the file its bytes lie.
    pub range: Range<usize>,
}

impl TensorEntry {
    /// The storage format, when it is one that weights may have.
    #[must_use]
    pub fn float(&self) -> Option<Dtype> {
        match self.dtype.as_str() {
            "F32" => Some(Dtype::F32),
            "BF16" => Some(Dtype::Bf16),
            "F16" => Some(Dtype::F16),
            _ => None,
        }
    }
}

/// Reads the tensor list of a whole safetensors file in memory; `file` names it in errors.
///
/// Every range lies inside `bytes`, none overlaps another, each is as long as shape and dtype say.
///
/// ```
/// use mantissa_model::safetensors_header::read_header;
/// use mantissa_numerics::Dtype;
/// use mantissa_testkit::safetensors::{Tensor, build};
///
/// let bytes = build(&[Tensor::new("t", Dtype::Bf16, &[2, 2], &[1.0, 2.0, 3.0, 4.0])]);
/// let tensors = read_header("model.safetensors", &bytes)?;
/// assert_eq!((tensors[0].name.as_str(), tensors[0].float()), ("t", Some(Dtype::Bf16)));
/// assert_eq!(bytes[tensors[0].range.clone()].len(), 8);
/// assert!(read_header("model.safetensors", &bytes[..bytes.len() - 1]).is_err());
/// # Ok::<(), mantissa_model::ModelError>(())
/// ```
pub fn read_header(file: &str, bytes: &[u8]) -> Result<Vec<TensorEntry>, ModelError> {
    let fault = |place: &str, fault: String| ModelError::damaged(file, place, fault);
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(fault("byte 0", format!("{} bytes are too few for a header", bytes.len())));
    };
    let length = u64::from_le_bytes(*length);
    let header = usize::try_from(length).ok().filter(|&l| l <= LONGEST_HEADER).and_then(|l| rest.get(..l));
    let Some(header) = header else {
        return Err(fault("byte 0", format!("header of {length} bytes in a file of {}", bytes.len())));
    };
    let start = 8 + header.len();
    let Entries(entries) = serde_json::from_slice(header).map_err(|e| {
        // Only the first line: serde_json's own text may quote the file.
        fault(&format!("header column {}", e.column()), shown(&e.to_string()))
    })?;
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        let wrong = |fault: String| ModelError::tensor(file, &name, fault);
        let [from, to] = entry.data_offsets;
        let range = start.checked_add(from).zip(start.checked_add(to)).map(|(from, to)| from..to);
        let Some(range) = range.filter(|range| range.start <= range.end && range.end <= bytes.len()) else {
            let have = bytes.len() - start;
            return Err(wrong(format!("data at {from}..{to}, the file has {have} bytes of data")));
        };
        if let Some(size) = element_bytes(&entry.dtype) {
            let need = entry.shape.iter().try_fold(size, |n, &axis| n.checked_mul(axis));
            if need != Some(range.len()) {
                let (shape, dtype, have) = (&entry.shape, &entry.dtype, range.len());
                return Err(wrong(format!("{have} bytes do not hold {dtype} of shape {shape:?}")));
            }
        }
        tensors.push(TensorEntry { name, dtype: entry.dtype, shape: entry.shape, range });
    }
    tensors.sort_by_key(|tensor| (tensor.range.start, tensor.range.end));
    for pair in tensors.windows(2) {
        if pair[1].range.start < pair[0].range.end {
            let fault = format!("its data overlaps that of '{}'", shown(&pair[0].name));
            return Err(ModelError::tensor(file, &pair[1].name, fault));
        }
    }
    Ok(tensors)
}

/// Bytes of one element; `None` for types this reader does not know (newer ones are sub-byte).
fn element_bytes(dtype: &str) -> Option<usize> {
    match dtype {
        "F64" | "I64" | "U64" | "C64" => Some(8),
        "F32" | "I32" | "U32" => Some(4),
        "F16" | "BF16" | "I16" | "U16" => Some(2),
        "BOOL" | "I8" | "U8" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" => Some(1),
        _ => None,
    }
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

/// The header's object in file order, duplicates refused, `__metadata__` skipped.
struct Entries(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Walk;
        impl<'de> Visitor<'de> for Walk {
            type Value = Entries;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut seen = HashSet::new();
                let mut list = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !seen.insert(name.clone()) {
                        return Err(serde::de::Error::custom(format!("tensor '{}' twice", shown(&name))));
                    }
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        list.push((name, map.next_value()?));
                    }
                }
                Ok(Entries(list))
            }
        }
        deserializer.deserialize_map(Walk)
    }
}

/// The `weight_map` of a `model.safetensors.index.json`: tensor name to shard file name.
pub(crate) fn read_index(file: &str, bytes: &[u8]) -> Result<BTreeMap<String, String>, ModelError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let Index { weight_map } = serde_json::from_slice(bytes).map_err(|e| {
        ModelError::damaged(file, format!("line {} column {}", e.line(), e.column()), shown(&e.to_string()))
    })?;
    for (tensor, shard) in &weight_map {
        if !is_plain_name(shard) {
            let fault = format!("'{}' is not a plain file name", shown(shard));
            return Err(ModelError::tensor(file, tensor, fault));
        }
    }
    Ok(weight_map)
}
