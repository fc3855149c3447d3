//! Which recipes give all the outputs of a product.

use std::sync::Arc;

use mantissa_numerics::Dtype;
use mantissa_numerics::tensor_core::dot::Instructions;

use super::candidates::{Candidate, candidates_of_batched, candidates_of_linear, rare_candidates, sums};
use super::hard::{COLUMNS, Random, hard};

/// A run of outputs: what was summed, what is added, what came out.
pub(super) struct Outputs {
    pub(super) rows: Vec<Arc<[u32]>>,
    pub(super) bias: Vec<u32>,
    pub(super) found: Vec<u32>,
}

/// A shape whose product was run, and is to be explained.
pub(super) struct Pending {
    pub(super) size: usize,
    pub(super) dtype: Dtype,
    /// Length of the sums.
    pub(super) length: usize,
    /// What the recipe may be.
    pub(super) tried: CandidateSet,
    pub(super) outputs: Vec<Outputs>,
}

/// Recipes that are looked through.
#[derive(Clone)]
pub(super) enum CandidateSet {
    /// Those of a product with a weight, for which cuBLASLt's heuristic names so many parts.
    Linear { parts: u32 },
    /// Those of a batched product.
    Batched,
    /// What an earlier run left.
    These(Vec<Candidate>),
}

impl Pending {
    /// Recipes that give every output, each another computation than those before it.
    fn explain(&self, instructions: Instructions) -> Vec<Candidate> {
        let fit = |recipe: &Candidate| self.fits(*recipe, instructions);
        let fitting: Vec<Candidate> = match &self.tried {
            // The parts that the heuristic names come first, and others that give the same are the same.
            CandidateSet::Linear { parts } => {
                let candidates = candidates_of_linear(self.dtype, *parts);
                candidates.into_iter().find(fit).into_iter().collect()
            }
            CandidateSet::Batched => {
                let usual: Vec<_> =
                    candidates_of_batched(self.dtype, self.length).into_iter().filter(fit).collect();
                if usual.is_empty() {
                    rare_candidates(self.dtype, self.length).filter(fit).collect()
                } else {
                    usual
                }
            }
            CandidateSet::These(recipes) => recipes.iter().copied().filter(fit).collect(),
        };
        if fitting.len() < 2 {
            return fitting;
        }
        different(&fitting, self.dtype, self.length, instructions)
    }

    /// Whether a recipe gives every output. Most fail on the first two.
    fn fits(&self, recipe: Candidate, instructions: Instructions) -> bool {
        let first = self.outputs.first();
        first.is_some_and(|first| first.agree(self.dtype, recipe, 2, instructions))
            && self.outputs.iter().all(|outputs| outputs.agree(self.dtype, recipe, COLUMNS, instructions))
    }
}

/// One recipe for each computation: those that give the same of many sums are taken for the same.
fn different(
    recipes: &[Candidate],
    dtype: Dtype,
    length: usize,
    instructions: Instructions,
) -> Vec<Candidate> {
    const MANY: usize = 64;
    let mut random = Random(length as u64);
    let rows: Vec<Vec<Vec<u32>>> =
        (0..MANY).map(|_| (0..COLUMNS).map(|_| hard(&mut random, dtype, length)).collect()).collect();
    let mut known: Vec<(Candidate, Vec<f32>)> = Vec::new();
    for recipe in recipes {
        let found: Vec<f32> = rows
            .iter()
            .flat_map(|rows| {
                let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
                sums(*recipe, &rows, instructions)
            })
            .collect();
        if known.iter().all(|(_, other)| *other != found) {
            known.push((*recipe, found));
        }
    }
    known.into_iter().map(|(recipe, _)| recipe).collect()
}

/// Explains all of them on all processors; in the order given.
pub(super) fn explained(pending: &[Pending], instructions: Instructions) -> Vec<Vec<Candidate>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = pending.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let parts: Vec<_> = pending
            .chunks(share)
            .map(|part| scope.spawn(move || part.iter().map(|p| p.explain(instructions)).collect::<Vec<_>>()))
            .collect();
        let joined = parts
            .into_iter()
            .map(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.flatten().collect()
    })
}

