//! Every product of two bf16 through one of Hopper's steps, on every instruction set: alone, and beside an accumulator.
//!
//! All 2^32 pairs. What a step must leave is computed by [`expected`], written apart from the reference in binary64, because the
//! reference takes hours for them; that it agrees with the reference, every pair that a fast path hands on and the sample of
//! the ordinary tests show. A pair's place among the sixteen of a step, the lane and the accumulator follow
//! from the pair, so not every combination of those is tried.

use super::*;
use crate::tensor_core::Architecture;

/// Cells that differ, of all that were compared.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Count {
    compared: u64,
    by_reference: u64,
    differ: u64,
}

fn value(bits: u32) -> f64 {
    f64::from(f32::from_bits(bits << 16))
}

fn power(exponent: i32) -> f64 {
    f64::from_bits(u64::from((exponent + 1023).unsigned_abs()) << 52)
}

/// `accumulator + a · b` by one step, from its definition. *Shape:* the accumulator is normal or zero.
fn expected(a: u32, b: u32, accumulator: f32) -> u32 {
    let product = value(a) * value(b);
    if product.is_nan() {
        return 0x7FFF_FFFF;
    }
    if product.is_infinite() {
        return if product < 0.0 { 0xFF80_0000 } else { 0x7F80_0000 };
    }
    let exponent = |bits: u32, fraction_bits: u32| (bits >> fraction_bits & 255).max(1).cast_signed() - 127;
    let of_product = exponent(a, 7) + exponent(b, 7);
    let of_accumulator = exponent(accumulator.to_bits(), 23);
    let largest = match (product == 0.0, accumulator == 0.0) {
        (true, true) => return 0,
        (true, false) => of_accumulator,
        (false, true) => of_product,
        (false, false) => of_product.max(of_accumulator),
    };
    // Exact: powers of two, and integers below 2^28.
    let unit = power(largest - 25);
    let sum = ((product / unit).trunc() + (f64::from(accumulator) / unit).trunc()) * unit;
    if sum == 0.0 {
        return 0;
    }
    #[expect(clippy::cast_possible_truncation, reason = "rounding is meant, and mended below")]
    let nearest = sum as f32;
    if sum.abs() >= power(128) {
        return nearest.to_bits();
    }
    nearest.to_bits() - u32::from(f64::from(nearest.abs()) > sum.abs())
}

fn mixed(x: u32) -> u32 {
    let x = (x ^ x >> 16).wrapping_mul(0x7FEB_352D);
    let x = (x ^ x >> 15).wrapping_mul(0x846C_A68B);
    x ^ x >> 16
}

/// An accumulator whose exponent is near the product's.
fn accumulator(a: u32, b: u32) -> f32 {
    let random = mixed(a << 16 | b);
    let product = (a >> 7 & 255).max(1).cast_signed() + (b >> 7 & 255).max(1).cast_signed() - 127;
    let near = product + (random & 63).cast_signed() - 31;
    f32::from_bits(random & 0x807F_FFFF | near.clamp(1, 246).unsigned_abs() << 23)
}

/// Pairs of each of `first` with each panel of sixteen of the others, every `stride`th.
fn compare(first: &(impl Iterator<Item = u32> + Clone), stride: usize, accumulate: bool) -> Count {
    let recipe = Architecture::Hopper.block(Operand::Bf16).unwrap();
    let sets: Vec<Instructions> = Instructions::ALL.into_iter().filter(|one| one.is_available()).collect();
    let mut count = Count::default();
    let mut panels = vec![Panel::default(); 4096];
    let mut row = Row::default();
    for place in 0..LANES {
        for (number, panel) in panels.iter_mut().enumerate() {
            let number = u32::try_from(number * LANES).unwrap();
            panel.fill(recipe, LANES, LANES, |lane, k| {
                if k == place { number + u32::try_from(lane).unwrap() } else { 0 }
            });
        }
        for a in first.clone() {
            row.fill(recipe, (0..LANES).map(|k| if k == place { a } else { 0 }));
            let turn = mixed(a) as usize;
            for number in (0..panels.len()).step_by(stride) {
                if (number / stride + turn) % LANES != place {
                    continue;
                }
                let panel = &panels[number];
                let b: [u32; LANES] =
                    std::array::from_fn(|lane| u32::try_from(number * LANES + lane).unwrap());
                let start: [f32; LANES] =
                    if accumulate { b.map(|b| accumulator(a, b)) } else { [0.0; LANES] };
                let expected: [u32; LANES] = std::array::from_fn(|lane| expected(a, b[lane], start[lane]));
                // What goes to the reference as a whole goes there from every instruction set.
                let task = Task::new(recipe, sets[0], 0, panel, 0..LANES);
                let fast = task.is_fast(&row, &start);
                for set in &sets[..if fast { sets.len() } else { 1 }] {
                    let mut sums = start;
                    recipe.dots(*set, &row, panel, 0..LANES, &mut sums);
                    for lane in 0..LANES {
                        if sums[lane].to_bits() != expected[lane] {
                            count.differ += 1;
                            if count.differ < 10 {
                                println!(
                                    "{set:?}: {a:04x} · {:04x} + {:08x} at {place} is {:08x}, expected {:08x}",
                                    b[lane],
                                    start[lane].to_bits(),
                                    sums[lane].to_bits(),
                                    expected[lane]
                                );
                            }
                        }
                    }
                    count.compared += 16;
                }
                count.by_reference += if fast { 0 } else { 16 };
            }
        }
    }
    count
}

fn both(threads: usize, step: usize, stride: usize) {
    for accumulate in [false, true] {
        let start = std::time::Instant::now();
        let counts: Vec<Count> = std::thread::scope(|scope| {
            let share = |thread: usize| (0..=0xFFFF_u32).skip(thread * step).step_by(step * threads);
            let workers: Vec<_> = (0..threads)
                .map(|thread| scope.spawn(move || compare(&share(thread), stride, accumulate)))
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).collect()
        });
        let sum = |of: fn(&Count) -> u64| counts.iter().map(of).sum::<u64>();
        println!(
            "{}: {} results compared, {} pairs by the reference as a whole, {} differ, {:.0} s",
            if accumulate { "beside an accumulator" } else { "alone" },
            sum(|count| count.compared),
            sum(|count| count.by_reference),
            sum(|count| count.differ),
            start.elapsed().as_secs_f64()
        );
        assert!(sum(|count| count.compared) > 0);
        assert_eq!(sum(|count| count.differ), 0);
    }
}

#[test]
fn sampled_products_are_exact() {
    // Steps that share no factor with what they walk, so that every exponent is met with every exponent.
    both(1, 389, 19);
}

#[test]
fn the_expectation_is_the_reference() {
    let recipe = Architecture::Hopper.block(Operand::Bf16).unwrap();
    for number in 0..300_000_u32 {
        let (a, b) = (mixed(number) & 0xFFFF, mixed(!number) & 0xFFFF);
        for start in [0.0, accumulator(a, b)] {
            let found = recipe.step(&[a], &[b], start).to_bits();
            assert_eq!(found, expected(a, b, start), "{a:04x} · {b:04x} + {start}");
        }
    }
}

/// All of them: `just exhaustive-products`.
#[test]
#[ignore = "minutes"]
fn exhaustive_products_are_exact() {
    both(2, 1, 1);
}
