//! Finds the recipe of every product that a model's passes run, by comparison with the product itself.
//!
//! One operand is all ones; the other holds pairs of large numbers that cancel, at random places, and small ones. What
//! is left of the small ones depends on the order of sums down to the last step, so a wrong recipe shows in most
//! outputs although they are rounded to 16 bits. A recipe is taken if it gives all the outputs compared, at both ends
//! of rows and columns: 32 different sums of a product with a weight, 64 of a batched one where it has as many. Where
//! two of the usual recipes of a batched product, or two of the rare ones if no usual one does, give all of them and
//! are not the same computation, it is run again with other numbers until one is left. A shape that none gives, or more
//! than one after all, is left out and reported.
//!
//! Of a weight, `dense` asks cuBLASLt's heuristic for the parts of the sum at many numbers of rows, which is not a
//! comparison and is kept apart.
//!
//! Of one of attention's products, `launched` asks cuBLAS which kernel it would launch, for every size: the call is
//! captured and does not run. Products of some sizes are compared with what the kernel's name says of its sums.
//!
//! `shapes` says what is measured, `ask` runs it on the device, `explain` looks for the recipes of what came out among
//! `candidates`, on numbers that are `hard` to sum.

use std::collections::{BTreeMap, BTreeSet};

use mantissa_engine::catalog::{Asked, Batched, Catalog, KernelSum, Linear, Origin};
use mantissa_numerics::Dtype;
use mantissa_numerics::tensor_core::dot::Instructions;

use crate::device::Device;
use crate::error::CudaError;

mod ask;
mod built;
mod candidates;
mod compare;
mod dense;
mod explain;
mod hard;
mod launched;
mod shapes;

pub use built::Built;
pub use compare::{Compared, Drawn, compare, draw};
pub use dense::{Answers, Density, ask};
pub use launched::kernel_of;
pub use shapes::Shapes;

use ask::{measure_batched, measure_linear};
use dense::ask_all;

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

/// Rows at random of each kind for which a product with a weight is compared, beside both sides of each step.
const RANDOM_ROWS: usize = 4;

/// Sizes at random for which one of attention's products is compared, beside the first of each kernel.
const RANDOM_SIZES: usize = 2;

/// The most elements of an operand of such a product.
const LARGEST_OPERAND: usize = 1 << 30;

/// The most elements of a matrix of a product that is compared because of a step or at random: 4 GiB.
const LARGEST_MATRIX: usize = 1 << 31;

/// How far a measurement is: done, and all.
///
/// Example: [`build`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Weights and products of attention for which the library was asked.
    pub asked: [usize; 2],
    /// Shapes whose products were compared; no number of them is known before all is asked.
    pub compared: [usize; 2],
}

