//! Blocks in plain Rust, written as the vectors run them.

use super::{LANES, View, ZERO};

/// See [`View::run`].
pub(super) fn run<const PAIRS: usize>(view: &View<'_>, fraction_bits: u8, sums: &mut [f32; LANES]) -> u16 {
    let mut lost = 0;
    for (lane, sum) in sums.iter_mut().enumerate() {
        for at in (0..view.even.len()).step_by(PAIRS) {
            let Some(value) = block::<PAIRS>(view, at, lane, fraction_bits, *sum) else {
                lost |= 1 << lane;
                break;
            };
            *sum = value;
        }
    }
    lost
}

const fn halves(pair: u32) -> [i32; 2] {
    [pair.cast_signed() << 16 >> 16, pair.cast_signed() >> 16]
}

/// One block of one lane; `None` where the result is below the normal numbers.
fn block<const PAIRS: usize>(
    view: &View<'_>,
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
        let (row, panel) = (halves(view.row_exponents[at + i]), halves(view.exponents[at + i][lane]));
        *both = [row[0] + panel[0], row[1] + panel[1]];
        largest = largest.max(both[0]).max(both[1]);
    }
    let old = i64::from(shifted(significand << (u32::from(fraction_bits) - 23), largest - exponent));
    let mut total = if bits >> 31 == 1 { -old } else { old };
    for (i, both) in exponents.iter().enumerate() {
        let row = [halves(view.even[at + i])[0], halves(view.odd[at + i])[1]];
        let panel = halves(view.significands[at + i][lane]);
        for half in 0..2 {
            let product = row[half] * panel[half];
            let magnitude = i64::from(shifted(product.abs(), largest - both[half]));
            total += if product < 0 { -magnitude } else { magnitude };
        }
    }
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

const fn shifted(value: i32, by: i32) -> i32 {
    if by > 31 { 0 } else { value >> by }
}
