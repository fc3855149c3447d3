//! How much a page shows; what is cut stands whole in the JSON.

/// Cells of matrices and maps of a page, at most.
pub(super) const CELLS: usize = 3_600;
/// Charts of lines, at most.
pub(super) const CHARTS: usize = 10;
