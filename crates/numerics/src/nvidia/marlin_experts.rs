//! Marlin's product of a step's tokens with their experts, vLLM's with weights of 4 bits: how rows are put into blocks,
//! which tiles a product gets, how many blocks of threads, and where its sums are cut.
//!
//! *Source:* vLLM 0.24's `fused_marlin_moe` and `csrc/libtorch_stable/moe/marlin_moe_wna16` (`ops.cu`,
//! `marlin_template.h`) and `csrc/moe/moe_align_sum_kernels.cu`. Left out: weights ([`super::marlin::weight`]), groups
//! of other sizes than [`GROUP`], and the order in which tokens of an expert are put into several blocks where atomic
//! additions decide it ([`lined_up`]).

use std::ops::Range;

use super::launch::{Launch, PartOrder};
use super::marlin::{Tile, stripes};
use crate::Dtype;

/// Elements that share a scale where the kernels' registers are known.
pub const GROUP: usize = 128;
/// Sizes of a block of rows, of which a step takes the first that is filled to less than 0.9.
const ROWS: [usize; 5] = [8, 16, 32, 48, 64];
/// Rows of a step of a tensor core, and stages of the kernel's pipeline.
const STEP: usize = 16;
const STAGES: usize = 4;
/// Below so many pairs, and of at most so many experts, one block of threads lines them up, of at least so many.
const FEW_PAIRS: usize = 1024;
const FEW_EXPERTS: usize = 64;
const THREADS: usize = 32;
/// Shared memory of a multiprocessor of a Hopper GPU that one block of threads can have, in bytes.
const SHARED: usize = 232_448;

/// A product of a step's tokens with the weights of their experts.
///
/// Example: [`launch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MarlinExperts {
    /// Tokens of the step times experts of each.
    pub pairs: usize,
    /// Rows of a block ([`block_rows`]).
    pub rows: usize,
    /// Blocks of all experts that any token chose.
    pub blocks: usize,
    /// Outputs; of gate and up together.
    pub n: usize,
    /// Length of the sums.
    pub k: usize,
    /// Whether groups have zero points.
    pub zeros: bool,
    /// Format of inputs and scales: bf16 or f16.
    pub format: Dtype,
    /// Multiprocessors of the GPU.
    pub multiprocessors: usize,
}

/// Rows of a block of a step of `tokens` tokens, of which each chooses `top` of `experts`.
///
/// ```
/// use mantissa_numerics::nvidia::marlin_experts::block_rows;
/// assert_eq!([1, 115, 116, 333, 2048].map(|tokens| block_rows(tokens, 8, 128)), [8, 8, 16, 32, 64]);
/// ```
#[must_use]
pub fn block_rows(tokens: usize, top: usize, experts: usize) -> usize {
    #[expect(clippy::cast_precision_loss, reason = "as Python divides")]
    let of_expert = (tokens * top) as f64 / experts as f64;
    #[expect(clippy::cast_precision_loss, reason = "small")]
    let filled = |rows: &usize| of_expert / (*rows as f64) < 0.9;
    let [.., largest] = ROWS;
    ROWS.into_iter().find(filled).unwrap_or(largest)
}

/// Pairs of a step, token by token, in the order in which those of one expert are put into its blocks; `None` where
/// atomic additions decide it: where there are more than 64 experts, or 1,024 pairs.
///
/// A thread for each expert, at least 32, takes every so many-th pair, and those of the first thread come first.
///
/// ```
/// use mantissa_numerics::nvidia::marlin_experts::lined_up;
/// assert_eq!(lined_up(66, 8).unwrap()[..5], [0, 32, 64, 1, 33]);
/// assert_eq!((lined_up(1024, 8), lined_up(8, 128)), (None, None));
/// ```
#[must_use]
pub fn lined_up(pairs: usize, experts: usize) -> Option<Vec<usize>> {
    let threads = experts.max(THREADS);
    let known = pairs < FEW_PAIRS && experts <= FEW_EXPERTS;
    known.then(|| (0..threads).flat_map(|thread| (thread..pairs).step_by(threads)).collect())
}

