//! Block-quantized weight layouts of GGUF and the exact value of every element in them.
//!
//! Left out: choosing quantized values (Mantissa reads quantized weights, it does not make them outside tests)
//! and fast kernels (engine; each is compared with [`BlockFormat::dequantize`] bit for bit).

use half::f16;
use serde::{Deserialize, Serialize};

/// A block-quantized layout of GGUF.
///
/// ```
/// use mantissa_numerics::BlockFormat;
/// // The scale, 0.5 as f16; then sixteen bytes that hold element i in the low and i + 16 in the high nibble.
/// let block = [&[0x00, 0x38][..], &[0xF0; 16]].concat();
/// let mut values = [0.0; 32];
/// BlockFormat::Q4_0.dequantize(&block, &mut values);
/// assert_eq!((values[0], values[16]), (-4.0, 3.5)); // 0.5 · (0 − 8) and 0.5 · (15 − 8)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum BlockFormat {
    /// 32 signed bytes with one scale.
    #[serde(rename = "q8_0")]
    Q8_0,
    /// 32 nibbles around 8 with one scale.
    #[serde(rename = "q4_0")]
    Q4_0,
    /// 32 nibbles with scale and minimum.
    #[serde(rename = "q4_1")]
    Q4_1,
    /// 256 nibbles in eight groups with six-bit scales and minima.
    #[serde(rename = "q4_k")]
    Q4K,
    /// 256 six-bit values in sixteen groups with eight-bit scales.
    #[serde(rename = "q6_k")]
    Q6K,
}

impl BlockFormat {
    /// Every block format, in the order documentation lists them.
    pub const ALL: [Self; 5] = [Self::Q8_0, Self::Q4_0, Self::Q4_1, Self::Q4K, Self::Q6K];

    /// Elements of one block.
    #[must_use]
    pub const fn block_len(self) -> usize {
        match self {
            Self::Q8_0 | Self::Q4_0 | Self::Q4_1 => 32,
            Self::Q4K | Self::Q6K => 256,
        }
    }

    /// Bytes of one block.
    #[must_use]
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::Q8_0 => 2 + 32,
            Self::Q4_0 => 2 + 16,
            Self::Q4_1 => 2 + 2 + 16,
            Self::Q4K => 2 + 2 + 12 + 128,
            Self::Q6K => 128 + 64 + 16 + 2,
        }
    }

    /// The name used in flags and files: `q8_0`, `q4_0`, `q4_1`, `q4_k`, `q6_k`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Q4K => "q4_k",
            Self::Q6K => "q6_k",
        }
    }

    /// Bytes of a row of `cols` elements; `None` when `cols` is not a whole number of blocks or the size
    /// overflows.
    #[must_use]
    pub const fn row_bytes(self, cols: usize) -> Option<usize> {
        if !cols.is_multiple_of(self.block_len()) {
            return None;
        }
        (cols / self.block_len()).checked_mul(self.block_bytes())
    }

    /// The value of every element of `bytes`, in order: the definition that faster kernels are tested against.
    ///
    /// *Shape:* whole blocks; `out` has `block_len` elements for every `block_bytes` of `bytes`.
    ///
    /// *Rounding:* scales are f16 and widen exactly; `q` is the stored integer, `s` and `m` the integer group
    /// scale and minimum.
    ///
    /// | format | element | f32 operations, in this order |
    /// |---|---|---|
    /// | Q8_0 | `d·q`, q in −128..=127 | product exact (11 + 8 significand bits) |
    /// | Q4_0 | `d·(q − 8)` | difference and product exact |
    /// | Q4_1 | `d·q + m` | product exact (11 + 4 bits), then one rounding in the sum |
    /// | Q4_K | `(d·s)·q − (dmin·m)` | all three products exact (at most 11 + 6 + 4 bits), then one rounding in the difference |
    /// | Q6_K | `(d·s)·(q − 32)` | all exact (at most 11 + 7 + 6 = 24 bits) |
    ///
    /// As products are exact, fusing one with the following sum cannot change a bit, nor can reordering the
    /// factors. The smallest f16 subnormal is 2⁻²⁴, so no product is subnormal in f32; none overflows.
    /// Infinite or NaN scales follow IEEE 754 (`∞·0` is a NaN; NaN payloads are unspecified).
    ///
    /// *Source:* ggml `dequantize_row_*` (ggml-quants.c) and gguf-py `gguf/quants.py`; checked against the
    /// latter by `goldens/gguf_blocks.py`.
    ///
    /// # Panics
    /// When `bytes` is not whole blocks or `out` has another length.
    pub fn dequantize(self, bytes: &[u8], out: &mut [f32]) {
        let (blocks, rest) = (bytes.chunks_exact(self.block_bytes()), bytes.len() % self.block_bytes());
        assert!(rest == 0, "{} bytes are not whole {} blocks", bytes.len(), self.name());
        assert_eq!(out.len(), blocks.len() * self.block_len(), "output of {} blocks", blocks.len());
        for (block, values) in blocks.zip(out.chunks_exact_mut(self.block_len())) {
            match self {
                Self::Q8_0 => q8_0(block, values),
                Self::Q4_0 => q4_0(block, values),
                Self::Q4_1 => q4_1(block, values),
                Self::Q4K => q4_k(block, values),
                Self::Q6K => q6_k(block, values),
            }
        }
    }
}

