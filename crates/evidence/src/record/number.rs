//! One number of a row, from JSON's spelling to the nearest binary32.
//!
//! Values are decoded as [`number`] meets them; nothing here looks for the ends of rows.

/// Powers of ten that binary64 holds exactly.
const EXACT: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// The number of JSON's grammar that begins at `start`, and where it ends; `None` when there is none or it is too large
/// for binary32.
///
/// *Rounding*: to nearest, ties to even, once, whatever the number of digits.
pub(super) fn number(text: &[u8], start: usize) -> Option<(f32, usize)> {
    let negative = text.get(start) == Some(&b'-');
    let mut at = start + usize::from(negative);
    let mut digits = Digits { value: 0, dropped: false };
    let mut exponent = 0_i64;
    if text.get(at) == Some(&b'0') {
        at += 1;
    } else {
        let first = at;
        at = digits.take(text, at);
        if at == first {
            return None;
        }
    }
    if text.get(at) == Some(&b'.') {
        let first = at + 1;
        at = digits.take(text, first);
        if at == first {
            return None;
        }
        exponent = -i64::try_from(at - first).ok()?;
    }
    if let Some(b'e' | b'E') = text.get(at) {
        at += 1;
        let sign = text.get(at).copied();
        at += usize::from(matches!(sign, Some(b'+' | b'-')));
        let mut power = Digits { value: 0, dropped: false };
        let first = at;
        at = power.take(text, at);
        if at == first {
            return None;
        }
        let power = i64::try_from(power.value).unwrap_or(i64::MAX);
        exponent =
            if sign == Some(b'-') { exponent.saturating_sub(power) } else { exponent.saturating_add(power) };
    }
    let magnitude = if digits.dropped { None } else { nearest(digits.value, exponent) };
    let value = match magnitude {
        Some(magnitude) if negative => -magnitude,
        Some(magnitude) => magnitude,
        None => std::str::from_utf8(&text[start..at]).ok()?.parse().ok()?,
    };
    value.is_finite().then_some((value, at))
}

/// Decimal digits as an integer, as far as 64 bits hold them.
struct Digits {
    value: u64,
    dropped: bool,
}

impl Digits {
    /// Appends the digits from `at` on; returns where they end.
    fn take(&mut self, text: &[u8], mut at: usize) -> usize {
        while self.value < 100_000_000_000
            && let Some(&eight) = text.get(at..).and_then(|rest| rest.first_chunk())
        {
            let (value, count) = leading_digits(eight);
            self.value = self.value * POWERS[count] + value;
            at += count;
            if count < 8 {
                return at;
            }
        }
        while let Some(&digit @ b'0'..=b'9') = text.get(at) {
            if self.value < 1_000_000_000_000_000_000 {
                self.value = self.value * 10 + u64::from(digit - b'0');
            } else {
                self.dropped = true;
            }
            at += 1;
        }
        at
    }
}

const POWERS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// The value of the digits at the front of eight bytes, and how many they are, without a branch on either.
///
/// *Source*: D. Lemire, "Quickly parsing eight digits" (2018): pairs, then fours, then eights, by multiplication. The
/// first byte that is no digit has its top bit set in one of the two sums; digits before it neither carry nor borrow.
fn leading_digits(text: [u8; 8]) -> (u64, usize) {
    let word = u64::from_le_bytes(text);
    let above_nine = word.wrapping_add(0x4646_4646_4646_4646);
    let below_zero = word.wrapping_sub(0x3030_3030_3030_3030);
    let foreign = (above_nine | below_zero) & 0x8080_8080_8080_8080;
    let count = foreign.trailing_zeros() / 8;
    // Zeros in front of the digits; a shift by 64 leaves none of them.
    let digits = below_zero.checked_shl(64 - 8 * count).unwrap_or(0);
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_ffff_0000_ffff;
    (fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xffff_ffff, count as usize)
}