/// How a product is cut: rows `b · rows ..` of the launch are those of block `b`, blocks in the order of their
/// experts' numbers. `None` where the weight has no whole tiles.
///
/// As many blocks of threads share a multiprocessor as registers and shared memory leave room for, up to four (of
/// blocks of more than 16 rows two), and no more than there is work for; the tile that leaves room for most is taken.
/// Tiles of all blocks are one line: those of the first block first. From there on sums are cut and added as Marlin's
/// others ([`marlin::launches`](super::marlin::launches)), so a sum of one expert depends on how many experts the
/// step's other tokens chose.
///
/// ```
/// use mantissa_numerics::{Dtype, nvidia::marlin_experts::{MarlinExperts, launch}};
/// // A token, eight experts of 768 over 2,048.
/// let gate_and_up = MarlinExperts {
///     pairs: 8, rows: 8, blocks: 8, n: 1536, k: 2048, zeros: true, format: Dtype::Bf16, multiprocessors: 132,
/// };
/// let one = launch(gate_and_up).unwrap();
/// assert_eq!((one.tile, one.warps), ([8, 64], 4));
/// // Eight blocks of 24 tiles of 16 steps, for 4 · 132 blocks of threads: 6 steps each, and so three for a tile.
/// assert_eq!(one.cuts(0, 0), [0..768, 768..1536, 1536..2048]);
/// assert_eq!(one.cuts(56, 64), [0..256, 256..1024, 1024..1792, 1792..2048]);
/// ```
#[must_use]
pub fn launch(shape: MarlinExperts) -> Option<Launch> {
    let MarlinExperts { rows, blocks, n, k, .. } = shape;
    let (tile, shared_by) = chosen(shape)?;
    let (across, depth) = (n / tile.outputs, k / tile.depth);
    let cuts = stripes(blocks * across, depth, GROUP / tile.depth, shape.multiprocessors * shared_by);
    let in_elements = |parts: Vec<Range<usize>>| {
        parts.into_iter().map(|part| part.start * tile.depth..part.end * tile.depth).collect()
    };
    let cuts = cuts.into_iter().map(in_elements).collect();
    let tile_of_rows = [rows, tile.outputs];
    Some(Launch::new(0..blocks * rows, tile_of_rows, PartOrder::Descending, tile.depth / 32, across, cuts))
}

/// The tile of a product, and how many blocks of threads share a multiprocessor.
fn chosen(shape: MarlinExperts) -> Option<(Tile, usize)> {
    let wide = if shape.rows > STEP { Tile::WIDE } else { Tile::DEEP };
    let mut best = None;
    for tile in [wide, Tile::MIDDLE, Tile::SMALL] {
        if !tile.divides(shape.n, shape.k) || shared_memory(shape, tile) > SHARED - 512 {
            continue;
        }
        let room = by_registers(shape, tile).min(SHARED / (shared_memory(shape, tile) + 1536));
        let mut count = room.clamp(1, if shape.rows > STEP { 2 } else { 4 });
        let work = shape.n / tile.outputs * shape.pairs * 4;
        if work < shape.multiprocessors * count {
            count = (work / shape.multiprocessors).max(1);
        }
        if best.is_none_or(|(_, most)| count > most) {
            best = Some((tile, count));
        }
    }
    best
}

/// How many blocks of threads have registers. vLLM asks CUDA how many the kernel takes, which a Hopper GPU's driver
/// compiles itself from PTX: the number stands in no file, and CUDA's compilers leave others.
///
/// *Source:* launches on an H200 (driver 580.159.04), as its profiler saw them: of blocks of 8 rows 128 registers of
/// bf16 without zero points, otherwise 120 to 127; of 16 rows 142 to 150, of more 208 to 255. vLLM has 255 · 1024
/// bytes for them. That f16 with zero points takes the smallest tile where bf16 takes that of 64 by 128 says that its
/// kernel for the latter has 128 registers or more: nothing launches it.
fn by_registers(shape: MarlinExperts, tile: Tile) -> usize {
    match (tile.threads(), shape.rows) {
        (256, 8) if shape.format == Dtype::F16 && !shape.zeros => 2,
        (256, _) => 1,
        (_, 8) => match (shape.format, shape.zeros) {
            (Dtype::F16, true) if tile.depth == Tile::MIDDLE.depth => 3,
            (Dtype::F16, _) | (_, true) => 4,
            _ => 3,
        },
        (_, 16) => 3,
        _ => 2,
    }
}

