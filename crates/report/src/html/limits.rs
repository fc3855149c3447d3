//! How much a page shows; what is cut stands whole in the JSON.

use crate::words;

/// Cells of matrices and maps of a page, at most.
pub(super) const CELLS: usize = 3_600;
/// Charts of lines, at most.
pub(super) const CHARTS: usize = 10;

/// What a page does not show all of.
pub(super) struct Cut {
    what: String,
    shown: usize,
    of: usize,
}

impl Cut {
    /// Absent where all is shown.
    pub(super) fn of(what: impl Into<String>, shown: usize, of: usize) -> Option<Self> {
        (shown < of).then(|| Self { what: what.into(), shown, of })
    }

    /// What, how many of how many, and where the rest is.
    pub(super) fn said(&self, whole: &str) -> String {
        let [shown, of] = [self.shown, self.of].map(|count| words::count(count as u64));
        format!("{shown} of {of} {} are shown; all are in {whole}.", self.what)
    }
}
