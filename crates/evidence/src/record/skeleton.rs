//! An experiment JSON without its rows: the structure is kept to be parsed, each row becomes a number that names it.
//!
//! One pass over the file in a window of fixed size. What is not a row is copied to a skeleton, which serde_json and
//! the types of the format then judge; bytes of rows are only classified ([`super::scan`]). Rows are the arrays under
//! `hidden_states`, `key_vectors`, `logprobs` and `sites` of a step; nothing but objects and arrays may stand there, so
//! no text of the file is taken for a row's name. Departures from JSON that [`crate::lenient`] knows are corrected and
//! counted.

use std::io;

use serde::Deserialize;

use super::scan;
use super::source::Source;
use crate::lenient::{Dialect, Found, Special, is_markdown_escape};

/// Bytes of the file held at a time.
const WINDOW: usize = 1 << 18;
/// Largest skeleton, with its rows' places, of one run, of the metadata or of the configurations.
const MAX_SKELETON: usize = 64 << 20;
/// Largest text of one row: some three million values.
const MAX_ROW: u64 = 64 << 20;
/// As serde_json has it.
const MAX_DEPTH: usize = 127;
/// Longest word outside strings: no number needs more.
const MAX_WORD: usize = 1024;

const COPY_AGAIN: &str = "correct the JSON, or copy it again if it was cut or mixed up";
const CORRECT: &str = "correct it as docs/format/experiment-json.md says";

/// Why a pass ended.
#[derive(Debug)]
pub(super) enum Stop {
    Io(io::Error),
    Broken(Broken),
    Invalid(crate::error::EvidenceError),
}

/// A flaw of the text.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) offset: u64,
    pub(super) problem: String,
    pub(super) remedy: &'static str,
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<crate::error::EvidenceError> for Stop {
    fn from(error: crate::error::EvidenceError) -> Self {
        Self::Invalid(error)
    }
}

type Scan<T> = Result<T, Stop>;

/// The text between the brackets of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// Byte after the bracket.
    pub(super) offset: u64,
    /// Bytes before the closing one.
    pub(super) bytes: u32,
    /// Elements, by their commas.
    pub(super) values: u32,
}

/// A row in a skeleton: which of the spans it is.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Named(pub(super) usize);

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl<'de> serde::de::Visitor<'de> for Name {
            type Value = Named;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an array of numbers")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut access: A) -> Result<Named, A::Error> {
                let missing = || serde::de::Error::invalid_length(0, &self);
                Ok(Named(access.next_element()?.ok_or_else(missing)?))
            }
        }
        deserializer.deserialize_seq(Name)
    }
}

/// Where in the structure a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Run,
    Prefill,
    Steps,
    Step,
    Rows,
    Any,
}

impl Place {
    fn member(self, key: &str) -> Self {
        match (self, key) {
            (Self::Run, "prefill") => Self::Prefill,
            (Self::Run, "decode_steps") => Self::Steps,
            (Self::Prefill | Self::Step, "hidden_states" | "key_vectors" | "logprobs" | "sites")
            | (Self::Rows, _) => Self::Rows,
            _ => Self::Any,
        }
    }

    const fn element(self) -> Self {
        match self {
            Self::Steps => Self::Step,
            _ => Self::Any,
        }
    }

    /// What must stand here where `first` begins the value; `None` when it may.
    const fn refuses(self, first: u8) -> Option<&'static str> {
        match (self, first) {
            (Self::Any, _)
            | (Self::Prefill, b'n')
            | (Self::Steps | Self::Rows, b'[')
            | (Self::Run | Self::Prefill | Self::Step | Self::Rows, b'{') => None,
            (Self::Steps, _) => Some("expected an array of steps"),
            (Self::Rows, _) => Some("expected an array of numbers, or an object of rows"),
            _ => Some("expected an object"),
        }
    }
}

/// A part of the document whose skeleton is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Metadata,
    Configurations,
    Run,
}

/// A pass over a file.
#[derive(Debug)]
pub(super) struct Scanner<'s> {
    source: &'s Source,
    window: Vec<u8>,
    /// Place in the file of the window's first byte.
    base: u64,
    at: usize,
    filled: usize,
    skeleton: Vec<u8>,
    /// Bytes of the skeleton and of the file that go on in step from there.
    marks: Vec<(usize, u64)>,
    /// Rows of the part that is being read.
    rows: Vec<Span>,
    found: Found,
}

impl<'s> Scanner<'s> {
    pub(super) fn new(source: &'s Source) -> Self {
        Self {
            source,
            window: vec![0; WINDOW],
            base: 0,
            at: 0,
            filled: 0,
            skeleton: Vec::new(),
            marks: Vec::new(),
            rows: Vec::new(),
            found: Found::default(),
        }
    }