impl std::fmt::Display for BlockFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The little-endian f16 at byte `at`, widened exactly.
fn scale(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

fn q8_0(block: &[u8], out: &mut [f32]) {
    let d = scale(block, 0);
    for (value, &q) in out.iter_mut().zip(&block[2..]) {
        *value = d * f32::from(i8::from_le_bytes([q]));
    }
}

fn q4_0(block: &[u8], out: &mut [f32]) {
    let d = scale(block, 0);
    let (low, high) = out.split_at_mut(16);
    for ((low, high), &q) in low.iter_mut().zip(high).zip(&block[2..]) {
        *low = d * (f32::from(q & 15) - 8.0);
        *high = d * (f32::from(q >> 4) - 8.0);
    }
}

fn q4_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (scale(block, 0), scale(block, 2));
    let (low, high) = out.split_at_mut(16);
    for ((low, high), &q) in low.iter_mut().zip(high).zip(&block[4..]) {
        *low = d * f32::from(q & 15) + m;
        *high = d * f32::from(q >> 4) + m;
    }
}

/// Q4_K: `d`, `dmin`, twelve bytes of six-bit group scales and minima, 128 bytes of nibbles. Each 32 nibble
/// bytes hold group 2j in their low and group 2j + 1 in their high halves.
fn q4_k(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (scale(block, 0), scale(block, 2));
    for (group, values) in out.chunks_exact_mut(32).enumerate() {
        let (s, m) = q4_k_group(&block[4..16], group);
        let (s, m) = (d * f32::from(s), dmin * f32::from(m));
        let (at, shift) = (16 + group / 2 * 32, group % 2 * 4);
        for (value, &q) in values.iter_mut().zip(&block[at..at + 32]) {
            *value = s * f32::from((q >> shift) & 15) - m;
        }
    }
}

/// Six-bit scale and minimum of group 0..8 in the twelve packed bytes of a Q4_K block: groups 0..4 lie whole
/// in the low six bits; groups 4..8 have four low bits in bytes 8..12 and their top two in bits 6..8 above.
fn q4_k_group(packed: &[u8], group: usize) -> (u8, u8) {
    if group < 4 {
        (packed[group] & 63, packed[group + 4] & 63)
    } else {
        let low = packed[group + 4];
        ((low & 15) | (packed[group - 4] >> 6 << 4), (low >> 4) | (packed[group] >> 6 << 4))
    }
}

