//! Writing a trace, one line at a time.

use std::io::{self, Write};

use super::event::StageTrace;
use super::header::TraceHeader;
use super::read::Line;

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
/// assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), 2);
/// let trace = Trace::from_reader(&lines[..], "trace.jsonl".as_ref())?;
/// assert_eq!((trace.header, trace.events), (Some(header), vec![event]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TraceWriter<W: Write> {
    out: W,
}

impl<W: Write> TraceWriter<W> {
    /// Writes the header.
    pub fn new(out: W, header: &TraceHeader) -> io::Result<Self> {
        let mut writer = Self { out };
        writer.line(&Line::TraceHeader(header))?;
        Ok(writer)
    }

    /// Writes an event.
    pub fn event(&mut self, event: &StageTrace) -> io::Result<()> {
        self.line(&Line::StageTrace(event))
    }

    fn line(&mut self, line: &Line<&TraceHeader, &StageTrace>) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.out.write_all(b"\n")
    }
}
