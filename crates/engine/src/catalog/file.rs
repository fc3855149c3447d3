//! The file of a catalog: read, with every recipe checked that no kernel computes, and written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use mantissa_numerics::Dtype;
use mantissa_numerics::recipe::wire::Summation;
use mantissa_numerics::recipe::{BatchedSum, PlainSum, RecipeError, TensorCoreSum};
use mantissa_numerics::site::Phase;
use mantissa_numerics::tensor_core::{Architecture, BlockRecipe};
use serde::{Deserialize, Serialize};

use super::asked::{Asked, MOST_PARTS, Steps};
use super::error::CatalogError;
use super::format::{FORMAT, FORMAT_1, FORMAT_2};
use super::launched::{self, KernelSum, Launched};
use super::origin::Origin;
use super::shape::{Batched, Linear, Product};
use super::sizes::{parse_sizes, write_sizes};
use super::steps::block_on;
use super::{Catalog, Sizes};

/// The file. Sizes are lists of progressions, `first-last/step`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: String,
    origin: Origin,
    linear: Vec<LinearEntry>,
    #[serde(default)]
    asked: Vec<AskedEntry>,
    batched: Vec<BatchedEntry>,
    #[serde(default)]
    launched: Vec<LaunchedEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LinearEntry {
    n: usize,
    k: usize,
    bias: bool,
    #[serde(default = "bf16")]
    dtype: Dtype,
    classes: Vec<Class>,
}

/// What the heuristic names for products with a weight: of rows that 8 divides, and of others.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedEntry {
    n: usize,
    k: usize,
    bias: bool,
    #[serde(default = "bf16", skip_serializing_if = "is_bf16")]
    dtype: Dtype,
    unaligned: StepsEntry,
    aligned: StepsEntry,
}

/// Sizes that were asked, and the first of each step with its parts.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StepsEntry {
    asked: String,
    parts: Vec<(usize, u16)>,
}

impl StepsEntry {
    fn read(&self) -> Result<Steps, CatalogError> {
        Steps::new(&self.asked, &self.parts)
    }

    fn of(steps: &Steps) -> Self {
        Self { asked: steps.asked(), parts: steps.written() }
    }
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

/// What the library launches for one of attention's products.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LaunchedEntry {
    product: Product,
    #[serde(default = "bf16", skip_serializing_if = "is_bf16")]
    dtype: Dtype,
    phase: Phase,
    dim: usize,
    kernels: Vec<KernelSum>,
    choices: Vec<ChoiceEntry>,
}

/// Numbers of heads for which the same is launched, each with the largest size that was asked; the runs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChoiceEntry {
    heads: Vec<(usize, usize)>,
    runs: String,
}

fn bf16() -> Dtype {
    Dtype::Bf16
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_bf16(dtype: &Dtype) -> bool {
    *dtype == Dtype::Bf16
}

/// Sizes (rows of a linear product, keys of a batched one) that go by one recipe.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Class {
    sizes: String,
    recipe: Summation,
}

impl Catalog {
    /// Reads a file's text.
    pub fn parse(text: &str) -> Result<Self, CatalogError> {
        let file: File = serde_json::from_str(text)?;
        let least = match &file {
            File { launched, .. } if !launched.is_empty() => 3,
            File { asked, .. } if !asked.is_empty() => 2,
            _ => 1,
        };
        if [FORMAT_1, FORMAT_2, FORMAT].iter().skip(least - 1).all(|known| *known != file.format) {
            return Err(CatalogError::Format(file.format));
        }
        let mut catalog = Self::new(file.origin);
        for entry in file.linear {
            let LinearEntry { n, k, bias, dtype, classes } = entry;
            let to = catalog.linear.entry(weight(n, k, bias, dtype)?).or_default();
            read_classes(to, &classes, |sum| linear_sum(sum, dtype))?;
        }
        for AskedEntry { n, k, bias, dtype, unaligned, aligned } in file.asked {
            let shape = weight(n, k, bias, dtype)?;
            if catalog.asked.insert(shape, Asked::new(unaligned.read()?, aligned.read()?)?).is_some() {
                let why = "another entry has the same weight";
                return Err(CatalogError::Steps { sizes: unaligned.asked, why });
            }
        }
        if let Some((shape, rows)) = catalog.clone().forget_misnamed().first() {
            return Err(CatalogError::Misnamed(format!("{rows} rows with {shape}")));
        }
        for BatchedEntry { product, dtype, phase, heads, dim, classes } in file.batched {
            let shape = Batched { product, phase, heads, dim };
            if dtype == Dtype::F32 {
                let to = catalog.math.entry(shape).or_default();
                read_classes(to, &classes, |sum| PlainSum::try_from(sum).map_err(why))?;
            } else {
                let to = catalog.eager.entry((dtype, shape)).or_default();
                read_classes(to, &classes, |sum| batched_sum(sum, dtype, product, dim))?;
            }
        }
        for entry in file.launched {
            launched::checked(&entry.kernels, entry.dtype)?;
            for ChoiceEntry { heads, runs } in entry.choices {
                let largest: Vec<usize> = heads.iter().map(|(_, largest)| *largest).collect();
                let read = Launched::read(&runs, &entry.kernels, &largest)?;
                for ((heads, _), launched) in heads.into_iter().zip(read) {
                    let LaunchedEntry { product, phase, dim, dtype, .. } = entry;
                    let shape = Batched { product, phase, heads, dim };
                    if catalog.launched.insert((dtype, shape), launched).is_some() {
                        let why = "another entry has the same heads";
                        return Err(CatalogError::Steps { sizes: runs.chars().take(40).collect(), why });
                    }
                }
            }
        }
        Ok(catalog)
    }

