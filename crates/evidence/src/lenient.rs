//! What other programs write in place of JSON, rewritten into JSON that typed readers accept, with warnings.
//!
//! Python's `json` writes `NaN`, `Infinity` and `-Infinity` for numbers that JSON lacks, others write `nan` and `inf`;
//! text that went through Markdown has backslashes before punctuation (`experiment\_metadata`, `\[`). [`to_json`]
//! rewrites both; [`number`] reads its tagged non-finite numbers. Nothing else is forgiven: every other flaw is left
//! for the reader of the result, at a byte offset that is the file's own if no warning was given.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};

/// What was not JSON.
///
/// Example: [`to_json`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dialect {
    /// A bare `NaN` or `nan`.
    NotANumber,
    /// A bare `Infinity` or `inf`, with or without a sign.
    Infinity,
    /// A backslash before punctuation, as Markdown writes it.
    Escape,
    /// A bare `NaN` or `Infinity` where no number of a row stands, in an experiment.
    Absent,
}

/// One kind of departure from JSON: where it was first met, and how often.
///
/// Example: [`to_json`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What was met.
    pub dialect: Dialect,
    /// Line of the first one, counted from 1.
    pub line: usize,
    /// How many.
    pub count: u64,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.dialect {
            Dialect::NotANumber => "NaN is not JSON; read as not-a-number with the bits of a quiet NaN",
            Dialect::Infinity => "Infinity is not JSON; read as the infinite number of its sign",
            Dialect::Escape => {
                "a backslash before punctuation is Markdown, not JSON; read without the backslash"
            }
            Dialect::Absent => "NaN or Infinity outside a row of numbers is not JSON; read as null",
        };
        let plural = if self.count == 1 { "" } else { "s" };
        write!(f, "line {}: {what} ({} such place{plural})", self.line, self.count)
    }
}

/// Rewrites the tokens of [`Dialect`] into JSON; borrows `bytes` when there are none.
///
/// Outside strings, a bare not-a-number becomes the string `"NaN"`, an infinity `"Infinity"` or `"-Infinity"` (a
/// number such as 1e999 would be refused as out of range): read such fields with [`number`], [`numbers`] or
/// [`Number`]. A backslash before punctuation is dropped outside strings and, unless it is an escape of JSON, inside.
/// There is one warning per dialect, in the order of [`Dialect`].
///
/// ```
/// use mantissa_evidence::lenient::{Dialect, to_json};
///
/// let (json, warnings) = to_json(b"{\"l2\": [0.5, NaN, -Infinity]}");
/// assert_eq!(&json[..], b"{\"l2\": [0.5, \"NaN\", \"-Infinity\"]}");
/// assert_eq!(warnings.iter().map(|warning| warning.dialect).collect::<Vec<_>>(), [
///     Dialect::NotANumber,
///     Dialect::Infinity,
/// ]);
/// assert!(warnings[0].to_string().starts_with("line 1: NaN is not JSON"));
/// ```
#[must_use]
pub fn to_json(bytes: &[u8]) -> (Cow<'_, [u8]>, Vec<Warning>) {
    let mut rewriter = Rewriter { bytes, out: Vec::new(), copied: 0, found: Found::default() };
    let (mut at, mut in_string) = (0, false);
    while let Some(&byte) = bytes.get(at) {
        at = match byte {
            b'"' => {
                in_string = !in_string;
                at + 1
            }
            b'\\' => match bytes.get(at + 1) {
                Some(&next) if is_markdown_escape(next) => rewriter.replace(at, at + 1, b"", Dialect::Escape),
                Some(_) if in_string => at + 2,
                _ => at + 1,
            },
            b'+' | b'-' | b'A'..=b'Z' | b'a'..=b'z' if !in_string => {
                let end = word_end(bytes, at);
                match Special::of(&bytes[at..end]) {
                    Some(special) => rewriter.replace(at, end, special.tag().as_bytes(), special.dialect()),
                    None => end,
                }
            }
            _ => at + 1,
        };
    }
    rewriter.finish()
}

/// Whether a backslash before `byte` is Markdown's and not one of JSON's escapes.
pub(crate) const fn is_markdown_escape(byte: u8) -> bool {
    byte.is_ascii_punctuation() && !matches!(byte, b'"' | b'\\' | b'/')
}

/// One past the sign, letters and digits that begin at `start`; at least one byte.
pub(crate) fn word_end(bytes: &[u8], start: usize) -> usize {
    let rest = bytes[start + 1..].iter();
    start + 1 + rest.take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'.').count()
}

