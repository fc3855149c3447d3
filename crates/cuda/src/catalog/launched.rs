//! Asks cuBLAS what it launches for attention's products, and compares what a kernel's name says of its sums.

use std::collections::BTreeMap;

use mantissa_engine::catalog::{Batched, KernelSum, Launched};
use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::products::by_threads;
use mantissa_numerics::recipe::PlainSum;
use mantissa_numerics::site::Phase;
use mantissa_numerics::tensor_core::dot::Instructions;

use super::ask::{ends, sixteen};
use super::candidates::Candidate;
use super::hard::{COLUMNS, ONE, Random};
use super::shapes::sizes_of;
use crate::device::{Device, Launch, Launches, Layout, Place};
use crate::error::CudaError;

/// The most elements of the scores of a prefill that is asked for: 40 GB of 16 bits.
const MOST_SCORES: usize = 20_000_000_000;

/// The longest prompt that is asked for, and how many more keys a decode step may have.
const LONGEST_PROMPT: usize = 32_768;
const DECODED: usize = 1024;

/// The largest size for which a product is asked about: what fits into a GPU's memory, to 32,768 keys.
pub(super) fn largest(shape: Batched) -> usize {
    let prompt = (MOST_SCORES / shape.heads.max(1)).isqrt().clamp(1, LONGEST_PROMPT);
    match shape.phase {
        Phase::Prefill => prompt,
        Phase::Decode => prompt + DECODED,
    }
}

/// How the kernels of a call sum, by the name of the one that multiplies; `None` where the name is not known, or there
/// are several.
///
/// *Source:* names and words of cuBLAS 13.1's launches, beside the recipes of 128,120 products that were compared on an
/// H200 (`goldens/gpu/attention_choice.md`).
///
/// ```
/// use mantissa_cuda::Launch;
/// use mantissa_cuda::catalog::kernel_of;
/// use mantissa_engine::catalog::KernelSum;
///
/// let launch = |name: &str| Launch { name: name.to_owned(), grid: [1; 3], block: [128, 1, 1], argument: Vec::new() };
/// let walk = launch("cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16_32x32_64x2_nn_align2");
/// assert_eq!(kernel_of(&[walk]), Some(KernelSum::Steps { width: 16, tile: 64 }));
/// assert_eq!(kernel_of(&[launch("a_kernel_of_another_library")]), None);
/// ```
#[must_use]
pub fn kernel_of(launches: &[Launch]) -> Option<KernelSum> {
    let mut kernels = launches.iter().filter(|launch| !launch.name.is_empty());
    let (launch, None) = (kernels.next()?, kernels.next()) else { return None };
    let name = launch.name.as_str();
    // The numbers of a template, as names of C++ have them.
    let number = |at: usize| name.split("Li").nth(at + 1).and_then(leading_number);
    if name.contains("splitK") {
        return None;
    }
    if name.starts_with("nvjet_sm90_") || name.starts_with("sm90_xmma_gemm_") {
        return Some(KernelSum::Steps { width: 16, tile: 0 });
    }
    if name.contains("_ffma_")
        || name.contains("simt_sgemm")
        || name.contains("magma_sgemmEx")
        || name.contains("gemmk1")
    {
        return Some(KernelSum::Chain);
    }
    if name.contains("s1688gemm") {
        return Some(KernelSum::Steps { width: 8, tile: 32 });
    }
    if name.contains("s16816gemm") || name.contains("s161616gemm") {
        // 64x128_32x4: a tile of outputs, then elements of the sum and stages.
        let mut pairs =
            name.rsplit('_').filter_map(|part| leading_number(part).filter(|_| part.contains('x')));
        return Some(KernelSum::Steps { width: 16, tile: pairs.next()? });
    }
    let [across, down, _] = launch.block;
    if name.contains("gemvx") {
        // Whether rows lie along the sum, and how far apart a thread's elements are.
        let transposed = name.split("Lb").nth(3)?.starts_with('1');
        let threads = u16::try_from(if transposed { across } else { down }).ok()?;
        let apart = *launch.argument.get(APART)?;
        return match apart {
            1 => Some(KernelSum::Runs { threads }),
            _ if apart == u32::from(threads) => {
                Some(KernelSum::Threads { threads, vector: 1, in_order: false })
            }
            _ => None,
        };
    }
    if name.contains("gemvNSP") {
        // Another number of threads was launched in blocks that it does not divide, and summed otherwise.
        if number(1)? != 32 {
            return None;
        }
        return Some(KernelSum::Threads { threads: number(1)?, vector: number(2)?, in_order: false });
    }
    if name.contains("gemv2N") || name.contains("gemmSN_NN") {
        return Some(KernelSum::Slices { slices: number(1)? });
    }
    if name.contains("gemv2T") || name.contains("gemmSN_TN") {
        return Some(KernelSum::Threads { threads: number(1)?, vector: 1, in_order: true });
    }
    None
}

