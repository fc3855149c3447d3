//! Taps: reading a site without changing it.

use mantissa_numerics::Dtype;
use mantissa_numerics::site::{Phase, Site};

/// Which row of a pass a line of a tensor belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowId {
    /// Sequence of the batch, counted from 0.
    pub sequence: usize,
    /// Position in the sequence, counted from 0.
    pub position: usize,
}

/// A tensor at a site, as the pass computed it.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Where.
    pub site: Site,
    /// Kind of pass.
    pub phase: Phase,
    /// What each row is.
    pub rows: &'a [RowId],
    /// Elements of a row.
    pub width: usize,
    /// Format that values are rounded to already: the storage dtype, or binary32 where the model keeps that.
    pub dtype: Dtype,
    /// *Shape:* `rows.len() × width`.
    pub data: &'a [f32],
}

/// Something that reads sites. It gets shared references, so it cannot change what it sees.
pub trait Tap {
    /// Whether [`Tap::tap`] should be called for this site; asked once per site and pass.
    fn wants(&self, site: Site) -> bool;
    /// Reads a site.
    fn tap(&mut self, view: View<'_>);
}

/// Reads nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTap;

impl Tap for NoTap {
    fn wants(&self, _site: Site) -> bool {
        false
    }

    fn tap(&mut self, _view: View<'_>) {}
}