/// A number that JSON lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Special {
    NotANumber,
    Infinite,
    NegativeInfinite,
}

impl Special {
    pub(crate) fn of(word: &[u8]) -> Option<Self> {
        let negative = word.first() == Some(&b'-');
        let name = word.strip_prefix(b"-").or_else(|| word.strip_prefix(b"+")).unwrap_or(word);
        match name {
            b"NaN" | b"nan" => Some(Self::NotANumber),
            b"Infinity" | b"infinity" | b"Inf" | b"inf" if negative => Some(Self::NegativeInfinite),
            b"Infinity" | b"infinity" | b"Inf" | b"inf" => Some(Self::Infinite),
            _ => None,
        }
    }

    pub(crate) const fn dialect(self) -> Dialect {
        match self {
            Self::NotANumber => Dialect::NotANumber,
            Self::Infinite | Self::NegativeInfinite => Dialect::Infinity,
        }
    }

    /// Its number; the NaN is quiet, positive and without payload.
    pub(crate) const fn value(self) -> f32 {
        match self {
            Self::NotANumber => f32::from_bits(0x7fc0_0000),
            Self::Infinite => f32::INFINITY,
            Self::NegativeInfinite => f32::NEG_INFINITY,
        }
    }

    const fn tag(self) -> &'static str {
        match self {
            Self::NotANumber => "\"NaN\"",
            Self::Infinite => "\"Infinity\"",
            Self::NegativeInfinite => "\"-Infinity\"",
        }
    }
}

/// First place and count of each dialect.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Found([Option<(u64, u64)>; 4]);

impl Found {
    pub(crate) fn note(&mut self, dialect: Dialect, offset: u64) {
        let (_, count) = self.0[dialect as usize].get_or_insert((offset, 0));
        *count += 1;
    }

    /// The warnings, each with the line that `line` gives for its first offset.
    pub(crate) fn warnings<E>(
        &self,
        mut line: impl FnMut(u64) -> Result<usize, E>,
    ) -> Result<Vec<Warning>, E> {
        let dialects = [Dialect::NotANumber, Dialect::Infinity, Dialect::Escape, Dialect::Absent];
        let found = dialects.into_iter().zip(self.0).filter_map(|(dialect, found)| Some((dialect, found?)));
        found.map(|(dialect, (offset, count))| Ok(Warning { dialect, line: line(offset)?, count })).collect()
    }
}

struct Rewriter<'a> {
    bytes: &'a [u8],
    out: Vec<u8>,
    /// Bytes of the input that are in `out`, as they were or rewritten.
    copied: usize,
    found: Found,
}

impl<'a> Rewriter<'a> {
    /// Puts `with` in place of the bytes `start..end`; returns where to go on. A dropped backslash takes the byte that
    /// it stood before along, unless that begins a word.
    fn replace(&mut self, start: usize, end: usize, with: &[u8], dialect: Dialect) -> usize {
        self.out.extend_from_slice(&self.bytes[self.copied..start]);
        self.out.extend_from_slice(with);
        self.copied = end;
        self.found.note(dialect, start as u64);
        match self.bytes.get(end) {
            Some(b'+' | b'-') | None => end,
            Some(_) if dialect == Dialect::Escape => end + 1,
            Some(_) => end,
        }
    }

    fn finish(mut self) -> (Cow<'a, [u8]>, Vec<Warning>) {
        let line = |offset: u64| {
            let before = self.bytes.iter().zip(0..offset);
            Ok::<_, std::convert::Infallible>(1 + before.filter(|(byte, _)| **byte == b'\n').count())
        };
        let Ok(warnings) = self.found.warnings(line);
        if warnings.is_empty() {
            return (Cow::Borrowed(self.bytes), warnings);
        }
        self.out.extend_from_slice(&self.bytes[self.copied..]);
        (Cow::Owned(self.out), warnings)
    }
}

/// A number that may be written as [`to_json`] writes the non-finite ones.
///
/// ```
/// use mantissa_evidence::lenient::Number;
///
/// let read: Vec<Number> = serde_json::from_str(r#"[1, 0.5, "Infinity"]"#)?;
/// assert_eq!(read, [Number(1.0), Number(0.5), Number(f64::INFINITY)]);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Number(pub f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        number(deserializer).map(Self)
    }
}

