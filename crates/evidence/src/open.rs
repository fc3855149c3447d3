//! The one door to evidence of any kind: what a file is, is decided by its content and never by its name.

use std::path::{Path, PathBuf};

use crate::container;
use crate::digest::Digest;
use crate::error::{EvidenceError, Result};
use crate::published::{self, Published};
use crate::{Record, files};

/// What is known, for the error about everything else.
const KNOWN: &str = "give a container directory or its manifest.json, an experiment JSON (top-level keys \
    experiment_metadata, configurations, runs), a published JSON (activations: raw_activations; batch_generation: \
    measurements; batch_verification and quant_verification: comparisons; quant_generation: generations; \
    attention_verification: cross_hardware), or one of the logs batch_matrix_log, attention_log, quantization_log";

/// Published files are read whole, so their length is bounded; the largest known has 3 MB.
const LARGEST_PUBLISHED: u64 = 1 << 28;

/// Evidence and where it came from.
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
#[derive(Debug)]
pub enum Content {
    /// An experiment, as JSON or in a container.
    Record(Record),
    /// A file that another program published.
    Published(Published),
}

impl Content {
    /// Name of the layout: `experiment_json`, `container`, `activations`, …
    #[must_use]
    pub fn layout(&self) -> &'static str {
        match self {
            Self::Record(record) => match container::root(record.origin()) {
                Some(_) => "container",
                None => "experiment_json",
            },
            Self::Published(published) => published.layout(),
        }
    }
}

/// Opens evidence of any kind, and checks it against every digest that it states: damage is no difference of setups.
pub fn open(path: &Path) -> Result<Opened> {
    if let Some(directory) = container::root(path) {
        // First, because it knows what to say of a directory that holds no finished record.
        let record = Record::open(path)?;
        record.verify()?;
        let digest = Digest::of_bytes(&files::map(&directory.join(container::MANIFEST))?);
        return Ok(opened(path, digest, Content::Record(record)));
    }
    let bytes = files::map(path)?;
    if published::is_experiment(&bytes) {
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
    let Some(published) = published::parse(&bytes, path)? else {
        if let Some(problem) = other_text(&bytes) {
            return Err(EvidenceError::Invalid {
                path: path.to_owned(),
                place: "encoding".to_owned(),
                problem: problem.to_owned(),
                remedy: "save it as UTF-8 without a byte order mark, or copy it again".to_owned(),
            });
        }
        return Err(EvidenceError::UnknownLayout { path: path.to_owned(), known: KNOWN });
    };
    let digest = Digest::of_bytes(&bytes);
    Ok(opened(path, digest, Content::Published(published)))
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
