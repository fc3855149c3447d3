//! How far apart two rows of the same format are: the readable reference, and the sums that it makes.
//!
//! Element `k` of a row goes to lane `k mod 16`; each lane adds its elements in order, in binary64, and the lanes are
//! joined by a tree (8 + 8, 4 + 4, 2 + 2, 1 + 1). [`fast`] does the same sixteen lanes at a time and gives the same
//! bits. Left out: which rows may be compared.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod fast;
mod sums;

use mantissa_numerics::Dtype;

#[cfg(test)]
use sums::{LANES, join};
pub(crate) use sums::{Sums, count};

/// Sums over two rows of `dtype`, little-endian, of one length that is a multiple of the format's size.
///
/// *Rounding:* see [`Distance`](crate::facts::Distance). The bits do not depend on the machine.
pub(crate) fn different(dtype: Dtype, a: &[u8], b: &[u8]) -> Sums {
    fast::different(dtype, a, b)
}

/// What [`different`] gives for a row and itself.
pub(crate) fn equal(dtype: Dtype, row: &[u8]) -> Sums {
    fast::equal(dtype, row)
}

/// The first element whose bits differ.
pub(crate) fn first_element(dtype: Dtype, a: &[u8], b: &[u8]) -> u64 {
    const BLOCK: usize = 64;
    let block = a.chunks(BLOCK).zip(b.chunks(BLOCK)).take_while(|(x, y)| x == y).count() * BLOCK;
    let rest = a.iter().zip(b).skip(block).take_while(|(x, y)| x == y).count();
    ((block + rest) / dtype.size()) as u64
}

/// The reference: one element at a time.
#[cfg(test)]
pub(crate) fn reference(dtype: Dtype, a: &[u8], b: &[u8]) -> Sums {
    use mantissa_numerics::ulp::ulps;

    let mut sums = Sums::default();
    let mut lanes = [[0.0_f64; 5]; LANES];
    let size = dtype.size();
    for (k, (x, y)) in a.chunks_exact(size).zip(b.chunks_exact(size)).enumerate() {
        let (bits_x, bits_y) = (bits(x), bits(y));
        let (x, y) = (f64::from(dtype.decode(x, 0)), f64::from(dtype.decode(y, 0)));
        let differ = u64::from(bits_x != bits_y);
        sums.values += 1;
        sums.different += differ;
        match ulps(dtype, bits_x, bits_y) {
            Some(ulps) => sums.max_ulps = sums.max_ulps.max(ulps.0),
            None => sums.with_nan += differ,
        }
        if !(x.is_finite() && y.is_finite()) {
            sums.left_out += 1;
            sums.non_finite += differ;
            continue;
        }
        let difference = x - y;
        let [squares, absolute, norm_a, norm_b, dot] = &mut lanes[k % LANES];
        *squares += difference * difference;
        *absolute += difference.abs();
        *norm_a += x * x;
        *norm_b += y * y;
        *dot += x * y;
        sums.max_abs = sums.max_abs.max(difference.abs());
    }
    let of = |sum: usize| join(lanes.map(|lane| lane[sum]));
    (sums.squares, sums.absolute) = (of(0), of(1));
    (sums.norm_a, sums.norm_b, sums.dot) = (of(2), of(3), of(4));
    sums
}

/// A little-endian bit pattern of two or four bytes.
#[cfg(test)]
fn bits(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |bits, &byte| bits << 8 | u32::from(byte))
}

#[cfg(test)]
mod tests;
