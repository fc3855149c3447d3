//! Operands of tensor-core products, unpacked: what [`super`] multiplies and how its elements are held.

use std::ops;

use bytemuck::Zeroable;
use half::f16;

use crate::tensor_core::{BlockRecipe, Operand, Term};

/// Dot products of one [`Panel`].
pub const LANES: usize = 16;

/// Exponent of a zero: below any sum of two others, and far enough from the 16-bit limits for differences.
pub(super) const ZERO: i16 = -8192;

/// Which instructions to use; it changes speed, never bits.
///
/// Example: [`BlockRecipe::dots`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Instructions {
    /// Plain Rust.
    Portable,
    /// AVX2.
    Avx2,
    /// AVX-512 F and BW.
    Avx512,
}

impl Instructions {
    /// All of them, slowest first.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// The fastest that this machine has.
    #[must_use]
    pub fn best() -> Self {
        Self::ALL.into_iter().rfind(|one| one.is_available()).unwrap_or(Self::Portable)
    }

    /// Whether this machine has them.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw"),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }
}

/// What a factor is multiplied by among doubles: it moves a product by less than its last bit, and by less than the
/// grid.
pub(super) const TILT: f64 = 1.0 + 1.0 / (1 << 30) as f64;

/// A zero among doubles: its products, with the largest of the other operand too, are below any grid.
pub(super) const NOTHING: f64 = f64::from_bits((1023 - 500) << 52);

/// Elements of an operand, in the form of some instructions.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Elements<I, D> {
    /// Significand in the low half (a row's is doubled), sign (1 or −1) in the high half.
    Integers(Vec<I>),
    /// Values; a row's times [`TILT`].
    Doubles(Vec<D>),
}

impl<I, D> Default for Elements<I, D> {
    fn default() -> Self {
        Self::Integers(Vec::new())
    }
}

impl<I, D> Elements<I, D> {
    pub(super) const fn len(&self) -> usize {
        match self {
            Self::Integers(elements) => elements.len(),
            Self::Doubles(elements) => elements.len(),
        }
    }

    /// Elements whose exponents share 32 bits.
    pub(super) const fn per_exponents(&self) -> usize {
        match self {
            Self::Integers(_) => 2,
            Self::Doubles(_) => 4,
        }
    }
}

impl<I: Zeroable + Clone, D: Zeroable + Clone> Elements<I, D> {
    /// Becomes `length` elements, whatever they are, of the form that `instructions` multiply.
    pub(super) fn resize(&mut self, instructions: Instructions, length: usize) {
        match self {
            Self::Integers(elements) if instructions != Instructions::Avx512 => {
                elements.resize(length, I::zeroed());
            }
            Self::Doubles(elements) if instructions == Instructions::Avx512 => {
                elements.resize(length, D::zeroed());
            }
            _ if instructions == Instructions::Avx512 => *self = Self::Doubles(vec![D::zeroed(); length]),
            _ => *self = Self::Integers(vec![I::zeroed(); length]),
        }
    }
}

/// Lanes of a panel's doubles: what interleaving 32-bit lanes to 64-bit ones leaves in the lower, then in the upper
/// half.
pub(super) const ORDER: [usize; LANES] = [0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15];

/// Where a lane stands in [`ORDER`].
pub(super) const PLACE: [usize; LANES] = {
    let mut place = [0; LANES];
    let mut at = 0;
    while at < LANES {
        place[ORDER[at]] = at;
        at += 1;
    }
    place
};

/// What an exponent among doubles is where an element is zero, or 2^128 times smaller than the operand's largest.
const FAR: u8 = i8::MIN.cast_unsigned();

/// An exponent among doubles: less the operand's largest, which is at least as large. *Shape:* biased; 0 for a zero.
pub(super) const fn relative(biased: u8, largest: u8) -> u8 {
    let below = largest.wrapping_sub(biased);
    if biased == 0 || below > FAR { FAR } else { 0_u8.wrapping_sub(below) }
}

/// One row of the first operand, unpacked.
///
/// Example: [`BlockRecipe::dots`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    pub(super) elements: Elements<u32, f64>,
    /// Beside integers, per pair of `K`: the exponent of the even element in the low half, of the odd one in the high
    /// half. Beside doubles, per four of `K`: a byte each, see [`relative`].
    pub(super) exponents: Vec<u32>,
    /// Per block, a bit for every negative element: see [`sign_bits`].
    pub(super) signs: Vec<u32>,
    /// Patterns of a row that has an infinity or a NaN.
    pub(super) patterns: Vec<u32>,
    pub(super) range: Range,
}

