//! The process that reads PDFs, seen from both ends.
//!
//! [`PdfReader`] starts a program, feeds it the PDF on standard input and takes one JSON line per page from its
//! standard output. [`serve`] is the other end: a program that finds [`ARGUMENT`] as its first argument calls it and
//! does nothing else. The child bounds its own memory and processor time before it looks at the file (Linux:
//! `RLIMIT_AS`, `RLIMIT_CPU`); the parent bounds the time by the clock and the size of the answer. So a file that makes
//! the interpreter panic, overflow its stack, loop or unpack gigabytes ends a child, and the user reads one line with
//! the page where it happened.
//!
//! Left out: how pages become text (see [`super::pdf`]).

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::limits::MAX_FILE_BYTES;
use super::pdf::{self, Event, PageText, PdfFault};
use crate::error::LabError;

pub use super::limits::PdfLimits;

/// First argument that turns a program into a PDF reader.
pub const ARGUMENT: &str = "__extract-pdf";

/// Stack of the thread that interprets: hayro follows nested objects up to 512 deep.
const STACK_BYTES: usize = 64 << 20;

/// How PDFs are read: which program, under which bounds.
///
/// ```
/// use mantissa_lab::document::{PdfLimits, PdfReader};
///
/// // A program that calls `serve` first; a second of processor time instead of a minute.
/// let limits = PdfLimits { seconds: 1, ..PdfLimits::default() };
/// let reader = PdfReader::new("/no/such/program", limits);
/// let error = reader.pages("paper.pdf", b"%PDF-1.7".to_vec()).expect_err("nobody reads it");
/// assert!(error.to_string().starts_with("paper.pdf"), "{error}");
/// ```
#[derive(Clone, Debug)]
pub struct PdfReader {
    program: PathBuf,
    limits: PdfLimits,
}

/// What the child writes: one JSON value a line.
#[derive(Serialize, Deserialize)]
enum Line {
    Event(Event),
    Fault(PdfFault),
    End,
}

impl PdfReader {
    /// `program` must call [`serve`] when its first argument is [`ARGUMENT`].
    #[must_use]
    pub fn new(program: impl Into<PathBuf>, limits: PdfLimits) -> Self {
        Self { program: program.into(), limits }
    }

    /// This very program, with the default bounds.
    pub fn this_program() -> io::Result<Self> {
        Ok(Self::new(std::env::current_exe()?, PdfLimits::default()))
    }

    /// Reads the pages of the PDF in `bytes`; `name` is for errors.
    pub fn pages(&self, name: &str, bytes: Vec<u8>) -> Result<Vec<PageText>, LabError> {
        let failed = |page, reason: String| self.failed(name, page, reason);
        let limits = serde_json::to_string(&self.limits).map_err(|error| failed(1, error.to_string()))?;
        let mut child = Command::new(&self.program)
            .args([ARGUMENT, &limits])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed(1, error.to_string()))?;
        let outcome = self.converse(&mut child, bytes);
        let status = child.wait().map_err(|error| failed(1, error.to_string()))?;
        match outcome {
            Outcome::Pages(pages) => Ok(pages),
            Outcome::Fault(fault, page) => Err(self.fault(name, fault, page)),
            Outcome::Late(page) => {
                Err(limit(name, "its reading time", format!("{} s", self.limits.seconds), page))
            }
            Outcome::Ended(page) => Err(match ending(status) {
                Ending::Time => limit(name, "its reading time", format!("{} s", self.limits.seconds), page),
                Ending::Memory => {
                    limit(name, "its reading memory", format!("{} MiB", self.limits.memory_bytes >> 20), page)
                }
                Ending::Other => failed(page, status.to_string()),
            }),
        }
    }

    fn converse(&self, child: &mut Child, bytes: Vec<u8>) -> Outcome {
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            let _ = child.kill();
            return Outcome::Ended(1);
        };
        let deadline =
            Instant::now() + Duration::from_secs(self.limits.seconds.saturating_mul(2).min(1 << 32));
        // JSON spells a byte with at most six; the rest of a page's line is short.
        let answer = (self.limits.text_bytes as u64)
            .saturating_mul(6)
            .saturating_add((self.limits.pages as u64).saturating_mul(256))
            .saturating_add(4096);
        thread::scope(|scope| {
            let (sender, lines) = mpsc::channel();
            // A child that dies early closes the pipe; what it said tells why.
            scope.spawn(move || stdin.write_all(&bytes));
            scope.spawn(move || {
                for line in BufReader::new(stdout.take(answer)).lines() {
                    let line = line.ok().and_then(|line| serde_json::from_str::<Line>(&line).ok());
                    let more = line.is_some();
                    if sender.send(line).is_err() || !more {
                        return;
                    }
                }
            });
            let mut pages = Vec::new();
            let mut expected = None;
            let outcome = loop {
                let here = pages.len() + 1;
                match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                    Ok(Some(Line::Event(Event::Pages(count)))) => expected = Some(count),
                    Ok(Some(Line::Event(Event::Page(page)))) => pages.push(page),
                    Ok(Some(Line::Fault(fault))) => break Outcome::Fault(fault, here),
                    Ok(Some(Line::End)) if expected == Some(pages.len()) => break Outcome::Pages(pages),
                    Ok(Some(Line::End) | None) | Err(RecvTimeoutError::Disconnected) => {
                        break Outcome::Ended(here);
                    }
                    Err(RecvTimeoutError::Timeout) => break Outcome::Late(here),
                }
            };
            // The threads end with the pipes, and the pipes with the child. One that has ended by itself keeps its
            // status.
            let _ = child.kill();
            outcome
        })
    }

    fn failed(&self, name: &str, page: usize, reason: String) -> LabError {
        let program = self.program.display().to_string();
        LabError::PdfReader { document: name.to_owned(), program, page, reason }
    }

    fn fault(&self, name: &str, fault: PdfFault, page: usize) -> LabError {
        let document = name.to_owned();
        match fault {
            PdfFault::Malformed => LabError::PdfMalformed { document, reason: "no page tree can be found" },
            PdfFault::Truncated => {
                LabError::PdfMalformed { document, reason: "the end mark %%EOF is missing" }
            }
            PdfFault::NoPages => LabError::PdfMalformed { document, reason: "its page tree holds no pages" },
            PdfFault::Password => LabError::PdfEncrypted { document, reason: "it needs a password" },
            PdfFault::Cipher => {
                LabError::PdfEncrypted { document, reason: "with a cipher that is not read here" }
            }
            PdfFault::Interpreter => self.failed(name, page, "the interpreter panicked".to_owned()),
            PdfFault::Pages => limit(name, "its number of pages", self.limits.pages.to_string(), page),
            PdfFault::Text => limit(name, "its text", format!("{} bytes", self.limits.text_bytes), page),
        }
    }
}

