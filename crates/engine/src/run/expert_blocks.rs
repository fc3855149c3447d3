//! The blocks that vLLM's Marlin puts a step's rows into, by expert: where a sum is cut depends on all of them. Left out:
//! steps in which an expert has more rows than a block, which are put there in the order of atomic additions.

use std::collections::BTreeMap;
use std::ops::Range;

use mantissa_numerics::recipe::{KernelRecipe, LinearSum, MatmulRecipe, PackedExperts};

use super::routing::Routing;
use crate::backend::Places;
use crate::pass::{Pass, Place, Step};

/// Why a product of experts is not determined.
pub(super) struct Undetermined {
    /// What, with its place.
    pub what: String,
    pub why: &'static str,
}

/// The experts of each step of a run, ascending: each has a block.
pub(super) struct ExpertBlocks<'p> {
    steps: &'p [Step],
    experts: Vec<Vec<usize>>,
    /// Rows of a block.
    rows: usize,
}

/// The sum of a product that asks for blocks.
pub(super) fn asks(recipe: MatmulRecipe) -> Option<PackedExperts> {
    match recipe.summation {
        LinearSum::PackedExperts(sum) => Some(sum),
        _ => None,
    }
}

/// Whether a product of a section asks for blocks: then every row of its steps has to be computed.
pub(super) fn asked(place: Place, pass: &Pass<'_>) -> bool {
    let mut planned = pass.plans.iter().flat_map(|plan| place.planned(plan)).flatten();
    planned.any(|planned| matches!(planned.recipe, KernelRecipe::Matmul(recipe) if asks(recipe).is_some()))
}

impl<'p> ExpertBlocks<'p> {
    /// Of the steps in `run`.
    pub(super) fn of(
        sum: PackedExperts,
        place: Place,
        pass: &Pass<'p>,
        run: &Range<usize>,
        routing: &Routing,
    ) -> Result<Self, Undetermined> {
        let inside = |step: &Step| run.start <= step.rows.start && step.rows.end <= run.end;
        let first = pass.steps.iter().take_while(|step| !inside(step)).count();
        let count = pass.steps[first..].iter().take_while(|step| inside(step)).count();
        let (steps, layer) = (&pass.steps[first..first + count], place.layer() + 1);
        let mut experts = Vec::with_capacity(count);
        for step in steps {
            let tokens = sum.tokens as usize;
            if step.rows.len() != tokens {
                let position = pass.rows[step.rows.start].position;
                return Err(Undetermined {
                    what: format!(
                        "experts of layer {layer} from position {position} on, in a step of {tokens} tokens"
                    ),
                    why: "where their sums are cut depends on which experts all of them chose, and not all were computed \
                          together: prompts of at most 512 tokens are",
                });
            }
            let mut found: BTreeMap<usize, usize> = BTreeMap::new();
            for row in step.rows.clone() {
                for (expert, _) in &routing.slots[row * routing.top..(row + 1) * routing.top] {
                    let rows = found.entry(*expert).or_default();
                    *rows += 1;
                    if *rows > sum.rows() {
                        let (position, most) = (pass.rows[row].position, sum.rows());
                        return Err(Undetermined {
                            what: format!(
                                "expert {expert} of layer {layer} at position {position}, behind {most} tokens of its step"
                            ),
                            why: "vLLM puts an expert's tokens into blocks in the order of atomic additions, and one \
                                  block does not hold them: other tokens, or fewer in a step, may",
                        });
                    }
                }
            }
            experts.push(found.into_keys().collect());
        }
        Ok(Self { steps, experts, rows: sum.rows() })
    }

    /// The parts of an expert's `slots` by step, and where their rows are.
    pub(super) fn parts(
        &self,
        routing: &Routing,
        expert: usize,
        slots: &Range<usize>,
    ) -> Vec<(Range<usize>, Places)> {
        let step_of = |slot: usize| {
            let row = routing.order[slot] / routing.top;
            self.steps.iter().position(|step| step.rows.contains(&row))
        };
        let mut parts: Vec<(Option<usize>, Range<usize>)> = Vec::new();
        for slot in slots.clone() {
            let step = step_of(slot);
            match parts.last_mut() {
                Some((last, range)) if *last == step => range.end = slot + 1,
                _ => parts.push((step, slot..slot + 1)),
            }
        }
        let places = |(step, slots): (Option<usize>, Range<usize>)| {
            let experts = &self.experts[step?];
            let block = experts.iter().position(|known| *known == expert)?;
            let rows = vec![block * self.rows; slots.len()];
            Some((slots, Places { rows, of: experts.len() }))
        };
        parts.into_iter().filter_map(places).collect()
    }
}
