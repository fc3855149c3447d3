//! Products with weights as passes compute them, without a model.

use mantissa_numerics::Dtype;
use mantissa_numerics::recipe::{LinearSum, MatmulRecipe, Nf4Sum};

use crate::backend::Places;
use crate::error::EngineError;
use crate::kernel::matmul::matmul;
use crate::kernel::matrix::{Format, Matrix};
use crate::pool::Pool;
use crate::simd::Isa;

/// Products of rows with a weight, by the kernels and threads of a forward pass: what a benchmark sets beside the pass.
///
/// ```
/// use half::bf16;
/// use mantissa_engine::{Isa, Products};
/// use mantissa_numerics::Dtype;
/// use mantissa_numerics::recipe::{LinearSum, MatmulRecipe};
///
/// let products = Products::new(Isa::Scalar, 1)?;
/// let recipe = MatmulRecipe { summation: LinearSum::FmaChain, output: Dtype::F32 };
/// // 1 + 2^-24 is 1, however often it is added: the order of the sum decides.
/// let small = 2.0_f32.powi(-24);
/// let weight: Vec<u8> = [1.0_f32; 3].iter().flat_map(|w| bf16::from_f32(*w).to_le_bytes()).collect();
/// let mut out = [0.0; 2];
/// products.run(recipe, 2, &[1.0, small, small, small, small, 1.0], &weight, &mut out);
/// assert_eq!(out, [1.0, 1.0 + 2.0 * small]);
/// # Ok::<(), mantissa_engine::EngineError>(())
/// ```
#[derive(Debug)]
pub struct Products {
    isa: Isa,
    pool: Pool,
}

impl Products {
    /// Starts the threads.
    ///
    /// # Errors
    /// When this machine lacks the instructions, or a thread cannot be started.
    pub fn new(isa: Isa, threads: usize) -> Result<Self, EngineError> {
        if !isa.is_available() {
            return Err(EngineError::Isa { isa: isa.name() });
        }
        let pool = Pool::new(threads).map_err(|source| EngineError::Threads { threads, source })?;
        Ok(Self { isa, pool })
    }

    /// `out[i, j] = round(Σ_k x[i, k] · weight[j, k])`.
    ///
    /// *Shape:* `x` is `m × k`, `weight` `n × k` in bf16, or what the steps of a tensor core multiply (little-endian),
    /// `out` `m × n`, row-major. *Rounding:* as `recipe` says; for steps of a tensor core `x` is already rounded.
    ///
    /// # Panics
    /// When no `k` and `n` give these lengths.
    pub fn run(&self, recipe: MatmulRecipe, m: usize, x: &[f32], weight: &[u8], out: &mut [f32]) {
        let parts = recipe.parts();
        let (k, n) = (x.len() / m.max(1), out.len() / (m * parts).max(1));
        assert!(
            m * k == x.len() && m * n * parts == out.len() && 2 * n * k == weight.len(),
            "lengths of no product"
        );
        let factors = match recipe.summation {
            LinearSum::TensorCore(sum) | LinearSum::Nf4(Nf4Sum::Decoded(sum)) => sum.block.operand.dtype(),
            LinearSum::Nf4(Nf4Sum::Mma(block)) => block.operand.dtype(),
            LinearSum::Packed(sum) => sum.block().operand.dtype(),
            LinearSum::PackedExperts(sum) => sum.block.operand.dtype(),
            LinearSum::Ranks(sum) => sum.each.block.operand.dtype(),
            LinearSum::RankParts { each, .. } => each.block.operand.dtype(),
            _ => None,
        };
        let format = Format::Plain(factors.unwrap_or(Dtype::Bf16));
        let weight = Matrix { format, rows: n, cols: k, row_bytes: 2 * k, data: weight };
        // Rows are those of the whole product.
        let places = Places { rows: (0..m).collect(), of: m };
        matmul(self.isa, &self.pool, recipe, &places, x, &mut [(weight, out)]);
    }
}
