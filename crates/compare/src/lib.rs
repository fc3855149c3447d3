//! Facts about two or more records: which bits differ, by how much, and where first.
//!
//! A fact has one of four states ([`Comparison`]): equal, different, missing, incomparable; none is ever read as another.
//! Values are compared only where both runs had consumed the same tokens ([`Tokens`]), row by row. The same two runs
//! give the same facts to the bit: sums run in storage order, in binary64, on one thread.
//!
//! Left out: thresholds and verdicts, and (until something needs them) log-probabilities and more than two runs.
#![deny(unsafe_code)]

mod site;
mod tokens;

pub use site::{
    Comparison, Difference, Incomparable, Place, Rows, Side, SiteFact, first_difference, site_differences,
};
pub use tokens::Tokens;
