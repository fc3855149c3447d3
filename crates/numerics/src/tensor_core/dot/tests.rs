use super::operands::{Range, TILT, double, parts, pattern, pattern_of, shifts};
use super::*;
use crate::tensor_core::Architecture;

struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        u32::try_from(self.0 >> 32).unwrap()
    }

    /// A pattern of one of several kinds, from like sizes to any bits.
    fn operand(&mut self, operand: Operand, kind: u32) -> u32 {
        let (fraction_bits, exponent_bits) = (operand.fraction_bits(), operand.exponent_bits());
        let bias = (1 << (exponent_bits - 1)) - 1;
        let (any, pick) = (self.next(), self.next());
        if kind == 8 && pick >> 28 != 0 {
            // Whole blocks of zeros.
            return (any >> 31) << (exponent_bits + fraction_bits);
        }
        let exponent = match kind {
            0 | 8 => bias - 2 + pick % 5,
            1 => bias - (pick % 12).min(bias),
            2 => pick % (2 * bias + 1),
            3 => pick % 3,
            4 => 2 * bias + 1 - pick % 3,
            // All significands as large as they can be: sums leave 31 bits.
            5 => return bias << fraction_bits | ((1 << fraction_bits) - 1),
            _ => pick % (2 * bias + 2),
        };
        let magnitude = if kind == 1 && pick >> 28 == 0 { 0 } else { exponent << fraction_bits };
        let fraction = if magnitude == 0 && kind == 1 { 0 } else { any & ((1 << fraction_bits) - 1) };
        (any >> 31) << (exponent_bits + fraction_bits) | magnitude | fraction
    }
}

fn recipes() -> Vec<BlockRecipe> {
    let all = Architecture::ALL.into_iter().flat_map(|a| Operand::ALL.map(|operand| a.block(operand)));
    let mut all: Vec<BlockRecipe> = all.flatten().filter(|recipe| recipe.is_fast()).collect();
    all.sort_by_key(|recipe| format!("{recipe:?}"));
    all.dedup();
    all
}

#[test]
fn every_instruction_set_is_the_reference() {
    let mut draws = Draws(7);
    for recipe in recipes() {
        for round in 0..270 {
            let kind = round % 9;
            let length =
                usize::from(recipe.width) * (1 + (round as usize / 9) % 5) - (round as usize / 45) % 3;
            let (kind_a, kind_b) = if kind == 7 { (0, 3) } else { (kind, kind) };
            let place = |bits: u32| if recipe.operand == Operand::Tf32 { bits << 13 } else { bits };
            let a: Vec<u32> = (0..length).map(|_| place(draws.operand(recipe.operand, kind_a))).collect();
            let b: Vec<Vec<u32>> = (0..LANES)
                .map(|_| (0..length).map(|_| place(draws.operand(recipe.operand, kind_b))).collect())
                .collect();
            let start: [f32; LANES] = std::array::from_fn(|lane| match (round as usize + lane) % 5 {
                0 => 0.0,
                1 => -0.0,
                2 => f32::from_bits(draws.next()),
                3 => f32::from_bits(draws.next() & 0x807F_FFFF),
                _ => f32::from_bits(draws.next() & 0x80FF_FFFF | (120 + draws.next() % 12) << 23),
            });
            let expected: Vec<u32> =
                (0..LANES).map(|lane| recipe.chain(&a, &b[lane], start[lane]).to_bits()).collect();
            for instructions in Instructions::ALL.into_iter().filter(|one| one.is_available()) {
                let (mut row, mut panel) = (Row::default(), Panel::default());
                row.fill(instructions, recipe, a.iter().copied());
                panel.fill(instructions, recipe, LANES, length, |lane, k| b[lane][k]);
                let mut sums = start;
                recipe.dots(instructions, &row, &panel, 0..length, &mut sums);
                let found: Vec<u32> = sums.iter().map(|sum| sum.to_bits()).collect();
                assert_eq!(found, expected, "{instructions:?}, {recipe:?}, kind {kind}, round {round}");
            }
        }
    }
}

