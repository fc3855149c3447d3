//! One sequence of a batch whose other sequences are not computed.
//!
//! Rows mix nowhere but in attention over their own sequence, so what the others contain cannot reach this one; how many
//! they are does, by dispatch, and dispatch is asked with the whole batch.

use mantissa_numerics::site::Phase;

use super::{Caches, Engine, Pass};
use crate::cache::KvCache;
use crate::error::EngineError;
use crate::tap::{RowId, Tap};

impl Engine<'_> {
    /// Feeds one token to one sequence of a batch of `batch_size` sequences of equal length and returns its logits: those
    /// that [`Engine::decode`] gives for this row, for the price of one row.
    ///
    /// *Shape:* returns `vocab_size`. *Rounding:* every site to the storage dtype, by the recipes that
    /// [`crate::Dispatch`] names for a pass of `batch_size` rows.
    /// *Errors:* a token outside the vocabulary, no room in the cache, a batch of none, a shape that is not covered.
    pub fn decode_row(
        &self,
        cache: &mut KvCache,
        id: u32,
        batch_size: usize,
        taps: &mut dyn Tap,
    ) -> Result<Vec<f32>, EngineError> {
        if batch_size == 0 {
            return Err(EngineError::Batch { tokens: 1, sequences: 0 });
        }
        self.check_room(cache, 1)?;
        self.check_tokens(&[id], cache.len())?;
        let rows = [RowId { sequence: 0, position: cache.len() }];
        self.dispatch.check(self.config, Phase::Decode, batch_size, 1, cache.len() + 1)?;
        let mut pass =
            Pass { phase: Phase::Decode, m: batch_size, rows: &rows, keys: cache.len() + 1, layer: 0 };
        let x = self.blocks(&mut pass, &mut Caches::Decode(std::slice::from_mut(cache)), &[id], taps);
        cache.advance(1);
        Ok(self.head(&pass, &x, taps).to_vec())
    }
}
