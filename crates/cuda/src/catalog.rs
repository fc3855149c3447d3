//! Finds the recipe of every product that a model's passes run, by comparison with the product itself.
//!
//! One operand is all ones; the other holds pairs of large numbers that cancel, at random places, and small ones. What
//! is left of the small ones depends on the order of sums down to the last step, so a wrong recipe shows in most outputs
//! although they are rounded to 16 bits. A recipe is taken if it gives all the outputs compared, at both ends of rows and
//! columns: 32 different sums of a product with a weight, 64 of a batched one where it has as many. Where two of the
//! usual recipes of a batched product, or two of the rare ones if no usual one does, give all of them and are not the
//! same computation, it is run again with other numbers until one is left. A shape that none gives, or more than one
//! after all, is left out and reported.
//!
//! Of a weight, `dense` asks cuBLASLt's heuristic for the parts of the sum at many numbers of rows, which is not a
//! comparison and is kept apart.
//!
//! `shapes` says what is measured, `ask` runs it on the device, `explain` looks for the recipes of what came out among
//! `candidates`, on numbers that are `hard` to sum.

use std::collections::{BTreeMap, BTreeSet};

use mantissa_engine::catalog::{Asked, Batched, Catalog, Linear, Origin};
use mantissa_numerics::Dtype;
use mantissa_numerics::tensor_core::dot::Instructions;

use crate::device::Device;
use crate::error::CudaError;

mod ask;
mod built;
mod candidates;
mod dense;
mod explain;
mod hard;
mod shapes;

pub use built::Built;
pub use dense::{Answers, Density, ask};
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

/// The most elements of a matrix of a product that is compared because of a step or at random: 4 GiB.
const LARGEST_MATRIX: usize = 1 << 31;

/// How far a measurement is: done, and all.
///
/// Example: [`build`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Weights for which the heuristic was asked.
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
        cublas: device.cublas()?,
        driver: device.driver()?,
        date: date.to_owned(),
    };
    let available = Instructions::ALL.into_iter().rev().find(|i| i.is_available());
    let instructions = available.unwrap_or(Instructions::Portable);
    let mut built =
        Built { catalog: Catalog::new(origin), unexplained: Vec::new(), heuristic: [0, 0], surprises: 0 };
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
        progress(&built, Progress { asked: [asked, shapes.weights.len()], compared: [0, 0] });
    })?;
    let linear = grouped(&compared, |shape, rows| known.is_some_and(|k| k.linear(shape, rows).is_some()));
    let batched = grouped(&shapes.batched, |shape, keys| known.is_some_and(|k| covers(k, shape, keys)));
    let left = linear.iter().map(|(_, s)| s.len()).chain(batched.iter().map(|(_, s)| s.len())).sum::<usize>();
    let all = compared.len() + shapes.batched.len();
    let mut done = all - left;
    let at = |done| Progress { asked: [asked, asked], compared: [done, all] };
    for (shape, rows) in linear {
        measure_linear(device, shape, &rows, instructions, &mut built)?;
        done += rows.len();
        progress(&built, at(done));
    }
    for (shape, keys) in batched {
        measure_batched(device, shape, &keys, instructions, &mut built)?;
        done += keys.len();
        progress(&built, at(done));
    }
    Ok(built)
}

/// Whether a catalog has a batched product.
fn covers(known: &Catalog, (dtype, shape): (Dtype, Batched), keys: usize) -> bool {
    if dtype == Dtype::F32 {
        known.math(shape, keys).is_some()
    } else {
        known.eager(dtype, shape, keys).is_some()
    }
}
