//! How tensors are laid out in safetensors files: which shard, which header, which byte.
//!
//! *Source:* <https://github.com/huggingface/safetensors#format>: 8 bytes of header length, a JSON header padded with
//! spaces to a multiple of 8, then the tensors without gaps, wider elements first. Left out: writing (`write`).

use serde_json::{Map, Value, json};

use super::error::SynthError;
use super::items::{Item, StoredPart};
use super::spec::SynthSpec;

/// Most shards that the numbering `00001-of-99999` has room for.
const MOST_SHARDS: usize = 99_999;

/// One file of tensors.
pub(super) struct Shard {
    /// File name.
    pub(super) name: String,
    /// The model's tensors in it, in the order of the checkpoint.
    pub(super) items: Vec<Item>,
    /// What is stored of them, in order of their bytes.
    pub(super) entries: Vec<Entry>,
    /// Length prefix and header.
    pub(super) header: Vec<u8>,
    /// Length of the whole file.
    pub(super) len: u64,
}

/// A stored tensor and its place.
pub(super) struct Entry {
    pub(super) name: String,
    dtype: &'static str,
    element_bytes: usize,
    shape: Vec<usize>,
    bytes: u64,
    /// Of which of the shard's items it is a part, and which.
    item: usize,
    part: usize,
    /// First byte, counted from the header's end.
    start: u64,
}

/// A piece of work of one item, and where in the file each of the item's parts begins.
pub(super) struct Piece<'a> {
    pub(super) item: &'a Item,
    pub(super) unit: usize,
    pub(super) starts: Vec<u64>,
}

impl Shard {
    fn new(name: String, items: Vec<Item>) -> Self {
        let entries = entries(&items);
        let header = header(&entries);
        let data: u64 = entries.iter().map(|entry| entry.bytes).sum();
        let len = header.len() as u64 + data;
        Self { name, items, entries, header, len }
    }

    /// All pieces of work.
    pub(super) fn pieces(&self) -> Vec<Piece<'_>> {
        let mut starts: Vec<Vec<(usize, u64)>> = self.items.iter().map(|_| Vec::new()).collect();
        for entry in &self.entries {
            starts[entry.item].push((entry.part, self.header.len() as u64 + entry.start));
        }
        let mut pieces = Vec::new();
        for (item, mut starts) in self.items.iter().zip(starts) {
            starts.sort_unstable();
            let starts: Vec<u64> = starts.into_iter().map(|(_, start)| start).collect();
            pieces.extend((0..item.units()).map(|unit| Piece { item, unit, starts: starts.clone() }));
        }
        pieces
    }
}

/// What is stored of `items`: wider elements first, else in their order, so that every tensor is aligned to its
/// elements.
fn entries(items: &[Item]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (number, item) in items.iter().enumerate() {
        for (part, stored) in item.parts().into_iter().enumerate() {
            let StoredPart { name, dtype, element_bytes, shape, bytes } = stored;
            entries.push(Entry { name, dtype, element_bytes, shape, bytes, item: number, part, start: 0 });
        }
    }
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.element_bytes));
    let mut start = 0;
    for entry in &mut entries {
        entry.start = start;
        start += entry.bytes;
    }
    entries
}

/// Deals the tensors out to shards of at most the spec's size (a larger tensor has a shard to itself; the parts of a
/// matrix stay together).
pub(super) fn shards(spec: &SynthSpec) -> Result<Vec<Shard>, SynthError> {
    let mut groups: Vec<Vec<Item>> = vec![Vec::new()];
    let mut filled = 0_u64;
    for item in spec.items() {
        let bytes = item.bytes();
        if filled > 0 && filled + bytes > spec.max_shard_bytes() {
            groups.push(Vec::new());
            filled = 0;
        }
        filled += bytes;
        if let Some(group) = groups.last_mut() {
            group.push(item);
        }
    }
    let count = groups.len();
    if count > MOST_SHARDS {
        let fault = format!("gives {count} shards, the numbering ends at {MOST_SHARDS}");
        let remedy = format!("use at least {}", spec.total_bytes() / (MOST_SHARDS as u64 / 2));
        return Err(SynthError::setting("max_shard_bytes", spec.max_shard_bytes(), fault, remedy));
    }
    let named = (1..).zip(groups).map(|(number, items)| {
        let name = match count {
            1 => "model.safetensors".into(),
            _ => format!("model-{number:05}-of-{count:05}.safetensors"),
        };
        Shard::new(name, items)
    });
    Ok(named.collect())
}

fn header(entries: &[Entry]) -> Vec<u8> {
    let mut map = Map::new();
    map.insert("__metadata__".into(), json!({"format": "pt"}));
    for Entry { name, dtype, shape, bytes, start, .. } in entries {
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, start + bytes]});
        map.insert(name.clone(), entry);
    }
    let mut text = Value::Object(map).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut text);
    bytes
}
