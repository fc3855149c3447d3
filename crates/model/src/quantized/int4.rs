//! What the two layouts of four-bit integers share: groups of 128 inputs, eight values to a word.

use super::parts::Matrix;

/// Inputs that share a scale.
pub(super) const GROUP: usize = 128;
/// Values of a 32-bit word.
pub(super) const NIBBLES: usize = 8;

/// One group of every output: integers, zero points and scales of inputs `first..first + GROUP`.
pub(super) struct Grid {
    /// Integers 0 to 15. *Shape:* inputs × outputs.
    pub(super) integers: Vec<u8>,
    /// Zero point of each output, 0 to 15.
    pub(super) zeros: Vec<u8>,
    /// Scale of each output, in the matrix's dtype.
    pub(super) scales: Vec<f32>,
}

impl Grid {
    /// Quantizes a group by the scale and zero point that `choose` names for its 128 values.
    ///
    /// *Rounding:* `q = clamp(round(w / s) + z, 0, 15)` in binary32, `round` to nearest, ties to even.
    pub(super) fn new(matrix: &Matrix<'_>, group: usize, choose: impl Fn(&[f32]) -> (f32, u8)) -> Self {
        let (rows, first) = (matrix.rows, group * GROUP);
        let (mut integers, mut zeros, mut scales) = (vec![0; GROUP * rows], Vec::new(), Vec::new());
        let mut values = [0.0_f32; GROUP];
        for row in 0..rows {
            for (input, value) in values.iter_mut().enumerate() {
                *value = (matrix.at)(row * matrix.cols + first + input);
            }
            let (scale, zero) = choose(&values);
            for (input, value) in values.iter().enumerate() {
                let steps = (value / scale).round_ties_even() + f32::from(zero);
                integers[input * rows + row] = integer(steps);
            }
            zeros.push(zero);
            scales.push(scale);
        }
        Self { integers, zeros, scales }
    }

    /// The scales as stored.
    pub(super) fn scale_bytes(&self, matrix: &Matrix<'_>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.scales.len() * matrix.dtype.size());
        for &scale in &self.scales {
            matrix.dtype.encode(scale, &mut bytes);
        }
        bytes
    }
}

/// `x` as an integer of four bits, clamped.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0 to 15")]
pub(super) fn integer(x: f32) -> u8 {
    x.clamp(0.0, 15.0) as u8
}

/// A word of eight values: nibble `i` (from the low end) holds value `order[i]`.
pub(super) fn word(order: [usize; NIBBLES], value: impl Fn(usize) -> u8) -> [u8; 4] {
    let nibbles = order.iter().rev().fold(0_u32, |word, &i| word << 4 | u32::from(value(i)));
    nibbles.to_le_bytes()
}

/// Nibble `nibble` of word `index` of `bytes`.
#[inline]
pub(super) fn nibble(bytes: &[u8], index: usize, nibble: usize) -> u8 {
    bytes[4 * index + nibble / 2] >> (4 * (nibble % 2)) & 15
}
