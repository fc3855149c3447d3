//! The head over all positions of a prompt, a few at a time.
//!
//! Left out: which positions share a product (`dispatch/prompt`).

use std::ops::Range;

use crate::cpu::Cpu;
use crate::pass::{Pass, Step};
use crate::perturbation::Hooks;
use crate::plan::Plan;
use crate::run::Runner;

/// The most logits that are held at once.
const LOGITS: usize = 1 << 25;

/// Takes a position and its logits.
pub(super) type Each<'e> = dyn FnMut(usize, &[f32]) + 'e;

/// A chunk of a prompt whose positions are all scored.
pub(super) struct Scored<'s> {
    /// The pass's, and of the head those for some of its positions.
    pub plans: &'s [Plan],
    /// Positions of the plans behind the first.
    pub products: &'s [Range<usize>],
    /// Position of the chunk's first row.
    pub start: usize,
    /// The first row that is returned.
    pub from: usize,
}

impl Scored<'_> {
    /// The plan of a row's head.
    fn plan(&self, row: usize) -> usize {
        if row >= self.from {
            return 0;
        }
        let found = self.products.iter().position(|positions| positions.contains(&(self.start + row)));
        found.map_or(0, |place| place + 1)
    }

    /// Rows of a chunk through the head: those before [`Self::from`] to `each`, the others' logits are returned.
    ///
    /// *Shape:* `x` is `rows × hidden`.
    pub(super) fn heads(
        &self,
        runner: &Runner<'_, '_, Cpu>,
        pass: &Pass<'_>,
        x: &[f32],
        each: &mut Each<'_>,
        hooks: &mut Hooks<'_>,
    ) -> Vec<f32> {
        let rows = pass.rows.len();
        let hidden = x.len() / rows.max(1);
        let vocabulary = runner.graph.head.nodes.last().map_or(1, |node| node.width).max(1);
        let most = (LOGITS / vocabulary).max(1);
        let mut returned = Vec::new();
        let mut first = 0;
        while first < rows {
            let end = (first + most).min(if first < self.from { self.from } else { rows });
            let mut steps: Vec<Step> = Vec::new();
            for row in first..end {
                let (plan, place) = (self.plan(row), row - first);
                match steps.last_mut() {
                    Some(step) if step.plan == plan => step.rows.end = place + 1,
                    _ => steps.push(Step { plan, rows: place..place + 1 }),
                }
            }
            let part = Pass {
                rows: &pass.rows[first..end],
                caches: &pass.caches[first..end],
                sequences: &pass.sequences[first..end],
                steps: &steps,
                plans: self.plans,
            };
            let mut of_part = runner.pool.buffer((end - first) * hidden);
            of_part.copy_from_slice(&x[first * hidden..end * hidden]);
            let logits = runner.head(&part, of_part, hooks);
            if first < self.from {
                for (row, logits) in logits.chunks_exact(vocabulary).enumerate() {
                    each(self.start + first + row, logits);
                }
            } else {
                returned.extend_from_slice(&logits);
            }
            first = end;
        }
        returned
    }
}