impl Outputs {
    /// Whether a recipe gives the first `count` outputs.
    pub(super) fn agree(
        &self,
        dtype: Dtype,
        recipe: Candidate,
        count: usize,
        instructions: Instructions,
    ) -> bool {
        let count = count.min(self.rows.len());
        let rows: Vec<&[u32]> = self.rows[..count].iter().map(AsRef::as_ref).collect();
        let sums = sums(recipe, &rows, instructions);
        sums.len() == count
            && sums.iter().zip(&self.found).enumerate().all(|(i, (sum, found))| {
                let sum = self.bias.get(i).map_or(*sum, |bias| sum + f32::from_bits(*bias));
                dtype.round(sum).to_bits() == *found
            })
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use mantissa_numerics::recipe::{BatchedSum, PlainSum, ThreadSum};
    use mantissa_numerics::tensor_core::{Architecture, Operand};

    use super::super::hard::shared;
    use super::*;

    const HALVES: [Dtype; 2] = [Dtype::Bf16, Dtype::F16];

    #[test]
    fn hard_rows_tell_recipes_apart() {
        let mut random = Random(1);
        let lengths = [64, 130, 576, 2080];
        for (dtype, length) in HALVES.into_iter().flat_map(|dtype| lengths.map(|length| (dtype, length))) {
            let rows: Vec<Vec<u32>> = (0..COLUMNS).map(|_| hard(&mut random, dtype, length)).collect();
            let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
            let all = candidates_of_batched(dtype, length);
            let outputs_of: Vec<Vec<u32>> = all
                .iter()
                .map(|recipe| {
                    let sums = sums(*recipe, &rows, Instructions::Portable);
                    sums.into_iter().map(|sum| dtype.round(sum).to_bits()).collect()
                })
                .collect();
            let chain = |width| {
                all.iter().position(|recipe| match recipe {
                    Candidate::Half(BatchedSum::TensorCore { block, tile: None }) => block.width == width,
                    _ => false,
                })
            };
            let (wide, narrow) = (chain(16).expect("wide"), chain(8).expect("narrow"));
            assert_ne!(outputs_of[wide], outputs_of[narrow], "{dtype} {length}");
            let threads = all.iter().position(|recipe| match recipe {
                Candidate::Half(BatchedSum::Threads(sum)) => (sum.threads(), sum.vector().get()) == (4, 16),
                _ => false,
            });
            assert_ne!(outputs_of[wide], outputs_of[threads.expect("threads")], "{dtype} {length}");
            let outputs = Outputs {
                rows: rows.iter().map(|row| Arc::from(*row)).collect(),
                bias: Vec::new(),
                found: outputs_of[narrow].clone(),
            };
            let tried = CandidateSet::These(all.clone());
            let pending = Pending { size: length, dtype, length, tried, outputs: vec![outputs] };
            let same: Vec<Candidate> = all
                .iter()
                .zip(&outputs_of)
                .filter(|(_, o)| **o == outputs_of[narrow])
                .map(|(r, _)| *r)
                .collect();
            let same = different(&same, dtype, length, Instructions::Portable);
            assert_eq!(pending.explain(Instructions::Portable), same, "{dtype} {length}");
            assert_eq!(same, [all[narrow]], "{dtype} {length}");
        }
    }

    /// How a product with a weight is cut, from outputs rounded to 16 bits; and that parts are not rounded themselves.
    #[test]
    fn hard_rows_tell_cuts_apart() {
        let mut random = Random(2);
        for dtype in HALVES {
            let length = 3584;
            let rows = shared((0..COLUMNS).map(|_| hard(&mut random, dtype, length)));
            let slices: Vec<&[u32]> = rows.iter().map(AsRef::as_ref).collect();
            for parts in [1, 2, 3, 7] {
                let recipe = candidates_of_linear(dtype, parts)[0];
                let found = sums(recipe, &slices, Instructions::Portable);
                let found: Vec<u32> = found.into_iter().map(|sum| dtype.round(sum).to_bits()).collect();
                // Whatever the heuristic names.
                let explained = |found: &[u32]| {
                    let outputs = Outputs { rows: rows.clone(), bias: Vec::new(), found: found.to_vec() };
                    let tried = CandidateSet::Linear { parts: 5 };
                    let pending = Pending { size: 1, dtype, length, tried, outputs: vec![outputs] };
                    pending.explain(Instructions::Portable)
                };
                assert_eq!(explained(&found), [recipe], "{dtype}, {parts} parts");
                let Candidate::Linear(sum) = recipe else { unreachable!("a product with a weight") };
                let cuts = mantissa_numerics::nvidia::products::split_k(length, sum.parts);
                let rounded = |row: &Arc<[u32]>| {
                    let part = |cut: &std::ops::Range<usize>| {
                        dtype.round(
                            sums(
                                candidates_of_linear(dtype, 1)[0],
                                &[&row[cut.clone()]],
                                Instructions::Portable,
                            )[0],
                        )
                    };
                    dtype.round(cuts.iter().map(part).sum()).to_bits()
                };
                let rounded: Vec<u32> = rows.iter().map(rounded).collect();
                assert_eq!(rounded == found, parts == 1, "{dtype}, {parts} parts");
            }
        }
    }

    /// Of binary32, by the way that a first run goes: a usual recipe, a rare one, none.
    #[test]
    fn sums_of_binary32_are_explained() {
        let mut random = Random(3);
        let threads = |threads, vector| {
            let sum = ThreadSum::new(threads, vector, false).expect("a sum");
            Candidate::F32(PlainSum::Threads(sum))
        };
        for recipe in [Candidate::F32(PlainSum::FmaChain), threads(32, 16), threads(16, 33)] {
            let mut outputs: Vec<Outputs> = (0..16)
                .map(|_| {
                    let rows = shared((0..COLUMNS).map(|_| hard(&mut random, Dtype::F32, 515)));
                    let slices: Vec<&[u32]> = rows.iter().map(AsRef::as_ref).collect();
                    let sums = sums(recipe, &slices, Instructions::Portable);
                    Outputs { rows, bias: Vec::new(), found: sums.iter().map(|sum| sum.to_bits()).collect() }
                })
                .collect();
            let explained = |outputs| {
                let tried = CandidateSet::Batched;
                let pending = Pending { size: 515, dtype: Dtype::F32, length: 515, tried, outputs };
                (pending.explain(Instructions::Portable), pending.outputs)
            };
            let found;
            (found, outputs) = explained(outputs);
            assert_eq!(found, [recipe]);
            outputs[15].found[0] ^= 1;
            assert_eq!(explained(outputs).0, []);
        }
    }

    /// Two recipes that differ in the first 33 of 545 elements alone, and three that are one computation.
    #[test]
    fn the_same_computation_is_named_once() {
        let step = Architecture::Hopper.block(Operand::Bf16).expect("bf16");
        let tile = |tile: Option<u16>| {
            let tile = tile.and_then(NonZeroU16::new);
            Candidate::Half(BatchedSum::TensorCore { block: step, tile })
        };
        let of =
            |recipes: &[Candidate], length| different(recipes, Dtype::Bf16, length, Instructions::Portable);
        assert_eq!(of(&[tile(Some(32)), tile(Some(64))], 551), [tile(Some(32)), tile(Some(64))]);
        assert_eq!(of(&[tile(None), tile(Some(32)), tile(Some(128))], 512), [tile(None)]);
        let by = |threads, vector| {
            let sum = ThreadSum::new(threads, vector, false).expect("a sum");
            Candidate::Half(BatchedSum::Threads(sum))
        };
        assert_eq!(of(&[by(4, 16), by(8, 16), by(8, 8)], 40), [by(4, 16), by(8, 8)]);
    }
}
