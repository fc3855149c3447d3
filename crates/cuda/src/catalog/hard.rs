//! Numbers that are hard to sum: another order of sums leaves another result.

use std::sync::Arc;

use mantissa_numerics::Dtype;
use mantissa_numerics::tensor_core::dot::LANES;

/// Bits of one.
pub(super) const ONE: u32 = 0x3F80_0000;

/// Outputs compared at each end of a row.
pub(super) const COLUMNS: usize = LANES;

/// A generator of 64 bits (splitmix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap_or(0)
    }
}

/// A row that is hard to sum, as bits: two of three elements come in pairs of 2^17 to 2^24 that cancel, the others are
/// about 1. Of f16, which has no such numbers, all are 2^9 times smaller.
pub(super) fn hard(random: &mut Random, dtype: Dtype, length: usize) -> Vec<u32> {
    let mut order: Vec<usize> = (0..length).collect();
    for i in (1..length).rev() {
        order.swap(i, random.below(i + 1));
    }
    // Bits of the fraction, and the exponent of one.
    let (fraction, one) = match dtype {
        Dtype::F32 => (0x007F_FFFF, 127),
        Dtype::Bf16 => (0x007F_0000, 127),
        Dtype::F16 => (0x007F_E000, 127 - 9),
    };
    let mut number = |largest: u32, lowest: u32| {
        let [high, low] = [random.next(), random.next()].map(|bits| (bits >> 32) as u32);
        let exponent = lowest + low % (largest - lowest + 1);
        high & (0x8000_0000 | fraction) | exponent << 23
    };
    let mut row = vec![0; length];
    let (paired, single) = order.split_at(length / 3 * 2);
    for pair in paired.chunks_exact(2) {
        row[pair[0]] = number(one + 24, one + 17);
        row[pair[1]] = row[pair[0]] ^ 0x8000_0000;
    }
    for at in single {
        row[*at] = number(one, one - 2);
    }
    row
}

pub(super) fn shared(rows: impl Iterator<Item = Vec<u32>>) -> Vec<Arc<[u32]>> {
    rows.map(Arc::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is sent to the device is what the recipes sum: nothing is rounded, infinite or subnormal.
    #[test]
    fn hard_numbers_are_of_their_format() {
        let mut random = Random(5);
        for dtype in Dtype::ALL {
            let row = hard(&mut random, dtype, 3000);
            let numbers: Vec<f32> = row.iter().map(|bits| f32::from_bits(*bits)).collect();
            assert!(
                numbers.iter().all(|x| x.is_finite() && dtype.round(*x).to_bits() == x.to_bits()),
                "{dtype}"
            );
            let magnitudes = numbers.iter().map(|x| x.abs());
            let (largest, least) = (magnitudes.clone().fold(0.0, f32::max), magnitudes.fold(1e9, f32::min));
            // As far apart as in binary32, so that sums lose as much.
            assert!(
                (2.0_f32.powi(25)..2.0_f32.powi(27)).contains(&(largest / least)),
                "{dtype}: {largest} {least}"
            );
            assert!(dtype != Dtype::F16 || (32_768.0..=65_504.0).contains(&largest));
        }
    }
}
