//! Sets of catalogs: those that are part of the program and those of files, by hardware and library version.
//!
//! A set is a value. Nothing is replaced: a file adds shapes that no other catalog of its target has; where two have
//! the same shape they must agree, or the file is refused. So a verified recipe stays what it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use mantissa_numerics::Dtype;
use mantissa_numerics::recipe::{BatchedSum, PlainSum, TensorCoreSum};
use mantissa_numerics::setup::{Basis, Hardware};

use crate::catalog::{Batched, Catalog, CatalogError, Linear, Origin, Stack};

mod used;

pub use used::{CatalogId, CatalogUse, Entry, Source};

/// The catalogs of one GPU with one version of its libraries, in the order they are asked.
#[derive(Debug)]
pub struct TargetCatalogs(Vec<(CatalogId, Arc<Catalog>)>);

impl TargetCatalogs {
    /// The catalogs themselves.
    ///
    /// ```
    /// use mantissa_engine::{Catalogs, Hardware};
    ///
    /// let catalogs = Catalogs::default();
    /// let known = catalogs.of(Hardware::H200).expect("built-in catalogs");
    /// assert!(known.catalogs().any(|catalog| catalog.all_asked().count() > 500));
    /// ```
    pub fn catalogs(&self) -> impl Iterator<Item = &Catalog> {
        self.0.iter().map(|(_, catalog)| catalog.as_ref())
    }

    /// The recipe of a product of `rows` rows with a weight: one that was compared, or else one by the parts that the
    /// library's heuristic names.
    ///
    /// ```
    /// use mantissa_engine::Hardware;
    /// use mantissa_engine::Catalogs;
    /// use mantissa_engine::catalog::Linear;
    /// use mantissa_numerics::Dtype;
    ///
    /// let catalogs = Catalogs::default();
    /// let known = catalogs.of(Hardware::H200).expect("a built-in catalog");
    /// let shape = Linear { n: 7, k: 7, bias: false, dtype: Dtype::Bf16 };
    /// assert!(known.linear(shape, 1).is_none());
    /// ```
    #[must_use]
    pub fn linear(&self, shape: Linear, rows: usize) -> Option<Entry<'_, TensorCoreSum>> {
        self.find(false, |catalog| catalog.linear(shape, rows))
            .or_else(|| self.find(true, |catalog| catalog.asked(shape, rows)))
    }

    /// The recipe of one of eager attention's products, of bf16 or f16, over `keys` keys.
    ///
    /// ```
    /// use mantissa_engine::catalog::{Batched, Product};
    /// use mantissa_engine::{Catalogs, Hardware};
    /// use mantissa_numerics::{Dtype, Phase};
    ///
    /// let catalogs = Catalogs::default();
    /// let known = catalogs.of(Hardware::H200).expect("a built-in catalog");
    /// let shape = Batched { product: Product::Scores, phase: Phase::Decode, heads: 9, dim: 64 };
    /// assert!(known.eager(Dtype::Bf16, shape, 100).is_some());
    /// ```
    #[must_use]
    pub fn eager(&self, dtype: Dtype, shape: Batched, keys: usize) -> Option<Entry<'_, BatchedSum>> {
        self.find(false, |catalog| catalog.eager(dtype, shape, keys)).or_else(|| {
            self.find(true, |catalog| {
                catalog.launched(dtype, shape, keys)?.batched(dtype, length(shape, keys))
            })
        })
    }

    /// The recipe of one of the products of PyTorch's math backend, of binary32, over `keys` keys.
    ///
    /// ```
    /// use mantissa_engine::catalog::{Batched, Product};
    /// use mantissa_engine::{Catalogs, Hardware};
    /// use mantissa_numerics::Phase;
    ///
    /// let catalogs = Catalogs::default();
    /// let known = catalogs.of(Hardware::H200).expect("a built-in catalog");
    /// let shape = Batched { product: Product::Scores, phase: Phase::Decode, heads: 9, dim: 64 };
    /// assert!(known.math(shape, 100).is_some());
    /// ```
    #[must_use]
    pub fn math(&self, shape: Batched, keys: usize) -> Option<Entry<'_, PlainSum>> {
        self.find(false, |catalog| catalog.math(shape, keys)).or_else(|| {
            self.find(true, |catalog| catalog.launched(Dtype::F32, shape, keys)?.plain(length(shape, keys)))
        })
    }

    /// Where the first of them comes from.
    ///
    /// ```
    /// use mantissa_engine::Hardware;
    /// use mantissa_engine::Catalogs;
    ///
    /// let catalogs = Catalogs::default();
    /// assert_eq!(catalogs.of(Hardware::H200).expect("a built-in catalog").origin().gpu, "NVIDIA H200");
    /// ```
    #[must_use]
    pub fn origin(&self) -> &Origin {
        let Some((_, first)) = self.0.first() else { unreachable!("a target is known by a catalog") };
        &first.origin
    }

    /// Which they are.
    ///
    /// ```
    /// use mantissa_engine::Hardware;
    /// use mantissa_engine::Catalogs;
    ///
    /// let catalogs = Catalogs::default();
    /// assert_eq!(catalogs.of(Hardware::H100).expect("a built-in catalog").ids().count(), 2);
    /// ```
    pub fn ids(&self) -> impl Iterator<Item = &CatalogId> {
        self.0.iter().map(|(id, _)| id)
    }

    fn find<R>(&self, asked: bool, find: impl Fn(&Catalog) -> Option<R>) -> Option<Entry<'_, R>> {
        self.0.iter().find_map(|(catalog, known)| {
            Some(Entry { recipe: find(known)?, source: Source { catalog, asked } })
        })
    }
}

