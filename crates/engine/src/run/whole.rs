//! Rows through the whole model: the blocks, then the head.

use super::expert_blocks;
use super::last_block::last_block;
use super::runner::Runner;
use super::values::Input;
use crate::backend::Backend;
use crate::cache::KvCache;
use crate::pass::{Pass, Place, Selection};
use crate::perturbation::Hooks;
use crate::pool::Buffer;

impl<'r, B: Backend> Runner<'r, '_, B> {
    /// Rows through the whole model. Returns the logits of those from place `first` on.
    ///
    /// *Shape:* returns `(rows − first) × vocabulary`.
    pub(crate) fn logits(
        &self,
        pass: &Pass<'_>,
        caches: &mut [KvCache],
        ids: &[u32],
        first: usize,
        hooks: &mut Hooks<'_>,
    ) -> Buffer<'r> {
        let (kept, x) = self.body(pass, caches, ids, first, hooks);
        if kept.places.is_empty() {
            return self.pool.buffer(0);
        }
        self.head(&kept.pass(pass), x, hooks)
    }

    /// Rows through all blocks. Returns those from place `first` on, and what the blocks leave of them; none where
    /// something was found that no recipe covers.
    ///
    /// The last block computes keys and values of every row, and the rest of the rows that are read: those from
    /// `first` on and those that `taps` reads.
    ///
    /// *Shape:* returns `(rows − first) × hidden`.
    pub(crate) fn body(
        &self,
        pass: &Pass<'_>,
        caches: &mut [KvCache],
        ids: &[u32],
        first: usize,
        hooks: &mut Hooks<'_>,
    ) -> (Selection, Buffer<'r>) {
        let nothing = || (Selection::of(pass, |_| false), self.pool.buffer(0));
        let mut x = self.section(&self.graph.stem, Place::Stem, pass, caches, Input::Tokens(ids), hooks);
        let blocks = || self.graph.blocks.iter().enumerate();
        for (layer, kind) in blocks().take(blocks().len().saturating_sub(1)) {
            let place = Place::Block { layer, kind: *kind };
            x = self.section(&self.graph.kinds[*kind], place, pass, caches, Input::Rows(x), hooks);
            if self.has_refused() {
                return nothing();
            }
        }
        let mut places: Vec<usize> = (0..pass.rows.len()).collect();
        if let Some((layer, kind)) = blocks().next_back() {
            let (section, place) = (&self.graph.kinds[*kind], Place::Block { layer, kind: *kind });
            let tapped =
                section.nodes.iter().any(|node| place.site(node).is_some_and(|site| hooks.taps.wants(site)));
            let read = |row: usize| row >= first || tapped && hooks.taps.wants_row(pass.rows[row]);
            let whole = hooks.perturbation.is_some() || expert_blocks::asked(place, pass);
            let read = Selection::of(pass, |row| whole || read(row));
            if read.places.len() < places.len() {
                let (at, mut input) = (self.at(section, place), Some(Input::Rows(x)));
                x = last_block(section, pass, &read, self.pool, |nodes, pass, values| {
                    self.nodes(at, nodes, pass, caches, values, &mut input, hooks);
                });
                places = read.places;
            } else {
                x = self.section(section, place, pass, caches, Input::Rows(x), hooks);
            }
        }
        let kept = Selection::of(pass, |row| row >= first);
        if kept.places.is_empty() {
            return nothing();
        }
        let before = places.len() - kept.places.len();
        if before > 0 {
            let width = self.graph.head.nodes[0].width;
            let mut last = self.pool.buffer(kept.places.len() * width);
            last.copy_from_slice(&x[before * width..]);
            x = last;
        }
        (kept, x)
    }

    /// What the blocks leave of some rows through the head. Returns their logits.
    ///
    /// *Shape:* `x` is `rows × hidden`; returns `rows × vocabulary`.
    pub(crate) fn head(&self, pass: &Pass<'_>, x: Buffer<'r>, hooks: &mut Hooks<'_>) -> Buffer<'r> {
        self.section(&self.graph.head, Place::Head, pass, &mut [], Input::Rows(x), hooks)
    }
}