    /// The departures from JSON that were mended.
    pub(super) const fn found(&self) -> &Found {
        &self.found
    }

    /// The rows of the part that was read last.
    pub(super) const fn rows(&self) -> &Vec<Span> {
        &self.rows
    }

    /// The part that was read last, as JSON; rows are [`Named`].
    pub(super) fn parse<T: serde::de::DeserializeOwned>(&self) -> Scan<T> {
        serde_json::from_slice(&self.skeleton).map_err(|error| {
            // The skeleton is one line: strings hold no line ends and blanks become spaces.
            let column = error.column().saturating_sub(1);
            let mark = self.marks.partition_point(|(from, _)| *from <= column).saturating_sub(1);
            let (from, offset) = self.marks.get(mark).copied().unwrap_or_default();
            let whole = error.to_string();
            let suffix = format!(" at line {} column {}", error.line(), error.column());
            let problem = crate::error::one_line(whole.strip_suffix(&suffix).unwrap_or(&whole));
            let remedy = if error.is_data() { CORRECT } else { COPY_AGAIN };
            Stop::Broken(Broken { offset: offset + column.saturating_sub(from) as u64, problem, remedy })
        })
    }

    /// Whether the part that was read last has `text`, for telling a later version from a flaw.
    pub(super) fn skeleton(&self) -> &[u8] {
        &self.skeleton
    }

    /// Reads the whole document and hands each part to `complete` as soon as it is there.
    pub(super) fn document(&mut self, mut complete: impl FnMut(&mut Self, Part) -> Scan<()>) -> Scan<()> {
        let known = ["experiment_metadata", "configurations", "runs"];
        let mut seen = [false; 3];
        match self.peek()? {
            None => return self.broken("the file is empty", "copy or record it again"),
            Some(b'{') => self.at += 1,
            Some(_) => return self.broken("expected an object", CORRECT),
        }
        let mut first = true;
        loop {
            match self.token()? {
                b'}' if first => break self.at += 1,
                b'"' => (),
                _ => return self.broken("expected a key", COPY_AGAIN),
            }
            first = false;
            let key_offset = self.offset();
            self.begin();
            let key = self.key()?;
            let Some(index) = known.iter().position(|name| *name == key) else {
                let problem = format!(
                    "unknown field `{}`, expected one of `{}`",
                    crate::error::one_line(&key),
                    known.join("`, `")
                );
                return Err(Stop::Broken(Broken { offset: key_offset, problem, remedy: CORRECT }));
            };
            if std::mem::replace(&mut seen[index], true) {
                let problem = format!("duplicate field `{key}`");
                return Err(Stop::Broken(Broken { offset: key_offset, problem, remedy: CORRECT }));
            }
            self.expect(b':', "expected a colon")?;
            match index {
                0 | 1 => {
                    self.token()?;
                    self.begin();
                    self.value(Place::Any, 1)?;
                    complete(self, if index == 0 { Part::Metadata } else { Part::Configurations })?;
                }
                _ => self.runs(&mut complete)?,
            }
            match self.token()? {
                b',' => self.at += 1,
                b'}' => break self.at += 1,
                _ => return self.broken("expected a comma or the end of the object", COPY_AGAIN),
            }
        }
        if self.peek()?.is_some() {
            return self.broken("trailing characters", COPY_AGAIN);
        }
        match seen.iter().position(|seen| !seen) {
            Some(index) => self.broken(format!("missing field `{}`", known[index]), CORRECT),
            None => Ok(()),
        }
    }

