//! Sixteen dot products at once, equal to [`BlockRecipe::chain`] on every input.
//!
//! Both operands are taken apart once: signed significands that leave room for the alignment (so that their product already
//! stands on the grid of its own exponent), and exponents; two neighbours of `K` share a 32-bit lane. A step is then a maximum of
//! sums of exponents, a product, a shift and an addition per element. Infinities, NaNs, sums beyond 32 bits and results
//! beyond binary32 are left to the reference, lane by lane.
//!
//! Left out: threads, tiles, split-K (the engine's), FP8 and the 13-bit result (the reference alone).

use super::{BlockRecipe, Operand, Term};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

/// Dot products of one [`Panel`].
pub const LANES: usize = 16;

/// Exponent of a zero: below any sum of two others, and far enough from the 16-bit limits for differences.
const ZERO: i16 = -8192;

/// Which instructions to use; it changes speed, never bits.
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

/// One row of the first operand, taken apart.
#[derive(Debug, Clone, Default)]
pub struct Row {
    bits: Vec<u32>,
    /// Per pair of `K`: the significand of the even element in the low half, of the odd one in the high half.
    even: Vec<u32>,
    odd: Vec<u32>,
    /// Exponents of both.
    exponents: Vec<u32>,
    range: Range,
}

/// [`LANES`] rows of the second operand, taken apart and interleaved.
#[derive(Debug, Clone, Default)]
pub struct Panel {
    /// Lane by lane.
    bits: Vec<u32>,
    significands: Vec<[u32; LANES]>,
    exponents: Vec<[u32; LANES]>,
    range: Range,
    length: usize,
}

/// What keeps an operand from the fast way.
#[derive(Debug, Clone, Copy)]
struct Range {
    /// Whether there is an infinity or a NaN.
    special: bool,
    /// Largest exponent.
    largest: i32,
}

impl Default for Range {
    fn default() -> Self {
        Self { special: false, largest: i32::from(ZERO) }
    }
}

/// How far significands of the first and second operand are shifted so that their product stands on the grid.
fn shifts(recipe: BlockRecipe) -> (u32, u32) {
    let room = u32::from(recipe.fraction_bits) - 2 * recipe.operand.fraction_bits();
    (room / 2, room - room / 2)
}

/// Signed significand and exponent of one element.
fn parts(operand: Operand, bits: u32, shift: u32, range: &mut Range) -> (u16, u16) {
    let Term::Finite { negative, significand, exponent } = operand.decode(bits) else {
        range.special = true;
        return (0, ZERO.cast_unsigned());
    };
    if significand == 0 {
        return (0, ZERO.cast_unsigned());
    }
    range.largest = range.largest.max(exponent);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most 11 bits and a shift of 3; an exponent of 8 bits"
    )]
    let (magnitude, exponent) = ((significand << shift) as i16, exponent as i16);
    ((if negative { -magnitude } else { magnitude }).cast_unsigned(), exponent.cast_unsigned())
}

fn pair(low: u16, high: u16) -> u32 {
    u32::from(low) | u32::from(high) << 16
}

/// Pairs of `K` that `length` elements take, padded to whole blocks.
fn pairs(recipe: BlockRecipe, length: usize) -> usize {
    length.next_multiple_of(usize::from(recipe.width)) / 2
}

impl Row {
    /// Takes a row apart, padded with zeros to whole blocks. *Shape:* any length.
    ///
    /// # Panics
    /// When the recipe is not a fast one.
    pub fn fill(&mut self, recipe: BlockRecipe, bits: impl ExactSizeIterator<Item = u32>) {
        assert!(recipe.is_fast(), "the reference alone computes {recipe:?}");
        let (shift, _) = shifts(recipe);
        self.range = Range::default();
        self.bits.clear();
        self.bits.extend(bits);
        let pairs = pairs(recipe, self.bits.len());
        self.bits.resize(2 * pairs, 0);
        for part in [&mut self.even, &mut self.odd, &mut self.exponents] {
            part.clear();
        }
        for two in self.bits.chunks_exact(2) {
            let (even, exponent_even) = parts(recipe.operand, two[0], shift, &mut self.range);
            let (odd, exponent_odd) = parts(recipe.operand, two[1], shift, &mut self.range);
            self.even.push(pair(even, 0));
            self.odd.push(pair(0, odd));
            self.exponents.push(pair(exponent_even, exponent_odd));
        }
    }
}