/// Length of the sums of a product over `keys` keys.
const fn length(shape: Batched, keys: usize) -> usize {
    if shape.product.is_scores() { shape.dim } else { keys }
}

/// A set of catalogs by hardware and library version. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Catalogs(Arc<Set>);

#[derive(Debug, Clone)]
struct Set {
    targets: BTreeMap<Hardware, BTreeMap<Stack, Arc<TargetCatalogs>>>,
    /// The libraries that are meant by a hardware.
    meant: BTreeMap<Hardware, Stack>,
    /// The libraries of files, until one is meant.
    given: BTreeMap<Hardware, BTreeSet<Stack>>,
}

static BUILT_IN: LazyLock<Catalogs> = LazyLock::new(|| {
    let mut set = Set { targets: BTreeMap::new(), meant: BTreeMap::new(), given: BTreeMap::new() };
    // What cuBLAS launches for attention was asked on an H200. An H100's products had the same sums at every size that
    // both compared.
    let launched = include_str!("../../../catalogs/hopper-attention-cublas13.1.json");
    let attention = Arc::new(built_in(launched));
    for (hardware, text) in [
        (Hardware::H200, include_str!("../../../catalogs/h200-cublas13.1.json")),
        (Hardware::H100, include_str!("../../../catalogs/h100-cublas13.1.json")),
    ] {
        let catalog = built_in(text);
        let stack = Stack::of(&catalog.origin);
        let id =
            |text| CatalogId { hardware, stack: stack.clone(), basis: Basis::Verified, digest: digest(text) };
        set.meant.insert(hardware, stack.clone());
        let known = vec![(id(text), Arc::new(catalog)), (id(launched), Arc::clone(&attention))];
        set.targets.entry(hardware).or_default().insert(stack.clone(), Arc::new(TargetCatalogs(known)));
    }
    Catalogs(Arc::new(set))
});

#[expect(clippy::panic, reason = "the file is part of the program, and a test reads it")]
fn built_in(text: &str) -> Catalog {
    Catalog::parse(text).unwrap_or_else(|error| panic!("a built-in catalog is damaged: {error}"))
}

