//! Catalogs: which recipe a GPU's library picks for a product, where that was measured. What is not here is refused, never
//! guessed.
//!
//! A catalog is a JSON file, `catalogs/<gpu>-<library>.json`, written by `mantissa catalog build` on a machine that has the GPU:
//! every entry was compared there with the library's own product, bit for bit. Those in the repository are part of the program;
//! [`crate::Catalogs`] holds them and those of files, by hardware and library version.
//! Left out: what asks for a recipe (`dispatch`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::hash::Hash;

use mantissa_model::graph::{Graph, Operation};
use mantissa_numerics::Dtype;
use mantissa_numerics::recipe::wire::Summation;
use mantissa_numerics::recipe::{BatchedSum, PlainSum, RecipeError, TensorCoreSum};
use mantissa_numerics::site::Phase;
use mantissa_numerics::tensor_core::{Architecture, BlockRecipe, Operand};
use serde::{Deserialize, Serialize};

/// What stands first in a catalog's `format`.
pub const FORMAT: &str = "mantissa-catalog/1";

/// A product with a weight, `m × k` by `n × k`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Linear {
    /// Outputs per row.
    pub n: usize,
    /// Length of the sums.
    pub k: usize,
    /// Whether the kernel adds a bias.
    pub bias: bool,
}

/// Which of attention's two products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Product {
    /// Queries by keys; the sum runs over the head.
    Scores,
    /// Probabilities by values; the sum runs over the keys.
    Values,
}

/// One of attention's batched products. In prefill there are as many queries as keys, in decode one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Batched {
    /// Which.
    pub product: Product,
    /// Prefill or decode.
    pub phase: Phase,
    /// Query heads of all sequences together.
    pub heads: usize,
    /// Width of a head.
    pub dim: usize,
}

/// Where a catalog comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The GPU as its driver names it.
    pub gpu: String,
    /// Multiprocessors, of which heuristics take account.
    pub multiprocessors: u32,
    /// Version of cuBLAS.
    pub cublas: String,
    /// CUDA version of the driver.
    pub driver: String,
    /// Date of measurement, `YYYY-MM-DD`.
    pub date: String,
}

/// Versions of the libraries that pick kernels: another version may pick others.
///
/// ```
/// let stack = mantissa_engine::catalog::Stack { cublas: "13.1.0".to_owned() };
/// assert_eq!(stack.to_string(), "cuBLAS 13.1.0");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stack {
    /// Version of cuBLAS.
    pub cublas: String,
}

impl Stack {
    /// The libraries that a catalog was measured with.
    ///
    /// ```
    /// use mantissa_engine::Hardware;
    /// use mantissa_engine::Catalogs;
    /// use mantissa_engine::catalog::Stack;
    ///
    /// let catalogs = Catalogs::default();
    /// let known = catalogs.of(Hardware::H200).expect("a built-in catalog");
    /// assert_eq!(Stack::of(known.origin()).cublas, "13.1.0");
    /// ```
    #[must_use]
    pub fn of(origin: &Origin) -> Self {
        Self { cublas: origin.cublas.clone() }
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cuBLAS {}", self.cublas)
    }
}

/// Recipes by shape.
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

/// The file. Sizes are lists of progressions, `first-last/step`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: String,
    origin: Origin,
    linear: Vec<LinearEntry>,
    batched: Vec<BatchedEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LinearEntry {
    n: usize,
    k: usize,
    bias: bool,
    classes: Vec<Class>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchedEntry {
    product: Product,
    #[serde(default = "bf16")]
    dtype: Dtype,
    phase: Phase,
    heads: usize,
    dim: usize,
    classes: Vec<Class>,
}

fn bf16() -> Dtype {
    Dtype::Bf16
}

/// Sizes (rows of a linear product, keys of a batched one) that go by one recipe.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Class {
    sizes: String,
    recipe: Summation,
}

