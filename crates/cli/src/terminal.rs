//! Standard output and standard error: a report as text or JSON, and notes beside it.
//!
//! A reader that stops early (`| head`) is not a failure: the rest of the output is dropped, and the verb ends as it
//! would have otherwise. Text that came from files is escaped, so that evidence cannot drive the terminal it is shown
//! on.

use std::io::{self, BufWriter, ErrorKind, Write};

use serde::Serialize;

use crate::failure::{one_line, stdout_failed};
use crate::output::Format;
use crate::settings::Settings;

/// What a verb found out: serialized as it is for `--format json`, laid out by itself for people.
pub(crate) trait Report: Serialize {
    /// Writes it for people.
    fn text(&self, page: &mut Page<'_>) -> io::Result<()>;

    /// Writes it as Markdown; `None` where the verb has no such form.
    fn markdown(&self) -> Option<io::Result<Vec<u8>>> {
        None
    }
}

/// The two streams.
#[derive(Debug)]
pub(crate) struct Terminal {
    out: BufWriter<io::Stdout>,
    format: Format,
    color: bool,
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
            quiet: settings.quiet,
            closed: false,
        }
    }

    /// Prints a report, in the format asked for.
    pub(crate) fn print(&mut self, report: &impl Report) -> anyhow::Result<()> {
        let color = self.color;
        match self.format {
            Format::Text => self.write(|out| report.text(&mut Page { out, color })),
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
        if !self.quiet {
            drop(writeln!(io::stderr(), "{}", one_line(text)));
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

/// Text under way to people.
pub(crate) struct Page<'a> {
    out: &'a mut dyn Write,
    color: bool,
}

/// How a column of a table is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    Left(&'static str),
    Right(&'static str),
}

impl Column {
    const fn title(self) -> &'static str {
        match self {
            Self::Left(title) | Self::Right(title) => title,
        }
    }
}

impl Page<'_> {
    /// A line that opens a part.
    pub(crate) fn heading(&mut self, text: &str) -> io::Result<()> {
        let (bold, plain) = if self.color { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        writeln!(self.out, "{bold}{}{plain}", one_line(text))
    }

    /// `label  value`, indented.
    pub(crate) fn field(&mut self, label: &str, value: impl std::fmt::Display) -> io::Result<()> {
        let (dim, plain) = if self.color { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        writeln!(self.out, "  {dim}{label:<13}{plain} {}", one_line(&value.to_string()))
    }

    /// Whether colours are wanted.
    pub(crate) const fn color(&self) -> bool {
        self.color
    }

    /// Text that is already laid out, and escaped, by another room.
    pub(crate) fn set(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())
    }

    /// A plain line.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{}", one_line(text))
    }

    /// Rows under their titles, columns as wide as they need to be.
    pub(crate) fn table(&mut self, columns: &[Column], rows: &[Vec<String>]) -> io::Result<()> {
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|cell| one_line(cell)).collect()).collect();
        let widths: Vec<usize> = (0..columns.len())
            .map(|i| {
                let cells = rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.chars().count());
                cells.chain([columns[i].title().len()]).max().unwrap_or(0)
            })
            .collect();
        let (dim, plain) = if self.color { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        let titles: Vec<String> = columns.iter().map(|column| column.title().to_owned()).collect();
        let set = |row: &[String]| {
            let mut line = String::from("  ");
            for ((cell, column), &width) in row.iter().zip(columns).zip(&widths) {
                let blank = " ".repeat(width.saturating_sub(cell.chars().count()));
                match column {
                    Column::Left(_) => line.extend([cell, blank.as_str(), "  "]),
                    Column::Right(_) => line.extend([blank.as_str(), cell, "  "]),
                }
            }
            line.truncate(line.trim_end().len());
            line
        };
        writeln!(self.out, "{dim}{}{plain}", set(&titles))?;
        rows.iter().try_for_each(|row| writeln!(self.out, "{}", set(row)))
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
        let mut page = Page { out: &mut out, color: false };
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let columns = [Column::Left("name"), Column::Right("n"), Column::Left("")];
        page.table(&columns, &[row(["a\x1b[2J", "1", "x"]), row(["é", "100", ""])]).unwrap();
        let expected = "  name          n\n  a\\u{1b}[2J    1  x\n  é           100\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
