//! Finds the recipe of every product that a model's passes run, by comparison with the product itself.
//!
//! One operand is all ones; the other holds pairs of large numbers that cancel, at random places, and small ones. What is left of
//! the small ones depends on the order of sums down to the last step, so a wrong recipe shows in most outputs although they are
//! rounded to bf16. A recipe is taken if it gives all the outputs compared, at both ends of rows and columns: 32 different sums of
//! a product with a weight, 64 of a batched one where it has as many. Where two of the usual recipes of a batched product, or two of the
//! rare ones if no usual one does, give all of them and are not the same computation, it is run again with other numbers until one is
//! left. A shape that none gives, or more than one after all, is left out and reported.

use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::sync::Arc;

use mantissa_engine::catalog::{Batched, Catalog, Linear, Origin, Product};
use mantissa_model::ModelConfig;
use mantissa_model::graph::Operation;
use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::products::{self, remainder_first, split_k};
use mantissa_numerics::recipe::{BatchedSum, PlainSum, TensorCoreSum, ThreadSum};
use mantissa_numerics::site::Phase;
use mantissa_numerics::tensor_core::dot::{Instructions, LANES, Panel, Row};
use mantissa_numerics::tensor_core::{Architecture, BlockRecipe, Operand};

use crate::device::{CudaError, Device, Matrix};

/// Bits of one.
const ONE: u32 = 0x3F80_0000;

/// Outputs compared at each end of a row.
const COLUMNS: usize = LANES;

/// What to measure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shapes {
    linear: BTreeSet<(Linear, usize)>,
    /// Of bf16 or of binary32.
    batched: BTreeSet<((Dtype, Batched), usize)>,
}

impl Shapes {
    /// Adds all products of a model with its weights: prefills of `prompts` tokens and, if there are `keys`, decode steps, at each
    /// batch size.
    pub fn add_linear(&mut self, config: &ModelConfig, batches: &[usize], prompts: &[usize], keys: &[usize]) {
        let prefill_rows = batches.iter().flat_map(|batch| prompts.iter().map(move |prompt| batch * prompt));
        let decode_rows = batches.iter().copied().filter(|_| !keys.is_empty());
        let rows: BTreeSet<usize> = prefill_rows.chain(decode_rows).collect();
        for product in mantissa_engine::catalog::products(&config.graph()) {
            self.linear.extend(rows.iter().map(|rows| (product, *rows)));
        }
    }

    /// Adds attention's products of a model: prefills of `prompts` tokens and decode steps over `keys` keys, at each batch size, of
    /// bf16 as in eager attention or of binary32 as in the math backend.
    pub fn add_attention(
        &mut self,
        config: &ModelConfig,
        dtype: Dtype,
        batches: &[usize],
        prompts: &[usize],
        keys: &[usize],
    ) {
        let graph = config.graph();
        let attentions = graph.nodes().filter_map(|node| match &node.operation {
            Operation::Attention(attention) => Some((attention.heads, attention.key_dim)),
            _ => None,
        });
        let attentions: BTreeSet<(usize, usize)> = attentions.collect();
        for (batch, (heads, dim)) in
            batches.iter().flat_map(|batch| attentions.iter().map(move |a| (batch, *a)))
        {
            let heads = batch * heads;
            for product in [Product::Scores, Product::Values] {
                for (phase, keys) in [(Phase::Prefill, prompts), (Phase::Decode, keys)] {
                    let shape = Batched { product, phase, heads, dim };
                    self.batched.extend(keys.iter().map(|keys| ((dtype, shape), *keys)));
                }
            }
        }
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.linear.len() + self.batched.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What came of a measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    /// Recipes that gave every output.
    pub catalog: Catalog,
    /// Shapes that none gave, in words.
    pub unexplained: Vec<String>,
    /// Of the linear products without a bias: how often cuBLASLt's heuristic names as many parts as were found.
    pub heuristic: [usize; 2],
}

/// A generator of 64 bits (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap_or(0)
    }
}

