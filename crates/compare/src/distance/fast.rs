//! Sixteen lanes at a time, with the widest vectors of the machine.
//!
//! AVX-512 is written out in [`super::avx512`]; every other instruction set gets the loops below, over sixteen lanes
//! each, which the compiler turns into its vectors. No sum is reordered and nothing is fused, so the bits are those of
//! the reference.
#![expect(unsafe_code, reason = "calling a function compiled for an instruction set that was detected")]
#![expect(clippy::inline_always, reason = "one source is compiled anew for each instruction set")]

use mantissa_numerics::Dtype;

use super::sums::{LANES, Sums, join};

/// Blocks of sixteen values after which the counts of the lanes are taken, long before they could overflow. Tests do it
/// all the time.
const BLOCKS: usize = if cfg!(test) { 3 } else { 1 << 24 };

/// Sums over two rows; see [`super::different`].
pub(super) fn different(dtype: Dtype, a: &[u8], b: &[u8]) -> Sums {
    #[cfg(target_arch = "x86_64")]
    {
        if has_avx512() {
            // SAFETY: the features were detected on this machine.
            return unsafe { super::avx512::different(dtype, a, b) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the feature was detected on this machine.
            return unsafe { x86::different_avx2(dtype, a, b) };
        }
    }
    of_format(dtype, a, b)
}

/// Sums over a row and itself; see [`super::equal`].
pub(super) fn equal(dtype: Dtype, row: &[u8]) -> Sums {
    #[cfg(target_arch = "x86_64")]
    {
        if has_avx512() {
            // SAFETY: the features were detected on this machine.
            return unsafe { super::avx512::equal(dtype, row) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the feature was detected on this machine.
            return unsafe { x86::equal_avx2(dtype, row) };
        }
    }
    same_of_format(dtype, row)
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}

/// The same functions, compiled for AVX2.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Dtype, Sums, of_format, same_of_format};

    #[target_feature(enable = "avx2")]
    pub(super) fn different_avx2(dtype: Dtype, a: &[u8], b: &[u8]) -> Sums {
        of_format(dtype, a, b)
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn equal_avx2(dtype: Dtype, row: &[u8]) -> Sums {
        same_of_format(dtype, row)
    }
}

/// The portable build of [`different`].
#[inline(always)]
pub(super) fn of_format(dtype: Dtype, a: &[u8], b: &[u8]) -> Sums {
    match dtype {
        Dtype::F32 => sums::<F32>(a, b),
        Dtype::Bf16 => sums::<Bf16>(a, b),
        Dtype::F16 => sums::<F16>(a, b),
    }
}

/// The portable build of [`equal`].
#[inline(always)]
pub(super) fn same_of_format(dtype: Dtype, row: &[u8]) -> Sums {
    match dtype {
        Dtype::F32 => same::<F32>(row),
        Dtype::Bf16 => same::<Bf16>(row),
        Dtype::F16 => same::<F16>(row),
    }
}

/// A storage format, sixteen values at a time.
trait Format {
    /// Bytes of a value.
    const SIZE: usize;
    /// Bits of the magnitude.
    const MAGNITUDE: u32;
    /// Magnitude of an infinity; larger ones are NaN.
    const INFINITY: u32;
    /// Bit patterns of sixteen values.
    fn load(block: &[u8]) -> [u32; LANES];
    /// A finite value. Exact.
    fn value(bits: u32) -> f32;
}

struct F32;
struct Bf16;
struct F16;

impl Format for F32 {
    const SIZE: usize = 4;
    const MAGNITUDE: u32 = 0x7fff_ffff;
    const INFINITY: u32 = 0x7f80_0000;

    #[inline(always)]
    fn load(block: &[u8]) -> [u32; LANES] {
        let mut bits = [0; LANES];
        for (bits, bytes) in bits.iter_mut().zip(block.as_chunks::<4>().0) {
            *bits = u32::from_le_bytes(*bytes);
        }
        bits
    }

    #[inline(always)]
    fn value(bits: u32) -> f32 {
        f32::from_bits(bits)
    }
}

/// Bit patterns of sixteen two-byte values.
#[inline(always)]
fn halves(block: &[u8]) -> [u32; LANES] {
    let mut bits = [0; LANES];
    for (bits, bytes) in bits.iter_mut().zip(block.as_chunks::<2>().0) {
        *bits = u32::from(u16::from_le_bytes(*bytes));
    }
    bits
}

impl Format for Bf16 {
    const SIZE: usize = 2;
    const MAGNITUDE: u32 = 0x7fff;
    const INFINITY: u32 = 0x7f80;

    #[inline(always)]
    fn load(block: &[u8]) -> [u32; LANES] {
        halves(block)
    }

    #[inline(always)]
    fn value(bits: u32) -> f32 {
        f32::from_bits(bits << 16)
    }
}

impl Format for F16 {
    const SIZE: usize = 2;
    const MAGNITUDE: u32 = 0x7fff;
    const INFINITY: u32 = 0x7c00;

    #[inline(always)]
    fn load(block: &[u8]) -> [u32; LANES] {
        halves(block)
    }

    /// The magnitude's bits, moved to where binary32 has them, are the value divided by 2^112, subnormals included.
    #[inline(always)]
    fn value(bits: u32) -> f32 {
        let magnitude = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits((112 + 127) << 23);
        f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16)
    }
}

/// Running sums, by lane.
#[derive(Default)]
struct Lanes {
    squares: [f64; LANES],
    absolute: [f64; LANES],
    max_abs: [f64; LANES],
    norm_a: [f64; LANES],
    norm_b: [f64; LANES],
    dot: [f64; LANES],
    max_ulps: [u32; LANES],
    different: [u32; LANES],
    left_out: [u32; LANES],
    non_finite: [u32; LANES],
    with_nan: [u32; LANES],
}

#[inline(always)]
fn sums<F: Format>(a: &[u8], b: &[u8]) -> Sums {
    let block = LANES * F::SIZE;
    let mut lanes = Lanes::default();
    let (mut different, mut left_out, mut non_finite, mut with_nan) = (0, 0, 0, 0);
    for (a, b) in a.chunks(block * BLOCKS).zip(b.chunks(block * BLOCKS)) {
        let (mut blocks_a, mut blocks_b) = (a.chunks_exact(block), b.chunks_exact(block));
        for (x, y) in blocks_a.by_ref().zip(blocks_b.by_ref()) {
            add::<F>(&mut lanes, F::load(x), F::load(y));
        }
        let (x, y) = (blocks_a.remainder(), blocks_b.remainder());
        if !x.is_empty() {
            // Zeros on both sides change no sum.
            let (mut padded_x, mut padded_y) = ([0; LANES * 4], [0; LANES * 4]);
            padded_x[..x.len()].copy_from_slice(x);
            padded_y[..y.len()].copy_from_slice(y);
            add::<F>(&mut lanes, F::load(&padded_x[..block]), F::load(&padded_y[..block]));
        }
        different += taken(&mut lanes.different);
        left_out += taken(&mut lanes.left_out);
        non_finite += taken(&mut lanes.non_finite);
        with_nan += taken(&mut lanes.with_nan);
    }
    Sums {
        values: (a.len() / F::SIZE) as u64,
        different,
        left_out,
        non_finite,
        with_nan,
        max_ulps: lanes.max_ulps.into_iter().fold(0, u32::max),
        squares: join(lanes.squares),
        absolute: join(lanes.absolute),
        max_abs: lanes.max_abs.into_iter().fold(0.0, f64::max),
        norm_a: join(lanes.norm_a),
        norm_b: join(lanes.norm_b),
        dot: join(lanes.dot),
    }
}

/// The sum of what lanes counted, which begin again at zero.
#[inline(always)]
fn taken(counts: &mut [u32; LANES]) -> u64 {
    std::mem::take(counts).iter().map(|&count| u64::from(count)).sum()
}

/// Adds sixteen pairs.
#[inline(always)]
fn add<F: Format>(lanes: &mut Lanes, a: [u32; LANES], b: [u32; LANES]) {
    let (mut x, mut y) = ([0.0_f32; LANES], [0.0_f32; LANES]);
    for lane in 0..LANES {
        let (bits_a, bits_b) = (a[lane], b[lane]);
        let (magnitude_a, magnitude_b) = (bits_a & F::MAGNITUDE, bits_b & F::MAGNITUDE);
        let larger = magnitude_a.max(magnitude_b);
        let differ = u32::from(bits_a != bits_b);
        let left_out = u32::from(larger >= F::INFINITY);
        let nan = u32::from(larger > F::INFINITY);
        lanes.different[lane] += differ;
        lanes.left_out[lane] += left_out;
        lanes.non_finite[lane] += differ & left_out;
        lanes.with_nan[lane] += differ & nan;
        let same_sign = (bits_a ^ bits_b) & !F::MAGNITUDE & (F::MAGNITUDE + 1) == 0;
        let apart = magnitude_a.abs_diff(magnitude_b);
        let ulps = if same_sign { apart } else { magnitude_a.wrapping_add(magnitude_b) };
        lanes.max_ulps[lane] = lanes.max_ulps[lane].max(if nan == 1 { 0 } else { ulps });
        x[lane] = if left_out == 1 { 0.0 } else { F::value(bits_a) };
        y[lane] = if left_out == 1 { 0.0 } else { F::value(bits_b) };
    }
    for lane in 0..LANES {
        let (x, y) = (f64::from(x[lane]), f64::from(y[lane]));
        let difference = x - y;
        let absolute = difference.abs();
        lanes.squares[lane] += difference * difference;
        lanes.absolute[lane] += absolute;
        lanes.max_abs[lane] = if absolute > lanes.max_abs[lane] { absolute } else { lanes.max_abs[lane] };
        lanes.norm_a[lane] += x * x;
        lanes.norm_b[lane] += y * y;
        lanes.dot[lane] += x * y;
    }
}

#[inline(always)]
fn same<F: Format>(row: &[u8]) -> Sums {
    let block = LANES * F::SIZE;
    let (mut squares, mut counted, mut left_out) = ([0.0; LANES], [0; LANES], 0);
    for row in row.chunks(block * BLOCKS) {
        let mut blocks = row.chunks_exact(block);
        for x in blocks.by_ref() {
            add_square::<F>(&mut squares, &mut counted, F::load(x));
        }
        let x = blocks.remainder();
        if !x.is_empty() {
            let mut padded = [0; LANES * 4];
            padded[..x.len()].copy_from_slice(x);
            add_square::<F>(&mut squares, &mut counted, F::load(&padded[..block]));
        }
        left_out += taken(&mut counted);
    }
    let norm = join(squares);
    Sums {
        values: (row.len() / F::SIZE) as u64,
        left_out,
        norm_a: norm,
        norm_b: norm,
        dot: norm,
        ..Sums::default()
    }
}

#[inline(always)]
fn add_square<F: Format>(squares: &mut [f64; LANES], left_out: &mut [u32; LANES], row: [u32; LANES]) {
    for lane in 0..LANES {
        let out = u32::from(row[lane] & F::MAGNITUDE >= F::INFINITY);
        left_out[lane] += out;
        let x = f64::from(if out == 1 { 0.0 } else { F::value(row[lane]) });
        squares[lane] += x * x;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the machine has must agree with the portable build of the same source.
    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let noise = |seed: u32| -> Vec<u8> {
            let words = (0..1021_u32).map(|i| (i ^ seed).wrapping_mul(2_654_435_761).rotate_left(i % 31));
            words.flat_map(u32::to_le_bytes).collect()
        };
        let (a, b) = (noise(1), noise(7));
        for dtype in Dtype::ALL {
            assert_eq!(different(dtype, &a, &b), of_format(dtype, &a, &b));
            assert_eq!(equal(dtype, &a), same_of_format(dtype, &a));
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") {
                // SAFETY: the feature was detected on this machine.
                let (pair, same) =
                    unsafe { (x86::different_avx2(dtype, &a, &b), x86::equal_avx2(dtype, &a)) };
                assert_eq!(pair, of_format(dtype, &a, &b));
                assert_eq!(same, same_of_format(dtype, &a));
            }
        }
    }
}
