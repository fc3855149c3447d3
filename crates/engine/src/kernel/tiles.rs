//! Tiles of keys and values of one KV head, and the two products of flash attention with them, by steps of a tensor
//! core.
//!
//! Left out: the softmax between the products, and which tile comes when.

use std::ops::Range;

use mantissa_numerics::tensor_core::BlockRecipe;
use mantissa_numerics::tensor_core::dot::{Instructions, LANES, Panel, Row};

use super::heads::Heads;
use super::matrix::Matrix;
use super::tensor_core::bytes;

/// A query and how many keys it sees, from the first on.
pub(super) type Query<'a> = (&'a [f32], usize);

/// Keys and values of one KV head.
#[derive(Clone, Copy)]
pub(super) struct Cached<'a> {
    keys: Matrix<'a>,
    values: Matrix<'a>,
    pub dim: usize,
    pub scale: f32,
}

impl<'a> Cached<'a> {
    pub(super) fn new(heads: Heads, [keys, values]: [Matrix<'a>; 2]) -> Self {
        Self { keys, values, dim: heads.dim, scale: heads.scale }
    }

    /// Scores of `rows` with the `tile` keys from `from` on, of which those from `seen` on are nobody's; −∞ for keys
    /// beyond a row's limit. *Shape:* returns `rows × tile`.
    pub(super) fn scores(
        self,
        instructions: Instructions,
        block: BlockRecipe,
        [from, tile, seen]: [usize; 3],
        rows: &[Row],
        limits: &[usize],
        panel: &mut Panel,
    ) -> Vec<f32> {
        let mut scores = vec![f32::NEG_INFINITY; rows.len() * tile];
        let mut products = vec![[0.0; LANES]; rows.len()];
        for at in (from..seen.min(from + tile)).step_by(LANES) {
            let lanes = LANES.min(self.keys.rows - at);
            let keys: Vec<&[u8]> = (at..at + lanes).map(|key| bytes(self.keys, key, 0..self.dim)).collect();
            panel.fill_rows(instructions, block, &keys);
            products.fill([0.0; LANES]);
            block.dots_of_rows(instructions, rows, 0, panel, &mut products);
            for (r, products) in products.iter().enumerate() {
                let lanes = limits[r].saturating_sub(at).min(LANES);
                scores[r * tile + at - from..][..lanes].copy_from_slice(&products[..lanes]);
            }
        }
        scores
    }

    /// Adds the product of `weights` with some columns of the values from `from` on to `sums`. Beyond the last value
    /// are zeros.
    #[expect(clippy::too_many_arguments, reason = "how, where, and what")]
    pub(super) fn weigh(
        self,
        instructions: Instructions,
        block: BlockRecipe,
        [from, count]: [usize; 2],
        columns: Range<usize>,
        weights: &[Row],
        panel: &mut Panel,
        sums: &mut [[f32; LANES]],
    ) {
        let lanes = columns.len();
        panel.fill_columns(instructions, block, lanes, count, |k| {
            if from + k < self.values.rows {
                bytes(self.values, from + k, columns.clone())
            } else {
                &[0; 2 * LANES][..2 * lanes]
            }
        });
        block.dots_of_rows(instructions, weights, 0, panel, sums);
    }
}
