//! Writing a trace, one line at a time.

use std::io::{self, Write};

use super::event::StageTrace;
use super::header::{TraceEnd, TraceHeader};
use super::read::Line;
use crate::digest::Digest;

/// Writes a trace.
///
/// ```
/// use mantissa_evidence::ModelIdentity;
/// use mantissa_evidence::trace::{TensorPlace, TensorTrace, Trace, TraceHeader, TraceWriter, TracedPrompt};
/// use mantissa_numerics::{Dtype, Point, Site};
///
/// let model = ModelIdentity { id: "tiny".to_owned(), weights_digest: None };
/// let mut header = TraceHeader::new("mantissa 0.1.0", model);
/// header.prompts.push(TracedPrompt::of_ids("p0", vec![7]));
/// let site = Site::outside(Point::EmbedOut);
/// let mut tensor = TensorTrace::new("p0", 0, 1, site, Dtype::Bf16);
/// tensor.push(&[(0, Some(7))], &[0.5]);
/// let mut event = tensor.finish();
/// let (file, name) = ("p0.safetensors".to_owned(), "prefill/embed_out".to_owned());
/// event.tensor = Some(TensorPlace { file, name });
///
/// let mut lines = Vec::new();
/// let mut writer = TraceWriter::new(&mut lines, &header)?;
/// writer.event(&event)?;
/// writer.finish()?;
/// assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), 3, "header, event, end");
/// let trace = Trace::from_reader(&lines[..], "trace.jsonl".as_ref())?;
/// assert_eq!((trace.header, trace.events), (Some(header), vec![event]));
/// // Cut at the end of a line: the end is missing.
/// let second = lines.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).map_or(0, |(at, _)| at + 1);
/// let cut = Trace::from_reader(&lines[..second], "cut.jsonl".as_ref()).expect_err("cut off");
/// assert!(cut.to_string().contains("no end: the file was cut off"), "{cut}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TraceWriter<W: Write> {
    out: W,
    events: u64,
    /// Of all lines so far.
    hasher: blake3::Hasher,
}

impl<W: Write> TraceWriter<W> {
    /// Writes the header.
    pub fn new(out: W, header: &TraceHeader) -> io::Result<Self> {
        let mut writer = Self { out, events: 0, hasher: blake3::Hasher::new() };
        writer.line(&Line::TraceHeader(header))?;
        Ok(writer)
    }

    /// Writes an event.
    pub fn event(&mut self, event: &StageTrace) -> io::Result<()> {
        self.line(&Line::StageTrace(event))?;
        self.events += 1;
        Ok(())
    }

    /// Writes the end, without which a reader takes the trace for one that was cut off.
    pub fn finish(mut self) -> io::Result<W> {
        let end = TraceEnd { events: self.events, digest: Digest::of_hasher(&self.hasher) };
        self.line(&Line::TraceEnd(end))?;
        Ok(self.out)
    }

    fn line(&mut self, line: &Line<&TraceHeader, &StageTrace>) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.hasher.update(&text);
        self.out.write_all(&text)
    }
}