/// Exponents as far apart as a byte tells, and farther: of one operand, or of both.
#[test]
fn exponents_far_apart_are_the_references() {
    let recipe = Architecture::Hopper.block(Operand::Bf16).unwrap();
    let mut draws = Draws(17);
    let mut wide = [0; 2];
    for below in 110..160_u32 {
        for (of_row, of_panel) in [(below, 0), (0, below), (below / 2, below - below / 2)] {
            // The large ones only where nothing is added up: what they hide would not be seen.
            let mut draw = |below: u32, k: usize| {
                let (any, pick) = (draws.next(), draws.next());
                let exponent = match pick {
                    _ if k >= 32 && pick.is_multiple_of(2) => 160,
                    _ if pick.is_multiple_of(8) => 160 - below,
                    // So that the grid cuts.
                    _ => 160 - below + (pick >> 8) % 32.min(below + 1),
                };
                if pick >> 30 == 0 { any & 0x8000 } else { any & 0x807F | exponent << 7 }
            };
            let a: Vec<u32> = (0..64).map(|k| draw(of_row, k)).collect();
            let b: Vec<Vec<u32>> = (0..LANES).map(|_| (0..64).map(|k| draw(of_panel, k)).collect()).collect();
            // From nothing, and from a sum that hides small products.
            let start: [f32; LANES] = std::array::from_fn(|lane| if lane < 8 { 0.0 } else { 1e-13 });
            for instructions in Instructions::ALL.into_iter().filter(|one| one.is_available()) {
                let (mut row, mut panel) = (Row::default(), Panel::default());
                row.fill(instructions, recipe, a.iter().copied());
                panel.fill(instructions, recipe, LANES, 64, |lane, k| b[lane][k]);
                wide[usize::from(row.range.is_wide(panel.range))] += 1;
                let mut sums = start;
                recipe.dots(instructions, &row, &panel, 0..32, &mut sums);
                for lane in 0..LANES {
                    let expected = recipe.chain(&a[..32], &b[lane][..32], start[lane]);
                    assert_eq!(sums[lane].to_bits(), expected.to_bits(), "{instructions:?}, {below}, {lane}");
                }
            }
        }
    }
    assert!(wide[0] > 20 && wide[1] > 20, "both ways are tried: {wide:?}");
}

#[test]
fn a_dot_product_in_parts_is_the_whole() {
    let recipe = Architecture::Hopper.block(Operand::Bf16).unwrap();
    let mut draws = Draws(9);
    let a: Vec<u32> = (0..96).map(|_| draws.operand(Operand::Bf16, 0)).collect();
    let b: Vec<u32> = (0..96).map(|_| draws.operand(Operand::Bf16, 1)).collect();
    for instructions in Instructions::ALL.into_iter().filter(|one| one.is_available()) {
        let (mut row, mut panel) = (Row::default(), Panel::default());
        row.fill(instructions, recipe, a.iter().copied());
        panel.fill(instructions, recipe, 1, 96, |_, k| b[k]);
        let mut sums = [0.0; LANES];
        recipe.dots(instructions, &row, &panel, 0..48, &mut sums);
        recipe.dots(instructions, &row, &panel, 48..96, &mut sums);
        assert_eq!(sums[0].to_bits(), recipe.chain(&a, &b, 0.0).to_bits());
        assert!(sums[1..].iter().all(|sum| sum.to_bits() == 0), "rows that are not there");
    }
}

/// A binary16 in binary32, payloads of NaNs too.
fn value_of_f16(bits: u32) -> f32 {
    if bits >> 10 & 31 == 31 {
        return f32::from_bits((bits & 0x8000) << 16 | 0x7F80_0000 | (bits & 0x3FF) << 13);
    }
    half::f16::from_bits(u16::try_from(bits).unwrap()).to_f32()
}

#[test]
fn every_f16_is_packed_as_it_was() {
    for bits in 0..=0xFFFF_u32 {
        assert_eq!(fill::pattern_of_rounded(Operand::F16, value_of_f16(bits)), bits, "{bits:04x}");
    }
}

