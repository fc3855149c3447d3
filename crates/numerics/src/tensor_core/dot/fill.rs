//! Unpacking 16-bit operands, many at once: what [`Row::fill`] and [`Panel::fill`] leave, from memory as it is laid
//! out.
//!
//! Written once over chunks of 16 pairs of `K`, in plain operations on arrays that compilers vectorize;
//! instantiated per instruction set, with the set's own transposition. Left out: TF32, whose elements do not fit.

#![expect(
    clippy::inline_always,
    reason = "instantiated per instruction set: what is not inlined does not get its instructions"
)]

use super::operands::{Elements, LANES, NOTHING, Panel, Range, Row, TILT, ZERO, shifts, sign_bits};
use crate::tensor_core::{BlockRecipe, Operand};

/// Pairs of a chunk.
const PAIRS: usize = 16;

/// Bytes of a chunk of one row.
pub(super) const BYTES: usize = 4 * PAIRS;

/// Pairs of 16-bit patterns: one array per pair, one value per lane (of a row: one array per 16 pairs).
pub(super) type Pairs = [[u32; LANES]; PAIRS];

static ABSENT: [u8; BYTES] = [0; BYTES];

/// What the largest magnitude tells.
pub(super) fn range(operand: Operand, magnitude: u32) -> Range {
    let (fraction_bits, largest) = (operand.fraction_bits(), (1 << operand.exponent_bits()) - 1);
    let biased = (magnitude >> fraction_bits).cast_signed();
    let special = biased == largest;
    let exponent =
        |biased: i32| if magnitude == 0 { i32::from(ZERO) } else { biased.max(1) - (largest >> 1) };
    // Of a special operand nothing else is asked.
    Range { special, largest: if special { i32::from(ZERO) } else { exponent(biased) } }
}

/// Where a panel's patterns are.
pub(super) trait Source {
    /// A chunk, padded with zeros.
    fn chunk(&self, at: usize, transpose: impl Fn(&[&[u8; BYTES]; LANES]) -> Pairs) -> Pairs;
}

pub(super) struct Rows<'a> {
    pub(super) rows: &'a [&'a [u8]],
    /// Chunks that all rows have in full.
    pub(super) whole: usize,
}

impl Source for Rows<'_> {
    #[inline(always)]
    fn chunk(&self, at: usize, transpose: impl Fn(&[&[u8; BYTES]; LANES]) -> Pairs) -> Pairs {
        if at < self.whole {
            let mut chunks = [&ABSENT; LANES];
            for (chunk, row) in chunks.iter_mut().zip(self.rows) {
                if let Some(bytes) = row[at * BYTES..].first_chunk() {
                    *chunk = bytes;
                }
            }
            return transpose(&chunks);
        }
        let mut last = [[0; BYTES]; LANES];
        for (last, row) in last.iter_mut().zip(self.rows) {
            let rest = &row[(at * BYTES).min(row.len())..];
            last[..rest.len()].copy_from_slice(rest);
        }
        transpose(&last.each_ref())
    }
}

pub(super) struct OneByOne<F> {
    pub(super) rows: usize,
    pub(super) length: usize,
    pub(super) element: F,
}

impl<F: Fn(usize, usize) -> u32> Source for OneByOne<F> {
    #[inline(always)]
    fn chunk(&self, at: usize, _: impl Fn(&[&[u8; BYTES]; LANES]) -> Pairs) -> Pairs {
        let mut pairs = [[0; LANES]; PAIRS];
        let from = (2 * at * PAIRS).min(self.length);
        let until = self.length.min(from + 2 * PAIRS);
        for (k, lane) in (from..until).flat_map(|k| (0..self.rows.min(LANES)).map(move |lane| (k, lane))) {
            pairs[(k - from) / 2][lane] |= ((self.element)(lane, k) & 0xFFFF) << (k % 2 * 16);
        }
        pairs
    }
}

pub(super) struct Columns<F> {
    pub(super) rows: usize,
    pub(super) length: usize,
    pub(super) across: F,
}

