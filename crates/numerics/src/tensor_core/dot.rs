//! Sixteen dot products at once, equal to [`BlockRecipe::chain`] on every input.
//!
//! Both operands are taken apart once. Every element has its exponent beside it (two neighbours of `K` share 32 bits), and a
//! bit in a mask of signs, from which a step counts how many of its products are negative. The elements themselves are held
//! in one of two forms ([`Elements`]), by the instructions that will multiply them:
//!
//! *Integers* (plain Rust, AVX2): a signed significand that leaves room for the alignment (so that a product already stands
//! on the grid of its own exponent) beside its sign as 1 or −1, in the two halves of 32 bits; one factor's significand is
//! doubled. Multiplying two elements half by half and adding gives `2p ± 1` with the sign of the product `p`, and its
//! arithmetic shift by `s + 1` is `p` cut to the grid, less one where the product is negative: so a cut towards zero costs a
//! shift.
//!
//! *Doubles* (AVX-512): values in binary64, one factor's times [`TILT`], a little more than 1. A sum that starts at 1.5 · 2^52
//! units of the grid cannot leave its binade, so each fused multiply-add that rounds down leaves a multiple of the grid: the
//! product cut to it, less one where the product is negative, since the tilt moves every product off the grid, away from
//! zero, and never as far as the next multiple. A zero is a value too small for any grid that keeps its sign.
//!
//! Infinities, NaNs, results beyond binary32, and for integers sums beyond 32 bits are left to the reference, lane by lane.
//!
//! Left out: threads, tiles, split-K (the engine's), FP8 and the 13-bit result (the reference alone).

use bytemuck::Zeroable;
use half::f16;

use super::{BlockRecipe, Operand, Term};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod fill;
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

/// What a factor is multiplied by among doubles: it moves a product by less than its last bit, and by less than the grid.
const TILT: f64 = 1.0 + 1.0 / (1 << 30) as f64;

/// A zero among doubles: its products, with the largest of the other operand too, are below any grid.
const NOTHING: f64 = f64::from_bits((1023 - 500) << 52);

/// Elements of an operand, in the form of some instructions.
#[derive(Debug, Clone, PartialEq)]
enum Elements<I, D> {
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

impl<I: Zeroable + Clone, D: Zeroable + Clone> Elements<I, D> {
    /// Becomes `length` elements, whatever they are, of the form that `instructions` multiply.
    fn resize(&mut self, instructions: Instructions, length: usize) {
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

/// Lanes of a panel's doubles: what interleaving 32-bit lanes to 64-bit ones leaves in the lower, then in the upper half.
const ORDER: [usize; LANES] = [0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15];

/// Where a lane stands in [`ORDER`].
const PLACE: [usize; LANES] = {
    let mut place = [0; LANES];
    let mut at = 0;
    while at < LANES {
        place[ORDER[at]] = at;
        at += 1;
    }
    place
};

/// One row of the first operand, taken apart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    elements: Elements<u32, f64>,
    /// Per pair of `K`: the exponent of the even element in the low half, of the odd one in the high half.
    exponents: Vec<u32>,
    /// Per block, a bit for every negative element: see [`sign_bits`].
    signs: Vec<u32>,
    /// Patterns of a row that has an infinity or a NaN.
    patterns: Vec<u32>,
    range: Range,
}

/// [`LANES`] rows of the second operand, taken apart and interleaved: as [`Row`], doubles in the order of [`ORDER`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Panel {
    elements: Elements<[u32; LANES], [f64; LANES]>,
    exponents: Vec<[u32; LANES]>,
    signs: Vec<[u32; LANES]>,
    /// Lane by lane, of a panel that has an infinity or a NaN.
    patterns: Vec<u32>,
    range: Range,
}

/// What keeps an operand from the fast way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// How far significands of the first and second operand are shifted so that twice their product stands on the grid.
fn shifts(recipe: BlockRecipe) -> (u32, u32) {
    let room = u32::from(recipe.fraction_bits) - 2 * recipe.operand.fraction_bits();
    (room / 2 + 1, room - room / 2)
}

/// Element and exponent of one pattern.
fn parts(operand: Operand, bits: u32, shift: u32, range: &mut Range) -> (u32, u16) {
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
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most 11 bits and a shift of 3; an exponent of 8 bits"
    )]
    let (magnitude, exponent) = ((significand << shift) as i16, exponent as i16);
    (element(magnitude), exponent.cast_unsigned())
}

