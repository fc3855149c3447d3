//! The one entry point to evidence of any kind: a file is recognized by its content, never by its name.

use std::path::{Path, PathBuf};

use mantissa_evidence::error::{self, EvidenceError, Result};
use mantissa_evidence::{
    Conflict, Container, Digest, Experiment, Record, consistency, container, files, json,
};

use crate::answers::{self, Answers};
use crate::published::{self, Published};
use crate::recognize::{self, Kind};
use crate::sheet::{Sheet, Signal};
use crate::uniform;
use crate::{gzip, layouts, named};

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
    /// Parts that are not those their digests were made of; empty unless it was opened despite them.
    pub damage: Vec<String>,
    /// What it states twice and not alike: no verdict before it is settled what is meant.
    pub conflicts: Vec<Conflict>,
    /// Answers of an API, where it holds them: `content` is what they are without a vocabulary.
    pub answers: Option<Answers>,
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
    /// assert_eq!((sheet.variable.as_str(), sheet.figures.len()), ("batch_size", 38));
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
    open_with(path, Despite::Nothing)
}

/// As [`open`]; data that are not those their digests were made of are opened all the same, and named under `damage`
/// and among the warnings.
///
/// ```
/// let path = mantissa_testkit::synthetic("activations.json");
/// assert!(mantissa_published::open_despite_damage(&path)?.damage.is_empty());
/// # Ok::<(), mantissa_evidence::EvidenceError>(())
/// ```
pub fn open_despite_damage(path: &Path) -> Result<Opened> {
    open_with(path, Despite::Damage)
}

/// What a file is opened despite of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Despite {
    Nothing,
    Damage,
}

impl Despite {
    fn record(self, path: &Path) -> Result<(Record, Vec<String>)> {
        match self {
            Self::Damage => Record::open_despite_damage(path),
            Self::Nothing => Self::checked(Record::open(path)?),
        }
    }

    fn record_of(self, bytes: Vec<u8>, path: &Path) -> Result<(Record, Vec<String>)> {
        match self {
            Self::Damage => Record::from_bytes_despite_damage(bytes, path),
            Self::Nothing => Self::checked(Record::from_bytes(bytes, path)?),
        }
    }

    fn checked(record: Record) -> Result<(Record, Vec<String>)> {
        record.verify()?;
        Ok((record, Vec::new()))
    }
}

fn open_with(path: &Path, despite: Despite) -> Result<Opened> {
    if let Some(directory) = container::root(path) {
        // First, because it knows what to say of a directory that holds no finished record.
        let (record, damage) = despite.record(path)?;
        let digest = Digest::of_bytes(&files::map(&directory.join(container::MANIFEST))?);
        return Ok(opened(path, digest, Content::Record(record), damage));
    }
    let bytes = files::map(path)?;
    if let Some(unpacked) = gzip::unpacked(&bytes, path)? {
        let digest = Digest::of_bytes(&bytes);
        if let Some((Kind::Experiment, _)) = recognize::kind(&unpacked) {
            let (record, damage) = despite.record_of(unpacked, path)?;
            return Ok(opened(path, digest, Content::Record(record), damage));
        }
        return of_published(&unpacked, digest, path);
    }
    if let Some((Kind::Experiment, _)) = recognize::kind(&bytes) {
        // May be larger than memory: from here on it is read in windows, and what was mapped is let go.
        drop(bytes);
        let (read, digest) = rayon::join(|| despite.record(path), || Digest::of_large_file(path));
        let digest = digest.map_err(|source| files::unreadable(path, source));
        let (record, damage) = read?;
        return Ok(opened(path, digest?, Content::Record(record), damage));
    }
    let size = bytes.len() as u64;
    // Nobody waits for the digest of a file that is too large.
    let digest = if size > LARGEST_PUBLISHED { Digest::of_bytes(&[]) } else { Digest::of_bytes(&bytes) };
    of_published(&bytes, digest, path)
}

/// Opens a published file that is in memory; `digest` is that of the file.
fn of_published(bytes: &[u8], digest: Digest, path: &Path) -> Result<Opened> {
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
    let Some((Kind::Published(layout), strict)) = recognize::kind(bytes) else {
        let Some(answers) = answers::parse(bytes, path)? else { return Err(unknown(bytes, path)) };
        let made = answers.experiment(None, false)?;
        let record = Record::from_experiment(made.experiment, path);
        let mut opened = opened(path, digest, Content::Record(record), Vec::new());
        opened.warnings.extend(made.warnings);
        return Ok(Opened { answers: Some(answers), ..opened });
    };
    let published = published::parse_as(layout, strict, bytes, path)?;
    Ok(opened(path, digest, Content::Published(published), Vec::new()))
}