impl<'a, F: Fn(usize) -> &'a [u8]> Source for Columns<F> {
    #[inline(always)]
    fn chunk(&self, at: usize, _: impl Fn(&[&[u8; BYTES]; LANES]) -> Pairs) -> Pairs {
        let mut pairs = [[0; LANES]; PAIRS];
        let values = |k: usize| {
            let mut values = [0_u32; LANES];
            if k < self.length {
                let bytes = (self.across)(k);
                if let Ok(bytes) = <&[u8; 2 * LANES]>::try_from(bytes) {
                    for (lane, value) in values.iter_mut().enumerate() {
                        *value = u16::from_le_bytes([bytes[2 * lane], bytes[2 * lane + 1]]).into();
                    }
                } else {
                    for (value, two) in values.iter_mut().zip(bytes.chunks_exact(2)).take(self.rows) {
                        *value = u16::from_le_bytes([two[0], two[1]]).into();
                    }
                }
            }
            values
        };
        for (i, pair) in pairs.iter_mut().enumerate() {
            let k = 2 * (at * PAIRS + i);
            let (even, odd) = (values(k), values(k + 1));
            for (lane, pair) in pair.iter_mut().enumerate() {
                *pair = even[lane] | odd[lane] << 16;
            }
        }
        pairs
    }
}

/// What any machine does.
pub(super) fn transposed(rows: &[&[u8; BYTES]; LANES]) -> Pairs {
    let pair = |row: &[u8; BYTES], i: usize| {
        u32::from_le_bytes([row[4 * i], row[4 * i + 1], row[4 * i + 2], row[4 * i + 3]])
    };
    std::array::from_fn(|i| std::array::from_fn(|lane| pair(rows[lane], i)))
}

/// Exponents of sixteen pairs.
#[inline(always)]
fn exponents_of<const FRACTION_BITS: u32>(both: &[u32; LANES], largest: &mut [u32; LANES]) -> [u32; LANES] {
    let bias = (1_u32 << (14 - FRACTION_BITS)) - 1;
    // A pattern in the upper half.
    let one = |bits: u32, largest: &mut u32| {
        let magnitude = bits >> 16 & 0x7FFF;
        *largest = magnitude.max(*largest);
        let exponent = (magnitude >> FRACTION_BITS).max(1).wrapping_sub(bias);
        if magnitude == 0 { ZERO.cast_unsigned().into() } else { exponent }
    };
    let mut exponents = [0; LANES];
    for lane in 0..LANES {
        let (low, high) = (one(both[lane] << 16, &mut largest[lane]), one(both[lane], &mut largest[lane]));
        exponents[lane] = low & 0xFFFF | high << 16;
    }
    exponents
}

/// [`Elements::Integers`] of sixteen pairs: the even elements, then the odd.
#[inline(always)]
fn integers<const FRACTION_BITS: u32>(both: &[u32; LANES], shift: u32) -> [[u32; LANES]; 2] {
    let one = |bits: u32| {
        let sign = (bits.cast_signed() >> 31).cast_unsigned();
        let magnitude = bits >> 16 & 0x7FFF;
        let fraction = magnitude & ((1 << FRACTION_BITS) - 1);
        let hidden = if magnitude >> FRACTION_BITS == 0 { 0 } else { 1 << FRACTION_BITS };
        let significand = ((fraction | hidden) << shift ^ sign).wrapping_sub(sign);
        significand & 0xFFFF | (sign | 1) << 16
    };
    // No map: what it calls is not instantiated for an instruction set.
    let (mut evens, mut odds) = ([0; LANES], [0; LANES]);
    for lane in 0..LANES {
        evens[lane] = one(both[lane] << 16);
        odds[lane] = one(both[lane]);
    }
    [evens, odds]
}

/// Of instructions that multiply [`Elements::Integers`].
pub(super) fn no_doubles(_: &[u32; LANES], _: u32, _: &mut [[f64; LANES]; 2]) {
    unreachable!("elements in the form of these instructions");
}

/// A row's double, of a pattern of bf16 in the upper half.
#[inline(always)]
fn tilted(bits: u32) -> f64 {
    let sign = u64::from(bits >> 31) << 63;
    let magnitude = bits & 0x7FFF_0000;
    let magnitude = if magnitude == 0 { NOTHING } else { f64::from(f32::from_bits(magnitude)) };
    f64::from_bits(magnitude.to_bits() | sign) * TILT
}

/// Fills a panel that has its size. Returns the largest magnitude.
#[inline(always)]
pub(super) fn panel(
    panel: &mut Panel,
    recipe: BlockRecipe,
    from: &impl Source,
    transpose: impl Fn(&[&[u8; BYTES]; LANES]) -> Pairs + Copy,
    doubles: impl Fn(&[u32; LANES], u32, &mut [[f64; LANES]; 2]),
) -> u32 {
    match (recipe.operand, recipe.width) {
        (Operand::Bf16, 16) => panel_of::<7, 8>(panel, recipe, from, transpose, doubles),
        (Operand::Bf16, 8) => panel_of::<7, 4>(panel, recipe, from, transpose, doubles),
        (Operand::F16, 16) => panel_of::<10, 8>(panel, recipe, from, transpose, doubles),
        (Operand::F16, 8) => panel_of::<10, 4>(panel, recipe, from, transpose, doubles),
        (Operand::F16, 4) => panel_of::<10, 2>(panel, recipe, from, transpose, doubles),
        _ => unreachable!("no GPU multiplies like {recipe:?}"),
    }
}