/// The pattern that was unpacked; a zero keeps its sign, a NaN or infinity is a zero.
fn pattern(operand: Operand, element: u32, exponent: u16, shift: u32) -> u32 {
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
fn double(operand: Operand, bits: u32) -> f64 {
    let Term::Finite { negative, significand, exponent } = operand.decode(bits) else { return NOTHING };
    let last = exponent - operand.fraction_bits().cast_signed();
    let power = f64::from_bits(u64::from((1023 + last).unsigned_abs()) << 52);
    let magnitude = if significand == 0 { NOTHING } else { f64::from(significand) * power };
    if negative { -magnitude } else { magnitude }
}

/// The pattern that [`double`] was given, of the value with or without its [`TILT`].
fn pattern_of(operand: Operand, value: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "to nearest, which is the value without the tilt")]
    let value = value as f32;
    match operand {
        Operand::F16 => f16::from_f32(value).to_bits().into(),
        Operand::Tf32 => value.to_bits(),
        _ => value.to_bits() >> 16,
    }
}

fn pair(low: u16, high: u16) -> u32 {
    u32::from(low) | u32::from(high) << 16
}

/// Both halves, signed.
const fn halves(pair: u32) -> [i32; 2] {
    [pair.cast_signed() << 16 >> 16, pair.cast_signed() >> 16]
}

/// Bits of the signs of one pair (bit 0 for the even, bit 16 for the odd element) at their place in a block's mask: at
/// most four in the low half of each byte, which is what a look-up counts.
const fn sign_bits(both: u32, pair_of_block: usize) -> u32 {
    (both & 0x0001_0001) << (pair_of_block % 4 + pair_of_block / 4 * 8)
}

/// Length that `length` elements take, padded to whole blocks.
fn padded(recipe: BlockRecipe, length: usize) -> usize {
    length.next_multiple_of(usize::from(recipe.width))
}

impl Row {
    /// Takes a row apart for some instructions, padded with zeros to whole blocks. *Shape:* any length.
    ///
    /// # Panics
    /// When the recipe is not a fast one, or this machine lacks the instructions.
    pub fn fill(
        &mut self,
        instructions: Instructions,
        recipe: BlockRecipe,
        bits: impl ExactSizeIterator<Item = u32>,
    ) {
        if recipe.operand == Operand::Bf16 {
            let x: Vec<f32> = bits.map(|bits| f32::from_bits(bits << 16)).collect();
            self.fill_bf16(instructions, recipe, &x);
        } else {
            self.fill_one_by_one(instructions, recipe, bits);
        }
    }

    /// What every other way of filling leaves.
    fn fill_one_by_one(
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
                Elements::Integers(elements) => elements[2 * at..][..2].copy_from_slice(&[even, odd]),
                Elements::Doubles(elements) => {
                    elements[2 * at] = double(recipe.operand, two[0]) * TILT;
                    elements[2 * at + 1] = double(recipe.operand, two[1]) * TILT;
                }
            }
            self.exponents[at] = pair(exponent_even, exponent_odd);
            let pairs = usize::from(recipe.width) / 2;
            self.signs[at / pairs] |= sign_bits(even >> 31 | odd >> 31 << 16, at % pairs);
        }
        if self.range.special {
            self.patterns = bits;
        }
    }

    fn resize(&mut self, instructions: Instructions, recipe: BlockRecipe, length: usize) {
        assert!(recipe.is_fast(), "the reference alone computes {recipe:?}");
        self.range = Range::default();
        self.patterns.clear();
        self.elements.resize(instructions, length);
        self.exponents.resize(length / 2, 0);
        self.signs.clear();
        self.signs.resize(length / usize::from(recipe.width), 0);
    }

    /// Elements, padding among them.
    fn len(&self) -> usize {
        2 * self.exponents.len()
    }

    /// Patterns of a part of the row.
    fn patterns(&self, recipe: BlockRecipe, range: std::ops::Range<usize>) -> Vec<u32> {
        if !self.patterns.is_empty() {
            return self.patterns[range].to_vec();
        }
        let (shift, _) = shifts(recipe);
        let exponent = |k: usize| low_half(self.exponents[k / 2] >> (k % 2 * 16));
        range
            .map(|k| match &self.elements {
                Elements::Integers(elements) => pattern(recipe.operand, elements[k], exponent(k), shift),
                Elements::Doubles(elements) => pattern_of(recipe.operand, elements[k]),
            })
            .collect()
    }
}

