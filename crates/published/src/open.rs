//! The one entry point to evidence of any kind: a file is recognized by its content, never by its name.

use std::path::{Path, PathBuf};

use mantissa_evidence::error::{self, EvidenceError, Result};
use mantissa_evidence::{Container, Digest, Experiment, Record, container, files, json};

use crate::published::{self, Published};
use crate::recognize::{self, Kind};
use crate::sheet::{Sheet, Signal};
use crate::uniform;
use crate::{layouts, named};

/// Published files are read whole, so their length is bounded; the largest known has 3 MB.
const LARGEST_PUBLISHED: u64 = 1 << 28;

/// Evidence and where it came from.
///
/// ```
/// let path = mantissa_testkit::synthetic("activations.json");
/// let opened = mantissa_published::open(&path)?;
/// assert_eq!(opened.name, "activations.json");
/// assert_eq!(opened.digest.to_string().len(), 64);
/// assert!(opened.warnings[0].contains("does not name the site"));
/// # Ok::<(), mantissa_evidence::EvidenceError>(())
/// ```
#[derive(Debug)]
pub struct Opened {
    /// Where it was read from.
    pub path: PathBuf,
    /// Its name without the folder.
    pub name: String,
    /// Digest of its bytes; of a container, of its manifest.
    pub digest: Digest,
    /// What it holds.
    pub content: Content,
    /// What was lenient or assumed in reading it.
    pub warnings: Vec<String>,
}

/// What evidence holds.
///
/// ```
/// use mantissa_published::Content;
///
/// let path = mantissa_testkit::synthetic("quantization.log");
/// let content = mantissa_published::open(&path)?.content;
/// assert!(matches!(content, Content::Published(_)));
/// # Ok::<(), mantissa_evidence::EvidenceError>(())
/// ```
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "most evidence is a record, and few are held at once")]
pub enum Content {
    /// An experiment, as JSON or in a container.
    Record(Record),
    /// A file that another program published.
    Published(Published),
}

impl Content {
    /// Name of the layout: `experiment_json`, `container`, `activations`, …
    ///
    /// ```
    /// let path = mantissa_testkit::synthetic("activations.json");
    /// assert_eq!(mantissa_published::open(&path)?.content.layout(), "activations");
    /// # Ok::<(), mantissa_evidence::EvidenceError>(())
    /// ```
    #[must_use]
    pub fn layout(&self) -> &'static str {
        match self {
            Self::Record(record) => match container::root(record.origin()) {
                Some(_) => "container",
                None => "experiment_json",
            },
            Self::Published(published) => published.layout().name,
        }
    }

    /// What the published definitions make of it.
    ///
    /// `beside` are other files, which may hold its figures in full. Of an experiment the script takes one signal: key
    /// vectors, unless `asked` names others.
    ///
    /// ```
    /// let path = mantissa_testkit::synthetic("batch_verification.json");
    /// let sheet = mantissa_published::open(&path)?.content.sheet(&[], None)?;
    /// assert_eq!((sheet.variable.as_str(), sheet.figures.len()), ("batch_size", 42));
    /// # Ok::<(), mantissa_evidence::EvidenceError>(())
    /// ```
    pub fn sheet(&self, beside: &[&Self], asked: Option<&[Signal]>) -> Result<Sheet> {
        match self {
            Self::Record(record) => uniform::sheet(record, asked),
            Self::Published(file) => {
                let beside: Vec<&Published> = beside
                    .iter()
                    .filter_map(|other| match other {
                        Self::Published(file) => Some(file),
                        Self::Record(_) => None,
                    })
                    .collect();
                Ok(file.sheet(&beside))
            }
        }
    }
}

