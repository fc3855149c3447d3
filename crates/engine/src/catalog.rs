//! Catalogs: which recipe a GPU's library picks for a product, where that was measured. What is not here is refused,
//! never guessed.
//!
//! A catalog is a JSON file, `catalogs/<gpu>-<library>.json`, written by `mantissa catalog build` on a machine that has
//! the GPU. A recipe is there for each size that was compared with the library's own product, bit for bit. Beside it
//! stand the parts that the library's heuristic names for a weight by any number of rows ([`Asked`]): asked, and not
//! compared at that size. Catalogs in the repository are part of the program; [`crate::Catalogs`] holds them and those
//! of files, by hardware and library version.
//! Left out: what asks for a recipe (`dispatch`).

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::num::NonZeroU16;

use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::products::split_k;
use mantissa_numerics::recipe::{BatchedSum, PlainSum, TensorCoreSum};
use mantissa_numerics::tensor_core::Architecture;

mod asked;
mod error;
mod file;
mod format;
mod launched;
mod origin;
mod shape;
mod sizes;
mod steps;

pub use asked::{ALIGNED, Asked, MOST_PARTS, Steps};
pub use error::CatalogError;
pub use format::FORMAT;
pub use launched::{KernelSum, LONGEST_LAUNCHED, Launched, RESTS};
pub use origin::{Origin, Stack};
pub use shape::{Batched, Linear, Product, products};
pub use sizes::parse_sizes;
pub(crate) use steps::{block, uncut};

/// Recipes by shape.
///
/// ```
/// use mantissa_engine::catalog::{Asked, Batched, Catalog, Linear, Origin, Product, Steps};
/// use mantissa_numerics::{Dtype, Phase};
/// use mantissa_numerics::recipe::TensorCoreSum;
/// use mantissa_numerics::tensor_core::{Architecture, Operand};
///
/// let mut catalog = Catalog::new(Origin {
///     gpu: "NVIDIA H200".to_owned(),
///     multiprocessors: 132,
///     active_clusters: vec![132, 66, 39, 30, 22, 17, 15, 15, 9, 7, 7, 7, 7, 7, 7, 7],
///     cublas: "13.1.0".to_owned(),
///     driver: "13.0".to_owned(),
///     date: "2026-11-28".to_owned(),
/// });
/// let shape = Linear { n: 128, k: 64, bias: false, dtype: Dtype::Bf16 };
/// let block = Architecture::Hopper.block(Operand::Bf16);
/// let recipe = TensorCoreSum::uncut(block.expect("a step of bf16"));
/// catalog.add_linear(shape, 512, recipe);
/// assert_eq!(catalog.linear(shape, 512), Some(recipe));
/// let steps = Steps::new("1-1024", &[(1, 2), (65, 1)])?;
/// catalog.add_asked(shape, Asked::new(steps, Steps::new("8-1024/8", &[(8, 1)])?)?);
/// assert_eq!(catalog.asked(shape, 9).map(|sum| sum.parts.get()), Some(2));
/// let scores = Batched { product: Product::Scores, phase: Phase::Decode, heads: 9, dim: 64 };
/// assert_eq!(catalog.eager(Dtype::Bf16, scores, 100), None);
/// assert_eq!(Catalog::parse(&catalog.write())?, catalog);
/// # Ok::<(), mantissa_engine::catalog::CatalogError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Catalog {
    /// Where it comes from.
    pub origin: Origin,
    linear: HashMap<Linear, Sizes<TensorCoreSum>>,
    /// What the library's heuristic names for products with weights.
    asked: HashMap<Linear, Asked>,
    /// Products of 16 bits, in eager attention.
    eager: HashMap<(Dtype, Batched), Sizes<BatchedSum>>,
    /// Products of binary32, in PyTorch's math backend.
    math: HashMap<Batched, Sizes<PlainSum>>,
    /// What the library launches for attention's products, by format of the factors.
    launched: HashMap<(Dtype, Batched), Launched>,
}

/// Recipes by size: rows of a linear product, keys of a batched one.
type Sizes<T> = HashMap<usize, T>;

impl Catalog {
    /// An empty one.
    #[must_use]
    pub fn new(origin: Origin) -> Self {
        Self {
            origin,
            linear: HashMap::new(),
            asked: HashMap::new(),
            eager: HashMap::new(),
            math: HashMap::new(),
            launched: HashMap::new(),
        }
    }

    /// Notes that products of `rows` rows with such a weight go by `recipe`.
    pub fn add_linear(&mut self, shape: Linear, rows: usize, recipe: TensorCoreSum) {
        self.linear.entry(shape).or_default().insert(rows, recipe);
    }

