//! Standard output and standard error: a report as text or JSON, and notes beside it.
//!
//! A reader that stops early (`| head`) is not a failure: the rest of the output is dropped, and the verb ends as it
//! would have otherwise. Text that came from files is escaped, so that evidence cannot drive the terminal it is shown
//! on.

use std::io::{self, BufWriter, ErrorKind, Write};

use mantissa_report as report;
use serde::Serialize;

use crate::failure::{one_line, stdout_failed};
use crate::output::Format;
use crate::settings::{Progress, Settings};

/// What a verb found out: serialized as it is for `--format json`, laid out by itself for people.
pub(crate) trait Report: Serialize {
    /// Writes it for people.
    fn text(&self, page: &mut Page<'_>) -> io::Result<()>;

    /// Writes it as Markdown; `None` where the verb has no such form.
    fn markdown(&self) -> Option<io::Result<Vec<u8>>> {
        None
    }
}

/// A result that another room lays out: as text of a style, and as Markdown.
pub(crate) struct Laid<T> {
    pub(crate) data: T,
    pub(crate) text: fn(&T, report::Style) -> String,
    pub(crate) markdown: fn(&T, &mut dyn Write) -> io::Result<()>,
}

impl<T: Serialize> Serialize for Laid<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.data.serialize(serializer)
    }
}

impl<T: Serialize> Report for Laid<T> {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let style = page.style();
        page.set(&(self.text)(&self.data, style))
    }

    fn markdown(&self) -> Option<io::Result<Vec<u8>>> {
        let mut text = Vec::new();
        Some((self.markdown)(&self.data, &mut text).map(|()| text))
    }
}

/// The two streams.
#[derive(Debug)]
pub(crate) struct Terminal {
    out: BufWriter<io::Stdout>,
    format: Format,
    color: bool,
    width: Option<usize>,
    /// Columns of notes.
    notes: usize,
    quiet: bool,
    /// Nobody reads any more.
    closed: bool,
}

impl Terminal {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            out: BufWriter::new(io::stdout()),
            format: settings.format,
            color: settings.color,
            width: settings.width,
            notes: match settings.progress {
                Progress::Bars { width } => width,
                Progress::Lines | Progress::Nothing => usize::MAX,
            },
            quiet: settings.quiet,
            closed: false,
        }
    }

    /// Prints a report, in the format asked for.
    pub(crate) fn print(&mut self, report: &impl Report) -> anyhow::Result<()> {
        let (color, width) = (self.color, self.width);
        match self.format {
            Format::Text => self.write(|out| report.text(&mut Page { out, color, width })),
            Format::Markdown => match report.markdown() {
                Some(text) => self.raw(&text?),
                None => anyhow::bail!("--format: this verb has no Markdown; use text or json"),
            },
            Format::Json => self.write(|out| {
                serde_json::to_writer_pretty(&mut *out, report).map_err(io::Error::from)?;
                out.write_all(b"\n")
            }),
        }
    }

    /// Prints bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.write(|out| out.write_all(bytes))
    }

    /// Says something to whoever watches, on standard error.
    pub(crate) fn note(&self, text: &str) {
        if self.quiet {
            return;
        }
        for line in report::wrap(&one_line(text), self.notes) {
            drop(writeln!(io::stderr(), "{line}"));
        }
    }

    /// Hands over what is still buffered.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        self.write(|out| out.flush())
    }

    fn write(&mut self, put: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<()> {
        if self.closed {
            return Ok(());
        }
        match put(&mut self.out) {
            Err(e) if e.kind() == ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            outcome => outcome.map_err(|e| stdout_failed(&e)),
        }
    }
}

/// Columns of a field's label.
const LABEL: usize = 13;
/// No value of a field is squeezed below this.
const NARROWEST: usize = 20;

/// Text under way to people.
pub(crate) struct Page<'a> {
    out: &'a mut dyn Write,
    color: bool,
    /// Columns to keep to; absent where nobody asks for any.
    width: Option<usize>,
}

/// How a column of a table is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    Left(&'static str),
    Right(&'static str),
}