/// [`LANES`] rows of the second operand, unpacked and interleaved: as [`Row`], doubles in an order of their own.
///
/// Example: [`BlockRecipe::dots`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Panel {
    pub(super) elements: Elements<[u32; LANES], [f64; LANES]>,
    pub(super) exponents: Vec<[u32; LANES]>,
    pub(super) signs: Vec<[u32; LANES]>,
    /// Lane by lane, of a panel that has an infinity or a NaN.
    pub(super) patterns: Vec<u32>,
    pub(super) range: Range,
}

/// What keeps an operand from the fast way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    /// Whether there is an infinity or a NaN.
    pub(super) special: bool,
    /// Largest exponent.
    pub(super) largest: i32,
    /// Smallest exponent of what is not zero.
    pub(super) smallest: i32,
}

impl Range {
    /// Whether exponents of doubles do not tell the largest of some products: one may be 2^128 times smaller than the
    /// largest that there could be, or its grid finer than binary32's.
    pub(super) const fn is_wide(self, other: Self) -> bool {
        let smallest = self.smallest + other.smallest;
        smallest < -124 || self.largest + other.largest - smallest > i8::MAX as i32
    }
}

impl Default for Range {
    fn default() -> Self {
        Self { special: false, largest: i32::from(ZERO), smallest: -i32::from(ZERO) }
    }
}

/// How far significands of the first and second operand are shifted so that twice their product stands on the grid.
pub(super) fn shifts(recipe: BlockRecipe) -> (u32, u32) {
    let room = u32::from(recipe.fraction_bits) - 2 * recipe.operand.fraction_bits();
    (room / 2 + 1, room - room / 2)
}

/// Element and exponent of one pattern.
pub(super) fn parts(operand: Operand, bits: u32, shift: u32, range: &mut Range) -> (u32, u16) {
    let at = 31
        - if operand == Operand::Tf32 { 0 } else { 31 - operand.fraction_bits() - operand.exponent_bits() };
    let sign = if bits >> at & 1 == 1 { -1_i16 } else { 1 };
    let element = |significand: i16| pair((significand * sign).cast_unsigned(), sign.cast_unsigned());
    let Term::Finite { significand, exponent, .. } = operand.decode(bits) else {
        range.special = true;
        return (element(0), ZERO.cast_unsigned());
    };
    if significand == 0 {
        return (element(0), ZERO.cast_unsigned());
    }
    range.largest = range.largest.max(exponent);
    range.smallest = range.smallest.min(exponent);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most 11 bits and a shift of 3; an exponent of 8 bits"
    )]
    let (magnitude, exponent) = ((significand << shift) as i16, exponent as i16);
    (element(magnitude), exponent.cast_unsigned())
}

/// [`relative`] of one pattern.
fn relative_of(operand: Operand, bits: u32, largest: i32) -> u8 {
    let Term::Finite { significand: 1.., exponent, .. } = operand.decode(bits) else { return FAR };
    (exponent - largest).max(i8::MIN.into()).try_into().map_or(FAR, i8::cast_unsigned)
}

/// The pattern that was unpacked; a zero keeps its sign, a NaN or infinity is a zero.
pub(super) fn pattern(operand: Operand, element: u32, exponent: u16, shift: u32) -> u32 {
    let [significand, sign] = halves(element);
    let magnitude = significand.unsigned_abs() >> shift;
    let (fraction_bits, exponent_bits) = (operand.fraction_bits(), operand.exponent_bits());
    let biased = i32::from(exponent.cast_signed()) + (1 << (exponent_bits - 1)) - 1;
    let normal = magnitude >> fraction_bits == 1;
    let exponent = if normal { biased.unsigned_abs() << fraction_bits } else { 0 };
    let bits = exponent
        | magnitude & ((1 << fraction_bits) - 1)
        | u32::from(sign < 0) << (fraction_bits + exponent_bits);
    if operand == Operand::Tf32 { bits << 13 } else { bits }
}

/// The value of one pattern; a zero is [`NOTHING`], whatever is not finite anything.
pub(super) fn double(operand: Operand, bits: u32) -> f64 {
    let Term::Finite { negative, significand, exponent } = operand.decode(bits) else { return NOTHING };
    let last = exponent - operand.fraction_bits().cast_signed();
    let power = f64::from_bits(u64::from((1023 + last).unsigned_abs()) << 52);
    let magnitude = if significand == 0 { NOTHING } else { f64::from(significand) * power };
    if negative { -magnitude } else { magnitude }
}

