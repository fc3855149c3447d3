//! Sixteen dot products at once, equal to [`BlockRecipe::chain`] on every input.
//!
//! Both operands are unpacked once. Every element has its exponent beside it, and a bit in a mask of signs, from which
//! a step counts how many of its products are negative. The elements themselves are held in one of two forms
//! (`Elements`), by the instructions that will multiply them.
//!
//! *Integers* (plain Rust, AVX2): exponents of 16 bits, two neighbours of `K` in 32; a signed significand that leaves
//! room for the alignment (so that a product already stands on the grid of its own exponent) beside its sign as 1 or
//! −1, in the two halves of 32 bits; one factor's significand is doubled. Multiplying two elements half by half and
//! adding gives `2p ± 1` with the sign of the product `p`, and its arithmetic shift by `s + 1` is `p` cut to the grid,
//! less one where the product is negative: so a cut towards zero costs a shift.
//!
//! *Doubles* (AVX-512): values in binary64, one factor's times `TILT`, a little more than 1. A sum that starts at 1.5 ·
//! 2^52 units of the grid cannot leave its binade, so each fused multiply-add that rounds down leaves a multiple of the
//! grid: the product cut to it, less one where the product is negative. For the tilt moves every product off the grid,
//! away from zero, and never as far as the next multiple. A zero is a value that keeps its sign and is too small for
//! any grid. Exponents are bytes below the operand's largest, four of `K` in 32 bits; where a byte may not tell the
//! largest product of a block, the elements' own exponents do.
//!
//! Infinities, NaNs, results beyond binary32, and for integers sums beyond 32 bits are left to the reference, lane by
//! lane.
//!
//! Left out: threads, tiles, split-K (the engine's), FP8 and the 13-bit result (the reference alone).

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod fill;
mod operands;
mod portable;

pub use operands::{Instructions, LANES, Panel, Row};

use fill::{Columns, OneByOne, Rows, Source};
use operands::{Elements, Parts, low_half, padded};

use half::f16;

use super::{BlockRecipe, Operand};

impl Row {
    /// [`Row::fill`] from values that are already rounded to the operand's format. Of bf16 the upper halves of their
    /// patterns count.
    ///
    /// # Panics
    /// When the recipe is not a fast one of bf16 or f16.
    pub fn fill_rounded(&mut self, instructions: Instructions, recipe: BlockRecipe, x: &[f32]) {
        assert!(matches!(recipe.operand, Operand::Bf16 | Operand::F16), "values rounded to 16 bits");
        assert!(instructions.is_available(), "this machine has no {instructions:?}");
        self.resize(instructions, recipe, padded(recipe, x.len()));
        let seen = match instructions {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the machine has the instructions.
            Instructions::Avx512 => unsafe { avx512::fill_row(self, recipe, x) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Instructions::Avx2 => unsafe { avx2::fill_row(self, recipe, x) },
            _ => fill::row(self, recipe, x),
        };
        self.range = seen.range(recipe.operand);
        if self.range.special {
            self.patterns.extend(x.iter().map(|x| fill::pattern_of_rounded(recipe.operand, *x)));
            self.patterns.resize(self.len(), 0);
        }
    }

    /// Unpacks a row for some instructions, padded with zeros to whole blocks. *Shape:* any length.
    ///
    /// # Panics
    /// When the recipe is not a fast one, or this machine lacks the instructions.
    pub fn fill(
        &mut self,
        instructions: Instructions,
        recipe: BlockRecipe,
        bits: impl ExactSizeIterator<Item = u32>,
    ) {
        let x: Vec<f32> = match recipe.operand {
            Operand::Bf16 => bits.map(|bits| f32::from_bits(bits << 16)).collect(),
            Operand::F16 => bits.map(|bits| f16::from_bits(low_half(bits)).to_f32()).collect(),
            _ => return self.fill_one_by_one(instructions, recipe, bits),
        };
        self.fill_rounded(instructions, recipe, &x);
    }
}

impl Panel {
    /// [`Panel::fill`] from rows of little-endian 16-bit patterns.
    ///
    /// *Shape:* up to [`LANES`] rows of equal length.
    ///
    /// # Panics
    /// When the recipe is not a fast one of a 16-bit format, there are more rows, or their lengths differ.
    pub fn fill_rows(&mut self, instructions: Instructions, recipe: BlockRecipe, rows: &[&[u8]]) {
        let bytes = rows.first().map_or(0, |row| row.len());
        assert!(rows.iter().all(|row| row.len() == bytes) && bytes.is_multiple_of(2), "rows of equal length");
        let length = bytes / 2;
        self.resize(instructions, recipe, rows.len(), padded(recipe, length));
        let from = Rows { rows, whole: bytes / fill::BYTES };
        self.fill_from(instructions, recipe, &from);
        let element =
            |row: usize, k: usize| u32::from(u16::from_le_bytes([rows[row][2 * k], rows[row][2 * k + 1]]));
        self.keep_special(rows.len(), length, element);
    }

    /// [`Panel::fill`] from a matrix in which rows of the panel are columns: `across(k)` is element `k` of all of them,
    /// as little-endian 16-bit patterns.
    ///
    /// # Panics
    /// When the recipe is not a fast one of a 16-bit format, there are more rows, or a slice has another length.
    pub fn fill_columns<'a>(
        &mut self,
        instructions: Instructions,
        recipe: BlockRecipe,
        rows: usize,
        length: usize,
        across: impl Fn(usize) -> &'a [u8],
    ) {
        self.resize(instructions, recipe, rows, padded(recipe, length));
        let across = |k: usize| {
            let bytes = across(k);
            assert_eq!(bytes.len(), 2 * rows, "an element of every row");
            bytes
        };
        self.fill_from(instructions, recipe, &Columns { rows, length, across });
        let element = |row: usize, k: usize| {
            u32::from(u16::from_le_bytes([across(k)[2 * row], across(k)[2 * row + 1]]))
        };
        self.keep_special(rows, length, element);
    }

