//! GGUF files from parts, honest and lying, with naive quantizers for every block format.
//!
//! The quantizers take the plainest choice of scale and round to nearest: good enough to put known values
//! near given ones, not the ones that llama.cpp would make.

use half::f16;
use mantissa_numerics::{BlockFormat, Dtype};

use crate::safetensors;

/// How a tensor's elements are written.
///
/// Example: [`Builder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// One value per element.
    Plain(Dtype),
    /// Blocks along the row.
    Block(BlockFormat),
}

impl Encoding {
    /// Every encoding.
    pub const ALL: [Self; 8] = [
        Self::Plain(Dtype::F32),
        Self::Plain(Dtype::F16),
        Self::Plain(Dtype::Bf16),
        Self::Block(BlockFormat::Q8_0),
        Self::Block(BlockFormat::Q4_0),
        Self::Block(BlockFormat::Q4_1),
        Self::Block(BlockFormat::Q4K),
        Self::Block(BlockFormat::Q6K),
    ];

    /// The number of the type in a file.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Plain(Dtype::F32) => 0,
            Self::Plain(Dtype::F16) => 1,
            Self::Plain(Dtype::Bf16) => 30,
            Self::Block(BlockFormat::Q4_0) => 2,
            Self::Block(BlockFormat::Q4_1) => 3,
            Self::Block(BlockFormat::Q8_0) => 8,
            Self::Block(BlockFormat::Q4K) => 12,
            Self::Block(BlockFormat::Q6K) => 14,
        }
    }

    /// The stored bytes of `values`.
    ///
    /// # Panics
    /// When `values` are not whole blocks.
    #[must_use]
    pub fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::Plain(dtype) => safetensors::encode(dtype, values),
            Self::Block(format) => quantize(format, values),
        }
    }
}

/// A GGUF file being put together; nothing is checked.
///
/// ```
/// use mantissa_numerics::Dtype;
/// use mantissa_testkit::gguf::{Builder, Encoding};
///
/// let bytes = Builder::default().tensor("t", &[2], Encoding::Plain(Dtype::F32), &[1.0, 2.0]).build();
/// assert!(bytes.starts_with(b"GGUF"));
/// assert!(bytes.windows(8).any(|values| values == [0, 0, 128, 63, 0, 0, 0, 64]));
/// ```
#[derive(Debug, Clone)]
pub struct Builder {
    /// Version in the header.
    pub version: u32,
    /// Alignment of tensor data; written to the metadata when it is not 32.
    pub alignment: usize,
    keys: Vec<Vec<u8>>,
    tensors: Vec<Tensor>,
}

#[derive(Debug, Clone)]
struct Tensor {
    name: String,
    shape: Vec<usize>,
    kind: u32,
    offset: Option<u64>,
    data: Vec<u8>,
}

impl Default for Builder {
    fn default() -> Self {
        Self { version: 3, alignment: 32, keys: Vec::new(), tensors: Vec::new() }
    }
}

impl Builder {
    /// Adds a key with a value of any type number and these bytes.
    #[must_use]
    pub fn raw(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.keys.push([&text(key), &kind.to_le_bytes()[..], value].concat());
        self
    }

    /// Adds a u32.
    #[must_use]
    pub fn u32(self, key: &str, value: u32) -> Self {
        self.raw(key, 4, &value.to_le_bytes())
    }

    /// Adds an f32.
    #[must_use]
    pub fn f32(self, key: &str, value: f32) -> Self {
        self.raw(key, 6, &value.to_le_bytes())
    }

    /// Adds a boolean.
    #[must_use]
    pub fn bool(self, key: &str, value: bool) -> Self {
        self.raw(key, 7, &[u8::from(value)])
    }

    /// Adds a string.
    #[must_use]
    pub fn text(self, key: &str, value: &str) -> Self {
        self.raw(key, 8, &text(value))
    }

    /// Adds a list of strings.
    #[must_use]
    pub fn texts(self, key: &str, values: &[&str]) -> Self {
        let items: Vec<u8> = values.iter().flat_map(|value| text(value)).collect();
        self.array(key, 8, values.len(), &items)
    }

    /// Adds a list of i32.
    #[must_use]
    pub fn i32s(self, key: &str, values: &[i32]) -> Self {
        let items: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.array(key, 5, values.len(), &items)
    }

    /// Adds a list of f32.
    #[must_use]
    pub fn f32s(self, key: &str, values: &[f32]) -> Self {
        self.array(key, 6, values.len(), &safetensors::encode(Dtype::F32, values))
    }

    /// Adds an array of `len` elements of any type number with these bytes.
    #[must_use]
    pub fn array(self, key: &str, kind: u32, len: usize, items: &[u8]) -> Self {
        self.raw(key, 9, &[&kind.to_le_bytes(), &word(len)[..], items].concat())
    }