/// Bytes of shared memory of a block of threads.
fn shared_memory(shape: MarlinExperts, tile: Tile) -> usize {
    let Tile { depth, outputs } = tile;
    let rows = shape.rows.next_multiple_of(STEP);
    let weights = STAGES * depth * outputs / 2;
    let result = rows * (outputs + 8) * 2;
    let scratch = weights.max(result).max(weights.min(result) + outputs * 2);
    let scales = STAGES * depth.div_ceil(GROUP) * outputs * 2;
    let zeros = if shape.zeros { scales / 4 } else { 0 };
    scratch + STAGES * rows * depth * 2 + scales + zeros + rows * STEP
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvidia::marlin::weight;
    use crate::tensor_core::{Architecture, BlockRecipe, Operand};

    /// Values of vLLM's own on an H200 (goldens/parallel/marlin_experts.py).
    const ON_GPU: &[u8] = include_bytes!("../../../../goldens/parallel/marlin_experts.bin");

    /// A value, and what it is computed from.
    struct Value {
        tokens: [usize; 3],
        shape: MarlinExperts,
        block: usize,
        output: usize,
        weighted: bool,
        result: u32,
        weight: f32,
        x: Vec<u32>,
        w: Vec<u32>,
    }

    impl Value {
        fn all() -> Vec<Self> {
            let (mut data, mut values) = (ON_GPU, Vec::new());
            let mut take = |count: usize| {
                let (taken, rest) = data.split_at(count);
                data = rest;
                (taken, rest.is_empty())
            };
            loop {
                let numbers: Vec<u32> =
                    take(48).0.chunks_exact(4).map(|x| u32::from_le_bytes(x.try_into().unwrap())).collect();
                let [tokens, top, experts, n, k, zeros, blocks, block, output, weighted] =
                    std::array::from_fn(|i| numbers[i] as usize);
                let halves = |bytes: &[u8]| -> Vec<u32> {
                    bytes.chunks_exact(2).map(|x| u32::from(u16::from_le_bytes([x[0], x[1]]))).collect()
                };
                let x = halves(take(2 * k).0);
                let packed = take(k / 2).0;
                let scales = halves(take(2 * (k / GROUP)).0);
                let (zero, last) = take(k / GROUP);
                let of = |at: usize| {
                    let scale = f32::from_bits(scales[at / GROUP] << 16);
                    weight(Dtype::Bf16, packed[at / 2] >> (at % 2 * 4), zero[at / GROUP], scale).to_bits()
                        >> 16
                };
                let rows = block_rows(tokens, top, experts);
                let (pairs, zeros) = (tokens * top, zeros == 1);
                values.push(Self {
                    tokens: [tokens, top, experts],
                    shape: MarlinExperts {
                        pairs,
                        rows,
                        blocks,
                        n,
                        k,
                        zeros,
                        format: Dtype::Bf16,
                        multiprocessors: 132,
                    },
                    block,
                    output,
                    weighted: weighted == 1,
                    result: numbers[10],
                    weight: f32::from_bits(numbers[11]),
                    x,
                    w: (0..k).map(of).collect(),
                });
                if last {
                    return values;
                }
            }
        }

        /// The value where `launch` says how it is summed.
        fn by(&self, step: BlockRecipe, launch: &Launch) -> u32 {
            let laid = |row: &[u32]| {
                let mut laid = vec![0; row.len()];
                for (k, value) in row.iter().enumerate() {
                    laid[launch.place(row.len(), k)] = *value;
                }
                laid
            };
            let (x, w) = (laid(&self.x), laid(&self.w));
            let chain = |places: Range<usize>| step.chain(&x[places.clone()], &w[places], 0.0);
            let sum = launch.sum(self.shape.k, self.block * self.shape.rows, self.output, chain);
            let rounded = Dtype::Bf16.round(sum);
            let weight = if self.weighted { Dtype::Bf16.round(self.weight) } else { 1.0 };
            Dtype::Bf16.round(rounded * weight).to_bits() >> 16
        }
    }

    #[test]
    fn values_are_those_of_a_gpu() {
        let step = Architecture::Hopper.block(Operand::Bf16).expect("bf16");
        let (mut others, mut rows) = ([0; 3], Vec::new());
        for value in Value::all() {
            let shape = value.shape;
            let launch = launch(shape).expect("whole tiles");
            assert!(launch.cuts(value.block * shape.rows, value.output).len() > 1);
            assert_eq!(value.by(step, &launch), value.result, "{:?} {shape:?}", value.tokens);
            rows.push(shape.rows);
            // One block more, the registers of the other weights, parts from the lowest K up.
            let more = super::launch(MarlinExperts { blocks: shape.blocks + 1, ..shape });
            let registers = super::launch(MarlinExperts { zeros: !shape.zeros, ..shape });
            let mut ascending = launch.clone();
            ascending.order = PartOrder::Ascending;
            for (count, other) in others.iter_mut().zip([more, registers, Some(ascending)]) {
                *count += usize::from(value.by(step, &other.expect("whole tiles")) != value.result);
            }
        }
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows, ROWS);
        assert!(others.iter().all(|count| *count > 0), "{others:?} values show another order");
    }

    /// What an H200 launched (goldens/parallel/packed.py).
    #[derive(serde::Deserialize)]
    struct Launched {
        multiprocessors: usize,
        experts: Vec<Layer>,
    }

    #[derive(serde::Deserialize)]
    struct Layer {
        k: usize,
        n: usize,
        experts: usize,
        top: usize,
        zeros: bool,
        steps: Vec<Step>,
    }

    #[derive(serde::Deserialize)]
    struct Step {
        m: usize,
        /// Rows of a block, and of all blocks.
        block: usize,
        filled: usize,
        /// Blocks of threads, threads of each, registers of each.
        kernel: [usize; 3],
    }

    #[test]
    fn as_many_blocks_of_threads_run_as_an_h200_launched() {
        let bf16 = include_str!("../../../../goldens/parallel/packed.json");
        let f16 = include_str!("../../../../goldens/parallel/packed_f16.json");
        let mut counts = Vec::new();
        for (format, golden) in [(Dtype::Bf16, bf16), (Dtype::F16, f16)] {
            let Launched { multiprocessors, experts } = serde_json::from_str(golden).expect("JSON");
            launched(format, multiprocessors, experts, &mut counts);
        }
        counts.sort_unstable();
        counts.dedup();
        assert_eq!(counts, [1, 2, 3, 4]);
    }

    fn launched(format: Dtype, multiprocessors: usize, layers: Vec<Layer>, counts: &mut Vec<usize>) {
        for Layer { k, n, experts, top, zeros, steps } in layers {
            for Step { m, block, filled, kernel: [launched, threads, registers] } in steps {
                assert_eq!(block_rows(m, top, experts), block);
                let blocks = filled / block;
                let shape = MarlinExperts {
                    pairs: m * top,
                    rows: block,
                    blocks,
                    n,
                    k,
                    zeros,
                    format,
                    multiprocessors,
                };
                let (tile, shared_by) = chosen(shape).expect("whole tiles");
                let found = [shared_by * multiprocessors, tile.threads()];
                assert_eq!(found, [launched, threads], "{m} {n} {k} {zeros}");
                let room = 255 * 1024 / (4 * registers * threads);
                assert_eq!(
                    by_registers(shape, tile),
                    room.clamp(1, 4),
                    "{registers} registers, {m} {n} {k} {zeros}"
                );
                counts.push(shared_by);
            }
        }
    }

    #[test]
    fn the_tile_that_leaves_room_for_most_blocks_is_taken() {
        let in_format = |format, pairs, rows, n, k, zeros| {
            let shape = MarlinExperts { pairs, rows, blocks: 8, n, k, zeros, format, multiprocessors: 132 };
            chosen(shape).map(|(tile, count)| ([tile.depth, tile.outputs], count))
        };
        let of = |pairs, rows, n, k, zeros| in_format(Dtype::Bf16, pairs, rows, n, k, zeros);
        // Of few rows those of 64 outputs, which are more.
        assert_eq!(of(8, 8, 1536, 2048, true), Some(([128, 64], 4)));
        assert_eq!(of(8, 8, 1536, 2048, false), Some(([128, 64], 3)));
        assert_eq!(of(72, 8, 1536, 2048, true), Some(([64, 128], 4)));
        assert_eq!(of(72, 8, 1536, 2048, false), Some(([64, 128], 3)));
        assert_eq!(of(1024, 16, 1536, 2048, true), Some(([64, 128], 3)));
        assert_eq!(of(2664, 32, 1536, 2048, true), Some(([64, 128], 2)));
        assert_eq!(of(2, 8, 512, 1024, false), Some(([128, 128], 1)));
        assert_eq!(in_format(Dtype::F16, 72, 8, 1536, 2048, true), Some(([128, 64], 4)));
        assert_eq!(in_format(Dtype::F16, 72, 8, 1536, 2048, false), Some(([64, 128], 4)));
        // Outputs of no whole tile.
        assert_eq!(of(8, 8, 1536 + 32, 2048, true), None);
    }

    #[test]
    fn a_sum_depends_on_how_many_blocks_there_are() {
        let of = |blocks| {
            let shape = MarlinExperts {
                pairs: 72,
                rows: 8,
                blocks,
                n: 2048,
                k: 768,
                zeros: false,
                format: Dtype::Bf16,
                multiprocessors: 132,
            };
            launch(shape).expect("whole tiles")
        };
        let (few, more) = (of(20), of(60));
        assert_ne!(few.cuts(0, 0), more.cuts(0, 0));
        // Rows of a block are cut alike, and whole waves not at all.
        assert!((0..8).all(|row| few.cuts(row, 70) == few.cuts(0, 70)));
        assert!(matches!(more.cuts(0, 0), [whole] if *whole == (0..768)));
        assert!((0..2048).step_by(128).any(|output| more.cuts(59 * 8, output).len() > 1));
    }
}
