//! GPTQ's first layout: integers of 4 bits around a zero point of 8, in groups along the inputs.
//!
//! `qweight` is inputs / 8 × outputs, eight inputs to a word, the first in its low nibble; `qzeros` groups × outputs /
//! 8, eight outputs to a word, each zero point less one; `scales` groups × outputs; `g_idx` the group of each input.
//! *Source:* GPTQModel 7.3 (`checkpoint_format: gptq`), vLLM 0.24 `auto_gptq.py`. Left out: the second-order rounding
//! that gave the format its name, and `desc_act` when weights are made (it is read).

use mantissa_numerics::Dtype;

use super::int4::{GROUP, Grid, NIBBLES, nibble, word};
use super::parts::{Made, Matrix, Packed, Part, largest, safetensors_name};

/// Zero point of symmetric weights.
const ZERO: u8 = 8;
/// A byte of two zero points of 8, each less one.
pub(super) const ZEROS_OF_EIGHT: u8 = 0x77;
/// Values stand in a word in their own order.
const ORDER: [usize; NIBBLES] = [0, 1, 2, 3, 4, 5, 6, 7];

pub(super) fn parts(rows: usize, cols: usize, dtype: Dtype) -> Vec<Part> {
    let groups = cols / GROUP;
    vec![
        Part::new("qweight", "I32", &[cols / NIBBLES, rows]),
        Part::new("qzeros", "I32", &[groups, rows / NIBBLES]),
        Part::new("scales", safetensors_name(dtype), &[groups, rows]),
        Part::new("g_idx", "I32", &[cols]),
    ]
}

/// Scale of a group.
///
/// *Rounding:* `s = 2 · max|w| / 15` in binary32, rounded once to `dtype`; 1 for a group of zeros.
fn scale(values: &[f32], dtype: Dtype) -> f32 {
    let scale = dtype.round(2.0 * largest(values.iter().copied()) / 15.0);
    if scale > 0.0 { scale } else { 1.0 }
}

/// The bytes of one group of inputs.
pub(super) fn unit(matrix: &Matrix<'_>, group: usize) -> Vec<Made> {
    let rows = matrix.rows;
    let grid = Grid::new(matrix, group, |values| (scale(values, matrix.dtype), ZERO));
    let eights = grid.integers.chunks_exact(NIBBLES * rows);
    let integers = eights
        .flat_map(|eight| (0..rows).flat_map(move |row| word(ORDER, |i| eight[i * rows + row])))
        .collect();
    let zeros = grid.zeros.chunks_exact(NIBBLES).flat_map(|eight| word(ORDER, |i| eight[i] - 1)).collect();
    let number = u32::try_from(group).unwrap_or(u32::MAX);
    vec![
        Made { part: 0, at: group * GROUP / NIBBLES * rows * 4, bytes: integers },
        Made { part: 1, at: group * rows / NIBBLES * 4, bytes: zeros },
        Made { part: 2, at: group * rows * matrix.dtype.size(), bytes: grid.scale_bytes(matrix) },
        Made { part: 3, at: group * GROUP * 4, bytes: number.to_le_bytes().repeat(GROUP) },
    ]
}

/// The group of input `col`.
pub(super) fn group_of(packed: &Packed<'_>, col: usize) -> usize {
    let bytes = packed.parts[3][4 * col..].first_chunk::<4>();
    bytes.and_then(|bytes| usize::try_from(u32::from_le_bytes(*bytes)).ok()).unwrap_or(usize::MAX)
}

/// The integer of output `row` and input `col`.
#[inline]
pub(super) fn integer_at(packed: &Packed<'_>, row: usize, col: usize) -> u8 {
    nibble(packed.parts[0], col / NIBBLES * packed.rows + row, col % NIBBLES)
}

/// What `table` has for the integers of output `row` and inputs from `first` on.
pub(super) fn looked_up(packed: &Packed<'_>, row: usize, first: usize, table: &[f32; 16], out: &mut [f32]) {
    for (col, out) in (first..).zip(out) {
        *out = table[usize::from(integer_at(packed, row, col))];
    }
}

/// The element of output `row` and input `col`, with scales of `dtype`.
///
/// *Rounding:* `round((q − (z + 1)) · s)`, `z` as stored: difference and product are exact, one rounding to `dtype`.
pub(super) fn value(packed: &Packed<'_>, dtype: Dtype, row: usize, col: usize) -> f32 {
    let group = group_of(packed, col);
    let q = integer_at(packed, row, col);
    let z = nibble(packed.parts[1], group * (packed.rows / NIBBLES) + row / NIBBLES, row % NIBBLES) + 1;
    let s = dtype.decode(packed.parts[2], group * packed.rows + row);
    dtype.round((f32::from(q) - f32::from(z)) * s)
}
