//! The last block: rows that nobody reads are left out.
//!
//! Keys and values are computed of every row, since later passes read them. What else a node leaves is read by later
//! nodes of the same row, by taps and by the head, so it is computed for their rows alone. Recipes are those of the
//! whole pass, and rows mix in attention over the cache only, so no bit depends on which rows are left out.

use std::ops::Range;

use mantissa_model::graph::{Node, Operation, Section};

use super::lifetimes::Lifetimes as _;
use super::values::{Value, left};
use crate::pass::{Pass, Selection};
use crate::pool::{Buffer, Pool};

/// A block of which no later one reads anything: what does not lead to its cache is computed for the rows `read`
/// alone, by `run`, which is told the nodes, their rows and where values are. Returns these rows.
pub(super) fn last_block<'r>(
    section: &Section,
    pass: &Pass<'_>,
    read: &Selection,
    pool: &'r Pool,
    mut run: impl FnMut(Range<usize>, &Pass<'_>, &mut Vec<Option<Value<'r>>>),
) -> Buffer<'r> {
    let few = read.pass(pass);
    let cached = leads_to_cache(&section.nodes);
    // What nodes left of every row, and of those that are read.
    let mut whole: Vec<Option<Value<'r>>> = Vec::with_capacity(section.nodes.len());
    let mut some: Vec<Option<Value<'r>>> = Vec::with_capacity(section.nodes.len());
    let mut node = 0;
    while node < section.nodes.len() {
        let together = section.products_from(node);
        let alike = together.clone().take_while(|other| cached[*other] == cached[node]).count();
        let together = node..node + alike;
        node = together.end;
        if cached[together.start] {
            run(together.clone(), pass, &mut whole);
            for node in together {
                some.push(match &whole[node] {
                    Some(Value::Cached(slot)) => Some(Value::Cached(*slot)),
                    Some(Value::Rows(rows)) if is_read_by(&section.nodes, node, |reader| !cached[reader]) => {
                        Some(Value::Rows(selected(pool, rows, read, pass.rows.len())))
                    }
                    _ => None,
                });
            }
        } else {
            whole.extend(together.clone().map(|_| None));
            run(together, &few, &mut some);
        }
        section.forget(node, &mut whole);
        section.forget(node, &mut some);
    }
    left(some)
}

/// The rows of `x`, a value of `of` rows, that are selected.
fn selected<'r>(pool: &'r Pool, x: &[f32], read: &Selection, of: usize) -> Buffer<'r> {
    let width = x.len() / of;
    let mut out = pool.buffer(read.places.len() * width);
    for (place, out) in read.places.iter().zip(out.chunks_exact_mut(width)) {
        out.copy_from_slice(&x[place * width..][..width]);
    }
    out
}

/// Of each node, whether its value goes into the block's cache, or into another that does: later positions read
/// these, so they are needed of every row.
fn leads_to_cache(nodes: &[Node]) -> Vec<bool> {
    let mut leads: Vec<bool> =
        nodes.iter().map(|node| matches!(node.operation, Operation::Append { .. })).collect();
    for node in (1..nodes.len()).rev() {
        if leads[node] {
            nodes[node].inputs.iter().for_each(|input| leads[*input] = true);
        }
    }
    leads
}

/// Whether a node that `reader` accepts has `node` as an input.
fn is_read_by(nodes: &[Node], node: usize, reader: impl Fn(usize) -> bool) -> bool {
    (node + 1..nodes.len()).any(|later| reader(later) && nodes[later].inputs.contains(&node))
}