impl Panel {
    /// Takes up to [`LANES`] rows apart. *Shape:* `rows` of `length` elements, read by `element(row, k)`.
    ///
    /// # Panics
    /// When the recipe is not a fast one, or there are more rows.
    pub fn fill(
        &mut self,
        recipe: BlockRecipe,
        rows: usize,
        length: usize,
        element: impl Fn(usize, usize) -> u32,
    ) {
        assert!(recipe.is_fast(), "the reference alone computes {recipe:?}");
        assert!(rows <= LANES, "a panel has {LANES} rows");
        let (_, shift) = shifts(recipe);
        self.range = Range::default();
        let pairs = pairs(recipe, length);
        self.length = 2 * pairs;
        self.bits.clear();
        self.bits.resize(LANES * self.length, 0);
        self.significands.clear();
        self.significands.resize(pairs, [0; LANES]);
        self.exponents.clear();
        self.exponents.resize(pairs, [pair(ZERO.cast_unsigned(), ZERO.cast_unsigned()); LANES]);
        for row in 0..rows {
            let bits = &mut self.bits[row * self.length..][..self.length];
            for (k, bits) in bits[..length].iter_mut().enumerate() {
                *bits = element(row, k);
            }
            for (at, two) in bits.chunks_exact(2).enumerate() {
                let (even, exponent_even) = parts(recipe.operand, two[0], shift, &mut self.range);
                let (odd, exponent_odd) = parts(recipe.operand, two[1], shift, &mut self.range);
                self.significands[at][row] = pair(even, odd);
                self.exponents[at][row] = pair(exponent_even, exponent_odd);
            }
        }
    }
}

impl BlockRecipe {
    /// Whether [`BlockRecipe::dots`] computes it.
    #[must_use]
    pub const fn is_fast(self) -> bool {
        matches!(self.width, 4 | 8 | 16)
            && self.result_bits == 23
            && matches!(self.operand, Operand::Bf16 | Operand::F16 | Operand::Tf32)
            && matches!(self.fraction_bits, 23..=25)
    }

    /// Adds the products of `row` with the rows of `panel` over `K` in `from..until` to `sums`, as
    /// [`BlockRecipe::chain`] does.
    ///
    /// *Shape:* `from` and `until` are multiples of the width, or the end; lengths of `row` and `panel` agree. *Rounding:* as
    /// the reference, bit for bit.
    ///
    /// # Panics
    /// When lengths differ, the range is off, or this machine lacks the instructions.
    pub fn dots(
        self,
        instructions: Instructions,
        row: &Row,
        panel: &Panel,
        range: std::ops::Range<usize>,
        sums: &mut [f32; LANES],
    ) {
        let width = usize::from(self.width);
        let until = range.end.next_multiple_of(width);
        assert!(row.bits.len() == panel.length && until <= panel.length, "dot products of other lengths");
        assert!(range.start.is_multiple_of(width) && range.start <= until, "a range that cuts a block");
        assert!(instructions.is_available(), "this machine has no {instructions:?}");
        let blocks = (range.start / width, until / width);
        // The largest sum: every product of every block below 2^(2 + exponents), and the accumulator.
        let terms = i32::try_from((until - range.start).max(1).ilog2() + 2).unwrap_or(i32::MAX);
        let largest = row.range.largest + panel.range.largest + 2 + terms;
        let accumulator =
            sums.iter().map(|sum| i32::try_from(sum.to_bits() >> 23 & 255).unwrap_or(0) - 126).max();
        if row.range.special || panel.range.special || largest.max(accumulator.unwrap_or(0)) >= 126 {
            return self.reference(row, panel, range.start..until, sums, |_| true);
        }
        let [first, last] = [blocks.0, blocks.1].map(|block| block * width / 2);
        let view = View {
            even: &row.even[first..last],
            odd: &row.odd[first..last],
            row_exponents: &row.exponents[first..last],
            significands: &panel.significands[first..last],
            exponents: &panel.exponents[first..last],
        };
        let before = *sums;
        let lost = match self.width {
            16 => view.run::<8>(self, instructions, sums),
            8 => view.run::<4>(self, instructions, sums),
            _ => view.run::<2>(self, instructions, sums),
        };
        if lost != 0 {
            for lane in (0..LANES).filter(|lane| lost >> lane & 1 == 1) {
                sums[lane] = before[lane];
            }
            self.reference(row, panel, range.start..until, sums, |lane| lost >> lane & 1 == 1);
        }
    }

    fn reference(
        self,
        row: &Row,
        panel: &Panel,
        range: std::ops::Range<usize>,
        sums: &mut [f32; LANES],
        wanted: impl Fn(usize) -> bool,
    ) {
        for (lane, sum) in sums.iter_mut().enumerate().filter(|(lane, _)| wanted(*lane)) {
            let weights = &panel.bits[lane * panel.length..][range.clone()];
            *sum = self.chain(&row.bits[range.clone()], weights, *sum);
        }
    }
}

/// The blocks of a dot product.
struct View<'a> {
    even: &'a [u32],
    odd: &'a [u32],
    row_exponents: &'a [u32],
    significands: &'a [[u32; LANES]],
    exponents: &'a [[u32; LANES]],
}

impl View<'_> {
    /// Runs blocks of `PAIRS` pairs. Returns a bit for each lane whose sum left 32 bits or binary32's normal numbers: its result
    /// means nothing.
    fn run<const PAIRS: usize>(
        &self,
        recipe: BlockRecipe,
        instructions: Instructions,
        sums: &mut [f32; LANES],
    ) -> u16 {
        match instructions {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the caller checked that the machine has the instructions.
            Instructions::Avx512 => unsafe { avx512::run::<PAIRS>(self, recipe.fraction_bits, sums) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Instructions::Avx2 => unsafe { avx2::run::<PAIRS>(self, recipe.fraction_bits, sums) },
            _ => portable::run::<PAIRS>(self, recipe.fraction_bits, sums),
        }
    }
}

#[cfg(test)]
mod tests;