impl Page<'_> {
    /// A line that opens a part.
    pub(crate) fn heading(&mut self, text: &str) -> io::Result<()> {
        let (bold, plain) = if self.color { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        writeln!(self.out, "{bold}{}{plain}", one_line(text))
    }

    /// `label  value`, indented; further lines of the value stand under the first.
    pub(crate) fn field(&mut self, label: &str, value: impl std::fmt::Display) -> io::Result<()> {
        let (dim, plain) = if self.color { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        let value = one_line(&value.to_string());
        let room = self.width.map_or(usize::MAX, |width| width.saturating_sub(LABEL + 3).max(NARROWEST));
        for (line, value) in report::wrap(&value, room).iter().enumerate() {
            let label = if line == 0 { label } else { "" };
            let line = format!("  {dim}{label:<LABEL$}{plain} {value}");
            writeln!(self.out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    /// How another room lays out a report for this page.
    pub(crate) fn style(&self) -> report::Style {
        let width = self.width.unwrap_or(report::Style::default().width);
        report::Style { color: self.color, width, ..report::Style::default() }
    }

    /// The same, with lines as long as they come where nobody asks for a width.
    pub(crate) fn unbroken(&self) -> report::Style {
        report::Style { width: self.width.unwrap_or(usize::MAX), ..self.style() }
    }

    /// Text that is already laid out, and escaped, by another room.
    pub(crate) fn set(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())
    }

    /// A plain line, broken at spaces where it is too long.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        let lines = report::wrap(&one_line(text), self.width.unwrap_or(usize::MAX));
        lines.iter().try_for_each(|line| writeln!(self.out, "{line}"))
    }

    /// Rows under their titles, columns as wide as they need to be while all fit.
    pub(crate) fn table(&mut self, columns: &[Column], rows: &[Vec<String>]) -> io::Result<()> {
        let columns: Vec<(&str, bool)> = columns
            .iter()
            .map(|column| match column {
                Column::Left(title) => (*title, false),
                Column::Right(title) => (*title, true),
            })
            .collect();
        let width = self.width.unwrap_or(usize::MAX);
        self.out.write_all(report::table(&columns, rows, width, self.color).as_bytes())
    }
}

/// A number of bytes as people say it: `98.4 MB`.
pub(crate) fn bytes(count: u64) -> String {
    let mut scaled = count;
    let mut rest = 0;
    for unit in ["B", "kB", "MB", "GB", "TB", "PB"] {
        if scaled < 1000 {
            return if unit == "B" {
                format!("{scaled} B")
            } else {
                format!("{scaled}.{} {unit}", rest / 100)
            };
        }
        (scaled, rest) = (scaled / 1000, scaled % 1000);
    }
    format!("{scaled} EB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_cut_to_three_or_four_digits() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (98_362_432, "98.3 MB"),
            (15_231_233_024, "15.2 GB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn tables_line_up_and_foreign_text_is_escaped() {
        let mut out = Vec::new();
        let mut page = Page { out: &mut out, color: false, width: None };
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let columns = [Column::Left("name"), Column::Right("n"), Column::Left("")];
        page.table(&columns, &[row(["a\x1b[2J", "1", "x"]), row(["é", "100", ""])]).unwrap();
        let expected = "  name          n\n  a\\u{1b}[2J    1  x\n  é           100\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn what_is_broader_than_the_terminal_wraps() {
        let mut out = Vec::new();
        let mut page = Page { out: &mut out, color: false, width: Some(40) };
        page.field("digest", "weights as stored and the shapes beside them").unwrap();
        page.line("a line that nobody shortened for a terminal").unwrap();
        let row = ["attention=sdpa_flash,batch_size=17", "12.5 s", "and so on, without an end"];
        let columns = [Column::Left("configuration"), Column::Right("mean time"), Column::Left("output")];
        page.table(&columns, &[row.map(str::to_owned).to_vec()]).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
        let field = "  digest        weights as stored and\n                the shapes beside them\n";
        assert!(text.starts_with(field), "{text}");
    }
}
