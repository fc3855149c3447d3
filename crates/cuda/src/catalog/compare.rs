//! Compares what catalogs state with this machine's GPU, at random shapes: bit for bit where a recipe was compared, and
//! by the library's own answer where it was only asked.
//!
//! Left out: single recipes of attention's products. What is launched for them is compared, at any size.

use std::collections::BTreeMap;

use mantissa_engine::Basis;
use mantissa_engine::catalog::{Batched, KernelSum, Linear};
use mantissa_engine::catalogs::{Entry, TargetCatalogs};
use mantissa_numerics::Dtype;
use mantissa_numerics::recipe::TensorCoreSum;
use mantissa_numerics::tensor_core::dot::Instructions;

use super::ask::run_linear;
use super::candidates::Candidate;
use super::explain::{CandidateSet, Pending, explained};
use super::hard::Random;
use super::launched::kernel_of;
use super::shapes::sizes_of;
use crate::device::{Device, Heuristic, Launches, Layout};
use crate::error::CudaError;

/// The most elements of a matrix that rows make, of a product that is run.
const LARGEST_MATRIX: usize = 1 << 27;

/// Shapes that are run before they are explained.
const AT_A_TIME: usize = 128;

/// A shape and what catalogs state of it.
///
/// Example: [`draw`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drawn {
    /// A product of so many rows with a weight, of a recipe that was compared.
    Product(Linear, usize, TensorCoreSum),
    /// One of which the heuristic was asked for its parts.
    Parts(Linear, usize, TensorCoreSum),
    /// A product of attention over so many keys, and the kernel that the library launches.
    Launch(Dtype, Batched, usize, KernelSum),
}

/// What came of a comparison.
///
/// Example: [`compare`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Compared {
    /// Products that had every bit of their recipe, and all that were run.
    pub products: [usize; 2],
    /// Products for which the heuristic names the parts that are stated, and all that it was asked for.
    pub parts: [usize; 2],
    /// Products of attention for which the kernel that is stated is launched, and all that were asked.
    pub launches: [usize; 2],
    /// Those that were not as stated, in words.
    pub different: Vec<String>,
}

impl Compared {
    /// Shapes that were compared.
    #[must_use]
    pub const fn all(&self) -> usize {
        self.products[1] + self.parts[1] + self.launches[1]
    }
}

/// `count` shapes by lot: in turn a product that was compared, one with a weight of any number of rows, and one of
/// attention over any number of keys; the numbers evenly on a logarithmic scale. Fewer where catalogs have none of a
/// kind.
///
/// ```
/// use mantissa_cuda::catalog::{Drawn, draw};
/// use mantissa_engine::{Catalogs, Hardware};
///
/// let catalogs = Catalogs::default();
/// let known = catalogs.of(Hardware::H200).expect("built-in catalogs");
/// let drawn = draw(known, 300, 1);
/// assert!(drawn.len() > 250 && drawn != draw(known, 300, 2));
/// assert!(drawn.iter().any(|one| matches!(one, Drawn::Product(..))));
/// ```
#[must_use]
pub fn draw(known: &TargetCatalogs, count: usize, seed: u64) -> Vec<Drawn> {
    let compared: Vec<(Linear, usize)> = known
        .catalogs()
        .flat_map(|catalog| catalog.all_linear().map(|(shape, rows, _)| (shape, rows)))
        .filter(|(shape, rows)| rows * shape.n.max(shape.k) <= LARGEST_MATRIX)
        .collect();
    let weights: Vec<(Linear, usize)> = known
        .catalogs()
        .flat_map(|catalog| catalog.all_asked().map(|(shape, asked)| (shape, asked.reach())))
        .collect();
    let launched: Vec<_> =
        known.catalogs().flat_map(mantissa_engine::catalog::Catalog::all_launched).collect();
    let mut random = Random(seed);
    let one = |number: usize, random: &mut Random| -> Option<Drawn> {
        let stated = |shape, rows| {
            let Entry { recipe, source } = known.linear(shape, rows)?;
            let fits = rows * shape.n.max(shape.k) <= LARGEST_MATRIX;
            let compared = source.basis() != Basis::Asked;
            (fits || !compared).then_some(if compared {
                Drawn::Product(shape, rows, recipe)
            } else {
                Drawn::Parts(shape, rows, recipe)
            })
        };
        match number % 3 {
            0 => {
                let (shape, rows) = *compared.get(random.below(compared.len()))?;
                stated(shape, rows)
            }
            1 => {
                let (shape, reach) = *weights.get(random.below(weights.len()))?;
                stated(shape, logarithmic(random, reach))
            }
            _ => {
                let (dtype, shape, launched) = *launched.get(random.below(launched.len()))?;
                let keys = logarithmic(random, launched.largest());
                Some(Drawn::Launch(dtype, shape, keys, launched.kernel(keys)?))
            }
        }
    };
    (0..count).filter_map(|number| one(number, &mut random)).collect()
}