/// A catalog that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// Not JSON of the right shape.
    #[error("not a catalog ({0}); build it again with `mantissa catalog build`")]
    Json(#[from] serde_json::Error),
    /// Another format.
    #[error("format is '{0}', this version reads '{FORMAT}'; build the catalog again")]
    Format(String),
    /// A list of sizes that is none.
    #[error("'{0}' is no list of sizes; write first-last/step, separated by commas")]
    Sizes(String),
    /// Products that no GPU's attention has here.
    #[error("products of {0} are not known, only bf16 and f32; build the catalog again")]
    Dtype(Dtype),
    /// A recipe that no kernel of the engine computes.
    #[error("sizes {sizes}: {why}; build the catalog again")]
    Recipe {
        /// The class.
        sizes: String,
        /// What is wrong with its recipe.
        why: &'static str,
    },
    /// Another GPU.
    #[error(
        "the catalog is of '{0}', which no --hardware value names; known are NVIDIA H200 and NVIDIA H100 80GB HBM3"
    )]
    Gpu(String),
    /// It says something else than another catalog of the same GPU and library.
    #[error(
        "{shape} has another recipe in the catalog of {stack} with blake3 {known}; measure it again, leave one out"
    )]
    Contradiction {
        /// The first shape of which they differ.
        shape: String,
        /// The library.
        stack: Stack,
        /// Digest of the other catalog.
        known: String,
    },
    /// A library version of which there is no catalog.
    #[error("there is no catalog of {wanted}; known are those of {known}")]
    Stack {
        /// What was asked for.
        wanted: Stack,
        /// What there is.
        known: String,
    },
    /// Files of several library versions, and nothing that says which is meant.
    #[error("the catalogs given are of several libraries ({0}); name the one that is meant with --cublas")]
    Unsettled(String),
}

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

    /// Reads a file's text.
    pub fn parse(text: &str) -> Result<Self, CatalogError> {
        let file: File = serde_json::from_str(text)?;
        if file.format != FORMAT {
            return Err(CatalogError::Format(file.format));
        }
        let mut catalog = Self::new(file.origin);
        for entry in file.linear {
            let to = catalog.linear.entry(Linear { n: entry.n, k: entry.k, bias: entry.bias }).or_default();
            read_classes(to, &entry.classes, linear_sum)?;
        }
        for BatchedEntry { product, dtype, phase, heads, dim, classes } in file.batched {
            let shape = Batched { product, phase, heads, dim };
            match dtype {
                Dtype::Bf16 => {
                    let to = catalog.eager.entry(shape).or_default();
                    read_classes(to, &classes, |sum| batched_sum(sum, product, dim))?;
                }
                Dtype::F32 => {
                    let to = catalog.math.entry(shape).or_default();
                    read_classes(to, &classes, |sum| PlainSum::try_from(sum).map_err(why))?;
                }
                Dtype::F16 => return Err(CatalogError::Dtype(dtype)),
            }
        }
        Ok(catalog)
    }

    /// The file's text: a line per class, in an order that does not change.
    #[must_use]
    pub fn write(&self) -> String {
        let linear: BTreeMap<_, _> = self.linear.iter().collect();
        let eager: BTreeMap<_, _> = self.eager.iter().collect();
        let math: BTreeMap<_, _> = self.math.iter().collect();
        let eager = eager.into_iter().map(|(shape, sizes)| (Dtype::Bf16, shape, write_classes(sizes)));
        let math = math.into_iter().map(|(shape, sizes)| (Dtype::F32, shape, write_classes(sizes)));
        let entry = |value: serde_json::Value| format!("    {value}");
        let linear: Vec<String> = linear
            .into_iter()
            .map(|(shape, sizes)| {
                entry(serde_json::json!({
                    "n": shape.n, "k": shape.k, "bias": shape.bias, "classes": write_classes(sizes)
                }))
            })
            .collect();
        let batched: Vec<String> = eager
            .chain(math)
            .map(|(dtype, shape, classes)| {
                let mut written = serde_json::json!({
                    "product": shape.product, "phase": shape.phase, "heads": shape.heads, "dim": shape.dim,
                    "classes": classes
                });
                if dtype != Dtype::Bf16 {
                    written["dtype"] = serde_json::json!(dtype);
                }
                entry(written)
            })
            .collect();
        let origin = serde_json::json!(self.origin);
        format!(
            "{{\n  \"format\": \"{FORMAT}\",\n  \"origin\": {origin},\n  \"linear\": [\n{}\n  ],\n  \"batched\": [\n{}\n  ]\n}}\n",
            linear.join(",\n"),
            batched.join(",\n")
        )
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

fn why(error: RecipeError) -> &'static str {
    error.0
}

/// Whether `block` is a step of the GPU's on bf16, or half of one.
fn is_step(block: BlockRecipe) -> Result<(), &'static str> {
    let ours = block_of(Architecture::Hopper);
    let known = block == ours || block == BlockRecipe { width: 8, ..ours };
    if known { Ok(()) } else { Err("no step of Hopper's tensor cores on bf16") }
}

/// The sum of a product with a weight. *Errors:* what no kernel computes.
fn linear_sum(sum: Summation) -> Result<TensorCoreSum, &'static str> {
    const MOST_PARTS: u16 = 64;
    let sum = TensorCoreSum::try_from(sum).map_err(why)?;
    is_step(sum.block)?;
    if sum.parts.get() > MOST_PARTS {
        return Err("a product with a weight has 1 to 64 parts");
    }
    Ok(sum)
}

