//! A recipe with the catalog it is from, and what a prediction rests on.

use std::collections::BTreeSet;
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
    /// What its recipes rest on: [`Basis::Verified`] if it is part of the program, [`Basis::Measured`] if it is a file.
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
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry<'c, R> {
    /// The recipe.
    pub recipe: R,
    /// The catalog that has it.
    pub catalog: &'c CatalogId,
}

impl<R> Entry<'_, R> {
    /// What the recipe rests on.
    ///
    /// ```
    /// use mantissa_engine::Catalogs;
    /// use mantissa_engine::catalog::Linear;
    /// use mantissa_engine::{Basis, Hardware};
    ///
    /// let catalogs = Catalogs::default();
    /// let known = catalogs.of(Hardware::H200).expect("a built-in catalog");
    /// let entry = known.linear(Linear { n: 128, k: 2048, bias: false }, 1).expect("a measured shape");
    /// assert_eq!(entry.basis(), Basis::Verified);
    /// ```
    #[must_use]
    pub fn basis(&self) -> Basis {
        self.catalog.basis
    }
}

/// What a prediction rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogUse {
    /// The weakest basis of what was used.
    pub basis: Basis,
    /// The catalogs whose recipes were used.
    pub catalogs: BTreeSet<CatalogId>,
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
        Self { basis: hardware.basis(), catalogs: BTreeSet::new() }
    }

    /// Adds catalogs whose recipes are used.
    pub(crate) fn add<'c>(&mut self, catalogs: impl IntoIterator<Item = &'c CatalogId>) {
        for catalog in catalogs {
            self.basis = self.basis.max(catalog.basis);
            if !self.catalogs.contains(catalog) {
                self.catalogs.insert(catalog.clone());
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
        self.catalogs.extend(other.catalogs);
    }
}
