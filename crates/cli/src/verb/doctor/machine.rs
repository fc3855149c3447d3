//! The machine without its GPU: from /proc on Linux, from the compiler elsewhere.

use std::path::{Path, PathBuf};

use mantissa_engine::Isa;
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct System {
    pub(super) os: String,
    pub(super) kernel: String,
    pub(super) arch: &'static str,
}

#[derive(Serialize)]
pub(super) struct Cpu {
    pub(super) model: String,
    pub(super) cores: usize,
    pub(super) features: Vec<&'static str>,
    pub(super) engine_isa: &'static str,
}

#[derive(Serialize)]
pub(super) struct Memory {
    pub(super) total_bytes: Option<u64>,
    pub(super) available_bytes: Option<u64>,
}

#[derive(Serialize)]
pub(super) struct Disk {
    pub(super) role: &'static str,
    pub(super) path: PathBuf,
    pub(super) free_bytes: Option<u64>,
}

impl System {
    pub(super) fn look() -> Self {
        let release = text("/etc/os-release");
        let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        let kernel = text("/proc/sys/kernel/osrelease");
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        Self {
            os: name.map_or(os, |name| name.trim_matches('"')).to_owned(),
            kernel: format!("{os} {} {arch}", kernel.trim()),
            arch,
        }
    }
}

impl Cpu {
    pub(super) fn look() -> Self {
        let info = text("/proc/cpuinfo");
        let field = |line: &str| {
            let (key, value) = line.split_once(':')?;
            matches!(key.trim(), "model name" | "Model").then(|| value.trim().to_owned())
        };
        Self {
            model: info.lines().find_map(field).unwrap_or_else(|| "unknown CPU".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            features: features(),
            engine_isa: Isa::detect().name(),
        }
    }
}

impl Memory {
    pub(super) fn look() -> Self {
        let info = text("/proc/meminfo");
        let field = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
        };
        Self { total_bytes: field("MemTotal"), available_bytes: field("MemAvailable") }
    }
}

/// Where the program writes: models at home, evidence usually here.
pub(super) fn disks(home: &Path) -> Vec<Disk> {
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    [("models", home.to_owned()), ("current directory", here)]
        .map(|(role, path)| Disk { role, free_bytes: free(&path), path })
        .into()
}

/// Free bytes at `path`, or where it would be made.
#[cfg(unix)]
fn free(path: &Path) -> Option<u64> {
    let stat = path.ancestors().find_map(|folder| rustix::fs::statvfs(folder).ok())?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

#[cfg(not(unix))]
fn free(_path: &Path) -> Option<u64> {
    None
}

/// What `pull` would use.
pub(super) fn python() -> Option<String> {
    ["python3", "python"].into_iter().find_map(|python| {
        let said = super::gpu::ask(python, &["-m", "pip", "--version"])?;
        Some(format!("{python}, {}", said.lines().next()?))
    })
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    macro_rules! detected {
        ($($name:tt)*) => { [$(($name, is_x86_feature_detected!($name))),*] };
    }
    let all = detected!(
        "sse4.2" "avx" "avx2" "fma" "f16c" "avx512f" "avx512bw" "avx512dq" "avx512vl" "avx512vnni" "avx512bf16"
        "avx512fp16"
    );
    all.into_iter().filter_map(|(name, here)| here.then_some(name)).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> Vec<&'static str> {
    Vec::new()
}

/// A small file of the system, empty when it is not there.
fn text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