/// A row that is hard to sum, as bits: two of three elements come in pairs of 2^17 to 2^24 that cancel, the others are about 1.
fn hard(random: &mut Random, dtype: Dtype, length: usize) -> Vec<u32> {
    let mut order: Vec<usize> = (0..length).collect();
    for i in (1..length).rev() {
        order.swap(i, random.below(i + 1));
    }
    let fraction = if dtype == Dtype::F32 { 0x007F_FFFF } else { 0x007F_0000 };
    let mut number = |largest: u32, lowest: u32| {
        let [high, low] = [random.next(), random.next()].map(|bits| (bits >> 32) as u32);
        let exponent = lowest + low % (largest - lowest + 1);
        high & (0x8000_0000 | fraction) | exponent << 23
    };
    let mut row = vec![0; length];
    let (paired, single) = order.split_at(length / 3 * 2);
    for pair in paired.chunks_exact(2) {
        row[pair[0]] = number(127 + 24, 127 + 17);
        row[pair[1]] = row[pair[0]] ^ 0x8000_0000;
    }
    for at in single {
        row[*at] = number(127, 125);
    }
    row
}

/// Threads that a matrix-vector kernel may have.
const THREADS: [u16; 7] = [1, 2, 4, 8, 16, 32, 64];

/// A recipe that may explain a product, of the kind that a catalog has there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Candidate {
    /// Of a product with a weight.
    Linear(TensorCoreSum),
    /// Of a batched product of bf16.
    Bf16(BatchedSum),
    /// Of a batched product of binary32.
    F32(PlainSum),
}

impl Candidate {
    /// By threads, of a batched product.
    fn threads(dtype: Dtype, sum: ThreadSum) -> Self {
        if dtype == Dtype::F32 {
            Self::F32(PlainSum::Threads(sum))
        } else {
            Self::Bf16(BatchedSum::Threads(sum))
        }
    }
}

/// Recipes that a product with a weight may have: cut as the heuristic says, not cut, cut anyhow.
fn candidates_of_linear(parts: u32) -> Vec<Candidate> {
    let hint = u16::try_from(parts).unwrap_or(1);
    let step = Architecture::Hopper.block(Operand::Bf16);
    let cut = |parts| {
        let parts = NonZeroU16::new(parts).unwrap_or(NonZeroU16::MIN);
        step.map(|block| Candidate::Linear(TensorCoreSum { block, parts }))
    };
    [hint, 1].into_iter().chain(1..=64).filter_map(cut).collect()
}

/// Recipes that a batched product may have, the most usual first.
fn candidates_of_batched(dtype: Dtype, length: usize) -> Vec<Candidate> {
    let step = Architecture::Hopper.block(Operand::Bf16).filter(|_| dtype == Dtype::Bf16);
    let chain = (dtype == Dtype::F32).then_some(Candidate::F32(PlainSum::FmaChain));
    let narrow = step.map(|step| BlockRecipe { width: 8, ..step });
    let tiles = [0, 32, 64, 128].map(NonZeroU16::new);
    let walk = |block| tiles.map(|tile| Candidate::Bf16(BatchedSum::TensorCore { block, tile }));
    let threads = THREADS.into_iter().flat_map(|threads| {
        let whole = u16::try_from(length.div_ceil(usize::from(threads))).unwrap_or(1);
        [1, 2, 4, 8, 16, whole].into_iter().flat_map(move |vector| by_threads(dtype, threads, vector))
    });
    chain.into_iter().chain(step.into_iter().chain(narrow).flat_map(walk)).chain(threads).collect()
}

