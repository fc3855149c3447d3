//! Writing a synthetic checkpoint: each file whole or not at all, in parallel, in bounded memory; resumable.
//!
//! Order: `synth.json` claims the folder, the shards follow, `config.json` comes last. A run that finds finished files
//! makes their bytes again and compares them, so "kept" means "checked". Left out: what the bytes are (`values`,
//! `shards`, `files`).

use std::fs::{self, File, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::error::{SynthError, shown};
use super::files::{self, SPEC_FILE, SmallFile};
use super::shards::{self, Piece, Shard};
use super::spec::SynthSpec;

/// What a finished file that differs calls for.
const DIFFERS: &str = "delete it and run again, or choose another --out";

/// What [`write()`] left on disk.
///
/// Example: [`write()`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Every file of the checkpoint, in the order they are written.
    pub files: Vec<PathBuf>,
    /// Bytes of all files together.
    pub bytes: u64,
    /// How many of them were there already and were found right.
    pub kept: usize,
}

/// Writes the checkpoint of `spec` into `folder`, or completes and checks the one that is there.
///
/// `progress` is called from many threads with the tensor bytes just made or checked; they add up to
/// [`SynthSpec::total_bytes`].
///
/// *Errors:* a folder with anything else in it, another run at work there, too little disk space, a finished file with
/// other bytes, and whatever the system reports. Finished files stay; an unfinished one is removed.
///
/// ```
/// use mantissa_model::Arch;
/// use mantissa_model::synth::{SynthSpec, write};
///
/// let spec = SynthSpec::tiny(Arch::LLAMA, 7);
/// # let folder = tempfile::tempdir()?;
/// let written = write(&spec, folder.path(), &|_| {})?;
/// assert!(written.files.iter().any(|file| file.ends_with("config.json")));
/// // A second run makes every byte again and compares it.
/// assert_eq!(write(&spec, folder.path(), &|_| {})?.kept, written.files.len());
/// let first = spec.tensors().next().expect("the embedding");
/// assert_eq!(first.name, "model.embed_tokens.weight");
/// assert_eq!(first.bytes(spec.dtype()), 2 * first.elements());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write(
    spec: &SynthSpec,
    folder: &Path,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Written, SynthError> {
    let shards = shards::shards(spec)?;
    let spec_file = files::spec_file(spec);
    let small_files = files::small_files(spec, &shards);

    fs::create_dir_all(folder).map_err(|e| SynthError::io(folder, "create the folder", e))?;
    let _lock = lock(folder)?;
    claimable(folder, &spec_file)?;
    let sizes = shards
        .iter()
        .map(|shard| (shard.name.as_str(), shard.len))
        .chain(small_files.iter().chain([&spec_file]).map(|file| (file.name, file.bytes.len() as u64)));
    let mut bytes = 0;
    let mut needed = 0;
    for (name, len) in sizes {
        bytes += len;
        needed += if folder.join(name).exists() { 0 } else { len };
    }
    has_space(folder, needed)?;

    let mut written = Written { files: Vec::new(), bytes, kept: 0 };
    let mut note = |name: &str, kept: bool| {
        written.files.push(folder.join(name));
        written.kept += usize::from(kept);
    };
    note(spec_file.name, write_small(folder, &spec_file)?);
    for shard in &shards {
        note(&shard.name, write_shard(folder, shard, progress)?);
    }
    for file in &small_files {
        note(file.name, write_small(folder, file)?);
    }
    Ok(written)
}

