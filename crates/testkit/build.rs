//! Unpacks the published evidence of `fixtures/published`: once for all tests, and where `cargo clean` takes it away.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write as _};
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = |variable| std::env::var_os(variable).map(PathBuf::from).ok_or(variable);
    let packed = folder("CARGO_MANIFEST_DIR")?.join("../../fixtures/published");
    let out = folder("OUT_DIR")?;
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", packed.display());
    for entry in fs::read_dir(packed)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".xz")) else {
            continue;
        };
        let mut source = BufReader::new(File::open(&path)?);
        let mut target = BufWriter::new(File::create(out.join(name))?);
        lzma_rs::xz_decompress(&mut source, &mut target).map_err(|error| format!("{name}: {error:?}"))?;
        target.flush()?;
    }
    Ok(())
}
