//! Files that appear whole or not at all, and mapped views of files that already do.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use memmap2::Mmap;

use crate::error::{EvidenceError, Result};

/// What to do with a file that is already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    Keep,
    Replace,
}

/// Writes `path` through a temporary file beside it: write, fsync, rename, fsync of the directory.
pub(crate) fn write(
    path: &Path,
    existing: Existing,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    let io = |source| EvidenceError::Io {
        path: path.to_owned(),
        action: "write it",
        source,
        remedy: "check that the directory exists, can be written and has space",
    };
    if existing == Existing::Keep && path.symlink_metadata().is_ok() {
        return Err(EvidenceError::Exists { path: path.to_owned() });
    }
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".mantissa-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let temporary = builder.tempfile_in(directory).map_err(io)?;
    let mut writer = BufWriter::with_capacity(1 << 20, temporary.as_file());
    content(&mut writer).and_then(|()| writer.flush()).map_err(io)?;
    drop(writer);
    temporary.as_file().sync_all().map_err(io)?;
    let persisted = match existing {
        Existing::Keep => temporary.persist_noclobber(path),
        Existing::Replace => temporary.persist(path),
    };
    persisted.map_err(|e| match e.error.kind() {
        io::ErrorKind::AlreadyExists => EvidenceError::Exists { path: path.to_owned() },
        _ => io(e.error),
    })?;
    // A rename is durable once its directory is; some file systems cannot sync one, and then nothing more can be done.
    let _ = File::open(directory).and_then(|d| d.sync_all());
    Ok(())
}

/// Writes a file that appears whole or not at all: temporary file beside it, fsync, rename.
///
/// *Errors:* [`EvidenceError::Exists`] for an existing file unless `replace`; [`EvidenceError::Io`].
///
/// ```
/// use mantissa_evidence::{EvidenceError, write_whole};
///
/// # let folder = tempfile::tempdir().expect("a folder");
/// let path = folder.path().join("facts.txt");
/// write_whole(&path, false, |out| out.write_all(b"equal"))?;
/// let again = write_whole(&path, false, |out| out.write_all(b"different"));
/// assert!(matches!(again, Err(EvidenceError::Exists { .. })));
/// assert_eq!(std::fs::read(&path).expect("the file"), b"equal");
/// # Ok::<(), mantissa_evidence::EvidenceError>(())
/// ```
pub fn write_whole(
    path: &Path,
    replace: bool,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    write(path, if replace { Existing::Replace } else { Existing::Keep }, content)
}

/// Maps a regular file.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("three.bytes");
/// std::fs::write(&path, "abc")?;
/// assert_eq!(&mantissa_evidence::files::map(&path)?[..], b"abc");
/// assert!(mantissa_evidence::files::map(folder.path()).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn map(path: &Path) -> Result<Mmap> {
    let file = open(path)?;
    // SAFETY: evidence files appear by rename and are never changed in place by this program. Another program that
    // truncates one while it is mapped stops this process; every length read from the map is checked against it.
    unsafe { Mmap::map(&file) }.map_err(|source| unreadable(path, source))
}

/// The error about a file that the operating system will not let us read.
///
/// ```
/// let source = std::io::Error::other("the disk is gone");
/// let error = mantissa_evidence::files::unreadable("a.json".as_ref(), source);
/// let text = "a.json: cannot read it: the disk is gone; check the path and its permissions";
/// assert_eq!(error.to_string(), text);
/// ```
#[must_use]
pub fn unreadable(path: &Path, source: io::Error) -> EvidenceError {
    let (path, remedy) = (path.to_owned(), "check the path and its permissions");
    EvidenceError::Io { path, action: "read it", source, remedy }
}

/// Opens a regular file.
pub(crate) fn open(path: &Path) -> Result<File> {
    let io = |source| unreadable(path, source);
    // Opening a pipe would wait for a writer.
    if !fs::metadata(path).map_err(io)?.is_file() {
        return Err(io(io::Error::other("it is not a regular file")));
    }
    File::open(path).map_err(io)
}
