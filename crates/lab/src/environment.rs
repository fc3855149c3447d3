//! The machine a record ran on.

use mantissa_engine::Isa;
use mantissa_evidence::Environment;

/// What is known about this machine; words like `unknown` where it does not say.
///
/// ```
/// let environment = mantissa_lab::environment(mantissa_engine::Isa::Scalar);
/// assert!(environment.cores > 0);
/// assert_eq!(environment.cpu_features.last().map(String::as_str), Some("kernels:scalar"));
/// ```
#[must_use]
pub fn environment(isa: Isa) -> Environment {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        cpuinfo.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim().to_owned())
        })
    };
    let flags = field("flags").unwrap_or_default();
    let known = ["avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl"];
    let mut cpu_features: Vec<String> =
        known.iter().filter(|name| flags.split(' ').any(|f| f == **name)).map(ToString::to_string).collect();
    cpu_features.push(format!("kernels:{}", isa.name()));
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Environment {
        cpu: field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        cpu_features,
        cores: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        os: format!("{} {}", std::env::consts::OS, release.trim()).trim().to_owned(),
        memory_bytes: total.map_or(0, |kib: u64| kib * 1024),
        rustc: env!("MANTISSA_RUSTC").to_owned(),
    }
}
