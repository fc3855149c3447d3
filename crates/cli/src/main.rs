//! The `mantissa` command: arguments → settings → verbs, in one direction.
//!
//! Standard output is data, standard error is progress and the one line that says what went wrong.
//! Left out: everything that computes (see the other crates).

mod args;
mod axes;
mod coverage;
mod evidence;
mod failure;
mod generation;
mod interrupt;
mod output;
mod progress;
mod settings;
mod terminal;
mod verb;

use std::process::ExitCode;

fn main() -> ExitCode {
    // This program is its own PDF reader: a second process, confined before it sees the file.
    if let Some(code) = mantissa_lab::document::reader::serve(std::env::args_os()) {
        return code;
    }
    interrupt::watch();
    failure::guarded(|| {
        let args = args::parse()?;
        let settings = settings::Settings::new(&args.global);
        let mut terminal = terminal::Terminal::new(&settings);
        let exit = verb::run(args.verb, args::command, &settings, &mut terminal)?;
        terminal.finish()?;
        Ok(exit)
    })
}
