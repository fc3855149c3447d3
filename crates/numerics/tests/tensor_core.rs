//! Single tensor-core steps against an H200: the instructions of `goldens/gpu/tensor_core.cu`, specials included.
//!
//! Left out: `mma.sync` on FP8, which Hopper runs by other means than its own FP8 instruction.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;

use mantissa_numerics::tensor_core::{Architecture, BlockRecipe, Operand};

/// SplitMix64, as the CUDA program draws.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

fn low(x: u64) -> u32 {
    u32::try_from(x & 0xFFFF_FFFF).unwrap()
}

/// Operand `k` of a case; `side` 0 is a, 1 is b.
fn operand(format: Operand, number: u64, side: u64, k: u64) -> u32 {
    let r = mix(number * 256 + side * 64 + k);
    let (exponent_bits, fraction_bits) = (format.exponent_bits(), format.fraction_bits());
    let (sign, any) = (low(r) & 1, low(r >> 32));
    let fraction = low(r >> 1) & ((1 << fraction_bits) - 1);
    let largest = (1 << exponent_bits) - 1;
    let bias = largest >> 1;
    let mut zero = false;
    let exponent = match number % 10 {
        0 => any % (largest + 1),
        1 => bias - 3 + any % 7,
        2 => {
            zero = (any >> 8) & 1 == 1;
            bias - 3 + any % 7
        }
        3 => {
            if side == 1 {
                bias + any % 4
            } else {
                any % 3
            }
        }
        4 => largest - 1 - any % 4,
        5 => {
            zero = side == 0 && (any >> 8) & 1 == 1;
            if side == 1 { bias + any % (bias + 1) } else { bias - any % bias }
        }
        6 => any % largest,
        8 | 9 => {
            zero = number % 10 == 9 && (any >> 8) & 1 == 1;
            if bias > 100 { bias - 74 + any % 16 } else { 1 + any % 3 }
        }
        _ => {
            let small = any.trailing_ones().min(8);
            bias - if small < bias { small } else { bias - 1 }
        }
    };
    let magnitude = if zero { 0 } else { exponent << fraction_bits | fraction };
    let bits = sign << (exponent_bits + fraction_bits) | magnitude;
    if format == Operand::Tf32 { bits << 13 } else { bits }
}

fn accumulator(number: u64) -> f32 {
    let r = mix(number * 256 + 255);
    let (sign, fraction, any) = (low(r & 1) << 31, low(r >> 1) & 0x7F_FFFF, low(r >> 32));
    f32::from_bits(match (any >> 16) % 4 {
        0 => sign,
        1 if number % 10 >= 8 => sign | (any % 3) << 23 | fraction >> (any % 24),
        1 => sign | (107 + any % 40) << 23 | fraction,
        2 if number.is_multiple_of(10) => low(r),
        2 => sign | (any % 255) << 23 | fraction,
        _ => sign | (124 + any % 8) << 23 | fraction,
    })
}

/// Cases in which a chain of steps and the instruction differ, by kind of case.
fn differing(name: &str, recipe: BlockRecipe, k: u64) -> Vec<(u64, u32, u32)> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../goldens/gpu/tensor_core/{name}.bin"));
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len(), 4 * 16384);
    let golden = bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap()));
    (0..)
        .zip(golden)
        .filter_map(|(number, golden)| {
            let side = |side| (0..k).map(|k| operand(recipe.operand, number, side, k)).collect::<Vec<_>>();
            let ours = recipe.chain(&side(0), &side(1), accumulator(number)).to_bits();
            (ours != golden).then_some((number, ours, golden))
        })
        .collect()
}

#[test]
fn hopper_steps_are_those_of_an_h200() {
    use Operand::{Bf16, E4m3, E5m2, F16, Tf32};
    let mut failures = Vec::new();
    for (name, operand, k) in [
        ("mma_bf16_k16", Bf16, 16),
        ("mma_bf16_k8", Bf16, 8),
        ("mma_f16_k16", F16, 16),
        ("mma_tf32_k8", Tf32, 8),
        ("mma_tf32_k4", Tf32, 4),
        ("wgmma_bf16_k16", Bf16, 16),
        ("wgmma_f16_k16", F16, 16),
        ("wgmma_tf32_k8", Tf32, 8),
        ("wgmma_e4m3_k32", E4m3, 32),
        ("wgmma_e5m2_k32", E5m2, 32),
    ] {
        let recipe = Architecture::Hopper.block(operand).unwrap();
        let found = differing(name, recipe, k);
        let mut kinds = [0; 10];
        for (number, _, _) in &found {
            kinds[usize::try_from(number % 10).unwrap()] += 1;
        }
        if !found.is_empty() {
            failures.push(format!(
                "{name}: {} differ, by kind {kinds:?}, e.g. {:x?}",
                found.len(),
                &found[..found.len().min(4)]
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
