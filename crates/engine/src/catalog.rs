//! Which recipes cuBLAS 13.1 picks on an H200, where that was measured. What is not here is refused, never guessed.
//!
//! Split-K: from kernel names and bits (`goldens/gpu`), by shape and rows. Decode attention: from the trees of sums that
//! `goldens/gpu/decode_classes.py` reveals for every number of keys up to 2,080.

use mantissa_numerics::recipe::Summation;
use mantissa_numerics::tensor_core::{Architecture, BlockRecipe, Operand};

/// Parts that `K` is cut into for rows within a range.
struct Split {
    n: usize,
    k: usize,
    rows: std::ops::RangeInclusive<usize>,
    parts: u16,
}

const fn split(n: usize, k: usize, first: usize, last: usize, parts: u16) -> Split {
    Split { n, k, rows: first..=last, parts }
}

const ANY: usize = usize::MAX;

/// Ranges end where measured row counts do; gaps between are refused.
const SPLITS: &[Split] = &[
    // SmolLM2-135M: one class for every number of rows.
    split(576, 576, 1, ANY, 1),
    split(192, 576, 1, ANY, 1),
    split(1536, 576, 1, ANY, 1),
    split(576, 1536, 1, ANY, 1),
    split(49152, 576, 1, ANY, 1),
    // Qwen2.5-7B.
    split(3584, 3584, 1, 32, 2),
    split(3584, 3584, 64, ANY, 1),
    split(512, 3584, 1, 128, 2),
    split(3584, 18944, 1, 8, 7),
    split(3584, 18944, 9, 17, 5),
    split(3584, 18944, 32, 32, 4),
    split(3584, 18944, 64, 64, 3),
    split(3584, 18944, 128, 128, 4),
    split(3584, 18944, 256, 256, 2),
    split(3584, 18944, 512, ANY, 1),
    split(18944, 3584, 1, ANY, 1),
];

/// A step of the GPU's tensor cores on bf16.
pub(crate) fn block() -> BlockRecipe {
    const HOPPER: Option<BlockRecipe> = Architecture::Hopper.block(Operand::Bf16);
    let Some(block) = HOPPER else { unreachable!("Hopper multiplies bf16") };
    block
}

/// The sum of a product of `rows` rows with a weight of `n × k`.
pub(crate) fn product(rows: usize, n: usize, k: usize) -> Option<Summation> {
    let found = SPLITS.iter().find(|split| (split.n, split.k) == (n, k) && split.rows.contains(&rows))?;
    Some(Summation::TensorCore { block: block(), parts: found.parts })
}

/// Sums of scores and of values in decode attention: one query row per head over `keys` keys, `heads` heads in all sequences.
pub(crate) fn decode_attention(heads: usize, head_dim: usize, keys: usize) -> Option<[Summation; 2]> {
    const MEASURED: [usize; 8] = [9, 18, 36, 45, 72, 81, 144, 153];
    if head_dim != 64 || !MEASURED.contains(&heads) || !(2..=2080).contains(&keys) {
        return None;
    }
    let block = Summation::TensorCore { block: block(), parts: 1 };
    if keys.is_multiple_of(8) {
        return Some([block, block]);
    }
    let threads = |threads, vector| Summation::Threads { threads, vector };
    // Tiles of 32 keys against two and a half for each of 132 multiprocessors.
    let tiles = keys.div_ceil(32) * heads;
    let scores = match tiles {
        ..=18 => threads(16, 4),
        330.. if keys.is_multiple_of(2) => block,
        330.. if heads >= 45 => threads(8, 8),
        _ => threads(4, 16),
    };
    let values = match (heads, keys) {
        (..=45, 2..=5) => threads(1, 1),
        (..=45, 6..=425) | (72 | 81, 47..=308) => threads(32, 4),
        (..=18, 426..=906) => threads(32, u16::try_from(keys.div_ceil(32)).ok()?),
        (..=18, 907..) => threads(32, 1),
        (144.., 78..=218) => threads(4, 1),
        _ => return None,
    };
    Some([scores, values])
}
