//! The published evidence of `fixtures/published`, unpacked where tests can read it.

use std::fs::File;
use std::io::{BufReader, Write as _};
use std::path::{Path, PathBuf};

/// Path of a published file by its own name (`quant_generation_A100.json`), unpacked on first use.
///
/// # Panics
/// When the fixture is missing or cannot be unpacked.
///
/// ```
/// assert!(mantissa_testkit::published("quant_generation_A100.json").is_file());
/// ```
#[must_use]
#[expect(clippy::expect_used, reason = "a test without its fixture has to stop")]
pub fn published(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let packed = root.join("fixtures/published").join(format!("{name}.xz"));
    let folder = std::env::temp_dir().join(format!("mantissa-published-{}", std::process::id()));
    let target = folder.join(name);
    if !target.exists() {
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let mut bytes = Vec::new();
        let mut source = BufReader::new(File::open(&packed).expect("the fixture"));
        lzma_rs::xz_decompress(&mut source, &mut bytes).expect("a sound fixture");
        // Tests run side by side: the file appears whole.
        let mut file = tempfile::NamedTempFile::new_in(&folder).expect("a temporary file");
        file.write_all(&bytes).expect("room for the fixture");
        file.persist(&target).expect("its name");
    }
    target
}