    /// The file's text: a line per entry, in an order that does not change; in the format before, which earlier
    /// versions read too, where all is of bf16 and nothing was only asked.
    #[must_use]
    pub fn write(&self) -> String {
        let linear: BTreeMap<_, _> = self.linear.iter().collect();
        let eager: BTreeMap<_, _> = self.eager.iter().collect();
        let math: BTreeMap<_, _> = self.math.iter().collect();
        let eager = eager.into_iter().map(|((dtype, shape), sizes)| (*dtype, shape, write_classes(sizes)));
        let math = math.into_iter().map(|(shape, sizes)| (Dtype::F32, shape, write_classes(sizes)));
        let entry = |value: serde_json::Value| format!("    {value}");
        let linear: Vec<String> = linear
            .into_iter()
            .map(|(shape, sizes)| {
                let mut written = serde_json::json!({
                    "n": shape.n, "k": shape.k, "bias": shape.bias, "classes": write_classes(sizes)
                });
                if shape.dtype != Dtype::Bf16 {
                    written["dtype"] = serde_json::json!(shape.dtype);
                }
                entry(written)
            })
            .collect();
        let asked = self.all_asked().map(|(shape, asked)| {
            let Linear { n, k, bias, dtype } = shape;
            let [unaligned, aligned] = [false, true].map(|aligned| StepsEntry::of(asked.steps(aligned)));
            entry(serde_json::json!(AskedEntry { n, k, bias, dtype, unaligned, aligned }))
        });
        let asked: Vec<String> = asked.collect();
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
        let launched = self.launched_entries();
        let launched: Vec<String> =
            launched.iter().map(|written| entry(serde_json::json!(written))).collect();
        let known_before = |dtype| dtype == Dtype::Bf16;
        let before = asked.is_empty()
            && launched.is_empty()
            && self.linear.keys().all(|shape| known_before(shape.dtype))
            && self.eager.keys().all(|(dtype, _)| known_before(*dtype));
        let format = match (before, launched.is_empty()) {
            (true, _) => FORMAT_1,
            (false, true) => FORMAT_2,
            (false, false) => FORMAT,
        };
        let origin = serde_json::json!(self.origin);
        let mut text = format!("{{\n  \"format\": \"{format}\",\n  \"origin\": {origin}");
        for (name, entries) in [("linear", linear), ("asked", asked), ("batched", batched)] {
            if name != "asked" || !before {
                _ = write!(text, ",\n  \"{name}\": [\n{}\n  ]", entries.join(",\n"));
            }
        }
        if !launched.is_empty() {
            _ = write!(text, ",\n  \"launched\": [\n{}\n  ]", launched.join(",\n"));
        }
        text.push_str("\n}\n");
        text
    }