/// The pattern that [`double`] was given, of the value with or without its [`TILT`].
pub(super) fn pattern_of(operand: Operand, value: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "to nearest, which is the value without the tilt")]
    let value = value as f32;
    match operand {
        Operand::F16 => f16::from_f32(value).to_bits().into(),
        Operand::Tf32 => value.to_bits(),
        _ => value.to_bits() >> 16,
    }
}

pub(super) fn pair(low: u16, high: u16) -> u32 {
    u32::from(low) | u32::from(high) << 16
}

/// Both halves, signed.
pub(super) const fn halves(pair: u32) -> [i32; 2] {
    [pair.cast_signed() << 16 >> 16, pair.cast_signed() >> 16]
}

/// Bits of the signs of one pair (bit 0 for the even, bit 16 for the odd element) at their place in a block's mask: at
/// most four in the low half of each byte, which is what a look-up counts.
pub(super) const fn sign_bits(both: u32, pair_of_block: usize) -> u32 {
    (both & 0x0001_0001) << (pair_of_block % 4 + pair_of_block / 4 * 8)
}

/// Length that `length` elements take, padded to whole blocks.
pub(super) fn padded(recipe: BlockRecipe, length: usize) -> usize {
    length.next_multiple_of(usize::from(recipe.width))
}

impl Row {
    /// What every other way of filling leaves.
    pub(super) fn fill_one_by_one(
        &mut self,
        instructions: Instructions,
        recipe: BlockRecipe,
        bits: impl ExactSizeIterator<Item = u32>,
    ) {
        let mut bits: Vec<u32> = bits.collect();
        let length = padded(recipe, bits.len());
        self.resize(instructions, recipe, length);
        bits.resize(length, 0);
        let (shift, _) = shifts(recipe);
        for (at, two) in bits.chunks_exact(2).enumerate() {
            let (even, exponent_even) = parts(recipe.operand, two[0], shift, &mut self.range);
            let (odd, exponent_odd) = parts(recipe.operand, two[1], shift, &mut self.range);
            match &mut self.elements {
                Elements::Integers(elements) => {
                    elements[2 * at..][..2].copy_from_slice(&[even, odd]);
                    self.exponents[at] = pair(exponent_even, exponent_odd);
                }
                Elements::Doubles(elements) => {
                    elements[2 * at] = double(recipe.operand, two[0]) * TILT;
                    elements[2 * at + 1] = double(recipe.operand, two[1]) * TILT;
                }
            }
            let pairs = usize::from(recipe.width) / 2;
            self.signs[at / pairs] |= sign_bits(even >> 31 | odd >> 31 << 16, at % pairs);
        }
        if let Elements::Doubles(_) = self.elements {
            for (four, bits) in self.exponents.iter_mut().zip(bits.chunks_exact(4)) {
                let bytes = |i| relative_of(recipe.operand, bits[i], self.range.largest);
                *four = u32::from_le_bytes(std::array::from_fn(bytes));
            }
        }
        if self.range.special {
            self.patterns = bits;
        }
    }

    pub(super) fn resize(&mut self, instructions: Instructions, recipe: BlockRecipe, length: usize) {
        assert!(recipe.is_fast(), "the reference alone computes {recipe:?}");
        self.range = Range::default();
        self.patterns.clear();
        self.elements.resize(instructions, length);
        self.exponents.resize(length / self.elements.per_exponents(), 0);
        self.signs.clear();
        self.signs.resize(length / usize::from(recipe.width), 0);
    }

    /// Elements, padding among them.
    pub(super) fn len(&self) -> usize {
        self.elements.len()
    }

    /// Patterns of a part of the row.
    pub(super) fn patterns(&self, recipe: BlockRecipe, range: ops::Range<usize>) -> Vec<u32> {
        if !self.patterns.is_empty() {
            return self.patterns[range].to_vec();
        }
        let (shift, _) = shifts(recipe);
        range
            .map(|k| match &self.elements {
                Elements::Integers(elements) => {
                    let exponent = low_half(self.exponents[k / 2] >> (k % 2 * 16));
                    pattern(recipe.operand, elements[k], exponent, shift)
                }
                Elements::Doubles(elements) => pattern_of(recipe.operand, elements[k]),
            })
            .collect()
    }
}

