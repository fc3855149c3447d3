//! Catalogs that a prediction of a GPU used, as evidence states them.
//!
//! Left out: what is in a catalog (`mantissa-engine`).

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Digest;

/// A catalog whose recipes were used: another one may leave other bits.
///
/// ```
/// use mantissa_evidence::{CatalogBasis, Digest, UsedCatalog};
///
/// let used = UsedCatalog {
///     hardware: "h200".to_owned(),
///     cublas: "13.1.0".to_owned(),
///     basis: CatalogBasis::Measured,
///     asked: false,
///     digest: Digest::of_bytes(b"the text of the file"),
/// };
/// let said = used.to_string();
/// assert!(said.starts_with("catalog of h200 with cuBLAS 13.1.0, blake3 "), "{said}");
/// assert!(said.ends_with(", measured by its user"), "{said}");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UsedCatalog {
    /// Whose recipes it holds.
    pub hardware: String,
    /// The version of cuBLAS that it was measured with.
    pub cublas: String,
    /// What its recipes rest on.
    pub basis: CatalogBasis,
    /// Whether of some products the order of the sum is what the library itself names (the split of its heuristic, the
    /// kernel that it would launch): compared at other sizes, not at theirs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asked: bool,
    /// blake3 of its text.
    pub digest: Digest,
}

/// What the recipes of a catalog rest on.
///
/// Example: [`UsedCatalog`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CatalogBasis {
    /// It is part of Mantissa: each recipe was compared with the hardware.
    Verified,
    /// A file of the user's own: nobody else compared it.
    Measured,
}

impl fmt::Display for UsedCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hardware, cublas, basis, asked, digest } = self;
        let basis = match basis {
            CatalogBasis::Verified => "part of Mantissa",
            CatalogBasis::Measured => "measured by its user",
        };
        write!(f, "catalog of {hardware} with cuBLAS {cublas}, blake3 {digest}, {basis}")?;
        if *asked { f.write_str(", with orders of sums that cuBLAS itself names") } else { Ok(()) }
    }
}
