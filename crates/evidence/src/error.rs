//! What can go wrong with a record, each as one line that names the file, the place and the remedy.

use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, EvidenceError>;

/// Why a record could not be read or written.
///
/// ```
/// let error = mantissa_evidence::read("nowhere.json".as_ref()).expect_err("no such file");
/// assert!(error.to_string().starts_with("nowhere.json: cannot read it: "), "{error}");
/// assert!(error.to_string().ends_with("; check the path and its permissions"), "{error}");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// The operating system refused.
    #[error("{path}: cannot {action}: {source}; {remedy}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// Text that is not JSON, or not the JSON this format asks for.
    #[error("{path}: line {line}, column {column}: {problem}; {remedy}", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// Column, counted from 1.
        column: usize,
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// A record that contradicts itself.
    #[error("{path}: {place}: {problem}; {remedy}", path = path.display())]
    Invalid {
        /// The file or directory.
        path: PathBuf,
        /// JSON path, tensor or run.
        place: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// Data that are not those their digest was made of.
    #[error("{path}: {place}: altered or damaged: {problem}; {remedy}", path = path.display())]
    Altered {
        /// The file or directory.
        path: PathBuf,
        /// Which part.
        place: String,
        /// What its digest says.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// A sound file that is something else than evidence.
    #[error("{path}: layout: it is {what}; {remedy}", path = path.display())]
    NotEvidence {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: String,
        /// What to give instead.
        remedy: String,
    },
    /// A file of a later version of the format.
    #[error("{path}: format version {found} is newer than {known}, the newest this program reads; upgrade mantissa",
        path = path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// The newest known.
        known: u32,
    },
    /// A file that is no known kind of evidence.
    #[error("{path}: layout: no known kind of evidence; {known}", path = path.display())]
    UnknownLayout {
        /// The file.
        path: PathBuf,
        /// The kinds that are known.
        known: String,
    },
    /// Something is already there.
    #[error("{path}: already exists; choose another path or remove it first", path = path.display())]
    Exists {
        /// The file or directory.
        path: PathBuf,
    },
}

/// A contradiction inside a record, before it is known which file it came from.
///
/// ```
/// use mantissa_evidence::error::Flaw;
///
/// let flaw = Flaw::new("batch_size", "it is 0", "use 1 or more").under("runs[3]");
/// let error = flaw.in_file("experiment.json".as_ref());
/// assert_eq!(error.to_string(), "experiment.json: runs[3].batch_size: it is 0; use 1 or more");
/// ```
#[derive(Debug)]
pub struct Flaw {
    pub(crate) place: String,
    pub(crate) problem: String,
    pub(crate) remedy: &'static str,
    /// Whether data are not those that a digest was made of.
    pub(crate) altered: bool,
}

impl Flaw {
    /// What is wrong where, and what to do; the example of [`Flaw`] shows it.
    #[must_use]
    pub fn new(place: impl Into<String>, problem: impl Into<String>, remedy: &'static str) -> Self {
        Self { place: place.into(), problem: problem.into(), remedy, altered: false }
    }

    /// Data that are not those that a digest was made of.
    ///
    /// ```
    /// use mantissa_evidence::error::{EvidenceError, Flaw};
    ///
    /// let error = Flaw::altered("run-0.safetensors", "its blake3 is 00", "copy it again").in_file("record".as_ref());
    /// assert!(matches!(error, EvidenceError::Altered { .. }));
    /// ```
    #[must_use]
    pub fn altered(place: impl Into<String>, problem: impl Into<String>, remedy: &'static str) -> Self {
        Self { altered: true, ..Self::new(place, problem, remedy) }
    }

    /// The same inside `parent`.
    #[must_use]
    pub fn under(mut self, parent: &str) -> Self {
        self.place = format!("{parent}.{}", self.place);
        self
    }

    /// The error about a file.
    #[must_use]
    pub fn in_file(self, path: &Path) -> EvidenceError {
        let (path, place, problem) = (path.to_owned(), one_line(&self.place), one_line(&self.problem));
        let remedy = self.remedy.to_owned();
        if self.altered {
            EvidenceError::Altered { path, place, problem, remedy }
        } else {
            EvidenceError::Invalid { path, place, problem, remedy }
        }
    }
}

/// Text with its control characters escaped.
///
/// ```
/// assert_eq!(mantissa_evidence::error::without_control("a\tb"), "a\\tb");
/// ```
#[must_use]
pub fn without_control(text: &str) -> String {
    text.chars().flat_map(plain).collect()
}

fn plain(c: char) -> impl Iterator<Item = char> {
    let escape = c.is_control().then(|| c.escape_default());
    let itself = escape.is_none().then_some(c);
    escape.into_iter().flatten().chain(itself)
}

/// Longest quotation of a file's own text in a message, in characters.
const QUOTE: usize = 300;

/// Text from a file made safe for a one-line message: control characters escaped, long text cut.
///
/// ```
/// let line = mantissa_evidence::error::one_line(&"x".repeat(1000));
/// assert!(line.ends_with('…') && line.chars().count() == 301);
/// ```
#[must_use]
pub fn one_line(text: &str) -> String {
    let mut line: String = text.chars().take(QUOTE).flat_map(plain).collect();
    if text.chars().nth(QUOTE).is_some() {
        line.push('…');
    }
    line
}
