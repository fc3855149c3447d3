//! A file as a tree: objects and lists of JSON, and arrays of npz and safetensors by their names.

use std::collections::BTreeMap;
use std::io::{Cursor, Read as _};
use std::path::Path;

use mantissa_evidence::error::{Flaw, Result};
use mantissa_evidence::files;
use mantissa_numerics::Dtype;
use safetensors::SafeTensors;
use serde_json::Value;

/// A node of a file.
#[derive(Debug)]
pub(super) enum Tree {
    Json(Value),
    /// Arrays by name.
    Named(BTreeMap<String, Array>),
}

/// Numbers in a shape. Each is exact in binary64.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Array {
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f64>,
}

/// The largest member of an archive that is unpacked.
const LARGEST: u64 = 1 << 34;

/// Reads a file by what it begins with.
pub(super) fn read(path: &Path) -> Result<Tree> {
    let bytes = files::map(path)?;
    let flaw = |problem: String| {
        let remedy = "give JSON, JSON Lines, an npz archive or safetensors";
        Flaw::new("content", problem, remedy).in_file(path)
    };
    if bytes.starts_with(b"PK\x03\x04") {
        return npz(&bytes).map_err(flaw);
    }
    let is_text =
        bytes.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| b"{[".contains(byte));
    if !is_text {
        return tensors(&bytes).map_err(flaw);
    }
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok(Tree::Json(value)),
        // A value on each line: a list of them.
        Err(error) => {
            let lines = serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>();
            let values: std::result::Result<Vec<Value>, _> = lines.collect();
            let is_lines = error.line() > 1 && values.as_ref().is_ok_and(|values| values.len() > 1);
            match values {
                Ok(values) if is_lines => Ok(Tree::Json(Value::Array(values))),
                _ => Err(flaw(format!("no JSON at line {}, column {}", error.line(), error.column()))),
            }
        }
    }
}

fn tensors(bytes: &[u8]) -> std::result::Result<Tree, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|_| "of no kind that is read".to_owned())?;
    let mut named = BTreeMap::new();
    for (name, view) in file.tensors() {
        let data = view.data();
        let values: Vec<f64> = match view.dtype() {
            safetensors::Dtype::F32 => decoded(Dtype::F32, data),
            safetensors::Dtype::F16 => decoded(Dtype::F16, data),
            safetensors::Dtype::BF16 => decoded(Dtype::Bf16, data),
            safetensors::Dtype::F64 => numbers::<8>(data, f64::from_le_bytes),
            safetensors::Dtype::I32 => numbers::<4>(data, |b| f64::from(i32::from_le_bytes(b))),
            safetensors::Dtype::U32 => numbers::<4>(data, |b| f64::from(u32::from_le_bytes(b))),
            safetensors::Dtype::I64 => whole(data)?,
            // Of another kind: there, if nothing asks for it.
            _ => continue,
        };
        named.insert(name, Array { shape: view.shape().to_vec(), values });
    }
    Ok(Tree::Named(named))
}

fn decoded(dtype: Dtype, data: &[u8]) -> Vec<f64> {
    (0..data.len() / dtype.size()).map(|at| f64::from(dtype.decode(data, at))).collect()
}

fn numbers<const N: usize>(data: &[u8], read: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    let chunk = |bytes: &[u8]| bytes.try_into().map_or(f64::NAN, &read);
    data.chunks_exact(N).map(chunk).collect()
}

/// 64-bit integers that binary64 holds.
fn whole(data: &[u8]) -> std::result::Result<Vec<f64>, String> {
    let read = |bytes: &[u8]| {
        let number = bytes.try_into().map_or(0, i64::from_le_bytes);
        i32::try_from(number).map(f64::from).map_err(|_| format!("an integer of {number}"))
    };
    data.chunks_exact(8).map(read).collect()
}

fn npz(bytes: &[u8]) -> std::result::Result<Tree, String> {
    let mut archive =
        zip::ZipArchive::new(Cursor::new(bytes)).map_err(|error| format!("no npz archive ({error})"))?;
    let mut named = BTreeMap::new();
    for number in 0..archive.len() {
        let member = archive.by_index(number).map_err(|error| format!("member {number}: {error}"))?;
        let name = member.name().strip_suffix(".npy").unwrap_or(member.name()).to_owned();
        if member.size() > LARGEST {
            return Err(format!("{name}: larger than {LARGEST} bytes"));
        }
        let mut data = Vec::new();
        member.take(LARGEST).read_to_end(&mut data).map_err(|error| format!("{name}: {error}"))?;
        if let Some(array) = npy(&data).map_err(|problem| format!("{name}: {problem}"))? {
            named.insert(name, array);
        }
    }
    Ok(Tree::Named(named))
}

