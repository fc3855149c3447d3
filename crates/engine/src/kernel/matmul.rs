//! Matrix products `x · wᵀ` with weights of any storage format: a file for each order of sums.

use mantissa_numerics::nvidia::bnb::flushed;
use mantissa_numerics::recipe::{LinearSum, MatmulRecipe, Nf4Sum, RankSum, TensorCoreSum};

use super::matrix::Matrix;
use super::tensor_core::Among;
use super::{chain, lanes, nf4, packed, tensor_core};
use crate::backend::Places;
use crate::pool::Pool;
use crate::simd::Isa;

/// `out[i, j] = round(Σ_k x[i, k] · w[j, k])` for several weights over the same `x`.
///
/// *Shape:* `x` is `m × k` row-major; each weight is `n × k` and its output `m × n`.
/// *Rounding:* as `recipe` says. *Errors:* none; shapes are the caller's invariant and asserted.
pub(crate) fn matmul(
    isa: Isa,
    pool: &Pool,
    recipe: MatmulRecipe,
    places: &Places,
    x: &[f32],
    weights: &mut [(Matrix<'_>, &mut [f32])],
) {
    let Some((first, out)) = weights.first() else { return };
    let parts = recipe.parts();
    let (k, m) = (first.cols, out.len() / (parts * first.rows).max(1));
    assert_eq!(x.len(), m * k, "matmul: x has another shape");
    for (w, out) in weights.iter() {
        assert!(w.cols == k && out.len() == m * parts * w.rows, "matmul: weights of different shapes");
        assert!(w.data.len() >= w.rows * w.row_bytes, "matmul: weight data is short");
    }
    match recipe.summation {
        LinearSum::FmaChain => chain::chains(isa, pool, recipe.output, m, x, weights),
        LinearSum::LaneChains { lanes } => lanes::lane_chains(isa, pool, recipe.output, lanes, m, x, weights),
        LinearSum::TensorCore(sum) | LinearSum::Nf4(Nf4Sum::Decoded(sum)) => {
            tensor_core::products(isa, pool, (sum, Among::One), recipe.output, places, m, x, weights);
        }
        LinearSum::Ranks(RankSum { each, reduce }) => {
            tensor_core::products(
                isa,
                pool,
                (each, Among::Added(reduce)),
                recipe.output,
                places,
                m,
                x,
                weights,
            );
        }
        LinearSum::RankParts { each, ranks } => {
            let among = Among::SideBySide(ranks.get().into());
            tensor_core::products(isa, pool, (each, among), recipe.output, places, m, x, weights);
        }
        LinearSum::Packed(sum) => packed::products(isa, pool, sum, recipe.output, places, m, x, weights),
        LinearSum::PackedExperts(sum) => {
            packed::of_expert(isa, pool, sum, recipe.output, places, m, x, weights);
        }
        LinearSum::Nf4(Nf4Sum::Simt) => nf4::by_warps(pool, recipe.output, m, x, weights),
        LinearSum::Nf4(Nf4Sum::Mma(block)) => {
            let sum = (TensorCoreSum::uncut(block), Among::One);
            tensor_core::products(isa, pool, sum, recipe.output, places, m, x, weights);
            // What follows a sum flushes it.
            for x in weights.iter_mut().flat_map(|(_, out)| out.iter_mut()) {
                *x = flushed(*x);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};
    use mantissa_numerics::recipe::Lanes;
    use mantissa_numerics::{BlockFormat, Dtype};

    use super::super::matrix::Format;
    use super::*;

    /// The recipe, word for word, over decoded weights.
    fn reference(recipe: MatmulRecipe, x: &[f32], w: &[f32], k: usize) -> Vec<u32> {
        let dot = |x: &[f32], w: &[f32]| match recipe.summation {
            LinearSum::TensorCore(_)
            | LinearSum::Ranks(_)
            | LinearSum::RankParts { .. }
            | LinearSum::Nf4(_)
            | LinearSum::Packed(_)
            | LinearSum::PackedExperts(_) => {
                panic!("compared with a GPU's own products")
            }
            LinearSum::FmaChain => x.iter().zip(w).fold(0.0_f32, |acc, (x, w)| x.mul_add(*w, acc)),
            LinearSum::LaneChains { lanes } => {
                let lanes = usize::from(lanes.count());
                let mut acc = vec![0.0_f32; lanes];
                for (i, (x, w)) in x.iter().zip(w).enumerate() {
                    acc[i % lanes] = x.mul_add(*w, acc[i % lanes]);
                }
                let mut half = lanes / 2;
                while half > 0 {
                    for i in 0..half {
                        acc[i] += acc[i + half];
                    }
                    half /= 2;
                }
                acc[0]
            }
        };
        let rows = x.chunks_exact(k);
        rows.flat_map(|x| w.chunks_exact(k).map(move |w| recipe.output.round(dot(x, w) + 0.0).to_bits()))
            .collect()
    }

    /// Numbers without pattern, from a linear congruence.
    fn numbers(count: usize, mut seed: u32) -> Vec<f32> {
        (0..count)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let [_, _, low, high] = seed.to_le_bytes();
                f32::from(i16::from_le_bytes([low, high])) / 8192.0
            })
            .collect()
    }

    /// Raw bytes of a weight, with block scales kept finite.
    fn weight(format: Format, rows: usize, cols: usize, seed: u32) -> (Vec<u8>, usize) {
        let values = numbers(rows * cols, seed);
        match format {
            Format::Plain(dtype) => {
                let mut data = Vec::new();
                for v in &values {
                    dtype.encode(*v, &mut data);
                }
                (data, cols * dtype.size())
            }
            Format::Block(block) => {
                let (length, bytes) = (block.block_len(), block.block_bytes());
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "the low byte of the integer that was drawn"
                )]
                let mut data: Vec<u8> = numbers(rows * cols / length * bytes, seed)
                    .iter()
                    .map(|v| (v * 8192.0) as i16 as u8)
                    .collect();
                let scales: &[usize] = match block {
                    BlockFormat::Q8_0 | BlockFormat::Q4_0 => &[0],
                    BlockFormat::Q4_1 | BlockFormat::Q4K => &[0, 2],
                    BlockFormat::Q6K => &[208],
                };
                for (i, chunk) in data.chunks_exact_mut(bytes).enumerate() {
                    for at in scales {
                        let scale = f16::from_f32(values[i] / 64.0);
                        chunk[*at..at + 2].copy_from_slice(&scale.to_le_bytes());
                    }
                }
                (data, cols / length * bytes)
            }
        }
    }

    fn decode(w: Matrix<'_>) -> Vec<f32> {
        let mut out = vec![0.0; w.rows * w.cols];
        for (row, out) in out.chunks_exact_mut(w.cols).enumerate() {
            let bytes = &w.data[row * w.row_bytes..(row + 1) * w.row_bytes];
            match w.format {
                Format::Plain(dtype) => (0..w.cols).for_each(|i| out[i] = dtype.decode(bytes, i)),
                Format::Block(block) => block.dequantize(bytes, out),
            }
        }
        out
    }

    const FORMATS: [Format; 8] = [
        Format::Plain(Dtype::F32),
        Format::Plain(Dtype::Bf16),
        Format::Plain(Dtype::F16),
        Format::Block(BlockFormat::Q8_0),
        Format::Block(BlockFormat::Q4_0),
        Format::Block(BlockFormat::Q4_1),
        Format::Block(BlockFormat::Q4K),
        Format::Block(BlockFormat::Q6K),
    ];

    #[test]
    fn every_recipe_format_and_instruction_set_gives_the_recipes_bits() {
        let isas = [Isa::Scalar, Isa::Avx2, Isa::Avx512].into_iter().filter(|isa| isa.is_available());
        let pools = [1, 3].map(|threads| Pool::new(threads).expect("threads"));
        for isa in isas {
            for format in FORMATS {
                for (m, n, k) in [
                    (1, 37, 512),
                    (3, 16, 256),
                    (5, 33, 768),
                    (13, 70, 256),
                    (25, 64, 512),
                    (2, 5, 160),
                    (14, 35, 224),
                    (1, 3, 70),
                    (12, 40, 203),
                ] {
                    let length = match format {
                        Format::Plain(_) => 1,
                        Format::Block(block) => block.block_len(),
                    };
                    if k % length != 0 {
                        continue;
                    }
                    let (data, row_bytes) = weight(format, n, k, 7 + u32::try_from(m).expect("small"));
                    let w = Matrix { format, rows: n, cols: k, row_bytes, data: &data };
                    let decoded = decode(w);
                    for summation in [
                        LinearSum::FmaChain,
                        LinearSum::LaneChains { lanes: Lanes::L16 },
                        LinearSum::LaneChains { lanes: Lanes::L32 },
                        LinearSum::LaneChains { lanes: Lanes::L64 },
                    ] {
                        for output in Dtype::ALL {
                            let recipe = MatmulRecipe { summation, output };
                            let x: Vec<f32> = numbers(m * k, 99).iter().map(|x| output.round(*x)).collect();
                            let want = reference(recipe, &x, &decoded, k);
                            for pool in &pools {
                                let mut out = vec![f32::NAN; m * n];
                                matmul(isa, pool, recipe, &Places::ANYWHERE, &x, &mut [(w, &mut out)]);
                                let got: Vec<u32> = out.iter().map(|v| v.to_bits()).collect();
                                assert!(got == want, "{isa:?} {format:?} {m}×{n}×{k} {recipe:?}");
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn specials_travel_like_ieee_says() {
        let values =
            [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -0.0, 0.0, 1e-45, -1e-40, f32::MAX, -f32::MAX, 1.0];
        let k = values.len();
        let data: Vec<u8> = values.iter().rev().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
        let w =
            Matrix { format: Format::Plain(Dtype::Bf16), rows: 1, cols: k, row_bytes: 2 * k, data: &data };
        for summation in [LinearSum::FmaChain, LinearSum::LaneChains { lanes: Lanes::L16 }] {
            for scale in [1.0_f32, 0.0, -1e-30] {
                let x: Vec<f32> = values.iter().map(|v| v * scale).collect();
                let recipe = MatmulRecipe { summation, output: Dtype::F32 };
                let want = f32::from_bits(reference(recipe, &x, &decode(w), k)[0]);
                for isa in [Isa::Scalar, Isa::Avx2, Isa::Avx512].into_iter().filter(|isa| isa.is_available())
                {
                    let mut out = [0.0];
                    matmul(
                        isa,
                        &Pool::new(1).expect("threads"),
                        recipe,
                        &Places::ANYWHERE,
                        &x,
                        &mut [(w, &mut out)],
                    );
                    assert!(out[0].to_bits() == want.to_bits() || out[0].is_nan() && want.is_nan());
                }
            }
        }
    }

    /// `cargo test --release -p mantissa-engine -- --ignored --nocapture gmacs`
    #[test]
    #[ignore = "prints speeds"]
    #[expect(clippy::cast_precision_loss, reason = "speeds are printed with one digit after the point")]
    fn gmacs() {
        for threads in [1, 2] {
            let pool = Pool::new(threads).expect("threads");
            for (m, n, k) in [
                (512, 576, 576),
                (512, 192, 576),
                (512, 1536, 576),
                (512, 576, 1536),
                (1, 49152, 576),
                (1, 576, 1536),
                (1, 1536, 576),
                (4, 8192, 2048),
                (8, 8192, 2048),
                (16, 8192, 2048),
            ] {
                for format in FORMATS {
                    if k % 256 != 0 && matches!(format, Format::Block(BlockFormat::Q4K | BlockFormat::Q6K)) {
                        continue;
                    }
                    let (data, row_bytes) = weight(format, n, k, 3);
                    let w = Matrix { format, rows: n, cols: k, row_bytes, data: &data };
                    let x = numbers(m * k, 5);
                    let mut out = vec![0.0; m * n];
                    let summation = match m {
                        1 => LinearSum::LaneChains { lanes: Lanes::L64 },
                        2..=4 => LinearSum::LaneChains { lanes: Lanes::L32 },
                        5..=8 => LinearSum::LaneChains { lanes: Lanes::L16 },
                        _ => LinearSum::FmaChain,
                    };
                    let recipe = MatmulRecipe { summation, output: Dtype::F32 };
                    let mut best = f64::MAX;
                    for _ in 0..20 {
                        let start = std::time::Instant::now();
                        matmul(Isa::detect(), &pool, recipe, &Places::ANYWHERE, &x, &mut [(w, &mut out)]);
                        best = best.min(start.elapsed().as_secs_f64());
                    }
                    let macs = (m * n * k) as f64;
                    println!(
                        "{threads}t {m}x{n}x{k} {format:?}: {:.1} GMAC/s {:.1} GB/s",
                        macs / best / 1e9,
                        (n * row_bytes) as f64 / best / 1e9
                    );
                }
            }
        }
    }
}
