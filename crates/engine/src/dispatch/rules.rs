//! The recipes of a setup: every kernel but attention.

use std::num::{NonZeroU16, NonZeroU32};

use mantissa_model::graph::Attention as Node;
use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::reduce::TorchSum;
use mantissa_numerics::recipe::{
    BiasRecipe, CapRecipe, ClampedSwiGluRecipe, Elementary, EmbeddingRecipe, ExpertOrder, ExpertRanks,
    ExpertSumRecipe, GeGluRecipe, Lanes, LinearSum, LogSoftmaxRecipe, MatmulRecipe, NormMean, NormRecipe,
    NormWeight, ResidualRecipe, RotaryFunctions, RotaryPairs, RotaryRecipe, RouterChoice, RouterRecipe,
    RouterSoftmax, Silu, SwiGluRecipe, TorchSoftmax,
};
use mantissa_numerics::setup::{Attention, Hardware, Program, QuantizedWeights};
use mantissa_numerics::site::Phase;

use crate::catalog::{self, Batched, Linear, Product};
use crate::catalogs::{Catalogs, Entry, Source, TargetCatalogs};
use crate::serving::Serving;
use crate::shape::PassShape;

/// Lanes of sums over a row: attention, router, norms.
const ROW_LANES: Lanes = Lanes::L16;

/// Running sums of the sum over experts: the engine's own, and PyTorch's on a GPU.
const EXPERT_SUMS: [NonZeroU16; 2] = [NonZeroU16::new(1).unwrap(), NonZeroU16::new(4).unwrap()];

/// The recipes of one setup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dispatch<'c> {
    /// Whose arithmetic.
    pub hardware: Hardware,
    /// Storage format.
    pub dtype: Dtype,
    /// Attention implementation.
    pub attention: Attention,
    /// The program, and its ranks.
    pub serving: Serving,
    /// Treatment of quantized weights.
    pub quantized: QuantizedWeights,
    /// What is known of libraries' choices.
    pub catalogs: &'c Catalogs,
}

impl Dispatch<'static> {
    /// The recipes of a setup, with the catalogs that are part of the program.
    ///
    /// ```
    /// use mantissa_engine::{Attention, Dispatch, Hardware};
    /// use mantissa_numerics::Dtype;
    ///
    /// let dispatch = Dispatch::new(Hardware::Cpu, Dtype::Bf16, Attention::Eager);
    /// assert_eq!(dispatch.matmul(1, 64, 64, false).output, Dtype::Bf16);
    /// ```
    #[must_use]
    pub fn new(hardware: Hardware, dtype: Dtype, attention: Attention) -> Self {
        let serving = Serving::default();
        let quantized = QuantizedWeights::Keep;
        Self { hardware, dtype, attention, serving, quantized, catalogs: Catalogs::built_in() }
    }
}

impl<'c> Dispatch<'c> {
    pub(crate) fn is_gpu(self) -> bool {
        self.hardware != Hardware::Cpu
    }

    /// Tensor-parallel ranks.
    pub(super) fn tensor_ranks(self) -> usize {
        self.serving.ranks.tensor.max(1) as usize
    }

    pub(crate) fn is_vllm(self) -> bool {
        self.serving.program == Program::Vllm024
    }