    /// [`Panel::fill`] of a 16-bit format.
    pub(super) fn fill_elements(
        &mut self,
        instructions: Instructions,
        recipe: BlockRecipe,
        rows: usize,
        length: usize,
        element: impl Fn(usize, usize) -> u32,
    ) {
        self.resize(instructions, recipe, rows, padded(recipe, length));
        self.fill_from(instructions, recipe, &OneByOne { rows, length, element: &element });
        self.keep_special(rows, length, element);
    }

    fn fill_from(&mut self, instructions: Instructions, recipe: BlockRecipe, from: &impl Source) {
        assert!(instructions.is_available(), "this machine has no {instructions:?}");
        let seen = match instructions {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the machine has the instructions.
            Instructions::Avx512 => unsafe { avx512::fill(self, recipe, from) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Instructions::Avx2 => unsafe { avx2::fill(self, recipe, from) },
            _ => fill::panel(self, recipe, from, fill::transposed, fill::no_doubles),
        };
        self.range = seen.range(recipe.operand);
    }

    /// Unpacks up to [`LANES`] rows for some instructions. *Shape:* `rows` of `length` elements, read by
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
    /// When lengths differ, the range is off, this machine lacks the instructions, or an operand was unpacked
    /// for others that hold elements in another form.
    ///
    /// ```
    /// use mantissa_numerics::tensor_core::dot::{Instructions, LANES, Panel, Row};
    /// use mantissa_numerics::tensor_core::{Architecture, Operand};
    /// let (recipe, best) = (Architecture::Hopper.block(Operand::Bf16).unwrap(), Instructions::best());
    /// let (mut row, mut panel, mut sums) = (Row::default(), Panel::default(), [0.0; LANES]);
    /// row.fill_rounded(best, recipe, &[1.0, 2.0]);
    /// // Row `lane` of the panel is (lane, 1), as patterns of bf16.
    /// panel.fill(best, recipe, LANES, 2, |lane, k| [lane as f32, 1.0][k].to_bits() >> 16);
    /// recipe.dots(best, &row, &panel, 0..2, &mut sums);
    /// assert_eq!((sums[0], sums[1], sums[15]), (2.0, 3.0, 17.0));
    /// ```
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
    fn is_fast<const ROWS: usize>(&self, rows: [&Row; ROWS], sums: &[[f32; LANES]; ROWS]) -> bool {
        // The largest sum: every product of every block below 2^(2 + exponents), and the accumulator.
        let terms = i32::try_from(self.range.len().max(1).ilog2() + 2).unwrap_or(i32::MAX);
        let most = 126 - 2 - terms - self.panel.range.largest;
        if self.panel.range.special || rows.iter().any(|row| row.range.special || row.range.largest >= most) {
            return false;
        }
        // The highest bit, where an exponent is 252 or more.
        let high = |sum: &f32| (sum.to_bits() & 0x7F80_0000) + ((256 - 252) << 23);
        sums.as_flattened().iter().fold(0, |all, sum| all | high(sum)) >> 31 == 0
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
            if self.is_fast(rows.each_ref(), sums) {
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
        let sums_of_one = std::array::from_mut(sums);
        if self.is_fast([row], sums_of_one) {
            self.fast([row], sums_of_one);
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

    /// Adds to the sums. Returns a bit for each lane whose sum left 32 bits or binary32's normal numbers: it means
    /// nothing.
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
        let here = self.from..self.from + self.range.len();
        let Panel { range, elements, exponents, signs, .. } = self.panel;
        let per = elements.per_exponents();
        let other = "an operand that was unpacked for other instructions";
        if self.instructions == Instructions::Avx512 {
            let Elements::Doubles(elements) = elements else { panic!("{other}") };
            let panel = Parts::cut::<PAIRS>(*range, (elements, per), exponents, signs, &self.range);
            let rows = rows.map(|row| {
                let Elements::Doubles(elements) = &row.elements else { panic!("{other}") };
                Parts::cut::<PAIRS>(row.range, (elements, per), &row.exponents, &row.signs, &here)
            });
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the machine has the instructions; slices of rows and panel hold the same whole blocks.
            unsafe {
                if rows.iter().any(|row| row.range.is_wide(*range)) {
                    avx512::run::<PAIRS, ROWS, true>(&rows, &panel, self.recipe, sums);
                } else {
                    avx512::run::<PAIRS, ROWS, false>(&rows, &panel, self.recipe, sums);
                }
            }
            return [0; ROWS];
        }
        let Elements::Integers(elements) = elements else { panic!("{other}") };
        let fraction_bits = self.recipe.fraction_bits;
        let panel = Parts::cut::<PAIRS>(*range, (elements, per), exponents, signs, &self.range);
        let rows = rows.map(|row| {
            let Elements::Integers(elements) = &row.elements else { panic!("{other}") };
            Parts::cut::<PAIRS>(row.range, (elements, per), &row.exponents, &row.signs, &here)
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

#[cfg(test)]
mod products;
#[cfg(test)]
mod tests;
