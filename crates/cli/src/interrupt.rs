//! Ctrl-C: ends the program at once and says how to go on.
//!
//! Nothing has to be put away: what long work finished is on disk whole, as it is for a kill.

use std::io::Write as _;
use std::sync::Mutex;

use crate::failure::one_line;

/// The exit code of a program that an interrupt ended, as shells have it.
const INTERRUPTED: i32 = 130;

/// How to go on with what runs now.
static HOW: Mutex<Option<String>> = Mutex::new(None);

/// Watches for interrupts from now on. Where the system refuses, they end the program without a word.
pub(crate) fn watch() {
    drop(ctrlc::set_handler(|| {
        let how = HOW.lock().ok().and_then(|how| how.clone());
        let line = how.map_or_else(|| "interrupted".to_owned(), |how| format!("interrupted; {how}"));
        // The line of a bar ends first.
        drop(writeln!(std::io::stderr(), "\n{}", one_line(&line)));
        std::process::exit(INTERRUPTED);
    }));
}

/// Work that can be gone on with, until this is dropped.
#[derive(Debug)]
pub(crate) struct Resumable(());

impl Resumable {
    /// `how` says how, in a clause.
    pub(crate) fn new(how: String) -> Self {
        if let Ok(mut known) = HOW.lock() {
            *known = Some(how);
        }
        Self(())
    }
}

impl Drop for Resumable {
    fn drop(&mut self) {
        if let Ok(mut known) = HOW.lock() {
            *known = None;
        }
    }
}