    /// What is launched, by product, with equal runs together.
    fn launched_entries(&self) -> Vec<LaunchedEntry> {
        type Choices<'a> = Vec<(Vec<(usize, usize)>, &'a Launched)>;
        let mut groups: BTreeMap<(Dtype, Phase, Product, usize), Choices> = BTreeMap::new();
        for (dtype, shape, launched) in self.all_launched() {
            let Batched { product, phase, heads, dim } = shape;
            let choices = groups.entry((dtype, phase, product, dim)).or_default();
            let of = (heads, launched.largest());
            match choices.iter_mut().find(|(_, known)| known.has_runs_of(launched)) {
                Some((heads, _)) => heads.push(of),
                None => choices.push((vec![of], launched)),
            }
        }
        let entries = groups.into_iter().map(|((dtype, phase, product, dim), choices)| {
            let kernels: BTreeSet<KernelSum> =
                choices.iter().flat_map(|(_, launched)| launched.kernels()).collect();
            let kernels: Vec<KernelSum> = kernels.into_iter().collect();
            let choices = choices.into_iter().map(|(heads, launched)| {
                let runs = launched.written(&kernels);
                ChoiceEntry { heads, runs }
            });
            let choices = choices.collect();
            LaunchedEntry { product, dtype, phase, dim, kernels, choices }
        });
        entries.collect()
    }
}

/// A weight that a product can have. *Errors:* another.
fn weight(n: usize, k: usize, bias: bool, dtype: Dtype) -> Result<Linear, CatalogError> {
    const LARGEST: usize = 1 << 32;
    if [n, k].into_iter().all(|size| (1..=LARGEST).contains(&size)) && dtype != Dtype::F32 {
        Ok(Linear { n, k, bias, dtype })
    } else {
        Err(CatalogError::Weight(format!("{n} × {k} of {dtype}")))
    }
}

fn why(error: RecipeError) -> &'static str {
    error.0
}

/// Whether `block` is a step of the GPU's on factors of `dtype`, or half of one.
fn is_step(block: BlockRecipe, dtype: Dtype) -> Result<(), &'static str> {
    let ours = block_on(Architecture::Hopper, dtype);
    let known = ours.is_some_and(|ours| block == ours || block == BlockRecipe { width: 8, ..ours });
    if known { Ok(()) } else { Err("no step of Hopper's tensor cores on such factors") }
}

/// The sum of a product with a weight. *Errors:* what no kernel computes.
fn linear_sum(sum: Summation, dtype: Dtype) -> Result<TensorCoreSum, &'static str> {
    let sum = TensorCoreSum::try_from(sum).map_err(why)?;
    is_step(sum.block, dtype)?;
    if sum.parts.get() > MOST_PARTS {
        return Err("a product with a weight has 1 to 64 parts");
    }
    Ok(sum)
}