/// Measures `shapes` on `device`, of which those that `known` covers are skipped: asks the heuristic for the steps of
/// every weight, then compares products at both sides of every step, at random sizes, and at those asked for.
/// `progress` is told what has been built, now and then.
///
/// *Errors:* of the device.
///
/// ```no_run
/// use mantissa_cuda::Device;
/// use mantissa_cuda::catalog::{Shapes, build};
/// use mantissa_model::{Arch, synth::SynthSpec};
/// use mantissa_numerics::Dtype;
///
/// let mut shapes = Shapes::default();
/// shapes.add_linear(SynthSpec::tiny(Arch::LLAMA, 0).config(), Dtype::Bf16, &[1, 4], &[512], &[513]);
/// let built = build(&Device::open()?, &shapes, None, "2026-11-28", |_, at| println!("{at:?}"))?;
/// assert!(built.catalog.len() + built.unexplained.len() >= shapes.len());
/// # Ok::<(), mantissa_cuda::CudaError>(())
/// ```
pub fn build(
    device: &Device,
    shapes: &Shapes,
    known: Option<&Catalog>,
    date: &str,
    mut progress: impl FnMut(&Built, Progress),
) -> Result<Built, CudaError> {
    let origin = Origin {
        gpu: device.name()?,
        multiprocessors: device.multiprocessors()?,
        active_clusters: device.active_clusters()?,
        cublas: device.cublas()?,
        driver: device.driver()?,
        date: date.to_owned(),
    };
    let available = Instructions::ALL.into_iter().rev().find(|i| i.is_available());
    let instructions = available.unwrap_or(Instructions::Portable);
    let mut built = Built {
        catalog: Catalog::new(origin),
        unexplained: Vec::new(),
        heuristic: [0, 0],
        surprises: 0,
        launched: [0, 0],
        misnamed: BTreeSet::new(),
    };
    // What was asked less densely is asked again.
    let density = Density::default();
    let dense = |asked: &Asked| asked.reach() + 256 >= density.blocks;
    let before = known.iter().flat_map(|known| known.all_asked()).filter(|(_, asked)| dense(asked));
    let before: BTreeMap<Linear, &Asked> = before.collect();
    let (here, weights): (Vec<Linear>, Vec<Linear>) =
        shapes.weights.iter().copied().partition(|weight| before.contains_key(weight));
    let mut compared = shapes.linear.clone();
    let mut compare = |weight, asked: &Asked| {
        let rows = dense::compared(weight, asked, RANDOM_ROWS, LARGEST_MATRIX);
        compared.extend(rows.into_iter().map(|rows| (weight, rows)));
    };
    for weight in &here {
        compare(*weight, before[weight]);
    }
    let mut asked = here.len();
    let all_asked = shapes.weights.len() + shapes.attention.len();
    ask_all(&device.place(), &weights, density, |weight, found| {
        match found {
            Ok(found) => {
                compare(weight, &found.asked);
                built.surprises += found.surprises;
                built.catalog.add_asked(weight, found.asked);
            }
            Err(error) => built.unexplained.push(format!("products with {weight}: {error}")),
        }
        asked += 1;
        progress(&built, Progress { asked: [asked, all_asked], compared: [0, 0] });
    })?;
    // For a batch of one product PyTorch calls another function.
    let several = shapes.attention.iter().copied().filter(|(_, shape)| shape.heads > 1);
    let (here, attention): (Vec<_>, Vec<_>) = several.partition(|(dtype, shape)| {
        known.is_some_and(|known| known.launched(*dtype, *shape, launched::largest(*shape)).is_some())
    });
    asked += here.len();
    let mut unknown = BTreeMap::new();
    launched::ask_all(&device.place(), &attention, |(dtype, shape), answer| {
        for (name, keys) in answer.unknown {
            unknown.entry(name).or_insert_with(|| at_size((dtype, shape), keys));
        }
        built.catalog.add_launched(dtype, shape, answer.launched);
        asked += 1;
        progress(&built, Progress { asked: [asked, all_asked], compared: [0, 0] });
    })?;
    let words = unknown.into_iter().map(|(name, first)| format!("{first}: the sums of {name} are not known"));
    built.unexplained.extend(words);
    let mut batched = shapes.batched.clone();
    for (dtype, shape) in shapes.attention.iter().copied() {
        let before = known.and_then(|known| known.launches(dtype, shape));
        let Some(launched) = built.catalog.launches(dtype, shape).or(before) else { continue };
        let sizes = launched::compared((dtype, shape), launched, RANDOM_SIZES, LARGEST_OPERAND);
        batched.extend(sizes.into_iter().map(|keys| ((dtype, shape), keys)));
    }
    let linear = grouped(&compared, |shape, rows| known.is_some_and(|k| k.linear(shape, rows).is_some()));
    let attention = grouped(&batched, |shape, keys| known.is_some_and(|k| covers(k, shape, keys)));
    let left =
        linear.iter().map(|(_, s)| s.len()).chain(attention.iter().map(|(_, s)| s.len())).sum::<usize>();
    let all = compared.len() + batched.len();
    let mut done = all - left;
    let at = |done| Progress { asked: [asked, asked], compared: [done, all] };
    for (shape, rows) in linear {
        measure_linear(device, shape, &rows, instructions, &mut built)?;
        done += rows.len();
        progress(&built, at(done));
    }
    for ((dtype, shape), keys) in attention {
        compare_attention(device, (dtype, shape), &keys, known, instructions, &mut built)?;
        done += keys.len();
        progress(&built, at(done));
    }
    Ok(built)
}

/// Compares products of attention with the sums of the kernels that the library launches. Where no kernel is known, a
/// recipe is looked for; where one has other sums, what was said for these heads is forgotten.
fn compare_attention(
    device: &Device,
    (dtype, shape): (Dtype, Batched),
    keys: &[usize],
    known: Option<&Catalog>,
    instructions: Instructions,
    built: &mut Built,
) -> Result<(), CudaError> {
    let mut left = Vec::new();
    for keys in keys.iter().copied() {
        let before = known.and_then(|known| known.launched(dtype, shape, keys));
        let kernel = built.catalog.launched(dtype, shape, keys).or(before);
        let length = if shape.product.is_scores() { shape.dim } else { keys };
        let Some(kernel) = kernel.filter(|kernel| *kernel != KernelSum::Unknown) else {
            left.push(keys);
            continue;
        };
        built.launched[1] += 1;
        if !launched::agrees(device, dtype, shape, keys, kernel, instructions)? {
            let at = at_size((dtype, shape), keys);
            built.unexplained.push(format!("{at}: the sums are not those of {kernel:?}, which was launched"));
            built.catalog.forget_launched(dtype, shape);
            built.misnamed.insert((dtype, shape));
            left.push(keys);
            continue;
        }
        built.launched[0] += 1;
        match dtype {
            Dtype::F32 => {
                if let Some(recipe) = kernel.plain(length) {
                    built.catalog.add_math(shape, keys, recipe);
                }
            }
            Dtype::Bf16 | Dtype::F16 => {
                if let Some(recipe) = kernel.batched(dtype, length) {
                    built.catalog.add_eager(dtype, shape, keys, recipe);
                }
            }
        }
    }
    if left.is_empty() { Ok(()) } else { measure_batched(device, (dtype, shape), &left, instructions, built) }
}

/// A product of attention over so many keys, in words.
fn at_size((dtype, shape): (Dtype, Batched), keys: usize) -> String {
    let Batched { product, phase, heads, dim } = shape;
    let (phase, product) = (phase.name(), product.name());
    format!("{phase} attention ({product} of {dtype}) of {heads} heads of {dim} over {keys} keys")
}

/// Whether a catalog has a batched product.
fn covers(known: &Catalog, (dtype, shape): (Dtype, Batched), keys: usize) -> bool {
    if dtype == Dtype::F32 {
        known.math(shape, keys).is_some()
    } else {
        known.eager(dtype, shape, keys).is_some()
    }
}
