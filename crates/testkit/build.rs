//! Writes synthetic files of every published layout: once for all tests, and where `cargo clean` takes them away.

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::match_bool,
    clippy::needless_range_loop,
    reason = "small made-up numbers and tables"
)]
mod synthetic;

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let out = std::env::var_os("OUT_DIR").map(PathBuf::from).ok_or("OUT_DIR")?;
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=synthetic");
    for (name, text) in synthetic::files() {
        std::fs::write(out.join(name), text)?;
    }
    Ok(())
}
