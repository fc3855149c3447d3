//! Letting a perturbation replace what a node left.

use mantissa_numerics::Dtype;

use super::at::At;
use super::runner::Runner;
use super::values::{Value, rows_of};
use crate::backend::Backend;
use crate::cache::KvCache;
use crate::pass::Pass;
use crate::perturbation::{Hooks, Leaving, in_order};

impl<'r, B: Backend> Runner<'r, '_, B> {
    /// Lets a perturbation replace what a node left.
    pub(super) fn perturb(
        &self,
        at: At<'_, '_>,
        index: usize,
        pass: &Pass<'_>,
        caches: &mut [KvCache],
        values: &mut [Option<Value<'r>>],
        hooks: &mut Hooks<'_>,
    ) {
        let Some(perturbation) = &mut hooks.perturbation else { return };
        let section = at.place.into();
        if pass.rows.is_empty() || !perturbation.wants(section, index) || !in_order(at.section)[index] {
            return;
        }
        let node = &at.section.nodes[index];
        let dtype = if node.leaves_binary32() { Dtype::F32 } else { self.embedding.output };
        let (phase, rows) = (pass.phase(), pass.rows);
        let mut changes = |data: &mut [f32]| {
            perturbation.perturb(Leaving { section, node: index, phase, rows, dtype, data })
        };
        match &mut values[index] {
            Some(Value::Rows(rows)) => {
                changes(rows);
            }
            Some(Value::Cached(slot)) => {
                let slot = *slot;
                let mut appended = rows_of(values, node.inputs[0]).to_vec();
                if changes(&mut appended) {
                    self.append(at, slot, pass, caches, &appended);
                }
            }
            Some(Value::Routing(routing)) => {
                let mut table = routing.table();
                if changes(&mut table) {
                    routing.replace(&table);
                }
            }
            Some(Value::Expanded(_)) | None => {}
        }
    }

    /// Writes rows into a slot of their caches.
    pub(super) fn append(
        &self,
        at: At<'_, '_>,
        slot: usize,
        pass: &Pass<'_>,
        caches: &mut [KvCache],
        rows: &[f32],
    ) {
        let width = rows.len() / pass.rows.len().max(1);
        for (i, values) in rows.chunks_exact(width.max(1)).enumerate() {
            let cache = &mut caches[pass.caches[i]];
            let place = cache.place(pass.rows[i].position);
            cache.write(self.isa, at.place.layer(), slot, place, values);
        }
    }
}
