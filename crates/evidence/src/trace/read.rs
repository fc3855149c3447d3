//! Reading a trace, one line at a time.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use mantissa_numerics::{Phase, Site};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::event::{StageTrace, TraceHash};
use super::header::{TRACE_VERSION, TraceEnd, TraceHeader};
use super::shown::Printed;
use super::{foreign, founding};
use crate::digest::Digest;
use crate::error::{EvidenceError, Flaw, Result, one_line};
use crate::files;

/// Longest line that is read, in bytes: an event of half a million rows.
const MAX_LINE: usize = 64 << 20;

/// A line of a trace.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Line<H, E> {
    /// The first line.
    TraceHeader(H),
    /// Every line between.
    StageTrace(E),
    /// The last line.
    TraceEnd(TraceEnd),
}

/// Which program's form a trace has.
///
/// Example: [`TraceReader`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceKind {
    /// As `docs/format/trace.md` describes it.
    Own,
    /// Events without a header, hashes by a rule that is not known, layers counted from 0.
    Founding,
}

/// Reads a trace event by event; its memory is that of the header and the longest line.
///
/// Lines of this program's own form are in one order: prompts as in the header, passes ascending, sites as computed.
/// Events without a header are read too. Their layers are counted from 0, and are counted from 1 here. Their phase
/// `prefill_last` is the last row of a prefill, `decode0` a decode step.
///
/// *Errors:* each with its line: text that is no event, a line longer than 64 MiB, an event that contradicts itself,
/// the header, or the order; an end that is missing or says otherwise (traces of version 1 have none).
///
/// ```
/// use mantissa_evidence::trace::{TraceKind, TraceReader};
/// use mantissa_numerics::{Phase, Point, Site};
///
/// let text = br#"{"event": "stage_trace", "prompt_id": "p0_short", "phase": "decode0", "point": "attn_out",
///     "layer": 0, "step": 1, "pos_id": 37, "seq_len": 1, "hash": 10153995460507501903, "min": -0.00519423,
///     "max": 0.00725079, "mean": -0.0000474128}"#;
/// let mut reader = TraceReader::new(&text[..], "trace.jsonl".as_ref())?;
/// assert_eq!((reader.kind(), reader.header()), (TraceKind::Founding, None));
/// let event = reader.next().expect("one event")?;
/// assert_eq!((event.phase, event.site()), (Phase::Decode, Some(Site::at(1, Point::AttnOut))));
/// # Ok::<(), mantissa_evidence::EvidenceError>(())
/// ```
#[derive(Debug)]
pub struct TraceReader<R> {
    input: R,
    origin: PathBuf,
    /// Lines read.
    line: usize,
    /// The first line, where it is an event.
    first: Option<Vec<u8>>,
    header: Option<TraceHeader>,
    /// Prompt, pass and site of the last event.
    last: Option<(usize, u64, Site)>,
    /// Whether nothing more is read: there was an error, or the end.
    done: bool,
    /// Events so far.
    events: u64,
    /// Of all lines so far.
    hasher: blake3::Hasher,
}

impl TraceReader<BufReader<File>> {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(told) = foreign::of_path(path) {
            return Err(told);
        }
        Self::new(BufReader::with_capacity(1 << 20, files::open(path)?), path)
    }
}

impl<R: BufRead> TraceReader<R> {
    /// Reads the header, if there is one; `origin` names the input in errors.
    pub fn new(input: R, origin: &Path) -> Result<Self> {
        let origin = origin.to_owned();
        let mut reader = Self {
            input,
            origin,
            line: 0,
            first: None,
            header: None,
            last: None,
            done: false,
            events: 0,
            hasher: blake3::Hasher::new(),
        };
        let Some(line) = reader.next_line()? else {
            let what = "an empty file".to_owned();
            let remedy = "give a trace: `mantissa trace` makes one".to_owned();
            return Err(EvidenceError::NotEvidence { path: reader.origin, what, remedy });
        };
        if reader.is_header(&line)? {
            reader.hasher.update(&line);
            let line = reader.parse::<Line<TraceHeader, serde::de::IgnoredAny>>(&line)?;
            let Line::TraceHeader(header) = line else { unreachable!("its event is trace_header") };
            lawful(&header).map_err(|flaw| reader.fault(flaw))?;
            reader.header = Some(header);
        } else {
            if !line.trim_ascii_start().starts_with(b"{") {
                return Err(reader.no_trace(line)?);
            }
            reader.first = Some(line);
        }
        Ok(reader)
    }