    fn runs(&mut self, complete: &mut impl FnMut(&mut Self, Part) -> Scan<()>) -> Scan<()> {
        if self.token()? != b'[' {
            return self.broken("expected an array of runs", CORRECT);
        }
        self.at += 1;
        if self.token()? == b']' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.token()?;
            self.begin();
            self.value(Place::Run, 2)?;
            complete(self, Part::Run)?;
            match self.token()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.broken("expected a comma or the end of the array", COPY_AGAIN),
            }
        }
    }

    /// Starts a new part at the next byte.
    fn begin(&mut self) {
        self.skeleton.clear();
        self.marks.clear();
        self.rows.clear();
        self.mark();
    }

    fn value(&mut self, place: Place, depth: usize) -> Scan<()> {
        let first = self.token()?;
        if let Some(problem) = place.refuses(first) {
            return self.broken(problem, CORRECT);
        }
        if depth > MAX_DEPTH && matches!(first, b'{' | b'[') {
            return self.broken("recursion limit exceeded", COPY_AGAIN);
        }
        match first {
            b'{' => self.object(place, depth),
            b'[' if place == Place::Rows => self.row(),
            b'[' => self.array(place, depth),
            b'"' => self.string(),
            _ => self.word(),
        }
    }

    fn object(&mut self, place: Place, depth: usize) -> Scan<()> {
        self.copy();
        if self.token()? == b'}' {
            self.copy();
            return Ok(());
        }
        loop {
            if self.token()? != b'"' {
                return self.broken("expected a key", COPY_AGAIN);
            }
            let key = self.key()?;
            let member = place.member(&key);
            self.expect(b':', "expected a colon")?;
            self.value(member, depth + 1)?;
            match self.token()? {
                b',' => self.copy(),
                b'}' => {
                    self.copy();
                    return Ok(());
                }
                _ => return self.broken("expected a comma or the end of the object", COPY_AGAIN),
            }
        }
    }

    fn array(&mut self, place: Place, depth: usize) -> Scan<()> {
        self.copy();
        if self.token()? == b']' {
            self.copy();
            return Ok(());
        }
        loop {
            self.value(place.element(), depth + 1)?;
            match self.token()? {
                b',' => self.copy(),
                b']' => {
                    self.copy();
                    return Ok(());
                }
                _ => return self.broken("expected a comma or the end of the array", COPY_AGAIN),
            }
        }
    }

    /// Copies a string and returns it as a key.
    fn key(&mut self) -> Scan<String> {
        let (start, offset) = (self.skeleton.len(), self.offset());
        self.string()?;
        serde_json::from_slice(&self.skeleton[start..]).map_err(|error| {
            let problem = crate::error::one_line(&error.to_string());
            Stop::Broken(Broken { offset, problem, remedy: COPY_AGAIN })
        })
    }

    fn string(&mut self) -> Scan<()> {
        self.copy();
        loop {
            let rest = &self.window[self.at..self.filled];
            let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
            self.skeleton.extend_from_slice(&rest[..plain.unwrap_or(rest.len())]);
            self.at += plain.unwrap_or(rest.len());
            self.bounded()?;
            match self.byte(0)? {
                None => return self.ends_early(),
                Some(b'"') => {
                    self.copy();
                    return Ok(());
                }
                Some(b'\\') => match self.byte(1)? {
                    Some(next) if is_markdown_escape(next) => self.mend(Dialect::Escape, b""),
                    Some(0x20..) => {
                        self.copy();
                        self.copy();
                    }
                    None => return self.ends_early(),
                    Some(_) => return self.broken("control character in a string", COPY_AGAIN),
                },
                Some(0..0x20) => return self.broken("control character in a string", COPY_AGAIN),
                Some(_) => (),
            }
        }
    }

    /// Copies a number, `true`, `false` or `null`; what it spells is for the parser of the skeleton.
    fn word(&mut self) -> Scan<()> {
        let (start, offset) = (self.skeleton.len(), self.offset());
        while let Some(byte @ (b'+' | b'-' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z')) =
            self.byte(0)?
        {
            self.skeleton.push(byte);
            self.at += 1;
            if self.skeleton.len() - start > MAX_WORD {
                return self.broken("a word or number of more than 1024 characters", COPY_AGAIN);
            }
        }
        if self.skeleton.len() == start {
            return self.broken("expected a value", COPY_AGAIN);
        }
        if Special::of(&self.skeleton[start..]).is_some() {
            self.found.note(Dialect::Absent, offset);
            self.skeleton.truncate(start);
            self.skeleton.extend_from_slice(b"null");
            self.mark();
        }
        self.bounded()
    }

    /// Passes over a row and leaves its name.
    fn row(&mut self) -> Scan<()> {
        let mark = self.offset();
        self.at += 1;
        let offset = self.offset();
        let (mut commas, mut words) = (0_usize, false);
        loop {
            let seen = scan::row(&self.window[self.at..self.filled]);
            self.at += seen.bytes;
            commas += seen.commas;
            words |= seen.words;
            if self.offset() - offset > MAX_ROW {
                return self.broken("a row of more than 64 MiB", CORRECT);
            }
            let window_ended = self.at == self.filled;
            match self.byte(0)? {
                None => return self.ends_early(),
                Some(b']') => break,
                Some(_) if window_ended => (),
                Some(_) => return self.broken("a row holds something other than numbers", CORRECT),
            }
        }
        let bytes = self.offset() - offset;
        if words || commas == 0 {
            let (mut text, size) = (Vec::new(), usize::try_from(bytes).unwrap_or(usize::MAX));
            self.source.append(offset, size, &mut text)?;
            if text.iter().all(u8::is_ascii_whitespace) {
                return self.name_row(mark, Span { offset, bytes: 0, values: 0 });
            }
            self.words(offset, &text)?;
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.name_row(mark, Span { offset, bytes, values: u32::try_from(commas + 1).unwrap_or(u32::MAX) })
    }

    /// Leaves a row's name in the skeleton; the next byte is the closing bracket.
    fn name_row(&mut self, mark: u64, span: Span) -> Scan<()> {
        self.marks.push((self.skeleton.len(), mark));
        self.skeleton.extend_from_slice(format!("[{}", self.rows.len()).as_bytes());
        self.rows.push(span);
        self.mark();
        self.copy();
        self.bounded()
    }

    /// Looks at the elements of a row that has words or backslashes among its numbers.
    fn words(&mut self, offset: u64, text: &[u8]) -> Scan<()> {
        let mut start = 0;
        for element in text.split(|byte| *byte == b',') {
            let place = offset + start as u64;
            start += element.len() + 1;
            // A backslash stands before the punctuation that Markdown escapes, or before the row's closing bracket.
            let mut word = Vec::with_capacity(element.len());
            for (at, &byte) in element.iter().enumerate() {
                let next = text.get(start - element.len() - 1 + at + 1);
                if byte != b'\\' {
                    word.push(byte);
                } else if next.is_none_or(|&next| is_markdown_escape(next)) {
                    self.found.note(Dialect::Escape, place);
                } else {
                    let problem = "a backslash before no punctuation".to_owned();
                    return Err(Stop::Broken(Broken { offset: place, problem, remedy: CORRECT }));
                }
            }
            let word = word.trim_ascii();
            if let Some(special) = Special::of(word) {
                self.found.note(special.dialect(), place);
            } else if word != b"null"
                && word.iter().any(|byte| byte.is_ascii_alphabetic() && !matches!(byte, b'e' | b'E'))
            {
                let problem =
                    format!("'{}' is not a number", crate::error::one_line(&String::from_utf8_lossy(word)));
                return Err(Stop::Broken(Broken { offset: place, problem, remedy: CORRECT }));
            }
        }
        Ok(())
    }

    /// Copies the next byte, which the caller has seen.
    fn copy(&mut self) {
        self.skeleton.push(self.window[self.at]);
        self.at += 1;
    }

    /// Puts `with` in place of the next byte.
    fn mend(&mut self, dialect: Dialect, with: &[u8]) {
        self.found.note(dialect, self.offset());
        self.skeleton.extend_from_slice(with);
        self.at += 1;
        self.mark();
        if self.at < self.filled {
            self.copy();
        }
    }

    fn mark(&mut self) {
        self.marks.push((self.skeleton.len(), self.offset()));
    }

    fn expect(&mut self, byte: u8, problem: &str) -> Scan<()> {
        if self.token()? != byte {
            return self.broken(problem, COPY_AGAIN);
        }
        self.copy();
        Ok(())
    }

    /// The next byte that is not blank, which stays; the file must go on.
    fn token(&mut self) -> Scan<u8> {
        match self.peek()? {
            Some(byte) => Ok(byte),
            None => self.ends_early(),
        }
    }

    /// The next byte that is not blank, which stays; `None` at the end.
    fn peek(&mut self) -> Scan<Option<u8>> {
        let start = self.offset();
        loop {
            let rest = &self.window[self.at..self.filled];
            let blank = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
            self.at += blank;
            match self.byte(0)? {
                Some(b' ' | b'\t' | b'\n' | b'\r') => (),
                Some(b'\\') if self.byte(1)?.is_some_and(is_markdown_escape) => {
                    self.found.note(Dialect::Escape, self.offset());
                    self.at += 1;
                }
                byte => {
                    if self.offset() != start {
                        self.mark();
                    }
                    return Ok(byte);
                }
            }
        }
    }

    /// The byte `ahead` of the next, which stays; the window moves on when it must.
    fn byte(&mut self, ahead: usize) -> Scan<Option<u8>> {
        if self.at + ahead >= self.filled {
            self.window.copy_within(self.at..self.filled, 0);
            self.base += self.at as u64;
            self.filled -= self.at;
            self.at = 0;
            let from = self.base + self.filled as u64;
            self.filled += self.source.read(from, &mut self.window[self.filled..])?;
        }
        Ok(self.window[..self.filled].get(self.at + ahead).copied())
    }

    const fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    fn bounded(&self) -> Scan<()> {
        let marks = self.marks.len() * size_of::<(usize, u64)>();
        if self.skeleton.len() + marks + self.rows.len() * size_of::<Span>() > MAX_SKELETON {
            return self.broken(
                "more than 64 MiB besides the rows of one run",
                "split the run, or write a container",
            );
        }
        Ok(())
    }

    fn ends_early<T>(&self) -> Scan<T> {
        self.broken("the file ends too early", "copy or record it again")
    }

    fn broken<T>(&self, problem: impl Into<String>, remedy: &'static str) -> Scan<T> {
        Err(Stop::Broken(Broken { offset: self.offset(), problem: problem.into(), remedy }))
    }
}
