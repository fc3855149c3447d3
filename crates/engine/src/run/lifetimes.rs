//! How long a section's values are kept, and which nodes run together.

use std::ops::Range;

use mantissa_model::graph::{Node, Operation, Section};

use super::values::{Value, rows_of};
use crate::pool::{Buffer, Pool};

/// What the interpreter asks a section.
pub(super) trait Lifetimes<'p> {
    fn products_from(&self, node: usize) -> Range<usize>;
    fn forget(&self, next: usize, values: &mut [Option<Value<'p>>]);
    fn take(&self, values: &mut [Option<Value<'p>>], node: usize, input: usize, pool: &'p Pool)
    -> Buffer<'p>;
}

impl<'p> Lifetimes<'p> for Section {
    /// `node`, with the products of the same input that follow it if it is one.
    fn products_from(&self, node: usize) -> Range<usize> {
        let input = &self.nodes[node].inputs;
        let same = |next: &&Node| matches!(next.operation, Operation::Linear(_)) && next.inputs == *input;
        node..node + self.nodes[node..].iter().take_while(same).count().max(1)
    }

    /// Drops values that no node from `next` on reads; the last node's is the section's.
    fn forget(&self, next: usize, values: &mut [Option<Value<'p>>]) {
        if next == self.nodes.len() {
            return;
        }
        for (place, value) in values.iter_mut().enumerate() {
            if value.is_some() && !self.nodes[next..].iter().any(|node| node.inputs.contains(&place)) {
                *value = None;
            }
        }
    }

    /// An input's rows to be overwritten: its own where no later node and no tap reads them, else a copy.
    fn take(
        &self,
        values: &mut [Option<Value<'p>>],
        node: usize,
        input: usize,
        pool: &'p Pool,
    ) -> Buffer<'p> {
        let place = self.nodes[node].inputs[input];
        let read = self.nodes[node + 1..].iter().any(|later| later.inputs.contains(&place));
        if !read && let Some(Value::Rows(rows)) = values[place].take() {
            return rows;
        }
        let rows = rows_of(values, place);
        let mut copy = pool.buffer(rows.len());
        copy.copy_from_slice(rows);
        copy
    }
}