    /// Notes what the heuristic names for products with such a weight, in place of what was noted before.
    pub fn add_asked(&mut self, shape: Linear, asked: Asked) {
        self.asked.insert(shape, asked);
    }

    /// Forgets what the heuristic names for weights of which a product that was compared had another sum; which they
    /// are, each with the least rows of such a product.
    pub fn forget_misnamed(&mut self) -> Vec<(Linear, usize)> {
        let mut misnamed: Vec<(Linear, usize)> =
            self.linear.keys().filter_map(|shape| Some((*shape, self.misnamed(*shape)?))).collect();
        misnamed.sort_unstable();
        for (shape, _) in &misnamed {
            self.asked.remove(shape);
        }
        misnamed
    }

    /// Notes that such products of bf16 or f16 over `keys` keys go by `recipe`.
    pub fn add_eager(&mut self, dtype: Dtype, shape: Batched, keys: usize, recipe: BatchedSum) {
        self.eager.entry((dtype, shape)).or_default().insert(keys, recipe);
    }

    /// Notes that such products of binary32 over `keys` keys go by `recipe`.
    pub fn add_math(&mut self, shape: Batched, keys: usize, recipe: PlainSum) {
        self.math.entry(shape).or_default().insert(keys, recipe);
    }

    /// The recipe for `rows` rows, compared with the product.
    #[must_use]
    pub fn linear(&self, shape: Linear, rows: usize) -> Option<TensorCoreSum> {
        self.linear.get(&shape)?.get(&rows).copied()
    }

    /// The recipe for `rows` rows by the parts that the library's heuristic names; compared with nothing.
    #[must_use]
    pub fn asked(&self, shape: Linear, rows: usize) -> Option<TensorCoreSum> {
        let parts = self.asked.get(&shape)?.parts(rows)?;
        Some(TensorCoreSum { block: steps::block_on(Architecture::Hopper, shape.dtype)?, parts })
    }

    /// Weights for whose products the heuristic was asked, with what it names, in order.
    pub fn all_asked(&self) -> impl Iterator<Item = (Linear, &Asked)> {
        self.asked.iter().map(|(shape, asked)| (*shape, asked)).collect::<BTreeMap<_, _>>().into_iter()
    }

    /// The recipe of bf16 or f16 for `keys` keys.
    #[must_use]
    pub fn eager(&self, dtype: Dtype, shape: Batched, keys: usize) -> Option<BatchedSum> {
        self.eager.get(&(dtype, shape))?.get(&keys).copied()
    }

    /// The recipe of binary32 for `keys` keys.
    #[must_use]
    pub fn math(&self, shape: Batched, keys: usize) -> Option<PlainSum> {
        self.math.get(&shape)?.get(&keys).copied()
    }

    /// Notes what the library launches for such products of `dtype`, in place of what was noted before.
    pub fn add_launched(&mut self, dtype: Dtype, shape: Batched, launched: Launched) {
        self.launched.insert((dtype, shape), launched);
    }

    /// Forgets what the library launches for such products: a product had another sum.
    pub fn forget_launched(&mut self, dtype: Dtype, shape: Batched) {
        self.launched.remove(&(dtype, shape));
    }

    /// The kernel that the library launches for such products of `dtype` over `keys` keys, as it said.
    #[must_use]
    pub fn launched(&self, dtype: Dtype, shape: Batched, keys: usize) -> Option<KernelSum> {
        self.launches(dtype, shape)?.kernel(keys)
    }

    /// What the library launches for such products of `dtype`, as it said.
    #[must_use]
    pub fn launches(&self, dtype: Dtype, shape: Batched) -> Option<&Launched> {
        self.launched.get(&(dtype, shape))
    }

    /// Products of attention for which the library was asked what it launches, in order.
    pub fn all_launched(&self) -> impl Iterator<Item = (Dtype, Batched, &Launched)> {
        let all: BTreeMap<_, _> = self.launched.iter().collect();
        all.into_iter().map(|((dtype, shape), launched)| (*dtype, *shape, launched))
    }

    /// Products with weights that were compared: the weight, the rows and the recipe.
    pub fn all_linear(&self) -> impl Iterator<Item = (Linear, usize, TensorCoreSum)> {
        let of = |(shape, sizes): (&Linear, &Sizes<TensorCoreSum>)| {
            let shape = *shape;
            sizes.iter().map(|(rows, recipe)| (shape, *rows, *recipe)).collect::<Vec<_>>()
        };
        self.linear.iter().flat_map(of)
    }

