//! Blocks in plain Rust, written as the vectors run them.

use super::operands::{LANES, Parts, ZERO, halves};

/// See [`Parts`].
pub(super) fn run<const PAIRS: usize, const ROWS: usize>(
    rows: &[Parts<'_, u32, u32>; ROWS],
    panel: &Parts<'_, [u32; LANES], [u32; LANES]>,
    fraction_bits: u8,
    sums: &mut [[f32; LANES]; ROWS],
) -> [u16; ROWS] {
    let mut lost = [0; ROWS];
    for ((row, sums), lost) in rows.iter().zip(sums).zip(&mut lost) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            for at in 0..panel.signs.len() {
                let Some(value) = block::<PAIRS>(row, panel, at, lane, fraction_bits, *sum) else {
                    *lost |= 1 << lane;
                    break;
                };
                *sum = value;
            }
        }
    }
    lost
}

/// Block `at` of one lane; `None` where the result is below the normal numbers.
fn block<const PAIRS: usize>(
    row: &Parts<'_, u32, u32>,
    panel: &Parts<'_, [u32; LANES], [u32; LANES]>,
    at: usize,
    lane: usize,
    fraction_bits: u8,
    sum: f32,
) -> Option<f32> {
    let bits = sum.to_bits();
    let biased = (bits >> 23 & 255).cast_signed();
    let significand = (bits & 0x7F_FFFF | u32::from(biased != 0) << 23).cast_signed();
    let exponent = if significand == 0 { 2 * i32::from(ZERO) } else { biased.max(1) - 127 };
    let mut largest = exponent;
    let mut exponents = [[0; 2]; PAIRS];
    for (i, both) in exponents.iter_mut().enumerate() {
        let at = at * PAIRS + i;
        let (row, panel) = (halves(row.exponents[at]), halves(panel.exponents[at][lane]));
        *both = [row[0] + panel[0], row[1] + panel[1]];
        largest = largest.max(both[0]).max(both[1]);
    }
    let old = i64::from((significand << (u32::from(fraction_bits) - 23)) >> (largest - exponent).min(31));
    let mut total = if bits >> 31 == 1 { -old } else { old };
    for (i, both) in exponents.iter().enumerate() {
        for (half, exponent) in both.iter().enumerate() {
            let k = 2 * (at * PAIRS + i) + half;
            let (row, panel) = (halves(row.elements[k]), halves(panel.elements[k][lane]));
            let twice = row[0] * panel[0] + row[1] * panel[1];
            total += i64::from(twice >> (largest - exponent + 1).min(31));
        }
    }
    total += i64::from((row.signs[at] ^ panel.signs[at][lane]).count_ones());
    if total == 0 {
        return Some(0.0);
    }
    let magnitude = total.unsigned_abs();
    let leading = magnitude.ilog2();
    let power = leading.cast_signed() + largest - i32::from(fraction_bits);
    if power < -126 {
        return None;
    }
    let fraction = if leading >= 23 { magnitude >> (leading - 23) } else { magnitude << (23 - leading) };
    #[expect(clippy::cast_possible_truncation, reason = "24 bits")]
    let fraction = fraction as u32 & 0x7F_FFFF;
    Some(f32::from_bits(u32::from(total < 0) << 31 | (power + 127).cast_unsigned() << 23 | fraction))
}