/// `digits · 10^exponent` rounded once to binary32, where binary64 arithmetic can tell; `None` where it cannot.
///
/// Up to three roundings in binary64 move the value by less than four units in its last place. Unless the result lies
/// within eight of a tie between two neighbouring binary32 numbers, both round to the same of them.
fn nearest(digits: u64, exponent: i64) -> Option<f32> {
    const MARGIN: u64 = 8;
    const TIE: u64 = 1 << 28;
    if digits == 0 {
        return Some(0.0);
    }
    #[expect(clippy::cast_precision_loss, reason = "one of the roundings")]
    let whole = digits as f64;
    let power = usize::try_from(exponent.unsigned_abs()).ok().filter(|power| *power <= 44)?;
    let scaled = |value: f64, power: f64| if exponent < 0 { value / power } else { value * power };
    let value = scaled(whole, EXACT[power.min(22)]);
    let value = if power > 22 { scaled(value, EXACT[power - 22]) } else { value };
    let below = value.to_bits() & ((1 << 29) - 1);
    if below.abs_diff(TIE) <= MARGIN
        || value < f64::from(f32::MIN_POSITIVE) * 2.0
        || value >= f64::from(f32::MAX)
    {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the rounding that was asked for")]
    Some(value as f32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bits(text: &str) -> Option<u32> {
        number(text.as_bytes(), 0).filter(|(_, end)| *end == text.len()).map(|(value, _)| value.to_bits())
    }

    #[test]
    fn only_the_grammar_of_json_is_read() {
        for wrong in [
            "",
            "-",
            "+1",
            ".5",
            "1.",
            "01",
            "-01",
            "1e",
            "1e+",
            "1.e5",
            "0x1",
            "inf",
            "NaN",
            "1_0",
            "--1",
            "1e40",
            "-1e39",
            "3.4028236e38",
            "1e99999999999999999999999",
        ] {
            assert_eq!(bits(wrong), None, "{wrong}");
        }
        for (text, value) in [
            ("0", 0.0_f32),
            ("-0", -0.0),
            ("-0.0e5", -0.0),
            ("16777217", 16_777_216.0),
            ("16777219", 16_777_220.0),
            ("1e-45", f32::from_bits(1)),
            ("0e99999999999999999999", 0.0),
            ("1e-99999999999999999999", 0.0),
            ("3.4028235e38", f32::MAX),
            ("1.17549435e-38", f32::MIN_POSITIVE),
            ("7.038531e-26", 7.038_531e-26),
            ("0.000000000000000000000000000000000000000000001", f32::from_bits(1)),
        ] {
            assert_eq!(bits(text), Some(value.to_bits()), "{text}");
        }
    }

    /// Ties and their neighbours, exactly between two binary32 numbers, one digit above and one below.
    #[test]
    fn ties_are_rounded_once() {
        for pattern in (0x3f80_0000..0x3f80_0100).chain(0x0100_0000..0x0100_0020) {
            let [below, above] = [pattern, pattern + 1].map(|bits| f64::from(f32::from_bits(bits)));
            let tie = f64::midpoint(below, above);
            let exact = format!("{tie:.200}");
            let exact = exact.trim_end_matches('0');
            let up = format!("{exact}1");
            let short = format!("{tie:e}");
            for text in [exact, &up, &short] {
                assert_eq!(bits(text), text.parse::<f32>().ok().map(f32::to_bits), "{text}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn numbers_round_as_the_standard_library_rounds(
            pattern in any::<u32>(), digits in any::<u64>(), whole in 0_u32..20, places in 0_usize..25, power in -60_i32..45
        ) {
            let digits = digits.checked_shr(whole).unwrap_or(0);
            let value = f32::from_bits(pattern);
            let texts = [
                value.to_string(), format!("{value:e}"), f64::from(value).to_string(), format!("{value:.places$}"),
                format!("{value:.places$e}"), format!("{digits}e{power}"), format!("-0.{digits}"),
                format!("{}.{digits}e{power}", whole % 10),
            ];
            for text in texts {
                let expected = text.parse::<f32>().ok().filter(|value| value.is_finite());
                prop_assert_eq!(bits(&text), expected.map(f32::to_bits), "{}", text);
            }
        }
    }
}
