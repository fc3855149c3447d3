//! Published files for tests: synthetic ones of every layout, and real ones where a folder of them is named.

use std::path::{Path, PathBuf};

/// Path of a synthetic file: `activations.json`, `quantization.log`, … `build.rs` writes them.
///
/// # Panics
/// When there is no such file.
///
/// ```
/// let path = mantissa_testkit::synthetic("quantization.log");
/// assert!(std::fs::read_to_string(path)?.contains("gptq"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub fn synthetic(name: &str) -> PathBuf {
    let path = Path::new(env!("OUT_DIR")).join(name);
    assert!(path.is_file(), "no synthetic file is called {name}");
    path
}

/// Names of all synthetic files, sorted.
///
/// # Panics
/// When the folder that `build.rs` filled cannot be listed.
///
/// ```
/// assert!(mantissa_testkit::all_synthetic().contains(&"activations.json".to_owned()));
/// ```
#[must_use]
pub fn all_synthetic() -> Vec<String> {
    let entries = std::fs::read_dir(env!("OUT_DIR")).expect("build.rs made it");
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Names the folders, separated as in `PATH`, that hold result files of others. Such files are not part of this
/// repository.
pub const PUBLISHED: &str = "MANTISSA_PUBLISHED";

/// Path of a result file of others by its own name (`quant_generation_A100.json`), in one of the folders that
/// [`PUBLISHED`] names. Tests that call it are ignored unless it was set when they were built.
///
/// # Panics
/// When no folder is named, or none has the file.
///
/// ```no_run
/// let path = mantissa_testkit::published("quant_generation_A100.json");
/// assert!(path.is_file());
/// ```
#[must_use]
pub fn published(name: &str) -> PathBuf {
    let folders = std::env::var_os(PUBLISHED).unwrap_or_default();
    let found = std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no folder of {PUBLISHED} has {name}"))
}
