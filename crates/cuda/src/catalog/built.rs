//! What came of a measurement.

use std::collections::BTreeSet;

use mantissa_engine::catalog::{Batched, Catalog};
use mantissa_numerics::Dtype;

/// What came of a measurement.
///
/// Example: [`super::build`].
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    /// Recipes that gave every output.
    pub catalog: Catalog,
    /// Shapes that none gave, in words.
    pub unexplained: Vec<String>,
    /// Of the linear products without a bias: how often cuBLASLt's heuristic names as many parts as were found.
    pub heuristic: [usize; 2],
    /// Random numbers of rows for which the heuristic named other parts than those asked before and after them.
    pub surprises: usize,
    /// Products of attention for which what the library launches is forgotten: one had other sums.
    pub misnamed: BTreeSet<(Dtype, Batched)>,
    /// Of attention's products: how many had the sums of the kernel that the library launches, and how many were
    /// compared with these.
    pub launched: [usize; 2],
}
