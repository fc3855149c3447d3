//! Catalogs: which recipe a GPU's library picks for a product, where that was measured. What is not here is refused,
//! never guessed.
//!
//! A catalog is a JSON file, `catalogs/<gpu>-<library>.json`, written by `mantissa catalog build` on a machine that has
//! the GPU: every entry was compared there with the library's own product, bit for bit. Those in the repository are
//! part of the program; [`crate::Catalogs`] holds them and those of files, by hardware and library version.
//! Left out: what asks for a recipe (`dispatch`).

use std::collections::HashMap;
use std::hash::Hash;

use mantissa_numerics::Dtype;
use mantissa_numerics::recipe::{BatchedSum, PlainSum, TensorCoreSum};

mod error;
mod file;
mod origin;
mod shape;
mod sizes;
mod steps;

pub use error::CatalogError;
pub use origin::{Origin, Stack};
pub use shape::{Batched, Linear, Product, products};
pub use sizes::parse_sizes;
pub(crate) use steps::{block, uncut};

/// What stands first in a catalog's `format`.
pub const FORMAT: &str = "mantissa-catalog/1";

/// Recipes by shape.
///
/// ```
/// use mantissa_engine::catalog::{Batched, Catalog, Linear, Origin, Product};
/// use mantissa_numerics::Phase;
/// use mantissa_numerics::recipe::TensorCoreSum;
/// use mantissa_numerics::tensor_core::{Architecture, Operand};
///
/// let mut catalog = Catalog::new(Origin {
///     gpu: "NVIDIA H200".to_owned(),
///     multiprocessors: 132,
///     cublas: "13.1.0".to_owned(),
///     driver: "13.0".to_owned(),
///     date: "2026-11-28".to_owned(),
/// });
/// let (shape, block) = (Linear { n: 128, k: 64, bias: false }, Architecture::Hopper.block(Operand::Bf16));
/// let recipe = TensorCoreSum::uncut(block.expect("a step of bf16"));
/// catalog.add_linear(shape, 512, recipe);
/// assert_eq!(catalog.linear(shape, 512), Some(recipe));
/// let scores = Batched { product: Product::Scores, phase: Phase::Decode, heads: 9, dim: 64 };
/// assert_eq!(catalog.eager(scores, 100), None);
/// assert_eq!(Catalog::parse(&catalog.write())?, catalog);
/// # Ok::<(), mantissa_engine::catalog::CatalogError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Catalog {
    /// Where it comes from.
    pub origin: Origin,
    linear: HashMap<Linear, Sizes<TensorCoreSum>>,
    /// Products of bf16, in eager attention.
    eager: HashMap<Batched, Sizes<BatchedSum>>,
    /// Products of binary32, in PyTorch's math backend.
    math: HashMap<Batched, Sizes<PlainSum>>,
}

/// Recipes by size: rows of a linear product, keys of a batched one.
type Sizes<T> = HashMap<usize, T>;

impl Catalog {
    /// An empty one.
    #[must_use]
    pub fn new(origin: Origin) -> Self {
        Self { origin, linear: HashMap::new(), eager: HashMap::new(), math: HashMap::new() }
    }

    /// Notes that products of `rows` rows with such a weight go by `recipe`.
    pub fn add_linear(&mut self, shape: Linear, rows: usize, recipe: TensorCoreSum) {
        self.linear.entry(shape).or_default().insert(rows, recipe);
    }

    /// Notes that such products of bf16 over `keys` keys go by `recipe`.
    pub fn add_eager(&mut self, shape: Batched, keys: usize, recipe: BatchedSum) {
        self.eager.entry(shape).or_default().insert(keys, recipe);
    }

    /// Notes that such products of binary32 over `keys` keys go by `recipe`.
    pub fn add_math(&mut self, shape: Batched, keys: usize, recipe: PlainSum) {
        self.math.entry(shape).or_default().insert(keys, recipe);
    }

    /// The recipe for `rows` rows.
    #[must_use]
    pub fn linear(&self, shape: Linear, rows: usize) -> Option<TensorCoreSum> {
        self.linear.get(&shape)?.get(&rows).copied()
    }

    /// The recipe of bf16 for `keys` keys.
    #[must_use]
    pub fn eager(&self, shape: Batched, keys: usize) -> Option<BatchedSum> {
        self.eager.get(&shape)?.get(&keys).copied()
    }

    /// The recipe of binary32 for `keys` keys.
    #[must_use]
    pub fn math(&self, shape: Batched, keys: usize) -> Option<PlainSum> {
        self.math.get(&shape)?.get(&keys).copied()
    }

    /// Number of shapes with a recipe.
    #[must_use]
    pub fn len(&self) -> usize {
        let [linear, eager, math] = [sizes_of(&self.linear), sizes_of(&self.eager), sizes_of(&self.math)];
        linear + eager + math
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds what `other` knows; where both know a shape, `other` is right.
    pub fn merge(&mut self, other: &Self) {
        extend(&mut self.linear, &other.linear);
        extend(&mut self.eager, &other.eager);
        extend(&mut self.math, &other.math);
    }

    /// The first shape for which both have a recipe and not the same.
    pub(crate) fn contradiction(&self, other: &Self) -> Option<String> {
        let linear = first_other(&self.linear, &other.linear).map(|(shape, rows)| {
            let bias = if shape.bias { " and a bias" } else { "" };
            format!("a product of {rows} × {} with {} × {}{bias}", shape.k, shape.n, shape.k)
        });
        let batched = |(shape, keys): (Batched, usize), dtype: Dtype| {
            let Batched { product, phase, heads, dim } = shape;
            let product = match product {
                Product::Scores => "scores",
                Product::Values => "values",
            };
            let phase = phase.name();
            format!("{phase} attention ({product}, {dtype}) of {heads} heads of {dim} over {keys} keys")
        };
        linear
            .or_else(|| first_other(&self.eager, &other.eager).map(|found| batched(found, Dtype::Bf16)))
            .or_else(|| first_other(&self.math, &other.math).map(|found| batched(found, Dtype::F32)))
    }
}

/// The smallest shape and size for which both have a recipe and not the same.
fn first_other<S: Copy + Ord + Hash, R: PartialEq>(
    ours: &HashMap<S, Sizes<R>>,
    theirs: &HashMap<S, Sizes<R>>,
) -> Option<(S, usize)> {
    let both = theirs.iter().filter_map(|(shape, sizes)| Some((*shape, sizes, ours.get(shape)?)));
    let differing = both.flat_map(|(shape, theirs, ours)| {
        let other = move |(size, recipe): (&usize, &R)| {
            ours.get(size).is_some_and(|known| known != recipe).then_some((shape, *size))
        };
        theirs.iter().filter_map(other)
    });
    differing.min()
}

fn sizes_of<S, T>(shapes: &HashMap<S, Sizes<T>>) -> usize {
    shapes.values().map(HashMap::len).sum()
}

fn extend<S: Copy + Eq + Hash, T: Copy>(to: &mut HashMap<S, Sizes<T>>, from: &HashMap<S, Sizes<T>>) {
    for (shape, sizes) in from {
        to.entry(*shape).or_default().extend(sizes);
    }
}
