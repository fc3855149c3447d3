//! The shape of a pass: what dispatch is asked by.

use mantissa_numerics::site::Phase;

/// The shape of one pass, as dispatch sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PassShape {
    /// Prefill or decode.
    pub phase: Phase,
    /// Sequences of the batch.
    pub batch_size: usize,
    /// Positions of each that the pass feeds: 1 in decode.
    pub positions: usize,
    /// Positions cached after it.
    pub keys: usize,
}

impl PassShape {
    /// The pass over the whole of a prompt.
    ///
    /// ```
    /// let shape = mantissa_engine::plan::PassShape::prefill(4, 512);
    /// assert_eq!((shape.rows(), shape.keys), (2048, 512));
    /// ```
    #[must_use]
    pub const fn prefill(batch_size: usize, positions: usize) -> Self {
        Self { phase: Phase::Prefill, batch_size, positions, keys: positions }
    }

    /// The step that feeds the last of `keys` positions.
    #[must_use]
    pub const fn decode(batch_size: usize, keys: usize) -> Self {
        Self { phase: Phase::Decode, batch_size, positions: 1, keys }
    }

    /// Rows of the pass.
    #[must_use]
    pub const fn rows(self) -> usize {
        self.batch_size * self.positions
    }
}