/// Filling from memory leaves what filling element by element leaves, on any patterns and lengths.
#[test]
fn every_way_of_filling_is_the_reference() {
    let mut draws = Draws(11);
    for recipe in recipes().into_iter().filter(|recipe| recipe.operand != Operand::Tf32) {
        for round in 0..160_usize {
            let kind = u32::try_from(round % 9).unwrap();
            let (length, rows) = (1 + round * 7 % 150, 1 + round % LANES);
            let values: Vec<Vec<u32>> = (0..rows)
                .map(|_| (0..length).map(|_| draws.operand(recipe.operand, kind)).collect())
                .collect();
            let bytes = |values: &mut dyn Iterator<Item = u32>| -> Vec<u8> {
                values.flat_map(|bits| u16::try_from(bits).unwrap().to_le_bytes()).collect()
            };
            let lines: Vec<Vec<u8>> = values.iter().map(|row| bytes(&mut row.iter().copied())).collect();
            let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
            let columns: Vec<Vec<u8>> =
                (0..length).map(|k| bytes(&mut values.iter().map(|row| row[k]))).collect();
            for instructions in Instructions::ALL.into_iter().filter(|one| one.is_available()) {
                let what = format!("{instructions:?}, {recipe:?}, kind {kind}, {rows} of {length}");
                let mut expected = Panel::default();
                expected.fill_one_by_one(instructions, recipe, rows, length, |row, k| values[row][k]);
                let same = |panel: &Panel, how: &str| {
                    let special = panel.range.special;
                    assert_eq!(special, expected.range.special, "{how}, {what}");
                    if special {
                        assert_eq!(panel.patterns, expected.patterns, "{how}, {what}");
                    } else {
                        assert!(*panel == expected, "{how}, {what}");
                    }
                };
                // A panel that held something else before.
                let mut panel = Panel::default();
                panel.fill(instructions, recipe, LANES, 200, |_, _| 0xFFFF);
                panel.fill_rows(instructions, recipe, &lines);
                same(&panel, "rows");
                panel.fill_columns(instructions, recipe, rows, length, |k| &columns[k]);
                same(&panel, "columns");
                panel.fill(instructions, recipe, rows, length, |row, k| values[row][k]);
                same(&panel, "elements");
            }
            let x: Vec<f32> = match recipe.operand {
                // What a rounded value has in its lower half does not matter.
                Operand::Bf16 => {
                    values[0].iter().map(|bits| f32::from_bits(bits << 16 | draws.next() >> 31)).collect()
                }
                _ => values[0].iter().map(|bits| value_of_f16(*bits)).collect(),
            };
            for instructions in Instructions::ALL.into_iter().filter(|one| one.is_available()) {
                let mut expected = Row::default();
                expected.fill_one_by_one(instructions, recipe, values[0].iter().copied());
                let mut row = Row::default();
                row.fill(instructions, recipe, (0..200).map(|_| 0xFFFF));
                row.fill_rounded(instructions, recipe, &x);
                assert_eq!(row.range.special, expected.range.special);
                if row.range.special {
                    assert_eq!(row.patterns, expected.patterns);
                } else {
                    assert_eq!(row, expected, "{instructions:?}, kind {kind}, {length}");
                }
            }
        }
    }
}

/// What is unpacked can be packed again: the reference is asked with it.
#[test]
fn patterns_survive_being_taken_apart() {
    for recipe in recipes() {
        let (shift_row, shift_panel) = shifts(recipe);
        for bits in 0..=0xFFFF_u32 {
            let bits = match recipe.operand {
                // 19 bits: the sign, all exponents, some fractions.
                Operand::Tf32 => bits << 16 | (bits & 7) << 13,
                _ => bits,
            };
            for shift in [shift_row, shift_panel] {
                let mut range = Range::default();
                let (element, exponent) = parts(recipe.operand, bits, shift, &mut range);
                if !range.special {
                    assert_eq!(pattern(recipe.operand, element, exponent, shift), bits, "{recipe:?}");
                    let value = double(recipe.operand, bits);
                    assert_eq!(pattern_of(recipe.operand, value), bits, "{recipe:?}");
                    assert_eq!(pattern_of(recipe.operand, value * TILT), bits, "{recipe:?}");
                }
            }
        }
    }
}

/// Many rows at once, a part of `K` at a time, from a panel of that part.
#[test]
fn rows_together_are_rows_one_by_one() {
    let mut draws = Draws(13);
    for (operand, count) in
        [Operand::Bf16, Operand::F16].into_iter().flat_map(|o| (0..10).map(move |n| (o, n)))
    {
        let recipe = Architecture::Hopper.block(operand).unwrap();
        let kind = |row: usize| if row == 3 { 6 } else { u32::from(row == 1) };
        let x: Vec<Vec<u32>> =
            (0..count).map(|row| (0..96).map(|_| draws.operand(operand, kind(row))).collect()).collect();
        let w: Vec<Vec<u32>> =
            (0..LANES).map(|_| (0..96).map(|_| draws.operand(operand, 1)).collect()).collect();
        for instructions in Instructions::ALL.into_iter().filter(|one| one.is_available()) {
            let rows: Vec<Row> = x
                .iter()
                .map(|x| {
                    let mut row = Row::default();
                    row.fill(instructions, recipe, x.iter().copied());
                    row
                })
                .collect();
            let mut sums = vec![[0.0; LANES]; count];
            let mut panel = Panel::default();
            for part in [0..64, 64..96] {
                panel.fill(instructions, recipe, LANES, part.len(), |lane, k| w[lane][part.start + k]);
                recipe.dots_of_rows(instructions, &rows, part.start, &panel, &mut sums);
            }
            for (x, sums) in x.iter().zip(&sums) {
                for (w, sum) in w.iter().zip(sums) {
                    assert_eq!(sum.to_bits(), recipe.chain(x, w, 0.0).to_bits(), "{instructions:?}, {count}");
                }
            }
        }
    }
}