    /// The header; `None` in the form without one.
    #[must_use]
    pub const fn header(&self) -> Option<&TraceHeader> {
        self.header.as_ref()
    }

    /// Which program's form the trace has.
    #[must_use]
    pub const fn kind(&self) -> TraceKind {
        if self.header.is_some() { TraceKind::Own } else { TraceKind::Founding }
    }

    /// Whether the file says where it ends, so that a cut is seen: not before version 2, nor without a header.
    #[must_use]
    pub fn has_end(&self) -> bool {
        self.header.as_ref().is_some_and(|header| header.version > 1)
    }

    /// Whether the first line is a header, of a version that is known.
    fn is_header(&self, line: &[u8]) -> Result<bool> {
        #[derive(Deserialize)]
        struct Kind {
            event: Option<String>,
            version: Option<u64>,
        }
        // A line that is no JSON may be the first of an event that spans several.
        let kind = serde_json::from_slice(line).unwrap_or(Kind { event: None, version: None });
        match (kind.event.as_deref(), kind.version) {
            (Some("trace_header"), Some(found)) if !(1..=u64::from(TRACE_VERSION)).contains(&found) => {
                Err(EvidenceError::Version { path: self.origin.clone(), found, known: TRACE_VERSION })
            }
            (event, _) => Ok(event == Some("trace_header")),
        }
    }

    /// What is said of text that does not begin as a trace.
    fn no_trace(&mut self, first: Vec<u8>) -> Result<EvidenceError> {
        let parsed = self.parse::<serde::de::IgnoredAny>(&first);
        let flaw = Flaw::new("event", "no JSON object", REMEDY);
        let fault = parsed.err().unwrap_or_else(|| self.fault(flaw));
        let mut line = Some(first);
        for _ in 0..foreign::LOG_LINES {
            let Some(text) = line else { break };
            if let Some(told) = foreign::of_line(&self.origin, &text) {
                return Ok(told);
            }
            line = self.next_line()?;
        }
        Ok(fault)
    }

