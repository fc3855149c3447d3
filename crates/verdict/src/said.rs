//! Every sentence of a verdict, made from what was found (`found`).
//!
//! One finding is said here once; terminal, Markdown, HTML and JSON show that sentence. Nothing here decides anything.

mod claim;

pub(crate) use claim::{claim, enough, not_checked, one_class};