impl Panel {
    /// Takes up to [`LANES`] rows apart for some instructions. *Shape:* `rows` of `length` elements, read by
    /// `element(row, k)`.
    ///
    /// # Panics
    /// When the recipe is not a fast one, there are more rows, or this machine lacks the instructions.
    pub fn fill(
        &mut self,
        instructions: Instructions,
        recipe: BlockRecipe,
        rows: usize,
        length: usize,
        element: impl Fn(usize, usize) -> u32,
    ) {
        if recipe.operand == Operand::Tf32 {
            self.fill_one_by_one(instructions, recipe, rows, length, element);
        } else {
            self.fill_elements(instructions, recipe, rows, length, element);
        }
    }

    /// What every other way of filling leaves.
    fn fill_one_by_one(
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
            for at in 0..self.exponents.len() {
                let (even, exponent_even) = parts(recipe.operand, bits(2 * at), shift, &mut self.range);
                let (odd, exponent_odd) = parts(recipe.operand, bits(2 * at + 1), shift, &mut self.range);
                match &mut self.elements {
                    Elements::Integers(elements) => {
                        elements[2 * at][lane] = even;
                        elements[2 * at + 1][lane] = odd;
                    }
                    Elements::Doubles(elements) => {
                        elements[2 * at][PLACE[lane]] = double(recipe.operand, bits(2 * at));
                        elements[2 * at + 1][PLACE[lane]] = double(recipe.operand, bits(2 * at + 1));
                    }
                }
                self.exponents[at][lane] = pair(exponent_even, exponent_odd);
                self.signs[at / pairs][lane] |= sign_bits(even >> 31 | odd >> 31 << 16, at % pairs);
            }
        }
        self.keep_special(rows, length, element);
    }

    fn resize(&mut self, instructions: Instructions, recipe: BlockRecipe, rows: usize, length: usize) {
        assert!(recipe.is_fast(), "the reference alone computes {recipe:?}");
        assert!(rows <= LANES, "a panel has {LANES} rows");
        self.range = Range::default();
        self.patterns.clear();
        self.elements.resize(instructions, length);
        self.exponents.resize(length / 2, [0; LANES]);
        self.signs.clear();
        self.signs.resize(length / usize::from(recipe.width), [0; LANES]);
    }

    /// Elements of a lane, padding among them.
    fn len(&self) -> usize {
        2 * self.exponents.len()
    }

    /// Keeps the patterns where parts do not tell them.
    fn keep_special(&mut self, rows: usize, length: usize, element: impl Fn(usize, usize) -> u32) {
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
    fn patterns(&self, recipe: BlockRecipe, lane: usize, range: std::ops::Range<usize>) -> Vec<u32> {
        if !self.patterns.is_empty() {
            return self.patterns[lane * self.len()..][range].to_vec();
        }
        let (_, shift) = shifts(recipe);
        let exponent = |k: usize| low_half(self.exponents[k / 2][lane] >> (k % 2 * 16));
        range
            .map(|k| match &self.elements {
                Elements::Integers(elements) => {
                    pattern(recipe.operand, elements[k][lane], exponent(k), shift)
                }
                Elements::Doubles(elements) => pattern_of(recipe.operand, elements[k][PLACE[lane]]),
            })
            .collect()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
const fn low_half(x: u32) -> u16 {
    x as u16
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

    /// Adds the products of `row` with the rows of `panel` over `K` in `range` to `sums`, as [`BlockRecipe::chain`]
    /// does.
    ///
    /// *Shape:* the range starts at a multiple of the width and ends at one, or at the end; lengths of `row` and
    /// `panel` agree. *Rounding:* as the reference, bit for bit.
    ///
    /// # Panics
    /// When lengths differ, the range is off, this machine lacks the instructions, or an operand was taken apart for others
    /// that hold elements in another form.
    pub fn dots(
        self,
        instructions: Instructions,
        row: &Row,
        panel: &Panel,
        range: std::ops::Range<usize>,
        sums: &mut [f32; LANES],
    ) {
        assert!(row.len() == panel.len(), "dot products of other lengths");
        let rows = std::slice::from_ref(row);
        self.run(instructions, rows, range.start, panel, range, std::slice::from_mut(sums));
    }

    /// [`BlockRecipe::dots`] of many rows with a panel that holds a part of `K`, from `from` of the rows on.
    ///
    /// *Shape:* as many `sums` as rows; `from` is a multiple of the width. Rows are faster together than one by one.
    ///
    /// # Panics
    /// As [`BlockRecipe::dots`].
    pub fn dots_of_rows(
        self,
        instructions: Instructions,
        rows: &[Row],
        from: usize,
        panel: &Panel,
        sums: &mut [[f32; LANES]],
    ) {
        self.run(instructions, rows, from, panel, 0..panel.len(), sums);
    }

    fn run(
        self,
        instructions: Instructions,
        rows: &[Row],
        from: usize,
        panel: &Panel,
        range: std::ops::Range<usize>,
        sums: &mut [[f32; LANES]],
    ) {
        assert!(instructions.is_available(), "this machine has no {instructions:?}");
        let task = Task::new(self, instructions, from, panel, range);
        assert_eq!(rows.len(), sums.len(), "a row of sums for each row");
        // Among doubles, a row's next step waits for all of its last: four rows keep the machine busy.
        let (rows, sums) =
            if instructions == Instructions::Avx512 { task.together::<4>(rows, sums) } else { (rows, sums) };
        let (rows, sums) = task.together::<2>(rows, sums);
        task.together::<1>(rows, sums);
    }
}

/// Whole blocks of a panel, and where they are in the rows.
struct Task<'a> {
    recipe: BlockRecipe,
    instructions: Instructions,
    panel: &'a Panel,
    /// Elements of the panel.
    range: std::ops::Range<usize>,
    /// Where the range begins in the rows.
    from: usize,
}

impl<'a> Task<'a> {
    fn new(
        recipe: BlockRecipe,
        instructions: Instructions,
        from: usize,
        panel: &'a Panel,
        range: std::ops::Range<usize>,
    ) -> Self {
        let width = usize::from(recipe.width);
        let until = range.end.next_multiple_of(width);
        assert!(until <= panel.len() && panel.len().is_multiple_of(width), "other lengths");
        assert!(range.start.is_multiple_of(width) && range.start <= until, "a range that cuts a block");
        assert!(from.is_multiple_of(width), "a range that cuts a block");
        Self { recipe, instructions, panel, range: range.start..until, from }
    }

    /// Whether sums stay within binary32's finite numbers.
    fn is_fast(&self, row: &Row, sums: &[f32; LANES]) -> bool {
        // The largest sum: every product of every block below 2^(2 + exponents), and the accumulator.
        let terms = i32::try_from(self.range.len().max(1).ilog2() + 2).unwrap_or(i32::MAX);
        let largest = row.range.largest + self.panel.range.largest + 2 + terms;
        let accumulator = sums.iter().fold(0, |largest, sum| (sum.to_bits() & 0x7F80_0000).max(largest));
        !row.range.special && !self.panel.range.special && largest < 126 && accumulator < (126 + 126) << 23
    }

    /// Runs as many rows as there are `ROWS` of; leaves the others.
    fn together<'r, const ROWS: usize>(
        &self,
        rows: &'r [Row],
        sums: &'r mut [[f32; LANES]],
    ) -> (&'r [Row], &'r mut [[f32; LANES]]) {
        let (sets, rest) = rows.as_chunks::<ROWS>();
        let (sums, sums_of_rest) = sums.split_at_mut(sets.len() * ROWS);
        for (rows, sums) in sets.iter().zip(sums.as_chunks_mut::<ROWS>().0) {
            if rows.iter().zip(&*sums).all(|(row, sums)| self.is_fast(row, sums)) {
                self.fast(rows.each_ref(), sums);
            } else {
                for (row, sums) in rows.iter().zip(sums) {
                    self.one(row, sums);
                }
            }
        }
        (rest, sums_of_rest)
    }

    fn one(&self, row: &Row, sums: &mut [f32; LANES]) {
        if self.is_fast(row, sums) {
            self.fast([row], std::array::from_mut(sums));
        } else {
            self.reference(row, sums, |_| true);
        }
    }

    fn fast<const ROWS: usize>(&self, rows: [&Row; ROWS], sums: &mut [[f32; LANES]; ROWS]) {
        if self.instructions == Instructions::Avx512 {
            // Loses none.
            self.attempt(rows, sums);
            return;
        }
        let before = *sums;
        let lost = self.attempt(rows, sums);
        for (row, sums) in sums.iter_mut().enumerate().filter(|(row, _)| lost[*row] != 0) {
            for lane in (0..LANES).filter(|lane| lost[row] >> lane & 1 == 1) {
                sums[lane] = before[row][lane];
            }
            self.reference(rows[row], sums, |lane| lost[row] >> lane & 1 == 1);
        }
    }

    /// Adds to the sums. Returns a bit for each lane whose sum left 32 bits or binary32's normal numbers: it means nothing.
    fn attempt<const ROWS: usize>(&self, rows: [&Row; ROWS], sums: &mut [[f32; LANES]; ROWS]) -> [u16; ROWS] {
        match self.recipe.width {
            16 => self.blocks::<8, ROWS>(rows, sums),
            8 => self.blocks::<4, ROWS>(rows, sums),
            _ => self.blocks::<2, ROWS>(rows, sums),
        }
    }

    fn blocks<const PAIRS: usize, const ROWS: usize>(
        &self,
        rows: [&Row; ROWS],
        sums: &mut [[f32; LANES]; ROWS],
    ) -> [u16; ROWS] {
        let fraction_bits = self.recipe.fraction_bits;
        let until = self.from + self.range.len();
        let here = |row: usize| self.from / row..until / row;
        let part = |row: usize| self.range.start / row..self.range.end / row;
        let other = "an operand that was taken apart for other instructions";
        if self.instructions == Instructions::Avx512 {
            let Elements::Doubles(elements) = &self.panel.elements else { panic!("{other}") };
            let panel = Parts {
                elements: &elements[part(1)],
                exponents: &self.panel.exponents[part(2)],
                signs: &self.panel.signs[part(2 * PAIRS)],
            };
            let rows = rows.map(|row| {
                let Elements::Doubles(elements) = &row.elements else { panic!("{other}") };
                Parts {
                    elements: &elements[here(1)],
                    exponents: &row.exponents[here(2)],
                    signs: &row.signs[here(2 * PAIRS)],
                }
            });
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the machine has the instructions; slices of rows and panel hold the same whole blocks.
            unsafe {
                avx512::run::<PAIRS, ROWS>(&rows, &panel, fraction_bits, sums);
            }
            return [0; ROWS];
        }
        let Elements::Integers(elements) = &self.panel.elements else { panic!("{other}") };
        let panel = Parts {
            elements: &elements[part(1)],
            exponents: &self.panel.exponents[part(2)],
            signs: &self.panel.signs[part(2 * PAIRS)],
        };
        let rows = rows.map(|row| {
            let Elements::Integers(elements) = &row.elements else { panic!("{other}") };
            Parts {
                elements: &elements[here(1)],
                exponents: &row.exponents[here(2)],
                signs: &row.signs[here(2 * PAIRS)],
            }
        });
        match self.instructions {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Instructions::Avx2 => unsafe { avx2::run::<PAIRS, ROWS>(&rows, &panel, fraction_bits, sums) },
            _ => portable::run::<PAIRS, ROWS>(&rows, &panel, fraction_bits, sums),
        }
    }

    fn reference(&self, row: &Row, sums: &mut [f32; LANES], wanted: impl Fn(usize) -> bool) {
        let x = row.patterns(self.recipe, self.from..self.from + self.range.len());
        for (lane, sum) in sums.iter_mut().enumerate().filter(|(lane, _)| wanted(*lane)) {
            *sum = self.recipe.chain(&x, &self.panel.patterns(self.recipe, lane, self.range.clone()), *sum);
        }
    }
}

/// Some blocks of a row (`E` and `T` are one value) or of a panel (one per lane). Running them is [`Task::attempt`].
struct Parts<'a, E, T> {
    elements: &'a [E],
    exponents: &'a [T],
    signs: &'a [T],
}

#[cfg(test)]
mod products;
#[cfg(test)]
mod tests;
