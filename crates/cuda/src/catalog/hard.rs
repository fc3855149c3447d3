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
/// about 1.
pub(super) fn hard(random: &mut Random, dtype: Dtype, length: usize) -> Vec<u32> {
    let mut order: Vec<usize> = (0..length).collect();
    for i in (1..length).rev() {
        order.swap(i, random.below(i + 1));
    }
    let fraction = if dtype == Dtype::F32 { 0x007F_FFFF } else { 0x007F_0000 };
    let mut number = |largest: u32, lowest: u32| {
        let [high, low] = [random.next(), random.next()].map(|bits| (bits >> 32) as u32);
        let exponent = lowest + low % (largest - lowest + 1);
        high & (0x8000_0000 | fraction) | exponent << 23
    };
    let mut row = vec![0; length];
    let (paired, single) = order.split_at(length / 3 * 2);
    for pair in paired.chunks_exact(2) {
        row[pair[0]] = number(127 + 24, 127 + 17);
        row[pair[1]] = row[pair[0]] ^ 0x8000_0000;
    }
    for at in single {
        row[*at] = number(127, 125);
    }
    row
}

pub(super) fn shared(rows: impl Iterator<Item = Vec<u32>>) -> Vec<Arc<[u32]>> {
    rows.map(Arc::from).collect()
}
