//! Every sentence of a verdict, made from what was found (`found`).
//!
//! One finding is said here once; terminal, Markdown, HTML and JSON show that sentence. Nothing here decides anything.

mod bits;
mod claim;
mod classes;
mod conflict;
mod distances;
mod finding;
mod pairs;
mod place;
mod repeats;
mod replays;
pub(crate) mod words;

pub(crate) use bits::{bits_beside_noise, bits_of_pair};
pub(crate) use claim::{claim, enough, not_checked, one_class, resting_on};
pub(crate) use classes::{same_by, scope, unplaced};
pub use conflict::conflict;
pub(crate) use conflict::{about, no_verdict, settles};
pub(crate) use distances::{distances_of_pair, same_setup};
pub(crate) use finding::finding;
pub(crate) use place::{floor_of, honest_units};
pub(crate) use repeats::repeats;
pub(crate) use replays::replays_of_pair;