    /// What was measured of this hardware.
    pub(super) fn catalog(self) -> Option<&'c TargetCatalogs> {
        self.catalogs.of(self.hardware)
    }

    /// A product with a weight, of `m` rows; one that a bias follows (`biased`) is left in binary32, so that there is
    /// one rounding, as in the epilogue of a library's kernel.
    ///
    /// On a GPU `n × k` decides too.
    ///
    /// # Panics
    /// For a shape that [`Dispatch::check`] refuses; so [`Dispatch::attention`].
    #[must_use]
    pub fn matmul(self, m: usize, n: usize, k: usize, biased: bool) -> MatmulRecipe {
        let Some((recipe, _)) = self.product(m, n, k, biased) else { unreachable!("{UNCHECKED}") };
        recipe
    }

    /// [`Self::matmul`] with the catalog that has the recipe; `None` for a shape that was not measured.
    pub(crate) fn product(
        self,
        m: usize,
        n: usize,
        k: usize,
        biased: bool,
    ) -> Option<(MatmulRecipe, Option<Source<'c>>)> {
        let output = if biased { Dtype::F32 } else { self.dtype };
        if self.is_gpu() {
            let shape = Linear { n, k, bias: biased, dtype: self.dtype };
            let uncut = catalog::uncut(self.hardware.architecture(), self.dtype);
            let (sum, from) = self.look_up(uncut, |known| known.linear(shape, m))?;
            return Some((MatmulRecipe { summation: LinearSum::TensorCore(sum), output }, from));
        }
        let summation = match m {
            0 | 1 => LinearSum::LaneChains { lanes: Lanes::L64 },
            2..=4 => LinearSum::LaneChains { lanes: Lanes::L32 },
            5..=8 => LinearSum::LaneChains { lanes: Lanes::L16 },
            _ => LinearSum::FmaChain,
        };
        Some((MatmulRecipe { summation, output }, None))
    }

    /// A product with an expert's weight in a pass of `m` rows, of which the expert gets some. On a GPU all experts'
    /// products are one grouped kernel, which has one recipe.
    #[must_use]
    pub fn expert(self, m: usize, n: usize, k: usize, biased: bool) -> MatmulRecipe {
        if self.is_gpu() {
            return MatmulRecipe {
                summation: LinearSum::TensorCore(catalog::uncut(self.hardware.architecture(), self.dtype)),
                output: self.dtype,
            };
        }
        self.matmul(m, n, k, biased)
    }

    /// The sum over a token's experts, by weights that are rounded or `wide`. The engine rounds products all the same.
    #[must_use]
    pub fn expert_sum(self, wide: bool) -> ExpertSumRecipe {
        let [own, torch] = EXPERT_SUMS;
        let sums = if self.is_gpu() { torch } else { own };
        let ranks = ExpertRanks::One;
        ExpertSumRecipe {
            rounded_weights: false,
            sums,
            wide: wide && self.is_gpu(),
            order: ExpertOrder::Once,
            ranks,
            output: self.dtype,
        }
    }

    /// Whose exponentials and hyperbolic tangents.
    fn elementary(self) -> Elementary {
        if self.is_gpu() { Elementary::Cuda } else { Elementary::Own }
    }

    /// RMSNorm over `rows` rows of `length`.
    #[must_use]
    pub fn norm(self, rows: usize, length: usize) -> NormRecipe {
        let torch = TorchSum::of(rows, length).filter(|_| self.is_gpu());
        let mean = match (torch, u32::try_from(rows).ok().and_then(NonZeroU32::new)) {
            (Some(sum), Some(rows)) => NormMean::Torch { sum, rows },
            _ => NormMean::Lanes { lanes: ROW_LANES },
        };
        NormRecipe { mean, weight: NormWeight::AfterCast, output: self.dtype }
    }

    /// Rotary embedding, of which the tables are part.
    #[must_use]
    pub fn rotary(self, pairs: RotaryPairs) -> RotaryRecipe {
        let functions = if self.is_gpu() { RotaryFunctions::Cuda } else { RotaryFunctions::Own };
        RotaryRecipe { functions, pairs, output: self.dtype }
    }

    /// The gated activation.
    #[must_use]
    pub fn swiglu(self) -> SwiGluRecipe {
        SwiGluRecipe { silu: if self.is_gpu() { Silu::Cuda } else { Silu::Own }, output: self.dtype }
    }

    /// The gated activation by GELU.
    #[must_use]
    pub fn geglu(self) -> GeGluRecipe {
        GeGluRecipe { functions: self.elementary(), output: self.dtype }
    }

    /// The clamped gated activation of neighbours.
    #[must_use]
    pub fn clamped_swiglu(self) -> ClampedSwiGluRecipe {
        ClampedSwiGluRecipe { functions: self.elementary(), output: self.dtype }
    }

    /// The bound of the logits.
    #[must_use]
    pub fn cap(self) -> CapRecipe {
        CapRecipe { functions: self.elementary(), output: self.dtype }
    }

    /// Residual addition.
    #[must_use]
    pub fn residual(self) -> ResidualRecipe {
        ResidualRecipe { output: self.dtype }
    }

    /// A bias after a product.
    #[must_use]
    pub fn bias(self) -> BiasRecipe {
        BiasRecipe { output: self.dtype }
    }

    /// Rows of the embedding.
    #[must_use]
    pub fn embedding(self) -> EmbeddingRecipe {
        EmbeddingRecipe { output: self.dtype }
    }

    /// The choice of experts; weights that are `wide` are not rounded.
    #[must_use]
    pub fn router(self, choice: RouterChoice, wide: bool) -> RouterRecipe {
        let softmax =
            if self.is_gpu() { RouterSoftmax::Warp } else { RouterSoftmax::Lanes { lanes: ROW_LANES } };
        RouterRecipe { softmax, choice, output: if wide { Dtype::F32 } else { self.dtype } }
    }

    /// Log-probabilities of a row of `vocabulary` logits: on a GPU `torch.log_softmax` of them in binary32.
    ///
    /// ```
    /// use mantissa_engine::{Attention, Dispatch, Hardware};
    /// use mantissa_numerics::Dtype;
    /// use mantissa_numerics::recipe::{LogSoftmaxRecipe, TorchSoftmax};
    ///
    /// let of = |hardware| Dispatch::new(hardware, Dtype::Bf16, Attention::Eager).log_softmax(151_936);
    /// assert_eq!(of(Hardware::Cpu), LogSoftmaxRecipe::Own);
    /// assert_eq!(of(Hardware::H200), LogSoftmaxRecipe::Torch(TorchSoftmax::Shifted(4)));
    /// ```
    #[must_use]
    pub fn log_softmax(self, vocabulary: usize) -> LogSoftmaxRecipe {
        if self.is_gpu() {
            return LogSoftmaxRecipe::Torch(TorchSoftmax::of(vocabulary, Dtype::F32));
        }
        LogSoftmaxRecipe::Own
    }

    /// What the catalogs say and which one; of literature, where there are none, `literature`. `None` where they do not
    /// have the shape.
    pub(super) fn look_up<T>(
        self,
        literature: T,
        find: impl FnOnce(&'c TargetCatalogs) -> Option<Entry<'c, T>>,
    ) -> Option<(T, Option<Source<'c>>)> {
        let Some(known) = self.catalog() else { return Some((literature, None)) };
        find(known).map(|entry| (entry.recipe, Some(entry.source)))
    }

    /// Both batched products of attention over `heads` heads of all sequences together, scores first.
    ///
    /// *Errors:* the product that was not measured.
    pub(super) fn batched<T: Copy>(
        self,
        [scores, values]: [Product; 2],
        phase: Phase,
        heads: usize,
        dim: usize,
        literature: T,
        find: impl Fn(&'c TargetCatalogs, Batched) -> Option<Entry<'c, T>>,
    ) -> Result<([T; 2], Sources<'c>), Product> {
        let of = |product| {
            let shape = Batched { product, phase, heads, dim };
            self.look_up(literature, |known| find(known, shape)).ok_or(product)
        };
        let ((scores, of_scores), (values, of_values)) = (of(scores)?, of(values)?);
        Ok(([scores, values], [of_scores, of_values]))
    }
}

/// The catalogs that the two products of attention are from.
pub(super) type Sources<'c> = [Option<Source<'c>>; 2];

/// Why a look-up for [`Dispatch::matmul`] or [`Dispatch::attention`] finds something.
pub(super) const UNCHECKED: &str = "`check` refuses shapes that were not measured";

/// Keys that PyTorch's kernels get: in decode those of the window, as transformers' caches keep no others.
pub(super) fn keys_of(attention: &Node, shape: PassShape) -> usize {
    match (shape.phase, attention.window) {
        (Phase::Decode, Some(window)) => shape.keys.min(window),
        _ => shape.keys,
    }
}

/// Query heads of all sequences together, of heads times rows: a prefill of whole prompts has `keys` rows per sequence.
pub(super) fn heads_of(phase: Phase, heads: usize, keys: usize) -> usize {
    match phase {
        Phase::Prefill => heads / keys.max(1),
        Phase::Decode => heads,
    }
}