fn limit(name: &str, what: &'static str, limit: String, page: usize) -> LabError {
    LabError::PdfLimit { document: name.to_owned(), what, limit, page }
}

enum Outcome {
    Pages(Vec<PageText>),
    Fault(PdfFault, usize),
    Late(usize),
    Ended(usize),
}

enum Ending {
    Time,
    Memory,
    Other,
}

/// Which bound a child met, from how it ended.
#[cfg(unix)]
fn ending(status: ExitStatus) -> Ending {
    use std::os::unix::process::ExitStatusExt;
    match status.signal() {
        // SIGXCPU. SIGABRT and SIGSEGV: a failed allocation or the end of the stack.
        Some(24) => Ending::Time,
        Some(6 | 11) => Ending::Memory,
        _ => Ending::Other,
    }
}

#[cfg(not(unix))]
fn ending(_: ExitStatus) -> Ending {
    Ending::Other
}

/// The child's side: reads a PDF from standard input, writes its pages to standard output.
///
/// `arguments` are the program's own; `None` if they do not ask for this.
///
/// ```
/// use mantissa_lab::document::reader::serve;
///
/// // The first lines of `main`: whoever is not asked to be a reader goes on.
/// let arguments = ["mantissa", "record"].map(std::ffi::OsString::from);
/// assert!(serve(arguments).is_none());
/// ```
#[must_use]
pub fn serve(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter().skip(1);
    if arguments.next().as_deref() != Some(OsStr::new(ARGUMENT)) {
        return None;
    }
    let limits = arguments.next().and_then(|json| serde_json::from_str(json.to_str()?).ok());
    let served = limits.is_some_and(|limits: PdfLimits| confine(limits).is_ok() && answer(limits).is_ok());
    Some(if served { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

fn answer(limits: PdfLimits) -> io::Result<()> {
    let mut bytes = Vec::new();
    io::stdin().lock().take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    let read = move || {
        let put = |line: &Line| {
            let mut json = serde_json::to_vec(line).unwrap_or_default();
            json.push(b'\n');
            // Nobody listens any more: there is nothing left to do.
            if io::stdout().lock().write_all(&json).is_err() {
                std::process::exit(2);
            }
        };
        let read = pdf::read(bytes, limits.pages, limits.text_bytes, |event| put(&Line::Event(event)));
        put(&read.map_or_else(Line::Fault, |()| Line::End));
    };
    let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(read)?;
    thread.join().map_err(|_| io::Error::other("the interpreter panicked"))
}

/// Gives this process its bounds; there is no way back.
#[cfg(unix)]
fn confine(limits: PdfLimits) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let at = |bound| Rlimit { current: Some(bound), maximum: Some(bound) };
    let bounds = setrlimit(Resource::As, at(limits.memory_bytes))
        .and_then(|()| {
            setrlimit(
                Resource::Cpu,
                Rlimit { maximum: Some(limits.seconds.saturating_add(1)), ..at(limits.seconds) },
            )
        })
        .and_then(|()| setrlimit(Resource::Core, at(0)));
    // Other systems refuse some of these; there the parent's clock and the file limit remain.
    if cfg!(target_os = "linux") { Ok(bounds?) } else { Ok(()) }
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "the Unix version can fail")]
fn confine(_: PdfLimits) -> io::Result<()> {
    Ok(())
}
