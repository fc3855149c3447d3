//! Every product of two bf16, and of two f16, through one of Hopper's steps, on every instruction set: alone, and
//! beside an accumulator.
//!
//! All 2^32 pairs with AVX2 and AVX-512, every eighth with plain Rust. What a step must leave is computed by
//! [`expected`], which is written independently of the reference, in binary64, and is several times as fast. That the
//! two agree is tested on every eighth of the pairs that a fast path does not take, and on 300,000 others. A pair's
//! place among the sixteen of a step, the lane and the accumulator follow from the pair, so not every combination of
//! those is tried.

use half::bf16;

use super::*;
use crate::tensor_core::Architecture;

/// The formats whose products are tried.
const OPERANDS: [Operand; 2] = [Operand::Bf16, Operand::F16];

/// Panels that hold every pattern once.
const PANELS: usize = 0x1_0000 / LANES;

/// Results of one step.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Count {
    pairs: u64,
    fast: u64,
    by_reference: u64,
    differ: u64,
}

fn value(operand: Operand, bits: u32) -> f64 {
    match operand {
        Operand::F16 => f16::from_bits(low_half(bits)).to_f64(),
        _ => bf16::from_bits(low_half(bits)).to_f64(),
    }
}

/// The exponent of a factor; of a subnormal, that of the least normal one.
fn exponent(operand: Operand, bits: u32) -> i32 {
    let of_format = operand.exponent_bits();
    let biased = bits >> operand.fraction_bits() & ((1 << of_format) - 1);
    biased.max(1).cast_signed() - ((1 << (of_format - 1)) - 1)
}

fn power(exponent: i32) -> f64 {
    f64::from_bits(u64::from((exponent + 1023).unsigned_abs()) << 52)
}

