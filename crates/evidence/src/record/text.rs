//! The text of one row, from its first byte to its last, to values or ids.

use half::{bf16, f16};
use mantissa_numerics::Dtype;

use super::number::number;
use crate::json::not_a_number_of;
use crate::lenient::{Special, word_end};

/// Why a row cannot be read, and at which byte of it.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) at: usize,
    pub(super) problem: String,
}

type Read<T> = Result<T, Unreadable>;

/// Puts the numbers of `row` into `out` in their storage format; each `null` takes its pattern, or `missing` where it
/// stands for a value that the recorder did not have.
///
/// `NaN` and `Infinity` become the format's quiet NaN and infinity.
pub(super) fn values(
    row: &[u8],
    dtype: Dtype,
    (patterns, missing): (&[(usize, u32)], Option<f32>),
    out: &mut [u8],
) -> Read<()> {
    let mut listed = patterns.iter();
    let mut at = 0;
    let count = out.len() / dtype.size();
    for (index, value) in out.chunks_exact_mut(dtype.size()).enumerate() {
        at = blank(row, at);
        if let Some((found, end)) = number(row, at) {
            if dtype != Dtype::F32 && dtype.round(found).to_bits() != found.to_bits() {
                return Err(Unreadable { at, problem: not_a_number_of(dtype, index, found) });
            }
            put(found, dtype, value);
            at = end;
        } else {
            at = word(row, at, index, (dtype, missing), &mut listed, value)?;
        }
        at = separator(row, at, index + 1 == count)?;
    }
    match listed.next() {
        None => Ok(()),
        Some((index, _)) => {
            let problem = format!("non_finite lists value {index}, which is not null or out of order");
            Err(Unreadable { at: 0, problem })
        }
    }
}

/// The `count` token ids of a row.
pub(super) fn ids(row: &[u8], count: usize) -> Read<Vec<u32>> {
    let (mut ids, mut at) = (Vec::with_capacity(count.min(row.len())), 0);
    for index in 0..count {
        at = blank(row, at);
        let digits = row[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let text = &row[at..at + digits];
        let id = std::str::from_utf8(text).ok().filter(|text| *text == "0" || !text.starts_with('0'));
        let Some(id) = id.and_then(|text| text.parse().ok()) else {
            return Err(Unreadable { at, problem: format!("element {index} is not a token id") });
        };
        ids.push(id);
        at = separator(row, at + digits, index + 1 == count)?;
    }
    Ok(ids)
}

/// A value that is not a number of JSON; returns where it ends.
fn word<'a>(
    row: &[u8],
    at: usize,
    index: usize,
    (dtype, missing): (Dtype, Option<f32>),
    listed: &mut impl Iterator<Item = &'a (usize, u32)>,
    out: &mut [u8],
) -> Read<usize> {
    let end = if at < row.len() { word_end(row, at) } else { at };
    let text = &row[at..end];
    let problem = if text == b"null" {
        if let Some(missing) = missing {
            put(missing, dtype, out);
            return Ok(end);
        }
        if let Some((_, pattern)) = listed.next().filter(|(listed, _)| *listed == index) {
            out.copy_from_slice(&pattern.to_le_bytes()[..dtype.size()]);
            return Ok(end);
        }
        format!("value {index} is null and its bits are not listed under non_finite")
    } else if let Some(special) = Special::of(text) {
        put(special.value(), dtype, out);
        return Ok(end);
    } else {
        format!(
            "value {index}, '{}', is not a number of 32 bits",
            crate::error::one_line(&String::from_utf8_lossy(text))
        )
    };
    Err(Unreadable { at, problem })
}

/// Passes the comma after an element, or checks that the row ends after the last one.
fn separator(row: &[u8], at: usize, last: bool) -> Read<usize> {
    let at = blank(row, at);
    match row.get(at) {
        None if last => Ok(at),
        Some(b',') if !last => Ok(at + 1),
        _ => Err(Unreadable { at, problem: "expected a comma or the end of the row".to_owned() }),
    }
}

/// One past the blanks, and the backslashes of Markdown (the scanner has refused any other), from `at` on.
fn blank(row: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t' | b'\\') = row.get(at) {
        at += 1;
    }
    at
}

fn put(value: f32, dtype: Dtype, out: &mut [u8]) {
    match dtype {
        Dtype::F32 => out.copy_from_slice(&value.to_bits().to_le_bytes()),
        Dtype::Bf16 => out.copy_from_slice(&bf16::from_f32(value).to_bits().to_le_bytes()),
        Dtype::F16 => out.copy_from_slice(&f16::from_f32(value).to_bits().to_le_bytes()),
    }
}
