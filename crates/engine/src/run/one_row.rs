//! Some nodes of a block for one row, from what others left.

use mantissa_model::graph::Operation;

use super::routing::Routing;
use super::runner::Runner;
use super::values::Value;
use crate::backend::Backend;
use crate::cache::KvCache;
use crate::pass::{Pass, Place};

impl<B: Backend> Runner<'_, '_, B> {
    /// What `target` leaves in the one row of `pass`, once `nodes` have run, in their order; `known` are rows of nodes
    /// that others read. `None` where it leaves no row.
    pub(crate) fn one_row(
        &self,
        place: Place,
        pass: &Pass<'_>,
        caches: &mut [KvCache],
        known: &[(usize, &[f32])],
        nodes: &[usize],
        target: usize,
    ) -> Option<Vec<f32>> {
        let Place::Block { kind, .. } = place else { return None };
        let section = &self.graph.kinds[kind];
        let at = self.at(section, place);
        let mut values: Vec<Option<Value<'_>>> = section.nodes.iter().map(|_| None).collect();
        for (node, row) in known {
            values[*node] = Some(match &section.nodes[*node].operation {
                Operation::Route(route) => Value::Routing(Routing::of_row(route.top, row)),
                Operation::Append { slot } => {
                    self.append(at, *slot, pass, caches, row);
                    Value::Cached(*slot)
                }
                _ => {
                    let mut rows = self.pool.buffer(row.len());
                    rows.copy_from_slice(row);
                    Value::Rows(rows)
                }
            });
        }
        for node in nodes {
            let value = self.node(at, *node, pass, caches, &mut values, &mut None);
            values[*node] = Some(value);
        }
        match values[target].take()? {
            Value::Rows(rows) => Some(rows.to_vec()),
            Value::Routing(routing) => Some(routing.table()),
            Value::Cached(_) | Value::Expanded(_) => None,
        }
    }
}