/// Why a file that begins as JSON is none, in its first line either.
fn no_json(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    if !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    let whole = serde_json::from_str::<serde::de::IgnoredAny>(text).err()?;
    let first = text.lines().find(|line| !line.trim().is_empty())?;
    let of_line = serde_json::from_str::<serde::de::IgnoredAny>(first).err()?;
    // Of a file of several lines the whole says more, unless its first line is whole but for the damage.
    let error = if of_line.is_eof() { whole } else { of_line };
    Some(format!("damaged JSON ({error})"))
}

/// What to say of a file that is no evidence.
fn unknown(bytes: &[u8], path: &Path) -> EvidenceError {
    if let Some(problem) = other_text(bytes) {
        return EvidenceError::Invalid {
            path: path.to_owned(),
            place: "encoding".to_owned(),
            problem: problem.to_owned(),
            remedy: "save it as UTF-8 without a byte order mark, or copy it again".to_owned(),
        };
    }
    if let Some(named) = named::name(bytes) {
        return EvidenceError::NotEvidence {
            path: path.to_owned(),
            what: error::one_line(&named.what),
            remedy: named.instead.to_owned(),
        };
    }
    if let Some(problem) = no_json(bytes) {
        return EvidenceError::NotEvidence {
            path: path.to_owned(),
            what: problem,
            remedy:
                "give the file as it was written: JSON has no NaN or Infinity, and ends with what it began"
                    .to_owned(),
        };
    }
    let known = format!(
        "give a container directory or its manifest.json, an experiment JSON (top-level keys {}), {}",
        uniform::KEYS.join(", "),
        layouts::known()
    );
    EvidenceError::UnknownLayout { path: path.to_owned(), known }
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
    let mapped = files::map(path)?;
    let unpacked = gzip::unpacked(&mapped, path)?;
    let bytes = unpacked.as_deref().unwrap_or(&mapped);
    signals(bytes, path)?.map_or_else(|| json::parse(bytes, path), Ok)
}

/// As [`read`]; data that are not those their digests were made of are read all the same, and named in the list.
///
/// ```
/// let path = mantissa_testkit::synthetic("activations.json");
/// let (experiment, damage) = mantissa_published::read_despite_damage(&path)?;
/// assert_eq!((experiment.runs.len(), damage.len()), (9, 0));
/// # Ok::<(), mantissa_evidence::EvidenceError>(())
/// ```
pub fn read_despite_damage(path: &Path) -> Result<(Experiment, Vec<String>)> {
    if container::root(path).is_none() {
        let mapped = files::map(path)?;
        let unpacked = gzip::unpacked(&mapped, path)?;
        let bytes = unpacked.as_deref().unwrap_or(&mapped);
        if let Some(experiment) = signals(bytes, path)? {
            return Ok((experiment, Vec::new()));
        }
        if unpacked.is_some() {
            return mantissa_evidence::json::parse_despite_damage(bytes, path);
        }
    }
    mantissa_evidence::read_despite_damage(path)
}

/// The signals of a published file; `None` for what may be an experiment of our own.
fn signals(bytes: &[u8], path: &Path) -> Result<Option<Experiment>> {
    let (layout, strict) = match recognize::kind(bytes) {
        Some((Kind::Published(layout), strict)) => (layout, strict),
        None if bytes.len() as u64 <= LARGEST_PUBLISHED
            && let Some(answers) = answers::parse(bytes, path)? =>
        {
            return answers.experiment(None, false).map(|made| Some(made.experiment));
        }
        None if named::name(bytes).is_some() => return Err(unknown(bytes, path)),
        Some((Kind::Experiment, _)) | None => return Ok(None),
    };
    let published = published::parse_as(layout, strict, bytes, path)?;
    published.experiment().cloned().map(Some).ok_or_else(|| EvidenceError::Invalid {
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

fn opened(path: &Path, digest: Digest, content: Content, damage: Vec<String>) -> Opened {
    let name = path.file_name().map_or_else(|| path.to_string_lossy(), |name| name.to_string_lossy());
    let mut warnings = damage.clone();
    warnings.extend(match &content {
        Content::Record(record) => record.warnings().to_vec(),
        Content::Published(published) => published.warnings().to_vec(),
    });
    // A row that cannot be read is told by whoever needs it.
    let conflicts = match &content {
        Content::Record(record) => consistency::conflicts(record).unwrap_or_default(),
        Content::Published(published) => published.experiment().map_or_else(Vec::new, |experiment| {
            let record = Record::from_experiment(experiment.clone(), path);
            consistency::conflicts(&record).unwrap_or_default()
        }),
    };
    Opened {
        path: path.to_owned(),
        name: name.into_owned(),
        digest,
        content,
        warnings,
        damage,
        conflicts,
        answers: None,
    }
}