    /// Adds a tensor of `values`; `shape` is outermost first.
    #[must_use]
    pub fn tensor(self, name: &str, shape: &[usize], encoding: Encoding, values: &[f32]) -> Self {
        self.tensor_raw(name, shape, encoding.number(), None, encoding.encode(values))
    }

    /// Adds a tensor of any type number, at any offset, with any bytes.
    #[must_use]
    pub fn tensor_raw(
        mut self,
        name: &str,
        shape: &[usize],
        kind: u32,
        offset: Option<u64>,
        data: Vec<u8>,
    ) -> Self {
        self.tensors.push(Tensor { name: name.into(), shape: shape.to_vec(), kind, offset, data });
        self
    }

    /// The file.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let custom = u32::try_from(self.alignment).ok().filter(|&alignment| alignment != 32);
        let keys = match custom {
            Some(alignment) => self.clone().u32("general.alignment", alignment).keys,
            None => self.keys.clone(),
        };
        let mut file = [&b"GGUF"[..], &self.version.to_le_bytes()].concat();
        file.extend(word(self.tensors.len()));
        file.extend(word(keys.len()));
        file.extend(keys.concat());
        let mut data = Vec::new();
        for tensor in &self.tensors {
            data.resize(data.len().next_multiple_of(self.alignment.max(1)), 0);
            file.extend(text(&tensor.name));
            file.extend(u32::try_from(tensor.shape.len()).unwrap_or(u32::MAX).to_le_bytes());
            file.extend(tensor.shape.iter().rev().flat_map(|&axis| word(axis)));
            file.extend(tensor.kind.to_le_bytes());
            file.extend(tensor.offset.map_or(word(data.len()), u64::to_le_bytes));
            data.extend_from_slice(&tensor.data);
        }
        file.resize(file.len().next_multiple_of(self.alignment.max(1)), 0);
        file.extend(data);
        file
    }
}

fn word(n: usize) -> [u8; 8] {
    u64::try_from(n).unwrap_or(u64::MAX).to_le_bytes()
}

fn text(text: &str) -> Vec<u8> {
    [&word(text.len())[..], text.as_bytes()].concat()
}

/// Quantizes whole blocks.
///
/// # Panics
/// When `values` are not whole blocks.
///
/// ```
/// use mantissa_numerics::BlockFormat;
///
/// assert_eq!(mantissa_testkit::gguf::quantize(BlockFormat::Q8_0, &[1.0; 32]).len(), 34);
/// ```
#[must_use]
pub fn quantize(format: BlockFormat, values: &[f32]) -> Vec<u8> {
    assert!(values.len().is_multiple_of(format.block_len()), "whole {format} blocks");
    values
        .chunks_exact(format.block_len())
        .flat_map(|block| match format {
            BlockFormat::Q8_0 => q8_0(block),
            BlockFormat::Q4_0 => q4_0(block),
            BlockFormat::Q4_1 => q4_1(block),
            BlockFormat::Q4K => q4_k(block),
            BlockFormat::Q6K => q6_k(block),
        })
        .collect()
}

/// `x / step` rounded to the nearest of `0..=most` after adding `zero`; a step of zero gives `zero`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=255 before")]
fn nearest(x: f32, step: f32, zero: f32, most: f32) -> u8 {
    let q = if step.abs() > 0.0 { (x / step).round() } else { 0.0 };
    (q + zero).clamp(0.0, most) as u8
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most, x| x.abs().max(most))
}

fn f16_bytes(x: f32) -> ([u8; 2], f32) {
    let x = f16::from_f32(x);
    (x.to_le_bytes(), x.to_f32())
}

/// The two's complement of a value stored with an offset of 128.
fn signed(offset_by_128: u8) -> u8 {
    offset_by_128 ^ 128
}

fn nibbles(low: &[u8], high: &[u8]) -> Vec<u8> {
    low.iter().zip(high).map(|(low, high)| low | (high << 4)).collect()
}

fn q8_0(block: &[f32]) -> Vec<u8> {
    let (bytes, d) = f16_bytes(largest(block) / 127.0);
    bytes.into_iter().chain(block.iter().map(|&x| signed(nearest(x, d, 128.0, 255.0)))).collect()
}

fn q4_0(block: &[f32]) -> Vec<u8> {
    let (bytes, d) = f16_bytes(largest(block) / 7.0);
    let q: Vec<u8> = block.iter().map(|&x| nearest(x, d, 8.0, 15.0)).collect();
    [&bytes[..], &nibbles(&q[..16], &q[16..])].concat()
}

fn q4_1(block: &[f32]) -> Vec<u8> {
    let least = block.iter().copied().fold(f32::INFINITY, f32::min);
    let most = block.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let ((d_bytes, d), (m_bytes, m)) = (f16_bytes((most - least) / 15.0), f16_bytes(least));
    let q: Vec<u8> = block.iter().map(|&x| nearest(x - m, d, 0.0, 15.0)).collect();
    [&d_bytes[..], &m_bytes, &nibbles(&q[..16], &q[16..])].concat()
}