/// Keeps a second run out of the folder for as long as the handle lives.
fn lock(folder: &Path) -> Result<Option<File>, SynthError> {
    // A folder cannot be opened, or not be locked, on some systems; two runs there write the same bytes.
    let Ok(handle) = File::open(folder) else { return Ok(None) };
    match handle.try_lock() {
        Ok(()) => Ok(Some(handle)),
        Err(TryLockError::WouldBlock) => {
            Err(SynthError::folder(folder, "another run is writing here", "wait for it to end"))
        }
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// Whether the folder is empty or holds (part of) this very checkpoint.
fn claimable(folder: &Path, spec_file: &SmallFile) -> Result<(), SynthError> {
    let path = folder.join(SPEC_FILE);
    if path.exists() {
        return if same_bytes(&path, &spec_file.bytes)? {
            Ok(())
        } else {
            let fault = "was made from other settings (see its synth.json)";
            Err(SynthError::folder(folder, fault, "choose another --out, or delete the folder"))
        };
    }
    let leftover = partial_name(SPEC_FILE);
    for entry in fs::read_dir(folder).map_err(|e| SynthError::io(folder, "list", e))? {
        let entry = entry.map_err(|e| SynthError::io(folder, "list", e))?;
        if entry.file_name() != leftover.as_str() {
            let found = entry.file_name().to_string_lossy().replace(|c: char| c.is_control(), "\u{fffd}");
            let fault = format!("already holds '{found}' and no synth.json");
            return Err(SynthError::folder(folder, fault, "choose an empty or a new folder"));
        }
    }
    Ok(())
}

#[cfg(unix)]
fn has_space(folder: &Path, needed: u64) -> Result<(), SynthError> {
    let stat = rustix::fs::statvfs(folder)
        .map_err(|e| SynthError::io(folder, "ask for the free disk space", e.into()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if needed > free {
        return Err(SynthError::Space { folder: shown(folder), needed, free });
    }
    Ok(())
}

/// Not asked elsewhere: a full disk then shows itself while writing, and leaves finished shards only.
#[cfg(not(unix))]
fn has_space(_folder: &Path, _needed: u64) -> Result<(), SynthError> {
    Ok(())
}

/// Writes a small file, or checks the one that is there; whether it was there.
fn write_small(folder: &Path, file: &SmallFile) -> Result<bool, SynthError> {
    let path = folder.join(file.name);
    if path.exists() {
        return if same_bytes(&path, &file.bytes)? {
            Ok(true)
        } else {
            Err(SynthError::folder(&path, "differs from what these settings give", DIFFERS))
        };
    }
    let mut partial = Partial::create(folder, file.name)?;
    partial.file.write_all(&file.bytes).map_err(|e| partial.io("write", e))?;
    partial.finish()?;
    Ok(false)
}

/// Writes a shard, or checks the one that is there; whether it was there.
fn write_shard(folder: &Path, shard: &Shard, progress: &(dyn Fn(u64) + Sync)) -> Result<bool, SynthError> {
    let path = folder.join(&shard.name);
    if path.exists() {
        check_shard(&path, shard, progress)?;
        return Ok(true);
    }
    let mut partial = Partial::create(folder, &shard.name)?;
    partial.file.write_all(&shard.header).map_err(|e| partial.io("write", e))?;
    let file = Mutex::new(&partial.file);
    for_each_piece(shard, |_, offset, bytes| {
        {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(offset))
                .and_then(|_| file.write_all(bytes))
                .map_err(|e| partial.io("write", e))?;
        }
        progress(bytes.len() as u64);
        Ok(())
    })?;
    partial.finish()?;
    Ok(false)
}

fn check_shard(path: &Path, shard: &Shard, progress: &(dyn Fn(u64) + Sync)) -> Result<(), SynthError> {
    let mut file = File::open(path).map_err(|e| SynthError::io(path, "open", e))?;
    let len = file.metadata().map_err(|e| SynthError::io(path, "read", e))?.len();
    if len != shard.len {
        let fault = format!("has {len} bytes, these settings give {}", shard.len);
        return Err(SynthError::folder(path, fault, DIFFERS));
    }
    let mut header = vec![0; shard.header.len()];
    file.read_exact(&mut header).map_err(|e| SynthError::io(path, "read", e))?;
    if header != shard.header {
        return Err(SynthError::folder(path, "header differs from what these settings give", DIFFERS));
    }
    let file = Mutex::new(&file);
    for_each_piece(shard, |piece, offset, bytes| {
        let mut found = vec![0; bytes.len()];
        {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(offset))
                .and_then(|_| file.read_exact(&mut found))
                .map_err(|e| SynthError::io(path, "read", e))?;
        }
        if found != bytes {
            let fault = format!("tensor '{}' differs from what these settings give", piece.item.tensor.name);
            return Err(SynthError::folder(path, fault, DIFFERS));
        }
        progress(bytes.len() as u64);
        Ok(())
    })
}

/// Makes the bytes of every piece of a shard, in any order, and hands them to `take` with their place in the file.
fn for_each_piece(
    shard: &Shard,
    take: impl Fn(&Piece<'_>, u64, &[u8]) -> Result<(), SynthError> + Sync,
) -> Result<(), SynthError> {
    shard.pieces().par_iter().try_for_each(|piece| {
        let made = piece.item.unit(piece.unit);
        made.iter().try_for_each(|made| take(piece, piece.starts[made.part] + made.at, &made.bytes))
    })
}

/// Whether a file holds exactly `bytes`; reads no more of it than that.
fn same_bytes(path: &Path, bytes: &[u8]) -> Result<bool, SynthError> {
    let file = File::open(path).map_err(|e| SynthError::io(path, "open", e))?;
    let mut found = Vec::new();
    let limit = bytes.len() as u64 + 1;
    file.take(limit).read_to_end(&mut found).map_err(|e| SynthError::io(path, "read", e))?;
    Ok(found == bytes)
}

fn partial_name(name: &str) -> String {
    format!(".{name}.partial")
}

/// A file under a name of its own until it is whole. A killed run leaves one behind; the next run starts it afresh.
struct Partial {
    file: File,
    at: PathBuf,
    path: PathBuf,
    folder: PathBuf,
    finished: bool,
}

impl Partial {
    fn create(folder: &Path, name: &str) -> Result<Self, SynthError> {
        let at = folder.join(partial_name(name));
        let file = File::create(&at).map_err(|e| SynthError::io(&at, "create", e))?;
        Ok(Self { file, at, path: folder.join(name), folder: folder.into(), finished: false })
    }

    fn io(&self, action: &'static str, source: std::io::Error) -> SynthError {
        SynthError::io(&self.path, action, source)
    }

    fn finish(mut self) -> Result<(), SynthError> {
        self.file.sync_all().map_err(|e| self.io("write", e))?;
        fs::rename(&self.at, &self.path).map_err(|e| self.io("rename the finished file to", e))?;
        self.finished = true;
        // The new name is safe once the folder is; a system that cannot open folders has no such call.
        File::open(&self.folder).map_or(Ok(()), |folder| folder.sync_all()).map_err(|e| self.io("sync", e))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing can be done about a failure here, and the next run replaces the file anyway.
            drop(fs::remove_file(&self.at));
        }
    }
}
