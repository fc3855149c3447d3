//! Speed of sixteen emulated tensor-core dot products on one thread, per instruction set.
//!
//!     cargo bench -p mantissa-numerics --bench tensor_core [-- K]
//!
//! Normal-like operands in bf16, Hopper's step. Prints the best of nine rounds, and what taking operands apart costs beside it.
#![expect(clippy::print_stdout, reason = "a table is what it is for")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use mantissa_numerics::tensor_core::dot::{Instructions, LANES, Panel, Row};
use mantissa_numerics::tensor_core::{Architecture, Operand};

const ROWS: usize = 64;

fn best(mut body: impl FnMut()) -> Duration {
    let time = |body: &mut dyn FnMut()| {
        let start = Instant::now();
        body();
        start.elapsed()
    };
    (0..9).map(|_| time(&mut body)).min().unwrap_or_default()
}

fn main() {
    let length: usize = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(1536);
    let mut state = 1_u64;
    let mut draw = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let bits = state >> 32;
        // A geometric exponent, as that of normal numbers about 0.
        let exponent = 127 - (bits & 0xFF).trailing_ones();
        (u32::from(bits >> 31 == 1) << 15) | exponent << 7 | u32::try_from(bits >> 8 & 0x7F).unwrap_or(0)
    };
    for (name, architecture) in [("Hopper", Architecture::Hopper), ("Ampere", Architecture::Ampere)] {
        let Some(recipe) = architecture.block(Operand::Bf16) else { continue };
        let weights: Vec<u32> = (0..LANES * length).map(|_| draw()).collect();
        let mut panel = Panel::default();
        let filled = best(|| panel.fill(recipe, LANES, length, |row, k| weights[row * length + k]));
        let rows: Vec<Row> = (0..ROWS)
            .map(|_| {
                let bits: Vec<u32> = (0..length).map(|_| draw()).collect();
                let mut row = Row::default();
                row.fill(recipe, bits.into_iter());
                row
            })
            .collect();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let macs = (ROWS * LANES * length) as f64;
        for instructions in Instructions::ALL.into_iter().filter(|one| one.is_available()) {
            let taken = best(|| {
                for row in &rows {
                    let mut sums = [0.0; LANES];
                    recipe.dots(instructions, row, &panel, 0..length, &mut sums);
                    black_box(sums);
                }
            });
            let speed = macs / taken.as_secs_f64() / 1e9;
            let share = filled.as_secs_f64() / taken.as_secs_f64() * 100.0;
            println!(
                "{name}, {instructions:?}, K {length}: {speed:.2} GMAC/s (a panel for {ROWS} rows: {share:.0}% more)"
            );
        }
    }
}
