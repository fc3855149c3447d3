//! Read-only memory maps of weight files: the only `unsafe` of this crate.
#![expect(unsafe_code, reason = "mapping a file is unsafe by nature; every other file of the crate is safe")]

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::error::{ModelError, refuse_pointer};

/// A file mapped read-only.
#[derive(Debug)]
pub(crate) struct Mapped {
    pub(crate) path: PathBuf,
    map: Mmap,
}

impl Mapped {
    /// Maps the whole of `path`, which must be an ordinary file of at least one byte.
    pub(crate) fn open(path: &Path) -> Result<Self, ModelError> {
        let file = File::open(path).map_err(|e| ModelError::io(path, "open", e))?;
        let meta = file.metadata().map_err(|e| ModelError::io(path, "read", e))?;
        if !meta.is_file() {
            let kind = std::io::Error::new(std::io::ErrorKind::InvalidInput, "not an ordinary file");
            return Err(ModelError::io(path, "map", kind));
        }
        if meta.len() == 0 {
            return Err(ModelError::damaged(&crate::error::shown_path(path), "size", "the file is empty"));
        }
        // SAFETY: the map is private to this value and never written. Its bytes are read as plain u8, for
        // which every value is valid, and every offset into them is checked against the mapped length when
        // the file is opened. What remains is another process truncating or rewriting the file while it is
        // mapped: that ends this process (SIGBUS) or changes weights under it, which no reader of mapped
        // files can prevent; the digest of the weights, recorded with every run, tells.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| ModelError::io(path, "map", e))?;
        refuse_pointer(path, &map)?;
        Ok(Self { path: path.to_owned(), map })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }
}