/// The sum of a batched product of bf16. *Errors:* what no kernel computes.
fn batched_sum(sum: Summation, product: Product, dim: usize) -> Result<BatchedSum, &'static str> {
    let sum = BatchedSum::try_from(sum).map_err(why)?;
    if let BatchedSum::TensorCore { block, tile } = sum {
        is_step(block)?;
        match tile.map(|tile| usize::from(tile.get())) {
            Some(tile) if tile % 16 != 0 => return Err("a tile is a multiple of 16"),
            Some(tile) if product == Product::Scores && dim % tile != 0 => {
                return Err("heads are whole tiles");
            }
            _ => {}
        }
    }
    Ok(sum)
}

fn read_classes<T: Copy + PartialEq>(
    to: &mut Sizes<T>,
    classes: &[Class],
    narrowed: impl Fn(Summation) -> Result<T, &'static str>,
) -> Result<(), CatalogError> {
    for class in classes {
        let wrong = |why| CatalogError::Recipe { sizes: class.sizes.clone(), why };
        let recipe = narrowed(class.recipe).map_err(wrong)?;
        for size in parse_sizes(&class.sizes)? {
            if to.insert(size, recipe).is_some_and(|other| other != recipe) {
                return Err(wrong("another class has one of them"));
            }
        }
    }
    Ok(())
}

fn write_classes<T: Copy + PartialEq + Into<Summation>>(sizes: &Sizes<T>) -> Vec<Class> {
    let mut classes: Vec<(T, BTreeSet<usize>)> = Vec::new();
    for (size, recipe) in sizes.iter().collect::<BTreeMap<_, _>>() {
        match classes.iter_mut().find(|(known, _)| known == recipe) {
            Some((_, sizes)) => _ = sizes.insert(*size),
            None => classes.push((*recipe, BTreeSet::from([*size]))),
        }
    }
    let class = |(recipe, sizes): (T, _)| Class { sizes: write_sizes(sizes), recipe: recipe.into() };
    classes.into_iter().map(class).collect()
}

/// Largest size, and most sizes of one list.
const MOST: usize = 1_000_000;

/// Sizes as a list of progressions such as `1-9`, `16-2048/8` and `17`.
///
/// *Errors:* anything else, and a list of more than a million.
pub fn parse_sizes(text: &str) -> Result<Vec<usize>, CatalogError> {
    let wrong = || CatalogError::Sizes(text.to_owned());
    let number = |s: &str| s.parse::<usize>().ok().filter(|n| (1..=MOST).contains(n));
    let mut sizes = Vec::new();
    for part in text.split(',') {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (Some(first), Some(last), Some(step)) = (number(first), number(last), number(step)) else {
            return Err(wrong());
        };
        if first > last || step == 0 {
            return Err(wrong());
        }
        sizes.extend((first..=last).step_by(step));
        if sizes.len() > MOST {
            return Err(wrong());
        }
    }
    Ok(sizes)
}

/// The longest progression from the smallest size, again and again.
fn write_sizes(mut sizes: BTreeSet<usize>) -> String {
    let mut parts = Vec::new();
    while let Some(first) = sizes.first().copied() {
        let reach = |step: usize| (first..).step_by(step).take_while(|size| sizes.contains(size)).count();
        let best = [1, 2, 4, 8, 16].into_iter().rev().max_by_key(|step| reach(*step)).unwrap_or(1);
        let (step, count) = match (best, reach(best)) {
            (1, count) => (1, count),
            (step, count) if count > 2 => (step, count),
            _ => (1, 1),
        };
        let last = first + (count - 1) * step;
        parts.push(match (count, step) {
            (1, _) => format!("{first}"),
            (_, 1) => format!("{first}-{last}"),
            _ => format!("{first}-{last}/{step}"),
        });
        for size in (first..=last).step_by(step) {
            sizes.remove(&size);
        }
    }
    parts.join(",")
}

/// A step of a GPU's tensor cores on bf16; Hopper's, where there is none.
pub(crate) fn block(architecture: Option<Architecture>) -> BlockRecipe {
    block_of(architecture.unwrap_or(Architecture::Hopper))
}

fn block_of(architecture: Architecture) -> BlockRecipe {
    let Some(block) = architecture.block(Operand::Bf16) else { unreachable!("they all multiply bf16") };
    block
}

/// A walk along `K` that is not cut.
pub(crate) fn uncut(architecture: Option<Architecture>) -> TensorCoreSum {
    TensorCoreSum::uncut(block(architecture))
}