/// The sum of a batched product of 16 bits. *Errors:* what no kernel computes.
fn batched_sum(
    sum: Summation,
    dtype: Dtype,
    product: Product,
    dim: usize,
) -> Result<BatchedSum, &'static str> {
    let sum = BatchedSum::try_from(sum).map_err(why)?;
    if let BatchedSum::TensorCore { block, tile } = sum {
        is_step(block, dtype)?;
        match tile.map(|tile| usize::from(tile.get())) {
            Some(tile) if tile % 16 != 0 => return Err("a tile is a multiple of 16"),
            // A remainder of whole steps comes first all the same: the walk has no tile.
            Some(tile) if product.is_scores() && (dim % tile).is_multiple_of(usize::from(block.width)) => {
                return Ok(BatchedSum::TensorCore { block, tile: None });
            }
            Some(_) if product.is_scores() => return Err("heads are whole steps"),
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

#[cfg(test)]
mod tests {
    use mantissa_numerics::nvidia::products::split_k;

    use super::*;

    #[test]
    fn a_catalog_is_read_as_it_was_written() {
        let h100 = include_str!("../../../../catalogs/h100-cublas13.1.json");
        let text = include_str!("../../../../catalogs/h200-cublas13.1.json");
        for text in [h100, text] {
            let catalog = Catalog::parse(text).expect("a built-in catalog");
            assert!(!catalog.is_empty());
            assert_eq!(Catalog::parse(&catalog.write()).expect("what was written"), catalog);
            assert_eq!(catalog.write(), text, "the file is as the program writes it");
        }
        let other = text.replacen("\"format\": \"mantissa-catalog/", "\"format\": \"mantissa-catalog/9", 1);
        assert_ne!(other, text);
        assert!(matches!(Catalog::parse(&other), Err(CatalogError::Format(_))));
    }

    /// The heuristic of an H100 beside what its products had.
    #[test]
    fn the_heuristic_names_what_every_compared_product_had() {
        let catalog =
            Catalog::parse(include_str!("../../../../catalogs/h100-cublas13.1.json")).expect("built in");
        let mut agree = 0;
        for (shape, sizes) in &catalog.linear {
            for (rows, found) in sizes {
                let Some(named) = catalog.asked(*shape, *rows) else { continue };
                assert_eq!(named.block, found.block);
                assert_eq!(split_k(shape.k, named.parts), split_k(shape.k, found.parts), "{rows} of {shape}");
                agree += 1;
            }
        }
        // As docs/coverage.md says.
        assert_eq!(agree, 9967);
        // One that disagrees is refused.
        let mut wrong = catalog.clone();
        let shape = Linear { n: 3584, k: 18944, bias: false, dtype: Dtype::Bf16 };
        let steps = Steps::new("1-16", &[(1, 2)]).expect("steps");
        wrong.add_asked(
            shape,
            Asked::new(steps.clone(), Steps::new("8", &[(8, 2)]).expect("steps")).expect("steps"),
        );
        let refused = Catalog::parse(&wrong.write()).expect_err("seven parts").to_string();
        assert!(
            refused.starts_with("for 1 rows with 3584 × 18944 the heuristic names another sum"),
            "{refused}"
        );
    }

    /// What cuBLAS launches, asked on an H200, beside the products of attention that were compared on both GPUs.
    #[test]
    fn every_compared_product_of_attention_had_the_sums_of_the_kernel_launched() {
        use mantissa_numerics::nvidia::products::{by_threads, remainder_first};
        use mantissa_numerics::recipe::ThreadSum;
        let text = include_str!("../../../../catalogs/hopper-attention-cublas13.1.json");
        let launched = Catalog::parse(text).expect("built in");
        assert_eq!(launched.write(), text, "the file is as the program writes it");
        // Numbers of which every order leaves another sum.
        let x: Vec<f32> = (0..40_000_u32)
            .map(|i| f32::from_bits(0x3F80_0000 | i.wrapping_mul(2_654_435_769) >> 9))
            .collect();
        let one = ThreadSum::new(1, 1, false).expect("a sum");
        let same = |a: ThreadSum, b: ThreadSum, length: usize| {
            a == b
                || by_threads(a, length, |k| (x[k], x[k + 77])).to_bits()
                    == by_threads(b, length, |k| (x[k], x[k + 77])).to_bits()
        };
        for (file, agree) in [
            (include_str!("../../../../catalogs/h200-cublas13.1.json"), 128_006),
            (include_str!("../../../../catalogs/h100-cublas13.1.json"), 42_318),
        ] {
            let catalog = Catalog::parse(file).expect("built in");
            let mut found = 0;
            let length =
                |shape: Batched, keys: usize| if shape.product.is_scores() { shape.dim } else { keys };
            for (dtype, shape, keys, compared) in catalog.all_eager() {
                let length = length(shape, keys);
                let Some(kernel) = launched.launched(dtype, shape, keys) else { continue };
                let equal = match (kernel.batched(dtype, length), compared) {
                    (Some(BatchedSum::Threads(a)), BatchedSum::Threads(b)) => same(a, b, length),
                    (
                        Some(BatchedSum::TensorCore { block: a, tile: x }),
                        BatchedSum::TensorCore { block: b, tile: y },
                    ) => {
                        // Where all comes first, nothing is cut.
                        let early = |block, tile| match remainder_first(block, tile, length) {
                            (early, _) if early == length => (0, 0),
                            cut => cut,
                        };
                        a == b && early(a, x) == early(b, y)
                    }
                    // A single product has no order.
                    _ => length == 1,
                };
                assert!(equal, "{dtype} {shape:?} over {keys}: {kernel:?}, compared {compared:?}");
                found += 1;
            }
            for (shape, keys, compared) in catalog.all_math() {
                let length = length(shape, keys);
                let Some(kernel) = launched.launched(Dtype::F32, shape, keys) else { continue };
                let of = |sum| match sum {
                    PlainSum::FmaChain => one,
                    PlainSum::Threads(sum) => sum,
                };
                let equal = kernel.plain(length).is_some_and(|kernel| same(of(kernel), of(compared), length));
                assert!(equal, "{shape:?} over {keys}: {kernel:?}, compared {compared:?}");
                found += 1;
            }
            assert_eq!(found, agree);
        }
    }

    /// A build that is completed or resumed: the file has what was asked, the product that contradicts it is new.
    #[test]
    fn what_a_product_contradicts_is_forgotten_and_the_file_can_be_read() {
        let h100 =
            Catalog::parse(include_str!("../../../../catalogs/h100-cublas13.1.json")).expect("built in");
        let shape = Linear { n: 4096, k: 14336, bias: false, dtype: Dtype::Bf16 };
        let named = h100.asked(shape, 201).expect("asked");
        let mut built = Catalog::new(h100.origin.clone());
        built.add_linear(shape, 201, TensorCoreSum { parts: MOST_PARTS.try_into().expect("parts"), ..named });
        built.merge(&h100);
        assert!(matches!(Catalog::parse(&built.write()), Err(CatalogError::Misnamed(_))));
        assert_eq!(built.forget_misnamed(), [(shape, 201)]);
        assert_eq!(built.all_asked().count(), h100.all_asked().count() - 1);
        assert_eq!(Catalog::parse(&built.write()).expect("what was written"), built);
    }

    #[test]
    fn weights_that_none_can_have_are_refused() {
        let file = |n: u64, k: u64, dtype: &str| {
            let origin = r#"{"gpu":"g","multiprocessors":1,"cublas":"1","driver":"1","date":"d"}"#;
            let steps = r#"{"asked":"8","parts":[[8,1]]}"#;
            let entry = format!(
                r#"{{"n":{n},"k":{k},"bias":false,"dtype":"{dtype}","unaligned":{},"aligned":{steps}}}"#,
                steps.replace('8', "9")
            );
            format!(r#"{{"format":"{FORMAT}","origin":{origin},"linear":[],"asked":[{entry}],"batched":[]}}"#)
        };
        assert!(Catalog::parse(&file(8, 8, "f16")).is_ok());
        for (n, k, dtype) in [(0, 8, "bf16"), (8, 0, "bf16"), (8, u64::MAX, "bf16"), (8, 8, "f32")] {
            let refused = Catalog::parse(&file(n, k, dtype)).expect_err("no weight").to_string();
            assert!(refused.contains("no weight has") && !refused.contains('\n'), "{refused}");
        }
        // Lists are of a bounded number of progressions.
        let long = vec!["1-1000000"; 5000].join(",");
        assert!(
            Catalog::parse(&file(8, 8, "bf16").replace(r#""asked":"8""#, &format!(r#""asked":"{long}""#)))
                .is_err()
        );
    }

    #[test]
    fn recipes_that_no_kernel_computes_are_refused() {
        let step = r#"{"operand":"bf16","width":16,"fraction_bits":25,"result_bits":23}"#;
        let linear = |recipe: &str| {
            format!(r#"{{"n":8,"k":8,"bias":false,"classes":[{{"sizes":"1","recipe":{recipe}}}]}}"#)
        };
        let scores = |recipe: &str| {
            let classes = format!(r#"[{{"sizes":"1","recipe":{recipe}}}]"#);
            format!(r#"{{"product":"scores","phase":"decode","heads":1,"dim":64,"classes":{classes}}}"#)
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
        // What is left of heads of 64 is whole steps, of heads of 72 it is not.
        let of_48 = cut(1, r#","tile":48"#);
        let whole = Catalog::parse(&file("", &scores(&of_48))).expect("no tile");
        assert_eq!(whole, Catalog::parse(&file("", &scores(&cut(1, "")))).expect("no tile"));
        let of_72 = scores(&of_48).replace("\"dim\":64", "\"dim\":72");
        assert!(matches!(Catalog::parse(&file("", &of_72)), Err(CatalogError::Recipe { .. })));
        let tiles = [0, 24].map(|tile| cut(1, &format!(r#","tile":{tile}"#)));
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
        let half = |recipe: &str| plain(recipe).replace("\"f32\"", "\"f16\"");
        let step_of_half = cut(1, "").replace("bf16", "f16");
        for (recipe, known) in [(threads(16, 4), true), (step_of_half, true), (cut(1, ""), false)] {
            let read = Catalog::parse(&file("", &half(&recipe)));
            assert_eq!(read.is_ok(), known, "{recipe}");
            let Ok(catalog) = read else { continue };
            assert_eq!(Catalog::parse(&catalog.write()).expect("what was written"), catalog);
            assert!(catalog.write().contains(FORMAT_2), "earlier versions know no f16");
        }
        let twice = format!("{},{}", scores(&threads(16, 4)), scores(&threads(8, 4)));
        assert!(Catalog::parse(&file("", &twice)).is_err());
    }
}
