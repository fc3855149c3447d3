//! What nodes of a section leave for later ones.

use super::expanded::Expanded;
use super::routing::Routing;
use crate::pool::Buffer;

/// What a node left.
pub(super) enum Value<'p> {
    /// Rows of the pass.
    Rows(Buffer<'p>),
    /// A slot of the block's cache.
    Cached(usize),
    /// Keys and values that were compressed in the block's cache.
    Expanded(Expanded),
    /// Experts of each row.
    Routing(Routing),
}

/// What goes into a section.
pub(super) enum Input<'i, 'p> {
    Tokens(&'i [u32]),
    Rows(Buffer<'p>),
}

/// What the last node of a section left.
pub(super) fn left(mut values: Vec<Option<Value<'_>>>) -> Buffer<'_> {
    match values.pop().flatten() {
        Some(Value::Rows(rows)) => rows,
        _ => unreachable!("a section leaves rows"),
    }
}

pub(super) fn rows_of<'v>(values: &'v [Option<Value<'_>>], place: usize) -> &'v [f32] {
    match &values[place] {
        Some(Value::Rows(rows)) => rows,
        _ => unreachable!("rows are kept until the last node that reads them"),
    }
}

pub(super) fn slot_of(values: &[Option<Value<'_>>], place: usize) -> usize {
    match values[place] {
        Some(Value::Cached(slot)) => slot,
        _ => unreachable!("a slot is named until the last node that reads it"),
    }
}
