//! JSON as text: layout on the way out, errors with a line and a remedy on the way in.

use std::io::{self, Write};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use serde_json::ser::Formatter;

use crate::FORMAT_VERSION;
use crate::error::{EvidenceError, Result, one_line};

/// Writes `value` with one key a line and every array of numbers on the line of its key.
pub(crate) fn emit<T: Serialize, W: Write + ?Sized>(value: &T, mut out: &mut W) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, Lines { depth: 0, empty: true });
    value.serialize(&mut serializer)?;
    out.write_all(b"\n")
}

/// Objects are indented by their depth in objects; arrays stay inline.
struct Lines {
    depth: usize,
    empty: bool,
}

impl Lines {
    fn break_line<W: Write + ?Sized>(&self, out: &mut W) -> io::Result<()> {
        out.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| out.write_all(b" "))
    }
}

impl Formatter for Lines {
    fn begin_object<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth += 1;
        self.empty = true;
        out.write_all(b"{")
    }

    fn begin_object_key<W: Write + ?Sized>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.empty = false;
        if !first {
            out.write_all(b",")?;
        }
        self.break_line(out)
    }

    fn begin_object_value<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }

    fn end_object<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth -= 1;
        if !self.empty {
            self.break_line(out)?;
        }
        self.empty = false;
        out.write_all(b"}")
    }
}

/// Parses a whole file of this format.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8], path: &Path) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        // An unknown key of a later version should be reported as that version.
        match later_version(bytes) {
            Some(found) => EvidenceError::Version { path: path.to_owned(), found, known: FORMAT_VERSION },
            None => explain(&error, bytes, path),
        }
    })
}

/// The version a file declares, when it is later than ours: at the top of a manifest, in the metadata of a JSON.
pub(crate) fn later_version(bytes: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Top {
        format_version: Option<u64>,
        experiment_metadata: Option<Metadata>,
    }
    #[derive(Deserialize)]
    struct Metadata {
        mantissa: Option<Provenance>,
    }
    #[derive(Deserialize)]
    struct Provenance {
        format_version: Option<u64>,
    }
    let top: Top = serde_json::from_slice(bytes).ok()?;
    let inner = top.experiment_metadata.and_then(|metadata| metadata.mantissa);
    let found = top.format_version.or(inner.and_then(|provenance| provenance.format_version));
    found.filter(|&found| found > u64::from(FORMAT_VERSION))
}

fn explain(error: &serde_json::Error, bytes: &[u8], path: &Path) -> EvidenceError {
    let (line, column) = (error.line(), error.column());
    let whole = error.to_string();
    let suffix = format!(" at line {line} column {column}");
    let message = one_line(whole.strip_suffix(&suffix).unwrap_or(&whole));
    let (problem, remedy) = match error.classify() {
        Category::Eof if bytes.iter().all(u8::is_ascii_whitespace) => {
            ("the file is empty".to_owned(), "copy or record it again")
        }
        Category::Eof => (format!("the file ends too early ({message})"), "copy or record it again"),
        Category::Syntax if names_non_finite(bytes, line, column) => (
            "NaN and Infinity are not JSON".to_owned(),
            "write null and list the bits under non_finite, or give it to `mantissa analyze` as it is",
        ),
        Category::Syntax => (message, "correct the JSON, or copy it again if it was cut or mixed up"),
        Category::Data | Category::Io => (message, "correct it as docs/format says, or record it again"),
    };
    EvidenceError::Json { path: path.to_owned(), line, column, problem, remedy: remedy.to_owned() }
}

/// Whether the text around the place of a syntax error is one of the words other writers use for non-finite floats.
fn names_non_finite(bytes: &[u8], line: usize, column: usize) -> bool {
    let text = bytes.split(|&b| b == b'\n').nth(line.saturating_sub(1)).unwrap_or_default();
    let start = column.saturating_sub(2).min(text.len());
    let near = &text[start..text.len().min(start + 12)];
    ["NaN", "nan", "Inf", "inf"].iter().any(|word| near.windows(3).any(|w| w == word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_break_lines_and_arrays_do_not() {
        let value = serde_json::json!({"a": [1, [2.5, null]], "b": {}, "c": [{"d": {"e": "x"}}, {}]});
        let mut out = Vec::new();
        emit(&value, &mut out).unwrap();
        let expected = "{\n \"a\": [1,[2.5,null]],\n \"b\": {},\n \"c\": [{\n  \"d\": {\n   \"e\": \"x\"\n  }\n },{}]\n}\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
