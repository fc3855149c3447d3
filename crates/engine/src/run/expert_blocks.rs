//! The blocks that vLLM's Marlin puts a step's rows into, by expert: where a sum is cut depends on all of them.
//! Left out: steps in which an expert has more rows than a block and atomic additions say which of them come first.

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

/// The blocks of each step of a run, by expert, ascending.
pub(super) struct ExpertBlocks<'p> {
    steps: &'p [Step],
    blocks: Vec<StepBlocks>,
    /// Rows of a block.
    rows: usize,
}

/// A block, and how many there are on the rank that has its expert.
type Block = [usize; 2];

/// The blocks of a step.
struct StepBlocks {
    /// Those of each row's experts, row by row.
    of_slots: Vec<Block>,
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
        let mut blocks = Vec::with_capacity(count);
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
            let slots = &routing.slots[step.rows.start * routing.top..step.rows.end * routing.top];
            blocks.push(StepBlocks::of(sum, slots).map_err(|Overfull { expert, slot }| {
                let position = pass.rows[step.rows.start + slot / routing.top].position;
                let at = format!("layer {layer} at position {position}");
                Undetermined {
                    what: format!("expert {expert} of {at}, behind {} tokens of a step", sum.rows()),
                    why: "vLLM puts an expert's tokens into blocks in the order of atomic additions, and one block \
                          does not hold them: other tokens, or fewer in a step, may",
                }
            })?);
        }
        Ok(Self { steps, blocks, rows: sum.rows() })
    }

    /// The parts of an expert's `slots` by step, and where their rows are.
    pub(super) fn parts(&self, routing: &Routing, slots: &Range<usize>) -> Vec<(Range<usize>, Places)> {
        let step_of = |slot: usize| {
            let row = routing.order[slot] / routing.top;
            self.steps.iter().position(|step| step.rows.contains(&row))
        };
        let mut parts: Vec<(Range<usize>, Places)> = Vec::new();
        let mut last = None;
        for slot in slots.clone() {
            let Some(step) = step_of(slot) else { continue };
            let of_step = routing.order[slot] - self.steps[step].rows.start * routing.top;
            let [block, of] = self.blocks[step].of_slots[of_step];
            match parts.last_mut() {
                Some((range, places)) if last == Some(step) => {
                    range.end = slot + 1;
                    places.rows.push(block * self.rows);
                }
                _ => parts.push((slot..slot + 1, Places { rows: vec![block * self.rows], of })),
            }
            last = Some(step);
        }
        parts
    }
}

/// The expert that has more rows than a block, and the first of a step's slots that is too much.
struct Overfull {
    expert: usize,
    slot: usize,
}

impl StepBlocks {
    /// Of a step whose rows chose the experts of `slots`, row by row.
    fn of(sum: PackedExperts, slots: &[(usize, f32)]) -> Result<Self, Overfull> {
        let lined_up = sum.lined_up();
        let is_known = lined_up.is_some();
        let mut by_expert: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for slot in lined_up.unwrap_or_else(|| (0..slots.len()).collect()) {
            let (expert, _) = slots[slot];
            let of_expert = by_expert.entry(expert).or_default();
            if of_expert.len() == sum.rows() && !is_known {
                return Err(Overfull { expert, slot });
            }
            of_expert.push(slot);
        }
        let of_rank = sum.of_rank() as usize;
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        let mut of_slots = vec![[0, 0]; slots.len()];
        for (expert, slots) in &by_expert {
            let count = counts.entry(expert / of_rank).or_default();
            for of_block in slots.chunks(sum.rows()) {
                for slot in of_block {
                    of_slots[*slot][0] = *count;
                }
                *count += 1;
            }
        }
        for (slot, (expert, _)) in slots.iter().enumerate() {
            of_slots[slot][1] = counts[&(expert / of_rank)];
        }
        Ok(Self { of_slots })
    }
}

#[cfg(test)]
mod tests {
    use mantissa_numerics::recipe::PackedRanks;
    use mantissa_numerics::tensor_core::{Architecture, Operand};

    use super::*;
    use crate::tap::RowId;

    const PLACE: Place = Place::Block { layer: 2, kind: 0 };

    fn sum(tokens: u32) -> PackedExperts {
        let block = Architecture::Hopper.block(Operand::Bf16).expect("bf16");
        let (top, experts, outputs, first) = (2, 128, 256, 0);
        let (of_rank, ranks) = (None, PackedRanks::One);
        let (zeros, multiprocessors) = (true, 132);
        PackedExperts { block, tokens, top, experts, of_rank, outputs, first, zeros, multiprocessors, ranks }
    }

    #[test]
    fn a_rank_counts_the_blocks_of_its_own_experts() {
        // Experts 1 and 70 of 128; the second is the first of the second rank's two.
        let two = PackedExperts { of_rank: std::num::NonZeroU32::new(64), ..sum(2) };
        let found = StepBlocks::of(two, &[(1, 0.5), (70, 0.5), (90, 0.5), (1, 0.5)]).ok().expect("known");
        assert_eq!(found.of_slots, [[0, 1], [0, 2], [1, 2], [0, 1]]);
        // Blocks have as many rows as half of the experts leave to each.
        assert_eq!([two.rows(), PackedExperts { tokens: 250, ..two }.rows()], [8, 16]);
    }

    #[test]
    fn few_experts_fill_several_blocks_in_a_known_order() {
        // Forty tokens choose experts 3 and 5 of eight: pairs 0, 32 and 64 are the first thread's.
        let slots: Vec<(usize, f32)> = (0..40).flat_map(|_| [(5, 0.5), (3, 0.5)]).collect();
        let few = PackedExperts { experts: 8, ..sum(40) };
        assert_eq!(few.rows(), 16);
        let found = StepBlocks::of(few, &slots).ok().expect("known");
        assert!(found.of_slots.iter().all(|[_, count]| *count == 6));
        let block_of = |token: usize| [found.of_slots[2 * token][0], found.of_slots[2 * token + 1][0]];
        // Expert 3 has the first three blocks. Of its pairs 1, 33, 65, 3, 35, 67, … sixteen are one.
        assert_eq!([0, 16, 32, 1].map(block_of), [[3, 0]; 4]);
        assert_eq!(block_of(5), [3, 0]);
        assert_eq!(block_of(21), [4, 1]);
        assert_eq!(block_of(39), [4, 1]);
        assert_eq!(block_of(15), [5, 2]);
        // As many tokens of 128 experts are atomic additions'.
        assert!(StepBlocks::of(sum(40), &slots).is_err());
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
            blocks.parts(routing, slots)
        });
        // Behind expert 3 of three in the first step, behind 1 of three in the second; each has two rows.
        let places: Vec<_> =
            found.iter().map(|(slots, places)| (slots.len(), &places.rows, places.of)).collect();
        assert_eq!(places, [(2, &vec![8, 8], 3), (2, &vec![8, 8], 3)]);
        let alone = of(1, &[[7, 3], [7, 9]], |blocks, routing| {
            let (_, slots) = &routing.groups[0].1[1];
            blocks.ok().expect("a token each").parts(routing, slots)
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
