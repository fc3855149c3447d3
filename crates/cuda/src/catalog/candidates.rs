//! Recipes that may explain a product, and what each makes of rows beside ones.

use std::num::NonZeroU16;

use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::products::{self, remainder_first, split_k};
use mantissa_numerics::recipe::{BatchedSum, PlainSum, TensorCoreSum, ThreadSum};
use mantissa_numerics::tensor_core::dot::{Instructions, LANES, Panel, Row};
use mantissa_numerics::tensor_core::{Architecture, BlockRecipe, Operand};

use super::hard::ONE;

/// Threads that a matrix-vector kernel may have.
const THREADS: [u16; 7] = [1, 2, 4, 8, 16, 32, 64];

/// A recipe that may explain a product, of the kind that a catalog has there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Candidate {
    /// Of a product with a weight.
    Linear(TensorCoreSum),
    /// Of a batched product of bf16 or f16.
    Half(BatchedSum),
    /// Of a batched product of binary32.
    F32(PlainSum),
}

impl Candidate {
    /// By threads, of a batched product.
    fn threads(dtype: Dtype, sum: ThreadSum) -> Self {
        if dtype == Dtype::F32 {
            Self::F32(PlainSum::Threads(sum))
        } else {
            Self::Half(BatchedSum::Threads(sum))
        }
    }
}

/// A step on factors of a format; `None` where a tensor core does not multiply it.
fn step_on(dtype: Dtype) -> Option<BlockRecipe> {
    let operand = Operand::ALL.into_iter().find(|operand| operand.dtype() == Some(dtype))?;
    Architecture::Hopper.block(operand)
}

/// Recipes that a product with a weight may have: cut as the heuristic says, not cut, cut anyhow.
pub(super) fn candidates_of_linear(dtype: Dtype, parts: u32) -> Vec<Candidate> {
    let hint = u16::try_from(parts).unwrap_or(1);
    let step = step_on(dtype);
    let cut = |parts| {
        let parts = NonZeroU16::new(parts).unwrap_or(NonZeroU16::MIN);
        step.map(|block| Candidate::Linear(TensorCoreSum { block, parts }))
    };
    [hint, 1].into_iter().chain(1..=64).filter_map(cut).collect()
}

/// Recipes that a batched product may have, the most usual first.
pub(super) fn candidates_of_batched(dtype: Dtype, length: usize) -> Vec<Candidate> {
    let step = step_on(dtype);
    let chain = (dtype == Dtype::F32).then_some(Candidate::F32(PlainSum::FmaChain));
    let narrow = step.map(|step| BlockRecipe { width: 8, ..step });
    let tiles = [0, 32, 64, 128].map(NonZeroU16::new);
    let walk = |block| tiles.map(|tile| Candidate::Half(BatchedSum::TensorCore { block, tile }));
    let threads = THREADS.into_iter().flat_map(|threads| {
        let whole = u16::try_from(length.div_ceil(usize::from(threads))).unwrap_or(1);
        [1, 2, 4, 8, 16, whole].into_iter().flat_map(move |vector| by_threads(dtype, threads, vector))
    });
    chain.into_iter().chain(step.into_iter().chain(narrow).flat_map(walk)).chain(threads).collect()
}

/// Anything else that threads may do.
pub(super) fn rare_candidates(dtype: Dtype, length: usize) -> impl Iterator<Item = Candidate> {
    let longest = u16::try_from(length.div_ceil(2)).unwrap_or(1);
    THREADS
        .into_iter()
        .flat_map(move |threads| (1..=longest).flat_map(move |vector| by_threads(dtype, threads, vector)))
}

fn by_threads(dtype: Dtype, threads: u16, vector: u16) -> impl Iterator<Item = Candidate> {
    [false, true]
        .into_iter()
        .filter_map(move |in_order| ThreadSum::new(threads, vector, in_order))
        .map(move |sum| Candidate::threads(dtype, sum))
}

/// Sums of rows by a recipe, the other operand being ones.
pub(super) fn sums(recipe: Candidate, rows: &[&[u32]], instructions: Instructions) -> Vec<f32> {
    let length = rows.first().map_or(0, |row| row.len());
    let one = NonZeroU16::MIN;
    match recipe {
        Candidate::Linear(TensorCoreSum { block, parts }) => by_steps(block, parts, None, rows, instructions),
        Candidate::Half(BatchedSum::TensorCore { block, tile }) => {
            by_steps(block, one, tile, rows, instructions)
        }
        Candidate::Half(BatchedSum::Threads(sum)) | Candidate::F32(PlainSum::Threads(sum)) => {
            let sum = |row: &&[u32]| products::by_threads(sum, length, |k| (f32::from_bits(row[k]), 1.0));
            rows.iter().map(sum).collect()
        }
        Candidate::F32(PlainSum::FmaChain) => {
            rows.iter().map(|row| row.iter().fold(0.0, |sum, bits| sum + f32::from_bits(*bits))).collect()
        }
    }
}

/// Sums by steps of a tensor core.
fn by_steps(
    block: BlockRecipe,
    parts: NonZeroU16,
    tile: Option<NonZeroU16>,
    rows: &[&[u32]],
    instructions: Instructions,
) -> Vec<f32> {
    let length = rows.first().map_or(0, |row| row.len());
    let (early, late) = remainder_first(block, tile, length);
    let padded = late + length - early;
    let pattern = |bits: u32| block.operand.dtype().map_or(0, |dtype| dtype.pattern(f32::from_bits(bits)));
    let element = |lane: usize, at: usize| match at {
        _ if at < early => pattern(rows[lane][at]),
        _ if at < late => 0,
        _ => pattern(rows[lane][at - late + early]),
    };
    let (mut row, mut panel) = (Row::default(), Panel::default());
    row.fill_rounded(instructions, block, &vec![f32::from_bits(ONE); padded]);
    panel.fill(instructions, block, rows.len(), padded, element);
    let mut total = [0.0; LANES];
    for cut in split_k(padded, parts) {
        let (first, mut sums) = (cut.start == 0, [0.0; LANES]);
        block.dots(instructions, &row, &panel, cut, &mut sums);
        for (total, sum) in total.iter_mut().zip(sums) {
            *total = if first { sum } else { *total + sum };
        }
    }
    total[..rows.len()].to_vec()
}
