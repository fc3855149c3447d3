//! Distance in units in the last place: how many representable values lie between two.

use crate::Dtype;

/// A distance counted in representable values of one storage format.
///
/// Example: [`ulps`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ulps(pub u32);

/// Distance between two bit patterns of `dtype`, or `None` when either is a NaN.
///
/// The values of a format are laid on a line in numeric order with `-0` and `+0` on one point, and the
/// distance is the number of steps between them; infinities are one step beyond the largest finite value.
/// *Source:* the ordering argument of Bruce Dawson, "Comparing floating point numbers" (2012 edition).
///
/// ```
/// use mantissa_numerics::{Dtype, Ulps, ulp::ulps};
/// let next = 1.0 + f32::EPSILON;
/// assert_eq!(ulps(Dtype::F32, 1.0_f32.to_bits(), next.to_bits()), Some(Ulps(1)));
/// // bf16: the smallest numbers of either sign are two steps apart, for both zeros are one point.
/// assert_eq!(ulps(Dtype::Bf16, 0x8001, 0x0001), Some(Ulps(2)));
/// assert_eq!(ulps(Dtype::Bf16, 0x7FC0, 0x7FC0), None, "a NaN is no distance from itself");
/// ```
#[must_use]
pub fn ulps(dtype: Dtype, a: u32, b: u32) -> Option<Ulps> {
    Some(Ulps(line(dtype, a)?.abs_diff(line(dtype, b)?)))
}

/// Position of a bit pattern on the number line of its format; `None` for a NaN.
fn line(dtype: Dtype, bits: u32) -> Option<i32> {
    let (sign, infinity) = match dtype {
        Dtype::F32 => (0x8000_0000, 0x7f80_0000),
        Dtype::Bf16 => (0x8000, 0x7f80),
        Dtype::F16 => (0x8000, 0x7c00),
    };
    let magnitude = bits & (sign - 1);
    if magnitude > infinity {
        return None;
    }
    let magnitude = i32::try_from(magnitude).ok()?;
    Some(if bits & sign == 0 { magnitude } else { -magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn neighbours_are_one_apart_over_all_bf16() {
        for bits in 0..0x7f80_u32 {
            assert_eq!(ulps(Dtype::Bf16, bits, bits + 1), Some(Ulps(1)));
        }
        assert_eq!(ulps(Dtype::Bf16, 0x8000, 0x0000), Some(Ulps(0)));
        assert_eq!(ulps(Dtype::Bf16, 0x8001, 0x0001), Some(Ulps(2)));
        assert_eq!(ulps(Dtype::Bf16, 0x7f81, 0), None);
    }

    proptest! {
        #[test]
        fn triangle(a in any::<u32>(), b in any::<u32>(), c in any::<u32>()) {
            if let (Some(ab), Some(bc), Some(ac)) =
                (ulps(Dtype::F32, a, b), ulps(Dtype::F32, b, c), ulps(Dtype::F32, a, c)) {
                prop_assert!(u64::from(ac.0) <= u64::from(ab.0) + u64::from(bc.0));
            }
        }
    }
}
