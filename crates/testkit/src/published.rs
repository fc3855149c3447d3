//! The published evidence of `fixtures/published`, where tests can read it. `build.rs` unpacks it.

use std::path::{Path, PathBuf};

/// Path of a published file by its own name (`quant_generation_A100.json`).
///
/// # Panics
/// When there is no such fixture.
///
/// ```
/// let path = mantissa_testkit::published("quantization_format_generation.log");
/// // Unpacked, under its own name.
/// assert_eq!(path.file_name().unwrap(), "quantization_format_generation.log");
/// assert!(std::fs::read_to_string(path)?.contains("gptq"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub fn published(name: &str) -> PathBuf {
    let path = Path::new(env!("OUT_DIR")).join(name);
    assert!(path.is_file(), "fixtures/published has no {name}.xz");
    path
}
