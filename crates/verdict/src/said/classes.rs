//! What is said of classes: where they hold, what they rest on, and why a setup is in none.

use super::bits::rows;
use super::place::place;
use super::words;
use crate::found::{SameBy, Scope, Unplaced};

/// Where classes hold.
pub(crate) fn scope(scope: &Scope) -> String {
    match scope {
        Scope::At(at) => place(at),
        Scope::Values { variable, gpu } => format!("{variable} on {gpu}"),
        Scope::Replays { variable, gpu } => format!("{variable}, replays on {gpu}"),
        Scope::Evidence { variable, gpu } => format!("{variable}, evidence of {gpu}"),
    }
}

/// What equality rests on.
pub(crate) fn same_by(basis: SameBy) -> String {
    match basis {
        SameBy::Bits => "equal bits in every comparable row".to_owned(),
        SameBy::Zeros { both_ways: true } => "distances of exactly 0 both ways".to_owned(),
        SameBy::Zeros { both_ways: false } => "distances of exactly 0, of which one way is stored".to_owned(),
        SameBy::Lines { columns, printed } => {
            let line = if columns { "columns" } else { "rows" };
            format!("{line} equal in every cell{}", if printed { " as printed" } else { "" })
        }
    }
}

/// Why a setup is in no class.
pub(crate) fn unplaced(why: &Unplaced) -> String {
    match why {
        Unplaced::NothingComparable => "nothing that could be compared with another setup".to_owned(),
        Unplaced::Perhaps(other) => format!("not fully comparable with {other}"),
        Unplaced::NoRun => "no run is stored".to_owned(),
        Unplaced::DoesNotRepeat => "does not repeat itself".to_owned(),
        Unplaced::Lacks { other, signal, rows: lacks } => {
            format!("against {other} by {}: {}", words::signal_name(*signal), rows(lacks))
        }
    }
}
