//! Unpacking 16-bit operands, many at once: what [`Row::fill`] and [`Panel::fill`] leave, from memory as it is laid
//! out.
//!
//! Written once over chunks of 16 pairs of `K`, in plain operations on arrays that compilers vectorize;
//! instantiated per instruction set, with the set's own transposition. Left out: TF32, whose elements do not fit.

#![expect(
    clippy::inline_always,
    reason = "instantiated per instruction set: what is not inlined does not get its instructions"
)]

use super::operands::{Elements, LANES, NOTHING, Panel, Range, Row, TILT, ZERO, relative, shifts, sign_bits};
use crate::tensor_core::{BlockRecipe, Operand};

/// Fraction bits of the formats.
const BF16: u32 = Operand::Bf16.fraction_bits();
const F16: u32 = Operand::F16.fraction_bits();

/// Pairs of a chunk.
const PAIRS: usize = 16;

/// Bytes of a chunk of one row.
pub(super) const BYTES: usize = 4 * PAIRS;

/// Pairs of 16-bit patterns: one array per pair, one value per lane (of a row: one array per 16 pairs).
pub(super) type Pairs = [[u32; LANES]; PAIRS];

static ABSENT: [u8; BYTES] = [0; BYTES];

/// Magnitudes of an operand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Magnitudes<T> {
    largest: T,
    /// Of those that are not zero, less one.
    smallest: T,
}

impl Magnitudes<[u32; LANES]> {
    const NONE: Self = Self { largest: [0; LANES], smallest: [u32::MAX; LANES] };

    fn all(self) -> Magnitudes<u32> {
        let Self { largest, smallest } = self;
        Magnitudes {
            largest: largest.into_iter().fold(0, u32::max),
            smallest: smallest.into_iter().fold(u32::MAX, u32::min),
        }
    }
}

