//! Files of `torch.save`: a zip archive with a pickle of what was saved and a raw file for each storage.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use mantissa_evidence::EvidenceError;
use mantissa_numerics::Dtype;
use zip::{CompressionMethod, ZipArchive};

use super::found::refused;
use super::pickle::{Item, Pickle, TensorRef};

/// Longest pickle that is read: names and shapes, no values.
const MAX_PICKLE: u64 = 64 << 20;

/// A tensor of an archive.
pub(super) type TorchTensor = TensorRef;

/// What a file holds: by name, one tensor or several.
pub(super) type Saved = Vec<(String, Vec<TorchTensor>)>;

const REMEDY: &str = "save tensors alone with torch.save, or save them with safetensors and read them with `mantissa \
                      import --map`";

type Archive = ZipArchive<BufReader<File>>;

fn archive(path: &Path) -> Result<Archive, EvidenceError> {
    let file = File::open(path).map_err(|source| EvidenceError::Io {
        path: path.to_owned(),
        action: "read it",
        source,
        remedy: "check the path and its permissions",
    })?;
    ZipArchive::new(BufReader::new(file)).map_err(|error| {
        let what = format!("no archive of torch.save since PyTorch 1.6 ({error})");
        refused(path, &what, "save it again with a newer PyTorch")
    })
}

/// The folder inside an archive that all its files are in.
fn prefix(path: &Path, archive: &Archive) -> Result<String, EvidenceError> {
    let mut pickles = archive.file_names().filter_map(|name| name.strip_suffix("data.pkl"));
    match (pickles.next(), pickles.next()) {
        (Some(prefix), None) => Ok(prefix.to_owned()),
        _ => Err(refused(path, "an archive without one data.pkl", "give a file of torch.save")),
    }
}

/// Reads an entry of at most `limit` bytes.
fn entry(path: &Path, archive: &mut Archive, name: &str, limit: u64) -> Result<Vec<u8>, EvidenceError> {
    let damaged =
        |problem: String| refused(path, &format!("an archive of which {name} {problem}"), "copy it again");
    let entry = archive.by_name(name).map_err(|error| damaged(format!("cannot be read ({error})")))?;
    if entry.compression() != CompressionMethod::Stored || entry.size() > limit {
        return Err(damaged("is compressed, or longer than it can be".to_owned()));
    }
    let mut bytes = Vec::new();
    entry
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| damaged(format!("cannot be read ({error})")))?;
    Ok(bytes)
}

/// The tensors of a file: of a dictionary by its keys, of the dumper's `{"value": …, "meta": …}` and of a tensor alone
/// under no name.
pub(super) fn saved(path: &Path) -> Result<Saved, EvidenceError> {
    let mut archive = archive(path)?;
    let prefix = prefix(path, &archive)?;
    if archive.file_names().any(|name| name == format!("{prefix}byteorder")) {
        let order = entry(path, &mut archive, &format!("{prefix}byteorder"), 16)?;
        if order != b"little" {
            return Err(refused(path, "a file with big-endian values", REMEDY));
        }
    }
    let bytes = entry(path, &mut archive, &format!("{prefix}data.pkl"), MAX_PICKLE)?;
    let pickle = Pickle::read(&bytes)
        .map_err(|problem| refused(path, &format!("a pickle that is not read: {problem}"), REMEDY))?;
    let tensors = |item: &Item| -> Vec<TorchTensor> {
        match item {
            Item::Tensor(tensor) => vec![tensor.clone()],
            Item::Sequence(parts) => {
                let parts = parts.iter().filter_map(|part| match pickle.item(*part) {
                    Item::Tensor(tensor) => Some(tensor.clone()),
                    _ => None,
                });
                parts.collect()
            }
            _ => Vec::new(),
        }
    };
    let Item::Dict(entries) = pickle.root() else { return Ok(vec![(String::new(), tensors(pickle.root()))]) };
    let named = entries.iter().filter_map(|(key, value)| match pickle.item(*key) {
        Item::Text(key) => Some((key.as_str(), pickle.item(*value))),
        _ => None,
    });
    let named: Vec<(&str, &Item)> = named.collect();
    if let [("value", value), ("meta", _)] = named[..] {
        return Ok(vec![(String::new(), tensors(value))]);
    }
    Ok(named.into_iter().map(|(key, value)| (key.to_owned(), tensors(value))).collect())
}

