//! Seeded numbers: the same seed gives the same numbers on every machine and in every version.
//!
//! Own code of thirty lines instead of a crate, because a crate may change its algorithm between versions and an old
//! report must stay reproducible. Left out: cryptography.

/// xoshiro256++, its state filled by SplitMix64.
///
/// *Source:* Blackman & Vigna, "Scrambled linear pseudorandom number generators", ACM TOMS 47(4), 2021, and their
/// reference C code; SplitMix64: Steele, Lea & Flood, OOPSLA 2014.
///
/// ```
/// use mantissa_verdict::stats::Random;
///
/// // What a report drew once, it draws anywhere and in every version.
/// let mut random = Random::new(7);
/// assert_eq!([random.bits(), random.bits()], [0x0e2c_1a00_2aae_913d, 0x2c0f_c8dd_fa4e_9e14]);
/// ```
#[derive(Debug, Clone)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    /// The generator of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut counter = seed;
        Self { state: std::array::from_fn(|_| split_mix(&mut counter)) }
    }

    /// The next 64 bits.
    pub const fn bits(&mut self) -> u64 {
        let [s0, s1, s2, s3] = &mut self.state;
        let result = s0.wrapping_add(*s3).rotate_left(23).wrapping_add(*s0);
        let shifted = *s1 << 17;
        *s2 ^= *s0;
        *s3 ^= *s1;
        *s1 ^= *s2;
        *s0 ^= *s3;
        *s2 ^= shifted;
        *s3 = s3.rotate_left(45);
        result
    }

    /// A whole number from 0 to `limit` − 1, each equally likely; 0 for `limit` 0.
    ///
    /// *Source:* Lemire, "Fast random integer generation in an interval", ACM TOMACS 29(1), 2019.
    pub fn below(&mut self, limit: usize) -> usize {
        let limit = limit as u64;
        if limit == 0 {
            return 0;
        }
        let rejected_below = limit.wrapping_neg() % limit;
        loop {
            let product = u128::from(self.bits()) * u128::from(limit);
            #[expect(clippy::cast_possible_truncation, reason = "the low half is what decides rejection")]
            let low = product as u64;
            if low >= rejected_below {
                return usize::try_from(product >> 64).unwrap_or_default();
            }
        }
    }

    /// A number in [0, 1), a multiple of 2⁻⁵³.
    pub fn unit(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit a binary64")]
        let bits = (self.bits() >> 11) as f64;
        bits * (f64::EPSILON / 2.0)
    }
}

/// A seed made from content, for example the digests of the files analyzed and the name of the question.
///
/// *Source:* FNV-1a, 64 bits (Fowler, Noll & Vo), over the parts' bytes, each part followed by a byte 0xFF,
/// which no UTF-8 text contains.
///
/// ```
/// use mantissa_verdict::stats::seed_of;
///
/// // The empty text's seed is FNV's offset, and where a part ends counts.
/// assert_eq!(seed_of(&[]), 0xcbf2_9ce4_8422_2325);
/// assert_ne!(seed_of(&["a", "b"]), seed_of(&["ab"]));
/// ```
#[must_use]
pub fn seed_of(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0xFF]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

const fn split_mix(counter: &mut u64) -> u64 {
    *counter = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *counter;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::{Random, seed_of, split_mix};

    /// As printed by the authors' C code for seed 1234567 and for state 1, 2, 3, 4.
    #[test]
    fn the_bits_are_the_reference_ones() {
        let mut counter = 1_234_567;
        assert_eq!(split_mix(&mut counter), 6_457_827_717_110_365_317);
        assert_eq!(split_mix(&mut counter), 3_203_168_211_198_807_973);
        let mut random = Random { state: [1, 2, 3, 4] };
        let first: [u64; 6] = std::array::from_fn(|_| random.bits());
        let printed = [
            41_943_041,
            58_720_359,
            3_588_806_011_781_223,
            3_591_011_842_654_386,
            9_228_616_714_210_784_205,
            9_973_669_472_204_895_162,
        ];
        assert_eq!(first, printed);
    }

    #[test]
    fn small_ranges_are_uniform() {
        let mut random = Random::new(1);
        let mut counts = [0_i64; 7];
        for _ in 0..70_000 {
            counts[random.below(7)] += 1;
        }
        // Six standard deviations of a count are 556.
        assert!(counts.iter().all(|count| (count - 10_000).abs() < 556), "{counts:?}");
        assert_eq!(random.below(0), 0);
    }

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(seed_of(&["ab", "c"]), seed_of(&["a", "bc"]));
        assert_eq!(seed_of(&[]), 0xcbf2_9ce4_8422_2325);
    }
}
