//! E4M3 numbers of 8 bits with a binary32 scale for each block of 128 × 128.
//!
//! `weight` is outputs × inputs, `weight_scale_inv` the factor of each block (blocks at an edge may be smaller).
//! *Source:* DeepSeek-V3's checkpoint and transformers 5.17 `finegrained_fp8.py`. Left out: scales of activations,
//! which are computed when the model runs.

use mantissa_numerics::Dtype;

use super::parts::{Made, Matrix, Packed, Part, largest};

/// Outputs and inputs that share a scale.
pub(super) const BLOCK: usize = 128;
/// The largest finite number.
const MOST: f32 = 448.0;

pub(super) fn parts(rows: usize, cols: usize) -> Vec<Part> {
    vec![
        Part::new("weight", "F8_E4M3", &[rows, cols]),
        Part::new("weight_scale_inv", "F32", &[rows.div_ceil(BLOCK), cols.div_ceil(BLOCK)]),
    ]
}

/// Whether an axis of `size` ends within a block that transformers 5.17 would misread: it takes all blocks for equally
/// long.
pub(super) fn is_torn(size: usize) -> bool {
    size > BLOCK && !size.is_multiple_of(BLOCK)
}

/// The bytes of one band of 128 outputs.
///
/// *Rounding:* `s = max|w| / 448` of the block in binary32 (1 for a block of zeros), `q = e4m3(w / s)`, to nearest,
/// ties to even.
pub(super) fn unit(matrix: &Matrix<'_>, band: usize) -> Vec<Made> {
    let (cols, first) = (matrix.cols, band * BLOCK);
    let rows = BLOCK.min(matrix.rows - first);
    let (mut bytes, mut scales) = (vec![0; rows * cols], Vec::new());
    for left in (0..cols).step_by(BLOCK) {
        let width = BLOCK.min(cols - left);
        let at = |row: usize, col: usize| (matrix.at)((first + row) * cols + left + col);
        let most = largest((0..rows).flat_map(|row| (0..width).map(move |col| at(row, col))));
        let scale = if most > 0.0 { most / MOST } else { 1.0 };
        for row in 0..rows {
            for col in 0..width {
                bytes[row * cols + left + col] = encode(at(row, col) / scale);
            }
        }
        scales.extend(scale.to_le_bytes());
    }
    let width = scales.len();
    vec![Made { part: 0, at: first * cols, bytes }, Made { part: 1, at: band * width, bytes: scales }]
}

/// The element of output `row` and input `col`, in blocks of `block` (outputs, inputs) with scales of `scales`.
///
/// *Rounding:* `round(q · s)`: a binary32 product, then one rounding to `dtype`.
pub(super) fn value(
    packed: &Packed<'_>,
    block: [usize; 2],
    scales: Dtype,
    dtype: Dtype,
    row: usize,
    col: usize,
) -> f32 {
    let q = decode(packed.parts[0][row * packed.cols + col]);
    let across = packed.cols.div_ceil(block[1]);
    dtype.round(q * scales.decode(packed.parts[1], row / block[0] * across + col / block[1]))
}

/// `x` as E4M3 (4 bits of exponent around 7, 3 of fraction, no infinity).
///
/// *Rounding:* to nearest, ties to even, with gradual underflow; what lies beyond 448 becomes 448.
pub(super) fn encode(x: f32) -> u8 {
    let sign = if x.is_sign_negative() { 0x80 } else { 0 };
    let size = x.abs().min(MOST);
    // The unit in the last place of three fraction bits: 2⁻⁹ below 2⁻⁶, then 2^(exponent − 3).
    let exponent = if size < 0.015_625 { -6 } else { exponent_of(size) };
    let unit = 2.0_f32.powi(exponent - 3);
    let steps = integer((size / unit).round_ties_even());
    // Eight steps of a unit are the next exponent's first: the sum carries by itself.
    let biased = u8::try_from(exponent + 6).unwrap_or(0);
    sign | (8 * biased + steps)
}

/// The exponent of a normal number.
fn exponent_of(x: f32) -> i32 {
    i32::try_from(x.to_bits() >> 23).unwrap_or(0) - 127
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number of at most 16")]
fn integer(x: f32) -> u8 {
    x as u8
}

/// The number that `bits` is in E4M3.
///
/// *Rounding:* exact.
pub(super) fn decode(bits: u8) -> f32 {
    let (exponent, fraction) = (i32::from(bits >> 3 & 15), f32::from(bits & 7));
    let size = match (exponent, bits & 7) {
        (15, 7) => f32::NAN,
        (0, _) => fraction * 2.0_f32.powi(-9),
        _ => (8.0 + fraction) * 2.0_f32.powi(exponent - 10),
    };
    if bits & 0x80 == 0 { size } else { -size }
}
