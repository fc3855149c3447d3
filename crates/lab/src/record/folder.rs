//! The folder of a record while it is made: what was asked for, and who holds it.

use std::path::{Path, PathBuf};

use mantissa_evidence::{Digest, Experiment, UsedCatalog, container};
use serde::Serialize;

use crate::catalog_use;
use crate::error::LabError;
use crate::setup::RecordSpec;

/// Folder of finished repetitions, and file of what was asked for, inside the output folder.
pub(super) const UNFINISHED: &str = ".unfinished";

/// Where a repetition stands until all are there.
pub(super) fn repetition_folder(out: &Path, config_id: &str, reference: usize, rep: usize) -> PathBuf {
    out.join(UNFINISHED).join(format!("{config_id}-ref{reference}-rep{rep}"))
}
const PLAN: &str = "plan.json";

/// What was asked for, by content: two records with equal plans have equal bytes.
#[derive(Debug, Serialize)]
pub(super) struct RecordPlan<'p> {
    pub(super) tool: &'p str,
    pub(super) weights_digest: Digest,
    pub(super) spec: &'p RecordSpec,
    pub(super) prompt_ids_digest: Digest,
    /// The catalogs that recipes are taken from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) catalogs: Vec<UsedCatalog>,
}

/// Whether a record was begun in `out`.
pub(super) fn is_claimed(out: &Path) -> bool {
    out.join(PLAN).exists()
}

/// Refuses a folder that holds something else. What a write that was cut short left does not count.
pub(super) fn check_free(out: &Path) -> Result<(), LabError> {
    let foreign =
        |entry: std::io::Result<std::fs::DirEntry>| entry.is_ok_and(|e| !is_leftover(&e.file_name()));
    if std::fs::read_dir(out).is_ok_and(|mut entries| entries.any(foreign)) {
        return Err(LabError::NotEmpty { path: out.to_owned() });
    }
    Ok(())
}

/// Makes `out` this record's own, for as long as the returned file is open. Returns the experiment too when it is
/// finished already.
pub(super) fn claim_folder(
    out: &Path,
    plan: &RecordPlan<'_>,
) -> Result<(Option<Experiment>, std::fs::File), LabError> {
    let mut wanted =
        serde_json::to_vec_pretty(plan).map_err(|e| LabError::Digest { reason: e.to_string() })?;
    wanted.push(b'\n');
    let (scratch, path) = (out.join(UNFINISHED), out.join(PLAN));
    match std::fs::read(&path) {
        Ok(found) if found == wanted => {}
        Ok(found) => return Err(other_record(out, &found, &wanted)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            check_free(out)?;
            std::fs::create_dir_all(out).map_err(|source| LabError::io(out, "make", source))?;
            write_whole(&path, &wanted)?;
        }
        Err(source) => return Err(LabError::io(&path, "read", source)),
    }
    let lock = lock(out)?;
    for entry in std::fs::read_dir(out).map_err(|source| LabError::io(out, "list", source))?.flatten() {
        if is_leftover(&entry.file_name()) {
            std::fs::remove_file(entry.path())
                .map_err(|source| LabError::io(&entry.path(), "remove", source))?;
        }
    }
    if container::is_complete(out) {
        if scratch.exists() {
            std::fs::remove_dir_all(&scratch).map_err(|source| LabError::io(&scratch, "remove", source))?;
        }
        return Ok((Some(mantissa_evidence::read(out)?), lock));
    }
    std::fs::create_dir_all(&scratch).map_err(|source| LabError::io(&scratch, "make", source))?;
    Ok((None, lock))
}

/// Takes back what [`claim_folder`] made, where nothing was recorded since.
pub(super) fn give_back(out: &Path) {
    let scratch = out.join(UNFINISHED);
    let begun = std::fs::read_dir(&scratch)
        .is_ok_and(|entries| entries.flatten().any(|entry| container::is_complete(&entry.path())));
    if begun {
        return;
    }
    // Whatever stays is no loss: the next record of the same plan goes on in it.
    drop(std::fs::remove_dir_all(&scratch));
    drop(std::fs::remove_file(out.join(PLAN)));
    drop(std::fs::remove_dir(out));
}

/// What the plan of another record has to say: that it used other catalogs, where that is all.
fn other_record(out: &Path, found: &[u8], wanted: &[u8]) -> LabError {
    let read = |plan: &[u8]| {
        let mut plan: serde_json::Value = serde_json::from_slice(plan).ok()?;
        let catalogs = plan.as_object_mut()?.remove("catalogs").unwrap_or_else(|| serde_json::json!([]));
        Some((plan, serde_json::from_value::<Vec<UsedCatalog>>(catalogs).ok()?))
    };
    match (read(found), read(wanted)) {
        (Some((same, found)), Some((plan, wanted))) if same == plan => LabError::OtherCatalogs {
            path: out.join(PLAN),
            found: catalog_use::in_words(&found),
            wanted: catalog_use::in_words(&wanted),
        },
        _ => LabError::OtherRecord { path: out.to_owned() },
    }
}

/// Writes a file beside its place and renames it there.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), LabError> {
    use std::io::Write as _;
    let folder = path.parent().unwrap_or(Path::new("."));
    let write = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".mantissa-");
        // As any file of the record: readable as the user's mask says, not the owner's alone.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut file = builder.tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        std::io::Result::Ok(())
    };
    write().map_err(|source| LabError::io(path, "write", source))
}

/// Holds an unfinished record's folder, against other processes, for as long as the file is open.
///
/// *Errors:* the folder holds no record, or another process is recording into it.
///
/// ```
/// let error = mantissa_lab::record::lock("/no/such/record".as_ref()).expect_err("no record");
/// assert!(error.to_string().starts_with("/no/such/record"), "{error}");
/// ```
pub fn lock(out: &Path) -> Result<std::fs::File, LabError> {
    let path = out.join(PLAN);
    let lock = std::fs::File::open(&path).map_err(|source| LabError::io(&path, "open", source))?;
    match lock.try_lock() {
        Err(std::fs::TryLockError::WouldBlock) => Err(LabError::Busy { path: out.to_owned() }),
        // A file system without locks: go on without one.
        Ok(()) | Err(std::fs::TryLockError::Error(_)) => Ok(lock),
    }
}

/// Whether a file name is that of a temporary file of ours.
fn is_leftover(name: &std::ffi::OsStr) -> bool {
    name.to_string_lossy().starts_with(".mantissa-")
}