/// A number, or one of the strings `NaN`, `Infinity` and `-Infinity`; for `deserialize_with`.
///
/// ```
/// #[derive(serde::Deserialize)]
/// struct Row {
///     #[serde(deserialize_with = "mantissa_evidence::lenient::number")]
///     distance: f64,
///     #[serde(deserialize_with = "mantissa_evidence::lenient::numbers")]
///     values: Vec<f64>,
/// }
///
/// let row: Row = serde_json::from_str(r#"{"distance": "NaN", "values": [1, "-Infinity"]}"#)?;
/// assert!(row.distance.is_nan());
/// assert_eq!(row.values, [1.0, f64::NEG_INFINITY]);
/// # Ok::<(), serde_json::Error>(())
/// ```
pub fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    struct Either;
    impl Visitor<'_> for Either {
        type Value = f64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number")
        }

        fn visit_f64<E: Error>(self, value: f64) -> Result<f64, E> {
            Ok(value)
        }

        #[expect(
            clippy::cast_precision_loss,
            reason = "rounded to nearest, as a decimal point would make it"
        )]
        fn visit_u64<E: Error>(self, value: u64) -> Result<f64, E> {
            Ok(value as f64)
        }

        #[expect(
            clippy::cast_precision_loss,
            reason = "rounded to nearest, as a decimal point would make it"
        )]
        fn visit_i64<E: Error>(self, value: i64) -> Result<f64, E> {
            Ok(value as f64)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<f64, E> {
            match text {
                "NaN" => Ok(f64::NAN),
                "Infinity" => Ok(f64::INFINITY),
                "-Infinity" => Ok(f64::NEG_INFINITY),
                _ => Err(E::invalid_type(serde::de::Unexpected::Str(text), &self)),
            }
        }
    }
    deserializer.deserialize_any(Either)
}

/// A list of what [`number`] reads; for `deserialize_with`.
///
/// Example: [`number`].
pub fn numbers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    let numbers = Vec::<Number>::deserialize(deserializer)?;
    Ok(numbers.into_iter().map(|number| number.0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(text: &str) -> (String, Vec<String>) {
        let (json, warnings) = to_json(text.as_bytes());
        (
            String::from_utf8(json.into_owned()).expect("stays UTF-8"),
            warnings.iter().map(Warning::to_string).collect(),
        )
    }

    #[test]
    fn strict_json_is_borrowed() {
        let text = br#"{"NaN \\_ \" \u005f inf": [-1.5e-3, true, false, null, "Infinity"]}"#;
        let (json, warnings) = to_json(text);
        assert!(matches!(json, Cow::Borrowed(_)) && warnings.is_empty());
    }

    #[test]
    fn words_and_backslashes_are_rewritten_outside_strings_and_counted() {
        let (json, warnings) = rewritten("[NaN, -nan,\n inf, -Infinity, {\"NaN\": +Inf}, nano, -1.5]");
        let expected =
            "[\"NaN\", \"NaN\",\n \"Infinity\", \"-Infinity\", {\"NaN\": \"Infinity\"}, nano, -1.5]";
        assert_eq!(json, expected);
        let expected = [
            "line 1: NaN is not JSON; read as not-a-number with the bits of a quiet NaN (2 such places)",
            "line 2: Infinity is not JSON; read as the infinite number of its sign (3 such places)",
        ];
        assert_eq!(warnings, expected);
        let (json, warnings) = rewritten(r#"{"a\_b\\_": \[\-3, \-Infinity, "x\-y\[\"\n"\]}"#);
        assert_eq!(json, r#"{"a_b\\_": [-3, "-Infinity", "x-y[\"\n"]}"#);
        let escape = "a backslash before punctuation is Markdown, not JSON; read without the backslash";
        assert_eq!(warnings[1], format!("line 1: {escape} (7 such places)"));
    }

    #[test]
    fn tagged_numbers_read() {
        let (json, _) = to_json(b"[1, -2.5, NaN, Infinity, -inf]");
        let mut deserializer = serde_json::Deserializer::from_slice(&json);
        let found: Vec<u64> =
            numbers(&mut deserializer).expect("numbers").iter().map(|x| x.to_bits()).collect();
        let expected = [1.0, -2.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(f64::to_bits);
        assert_eq!(found, expected);
        let error = serde_json::from_str::<Number>("\"nan\"").expect_err("a plain string");
        assert!(error.to_string().contains("expected a number"), "{error}");
    }
}