#[inline(always)]
fn panel_of<const FRACTION_BITS: u32, const OF_BLOCK: usize>(
    panel: &mut Panel,
    recipe: BlockRecipe,
    from: &impl Source,
    transpose: impl Fn(&[&[u8; BYTES]; LANES]) -> Pairs + Copy,
    doubles: impl Fn(&[u32; LANES], u32, &mut [[f64; LANES]; 2]),
) -> u32 {
    let (_, shift) = shifts(recipe);
    let mut largest = [0; LANES];
    let Panel { elements, exponents, signs, .. } = panel;
    let chunks = exponents.chunks_mut(PAIRS).zip(signs.chunks_mut(PAIRS / OF_BLOCK)).enumerate();
    for (at, (exponents, signs)) in chunks {
        let chunk = from.chunk(at, transpose);
        for ((exponents, signs), block) in
            exponents.chunks_exact_mut(OF_BLOCK).zip(signs).zip(chunk.chunks_exact(OF_BLOCK))
        {
            let mut bits = [0; LANES];
            for (i, both) in block.iter().enumerate() {
                exponents[i] = exponents_of::<FRACTION_BITS>(both, &mut largest);
                for lane in 0..LANES {
                    bits[lane] |= sign_bits(both[lane] >> 15, i);
                }
            }
            *signs = bits;
        }
        let first = 2 * PAIRS * at;
        match elements {
            Elements::Integers(elements) => {
                for (two, both) in elements[first..].as_chunks_mut::<2>().0.iter_mut().zip(&chunk) {
                    *two = integers::<FRACTION_BITS>(both, shift);
                }
            }
            Elements::Doubles(elements) => {
                for (two, both) in elements[first..].as_chunks_mut::<2>().0.iter_mut().zip(&chunk) {
                    doubles(both, FRACTION_BITS, two);
                }
            }
        }
    }
    largest.into_iter().max().unwrap_or(0)
}

/// Fills a row that has its size. Returns the largest magnitude.
#[inline(always)]
pub(super) fn row(row: &mut Row, recipe: BlockRecipe, x: &[f32]) -> u32 {
    let (shift, _) = shifts(recipe);
    let pairs = usize::from(recipe.width) / 2;
    let mut largest = [0; LANES];
    let Row { elements, exponents, signs, .. } = row;
    for (at, exponents) in exponents.chunks_mut(PAIRS).enumerate() {
        let mut chunk = [0_u32; LANES];
        let rest = &x[(at * 2 * PAIRS).min(x.len())..];
        if let Some(values) = rest.first_chunk::<{ 2 * PAIRS }>() {
            for (i, chunk) in chunk.iter_mut().enumerate() {
                *chunk = values[2 * i].to_bits() >> 16 | values[2 * i + 1].to_bits() & 0xFFFF_0000;
            }
        } else {
            for (k, value) in rest.iter().enumerate() {
                chunk[k / 2] |= value.to_bits() >> 16 << (k % 2 * 16);
            }
        }
        let here = exponents.len();
        exponents.copy_from_slice(&exponents_of::<7>(&chunk, &mut largest)[..here]);
        match elements {
            Elements::Integers(elements) => {
                let [evens, odds] = integers::<7>(&chunk, shift);
                for (i, two) in elements[2 * PAIRS * at..].as_chunks_mut().0.iter_mut().take(here).enumerate()
                {
                    *two = [evens[i], odds[i]];
                }
            }
            Elements::Doubles(elements) => {
                let elements = &mut elements[2 * PAIRS * at..][..2 * here];
                for (two, both) in elements.as_chunks_mut().0.iter_mut().zip(chunk) {
                    *two = [tilted(both << 16), tilted(both)];
                }
            }
        }
        for (block, signs) in signs[at * PAIRS / pairs..].iter_mut().take(PAIRS / pairs).enumerate() {
            for i in 0..pairs {
                *signs |= sign_bits(chunk[block * pairs + i] >> 15, i);
            }
        }
    }
    largest.into_iter().max().unwrap_or(0)
}
