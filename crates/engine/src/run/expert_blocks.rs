//! The blocks that vLLM's Marlin puts a step's rows into, by expert: where a sum is cut depends on all of them.
//! Left out: steps in which an expert has more rows than a block, which are put there in the order of atomic additions.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::PoisonError;

use mantissa_numerics::recipe::{KernelRecipe, LinearSum, MatmulRecipe, PackedExperts};

use super::routing::Routing;
use super::runner::Runner;
use crate::backend::Places;
use crate::error::EngineError;
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

impl<B> Runner<'_, '_, B> {
    /// Notes that nothing from here on is a result.
    pub(super) fn refuse(&self, Undetermined { what, why }: Undetermined) {
        let mut ran = self.ran.lock().unwrap_or_else(PoisonError::into_inner);
        ran.refused.get_or_insert_with(|| EngineError::kernel(self.hardware, what, why, why));
    }

    /// Whether it did.
    pub(super) fn has_refused(&self) -> bool {
        self.ran.lock().unwrap_or_else(PoisonError::into_inner).refused.is_some()
    }
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
                    why: "where sums are cut depends on which experts all of them chose, and not all were computed \
                          together: prompts of at most 512 tokens are",
                });
            }
            let mut found: BTreeMap<usize, usize> = BTreeMap::new();
            for row in step.rows.clone() {
                for (expert, _) in &routing.slots[row * routing.top..(row + 1) * routing.top] {
                    let rows = found.entry(*expert).or_default();
                    *rows += 1;
                    if *rows > sum.rows() {
                        let at = format!("layer {layer} at position {}", pass.rows[row].position);
                        return Err(Undetermined {
                            what: format!("expert {expert} of {at}, behind {} tokens of a step", sum.rows()),
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

#[cfg(test)]
mod tests {
    use mantissa_numerics::tensor_core::{Architecture, Operand};

    use super::*;
    use crate::tap::RowId;

    const PLACE: Place = Place::Block { layer: 2, kind: 0 };

    fn sum(tokens: u32) -> PackedExperts {
        let block = Architecture::Hopper.block(Operand::Bf16).expect("bf16");
        let (top, experts, outputs, first) = (2, 128, 256, 0);
        PackedExperts { block, tokens, top, experts, outputs, first, zeros: true, multiprocessors: 132 }
    }

    /// What is known of steps of `tokens` tokens, each of which chose two experts.
    fn of<T>(
        tokens: u32,
        chosen: &[[usize; 2]],
        seen: impl Fn(Result<ExpertBlocks<'_>, Undetermined>, &Routing) -> T,
    ) -> T {
        let mut routing = Routing::new(2);
        let slots = chosen.iter().flatten().map(|expert| (*expert, 0.5)).collect();
        routing.add(0..chosen.len(), slots);
        let rows: Vec<RowId> = (0..chosen.len()).map(|position| RowId { sequence: 0, position }).collect();
        let none = vec![0; rows.len()];
        let all: Vec<usize> = (0..rows.len()).collect();
        let steps: Vec<Step> = all
            .chunks(tokens as usize)
            .map(|rows| Step { plan: 0, rows: rows[0]..rows[0] + rows.len() })
            .collect();
        let pass = Pass { rows: &rows, caches: &none, sequences: &none, steps: &steps, plans: &[] };
        seen(ExpertBlocks::of(sum(tokens), PLACE, &pass, &(0..rows.len()), &routing), &routing)
    }

    #[test]
    fn each_step_has_blocks_of_its_own() {
        let found = of(2, &[[7, 3], [7, 9], [1, 7], [9, 7]], |blocks, routing| {
            let blocks = blocks.unwrap_or_else(|found| panic!("{}", found.what));
            let (_, experts) = &routing.groups[0];
            let (_, slots) = experts.iter().find(|(expert, _)| *expert == 7).expect("chosen");
            blocks.parts(routing, 7, slots)
        });
        // Behind expert 3 of three in the first step, behind 1 of three in the second; each has two rows.
        let places: Vec<_> =
            found.iter().map(|(slots, places)| (slots.len(), &places.rows, places.of)).collect();
        assert_eq!(places, [(2, &vec![8, 8], 3), (2, &vec![8, 8], 3)]);
        let alone = of(1, &[[7, 3], [7, 9]], |blocks, routing| {
            let (_, slots) = &routing.groups[0].1[1];
            blocks.ok().expect("a token each").parts(routing, 7, slots)
        });
        let rows: Vec<_> = alone.iter().map(|(_, places)| (places.rows.clone(), places.of)).collect();
        assert_eq!(rows, [(vec![8], 2), (vec![0], 2)]);
    }

    #[test]
    fn what_atomic_additions_decide_is_refused() {
        let nine: Vec<[usize; 2]> = (0..9).map(|other| [50, other]).collect();
        let said = of(9, &nine, |blocks, _| blocks.err().expect("nine rows of a block of eight").what);
        assert_eq!(said, "expert 50 of layer 3 at position 8, behind 8 tokens of a step");
        let part = of(9, &nine[..4], |blocks, _| blocks.err().expect("a part of a step").what);
        assert!(part.ends_with("in a step of 9 tokens"), "{part}");
        assert!(of(8, &nine[..8], |blocks, _| blocks.is_ok()));
    }
}