impl Magnitudes<u32> {
    /// What they tell.
    pub(super) fn range(self, operand: Operand) -> Range {
        let (fraction_bits, special) = (operand.fraction_bits(), (1_i32 << operand.exponent_bits()) - 1);
        let biased = |magnitude: u32| (magnitude >> fraction_bits).cast_signed();
        if biased(self.largest) == special {
            // Of a special operand nothing else is asked.
            return Range { special: true, ..Range::default() };
        }
        if self.largest == 0 {
            return Range::default();
        }
        let exponent = |magnitude| biased(magnitude).max(1) - (special >> 1);
        Range { special: false, largest: exponent(self.largest), smallest: exponent(self.smallest + 1) }
    }
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

/// Biased exponent of a pattern in the upper half; 0 for a zero.
#[inline(always)]
fn biased<const FRACTION_BITS: u32>(bits: u32, largest: &mut u32, smallest: &mut u32) -> u32 {
    let magnitude = bits >> 16 & 0x7FFF;
    *largest = magnitude.max(*largest);
    *smallest = magnitude.wrapping_sub(1).min(*smallest);
    let exponent = (magnitude >> FRACTION_BITS).max(1);
    if magnitude == 0 { 0 } else { exponent }
}

/// Exponents of sixteen pairs.
#[inline(always)]
fn exponents_of<const FRACTION_BITS: u32>(
    both: &[u32; LANES],
    seen: &mut Magnitudes<[u32; LANES]>,
) -> [u32; LANES] {
    let bias = (1_u32 << (14 - FRACTION_BITS)) - 1;
    let mut exponents = [0; LANES];
    for lane in 0..LANES {
        let (largest, smallest) = (&mut seen.largest[lane], &mut seen.smallest[lane]);
        let mut one = |bits: u32| match biased::<FRACTION_BITS>(bits, largest, smallest) {
            0 => ZERO.cast_unsigned().into(),
            biased => biased.wrapping_sub(bias),
        };
        let (low, high) = (one(both[lane] << 16), one(both[lane]));
        exponents[lane] = low & 0xFFFF | high << 16;
    }
    exponents
}

/// Biased exponents of sixteen times four elements, a byte each.
#[inline(always)]
fn biased_of<const FRACTION_BITS: u32>(
    [first, second]: [&[u32; LANES]; 2],
    seen: &mut Magnitudes<[u32; LANES]>,
) -> [u32; LANES] {
    let mut four = [0; LANES];
    for lane in 0..LANES {
        let (largest, smallest) = (&mut seen.largest[lane], &mut seen.smallest[lane]);
        let mut one = |bits: u32| biased::<FRACTION_BITS>(bits, largest, smallest);
        four[lane] = one(first[lane] << 16)
            | one(first[lane]) << 8
            | one(second[lane] << 16) << 16
            | one(second[lane]) << 24;
    }
    four
}

/// From biased exponents to those beside doubles.
#[inline(always)]
fn make_relative<const FRACTION_BITS: u32>(fours: &mut [u32], largest: u32) {
    let [largest, ..] = (largest >> FRACTION_BITS).max(1).to_le_bytes();
    for exponent in bytemuck::cast_slice_mut::<u32, u8>(fours) {
        *exponent = relative(*exponent, largest);
    }
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

/// A row's double, of a pattern in the upper half.
#[inline(always)]
fn tilted<const FRACTION_BITS: u32>(bits: u32) -> f64 {
    let sign = u64::from(bits >> 31) << 63;
    let magnitude = bits & 0x7FFF_0000;
    let value = if FRACTION_BITS == BF16 {
        f32::from_bits(magnitude)
    } else {
        // The magnitude at its place in binary32, times the difference of biases.
        f32::from_bits(magnitude >> 3) * f32::from_bits((127 + 112) << 23)
    };
    let magnitude = if magnitude == 0 { NOTHING } else { f64::from(value) };
    f64::from_bits(magnitude.to_bits() | sign) * TILT
}

/// The pattern of a value that is already rounded. What a bf16 has in the lower half does not matter.
#[inline(always)]
pub(super) fn packed<const FRACTION_BITS: u32>(x: f32) -> u32 {
    let bits = x.to_bits();
    if FRACTION_BITS == BF16 {
        return bits >> 16;
    }
    let magnitude = bits & 0x7FFF_FFFF;
    // A sum with ½ has subnormals, multiples of 2^-24, in its last bits.
    let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits() & 0x3FF;
    let normal = (magnitude >> 13).wrapping_sub(112 << 10);
    let special = 0x7C00 | magnitude >> 13 & 0x3FF;
    let finite = if magnitude < 0x3880_0000 { subnormal } else { normal };
    let packed = if magnitude >= 0x7F80_0000 { special } else { finite };
    bits >> 16 & 0x8000 | packed
}

/// [`packed`] of a format.
pub(super) fn pattern_of_rounded(operand: Operand, x: f32) -> u32 {
    match operand {
        Operand::F16 => packed::<F16>(x),
        _ => packed::<BF16>(x),
    }
}

/// Fills a panel that has its size.
#[inline(always)]
pub(super) fn panel(
    panel: &mut Panel,
    recipe: BlockRecipe,
    from: &impl Source,
    transpose: impl Fn(&[&[u8; BYTES]; LANES]) -> Pairs + Copy,
    doubles: impl Fn(&[u32; LANES], u32, &mut [[f64; LANES]; 2]),
) -> Magnitudes<u32> {
    match (recipe.operand, recipe.width) {
        (Operand::Bf16, 16) => panel_of::<BF16, 8>(panel, recipe, from, transpose, doubles),
        (Operand::Bf16, 8) => panel_of::<BF16, 4>(panel, recipe, from, transpose, doubles),
        (Operand::F16, 16) => panel_of::<F16, 8>(panel, recipe, from, transpose, doubles),
        (Operand::F16, 8) => panel_of::<F16, 4>(panel, recipe, from, transpose, doubles),
        (Operand::F16, 4) => panel_of::<F16, 2>(panel, recipe, from, transpose, doubles),
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
) -> Magnitudes<u32> {
    let (_, shift) = shifts(recipe);
    let mut seen = Magnitudes::NONE;
    let Panel { elements, exponents, signs, .. } = panel;
    for (at, signs) in signs.chunks_mut(PAIRS / OF_BLOCK).enumerate() {
        let chunk = from.chunk(at, transpose);
        let pairs = OF_BLOCK * signs.len();
        for (signs, block) in signs.iter_mut().zip(chunk.chunks_exact(OF_BLOCK)) {
            let mut bits = [0; LANES];
            for (i, both) in block.iter().enumerate() {
                for lane in 0..LANES {
                    bits[lane] |= sign_bits(both[lane] >> 15, i);
                }
            }
            *signs = bits;
        }
        let first = PAIRS * at;
        match elements {
            Elements::Integers(elements) => {
                for (exponents, both) in exponents[first..][..pairs].iter_mut().zip(&chunk) {
                    *exponents = exponents_of::<FRACTION_BITS>(both, &mut seen);
                }
                for (two, both) in elements[2 * first..].as_chunks_mut::<2>().0.iter_mut().zip(&chunk) {
                    *two = integers::<FRACTION_BITS>(both, shift);
                }
            }
            Elements::Doubles(elements) => {
                let fours = exponents[first / 2..][..pairs / 2].iter_mut();
                for (four, [first, second]) in fours.zip(chunk.as_chunks().0) {
                    *four = biased_of::<FRACTION_BITS>([first, second], &mut seen);
                }
                for (two, both) in elements[2 * first..].as_chunks_mut::<2>().0.iter_mut().zip(&chunk) {
                    doubles(both, FRACTION_BITS, two);
                }
            }
        }
    }
    let seen = seen.all();
    if let Elements::Doubles(_) = elements {
        make_relative::<FRACTION_BITS>(exponents.as_flattened_mut(), seen.largest);
    }
    seen
}

/// Fills a row that has its size.
#[inline(always)]
pub(super) fn row(row: &mut Row, recipe: BlockRecipe, x: &[f32]) -> Magnitudes<u32> {
    match recipe.operand {
        Operand::Bf16 => row_of::<BF16>(row, recipe, x),
        Operand::F16 => row_of::<F16>(row, recipe, x),
        _ => unreachable!("no format of 16 bits: {recipe:?}"),
    }
}

#[inline(always)]
fn row_of<const FRACTION_BITS: u32>(row: &mut Row, recipe: BlockRecipe, x: &[f32]) -> Magnitudes<u32> {
    let (shift, _) = shifts(recipe);
    let pairs = usize::from(recipe.width) / 2;
    let mut seen = Magnitudes::NONE;
    let Row { elements, exponents, signs, .. } = row;
    for (at, signs) in signs.chunks_mut(PAIRS / pairs).enumerate() {
        let mut chunk = [0_u32; LANES];
        let rest = &x[(at * 2 * PAIRS).min(x.len())..];
        if let Some(values) = rest.first_chunk::<{ 2 * PAIRS }>() {
            for (i, chunk) in chunk.iter_mut().enumerate() {
                let [even, odd] = [values[2 * i], values[2 * i + 1]];
                *chunk = packed::<FRACTION_BITS>(even) | packed::<FRACTION_BITS>(odd) << 16;
            }
        } else {
            for (k, value) in rest.iter().enumerate() {
                chunk[k / 2] |= packed::<FRACTION_BITS>(*value) << (k % 2 * 16);
            }
        }
        let (first, here) = (at * PAIRS, pairs * signs.len());
        match elements {
            Elements::Integers(elements) => {
                exponents[first..][..here]
                    .copy_from_slice(&exponents_of::<FRACTION_BITS>(&chunk, &mut seen)[..here]);
                let [evens, odds] = integers::<FRACTION_BITS>(&chunk, shift);
                let elements = &mut elements[2 * first..][..2 * here];
                for (i, two) in elements.as_chunks_mut().0.iter_mut().enumerate() {
                    *two = [evens[i], odds[i]];
                }
            }
            Elements::Doubles(elements) => {
                // Pairs of pairs: the sixteen lanes of `biased_of` are these eight, twice.
                let evens = std::array::from_fn(|i| chunk[2 * i % LANES]);
                let odds = std::array::from_fn(|i| chunk[(2 * i + 1) % LANES]);
                let fours = biased_of::<FRACTION_BITS>([&evens, &odds], &mut seen);
                exponents[first / 2..][..here / 2].copy_from_slice(&fours[..here / 2]);
                let elements = &mut elements[2 * first..][..2 * here];
                for (two, both) in elements.as_chunks_mut().0.iter_mut().zip(chunk) {
                    *two = [tilted::<FRACTION_BITS>(both << 16), tilted::<FRACTION_BITS>(both)];
                }
            }
        }
        for (block, signs) in signs.iter_mut().enumerate() {
            for i in 0..pairs {
                *signs |= sign_bits(chunk[block * pairs + i] >> 15, i);
            }
        }
    }
    let seen = seen.all();
    if let Elements::Doubles(_) = elements {
        make_relative::<FRACTION_BITS>(exponents, seen.largest);
    }
    seen
}