fn digest(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

impl Default for Catalogs {
    fn default() -> Self {
        BUILT_IN.clone()
    }
}

impl PartialEq for Catalogs {
    fn eq(&self, other: &Self) -> bool {
        self.0.meant == other.0.meant && self.ids().eq(other.ids())
    }
}

impl Eq for Catalogs {}

impl Catalogs {
    /// Those that are part of the program, and no others.
    ///
    /// ```
    /// use mantissa_engine::Catalogs;
    ///
    /// assert_eq!(*Catalogs::built_in(), Catalogs::default());
    /// ```
    #[must_use]
    pub fn built_in() -> &'static Self {
        &BUILT_IN
    }

    /// These and a catalog that its user measured, from the text of its file.
    ///
    /// The first file of a GPU says which libraries are meant by it; [`Self::meaning`] says otherwise. A file that is
    /// part of the program, or was given before, adds nothing.
    ///
    /// *Errors:* a text that is no catalog; a GPU that no hardware names; a recipe other than what a catalog of the
    /// same GPU and libraries has for the shape.
    ///
    /// ```
    /// use mantissa_engine::Catalogs;
    /// use mantissa_engine::{Basis, Hardware};
    ///
    /// let file = r#"{"format": "mantissa-catalog/1", "linear": [], "batched": [], "origin": {"gpu": "NVIDIA H200",
    ///     "multiprocessors": 132, "cublas": "12.8.4", "driver": "12.8", "date": "2026-11-28"}}"#;
    /// let catalogs = Catalogs::default().with(file)?;
    /// let known = catalogs.of(Hardware::H200).expect("what was given");
    /// assert!(known.ids().all(|id| id.basis == Basis::Measured && id.stack.cublas == "12.8.4"));
    /// # Ok::<(), mantissa_engine::catalog::CatalogError>(())
    /// ```
    pub fn with(&self, text: &str) -> Result<Self, CatalogError> {
        let catalog = Catalog::parse(text)?;
        let Some(hardware) = self.hardware_of(&catalog.origin) else {
            let known = self.0.targets.values().flat_map(BTreeMap::values);
            let known: BTreeSet<String> = known.map(|known| known.origin().die()).collect();
            return Err(CatalogError::Gpu {
                gpu: catalog.origin.die(),
                known: known.into_iter().collect::<Vec<_>>().join(", "),
            });
        };
        let stack = Stack::of(&catalog.origin);
        let id = CatalogId { hardware, stack: stack.clone(), basis: Basis::Measured, digest: digest(text) };
        let mut set = Set::clone(&self.0);
        let known = set.targets.get(&hardware).and_then(|stacks| stacks.get(&stack));
        let mut all = known.map_or_else(Vec::new, |known| known.0.clone());
        for (other, known) in &all {
            if let Some(shape) = known.contradiction(&catalog) {
                return Err(CatalogError::Contradiction { shape, known: other.to_string() });
            }
        }
        if all.iter().all(|(known, _)| known.digest != id.digest) {
            all.push((id, Arc::new(catalog)));
        }
        set.targets.entry(hardware).or_default().insert(stack.clone(), Arc::new(TargetCatalogs(all)));
        let given = set.given.entry(hardware).or_default();
        if given.is_empty() {
            set.meant.insert(hardware, stack.clone());
        }
        given.insert(stack);
        Ok(Self(Arc::new(set)))
    }

    /// These, where `stack` is meant by every hardware that has a catalog of it.
    ///
    /// *Errors:* no hardware has one.
    ///
    /// ```
    /// use mantissa_engine::Catalogs;
    /// use mantissa_engine::catalog::Stack;
    ///
    /// let unknown = Catalogs::default().meaning(&Stack { cublas: "9.0".to_owned() });
    /// assert!(unknown.expect_err("no such catalog").to_string().contains("cuBLAS 13.1.0"));
    /// ```
    pub fn meaning(&self, stack: &Stack) -> Result<Self, CatalogError> {
        let mut set = Set::clone(&self.0);
        let has = set.targets.iter().filter(|(_, stacks)| stacks.contains_key(stack));
        let has: Vec<Hardware> = has.map(|(hardware, _)| *hardware).collect();
        if has.is_empty() {
            let known: BTreeSet<String> =
                set.targets.values().flatten().map(|(known, _)| known.to_string()).collect();
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            return Err(CatalogError::Stack { wanted: stack.clone(), known });
        }
        for hardware in has {
            set.meant.insert(hardware, stack.clone());
            set.given.remove(&hardware);
        }
        Ok(Self(Arc::new(set)))
    }

    /// These, if it is plain which libraries are meant.
    ///
    /// *Errors:* files of several versions for one GPU, of which [`Self::meaning`] named none.
    ///
    /// ```
    /// use mantissa_engine::Catalogs;
    ///
    /// assert!(Catalogs::default().settled().is_ok());
    /// ```
    pub fn settled(self) -> Result<Self, CatalogError> {
        match self.0.given.values().find(|stacks| stacks.len() > 1) {
            None => Ok(self),
            Some(stacks) => {
                let names: Vec<String> = stacks.iter().map(ToString::to_string).collect();
                Err(CatalogError::Unsettled(names.join(", ")))
            }
        }
    }

    /// What is known of the choices of the libraries that are meant; `None` where nothing was measured.
    ///
    /// ```
    /// use mantissa_engine::Hardware;
    /// use mantissa_engine::Catalogs;
    ///
    /// assert!(Catalogs::default().of(Hardware::A100).is_none());
    /// ```
    #[must_use]
    pub fn of(&self, hardware: Hardware) -> Option<&TargetCatalogs> {
        self.of_stack(hardware, self.0.meant.get(&hardware)?)
    }

    /// What is known of the choices of `stack`, whichever is meant.
    ///
    /// ```
    /// use mantissa_engine::Hardware;
    /// use mantissa_engine::Catalogs;
    /// use mantissa_engine::catalog::Stack;
    ///
    /// let stack = Stack { cublas: "13.1.0".to_owned() };
    /// assert!(Catalogs::default().of_stack(Hardware::H200, &stack).is_some());
    /// ```
    #[must_use]
    pub fn of_stack(&self, hardware: Hardware, stack: &Stack) -> Option<&TargetCatalogs> {
        self.0.targets.get(&hardware)?.get(stack).map(Arc::as_ref)
    }

    /// All of them, by hardware and library version.
    ///
    /// ```
    /// use mantissa_engine::Catalogs;
    ///
    /// assert_eq!(Catalogs::default().ids().count(), 4);
    /// ```
    pub fn ids(&self) -> impl Iterator<Item = &CatalogId> {
        self.0.targets.values().flatten().flat_map(|(_, known)| known.ids())
    }

    /// The hardware that has a built-in catalog of this GPU: heuristics take account of its multiprocessors and
    /// clusters.
    ///
    /// ```
    /// use mantissa_engine::{Catalogs, Hardware};
    ///
    /// let catalogs = Catalogs::default();
    /// let origin = catalogs.of(Hardware::H100).expect("a built-in catalog").origin();
    /// assert_eq!(catalogs.hardware_of(origin), Some(Hardware::H100));
    /// ```
    #[must_use]
    pub fn hardware_of(&self, origin: &Origin) -> Option<Hardware> {
        let same = |known: &Origin| known.is_die_of(origin);
        let of =
            |stacks: &BTreeMap<Stack, Arc<TargetCatalogs>>| stacks.values().any(|known| same(known.origin()));
        self.0.targets.iter().find(|(_, stacks)| of(stacks)).map(|(hardware, _)| *hardware)
    }
}

#[cfg(test)]
mod tests;
