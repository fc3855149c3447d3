//! The shape of a pass: what dispatch is asked by.

use mantissa_numerics::site::Phase;

/// The shape of one pass, as dispatch sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PassShape {
    /// Prefill or decode.
    pub phase: Phase,
    /// Sequences of the batch.
    pub batch_size: usize,
    /// Positions of each that the pass feeds, padding among them: 1 in decode.
    pub positions: usize,
    /// Positions cached after it, padding among them.
    pub keys: usize,
    /// Whether a mask hides padding of a sequence.
    pub padded: bool,
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
        Self { phase: Phase::Prefill, batch_size, positions, keys: positions, padded: false }
    }

    /// The step that feeds the last of `keys` positions.
    #[must_use]
    pub const fn decode(batch_size: usize, keys: usize) -> Self {
        Self { phase: Phase::Decode, batch_size, positions: 1, keys, padded: false }
    }

    /// The same pass over a batch of which a sequence is padded: `positions` more positions in all.
    ///
    /// ```
    /// use mantissa_engine::plan::PassShape;
    ///
    /// let padded = PassShape::prefill(4, 500).beside(12);
    /// assert_eq!((padded.rows(), padded.keys, padded.padded), (2048, 512, true));
    /// assert_eq!(PassShape::decode(4, 501).beside(12).rows(), 4);
    /// ```
    #[must_use]
    pub const fn beside(self, positions: usize) -> Self {
        let fed = match self.phase {
            Phase::Prefill => self.positions + positions,
            Phase::Decode => self.positions,
        };
        let padded = self.padded || positions > 0;
        Self { positions: fed, keys: self.keys + positions, padded, ..self }
    }

    /// Rows of the pass.
    #[must_use]
    pub const fn rows(self) -> usize {
        self.batch_size * self.positions
    }
}
