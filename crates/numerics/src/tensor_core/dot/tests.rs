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
        let exponent = match kind {
            0 => bias - 2 + pick % 5,
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
        for round in 0..240 {
            let kind = round % 8;
            let length =
                usize::from(recipe.width) * (1 + (round as usize / 8) % 5) - (round as usize / 40) % 3;
            let (kind_a, kind_b) = if kind == 7 { (0, 3) } else { (kind, kind) };
            let place = |bits: u32| if recipe.operand == Operand::Tf32 { bits << 13 } else { bits };
            let a: Vec<u32> = (0..length).map(|_| place(draws.operand(recipe.operand, kind_a))).collect();
            let b: Vec<Vec<u32>> = (0..LANES)
                .map(|_| (0..length).map(|_| place(draws.operand(recipe.operand, kind_b))).collect())
                .collect();
            let start: [f32; LANES] = std::array::from_fn(|lane| match (round as usize + lane) % 4 {
                0 => 0.0,
                1 => -0.0,
                2 => f32::from_bits(draws.next()),
                _ => f32::from_bits(draws.next() & 0x80FF_FFFF | (120 + draws.next() % 12) << 23),
            });
            let expected: Vec<u32> =
                (0..LANES).map(|lane| recipe.chain(&a, &b[lane], start[lane]).to_bits()).collect();
            let (mut row, mut panel) = (Row::default(), Panel::default());
            row.fill(recipe, a.iter().copied());
            panel.fill(recipe, LANES, length, |lane, k| b[lane][k]);
            for instructions in Instructions::ALL.into_iter().filter(|one| one.is_available()) {
                let mut sums = start;
                recipe.dots(instructions, &row, &panel, 0..length, &mut sums);
                let found: Vec<u32> = sums.iter().map(|sum| sum.to_bits()).collect();
                assert_eq!(found, expected, "{instructions:?}, {recipe:?}, kind {kind}, round {round}");
            }
        }
    }
}

#[test]
fn a_dot_product_in_parts_is_the_whole() {
    let recipe = Architecture::Hopper.block(Operand::Bf16).unwrap();
    let mut draws = Draws(9);
    let a: Vec<u32> = (0..96).map(|_| draws.operand(Operand::Bf16, 0)).collect();
    let b: Vec<u32> = (0..96).map(|_| draws.operand(Operand::Bf16, 1)).collect();
    let (mut row, mut panel) = (Row::default(), Panel::default());
    row.fill(recipe, a.iter().copied());
    panel.fill(recipe, 1, 96, |_, k| b[k]);
    for instructions in Instructions::ALL.into_iter().filter(|one| one.is_available()) {
        let mut sums = [0.0; LANES];
        recipe.dots(instructions, &row, &panel, 0..48, &mut sums);
        recipe.dots(instructions, &row, &panel, 48..96, &mut sums);
        assert_eq!(sums[0].to_bits(), recipe.chain(&a, &b, 0.0).to_bits());
        assert!(sums[1..].iter().all(|sum| sum.to_bits() == 0), "rows that are not there");
    }
}