/// `accumulator + a · b` by one step, from its definition. *Shape:* the accumulator is normal or zero.
fn expected(operand: Operand, a: u32, b: u32, accumulator: f32) -> u32 {
    let product = value(operand, a) * value(operand, b);
    if product.is_nan() {
        return 0x7FFF_FFFF;
    }
    if product.is_infinite() {
        return if product < 0.0 { 0xFF80_0000 } else { 0x7F80_0000 };
    }
    let of_product = exponent(operand, a) + exponent(operand, b);
    let of_accumulator = (accumulator.to_bits() >> 23 & 255).max(1).cast_signed() - 127;
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
fn accumulator(operand: Operand, a: u32, b: u32) -> f32 {
    let random = mixed(a << 16 | b);
    let product = exponent(operand, a) + exponent(operand, b) + 127;
    let near = product + (random & 63).cast_signed() - 31;
    f32::from_bits(random & 0x807F_FFFF | near.clamp(1, 246).unsigned_abs() << 23)
}

/// Pairs of each of `first` with each panel of sixteen of the others, every `stride`th.
fn compare(
    operand: Operand,
    first: &(impl Iterator<Item = u32> + Clone),
    stride: usize,
    accumulate: bool,
) -> Count {
    let recipe = Architecture::Hopper.block(operand).unwrap();
    let sets: Vec<Instructions> = Instructions::ALL.into_iter().filter(|one| one.is_available()).collect();
    let mut count = Count::default();
    let (mut pairs, mut fast, mut by_reference) = (0, 0, 0);
    let mut panels = vec![vec![Panel::default(); PANELS]; sets.len()];
    let mut rows = vec![Row::default(); sets.len()];
    for place in 0..LANES {
        for (set, panels) in sets.iter().zip(&mut panels) {
            for (number, panel) in panels.iter_mut().enumerate() {
                let number = u32::try_from(number * LANES).unwrap();
                panel.fill(*set, recipe, LANES, LANES, |lane, k| {
                    if k == place { number + u32::try_from(lane).unwrap() } else { 0 }
                });
            }
        }
        for a in first.clone() {
            for (set, row) in sets.iter().zip(&mut rows) {
                row.fill(*set, recipe, (0..LANES).map(|k| if k == place { a } else { 0 }));
            }
            let turn = mixed(a) as usize;
            for number in (0..PANELS).step_by(stride) {
                if (number / stride + turn) % LANES != place {
                    continue;
                }
                let b: [u32; LANES] =
                    std::array::from_fn(|lane| u32::try_from(number * LANES + lane).unwrap());
                let start: [f32; LANES] =
                    if accumulate { b.map(|b| accumulator(operand, a, b)) } else { [0.0; LANES] };
                let expected: [u32; LANES] =
                    std::array::from_fn(|lane| expected(operand, a, b[lane], start[lane]));
                let mut compare = |lane: usize, found: f32, by: &dyn std::fmt::Debug| {
                    if found.to_bits() != expected[lane] {
                        count.differ += 1;
                        if count.differ < 10 {
                            let (b, start) = (b[lane], start[lane].to_bits());
                            let (found, expected) = (found.to_bits(), expected[lane]);
                            println!(
                                "{by:?}: {a:04x} · {b:04x} + {start:08x} at {place} is {found:08x}, expected {expected:08x}"
                            );
                        }
                    }
                };
                pairs += 16;
                let eighth = ((number / stride + turn) / LANES).is_multiple_of(8);
                let mut left = u16::MAX;
                for ((set, panels), row) in sets.iter().zip(&panels).zip(&rows) {
                    let task = Task::new(recipe, *set, 0, &panels[number], 0..LANES);
                    if *set == Instructions::Portable && !eighth || !task.is_fast([row], &[start]) {
                        continue;
                    }
                    let mut sums = [start];
                    let [lost] = task.attempt([row], &mut sums);
                    let [sums] = sums;
                    left &= lost;
                    for lane in 0..LANES {
                        if lost >> lane & 1 == 0 {
                            compare(lane, sums[lane], set);
                            fast += 1;
                        } else {
                            let magnitude = f32::from_bits(expected[lane] & 0x7FFF_FFFF);
                            assert!(
                                magnitude < 1e-24,
                                "{set:?} leaves {a:04x} · {:04x} to the reference",
                                b[lane]
                            );
                        }
                    }
                }
                if eighth {
                    for lane in (0..LANES).filter(|lane| left >> lane & 1 == 1) {
                        compare(lane, recipe.step(&[a], &[b[lane]], start[lane]), &"reference");
                        by_reference += 1;
                    }
                }
            }
        }
    }
    Count { pairs, fast, by_reference, ..count }
}

fn both(threads: usize, step: usize, stride: usize) {
    for (operand, accumulate) in OPERANDS.into_iter().flat_map(|o| [(o, false), (o, true)]) {
        let start = std::time::Instant::now();
        let counts: Vec<Count> = std::thread::scope(|scope| {
            let share = |thread: usize| (0..=0xFFFF_u32).skip(thread * step).step_by(step * threads);
            let workers: Vec<_> = (0..threads)
                .map(|thread| scope.spawn(move || compare(operand, &share(thread), stride, accumulate)))
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).collect()
        });
        let sum = |of: fn(&Count) -> u64| counts.iter().map(of).sum::<u64>();
        println!(
            "{operand:?} {}: {} pairs, {} results of fast paths, {} of the reference, {} differ, {:.0} s",
            if accumulate { "beside an accumulator" } else { "alone" },
            sum(|count| count.pairs),
            sum(|count| count.fast),
            sum(|count| count.by_reference),
            sum(|count| count.differ),
            start.elapsed().as_secs_f64()
        );
        let pairs = 0x1_0000_usize.div_ceil(step) * PANELS.div_ceil(stride) * LANES;
        assert_eq!(sum(|count| count.pairs), pairs as u64);
        // What overflows, or has an infinity or a NaN, is left to the reference; at least half goes each fast way.
        let wide =
            Instructions::ALL.into_iter().filter(|one| *one != Instructions::Portable && one.is_available());
        assert!(2 * sum(|count| count.fast) > wide.count() as u64 * sum(|count| count.pairs));
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
    for operand in OPERANDS {
        let recipe = Architecture::Hopper.block(operand).unwrap();
        for number in 0..300_000_u32 {
            let (a, b) = (mixed(number) & 0xFFFF, mixed(!number) & 0xFFFF);
            for start in [0.0, accumulator(operand, a, b)] {
                let found = recipe.step(&[a], &[b], start).to_bits();
                assert_eq!(found, expected(operand, a, b, start), "{a:04x} · {b:04x} + {start}");
            }
        }
    }
}

/// All of them: `just exhaustive-products`.
#[test]
#[ignore = "minutes"]
fn exhaustive_products_are_exact() {
    both(std::thread::available_parallelism().map_or(1, usize::from), 1, 1);
}