/// Every product with a weight that a model runs outside its experts, each once.
#[must_use]
pub fn products(graph: &Graph) -> Vec<Linear> {
    let mut products = Vec::new();
    for node in graph.nodes() {
        let Operation::Linear(linear) = &node.operation else { continue };
        let product = Linear { n: linear.n, k: linear.k, bias: linear.bias.is_some() };
        if !products.contains(&product) {
            products.push(product);
        }
    }
    products
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_written() {
        let cases: [(&[usize], &str); 5] = [
            (&[5], "5"),
            (&[1, 2, 3, 4], "1-4"),
            (&[2, 4, 6, 8, 9], "2-8/2,9"),
            (&[1, 9, 17, 25, 26, 27], "1-25/8,26-27"),
            (&[3, 100], "3,100"),
        ];
        for (sizes, text) in cases {
            assert_eq!(write_sizes(sizes.iter().copied().collect()), text);
            let mut read = parse_sizes(text).expect(text);
            read.sort_unstable();
            assert_eq!(read, sizes);
        }
        for text in ["", "x", "4-2", "1-5/0", "1-", "99999999", "0", "0-4", "1-1000000,1-1000000"] {
            assert!(parse_sizes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_catalog_is_read_as_it_was_written() {
        let h100 = include_str!("../../../catalogs/h100-cublas13.1.json");
        let text = include_str!("../../../catalogs/h200-cublas13.1.json");
        for text in [h100, text] {
            let catalog = Catalog::parse(text).expect("a built-in catalog");
            assert!(!catalog.is_empty());
            assert_eq!(Catalog::parse(&catalog.write()).expect("what was written"), catalog);
            assert_eq!(catalog.write(), text, "the file is as the program writes it");
        }
        let other = text.replace("mantissa-catalog/1", "mantissa-catalog/9");
        assert!(matches!(Catalog::parse(&other), Err(CatalogError::Format(_))));
    }

    #[test]
    fn recipes_that_no_kernel_computes_are_refused() {
        let step = r#"{"operand":"bf16","width":16,"fraction_bits":25,"result_bits":23}"#;
        let linear = |recipe: &str| {
            format!(r#"{{"n":8,"k":8,"bias":false,"classes":[{{"sizes":"1","recipe":{recipe}}}]}}"#)
        };
        let scores = |recipe: &str| {
            format!(
                r#"{{"product":"scores","phase":"decode","heads":1,"dim":64,"classes":[{{"sizes":"1","recipe":{recipe}}}]}}"#
            )
        };
        let file = |linear: &str, batched: &str| {
            let origin = r#"{"gpu":"g","multiprocessors":1,"cublas":"1","driver":"1","date":"d"}"#;
            format!(r#"{{"format":"{FORMAT}","origin":{origin},"linear":[{linear}],"batched":[{batched}]}}"#)
        };
        let cut = |parts: u32, rest: &str| {
            format!(r#"{{"order":"tensor_core","block":{step},"parts":{parts}{rest}}}"#)
        };
        let threads = |threads: u32, vector: u32| {
            format!(r#"{{"order":"threads","threads":{threads},"vector":{vector}}}"#)
        };
        assert!(Catalog::parse(&file(&linear(&cut(7, "")), &scores(&threads(16, 4)))).is_ok());
        assert!(Catalog::parse(&file("", &scores(&cut(1, r#","tile":32"#)))).is_ok());
        let narrow = cut(1, "").replace("\"width\":16", "\"width\":12");
        let fp8 = cut(1, "").replace("bf16", "e4m3");
        for recipe in [
            &cut(0, ""),
            &cut(65, ""),
            &cut(1, r#","tile":32"#),
            &threads(16, 4),
            &narrow,
            &fp8,
            r#"{"order":"fma_chain"}"#,
        ] {
            let refused = Catalog::parse(&file(&linear(recipe), ""));
            assert!(matches!(refused, Err(CatalogError::Recipe { .. })), "{recipe}");
        }
        let tiles = [0, 24, 48].map(|tile| cut(1, &format!(r#","tile":{tile}"#)));
        let others = [cut(2, ""), threads(0, 4), threads(3, 4), threads(128, 4), threads(16, 0)];
        for recipe in tiles.iter().chain(&others) {
            let refused = Catalog::parse(&file("", &scores(recipe)));
            assert!(matches!(refused, Err(CatalogError::Recipe { .. })), "{recipe}");
        }
        let plain = |recipe: &str| scores(recipe).replacen('{', r#"{"dtype":"f32","#, 1);
        for recipe in [r#"{"order":"fma_chain"}"#, &threads(16, 4)] {
            assert!(Catalog::parse(&file("", &plain(recipe))).is_ok(), "{recipe}");
        }
        for (entry, what) in
            [(plain(&cut(1, "")), "tensor cores"), (scores(r#"{"order":"fma_chain"}"#), "engine's own")]
        {
            let refused = Catalog::parse(&file("", &entry)).expect_err(what).to_string();
            assert!(refused.contains(what), "{refused}");
        }
        let half = plain(&threads(16, 4)).replace("f32", "f16");
        assert!(matches!(Catalog::parse(&file("", &half)), Err(CatalogError::Dtype(Dtype::F16))));
        let twice = format!("{},{}", scores(&threads(16, 4)), scores(&threads(8, 4)));
        assert!(Catalog::parse(&file("", &twice)).is_err());
    }
}
