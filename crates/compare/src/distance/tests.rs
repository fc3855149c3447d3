//! Laws of distances, and the fast kernel against the reference.

use mantissa_numerics::ulp::{Ulps, ulps};
use proptest::prelude::*;

use super::*;

fn bytes(dtype: Dtype, patterns: impl IntoIterator<Item = u32>) -> Vec<u8> {
    patterns.into_iter().flat_map(|bits| bits.to_le_bytes()[..dtype.size()].to_vec()).collect()
}

/// Bits, since NaN is not equal to itself.
fn exact(sums: &Sums) -> ([u64; 6], [u64; 6]) {
    let s = sums;
    (
        [s.values, s.different, s.left_out, s.non_finite, s.with_nan, u64::from(s.max_ulps)],
        [s.squares, s.absolute, s.max_abs, s.norm_a, s.norm_b, s.dot].map(f64::to_bits),
    )
}

#[track_caller]
fn agree(dtype: Dtype, a: &[u8], b: &[u8]) -> Sums {
    let sums = different(dtype, a, b);
    assert_eq!(exact(&sums), exact(&reference(dtype, a, b)));
    assert_eq!(exact(&fast::of_format(dtype, a, b)), exact(&sums));
    assert_eq!(exact(&equal(dtype, a)), exact(&reference(dtype, a, a)));
    assert_eq!(exact(&fast::same_of_format(dtype, a)), exact(&equal(dtype, a)));
    sums
}

/// Patterns at which a binary32 kernel may go wrong.
const EDGES: [u32; 20] = [
    0,
    0x8000_0000,
    1,
    0x8000_0001,
    0x007f_ffff,
    0x0080_0000,
    0x3f80_0000,
    0xbf80_0000,
    0x3f80_0001,
    0x7f7f_ffff,
    0xff7f_ffff,
    0x7f80_0000,
    0xff80_0000,
    0x7f80_0001,
    0x7fc0_0000,
    0xffc0_0000,
    0xffff_ffff,
    0x0000_8000,
    0x4000_0000,
    0x1234_5678,
];

#[test]
fn every_sixteen_bit_pattern_against_a_plain_formula() {
    for dtype in [Dtype::Bf16, Dtype::F16] {
        let all = bytes(dtype, 0..0x1_0000);
        for anchor in [0_u32, 0x8000, 0x3c00, 0x0001, 0x7bff, 0x7c00, 0x7f80, 0x7fff, 0xbf80] {
            // Element by element, where each sum is one term.
            let one = bytes(dtype, [anchor]);
            for pattern in 0..0x1_0000_u32 {
                let other = bytes(dtype, [pattern]);
                let sums = different(dtype, &one, &other);
                let (x, y) = (f64::from(dtype.decode(&one, 0)), f64::from(dtype.decode(&other, 0)));
                let finite = x.is_finite() && y.is_finite();
                let of = |value: f64| if finite { value.to_bits() } else { 0 };
                assert_eq!(sums.different, u64::from(anchor != pattern));
                assert_eq!(sums.left_out, u64::from(!finite));
                assert_eq!(sums.squares.to_bits(), of((x - y) * (x - y)), "{dtype} {anchor:x} {pattern:x}");
                assert_eq!(sums.max_abs.to_bits(), of((x - y).abs()));
                assert_eq!(sums.norm_b.to_bits(), of(y * y));
                assert_eq!(sums.dot.to_bits(), of(0.0 + x * y));
                let Ulps(apart) = ulps(dtype, anchor, pattern).unwrap_or_default();
                assert_eq!(sums.max_ulps, apart);
            }
            // All at once, through whole blocks.
            agree(dtype, &all, &bytes(dtype, std::iter::repeat_n(anchor, 0x1_0000)));
        }
        agree(dtype, &all, &bytes(dtype, (0..0x1_0000).rev()));
        agree(dtype, &all, &bytes(dtype, (0..0x1_0000_u32).map(|bits| bits ^ 1)));
    }
}

#[test]
fn edges_of_binary32_in_every_pair() {
    for a in EDGES {
        let patterns = |f: &dyn Fn(u32) -> u32| bytes(Dtype::F32, EDGES.iter().map(|&b| f(b)));
        agree(Dtype::F32, &patterns(&|_| a), &patterns(&|b| b));
    }
    let bits = |x: f32, y: f32| agree(Dtype::F32, &x.to_le_bytes(), &y.to_le_bytes()).distance();
    let far = bits(f32::MAX, f32::MIN);
    assert_eq!(far.max_ulps, Some(2 * 0x7f7f_ffff));
    assert_eq!(far.l2, Some(2.0 * f64::from(f32::MAX)), "no overflow in binary64");
    assert_eq!(far.cosine.map(f64::to_bits), Some((-1.0_f64).to_bits()));
    let tiny = bits(f32::from_bits(1), -f32::from_bits(1));
    assert_eq!((tiny.max_ulps, tiny.max_abs > Some(0.0), tiny.l2 > Some(0.0)), (Some(2), true, true));
}