    /// The next line that is not blank, without its end; `None` after the last.
    fn next_line(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            let mut line = Vec::new();
            let read = self.input.by_ref().take(MAX_LINE as u64 + 1).read_until(b'\n', &mut line);
            let read = read.map_err(|source| files::unreadable(&self.origin, source))?;
            if read == 0 {
                return Ok(None);
            }
            self.line += 1;
            if line.len() > MAX_LINE {
                let problem = format!("longer than {} MiB", MAX_LINE >> 20);
                return Err(self.fault(Flaw::new("length", problem, "trace fewer positions")));
            }
            if !line.trim_ascii().is_empty() {
                return Ok(Some(line));
            }
        }
    }

    fn parse<'l, T: Deserialize<'l>>(&self, line: &'l [u8]) -> Result<T> {
        serde_json::from_slice(line).map_err(|error| self.not_json(&error))
    }

    fn not_json(&self, error: &serde_json::Error) -> EvidenceError {
        let text = error.to_string();
        let problem = text.rsplit_once(" at line ").map_or(text.as_str(), |(problem, _)| problem);
        let cut = error.is_eof();
        EvidenceError::Json {
            path: self.origin.clone(),
            line: self.line,
            column: error.column().max(1),
            problem: one_line(problem),
            remedy: if cut { "the file was cut off: make the trace again" } else { REMEDY }.to_owned(),
        }
    }

    fn fault(&self, flaw: Flaw) -> EvidenceError {
        flaw.under(&format!("line {}", self.line)).in_file(&self.origin)
    }

    fn next_event(&mut self) -> Result<Option<StageTrace>> {
        let Some(line) = (match self.first.take() {
            Some(line) => Some(line),
            None => self.next_line()?,
        }) else {
            if self.has_end() {
                let problem = format!("{} events and no end: the file was cut off", self.events);
                return Err(self.fault(Flaw::new("trace_end", problem, "make the trace again")));
            }
            return Ok(None);
        };
        if self.header.is_none() {
            return self.founding(line).map(Some);
        }
        let event = match self.parse::<Line<serde::de::IgnoredAny, StageTrace>>(&line)? {
            Line::StageTrace(event) => event,
            Line::TraceHeader(_) => {
                let flaw = Flaw::new("event", "a second header", "give traces one by one");
                return Err(self.fault(flaw));
            }
            Line::TraceEnd(end) => return self.end(end).map(|()| None),
        };
        self.check(&event).map_err(|flaw| self.fault(flaw))?;
        self.events += 1;
        if self.has_end() {
            self.hasher.update(&line);
        }
        Ok(Some(event))
    }

    /// Compares the end with what was read.
    fn end(&mut self, end: TraceEnd) -> Result<()> {
        let flaw = if !self.has_end() {
            Flaw::new("trace_end", "in a trace of version 1, which has none", REMEDY)
        } else if end.events != self.events {
            let problem = format!("it says {} events, and there are {}", end.events, self.events);
            Flaw::new("trace_end", problem, REMEDY)
        } else if end.digest != Digest::of_hasher(&self.hasher) {
            Flaw::altered("trace_end", "not the digest of the lines before it", REMEDY)
        } else if self.next_line()?.is_some() {
            Flaw::new("event", "a line behind the end", "give traces one by one")
        } else {
            return Ok(());
        };
        Err(self.fault(flaw))
    }

    /// An event without a header, which may span lines.
    fn founding(&mut self, mut text: Vec<u8>) -> Result<StageTrace> {
        loop {
            match serde_json::from_slice::<founding::Founding>(&text) {
                Ok(event) => return event.read().map_err(|flaw| self.fault(flaw)),
                Err(error) if error.is_eof() && text.len() <= founding::MAX_EVENT => {
                    match self.next_line()? {
                        Some(more) => text.extend(more),
                        None => return Err(self.not_json(&error)),
                    }
                }
                Err(error) => return Err(self.not_json(&error)),
            }
        }
    }

    /// Compares an event with itself, with the header and with the one before it.
    fn check(&mut self, event: &StageTrace) -> std::result::Result<(), Flaw> {
        let prompts = self.header.iter().flat_map(|header| &header.prompts).enumerate();
        let mut from_last = prompts.skip(self.last.map_or(0, |(number, ..)| number));
        let Some((number, prompt)) = from_last.find(|(_, prompt)| prompt.prompt_id == event.prompt_id) else {
            let problem = format!("'{}' is not in the header, or out of order", event.prompt_id);
            return Err(Flaw::new("prompt_id", problem, REMEDY));
        };
        let site = consistent(event)?;
        let length = prompt.token_ids.len() as u64;
        for (position, token) in event.positions.iter().zip(&event.token_ids) {
            let fed = usize::try_from(*position).ok().and_then(|position| prompt.token_ids.get(position));
            if fed.is_some_and(|fed| fed != token) {
                let problem = format!("token {token} at position {position}, where the header has another");
                return Err(Flaw::new("token_ids", problem, REMEDY));
            }
        }
        if event.phase == Phase::Prefill && length > 0 && (event.seq_len != length || event.pos_id >= length)
        {
            let problem = format!("{} of a prefill of {length} tokens", event.seq_len);
            return Err(Flaw::new("seq_len", problem, REMEDY));
        }
        // A decode step is of one token, and they follow the prompt one by one.
        let decoded = event.step.checked_sub(1).map(|step| length + step);
        if event.phase == Phase::Decode && length > 0 && (event.seq_len != 1 || Some(event.pos_id) != decoded)
        {
            let problem = format!("{} of decode step {} behind {length} tokens", event.pos_id, event.step);
            return Err(Flaw::new("pos_id", problem, REMEDY));
        }
        let place = (number, event.step, site);
        if self.last.is_some_and(|last| last >= place) {
            let problem = format!("{site} of pass {} is there twice or out of order", event.step);
            return Err(Flaw::new("point", problem, REMEDY));
        }
        self.last = Some(place);
        Ok(())
    }
}

const REMEDY: &str = "make the trace again with `mantissa trace`, as docs/format/trace.md describes it";

impl<R: BufRead> Iterator for TraceReader<R> {
    type Item = Result<StageTrace>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.next_event();
        self.done = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}

fn lawful(header: &TraceHeader) -> std::result::Result<(), Flaw> {
    if header.setup.as_ref().is_some_and(|setup| setup.model != header.model) {
        return Err(Flaw::new("setup.model", "not the model that the header names", REMEDY));
    }
    let mut names: Vec<&str> = header.prompts.iter().map(|prompt| prompt.prompt_id.as_str()).collect();
    names.sort_unstable();
    if let Some((name, _)) = names.iter().zip(names.iter().skip(1)).find(|(a, b)| a == b) {
        return Err(Flaw::new("prompts", format!("'{name}' is there twice"), REMEDY));
    }
    for (index, prompt) in header.prompts.iter().enumerate() {
        let own = (!prompt.token_ids.is_empty()).then(|| Digest::of_ids(&prompt.token_ids));
        if prompt.digest != own {
            let place = format!("prompts[{index}].digest");
            return Err(Flaw::altered(place, "not the digest of token_ids", REMEDY));
        }
    }
    Ok(())
}