    /// Eager attention's products that were compared: format, shape, keys and the recipe.
    pub fn all_eager(&self) -> impl Iterator<Item = (Dtype, Batched, usize, BatchedSum)> {
        let of = |((dtype, shape), sizes): (&(Dtype, Batched), &Sizes<BatchedSum>)| {
            let (dtype, shape) = (*dtype, *shape);
            sizes.iter().map(|(keys, recipe)| (dtype, shape, *keys, *recipe)).collect::<Vec<_>>()
        };
        self.eager.iter().flat_map(of)
    }

    /// The math backend's products that were compared: shape, keys and the recipe.
    pub fn all_math(&self) -> impl Iterator<Item = (Batched, usize, PlainSum)> {
        let of = |(shape, sizes): (&Batched, &Sizes<PlainSum>)| {
            let shape = *shape;
            sizes.iter().map(|(keys, recipe)| (shape, *keys, *recipe)).collect::<Vec<_>>()
        };
        self.math.iter().flat_map(of)
    }

    /// Number of shapes with a recipe that was compared.
    #[must_use]
    pub fn len(&self) -> usize {
        let [linear, eager, math] = [sizes_of(&self.linear), sizes_of(&self.eager), sizes_of(&self.math)];
        linear + eager + math
    }

    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.asked.is_empty() && self.launched.is_empty()
    }

    /// Adds what `other` knows. Where both compared a shape, `other` is right; where both asked for a weight, the one
    /// that asked for more rows.
    pub fn merge(&mut self, other: &Self) {
        extend(&mut self.linear, &other.linear);
        for (shape, asked) in &other.asked {
            if self.asked.get(shape).is_none_or(|known| known.reach() < asked.reach()) {
                self.asked.insert(*shape, asked.clone());
            }
        }
        extend(&mut self.eager, &other.eager);
        extend(&mut self.math, &other.math);
        for (shape, launched) in &other.launched {
            if self.launched.get(shape).is_none_or(|known| known.largest() < launched.largest()) {
                self.launched.insert(*shape, launched.clone());
            }
        }
    }

    /// The least rows with a weight for which the heuristic names a sum that the product itself did not have.
    fn misnamed(&self, shape: Linear) -> Option<usize> {
        let (asked, sizes) = (self.asked.get(&shape)?, self.linear.get(&shape)?);
        let block = steps::block_on(Architecture::Hopper, shape.dtype)?;
        let other = |rows: usize, found: TensorCoreSum| {
            let named = asked.parts(rows)?;
            let same = block == found.block && same_parts(shape.k, named, found.parts);
            (!same).then_some(rows)
        };
        sizes.iter().filter_map(|(rows, found)| other(*rows, *found)).min()
    }

    /// The first shape for which both compared products, or both asked a heuristic, and not with the same result. What
    /// was compared goes before what another was only told.
    pub(crate) fn contradiction(&self, other: &Self) -> Option<String> {
        let product =
            |(shape, rows): (Linear, usize)| format!("a product of {rows} × {} with {shape}", shape.k);
        let both_asked =
            other.asked.iter().filter_map(|(shape, asked)| Some((*shape, self.asked.get(shape)?, asked)));
        let other_asked = both_asked.filter_map(|(shape, ours, theirs)| {
            Some((shape, ours.contradiction(theirs, |a, b| same_parts(shape.k, a, b))?))
        });
        let linear = first_other(&self.linear, &other.linear).or_else(|| other_asked.min()).map(product);
        let batched = |(dtype, shape): (Dtype, Batched), keys: usize| {
            let Batched { product, phase, heads, dim } = shape;
            let (product, phase) = (product.name(), phase.name());
            format!("{phase} attention ({product}, {dtype}) of {heads} heads of {dim} over {keys} keys")
        };
        linear
            .or_else(|| first_other(&self.eager, &other.eager).map(|(found, keys)| batched(found, keys)))
            .or_else(|| {
                let (shape, keys) = first_other(&self.math, &other.math)?;
                Some(batched((Dtype::F32, shape), keys))
            })
            .or_else(|| {
                let both = other.launched.iter().filter_map(|(shape, theirs)| {
                    Some((*shape, self.launched.get(shape)?.contradiction(theirs)?))
                });
                both.min().map(|(shape, keys)| batched(shape, keys))
            })
    }
}

/// Whether a sum over `k` is the same in so many parts.
fn same_parts(k: usize, a: NonZeroU16, b: NonZeroU16) -> bool {
    a == b || split_k(k, a) == split_k(k, b)
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