/// The storage format of values, if they are floating-point ones that a trace has.
pub(super) fn dtype(tensor: &TorchTensor) -> Option<Dtype> {
    match tensor.storage.kind.as_str() {
        "Float" => Some(Dtype::F32),
        "BFloat16" => Some(Dtype::Bf16),
        "Half" => Some(Dtype::F16),
        _ => None,
    }
}

/// Elements of a tensor; `None` where it has more than its storage.
pub(super) fn elements(tensor: &TorchTensor) -> Option<u64> {
    let all = tensor.shape.iter().try_fold(1_u64, |all, size| all.checked_mul(*size))?;
    (all <= tensor.storage.elements && tensor.shape.len() == tensor.strides.len()).then_some(all)
}

/// The values of a tensor as stored, row by row.
pub(super) fn values(path: &Path, tensor: &TorchTensor) -> Result<Vec<u8>, EvidenceError> {
    let size = match tensor.storage.kind.as_str() {
        "Long" | "Double" => 8,
        "Float" | "Int" => 4,
        "BFloat16" | "Half" | "Short" => 2,
        kind => return Err(refused(path, &format!("a file with values of torch.{kind}Storage"), REMEDY)),
    };
    let mut archive = archive(path)?;
    let name = format!("{}data/{}", prefix(path, &archive)?, tensor.storage.key);
    let lies = || {
        refused(path, &format!("an archive of which {name} is no storage of its tensors"), "copy it again")
    };
    let length = tensor.storage.elements.checked_mul(size).ok_or_else(lies)?;
    let bytes = entry(path, &mut archive, &name, length)?;
    if bytes.len() as u64 != length {
        return Err(lies());
    }
    let all = elements(tensor).ok_or_else(lies)?;
    let last = |(size, stride): (&u64, &u64)| size.checked_sub(1)?.checked_mul(*stride);
    let last = tensor
        .shape
        .iter()
        .zip(&tensor.strides)
        .map(last)
        .try_fold(tensor.offset, |at, more| at.checked_add(more?));
    if all > 0 && last.is_none_or(|last| last >= tensor.storage.elements) {
        return Err(lies());
    }
    let place = |number: u64| usize::try_from(number).map_err(|_| lies());
    let (size, all) = (place(size)?, place(all)?);
    let mut out = Vec::with_capacity(all * size);
    let mut index = vec![0; tensor.shape.len()];
    for _ in 0..all {
        let at: u64 =
            tensor.offset + index.iter().zip(&tensor.strides).map(|(at, stride)| at * stride).sum::<u64>();
        let at = place(at)? * size;
        out.extend_from_slice(&bytes[at..at + size]);
        for (at, size) in index.iter_mut().zip(&tensor.shape).rev() {
            *at += 1;
            if *at < *size {
                break;
            }
            *at = 0;
        }
    }
    Ok(out)
}

/// Whole numbers of a tensor.
pub(super) fn numbers(path: &Path, tensor: &TorchTensor) -> Result<Vec<i64>, EvidenceError> {
    let bytes = values(path, tensor)?;
    match tensor.storage.kind.as_str() {
        "Long" => Ok(bytes
            .chunks_exact(8)
            .map(|word| i64::from_le_bytes(word.try_into().unwrap_or_default()))
            .collect()),
        "Int" => {
            let int = |word: &[u8]| i64::from(i32::from_le_bytes(word.try_into().unwrap_or_default()));
            Ok(bytes.chunks_exact(4).map(int).collect())
        }
        kind => Err(refused(path, &format!("a file whose ids are of torch.{kind}Storage"), REMEDY)),
    }
}
