//! How far a row of numbers reaches: the first pass over a file looks at every byte of every row here.
//!
//! Only classes of bytes are told apart; whether they spell numbers is for [`super::number`].

/// What was seen of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Seen {
    /// Bytes before the first that cannot belong to a row: `]`, where the row is sound.
    pub(super) bytes: usize,
    /// Commas among them.
    pub(super) commas: usize,
    /// Whether a letter other than an exponent's or a backslash is among them.
    pub(super) words: bool,
}

/// Looks at `text` up to the first byte that is not one of numbers, commas, blanks, words or backslashes.
pub(super) fn row(text: &[u8]) -> Seen {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, the only thing the function asks for.
        return unsafe { avx2::row(text) };
    }
    bytewise(text, Seen::default())
}

/// Class of a byte: 0 cannot belong to a row, 1 is of a number, a comma or blank, 2 is of a word.
const fn class(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' | b'+' | b'-' | b'.' | b',' | b'e' | b'E' | b' ' | b'\t' | b'\n' | b'\r' => 1,
        b'n' | b'u' | b'l' | b'N' | b'a' | b'I' | b'i' | b'f' | b't' | b'y' | b'\\' => 2,
        _ => 0,
    }
}

/// The reading of the definition, and the end of what vectors leave over.
fn bytewise(text: &[u8], mut seen: Seen) -> Seen {
    for &byte in &text[seen.bytes..] {
        match class(byte) {
            0 => break,
            1 => seen.commas += usize::from(byte == b','),
            _ => seen.words = true,
        }
        seen.bytes += 1;
    }
    seen
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256i, _mm256_and_si256, _mm256_andnot_si256, _mm256_cmpeq_epi8, _mm256_cmpgt_epi8,
        _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8, _mm256_setzero_si256,
        _mm256_shuffle_epi8, _mm256_srli_epi16,
    };

    use super::{Seen, bytewise, class};

    const LANES: usize = 32;

    /// For each low half of a byte, one bit per high half that makes a byte of a row; twice, for both halves of a
    /// vector.
    const LOW: [u8; LANES] = {
        let mut table = [0; LANES];
        let mut byte = 0_usize;
        while byte < 128 {
            #[expect(clippy::cast_possible_truncation, reason = "below 128")]
            if class(byte as u8) != 0 {
                table[byte & 15] |= 1 << (byte >> 4);
                table[(byte & 15) + 16] |= 1 << (byte >> 4);
            }
            byte += 1;
        }
        table
    };

    /// The bit of each high half; bytes from 128 have none.
    const HIGH: [u8; LANES] = [
        1, 2, 4, 8, 16, 32, 64, 128, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 0, 0, 0, 0, 0, 0,
        0, 0,
    ];

    #[target_feature(enable = "avx2")]
    #[expect(clippy::cast_ptr_alignment, reason = "the load asks for none")]
    pub(super) fn row(text: &[u8]) -> Seen {
        let load = |bytes: &[u8; LANES]| {
            // SAFETY: the array has the 32 bytes that are read, and the load asks for no alignment.
            unsafe { _mm256_loadu_si256(bytes.as_ptr().cast::<__m256i>()) }
        };
        let (low, high) = (load(&LOW), load(&HIGH));
        let half = _mm256_set1_epi8(15);
        let mut words = _mm256_setzero_si256();
        let mut seen = Seen::default();
        let (vectors, _) = text.as_chunks::<LANES>();
        for vector in vectors {
            let bytes = load(vector);
            let by_low = _mm256_shuffle_epi8(low, _mm256_and_si256(bytes, half));
            let by_high = _mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), half));
            let foreign = _mm256_cmpeq_epi8(_mm256_and_si256(by_low, by_high), _mm256_setzero_si256());
            if _mm256_movemask_epi8(foreign) != 0 {
                break;
            }
            let commas = _mm256_movemask_epi8(_mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(b','.cast_signed())));
            let letters = _mm256_cmpgt_epi8(bytes, _mm256_set1_epi8(b'9'.cast_signed()));
            let lower = _mm256_or_si256(bytes, _mm256_set1_epi8(0x20));
            let exponents = _mm256_cmpeq_epi8(lower, _mm256_set1_epi8(b'e'.cast_signed()));
            words = _mm256_or_si256(words, _mm256_andnot_si256(exponents, letters));
            seen.commas += commas.count_ones() as usize;
            seen.bytes += LANES;
        }
        seen.words = _mm256_movemask_epi8(words) != 0;
        bytewise(text, seen)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_byte_at_every_place_is_classed_alike() {
        for place in 0..70 {
            for byte in 0..=255 {
                let mut text =
                    *b"-0.123456789e-05, 7,\t\n+1E5,\r 12.5, -0.123456789e-05, 7,\t\n+1E5,\r 12.5, ";
                text[place] = byte;
                assert_eq!(row(&text), bytewise(&text, Seen::default()), "{byte:#x} at {place}");
            }
        }
        let seen = row(b"1, null, -2]");
        assert_eq!(seen, Seen { bytes: 11, commas: 2, words: true });
    }

    proptest! {
        #[test]
        fn vectors_see_what_bytes_see(text in "[0-9, .eE+nul-]{0,200}[]\"a-z/]?[ -~]{0,100}") {
            prop_assert_eq!(row(text.as_bytes()), bytewise(text.as_bytes(), Seen::default()));
        }
    }
}
