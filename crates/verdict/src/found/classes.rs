//! What was found of setups grouped by equal bits.

use super::bits::Rows;
use super::place::Place;
use crate::analysis::Signal;

/// Where classes hold.
#[derive(Debug, Clone)]
pub(crate) enum Scope {
    At(Place),
    /// Values of a variable on one machine.
    Values {
        variable: String,
        gpu: String,
    },
    /// Values of a variable among replays on one machine.
    Replays {
        variable: String,
        gpu: String,
    },
    /// Values of a variable among evidence of one machine.
    Evidence {
        variable: String,
        gpu: String,
    },
}

/// What equality rests on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SameBy {
    /// Bits of every comparable row.
    Bits,
    /// Distances of 0, both ways or one way.
    Zeros { both_ways: bool },
    /// Equal columns (replays) or rows (evidence) of stored distances.
    Lines { columns: bool, printed: bool },
}

/// Why a setup is in no class.
#[derive(Debug)]
pub(crate) enum Unplaced {
    /// Nothing could be compared with another setup.
    NothingComparable,
    /// It may belong to the class of this setup.
    Perhaps(String),
    NoRun,
    DoesNotRepeat,
    /// What a comparison with another setup lacks.
    Lacks {
        other: String,
        signal: Signal,
        rows: Rows,
    },
}