fn q4_k(block: &[f32]) -> Vec<u8> {
    let groups: Vec<(f32, f32)> = block
        .chunks_exact(32)
        .map(|group| {
            let least = group.iter().copied().fold(0.0, f32::min);
            let most = group.iter().copied().fold(least, f32::max);
            ((most - least) / 15.0, -least)
        })
        .collect();
    let most = |pick: fn(&(f32, f32)) -> f32| groups.iter().map(pick).fold(0.0, f32::max);
    let (d_bytes, d) = f16_bytes(most(|group| group.0) / 63.0);
    let (m_bytes, dmin) = f16_bytes(most(|group| group.1) / 63.0);
    let scales: Vec<u8> = groups.iter().map(|group| nearest(group.0, d, 0.0, 63.0)).collect();
    let minima: Vec<u8> = groups.iter().map(|group| nearest(group.1, dmin, 0.0, 63.0)).collect();
    let mut packed = [0_u8; 12];
    for j in 0..4 {
        packed[j] = scales[j] | (scales[j + 4] >> 4 << 6);
        packed[j + 4] = minima[j] | (minima[j + 4] >> 4 << 6);
        packed[j + 8] = (scales[j + 4] & 15) | (minima[j + 4] << 4);
    }
    let mut out = [&d_bytes[..], &m_bytes, &packed].concat();
    let q: Vec<u8> = block
        .chunks_exact(32)
        .zip(scales.iter().zip(&minima))
        .flat_map(|(group, (&s, &m))| {
            let (s, m) = (d * f32::from(s), dmin * f32::from(m));
            group.iter().map(move |&x| nearest(x + m, s, 0.0, 15.0)).collect::<Vec<_>>()
        })
        .collect();
    for pair in q.chunks_exact(64) {
        out.extend(nibbles(&pair[..32], &pair[32..]));
    }
    out
}

fn q6_k(block: &[f32]) -> Vec<u8> {
    let groups: Vec<f32> = block.chunks_exact(16).map(|group| largest(group) / 31.0).collect();
    let (d_bytes, d) = f16_bytes(largest(&groups) / 127.0);
    let scales: Vec<u8> = groups.iter().map(|&scale| nearest(scale, d, 0.0, 127.0)).collect();
    let q: Vec<u8> = block
        .chunks_exact(16)
        .zip(&scales)
        .flat_map(|(group, &s)| {
            let s = d * f32::from(s);
            group.iter().map(move |&x| nearest(x, s, 32.0, 63.0)).collect::<Vec<_>>()
        })
        .collect();
    let (mut low, mut high) = (Vec::new(), Vec::new());
    for half in q.chunks_exact(128) {
        for i in 0..64 {
            low.push((half[i] & 15) | ((half[i + 64] & 15) << 4));
        }
        for i in 0..32 {
            high.push((0..4).fold(0, |bits, run| bits | (half[i + 32 * run] >> 4 << (2 * run))));
        }
    }
    [&low[..], &high, &scales, &d_bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Errors relative to the largest value of a block: half a step, and of the formats with scales of a few bits what
    /// half a step of the scale (and of the minimum) makes of the largest integer. Scales in binary16 add four times
    /// their rounding at most.
    #[test]
    fn quantized_values_lie_near_the_given_ones() {
        for format in BlockFormat::ALL {
            let steps = match format {
                BlockFormat::Q8_0 => 0.5 / 127.0,
                BlockFormat::Q4_0 => 0.5 / 7.0,
                BlockFormat::Q4_1 => 1.0 / 15.0,
                BlockFormat::Q4K => 1.0 / 15.0 + 1.0 / 63.0 + 0.5 / 63.0,
                BlockFormat::Q6K => 0.5 / 31.0 + 0.5 / 127.0,
            };
            let bound = steps + 4.0 / 2048.0;
            let values: Vec<f32> = (0..512_u16)
                .map(|i| (f32::from(i * 37 % 211) / 105.0 - 1.0) * f32::from(1 + i / 100))
                .collect();
            let bytes = quantize(format, &values);
            assert_eq!(bytes.len(), 512 / format.block_len() * format.block_bytes());
            let mut back = vec![0.0; 512];
            format.dequantize(&bytes, &mut back);
            for (start, (x, y)) in values.iter().zip(&back).enumerate() {
                let block = start / format.block_len() * format.block_len();
                let most = largest(&values[block..block + format.block_len()]);
                assert!((x - y).abs() <= bound * most, "{format} {start}: {x} became {y}");
            }
            let zeros = quantize(format, &vec![0.0; 256]);
            let mut back = vec![1.0; 256];
            format.dequantize(&zeros, &mut back);
            assert!(back.iter().all(|x| x.abs() <= 0.0), "{format}");
        }
    }
}