/// Opens evidence of any kind, and checks it against every digest that it states: damage is no difference of setups.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("notes.txt");
/// std::fs::write(&path, "once upon a time")?;
/// let error = mantissa_published::open(&path).expect_err("no evidence");
/// assert!(error.to_string().contains("no known kind of evidence; give a container directory"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn open(path: &Path) -> Result<Opened> {
    if let Some(directory) = container::root(path) {
        // First, because it knows what to say of a directory that holds no finished record.
        let record = Record::open(path)?;
        record.verify()?;
        let digest = Digest::of_bytes(&files::map(&directory.join(container::MANIFEST))?);
        return Ok(opened(path, digest, Content::Record(record)));
    }
    let bytes = files::map(path)?;
    let kind = recognize::kind(&bytes);
    if let Some((Kind::Experiment, _)) = kind {
        // May be larger than memory: from here on it is read in windows, and what was mapped is let go.
        drop(bytes);
        let read = || {
            let record = Record::open(path)?;
            record.verify()?;
            Ok(record)
        };
        let (record, digest) = rayon::join(read, || Digest::of_large_file(path));
        let digest = digest.map_err(|source| files::unreadable(path, source));
        let record = record?;
        return Ok(opened(path, digest?, Content::Record(record)));
    }
    if bytes.len() as u64 > LARGEST_PUBLISHED {
        return Err(EvidenceError::Invalid {
            path: path.to_owned(),
            place: "layout".to_owned(),
            problem: format!(
                "it is no experiment JSON and its {} bytes are more than the {LARGEST_PUBLISHED} of a published file",
                bytes.len()
            ),
            remedy: "check that it is what it should be".to_owned(),
        });
    }
    let Some((Kind::Published(layout), strict)) = kind else {
        if let Some(problem) = other_text(&bytes) {
            return Err(EvidenceError::Invalid {
                path: path.to_owned(),
                place: "encoding".to_owned(),
                problem: problem.to_owned(),
                remedy: "save it as UTF-8 without a byte order mark, or copy it again".to_owned(),
            });
        }
        if let Some(named) = named::name(&bytes) {
            return Err(EvidenceError::Invalid {
                path: path.to_owned(),
                place: "layout".to_owned(),
                problem: error::one_line(&format!("it is {}", named.what)),
                remedy: named.instead.to_owned(),
            });
        }
        let known = format!(
            "give a container directory or its manifest.json, an experiment JSON (top-level keys {}), {}",
            uniform::KEYS.join(", "),
            layouts::known()
        );
        return Err(EvidenceError::UnknownLayout { path: path.to_owned(), known });
    };
    let published = published::parse_as(layout, strict, &bytes, path)?;
    let digest = Digest::of_bytes(&bytes);
    Ok(opened(path, digest, Content::Published(published)))
}

/// Reads a whole experiment: a container directory (or its `manifest.json`), an experiment JSON file, or a published
/// file that keeps signals, told apart by content.
///
/// Digests of a container's files and the digests stored with each run are checked.
///
/// ```
/// let experiment = mantissa_published::read(&mantissa_testkit::synthetic("activations.json"))?;
/// assert_eq!(experiment.metadata.variable_tested, "batch_size");
/// # Ok::<(), mantissa_evidence::EvidenceError>(())
/// ```
pub fn read(path: &Path) -> Result<Experiment> {
    if let Some(directory) = container::root(path) {
        return Container::open(&directory)?.load();
    }
    let bytes = files::map(path)?;
    let Some((Kind::Published(layout), strict)) = recognize::kind(&bytes) else {
        return json::parse(&bytes, path);
    };
    let published = published::parse_as(layout, strict, &bytes, path)?;
    published.experiment().cloned().ok_or_else(|| EvidenceError::Invalid {
        path: path.to_owned(),
        place: format!("layout {}", layout.name),
        problem: "it holds distances, not signals".to_owned(),
        remedy: "use `mantissa analyze`".to_owned(),
    })
}

/// What is wrong with bytes that are not even text of ours.
fn other_text(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [] => Some("the file is empty"),
        [0xef, 0xbb, 0xbf, ..] => Some("the file begins with a byte order mark"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("the file is UTF-16"),
        _ => None,
    }
}

fn opened(path: &Path, digest: Digest, content: Content) -> Opened {
    let name = path.file_name().map_or_else(|| path.to_string_lossy(), |name| name.to_string_lossy());
    let warnings = match &content {
        Content::Record(record) => record.warnings().to_vec(),
        Content::Published(published) => published.warnings().to_vec(),
    };
    Opened { path: path.to_owned(), name: name.into_owned(), digest, content, warnings }
}
