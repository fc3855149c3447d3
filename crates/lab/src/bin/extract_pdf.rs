//! The PDF reader process on its own, for programs that use the lab as a library and for its tests; `mantissa` is its
//! own reader. Not meant to be called by hand.

use std::process::ExitCode;

fn main() -> ExitCode {
    mantissa_lab::document::reader::serve(std::env::args_os()).unwrap_or(ExitCode::from(2))
}