/// An array as numpy writes it; none of a kind that holds no numbers.
///
/// *Source:* numpy.lib.format, versions 1 to 3.
fn npy(data: &[u8]) -> std::result::Result<Option<Array>, String> {
    let wrong = || "no array of numpy".to_owned();
    let rest = data.strip_prefix(b"\x93NUMPY").ok_or_else(wrong)?;
    let (version, rest) = rest.split_at_checked(2).ok_or_else(wrong)?;
    let (length, rest) = match version[0] {
        1 => rest.split_first_chunk::<2>().map(|(n, rest)| (usize::from(u16::from_le_bytes(*n)), rest)),
        2 | 3 => rest.split_first_chunk::<4>().map(|(n, rest)| (u32::from_le_bytes(*n) as usize, rest)),
        _ => None,
    }
    .ok_or_else(wrong)?;
    let (header, body) = rest.split_at_checked(length).ok_or_else(wrong)?;
    let header = std::str::from_utf8(header).map_err(|_| wrong())?;
    let field = |name: &str| header.split_once(&format!("'{name}':")).map(|(_, rest)| rest.trim_start());
    let kind =
        field("descr").and_then(|rest| rest.strip_prefix('\'')?.split('\'').next()).ok_or_else(wrong)?;
    if field("fortran_order").is_none_or(|order| order.starts_with("True")) {
        return Err("its columns come first (fortran_order)".to_owned());
    }
    let shape =
        field("shape").and_then(|rest| rest.strip_prefix('(')?.split(')').next()).ok_or_else(wrong)?;
    let shape = shape.split(',').map(str::trim).filter(|size| !size.is_empty()).map(str::parse);
    let shape: Vec<usize> = shape.collect::<std::result::Result<_, _>>().map_err(|_| wrong())?;
    let values: Vec<f64> = match kind {
        "<f4" => decoded(Dtype::F32, body),
        "<f2" => decoded(Dtype::F16, body),
        "<f8" => numbers::<8>(body, f64::from_le_bytes),
        "<i4" => numbers::<4>(body, |b| f64::from(i32::from_le_bytes(b))),
        "<u4" => numbers::<4>(body, |b| f64::from(u32::from_le_bytes(b))),
        "<i8" => whole(body)?,
        "|u1" => body.iter().map(|byte| f64::from(*byte)).collect(),
        _ => return Ok(None),
    };
    let count = shape.iter().try_fold(1_usize, |all, size| all.checked_mul(*size));
    if count != Some(values.len()) {
        return Err(format!("{} numbers in a shape of {shape:?}", values.len()));
    }
    Ok(Some(Array { shape, values }))
}

/// A list of lists of numbers as an array. *Errors:* what it is instead.
pub(super) fn array(value: &Value) -> std::result::Result<Array, String> {
    let mut shape = Vec::new();
    let mut level = value;
    while let Value::Array(items) = level {
        shape.push(items.len());
        match items.first() {
            Some(first) => level = first,
            None => break,
        }
    }
    let mut values = Vec::new();
    flatten(value, &shape, &mut values)?;
    Ok(Array { shape, values })
}

fn flatten(value: &Value, shape: &[usize], to: &mut Vec<f64>) -> std::result::Result<(), String> {
    match (value, shape.split_first()) {
        (Value::Array(items), Some((length, rest))) if items.len() == *length => {
            items.iter().try_for_each(|item| flatten(item, rest, to))
        }
        (Value::Array(items), Some((length, _))) => {
            Err(format!("lists of {length} and of {} beside each other", items.len()))
        }
        // What some programs write for what is not a number.
        (Value::Null, None) => {
            to.push(f64::NAN);
            Ok(())
        }
        (number, None) => {
            to.push(
                number.as_f64().ok_or_else(|| format!("{} where a number is expected", kind_of(number)))?,
            );
            Ok(())
        }
        (other, Some(_)) => Err(format!("{} where a list is expected", kind_of(other))),
    }
}

const fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
