//! Sums over all inputs of what the approximate functions return, to compare with a GPU: `goldens/gpu/all_inputs.cu`.
//!
//!     functions FILE [THREADS]
//!
//! writes, for `exp`, `rsqrt`, `cos` and `sin`, 4,096 sums of 2^20 inputs each, 64 bits little-endian. NaNs count as
//! one pattern, and angles beyond `LARGEST_ANGLE` as nothing.

use std::io::Write as _;

use mantissa_numerics::nvidia::functions::{cos, exp, rsqrt, sin};

fn mix(input: u32, output: f32) -> u64 {
    let output = if output.is_nan() { 0x7FFF_FFFF } else { output.to_bits() };
    let x = (u64::from(input) << 32 | u64::from(output)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (x ^ (x >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9)
}

fn block(function: usize, block: u32) -> u64 {
    let value = |x: f32| match function {
        0 => Some(exp(x)),
        1 => Some(rsqrt(x)),
        2 => cos(x),
        _ => sin(x),
    };
    let inputs = (block << 20)..=(block << 20 | 0xF_FFFF);
    let terms = inputs.filter_map(|bits| Some(mix(bits, value(f32::from_bits(bits))?)));
    terms.fold(0, u64::wrapping_add)
}

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or_else(|| "functions.bin".to_owned());
    let threads: u32 = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(16);
    let mut file = std::fs::File::create(path)?;
    for function in 0..4 {
        let mut sums = vec![0_u64; 4096];
        std::thread::scope(|scope| {
            for (part, sums) in sums.chunks_mut(4096_usize.div_ceil(threads as usize)).enumerate() {
                scope.spawn(move || {
                    for (i, sum) in (0_u32..).zip(sums.iter_mut()) {
                        let first = u32::try_from(part).unwrap_or(0) * 4096_u32.div_ceil(threads);
                        *sum = block(function, first + i);
                    }
                });
            }
        });
        for sum in sums {
            file.write_all(&sum.to_le_bytes())?;
        }
    }
    Ok(())
}
