//! Speed of emulated tensor-core products, per instruction set, number of rows and threads.
//!
//!     cargo bench -p mantissa-numerics --bench tensor_core [-- K [N]]
//!
//! Normal-like operands in bf16. *Steps alone*: dot products of many rows with one panel that is unpacked already.
//! *Products*: as the engine runs them, with weights and rows unpacked from memory on the way; each thread has outputs
//! of its own. Prints the best of some rounds, and the clock that a chain of additions saw in the same run.
#![expect(clippy::print_stdout, reason = "a table is what it is for")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use mantissa_numerics::tensor_core::dot::{Instructions, LANES, Panel, Row};
use mantissa_numerics::tensor_core::{Architecture, BlockRecipe, Operand};

/// As the engine's.
const DEPTH: usize = 256;
const ROWS: usize = 128;

fn best(rounds: usize, mut body: impl FnMut()) -> Duration {
    let time = |body: &mut dyn FnMut()| {
        let start = Instant::now();
        body();
        start.elapsed()
    };
    (0..rounds).map(|_| time(&mut body)).min().unwrap_or_default()
}

/// Additions of one chain in a nanosecond: the clock in GHz.
fn clock() -> f64 {
    const COUNT: u32 = 20_000_000;
    let taken = best(9, || {
        let mut x = black_box(1_u64);
        for _ in 0..COUNT {
            // Not to be folded: each waits for the one before.
            x = black_box_add(x);
        }
        black_box(x);
    });
    f64::from(COUNT) * 8.0 / taken.as_secs_f64() / 1e9
}

#[cfg(target_arch = "x86_64")]
fn black_box_add(mut x: u64) -> u64 {
    // SAFETY: adds to a register.
    unsafe {
        std::arch::asm!(
            "add {0}, 1", "add {0}, 1", "add {0}, 1", "add {0}, 1",
            "add {0}, 1", "add {0}, 1", "add {0}, 1", "add {0}, 1",
            inout(reg) x, options(nomem, nostack)
        );
    }
    x
}

#[cfg(not(target_arch = "x86_64"))]
fn black_box_add(x: u64) -> u64 {
    (0..8).fold(x, |x, _| black_box(x + 1))
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn speed(macs: usize, taken: Duration) -> f64 {
    macs as f64 / taken.as_secs_f64() / 1e9
}

/// One thread's share of a product: `n × k` weights with `m` rows.
fn product(instructions: Instructions, recipe: BlockRecipe, x: &[f32], w: &[u8], k: usize) {
    let mut panel = Panel::default();
    for x in x.chunks(ROWS * k) {
        let rows: Vec<Row> = x
            .chunks_exact(k)
            .map(|x| {
                let mut row = Row::default();
                row.fill_rounded(instructions, recipe, x);
                row
            })
            .collect();
        for w in w.chunks_exact(LANES * k * 2) {
            let mut sums = vec![[0.0; LANES]; rows.len()];
            for from in (0..k).step_by(DEPTH) {
                let until = k.min(from + DEPTH);
                let lanes: [&[u8]; LANES] =
                    std::array::from_fn(|lane| &w[lane * k * 2..][from * 2..until * 2]);
                panel.fill_rows(instructions, recipe, &lanes);
                recipe.dots_of_rows(instructions, &rows, from, &panel, &mut sums);
            }
            black_box(sums);
        }
    }
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<usize>().ok());
    let k = numbers.next().unwrap_or(1536);
    let n = numbers.next().unwrap_or(576);
    let mut state = 1_u64;
    let mut draw = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let bits = state >> 32;
        // A geometric exponent, as that of normal numbers about 0.
        let exponent = 127 - (bits & 0xFF).trailing_ones();
        u16::from(bits >> 31 == 1) << 15
            | u16::try_from(exponent << 7).unwrap_or(0)
            | u16::try_from(bits >> 8 & 0x7F).unwrap_or(0)
    };
    let weights: Vec<u8> = (0..n * k).flat_map(|_| draw().to_le_bytes()).collect();
    let x: Vec<f32> = (0..512 * k).map(|_| f32::from_bits(u32::from(draw()) << 16)).collect();
    println!("K {k}, N {n}; clock {:.2} GHz", clock());
    for (name, architecture) in [("Hopper", Architecture::Hopper), ("Ampere", Architecture::Ampere)] {
        let Some(recipe) = architecture.block(Operand::Bf16) else { continue };
        for instructions in Instructions::ALL.into_iter().filter(|one| one.is_available()) {
            let slow = instructions == Instructions::Portable;
            let mut panel = Panel::default();
            let depth = k.min(DEPTH);
            let lanes: [&[u8]; LANES] = std::array::from_fn(|lane| &weights[lane * k * 2..][..depth * 2]);
            let filled = best(99, || panel.fill_rows(instructions, recipe, &lanes));
            let rows: Vec<Row> = x
                .chunks_exact(k)
                .take(64)
                .map(|x| {
                    let mut row = Row::default();
                    row.fill_rounded(instructions, recipe, x);
                    row
                })
                .collect();
            let mut sums = vec![[0.0; LANES]; rows.len()];
            let taken = best(if slow { 3 } else { 49 }, || {
                recipe.dots_of_rows(instructions, &rows, 0, &panel, black_box(&mut sums));
            });
            let row = taken / 64;
            println!(
                "{name}, {instructions:?}: steps alone {:.2} GMAC/s; taking weights apart costs {:.1} rows",
                speed(rows.len() * LANES * depth, taken),
                filled.as_secs_f64() / row.as_secs_f64()
            );
            if slow {
                continue;
            }
            for m in [1, 8, 64, 512] {
                let x = &x[..m * k];
                let rounds = if m < 64 { 15 } else { 5 };
                let one = best(rounds, || product(instructions, recipe, x, &weights, k));
                let half = n / 2 / LANES * LANES * k * 2;
                let two = best(rounds, || {
                    std::thread::scope(|scope| {
                        scope.spawn(|| product(instructions, recipe, x, &weights[..half], k));
                        product(instructions, recipe, x, &weights[half..], k);
                    });
                });
                let (one, two) = (speed(m * n * k, one), speed(m * n * k, two));
                println!(
                    "  {m:>3} rows: {one:6.2} GMAC/s on 1 thread, {two:6.2} on 2 ({:.2} times)",
                    two / one
                );
            }
        }
    }
}
