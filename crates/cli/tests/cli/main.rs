//! The command as users meet it: exit code, standard output and standard error of the built program.
//!
//! Left out: what the numbers are (each crate tests its own) and recording at real sizes (`just` recipes).

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod altered;
mod analysis;
mod answers;
mod catalogs;
mod contested;
mod coverage;
mod drift;
mod evidence;
mod generation;
mod given;
mod gpu;
mod import;
mod machine;
mod models;
mod not_numbers;
mod plain;
mod ranks;
mod record;
mod run;
mod session;
mod terminal;
mod trace;
mod usage;
mod verify;