/// The word of `gemvx`'s argument that is 1 where each thread takes neighbours, and their number of threads where
/// neighbours go to different ones.
const APART: usize = 36;

fn leading_number(text: &str) -> Option<u16> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text[..digits].parse().ok()
}

/// What was answered for one of attention's products.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) launched: Launched,
    /// Names of kernels whose sums are not known, each with the first size that has it.
    pub(super) unknown: BTreeMap<String, usize>,
    pub(super) questions: usize,
}

/// Asks for every size of one product.
fn ask(launches: &Launches, dtype: Dtype, shape: Batched) -> Result<Answer, CudaError> {
    let (mut kernels, mut unknown) = (Vec::new(), BTreeMap::new());
    let largest = largest(shape);
    for keys in 1..=largest {
        let layout = Layout::of(shape.product);
        let found = launches.of_batched(dtype, shape.heads, sizes_of(shape, keys), layout)?;
        kernels.push(kernel_of(&found).unwrap_or_else(|| {
            let names =
                found.iter().filter(|launch| !launch.name.is_empty()).map(|launch| launch.name.as_str());
            unknown.entry(names.collect::<Vec<_>>().join(" + ")).or_insert(keys);
            KernelSum::Unknown
        }));
    }
    Ok(Answer { launched: Launched::of(kernels), unknown, questions: largest })
}

/// Asks for all `shapes`; `each` gets them as they come. In one thread: what another does on the device ends a capture.
///
/// *Errors:* the first.
pub(super) fn ask_all(
    place: &Place,
    shapes: &[(Dtype, Batched)],
    mut each: impl FnMut((Dtype, Batched), Answer),
) -> Result<(), CudaError> {
    let launches = Launches::new(place)?;
    for (dtype, shape) in shapes {
        each((*dtype, *shape), ask(&launches, *dtype, *shape)?);
    }
    Ok(())
}

