//! Checks of this repository: against data that is not in it, and of the order of its rooms.
//!
//! Left out: whatever a test of one crate can do with what is committed.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program of the command line")]

mod check_gemm;
mod examples;
mod npz;
mod rooms;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

#[derive(Parser)]
#[command(name = "xtask", about = "Checks of this repository that are no tests")]
enum Task {
    /// Recompute matrix products of an H200 by the recipes that dispatch names, and compare their bits.
    ///
    /// Exit codes: 0 all equal, 1 some differ, 2 the file cannot be used.
    CheckGemm {
        /// Outputs of cuBLAS, as ../shared/measured/probe_gemm_dump.py writes them.
        file: PathBuf,
    },
    /// Look for circles between files of a room, for files and lines that are too long, and for links between rooms
    /// that `xtask/rooms.txt` does not name.
    ///
    /// Exit codes: 0 in order, 1 not, 2 the sources cannot be read.
    Rooms {
        /// The repository.
        #[arg(long, default_value = ".")]
        root: PathBuf,
        /// Take off the list what no longer occurs.
        #[arg(long)]
        shrink: bool,
        /// Print every use inside every circle, also of those on the list.
        #[arg(long)]
        explain: bool,
    },
    /// Look for public functions and types of the library crates whose documentation has no example that runs.
    ///
    /// Exit codes: 0 in order, 1 not, 2 the sources cannot be read.
    Examples {
        /// The repository.
        #[arg(long, default_value = ".")]
        root: PathBuf,
    },
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::CheckGemm { file } => check_products(&file),
        Task::Rooms { root, shrink, explain } => told(rooms::check(&root, shrink, explain)),
        Task::Examples { root } => told(examples::check(&root)),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn check_products(file: &Path) -> Result<bool> {
    let cells = check_gemm::check(&npz::Archive::open(file)?)?;
    print!("{}", check_gemm::table(&cells));
    Ok(cells.iter().all(check_gemm::Cell::is_equal))
}

/// Prints what a check found; in order is what has nothing to say.
fn told(said: Result<Vec<String>>) -> Result<bool> {
    let said = said?;
    for line in &said {
        println!("{line}");
    }
    Ok(said.is_empty())
}