/// A number of 1 to `most`, evenly on a logarithmic scale.
fn logarithmic(random: &mut Random, most: usize) -> usize {
    let first = 1 << random.below(most.max(1).ilog2() as usize + 1);
    (first + random.below(first)).min(most)
}

/// Compares shapes with `device`. `progress` is told how many are done, now and then.
///
/// *Errors:* of the device.
///
/// ```no_run
/// use mantissa_cuda::Device;
/// use mantissa_cuda::catalog::{compare, draw};
/// use mantissa_engine::{Catalogs, Hardware};
///
/// let catalogs = Catalogs::default();
/// let known = catalogs.of(Hardware::H200).expect("built-in catalogs");
/// let found = compare(&Device::open()?, &draw(known, 1000, 1), |done| println!("{done}"))?;
/// assert_eq!(found.different, [""; 0]);
/// # Ok::<(), mantissa_cuda::CudaError>(())
/// ```
pub fn compare(
    device: &Device,
    drawn: &[Drawn],
    mut progress: impl FnMut(usize),
) -> Result<Compared, CudaError> {
    let place = device.place();
    let (heuristic, instructions) = (Heuristic::new(&place)?, Instructions::best());
    let mut found = Compared::default();
    let mut products: BTreeMap<Linear, BTreeMap<usize, TensorCoreSum>> = BTreeMap::new();
    for one in drawn {
        match *one {
            Drawn::Product(shape, rows, recipe) => {
                products.entry(shape).or_default().insert(rows, recipe);
            }
            Drawn::Parts(shape, rows, recipe) => {
                let Linear { n, k, bias, dtype } = shape;
                let answer = heuristic.parts(dtype, [rows, n, k], bias)?;
                found.parts[1] += 1;
                if answer == recipe.parts {
                    found.parts[0] += 1;
                } else {
                    let said = format!("{} parts, and the heuristic names {answer}", recipe.parts);
                    found.different.push(format!("a product of {rows} × {k} with {shape}: {said}"));
                }
            }
            Drawn::Launch(..) => {}
        }
        progress(found.all());
    }
    let mut waiting: Vec<(Linear, Pending)> = Vec::new();
    for (shape, rows) in &products {
        let sizes: Vec<usize> = rows.keys().copied().collect();
        let tried = |m: usize, _| CandidateSet::These(vec![Candidate::Linear(rows[&m])]);
        let ran = run_linear(device, *shape, &sizes, tried)?;
        waiting.extend(ran.into_iter().map(|(_, pending)| (*shape, pending)));
        if waiting.len() >= AT_A_TIME {
            settle(std::mem::take(&mut waiting), instructions, &mut found);
            progress(found.all());
        }
    }
    settle(waiting, instructions, &mut found);
    // After all else: what runs on the device ends a capture.
    let launches = Launches::new(&place)?;
    for one in drawn {
        let Drawn::Launch(dtype, shape, keys, kernel) = *one else { continue };
        let launched =
            launches.of_batched(dtype, shape.heads, sizes_of(shape, keys), Layout::of(shape.product))?;
        found.launches[1] += 1;
        if kernel_of(&launched).unwrap_or(KernelSum::Unknown) == kernel {
            found.launches[0] += 1;
        } else {
            let names: Vec<&str> = launched.iter().map(|launch| launch.name.as_str()).collect();
            let at = super::at_size((dtype, shape), keys);
            found.different.push(format!("{at}: {kernel:?} is stated, and {} launched", names.join(" + ")));
        }
        progress(found.all());
    }
    Ok(found)
}

fn settle(waiting: Vec<(Linear, Pending)>, instructions: Instructions, found: &mut Compared) {
    let (shapes, pending): (Vec<Linear>, Vec<Pending>) = waiting.into_iter().unzip();
    for ((shape, pending), recipes) in shapes.iter().zip(&pending).zip(explained(&pending, instructions)) {
        found.products[1] += 1;
        if recipes.is_empty() {
            let rows = pending.size;
            found.different.push(format!("a product of {rows} × {} with {shape}: other bits", shape.k));
        } else {
            found.products[0] += 1;
        }
    }
}