/// Sizes for which a product is compared: the first of every kernel, and `random` others evenly on a logarithmic
/// scale; none whose operands have more than `most` elements.
pub(super) fn compared(
    (dtype, shape): (Dtype, Batched),
    launched: &Launched,
    random: usize,
    most: usize,
) -> Vec<usize> {
    let longest = (1..=launched.largest()).rev().find(|keys| {
        let [m, n, k] = sizes_of(shape, *keys);
        [m * n, m * k, n * k].into_iter().all(|elements| elements.saturating_mul(shape.heads) <= most)
    });
    let longest = longest.unwrap_or(0);
    let mut draw = Random(shape.heads as u64 ^ (shape.dim as u64) << 32 ^ (dtype as u64) << 48);
    let octaves = longest.max(1).ilog2() as usize + 1;
    let drawn = (0..random).map(|_| {
        let first = 1 << draw.below(octaves);
        first + draw.below(first)
    });
    let mut sizes: Vec<usize> = launched.firsts().chain(drawn).filter(|size| *size <= longest).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

/// Whether a product over `keys` keys has the sums that `kernel` says, at both ends of the first and the last query of
/// the first and the last head.
pub(super) fn agrees(
    device: &Device,
    dtype: Dtype,
    shape: Batched,
    keys: usize,
    kernel: KernelSum,
    instructions: Instructions,
) -> Result<bool, CudaError> {
    let seed = (shape.heads * 31 + shape.dim) as u64 * 1_000_003 + keys as u64;
    if dtype == Dtype::F32 {
        plain_agrees(device, shape, keys, kernel, seed)
    } else {
        let length = sizes_of(shape, keys)[2];
        let Some(recipe) = kernel.batched(dtype, length) else { return Ok(false) };
        let outputs = sixteen(device, dtype, shape, keys, seed)?;
        Ok(outputs.iter().all(|outputs| outputs.agree(dtype, Candidate::Half(recipe), COLUMNS, instructions)))
    }
}

/// The same for binary32, where both factors are random: a product beside one is exact and says nothing of `fma`.
fn plain_agrees(
    device: &Device,
    shape: Batched,
    keys: usize,
    kernel: KernelSum,
    seed: u64,
) -> Result<bool, CudaError> {
    let ([m, n, k], heads) = (sizes_of(shape, keys), shape.heads);
    let Some(recipe) = kernel.plain(k) else { return Ok(false) };
    let layout = Layout::of(shape.product);
    let mut random = Random(seed);
    let mut number = || {
        let bits = u32::try_from(random.below(1 << 32)).unwrap_or(u32::MAX);
        // Signs, fractions, and exponents of 2^-7 to 1.
        bits & 0x807F_FFFF | (120 + (bits >> 23 & 7)) << 23
    };
    let query: [Vec<u32>; 2] = std::array::from_fn(|_| (0..k).map(|_| number()).collect());
    let others: Vec<u32> = (0..n * k).map(|_| number()).collect();
    let mut a = device.filled(Dtype::F32, heads * m * k, ONE)?;
    let mut b = device.filled(Dtype::F32, heads * n * k, ONE)?;
    let mut c = device.filled(Dtype::F32, heads * m * n, 0)?;
    for head in [0, heads - 1] {
        device.overwrite(&mut a, head * m * k, &query[0])?;
        device.overwrite(&mut a, (head * m + m - 1) * k, &query[1])?;
        device.overwrite(&mut b, head * n * k, &others)?;
    }
    device.batched(heads, [m, n, k], layout, &a, &b, &mut c)?;
    for head in [0, heads - 1] {
        for (row, query) in [(0, &query[usize::from(m == 1)]), (m - 1, &query[1])] {
            for columns in ends(n) {
                let found = device.download(&c, (head * m + row) * n + columns.start, columns.len())?;
                for (column, found) in columns.zip(found) {
                    let other =
                        |i: usize| others[if layout.transposed { column * k + i } else { i * n + column }];
                    let pair = |i: usize| (f32::from_bits(query[i]), f32::from_bits(other(i)));
                    let sum = match recipe {
                        PlainSum::FmaChain => (0..k).map(pair).fold(0.0_f32, |sum, (x, y)| x.mul_add(y, sum)),
                        PlainSum::Threads(sum) => by_threads(sum, k, pair),
                    };
                    if sum.to_bits() != found {
                        return Ok(false);
                    }
                }
            }
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use mantissa_engine::catalog::Product;

    use super::*;

    /// Names as cuBLAS 13.1 has them on an H200, shortened in the middle.
    #[test]
    fn a_name_says_how_a_kernel_sums() {
        type Case<'c> = (&'c str, [u32; 3], &'c [u32], Option<KernelSum>);
        use KernelSum::{Chain, Runs, Slices, Steps, Threads};
        let by = |threads, vector, in_order| Some(Threads { threads, vector, in_order });
        let gemvx =
            |rest: &str| format!("_ZN8internal5gemvx6kernelIii13__nv_bfloat16S2_S2_f{rest}ELi7ELb0E18cublas");
        let mut apart = vec![0; 40];
        let mut near = apart.clone();
        (apart[APART], near[APART]) = (8, 1);
        let cases: [Case<'_>; 15] = [
            (
                "nvjet_sm90_tst_104x128_64x7_1x1_h_bz_TNN",
                [384, 1, 1],
                &[],
                Some(Steps { width: 16, tile: 0 }),
            ),
            ("nvjet_sm90_tst_104x128_64x7_1x1_h_bz_splitK_TNN", [384, 1, 1], &[], None),
            (
                "cutlass_75_tensorop_bf16_s1688gemm_bf16_64x64_nn_align1",
                [128, 1, 1],
                &[],
                Some(Steps { width: 8, tile: 32 }),
            ),
            (
                "cutlass_80_tensorop_f16_s16816gemm_f16_256x64_32x4_nn_align2",
                [128, 1, 1],
                &[],
                Some(Steps { width: 16, tile: 32 }),
            ),
            (
                "cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16_32x32_128x2_nn_align2",
                [128, 1, 1],
                &[],
                Some(Steps { width: 16, tile: 128 }),
            ),
            (
                "sm80_xmma_gemm_f32f32_f32f32_f32_nn_n_tilesize64x64x8_stage3_ffma_aligna4",
                [128, 1, 1],
                &[],
                Some(Chain),
            ),
            ("_Z20magma_sgemmEx_kernelIfffLb1ELb0ELi6ELi4E", [8, 16, 1], &[], Some(Chain)),
            (
                "_Z13gemv2N_kernelIiiffffLi128ELi4ELi4ELi4ELi1ELb0E",
                [128, 1, 1],
                &[],
                Some(Slices { slices: 4 }),
            ),
            ("_Z14gemvNSP_kernelIffffLi1ELi32ELi4ELi1024ELb0E", [8, 32, 1], &[], by(32, 4, false)),
            ("_Z14gemvNSP_kernelIffffLi1ELi16ELi4ELi1024ELb0E", [32, 24, 1], &[], None),
            ("_Z17gemv2T_kernel_valIiiffffLi128ELi16ELi2ELi2ELb0ELb0E", [128, 1, 1], &[], by(16, 1, true)),
            (
                "_Z16gemmSN_NN_kernelIfLi128ELi2ELi4ELi8ELi4ELi4ELb0E",
                [128, 1, 1],
                &[],
                Some(Slices { slices: 2 }),
            ),
            (&gemvx("Lb0ELb1ELb0ELb0"), [64, 8, 1], &near, Some(Runs { threads: 8 })),
            (&gemvx("Lb0ELb1ELb0ELb0"), [64, 8, 1], &apart, by(8, 1, false)),
            (&gemvx("Lb0ELb1ELb1ELb0"), [4, 16, 1], &apart, None),
        ];
        for (name, block, argument, sums) in cases {
            let launch = Launch { name: name.to_owned(), grid: [1; 3], block, argument: argument.to_vec() };
            let fill = Launch { name: String::new(), grid: [0; 3], block: [0; 3], argument: Vec::new() };
            assert_eq!(kernel_of(&[fill, launch.clone()]), sums, "{name}");
            assert_eq!(kernel_of(&[launch.clone(), launch]), None, "two kernels");
        }
        assert_eq!(kernel_of(&[]), None);
    }

    #[test]
    fn sizes_are_asked_as_far_as_memory_reaches() {
        let shape = |phase, heads| Batched { product: Product::Scores, phase, heads, dim: 64 };
        assert_eq!(largest(shape(Phase::Prefill, 9)), LONGEST_PROMPT);
        assert_eq!(largest(shape(Phase::Decode, 9)), LONGEST_PROMPT + DECODED);
        assert_eq!(largest(shape(Phase::Prefill, 2000)), 3162);
        let launched = Launched::of(
            (1..=3000).map(|size| if size < 77 { KernelSum::Chain } else { KernelSum::Unknown }),
        );
        let sizes = compared((Dtype::F32, shape(Phase::Prefill, 16)), &launched, 3, 1 << 20);
        assert!(sizes.contains(&1) && sizes.contains(&77) && sizes.len() <= 5, "{sizes:?}");
        assert!(sizes.iter().all(|size| 16 * size * size <= 1 << 20), "{sizes:?}");
    }
}
