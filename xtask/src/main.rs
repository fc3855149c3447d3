//! Checks of this repository against data that is not in it.
//!
//! Left out: whatever a test can do with what is committed.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program of the command line")]

mod check_gemm;
mod npz;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

#[derive(Parser)]
#[command(name = "xtask", about = "Checks of this repository against data that is not in it")]
enum Task {
    /// Recompute matrix products of an H200 by the recipes that dispatch names, and compare their bits.
    ///
    /// Exit codes: 0 all equal, 1 some differ, 2 the file cannot be used.
    CheckGemm {
        /// Outputs of cuBLAS, as ../shared/measured/probe_gemm_dump.py writes them.
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    let Task::CheckGemm { file } = Task::parse();
    match run(&file) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(file: &std::path::Path) -> Result<bool> {
    let cells = check_gemm::check(&npz::Archive::open(file)?)?;
    print!("{}", check_gemm::table(&cells));
    Ok(cells.iter().all(check_gemm::Cell::is_equal))
}
