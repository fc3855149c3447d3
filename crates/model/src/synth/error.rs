//! Everything that can stop a synthetic checkpoint, each in one line: subject, fault; remedy.

use std::path::Path;

/// Why no synthetic checkpoint was written.
///
/// Example: [`super::SynthRequest`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SynthError {
    /// A dimension or switch that no model of the family can have.
    #[error("synth: {key} {value}: {fault}; {remedy}")]
    Setting {
        /// The setting, in Hugging Face's spelling.
        key: &'static str,
        /// As given.
        value: String,
        /// What is wrong with it.
        fault: String,
        /// Values that are right.
        remedy: String,
    },
    /// The folder holds something else.
    #[error("{folder}: {fault}; {remedy}")]
    Folder {
        /// The folder, or a file in it.
        folder: String,
        /// What is there.
        fault: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The checkpoint would not fit.
    #[error(
        "{folder}: the checkpoint needs {needed} more bytes, the disk has {free} free; free some space or choose smaller dimensions"
    )]
    Space {
        /// The folder.
        folder: String,
        /// Bytes still to be written.
        needed: u64,
        /// Bytes available there.
        free: u64,
    },
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
}

impl SynthError {
    pub(super) fn setting(
        key: &'static str,
        value: impl std::fmt::Display,
        fault: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::Setting { key, value: value.to_string(), fault: fault.into(), remedy: remedy.into() }
    }

    pub(super) fn folder(path: &Path, fault: impl Into<String>, remedy: &'static str) -> Self {
        Self::Folder { folder: shown(path), fault: fault.into(), remedy }
    }

    pub(super) fn io(path: &Path, action: &'static str, source: std::io::Error) -> Self {
        let remedy = match source.kind() {
            std::io::ErrorKind::NotFound => "check the path",
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                "check its permissions"
            }
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                "free some disk space; finished shards are kept"
            }
            std::io::ErrorKind::NotADirectory | std::io::ErrorKind::AlreadyExists => "name a folder",
            _ => "check the disk and run it again; finished shards are kept",
        };
        Self::Io { file: shown(path), action, source, remedy }
    }
}

/// A path as part of a one-line message.
pub(super) fn shown(path: &Path) -> String {
    path.display().to_string().replace(|c: char| c.is_control(), "\u{fffd}")
}
