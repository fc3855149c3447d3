//! Which experts the rows of a pass are sent to, and where each row stands among rows sorted by expert.

use std::ops::Range;

/// An expert and its part of the rows that are sorted by expert.
pub(super) type ExpertRows = (usize, Range<usize>);

/// Rows sorted by expert.
pub(super) struct Routing {
    /// Expert and weight of each slot, row by row.
    pub(super) slots: Vec<(usize, f32)>,
    /// Slots sorted by run of rows, then expert.
    pub(super) order: Vec<usize>,
    /// Where each slot stands in `order`.
    pub(super) place: Vec<usize>,
    /// Runs of `order` by run of rows: the rows, and each expert's part.
    pub(super) groups: Vec<(Range<usize>, Vec<ExpertRows>)>,
    pub(super) top: usize,
    /// Whether weights stay in binary32.
    pub(super) wide: bool,
}

impl Routing {
    pub(super) fn new(top: usize) -> Self {
        Self { slots: Vec::new(), order: Vec::new(), place: Vec::new(), groups: Vec::new(), top, wide: false }
    }

    /// Of one row, from its table ([`Self::table`]).
    pub(super) fn of_row(top: usize, table: &[f32]) -> Self {
        let mut found = Self::new(top);
        found.groups.push((0..1, Vec::new()));
        found.replace(table);
        found
    }

    /// Adds the slots of the next run of rows.
    pub(super) fn add(&mut self, rows: Range<usize>, slots: Vec<(usize, f32)>) {
        let first = self.slots.len();
        let mut order: Vec<usize> = (first..first + slots.len()).collect();
        order.sort_by_key(|slot| slots[slot - first].0);
        let mut experts: Vec<ExpertRows> = Vec::new();
        for (i, slot) in order.iter().enumerate() {
            let (expert, at) = (slots[slot - first].0, first + i);
            match experts.last_mut() {
                Some((last, range)) if *last == expert => range.end = at + 1,
                _ => experts.push((expert, at..at + 1)),
            }
        }
        self.place.resize(first + slots.len(), 0);
        for (i, slot) in order.iter().enumerate() {
            self.place[*slot] = first + i;
        }
        self.order.extend(order);
        self.slots.extend(slots);
        self.groups.push((rows, experts));
    }

    /// Puts the experts and weights of `table`, as [`Self::table`] gives them, in place of those chosen.
    pub(super) fn replace(&mut self, table: &[f32]) {
        let groups = std::mem::take(&mut self.groups);
        let top = self.top;
        *self = Self { wide: self.wide, ..Self::new(top) };
        for (rows, _) in groups {
            let part = &table[rows.start * 2 * top..rows.end * 2 * top];
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "numbers of experts")]
            let slots = part
                .chunks_exact(2 * top.max(1))
                .flat_map(|row| (0..top).map(|slot| (row[slot] as usize, row[top + slot])));
            self.add(rows, slots.collect());
        }
    }

    /// Experts, then weights, of each row.
    pub(super) fn table(&self) -> Vec<f32> {
        #[expect(clippy::cast_precision_loss, reason = "expert ids are small")]
        let expert = |(expert, _): &(usize, f32)| *expert as f32;
        let rows = self.slots.chunks_exact(self.top.max(1));
        rows.flat_map(|row| row.iter().map(expert).chain(row.iter().map(|(_, weight)| *weight))).collect()
    }
}