#[test]
fn zeros_infinities_and_nan_have_stated_meaning() {
    let f32s = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let of = |a: &[f32], b: &[f32]| agree(Dtype::F32, &f32s(a), &f32s(b)).distance();
    let zeros = of(&[0.0], &[-0.0]);
    assert_eq!((zeros.different, zeros.max_ulps, zeros.l2), (1, Some(0), Some(0.0)));
    assert_eq!((zeros.relative, zeros.cosine), (None, None), "nothing to be relative to");

    let infinite = of(&[f32::INFINITY, 3.0], &[f32::MAX, 7.0]);
    assert_eq!(
        (infinite.non_finite, infinite.l2, infinite.max_abs),
        (1, None, None),
        "3 and 7 are not the whole"
    );
    assert_eq!((infinite.mean_abs, infinite.relative, infinite.cosine), (None, None, None));
    let one_nan = of(&[f32::NAN, 3.0], &[1.0, 3.0]);
    assert_eq!((one_nan.different, one_nan.l2, one_nan.max_ulps), (1, None, None), "not zero");
    assert!(infinite.max_ulps.is_some_and(|ulps| ulps > 1));
    assert_eq!(of(&[f32::INFINITY], &[f32::MAX]).max_ulps, Some(1));

    // The same infinity, or the same NaN, is equal: left out of sums, and not counted as different.
    let same = of(&[f32::INFINITY, f32::NAN, 1.0], &[f32::INFINITY, f32::NAN, 2.0]);
    assert_eq!((same.values, same.different, same.non_finite), (3, 1, 0));
    assert_eq!((same.l2, same.mean_abs), (Some(1.0), Some(1.0)));

    let other_nan = f32::from_bits(f32::NAN.to_bits() ^ 1);
    let nan = of(&[f32::NAN; 20], &[other_nan; 20]);
    assert_eq!((nan.different, nan.non_finite, nan.max_ulps), (20, 20, None));
    assert_eq!((nan.l2, nan.max_abs, nan.mean_abs), (None, None, None), "not zero");
    assert_eq!((nan.relative, nan.cosine), (None, None));
}

#[test]
fn sums_run_in_sixteen_lanes_joined_by_a_tree() {
    // A large square in lane 0 swallows the ones beside it in its lane, and not those of other lanes.
    let mut values = [1.0_f32; 48];
    values[0] = 1e9;
    let a: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let sums = agree(Dtype::F32, &a, &vec![0; a.len()]);
    let swallowed = 1e18 + 1.0 + 1.0;
    let tree = [3.0_f64; 15];
    // Lane 0 joins lane 8, then 4 (with 12), then 2, then 1.
    let joined = ((swallowed + tree[0]) + 6.0) + 12.0 + 24.0;
    assert_eq!(sums.squares.to_bits(), joined.to_bits());
}

#[test]
fn the_first_element_is_found_wherever_it_is() {
    for dtype in Dtype::ALL {
        for at in [0_usize, 1, 15, 31, 32, 63, 64, 99] {
            let a = vec![0; 100 * dtype.size()];
            let mut b = a.clone();
            b[at * dtype.size() + dtype.size() - 1] = 0x80;
            assert_eq!(first_element(dtype, &a, &b), at as u64);
        }
    }
}

#[test]
fn totals_of_equal_rows_are_exactly_alike() {
    let row = bytes(Dtype::Bf16, (0..1000).map(|i| 0x3f80 + i * 7 % 400));
    let mut total = Sums::default();
    for _ in 0..3 {
        total.add(&equal(Dtype::Bf16, &row));
    }
    let distance = total.distance();
    assert_eq!((distance.values, distance.different, distance.max_ulps), (3000, 0, Some(0)));
    assert_eq!((distance.l2, distance.relative), (Some(0.0), Some(0.0)));
    assert_eq!(distance.cosine.map(f64::to_bits), Some(1.0_f64.to_bits()));
}

proptest! {
    #[test]
    fn the_fast_kernel_gives_the_bits_of_the_reference(
        dtype in prop::sample::select(Dtype::ALL.to_vec()),
        pairs in prop::collection::vec((any::<u32>(), any::<u32>(), 0_u8..6, 0_usize..EDGES.len()), 0..200),
    ) {
        let shift = if dtype == Dtype::F32 { 0 } else { 16 };
        let patterns = pairs.iter().map(|&(x, y, kind, edge)| match kind {
            0 => (x, x),
            1 => (x, x.wrapping_add(1)),
            2 => (x, EDGES[edge] >> shift),
            3 => (EDGES[edge] >> shift, EDGES[(edge + 7) % EDGES.len()] >> shift),
            _ => (x, y),
        });
        let (a, b): (Vec<u32>, Vec<u32>) = patterns.unzip();
        let (a, b) = (bytes(dtype, a), bytes(dtype, b));
        let (ab, ba) = (agree(dtype, &a, &b), agree(dtype, &b, &a));
        // Symmetry, to the bit.
        let (x, y) = (ab.distance(), ba.distance());
        prop_assert_eq!((x.different, x.non_finite, x.max_ulps), (y.different, y.non_finite, y.max_ulps));
        let exact = |of: crate::Distance| [of.l2, of.max_abs, of.mean_abs].map(|of| of.map(f64::to_bits));
        prop_assert_eq!(exact(x), exact(y));
        prop_assert_eq!(x.cosine, y.cosine);
        // Identity: nothing differs between a row and itself.
        let same = different(dtype, &a, &a);
        prop_assert_eq!((same.different, same.max_ulps, same.squares.to_bits()), (0, 0, 0));
        prop_assert_eq!(ab.different == 0, a == b);
        // The mean is no more than the largest.
        if let (Some(l2), Some(largest), Some(mean)) = (x.l2, x.max_abs, x.mean_abs) {
            prop_assert!(l2 >= largest * (1.0 - 1e-12) && mean <= largest * (1.0 + 1e-12));
        }
        prop_assert!(x.non_finite == 0 || [x.l2, x.max_abs, x.mean_abs, x.relative, x.cosine] == [None; 5]);
    }
}
