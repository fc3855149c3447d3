//! GPU libraries and devices, looked for without loading or initializing anything.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

/// How long a program may take to answer; a broken driver can hang for ever.
const PATIENCE: Duration = Duration::from_secs(10);
/// Libraries that a GPU engine needs, the oldest accepted name first.
const LIBRARIES: [(&str, &[&str], &str); 5] = [
    ("libcuda.so.1", &["libcuda.so.1"], "driver"),
    ("libnvidia-ml.so.1", &["libnvidia-ml.so.1"], "management"),
    ("libnvrtc", &["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"], "kernel compiler"),
    ("libcublasLt", &["libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"], "matrix products"),
    ("libnccl", &["libnccl.so.2", "libnccl.so"], "several GPUs"),
];
/// Where loaders look besides their cache, and where CUDA installs itself.
const FOLDERS: [&str; 8] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/lib",
    "/usr/local/cuda/lib64",
    "/usr/local/nvidia/lib64",
    "/usr/lib/wsl/lib",
];

#[derive(Serialize)]
pub(super) struct Gpu {
    pub(super) libraries: Vec<Library>,
    /// Where they were looked for.
    pub(super) searched: &'static str,
    /// Name, driver and memory of each, as nvidia-smi says; absent when it does not run.
    pub(super) devices: Option<Vec<String>>,
    /// The first one as heuristics see it, with its cluster counts; absent where CUDA's libraries do not say.
    pub(super) die: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Library {
    pub(super) name: &'static str,
    pub(super) purpose: &'static str,
    pub(super) path: Option<PathBuf>,
}

impl Gpu {
    pub(super) fn look() -> Self {
        let cache = std::fs::read("/etc/ld.so.cache").unwrap_or_default();
        let paths = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let mut folders: Vec<PathBuf> = std::env::split_paths(&paths).filter(|p| p.is_absolute()).collect();
        folders.extend(FOLDERS.map(PathBuf::from));
        let libraries = LIBRARIES.map(|(name, files, purpose)| {
            let path = files.iter().find_map(|file| find(file, &cache, &folders));
            Library { name, purpose, path }
        });
        let query = ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"];
        let devices: Option<Vec<String>> =
            ask("nvidia-smi", &query).map(|said| said.lines().map(str::to_owned).collect());
        // In a program of its own: a broken driver may hang.
        let itself = devices.as_ref().and_then(|_| std::env::current_exe().ok());
        let die = itself.and_then(|program| ask(&program.to_string_lossy(), &["catalog", "gpu"]));
        Self {
            libraries: libraries.into(),
            searched: "LD_LIBRARY_PATH, the loader's cache, the system's and CUDA's usual folders",
            devices,
            die: die.map(|said| said.trim_end().replace('\n', "; ")),
        }
    }
}

/// The first existing file of this name, in the order a loader looks.
fn find(file: &str, cache: &[u8], folders: &[PathBuf]) -> Option<PathBuf> {
    let (told, usual) = folders.split_at(folders.len().saturating_sub(FOLDERS.len()));
    let of = |folders: &[PathBuf]| folders.iter().map(|folder| folder.join(file)).find(|path| path.exists());
    of(told).or_else(|| cached(file, cache).into_iter().find(|path| path.exists())).or_else(|| of(usual))
}

/// Paths in the loader's cache that end in this name. The cache holds them as strings, each ended by a zero byte.
fn cached(file: &str, cache: &[u8]) -> BTreeSet<PathBuf> {
    let strings = cache.split(|&byte| byte == 0).filter_map(|bytes| std::str::from_utf8(bytes).ok());
    let paths = strings.map(Path::new).filter(|path| path.is_absolute() && path.ends_with(file));
    paths.map(Path::to_owned).collect()
}

/// What a program writes to standard output, if it runs, succeeds and answers in time.
pub(super) fn ask(program: &str, arguments: &[&str]) -> Option<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let started = Instant::now();
    // Answers are a few lines, so they fit a pipe and may be read after the end.
    let status = loop {
        match child.try_wait().ok()? {
            Some(status) => break status,
            None if started.elapsed() > PATIENCE => {
                drop(child.kill());
                drop(child.wait());
                return None;
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let output = child.wait_with_output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (status.success() && !text.trim().is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_searched_by_whole_names() {
        let cache =
            b"glibc-ld.so.cache1.1\0\x03junk\0libcuda.so.1\0/opt/a/libcuda.so.1\0/b/notlibcuda.so.1\0rel/libcuda.so.1\0";
        let found: Vec<_> = cached("libcuda.so.1", cache).into_iter().collect();
        assert_eq!(found, [PathBuf::from("/opt/a/libcuda.so.1")]);
    }

    #[test]
    fn only_what_exists_is_found_and_told_folders_come_first() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for folder in [&a, &b] {
            std::fs::write(folder.path().join("libx.so"), "").unwrap();
        }
        let cache = format!("\0{}\0", b.path().join("libx.so").display());
        let mut folders = vec![a.path().to_owned()];
        folders.extend(FOLDERS.map(PathBuf::from));
        assert_eq!(find("libx.so", cache.as_bytes(), &folders), Some(a.path().join("libx.so")));
        assert_eq!(find("libx.so", cache.as_bytes(), &folders[1..]), Some(b.path().join("libx.so")));
        assert_eq!(find("liby.so", cache.as_bytes(), &folders), None);
    }

    #[test]
    fn programs_that_fail_or_are_absent_answer_nothing() {
        assert_eq!(ask("no-such-program-here", &[]), None);
        assert_eq!(ask("false", &[]), None);
        assert_eq!(ask("echo", &["yes"]).as_deref(), Some("yes\n"));
    }
}