/// The site of an event whose fields do not contradict each other.
fn consistent(event: &StageTrace) -> std::result::Result<Site, Flaw> {
    let flaw = |place: &str, problem: String| Err(Flaw::new(place, problem, REMEDY));
    let Some(site) = event.site() else {
        return flaw("layer", format!("{} with layer {:?}", event.point, event.layer.map(|layer| layer.0)));
    };
    if event.layer.is_some_and(|layer| layer.0 == 0) {
        return flaw("layer", "0: layers are counted from 1".to_owned());
    }
    if !event.positions.is_sorted_by(|a, b| a < b) || event.positions.last() != Some(&event.pos_id) {
        return flaw("positions", "not ascending up to pos_id".to_owned());
    }
    let rows = event.positions.len();
    for (place, length) in [("rows", event.rows.len()), ("token_ids", event.token_ids.len())] {
        if length != 0 && length != rows {
            return flaw(place, format!("{length} for {rows} positions"));
        }
    }
    if event.shape.is_some_and(|[first, _]| first != rows as u64) {
        return flaw("shape", format!("{:?} for {rows} positions", event.shape.unwrap_or_default()));
    }
    let own = |hash: &TraceHash| matches!(hash, TraceHash::Blake3(_));
    if !event.hash.iter().chain(&event.rows).all(own) {
        return flaw("hash", "a number, where the header says blake3".to_owned());
    }
    if event.hash.is_none() && (event.shown.is_none() || !event.rows.is_empty()) {
        return flaw("hash", "absent, and nothing is shown in its place".to_owned());
    }
    if let Some(shown) = &event.shown {
        shown.check(&event.positions, event.shape).map_err(|problem| Flaw::new("shown", problem, REMEDY))?;
    }
    if event.sum.as_deref().is_some_and(|sum| Printed::read(sum).is_none()) {
        return flaw("sum", "no number as a program prints it".to_owned());
    }
    if let [only] = event.rows[..]
        && Some(only) != event.hash
    {
        return flaw("rows", "the only row has another hash than the tensor".to_owned());
    }
    if (event.phase == Phase::Prefill) != (event.step == 0) {
        return flaw("step", format!("{} of a {}", event.step, event.phase.name()));
    }
    Ok(site)
}

/// A whole trace in memory.
///
/// ```
/// use mantissa_evidence::trace::Trace;
///
/// let error = Trace::from_reader(&b"{\"event\":\"stage_trace\""[..], "cut.jsonl".as_ref()).expect_err("cut off");
/// assert!(error.to_string().starts_with("cut.jsonl: line 1, column 22: EOF"), "{error}");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// The header; `None` in the form without one.
    pub header: Option<TraceHeader>,
    /// The events, in the order of the file.
    pub events: Vec<StageTrace>,
    /// Whether its file says where it ends; a file that does not may have been cut off.
    pub has_end: bool,
}

impl Trace {
    /// Reads a file whole. *Errors:* as [`TraceReader`]; an event that is there twice.
    pub fn open(path: &Path) -> Result<Self> {
        Self::collect(TraceReader::open(path)?)
    }

    /// Reads any input whole; `origin` names it in errors. *Errors:* as [`Trace::open`].
    pub fn from_reader(input: impl BufRead, origin: &Path) -> Result<Self> {
        Self::collect(TraceReader::new(input, origin)?)
    }

    fn collect<R: BufRead>(mut reader: TraceReader<R>) -> Result<Self> {
        let (header, has_end) = (reader.header.clone(), reader.has_end());
        let mut seen = HashMap::new();
        let mut events = Vec::new();
        while let Some(event) = reader.next() {
            let event = event?;
            let key = (event.prompt_id.clone(), event.phase, event.step, event.point, event.layer);
            if let Some(line) = seen.insert(key, reader.line) {
                let flaw = Flaw::new("point", format!("the same event as in line {line}"), "remove one");
                return Err(reader.fault(flaw));
            }
            events.push(event);
        }
        Ok(Self { header, events, has_end })
    }
}
