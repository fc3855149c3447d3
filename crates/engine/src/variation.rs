//! Variations: a pass with one thing done otherwise than the model says, to try what another program may have done.

use std::borrow::Cow;

use crate::rope::RopeTable;

/// Which angle a row is turned by.
///
/// Example: [`Engine::vary`](crate::Engine::vary).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Angle {
    /// That of its own position.
    #[default]
    Own,
    /// That of a position so many further on; before the first, the other way round.
    Moved(i64),
    /// None.
    Zero,
}

/// What is done otherwise in every block.
///
/// Example: [`Engine::vary`](crate::Engine::vary).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Variation {
    /// Rotary embeddings.
    pub angle: Angle,
    /// Leaves out every bias of a product.
    pub without_biases: bool,
}

impl Variation {
    /// Cosines, then sines, of a row.
    pub(crate) fn turn(self, table: &RopeTable, position: usize) -> Cow<'_, [f32]> {
        let by = match self.angle {
            Angle::Own => return Cow::Borrowed(table.position(position)),
            Angle::Moved(by) => isize::try_from(by).unwrap_or(0),
            Angle::Zero => return Cow::Borrowed(table.position(0)),
        };
        if let Some(moved) = position.checked_add_signed(by) {
            return Cow::Borrowed(table.position(moved));
        }
        let mut turned = table.position(by.unsigned_abs() - position).to_vec();
        let half = turned.len() / 2;
        turned[half..].iter_mut().for_each(|sine| *sine = -*sine);
        Cow::Owned(turned)
    }

    /// A bias, or zeros.
    pub(crate) fn bias(self, bias: &[f32]) -> Cow<'_, [f32]> {
        if self.without_biases { Cow::Owned(vec![0.0; bias.len()]) } else { Cow::Borrowed(bias) }
    }
}
