//! How far two rows of the same format are apart: the readable reference, and what it adds up to.
//!
//! Element `k` of a row goes to lane `k mod 16`; each lane adds its elements in order, in binary64, and the lanes are
//! joined by a tree (8 + 8, 4 + 4, 2 + 2, 1 + 1). [`fast`] does the same sixteen lanes at a time and gives the same
//! bits. Left out: which rows may be compared.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod fast;

use mantissa_numerics::Dtype;

use crate::facts::Distance;

/// Lanes of every sum.
pub(crate) const LANES: usize = 16;

/// Sums over pairs of values: of a row, or of rows in order.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Sums {
    /// Pairs.
    pub(crate) values: u64,
    /// Pairs whose bits differ.
    pub(crate) different: u64,
    /// Pairs with a NaN or an infinity, which the sums below leave out.
    pub(crate) left_out: u64,
    /// Of those, pairs whose bits differ.
    pub(crate) non_finite: u64,
    /// Of those, pairs with a NaN.
    pub(crate) with_nan: u64,
    /// Largest distance in representable values over pairs without a NaN.
    pub(crate) max_ulps: u32,
    /// Of squared differences.
    pub(crate) squares: f64,
    /// Of absolute differences.
    pub(crate) absolute: f64,
    /// Largest absolute difference.
    pub(crate) max_abs: f64,
    /// Of squares of the first side.
    pub(crate) norm_a: f64,
    /// Of squares of the second side.
    pub(crate) norm_b: f64,
    /// Of products.
    pub(crate) dot: f64,
}

impl Sums {
    /// Adds those of the next row.
    pub(crate) fn add(&mut self, row: &Self) {
        self.values += row.values;
        self.different += row.different;
        self.left_out += row.left_out;
        self.non_finite += row.non_finite;
        self.with_nan += row.with_nan;
        self.max_ulps = self.max_ulps.max(row.max_ulps);
        self.squares += row.squares;
        self.absolute += row.absolute;
        self.max_abs = self.max_abs.max(row.max_abs);
        self.norm_a += row.norm_a;
        self.norm_b += row.norm_b;
        self.dot += row.dot;
    }

    pub(crate) fn distance(&self) -> Distance {
        let finite = self.values - self.left_out;
        // What is left of a row beside a NaN or an infinity says nothing about the row.
        let known = |x: f64| (finite > 0 && self.non_finite == 0).then_some(x);
        let l2 = self.squares.sqrt();
        // The square root of a square is exact, so equal rows have a cosine of exactly 1.
        let norms = (self.norm_a * self.norm_b).sqrt();
        Distance {
            values: self.values,
            different: self.different,
            non_finite: self.non_finite,
            max_ulps: (self.with_nan == 0).then_some(self.max_ulps),
            l2: known(l2),
            max_abs: known(self.max_abs),
            mean_abs: known(self.absolute / count(finite)),
            relative: known(l2 / self.norm_a.sqrt()).filter(|_| self.norm_a > 0.0),
            cosine: known((self.dot / norms).clamp(-1.0, 1.0)).filter(|_| norms > 0.0),
        }
    }
}

/// A count as a divisor.
pub(crate) fn count(n: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "no record holds 2^53 values")]
    let n = n as f64;
    n
}

/// Sums over two rows of `dtype`, little-endian, of one length that is a multiple of the format's size.
///
/// *Rounding:* see [`Distance`]. The bits do not depend on the machine.
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

/// Joins lanes by a tree.
fn join(mut lanes: [f64; LANES]) -> f64 {
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0]
}

#[cfg(test)]
mod tests;
