//! What a pull from any source needs: word of how far it is, the checksum of what came, and a folder that appears whole
//! and stays.

use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::error::ModelError;
use crate::hex::hex;

/// How far a pull is.
///
/// Example: [`pull`](super::pull).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// File or package on its way.
    pub file: &'a str,
    /// Bytes of it that are here.
    pub done: u64,
    /// Bytes it has, when known.
    pub total: Option<u64>,
}

/// SHA-256 of a file, hexadecimal.
pub(super) fn sha256(path: &Path) -> Result<String, ModelError> {
    use std::io::Read as _;
    let mut file = std::fs::File::open(path).map_err(|e| ModelError::io(path, "open", e))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(|e| ModelError::io(path, "read", e))? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    Ok(hex(&hasher.finalize()))
}

/// Renames a gathered folder into place and makes the rename last.
pub(super) fn publish(gathered: &Path, folder: &Path) -> Result<(), ModelError> {
    let parent = folder.parent().unwrap_or(folder);
    std::fs::create_dir_all(parent).map_err(|e| ModelError::io(parent, "create", e))?;
    sync(gathered)?;
    std::fs::rename(gathered, folder).map_err(|e| ModelError::io(folder, "rename into place", e))?;
    sync(parent)
}

/// Makes a file's bytes or a folder's names last.
pub(super) fn sync(path: &Path) -> Result<(), ModelError> {
    let file = std::fs::File::open(path).map_err(|e| ModelError::io(path, "open", e))?;
    file.sync_all().map_err(|e| ModelError::io(path, "write", e))
}
