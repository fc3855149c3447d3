//! A recipe with the catalog it is from, and what a prediction rests on.

use std::collections::BTreeMap;
use std::fmt;

use mantissa_numerics::setup::{Basis, Hardware};
use serde::{Deserialize, Serialize};

use crate::catalog::Stack;

/// Which catalog, by content.
///
/// Example: [`super::TargetCatalogs::ids`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CatalogId {
    /// Whose recipes it holds.
    pub hardware: Hardware,
    /// The libraries that pick them.
    pub stack: Stack,
    /// What those of its recipes rest on that were compared: [`Basis::Verified`] if it is part of the program,
    /// [`Basis::Measured`] if it is a file.
    pub basis: Basis,
    /// blake3 of its text.
    pub digest: String,
}

impl fmt::Display for CatalogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hardware, stack, basis, digest } = self;
        let whose =
            if *basis == Basis::Verified { "the built-in catalog" } else { "another catalog that was given" };
        write!(f, "{whose} ({} with {stack}, blake3 {digest})", hardware.name())
    }
}

/// A recipe, and what it rests on.
///
/// Example: [`Source::basis`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry<'c, R> {
    /// The recipe.
    pub recipe: R,
    /// Where it is from.
    pub source: Source<'c>,
}

/// Where a recipe is from.
///
/// Example: [`Source::basis`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source<'c> {
    /// The catalog that has it.
    pub catalog: &'c CatalogId,
    /// Whether the library's heuristic was asked for it, and nothing compared at that size.
    pub asked: bool,
}

impl Source<'_> {
    /// What the recipe rests on.
    ///
    /// ```
    /// use mantissa_engine::Catalogs;
    /// use mantissa_engine::catalog::Linear;
    /// use mantissa_engine::{Basis, Hardware};
    /// use mantissa_numerics::Dtype;
    ///
    /// let catalogs = Catalogs::default();
    /// let known = catalogs.of(Hardware::H200).expect("a built-in catalog");
    /// let shape = Linear { n: 128, k: 2048, bias: false, dtype: Dtype::Bf16 };
    /// assert_eq!(known.linear(shape, 1).expect("a measured shape").source.basis(), Basis::Verified);
    ///
    /// // On an H100 the heuristic was asked for more than products were compared.
    /// let known = catalogs.of(Hardware::H100).expect("a built-in catalog");
    /// let shape = Linear { n: 4096, k: 14336, ..shape };
    /// assert_eq!(known.linear(shape, 200).expect("a shape asked for").source.basis(), Basis::Asked);
    /// ```
    #[must_use]
    pub fn basis(&self) -> Basis {
        if self.asked { self.catalog.basis.max(Basis::Asked) } else { self.catalog.basis }
    }
}

/// What a prediction rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogUse {
    /// The weakest basis of what was used.
    pub basis: Basis,
    /// The catalogs whose recipes were used, each with whether some of these were only asked for.
    pub catalogs: BTreeMap<CatalogId, bool>,
}

impl CatalogUse {
    /// What a prediction of `hardware` rests on before any catalog is asked.
    ///
    /// ```
    /// use mantissa_engine::catalogs::CatalogUse;
    /// use mantissa_engine::{Basis, Hardware};
    ///
    /// assert_eq!(CatalogUse::new(Hardware::A100).basis, Basis::Literature);
    /// ```
    #[must_use]
    pub const fn new(hardware: Hardware) -> Self {
        Self { basis: hardware.basis(), catalogs: BTreeMap::new() }
    }

    /// Adds catalogs whose recipes are used.
    pub(crate) fn add<'c>(&mut self, sources: impl IntoIterator<Item = Source<'c>>) {
        for source in sources {
            self.basis = self.basis.max(source.basis());
            match self.catalogs.get_mut(source.catalog) {
                Some(asked) => *asked |= source.asked,
                None => _ = self.catalogs.insert(source.catalog.clone(), source.asked),
            }
        }
    }

    /// Adds what another part of the same prediction rests on.
    ///
    /// ```
    /// use mantissa_engine::catalogs::CatalogUse;
    /// use mantissa_engine::{Basis, Hardware};
    ///
    /// let mut all = CatalogUse::new(Hardware::H200);
    /// all.join(CatalogUse::new(Hardware::A100));
    /// assert_eq!(all.basis, Basis::Literature);
    /// ```
    pub fn join(&mut self, other: Self) {
        self.basis = self.basis.max(other.basis);
        for (catalog, asked) in other.catalogs {
            *self.catalogs.entry(catalog).or_default() |= asked;
        }
    }
}