impl Panel {
    /// What every other way of filling leaves.
    pub(super) fn fill_one_by_one(
        &mut self,
        instructions: Instructions,
        recipe: BlockRecipe,
        rows: usize,
        length: usize,
        element: impl Fn(usize, usize) -> u32,
    ) {
        self.resize(instructions, recipe, rows, padded(recipe, length));
        let (_, shift) = shifts(recipe);
        let pairs = usize::from(recipe.width) / 2;
        for lane in 0..LANES {
            let bits = |k| if lane < rows && k < length { element(lane, k) } else { 0 };
            for at in 0..self.len() / 2 {
                let (even, exponent_even) = parts(recipe.operand, bits(2 * at), shift, &mut self.range);
                let (odd, exponent_odd) = parts(recipe.operand, bits(2 * at + 1), shift, &mut self.range);
                match &mut self.elements {
                    Elements::Integers(elements) => {
                        elements[2 * at][lane] = even;
                        elements[2 * at + 1][lane] = odd;
                        self.exponents[at][lane] = pair(exponent_even, exponent_odd);
                    }
                    Elements::Doubles(elements) => {
                        elements[2 * at][PLACE[lane]] = double(recipe.operand, bits(2 * at));
                        elements[2 * at + 1][PLACE[lane]] = double(recipe.operand, bits(2 * at + 1));
                    }
                }
                self.signs[at / pairs][lane] |= sign_bits(even >> 31 | odd >> 31 << 16, at % pairs);
            }
        }
        if let Elements::Doubles(_) = self.elements {
            for (at, fours) in self.exponents.iter_mut().enumerate() {
                for (lane, four) in fours.iter_mut().enumerate() {
                    let bits = |k| if lane < rows && k < length { element(lane, k) } else { 0 };
                    let bytes = |i| relative_of(recipe.operand, bits(4 * at + i), self.range.largest);
                    *four = u32::from_le_bytes(std::array::from_fn(bytes));
                }
            }
        }
        self.keep_special(rows, length, element);
    }

    pub(super) fn resize(
        &mut self,
        instructions: Instructions,
        recipe: BlockRecipe,
        rows: usize,
        length: usize,
    ) {
        assert!(recipe.is_fast(), "the reference alone computes {recipe:?}");
        assert!(rows <= LANES, "a panel has {LANES} rows");
        self.range = Range::default();
        self.patterns.clear();
        self.elements.resize(instructions, length);
        self.exponents.resize(length / self.elements.per_exponents(), [0; LANES]);
        self.signs.clear();
        self.signs.resize(length / usize::from(recipe.width), [0; LANES]);
    }

    /// Elements of a lane, padding among them.
    pub(super) fn len(&self) -> usize {
        self.elements.len()
    }

    /// Keeps the patterns where parts do not tell them.
    pub(super) fn keep_special(&mut self, rows: usize, length: usize, element: impl Fn(usize, usize) -> u32) {
        if self.range.special {
            let padded = self.len();
            self.patterns.resize(LANES * padded, 0);
            for (lane, patterns) in self.patterns.chunks_exact_mut(padded).enumerate().take(rows) {
                for (k, bits) in patterns[..length].iter_mut().enumerate() {
                    *bits = element(lane, k);
                }
            }
        }
    }

    /// Patterns of a part of one lane.
    pub(super) fn patterns(&self, recipe: BlockRecipe, lane: usize, range: ops::Range<usize>) -> Vec<u32> {
        if !self.patterns.is_empty() {
            return self.patterns[lane * self.len()..][range].to_vec();
        }
        let (_, shift) = shifts(recipe);
        range
            .map(|k| match &self.elements {
                Elements::Integers(elements) => {
                    let exponent = low_half(self.exponents[k / 2][lane] >> (k % 2 * 16));
                    pattern(recipe.operand, elements[k][lane], exponent, shift)
                }
                Elements::Doubles(elements) => pattern_of(recipe.operand, elements[k][PLACE[lane]]),
            })
            .collect()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
pub(super) const fn low_half(x: u32) -> u16 {
    x as u16
}

/// Some blocks of a row (`E` and `T` are one value) or of a panel (one per lane). [`super`] runs them.
pub(super) struct Parts<'a, E, T> {
    pub(super) range: Range,
    pub(super) elements: &'a [E],
    pub(super) exponents: &'a [T],
    pub(super) signs: &'a [T],
}

impl<'a, E, T> Parts<'a, E, T> {
    /// The blocks of `PAIRS` pairs that `cut` covers; `per_exponents` as [`Elements`] has it.
    pub(super) fn cut<const PAIRS: usize>(
        range: Range,
        (elements, per_exponents): (&'a [E], usize),
        exponents: &'a [T],
        signs: &'a [T],
        cut: &ops::Range<usize>,
    ) -> Self {
        let every = |elements: usize| cut.start / elements..cut.end / elements;
        Self {
            range,
            elements: &elements[every(1)],
            exponents: &exponents[every(per_exponents)],
            signs: &signs[every(2 * PAIRS)],
        }
    }
}
