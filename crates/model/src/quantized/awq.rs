//! AutoAWQ's `gemm` layout: integers of 4 bits with a zero point, in groups along the inputs.
//!
//! `qweight` is inputs × outputs / 8, `qzeros` groups × outputs / 8, `scales` groups × outputs. Nibble `i` of a word,
//! counted from its low end, holds output `8 · column + ORDER[i]`. *Source:* AutoAWQ 0.2 `WQLinear_GEMM`, vLLM 0.24
//! `auto_awq.py` (which undoes it by 0 4 1 5 2 6 3 7). Left out: the search for scales that gave the format its name.

use mantissa_numerics::Dtype;

use super::int4::{GROUP, Grid, NIBBLES, integer, nibble, word};
use super::parts::{Made, Matrix, Packed, Part, safetensors_name};

/// Output of each nibble of a word.
const ORDER: [usize; NIBBLES] = [0, 2, 4, 6, 1, 3, 5, 7];
/// Nibble of each output of a word: [`ORDER`] undone.
const NIBBLE_OF: [usize; NIBBLES] = [0, 4, 1, 5, 2, 6, 3, 7];

pub(super) fn parts(rows: usize, cols: usize, dtype: Dtype) -> Vec<Part> {
    let (words, groups) = (rows / NIBBLES, cols / GROUP);
    vec![
        Part::new("qweight", "I32", &[cols, words]),
        Part::new("qzeros", "I32", &[groups, words]),
        Part::new("scales", safetensors_name(dtype), &[groups, rows]),
    ]
}

/// Scale and zero point of a group.
///
/// *Rounding:* `s = (max − min) / 15` in binary32, at least 1e-5, rounded once to `dtype`;
/// `z = clamp(round(−min / s), 0, 15)`, to nearest, ties to even.
fn scale_and_zero(values: &[f32], dtype: Dtype) -> (f32, u8) {
    let (least, most) =
        values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), &x| (a.min(x), b.max(x)));
    let scale = dtype.round(((most - least) / 15.0).max(1e-5));
    (scale, integer((-least / scale).round_ties_even()))
}

/// The bytes of one group of inputs.
pub(super) fn unit(matrix: &Matrix<'_>, group: usize) -> Vec<Made> {
    let (rows, words) = (matrix.rows, matrix.rows / NIBBLES);
    let grid = Grid::new(matrix, group, |values| scale_and_zero(values, matrix.dtype));
    let packed = |values: &[u8]| -> Vec<u8> {
        values.chunks_exact(NIBBLES).flat_map(|eight| word(ORDER, |i| eight[i])).collect()
    };
    vec![
        Made { part: 0, at: group * GROUP * words * 4, bytes: packed(&grid.integers) },
        Made { part: 1, at: group * words * 4, bytes: packed(&grid.zeros) },
        Made { part: 2, at: group * rows * matrix.dtype.size(), bytes: grid.scale_bytes(matrix) },
    ]
}

/// The integer of output `row` and input `col`.
pub(super) fn integer_at(packed: &Packed<'_>, row: usize, col: usize) -> u8 {
    nibble(packed.parts[0], col * (packed.rows / NIBBLES) + row / NIBBLES, NIBBLE_OF[row % NIBBLES])
}

/// What `table` has for the integers of output `row` and inputs from `first` on.
pub(super) fn looked_up(packed: &Packed<'_>, row: usize, first: usize, table: &[f32; 16], out: &mut [f32]) {
    let (words, nibble) = (packed.rows / NIBBLES, NIBBLE_OF[row % NIBBLES]);
    let bytes = &packed.parts[0][4 * (first * words + row / NIBBLES) + nibble / 2..];
    for (out, byte) in out.iter_mut().zip(bytes.iter().step_by(4 * words)) {
        *out = table[usize::from(byte >> (4 * (nibble % 2)) & 15)];
    }
}

/// The zero point of output `row` and input `col`, in groups of `group` inputs.
pub(super) fn zero(packed: &Packed<'_>, group: usize, row: usize, col: usize) -> u8 {
    nibble(packed.parts[1], col / group * (packed.rows / NIBBLES) + row / NIBBLES, NIBBLE_OF[row % NIBBLES])
}

/// The element of output `row` and input `col`, in groups of `group` inputs with scales of `dtype`.
///
/// *Rounding:* `round((q − z) · s)`: the difference is exact, the product of at most 5 + 11 bits too; one rounding to
/// `dtype`.
pub(super) fn value(packed: &Packed<'_>, group: usize, dtype: Dtype, row: usize, col: usize) -> f32 {
    let (q, z) = (integer_at(packed, row, col), zero(packed, group, row, col));
    let s = dtype.decode(packed.parts[2], col / group * packed.rows + row);
    dtype.round((f32::from(q) - f32::from(z)) * s)
}