/// Anything else that threads may do.
fn rare_candidates(dtype: Dtype, length: usize) -> impl Iterator<Item = Candidate> {
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
fn sums(recipe: Candidate, rows: &[&[u32]], instructions: Instructions) -> Vec<f32> {
    let length = rows.first().map_or(0, |row| row.len());
    let one = NonZeroU16::MIN;
    match recipe {
        Candidate::Linear(TensorCoreSum { block, parts }) => by_steps(block, parts, None, rows, instructions),
        Candidate::Bf16(BatchedSum::TensorCore { block, tile }) => {
            by_steps(block, one, tile, rows, instructions)
        }
        Candidate::Bf16(BatchedSum::Threads(sum)) | Candidate::F32(PlainSum::Threads(sum)) => {
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
    let element = |lane: usize, at: usize| match at {
        _ if at < early => rows[lane][at] >> 16,
        _ if at < late => 0,
        _ => rows[lane][at - late + early] >> 16,
    };
    let (mut row, mut panel) = (Row::default(), Panel::default());
    row.fill(instructions, block, std::iter::repeat_n(ONE >> 16, padded));
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

/// A run of outputs: what was summed, what is added, what came out.
struct Outputs {
    rows: Vec<Arc<[u32]>>,
    bias: Vec<u32>,
    found: Vec<u32>,
}

/// A shape whose product was run, and is to be explained.
struct Pending {
    size: usize,
    dtype: Dtype,
    /// Length of the sums.
    length: usize,
    /// What the recipe may be.
    tried: Tried,
    outputs: Vec<Outputs>,
}

/// Recipes that are looked through.
#[derive(Clone)]
enum Tried {
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
            Tried::Linear { parts } => {
                candidates_of_linear(*parts).into_iter().find(fit).into_iter().collect()
            }
            Tried::Batched => {
                let usual: Vec<_> =
                    candidates_of_batched(self.dtype, self.length).into_iter().filter(fit).collect();
                if usual.is_empty() {
                    rare_candidates(self.dtype, self.length).filter(fit).collect()
                } else {
                    usual
                }
            }
            Tried::These(recipes) => recipes.iter().copied().filter(fit).collect(),
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
fn explained(pending: &[Pending], instructions: Instructions) -> Vec<Vec<Candidate>> {
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
    fn agree(&self, dtype: Dtype, recipe: Candidate, count: usize, instructions: Instructions) -> bool {
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

/// First and last columns of a row of `width`, without overlap.
fn ends(width: usize) -> Vec<std::ops::Range<usize>> {
    let first = COLUMNS.min(width);
    let last = width.saturating_sub(COLUMNS).max(first);
    [0..first, last..width].into_iter().filter(|range| !range.is_empty()).collect()
}

/// Shapes with the sizes that are to be measured of each.
fn grouped<S: Copy + PartialEq>(
    all: &BTreeSet<(S, usize)>,
    known: impl Fn(S, usize) -> bool,
) -> Vec<(S, Vec<usize>)> {
    let mut groups: Vec<(S, Vec<usize>)> = Vec::new();
    for (shape, size) in all.iter().filter(|(shape, size)| !known(*shape, *size)) {
        match groups.last_mut() {
            Some((last, sizes)) if last == shape => sizes.push(*size),
            _ => groups.push((*shape, vec![*size])),
        }
    }
    groups
}

/// Measures `shapes` on `device`, of which those that `known` covers are skipped. `progress` is told what has been built and how many
/// shapes it took, now and then.
///
/// *Errors:* of the device.
pub fn build(
    device: &Device,
    shapes: &Shapes,
    known: Option<&Catalog>,
    date: &str,
    mut progress: impl FnMut(&Built, usize),
) -> Result<Built, CudaError> {
    let origin = Origin {
        gpu: device.name()?,
        multiprocessors: device.multiprocessors()?,
        cublas: device.cublas()?,
        driver: device.driver()?,
        date: date.to_owned(),
    };
    let available = Instructions::ALL.into_iter().rev().find(|i| i.is_available());
    let instructions = available.unwrap_or(Instructions::Portable);
    let mut built = Built { catalog: Catalog::new(origin), unexplained: Vec::new(), heuristic: [0, 0] };
    let linear =
        grouped(&shapes.linear, |shape, rows| known.is_some_and(|k| k.linear(shape, rows).is_some()));
    let batched = grouped(&shapes.batched, |shape, keys| known.is_some_and(|k| covers(k, shape, keys)));
    let left = linear.iter().map(|(_, s)| s.len()).chain(batched.iter().map(|(_, s)| s.len())).sum::<usize>();
    let mut done = shapes.len() - left;
    for (shape, rows) in linear {
        measure_linear(device, shape, &rows, instructions, &mut built)?;
        done += rows.len();
        progress(&built, done);
    }
    for (shape, keys) in batched {
        measure_batched(device, shape, &keys, instructions, &mut built)?;
        done += keys.len();
        progress(&built, done);
    }
    Ok(built)
}

/// Whether a catalog has a batched product.
fn covers(known: &Catalog, (dtype, shape): (Dtype, Batched), keys: usize) -> bool {
    if dtype == Dtype::F32 { known.math(shape, keys).is_some() } else { known.eager(shape, keys).is_some() }
}

fn shared(rows: impl Iterator<Item = Vec<u32>>) -> Vec<Arc<[u32]>> {
    rows.map(Arc::from).collect()
}

fn measure_linear(
    device: &Device,
    shape: Linear,
    rows: &[usize],
    instructions: Instructions,
    built: &mut Built,
) -> Result<(), CudaError> {
    let Linear { n, k, bias } = shape;
    let bf16 = Dtype::Bf16;
    let most = rows.iter().copied().max().unwrap_or(1);
    let mut random = Random(n as u64 * 1_000_003 + k as u64);
    let x = device.filled(bf16, most * k, ONE)?;
    let mut w = device.filled(bf16, n * k, 0)?;
    let mut y = device.filled(bf16, most * n, 0)?;
    let mut hard_rows = Vec::new();
    for columns in ends(n) {
        let rows = shared(columns.clone().map(|_| hard(&mut random, bf16, k)));
        device.overwrite(&mut w, columns.start * k, &rows.concat())?;
        hard_rows.push((columns, rows));
    }
    let biases = if bias { hard(&mut random, bf16, n) } else { Vec::new() };
    let bias_there = if bias { Some(device.upload(bf16, &biases)?) } else { None };
    let mut pending = Vec::new();
    for m in rows.iter().copied() {
        let parts = if let Some(bias) = &bias_there {
            device.heuristic([m, n, k], Some((&x, &w, bias, &mut y)))?
        } else {
            device.linear([m, n, k], &x, &w, &mut y)?;
            device.heuristic([m, n, k], None).unwrap_or(1)
        };
        let mut outputs = Vec::new();
        for row in [0, m - 1] {
            for (columns, rows) in &hard_rows {
                outputs.push(Outputs {
                    rows: rows.clone(),
                    bias: if bias { biases[columns.clone()].to_vec() } else { Vec::new() },
                    found: device.download(&y, row * n + columns.start, columns.len())?,
                });
            }
        }
        pending.push((
            parts,
            Pending { size: m, dtype: bf16, length: k, tried: Tried::Linear { parts }, outputs },
        ));
    }
    let (parts, pending): (Vec<u32>, Vec<Pending>) = pending.into_iter().unzip();
    for ((pending, parts), recipes) in pending.iter().zip(parts).zip(explained(&pending, instructions)) {
        let m = pending.size;
        let Some(Candidate::Linear(recipe)) = recipes.first().copied() else {
            built.unexplained.push(format!(
                "a product of {m} × {k} with {n} × {k}{}: cuBLASLt names {parts} parts",
                if bias { " and a bias" } else { "" }
            ));
            continue;
        };
        if !bias {
            built.heuristic[1] += 1;
            built.heuristic[0] += usize::from(u32::from(recipe.parts.get()) == parts.max(1));
        }
        built.catalog.add_linear(shape, m, recipe);
    }
    Ok(())
}

/// Shapes that are run before they are explained, so that memory stays bounded.
const AT_A_TIME: usize = 128;

/// Runs of one shape before it is given up that more than one recipe explains it.
const RUNS: usize = 12;

fn measure_batched(
    device: &Device,
    (dtype, shape): (Dtype, Batched),
    keys: &[usize],
    instructions: Instructions,
    built: &mut Built,
) -> Result<(), CudaError> {
    let Batched { product, phase, heads, dim } = shape;
    if heads == 1 {
        // PyTorch calls another function for a batch of one.
        let what = format!(
            "{} attention of one head of {dim}: a batch of one product is not measured",
            phase.name()
        );
        built.unexplained.push(what);
        return Ok(());
    }
    let most = keys.iter().copied().max().unwrap_or(1);
    let queries = |keys: usize| if phase == Phase::Prefill { keys } else { 1 };
    let scores = product == Product::Scores;
    // What is ones, what is hard to sum, what comes out.
    let [one, out] = if scores { [dim, most] } else { [most, dim] };
    let a = device.filled(dtype, heads * queries(most) * one, ONE)?;
    let mut b = device.filled(dtype, heads * most * dim, 0)?;
    let mut c = device.filled(dtype, heads * queries(most) * out, 0)?;
    let mut random = Random(heads as u64 * 1_000_003 + dim as u64);
    for keys in keys.chunks(AT_A_TIME) {
        let mut open: Vec<(usize, Tried)> = keys.iter().map(|keys| (*keys, Tried::Batched)).collect();
        for run in 1..=RUNS {
            // Keys: hard rows again and again, of a number that no tile divides; all heads have them.
            let hard_keys = shared((0..251).map(|_| hard(&mut random, dtype, dim)));
            if scores {
                let longest = open.iter().map(|(keys, _)| *keys).max().unwrap_or(0);
                let rows = hard_keys.iter().cycle().take(heads * longest);
                let whole: Vec<u32> = rows.flat_map(|row| row.iter().copied()).collect();
                device.overwrite(&mut b, 0, &whole)?;
            }
            let mut pending = Vec::new();
            for (keys, tried) in open {
                let m = queries(keys);
                let outputs = if scores {
                    device.batched(heads, [m, keys, dim], true, &a, &b, &mut c)?;
                    outputs_of_scores(device, &c, [heads, m, keys], &hard_keys)?
                } else {
                    let columns = hard_values(device, &mut b, dtype, [heads, keys, dim], &mut random)?;
                    device.batched(heads, [m, dim, keys], false, &a, &b, &mut c)?;
                    outputs_of_values(device, &c, [heads, m, dim], &columns)?
                };
                let length = if scores { dim } else { keys };
                pending.push(Pending { size: keys, dtype, length, tried, outputs });
            }
            open = Vec::new();
            for (pending, recipes) in pending.iter().zip(explained(&pending, instructions)) {
                match recipes[..] {
                    [Candidate::Bf16(recipe)] => built.catalog.add_eager(shape, pending.size, recipe),
                    [Candidate::F32(recipe)] => built.catalog.add_math(shape, pending.size, recipe),
                    [_, _, ..] if run < RUNS => open.push((pending.size, Tried::These(recipes))),
                    _ => built.unexplained.push(format!(
                        "{} attention ({} of {dtype}) of {heads} heads of {dim} over {} keys{}",
                        phase.name(),
                        if scores { "scores" } else { "values" },
                        pending.size,
                        if recipes.is_empty() { "" } else { ": more than one recipe gives all outputs" },
                    )),
                }
            }
            if open.is_empty() {
                break;
            }
        }
    }
    Ok(())
}

/// First and last query of the first heads, as many as make a good number of outputs, and of the last.
fn outputs_of_scores(
    device: &Device,
    c: &Matrix,
    [heads, m, keys]: [usize; 3],
    hard_keys: &[Arc<[u32]>],
) -> Result<Vec<Outputs>, CudaError> {
    const ENOUGH: usize = 64;
    let first = (0..heads.min(ENOUGH.div_ceil(keys)).max(1)).chain([heads - 1]);
    let mut outputs = Vec::new();
    for head in first {
        for row in [0, m - 1] {
            for columns in ends(keys) {
                let at = (head * m + row) * keys + columns.start;
                let found = device.download(c, at, columns.len())?;
                let row_of = |key: usize| hard_keys[(head * keys + key) % hard_keys.len()].clone();
                outputs.push(Outputs { rows: columns.map(row_of).collect(), bias: Vec::new(), found });
            }
        }
    }
    Ok(outputs)
}

/// Fills the first and the last head's values with columns that are hard to sum, all different.
fn hard_values(
    device: &Device,
    b: &mut Matrix,
    dtype: Dtype,
    [heads, keys, dim]: [usize; 3],
    random: &mut Random,
) -> Result<Vec<Arc<[u32]>>, CudaError> {
    let columns = shared((0..dim).map(|_| hard(random, dtype, keys)));
    let mut head = vec![0_u32; keys * dim];
    for (column, values) in columns.iter().enumerate() {
        for (key, value) in values.iter().enumerate() {
            head[key * dim + column] = *value;
        }
    }
    device.overwrite(b, 0, &head)?;
    device.overwrite(b, (heads - 1) * keys * dim, &head)?;
    Ok(columns)
}

/// All columns of the first query of the first head, the first of its last query and of the last head.
fn outputs_of_values(
    device: &Device,
    c: &Matrix,
    [heads, m, dim]: [usize; 3],
    columns: &[Arc<[u32]>],
) -> Result<Vec<Outputs>, CudaError> {
    let mut outputs = Vec::new();
    for (head, row, count) in
        [(0, 0, dim), (0, m - 1, COLUMNS), (heads - 1, 0, COLUMNS), (heads - 1, m - 1, COLUMNS)]
    {
        let count = count.min(dim);
        let found = device.download(c, (head * m + row) * dim, count)?;
        for (rows, found) in columns[..count].chunks(COLUMNS).zip(found.chunks(COLUMNS)) {
            outputs.push(Outputs { rows: rows.to_vec(), bias: Vec::new(), found: found.to_vec() });
        }
    }
    Ok(outputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hard_rows_tell_recipes_apart() {
        let mut random = Random(1);
        for length in [64, 130, 576, 2080] {
            let rows: Vec<Vec<u32>> = (0..COLUMNS).map(|_| hard(&mut random, Dtype::Bf16, length)).collect();
            let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
            let all = candidates_of_batched(Dtype::Bf16, length);
            let outputs_of: Vec<Vec<u32>> = all
                .iter()
                .map(|recipe| {
                    let sums = sums(*recipe, &rows, Instructions::Portable);
                    sums.into_iter().map(|sum| Dtype::Bf16.round(sum).to_bits()).collect()
                })
                .collect();
            let chain = |width| {
                all.iter().position(
                    |r| matches!(r, Candidate::Bf16(BatchedSum::TensorCore { block, tile: None }) if block.width == width),
                )
            };
            let (wide, narrow) = (chain(16).expect("wide"), chain(8).expect("narrow"));
            assert_ne!(outputs_of[wide], outputs_of[narrow], "{length}");
            let threads =
                all.iter().position(|r| matches!(r, Candidate::Bf16(BatchedSum::Threads(sum)) if (sum.threads(), sum.vector().get()) == (4, 16)));
            assert_ne!(outputs_of[wide], outputs_of[threads.expect("threads")], "{length}");
            let outputs = Outputs {
                rows: rows.iter().map(|row| Arc::from(*row)).collect(),
                bias: Vec::new(),
                found: outputs_of[narrow].clone(),
            };
            let tried = Tried::These(all.clone());
            let pending = Pending { size: length, dtype: Dtype::Bf16, length, tried, outputs: vec![outputs] };
            let same: Vec<Candidate> = all
                .iter()
                .zip(&outputs_of)
                .filter(|(_, o)| **o == outputs_of[narrow])
                .map(|(r, _)| *r)
                .collect();
            let same = different(&same, Dtype::Bf16, length, Instructions::Portable);
            assert_eq!(pending.explain(Instructions::Portable), same, "{length}");
            assert_eq!(same, [all[narrow]], "{length}");
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
                let tried = Tried::Batched;
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
            Candidate::Bf16(BatchedSum::TensorCore { block: step, tile })
        };
        let of =
            |recipes: &[Candidate], length| different(recipes, Dtype::Bf16, length, Instructions::Portable);
        assert_eq!(of(&[tile(Some(32)), tile(Some(64))], 551), [tile(Some(32)), tile(Some(64))]);
        assert_eq!(of(&[tile(None), tile(Some(32)), tile(Some(128))], 512), [tile(None)]);
        let by = |threads, vector| {
            let sum = ThreadSum::new(threads, vector, false).expect("a sum");
            Candidate::Bf16(BatchedSum::Threads(sum))
        };
        assert_eq!(of(&[by(4, 16), by(8, 16), by(8, 8)], 40), [by(4, 16), by(8, 8)]);
    }
}