/// Q6_K: 128 bytes of low nibbles, 64 bytes of high bit pairs, sixteen signed group scales, `d`.
/// Each half of 128 elements is four runs of 32 that share their high-bit bytes.
fn q6_k(block: &[u8], out: &mut [f32]) {
    let d = scale(block, 208);
    for (run, values) in out.chunks_exact_mut(32).enumerate() {
        let (half, quarter) = (run / 4, run % 4);
        let low = &block[half * 64 + quarter % 2 * 32..];
        let high = &block[128 + half * 32..];
        for (i, value) in values.iter_mut().enumerate() {
            let q = ((low[i] >> (quarter / 2 * 4)) & 15) | (((high[i] >> (quarter * 2)) & 3) << 4);
            let s = i8::from_le_bytes([block[192 + run * 2 + i / 16]]);
            *value = d * f32::from(s) * (f32::from(q) - 32.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Raw blocks and the f32 bits that gguf-py gives for them; see `goldens/gguf_blocks.py`.
    const GOLDEN: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../goldens/gguf_blocks.txt"));

    fn bytes_of(hex: &str) -> Vec<u8> {
        hex.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn every_format_agrees_with_gguf_py_bit_for_bit() {
        let mut seen = std::collections::BTreeMap::new();
        for line in GOLDEN.lines().filter(|line| !line.starts_with('#')) {
            let mut fields = line.split(' ');
            let name = fields.next().unwrap();
            let (block, bits) = (bytes_of(fields.next().unwrap()), bytes_of(fields.next().unwrap()));
            let format = BlockFormat::ALL.into_iter().find(|format| format.name() == name).unwrap();
            assert_eq!(block.len(), format.block_bytes(), "{name}");
            let mut out = vec![0.0; format.block_len()];
            format.dequantize(&block, &mut out);
            let want: Vec<u32> = bits.chunks(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
            assert_eq!(out.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), want, "{line}");
            *seen.entry(name).or_insert(0) += 1;
        }
        for format in BlockFormat::ALL {
            assert!(seen.get(format.name()).is_some_and(|blocks| *blocks >= 8), "{format:?}: {seen:?}");
        }
    }

    /// The table's claim: with every f16 scale and every stored integer the product equals the f64 product.
    #[test]
    fn products_are_exact_over_all_finite_scales() {
        for bits in 0..=u16::MAX {
            let d = f16::from_bits(bits);
            if !d.is_finite() {
                continue;
            }
            let d = d.to_f32();
            for q in i8::MIN..=i8::MAX {
                let exact = f64::from(d) * f64::from(q);
                assert_eq!(f64::from(d * f32::from(q)).to_bits(), exact.to_bits(), "{d} {q}");
            }
            // Q4_K's and Q6_K's three-factor products, at the integers with the most significant bits.
            for (s, q) in [(63, 15), (61, 13), (127, 31), (-127, -31), (-128, -32), (125, 29)] {
                let exact = f64::from(d) * f64::from(s) * f64::from(q);
                let got = d * f32::from(i8::try_from(s).unwrap()) * f32::from(i8::try_from(q).unwrap());
                assert_eq!(f64::from(got).to_bits(), exact.to_bits(), "{d} {s} {q}");
            }
        }
    }

    #[test]
    fn rows_are_whole_blocks() {
        assert_eq!(BlockFormat::Q4_1.row_bytes(576), Some(360));
        assert_eq!(BlockFormat::Q6K.row_bytes(576), None);
        assert_eq!(BlockFormat::Q8_0.row_bytes(0), Some(0));
        assert_eq!(BlockFormat::Q8_0.row_bytes(usize::MAX - 31), None);
    }

    #[test]
    #[should_panic(expected = "not whole q4_0 blocks")]
    fn a_torn_block_is_refused() {
        BlockFormat::Q4_0.dequantize(&[0; 17], &mut [0.0; 32]);
    }
}
