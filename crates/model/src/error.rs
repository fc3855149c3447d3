//! Everything that can be wrong with a checkpoint, each in one line: file, place, fault; remedy.

use std::path::{Path, PathBuf};

/// Why a checkpoint, tokenizer or download was refused.
///
/// ```
/// use mantissa_model::{ModelConfig, ModelError};
///
/// let error = ModelConfig::from_json("config.json", b"[]").expect_err("no object");
/// assert!(matches!(error, ModelError::Damaged { .. }));
/// assert!(error.to_string().starts_with("config.json: line 1: not a JSON object"), "{error}");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The operating system refused.
    #[error("{file}: cannot {action}: {source}; {remedy}")]
    Io {
        /// File or folder.
        file: String,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// A file contradicts its own format.
    #[error("{file}: {place}: {fault}; {remedy}")]
    Damaged {
        /// File.
        file: String,
        /// Byte offset, key or part of the file.
        place: String,
        /// What is wrong there.
        fault: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A tensor is absent, has the wrong shape or lies outside its file.
    #[error("{file}: tensor '{tensor}': {fault}; {remedy}")]
    Tensor {
        /// File or folder.
        file: String,
        /// Name of the tensor, as the file spells it.
        tensor: String,
        /// What is wrong with it.
        fault: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The checkpoint is sound, but asks for arithmetic that the engine does not do.
    #[error("{file}: {key}: {fault}; {remedy}")]
    Unsupported {
        /// File.
        file: String,
        /// The setting.
        key: String,
        /// What it asks for.
        fault: String,
        /// What to do.
        remedy: String,
    },
    /// No model goes by this name.
    #[error("model '{spec}': {fault}; {remedy}")]
    NotFound {
        /// Path or name as given.
        spec: String,
        /// What was looked for.
        fault: String,
        /// What to do.
        remedy: String,
    },
    /// The chat template failed on these messages.
    #[error("{file}: chat template: {fault}; {remedy}")]
    Template {
        /// Where the template came from.
        file: String,
        /// What it said.
        fault: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A download failed.
    #[error("{url}: {fault}; {remedy}")]
    Download {
        /// Address or package.
        url: String,
        /// What happened.
        fault: String,
        /// What to do.
        remedy: String,
    },
}

/// How a file of Git LFS begins that stands in place of the file itself.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Whether these are the bytes of the placeholder that a clone without Git LFS has in place of a large file.
///
/// ```
/// assert!(mantissa_model::error::is_lfs_pointer(b"version https://git-lfs.github.com/spec/v1\noid sha256:46"));
/// assert!(!mantissa_model::error::is_lfs_pointer(b"{}"));
/// ```
#[must_use]
pub fn is_lfs_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(LFS_POINTER)
}

/// Refuses such a placeholder.
pub(crate) fn refuse_pointer(path: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    if !is_lfs_pointer(bytes) {
        return Ok(());
    }
    Err(ModelError::Damaged {
        file: shown_path(path),
        place: "line 1".to_owned(),
        fault: "a pointer of Git LFS, not the file itself".to_owned(),
        remedy: "run `git lfs pull` in its repository",
    })
}

/// Remedy for a file whose bytes contradict each other.
pub(crate) const AGAIN: &str = "download or convert it again";

impl ModelError {
    pub(crate) fn io(path: &Path, action: &'static str, source: std::io::Error) -> Self {
        let remedy = match source.kind() {
            std::io::ErrorKind::NotFound => "check the path",
            std::io::ErrorKind::PermissionDenied => "check its permissions",
            std::io::ErrorKind::StorageFull => "free some disk space",
            _ => "check the disk and try again",
        };
        Self::Io { file: shown_path(path), action, source, remedy }
    }

    pub(crate) fn damaged(file: &str, place: impl Into<String>, fault: impl Into<String>) -> Self {
        Self::Damaged { file: file.into(), place: place.into(), fault: fault.into(), remedy: AGAIN }
    }

    pub(crate) fn tensor(file: &str, tensor: &str, fault: impl Into<String>) -> Self {
        Self::Tensor { file: file.into(), tensor: shown(tensor), fault: fault.into(), remedy: AGAIN }
    }

    pub(crate) fn unsupported(
        file: &str,
        key: impl Into<String>,
        fault: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::Unsupported { file: file.into(), key: key.into(), fault: fault.into(), remedy: remedy.into() }
    }
}

/// A string from a file as part of a one-line message: control characters escaped, long ones cut.
pub(crate) fn shown(text: &str) -> String {
    const LONGEST: usize = 96;
    let mut shown = String::new();
    for c in text.chars().take(LONGEST) {
        match c {
            '\'' | '"' => shown.push(c),
            other => shown.extend(other.escape_debug()),
        }
    }
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

/// A path as part of a one-line message.
pub(crate) fn shown_path(path: &Path) -> String {
    path.display().to_string().replace(|c: char| c.is_control(), "\u{fffd}")
}

/// Largest JSON file read whole (index files of the largest models have a few MB).
pub(crate) const LARGEST_JSON: u64 = 256 << 20;

/// The whole of a small file.
///
/// Reads at most `limit` bytes, so that a device file or a misnamed weight file cannot fill the memory.
pub(crate) fn read_small(path: &Path, limit: u64) -> Result<Vec<u8>, ModelError> {
    use std::io::Read as _;
    let file = std::fs::File::open(path).map_err(|e| ModelError::io(path, "open", e))?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| ModelError::io(path, "read", e))?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > limit) {
        return Err(ModelError::damaged(&shown_path(path), "size", format!("more than {limit} bytes")));
    }
    refuse_pointer(path, &bytes)?;
    Ok(bytes)
}

/// The file `name` in `folder`, if it is there.
pub(crate) fn present(folder: &Path, name: &str) -> Option<PathBuf> {
    let path = folder.join(name);
    path.is_file().then_some(path)
}

/// Whether a name from a file or a server names one file of a folder and nothing above or below it.
pub(crate) fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name != "."
        && name != ".."
        && !name.contains(['/', '\\', ':'])
        && !name.contains(|c: char| c.is_control())
}
