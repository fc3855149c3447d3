//! How tensors are laid out in safetensors files: which shard, which header, which byte.
//!
//! *Source:* <https://github.com/huggingface/safetensors#format>: 8 bytes of header length, a JSON header padded with
//! spaces to a multiple of 8, then the tensors without gaps. Left out: writing (`write`).

use mantissa_numerics::Dtype;
use serde_json::{Map, Value, json};

use super::error::SynthError;
use super::spec::SynthSpec;
use super::tensors::SynthTensor;

/// Most shards that the numbering `00001-of-99999` has room for.
const MOST_SHARDS: usize = 99_999;

/// One file of tensors.
pub(super) struct Shard {
    /// File name.
    pub(super) name: String,
    /// Its tensors, in order of their bytes.
    pub(super) tensors: Vec<SynthTensor>,
    /// Length prefix and header.
    pub(super) header: Vec<u8>,
    /// Length of the whole file.
    pub(super) len: u64,
}

/// A run of values of one tensor and its place in the file.
pub(super) struct Piece<'a> {
    pub(super) tensor: &'a SynthTensor,
    pub(super) first: u64,
    pub(super) elements: u64,
    pub(super) offset: u64,
}

impl Shard {
    /// The data of the shard in pieces of at most `most` values.
    pub(super) fn pieces(&self, dtype: Dtype, most: u64) -> Vec<Piece<'_>> {
        let mut pieces = Vec::new();
        let mut offset = self.header.len() as u64;
        for tensor in &self.tensors {
            let mut first = 0;
            while first < tensor.elements() {
                let elements = most.min(tensor.elements() - first);
                pieces.push(Piece { tensor, first, elements, offset });
                first += elements;
                offset += elements * dtype.size() as u64;
            }
        }
        pieces
    }
}

/// Deals the tensors out to shards of at most the spec's size (a larger tensor has a shard to itself).
pub(super) fn shards(spec: &SynthSpec) -> Result<Vec<Shard>, SynthError> {
    let dtype = spec.dtype();
    let mut groups: Vec<Vec<SynthTensor>> = vec![Vec::new()];
    let mut filled = 0_u64;
    for tensor in spec.tensors() {
        let bytes = tensor.bytes(dtype);
        if filled > 0 && filled + bytes > spec.max_shard_bytes() {
            groups.push(Vec::new());
            filled = 0;
        }
        filled += bytes;
        if let Some(group) = groups.last_mut() {
            group.push(tensor);
        }
    }
    let count = groups.len();
    if count > MOST_SHARDS {
        let fault = format!("gives {count} shards, the numbering ends at {MOST_SHARDS}");
        let remedy = format!("use at least {}", spec.total_bytes() / (MOST_SHARDS as u64 / 2));
        return Err(SynthError::setting("max_shard_bytes", spec.max_shard_bytes(), fault, remedy));
    }
    let named = (1..).zip(groups).map(|(number, tensors)| {
        let name = match count {
            1 => "model.safetensors".into(),
            _ => format!("model-{number:05}-of-{count:05}.safetensors"),
        };
        let header = header(&tensors, dtype);
        let data: u64 = tensors.iter().map(|tensor| tensor.bytes(dtype)).sum();
        let len = header.len() as u64 + data;
        Shard { name, tensors, header, len }
    });
    Ok(named.collect())
}

fn header(tensors: &[SynthTensor], dtype: Dtype) -> Vec<u8> {
    let dtype_name = match dtype {
        Dtype::F32 => "F32",
        Dtype::Bf16 => "BF16",
        Dtype::F16 => "F16",
    };
    let mut entries = Map::new();
    entries.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut start = 0_u64;
    for tensor in tensors {
        let end = start + tensor.bytes(dtype);
        let entry = json!({"dtype": dtype_name, "shape": tensor.shape, "data_offsets": [start, end]});
        entries.insert(tensor.name.clone(), entry);
        start = end;
    }
    let mut text = Value::Object(entries).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut text);
    bytes
}
