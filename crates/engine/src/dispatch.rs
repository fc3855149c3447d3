//! Dispatch: which recipe an operation of a given shape runs by. A pure function, so that it can be read, tested,
//! and asked about a setup that is not running.
//!
//! The choice follows what each shape is short of. One row waits for memory: sixty-four lanes along the weight's own
//! rows. Two to eight rows share what was read, with as many lanes as leave registers for every row. From nine rows
//! on the product is bound by arithmetic: one chain per output, blocked. So the batch size of a decode shows in its
//! bits as the classes {1}, {2–4}, {5–8}, {9…}, and every prefill of nine tokens or more is of one class.

use std::num::{NonZeroU16, NonZeroU32};

use mantissa_model::graph::Graph;
use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::reduce::TorchSum;
use mantissa_numerics::recipe::{
    AttentionRecipe, BatchedSum, BiasRecipe, CapRecipe, ClampedSwiGluRecipe, EmbeddingRecipe,
    ExpertSumRecipe, GeGluRecipe, Lanes, LinearSum, MatmulRecipe, NormMean, NormRecipe, NormWeight,
    OwnAttention, OwnScores, OwnSoftmax, ResidualRecipe, RotaryFunctions, RotaryPairs, RotaryRecipe,
    RouterChoice, RouterRecipe, RouterSoftmax, ScoreBound, Silu, SwiGluRecipe, TorchEager, TorchSoftmax,
};
use mantissa_numerics::site::Phase;

use crate::catalog::{self, Batched, Catalog, Linear, Product};
use crate::error::EngineError;
use crate::plan::{PassShape, Plan};
use crate::setup::{Attention, Hardware};

mod node;
mod sdpa;

pub(crate) use node::{Planned, pairs_of};

/// Lanes of sums over a row: attention, router, norms.
const ROW_LANES: Lanes = Lanes::L16;

/// Keys of a tile of the engine's own `sdpa`.
const SDPA_TILE: NonZeroU32 = NonZeroU32::new(512).unwrap();

/// FlashAttention-2's own choice: the larger the head, the smaller the tile.
const FLASH_TILES: [NonZeroU32; 2] = [NonZeroU32::new(128).unwrap(), NonZeroU32::new(64).unwrap()];

/// Running sums of the sum over experts: the engine's own, and PyTorch's on a GPU.
const EXPERT_SUMS: [NonZeroU16; 2] = [NonZeroU16::new(1).unwrap(), NonZeroU16::new(4).unwrap()];

/// Keys up to which PyTorch 2.11 computes a softmax within a warp.
const LONGEST_WARP_SOFTMAX: usize = 2048;

/// Keys up to which a block of 1,024 threads keeps a row in its registers.
const LONGEST_SOFTMAX: usize = 9 * 1024;

/// Hidden width, inner width of an expert, experts and experts per token for which the grouped product and the sum over experts were
/// compared.
const EXPERTS_MEASURED: [[usize; 4]; 1] = [[2048, 768, 128, 8]];

/// The recipes of one setup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dispatch {
    /// Whose arithmetic.
    pub hardware: Hardware,
    /// Storage format.
    pub dtype: Dtype,
    /// Attention implementation.
    pub attention: Attention,
}

impl Dispatch {
    pub(crate) fn is_gpu(self) -> bool {
        self.hardware != Hardware::Cpu
    }

    /// What was measured of this hardware.
    fn catalog(self) -> Option<&'static Catalog> {
        catalog::of(self.hardware)
    }

    /// A product with a weight, of `m` rows; one that a bias follows (`biased`) is left in binary32, so that there is one rounding,
    /// as in the epilogue of a library's kernel.
    ///
    /// On a GPU `n × k` decides too.
    ///
    /// # Panics
    /// For a shape that [`Dispatch::check`] refuses; so [`Dispatch::attention`].
    #[must_use]
    pub fn matmul(self, m: usize, n: usize, k: usize, biased: bool) -> MatmulRecipe {
        let output = if biased { Dtype::F32 } else { self.dtype };
        if self.is_gpu() {
            let shape = Linear { n, k, bias: biased };
            let uncut = catalog::uncut(self.hardware);
            let sum = self.measured(uncut, |known| known.linear(shape, m));
            return MatmulRecipe { summation: LinearSum::TensorCore(sum), output };
        }
        let summation = match m {
            0 | 1 => LinearSum::LaneChains { lanes: Lanes::L64 },
            2..=4 => LinearSum::LaneChains { lanes: Lanes::L32 },
            5..=8 => LinearSum::LaneChains { lanes: Lanes::L16 },
            _ => LinearSum::FmaChain,
        };
        MatmulRecipe { summation, output }
    }

    /// A product with an expert's weight in a pass of `m` rows, of which the expert gets some. On a GPU all experts' products are one
    /// grouped kernel, which has one recipe.
    #[must_use]
    pub fn expert(self, m: usize, n: usize, k: usize, biased: bool) -> MatmulRecipe {
        if self.is_gpu() {
            return MatmulRecipe {
                summation: LinearSum::TensorCore(catalog::uncut(self.hardware)),
                output: self.dtype,
            };
        }
        self.matmul(m, n, k, biased)
    }

    /// The sum over a token's experts.
    #[must_use]
    pub fn expert_sum(self) -> ExpertSumRecipe {
        let [own, torch] = EXPERT_SUMS;
        ExpertSumRecipe { sums: if self.is_gpu() { torch } else { own }, output: self.dtype }
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

    /// The gated activation by GELU; on a GPU it was not compared and is refused.
    #[must_use]
    pub fn geglu(self) -> GeGluRecipe {
        GeGluRecipe { output: self.dtype }
    }

    /// The clamped gated activation of neighbours; refused on a GPU too.
    #[must_use]
    pub fn clamped_swiglu(self) -> ClampedSwiGluRecipe {
        ClampedSwiGluRecipe { output: self.dtype }
    }

    /// The bound of the logits; refused on a GPU too.
    #[must_use]
    pub fn cap(self) -> CapRecipe {
        CapRecipe { output: self.dtype }
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

    /// Whether verified recipes cover every kernel of a pass.
    ///
    /// *Errors:* the first that they do not.
    pub fn check(self, graph: &Graph, shape: PassShape) -> Result<(), EngineError> {
        Plan::new(self, graph, shape).map(|_| ())
    }

    /// The choice of experts; weights that are `wide` are not rounded.
    #[must_use]
    pub fn router(self, choice: RouterChoice, wide: bool) -> RouterRecipe {
        let softmax =
            if self.is_gpu() { RouterSoftmax::Warp } else { RouterSoftmax::Lanes { lanes: ROW_LANES } };
        RouterRecipe { softmax, choice, output: if wide { Dtype::F32 } else { self.dtype } }
    }

    /// What the catalog says; of literature, where there is none, `literature`.
    fn measured<T>(self, literature: T, find: impl FnOnce(&Catalog) -> Option<T>) -> T {
        let Some(known) = self.catalog() else { return literature };
        find(known).unwrap_or_else(|| unreachable!("`check` refuses shapes that were not measured"))
    }

    /// Both batched products; arguments as [`Self::attention`].
    fn batched(phase: Phase, heads: usize, dim: usize, keys: usize) -> [Batched; 2] {
        let heads = heads_of(phase, heads, keys);
        [Product::Scores, Product::Values].map(|product| Batched { product, phase, heads, dim })
    }

    /// Attention over heads of `head_dim`: `heads` query heads times rows of the pass, `group` to a KV head, over `keys` positions.
    #[must_use]
    pub fn attention(
        self,
        phase: Phase,
        heads: usize,
        group: usize,
        head_dim: usize,
        keys: usize,
    ) -> AttentionRecipe {
        match self.attention {
            Attention::SdpaFlash => {
                return AttentionRecipe::TorchFlash(self.flash(phase, heads, group, head_dim, keys));
            }
            Attention::SdpaMath => {
                return AttentionRecipe::TorchMath(self.math(phase, heads, head_dim, keys));
            }
            Attention::Eager | Attention::Sdpa | Attention::FlashAttention2 => {}
        }
        if self.is_gpu() {
            let uncut = BatchedSum::TensorCore { block: catalog::block(self.hardware), tile: None };
            let [scores, values] = Self::batched(phase, heads, head_dim, keys)
                .map(|shape| self.measured(uncut, |known| known.eager(shape, keys)));
            let softmax = if keys <= LONGEST_WARP_SOFTMAX { TorchSoftmax::Warp } else { TorchSoftmax::Block };
            return AttentionRecipe::TorchEager(TorchEager { scores, softmax, values });
        }
        let scores = match phase {
            Phase::Prefill => OwnScores::FmaChain,
            Phase::Decode => OwnScores::Lanes16,
        };
        let [small_heads, large_heads] = FLASH_TILES;
        let softmax = match self.attention {
            Attention::Eager => OwnSoftmax::Eager,
            Attention::Sdpa => OwnSoftmax::Tiled { key_tile: SDPA_TILE },
            Attention::FlashAttention2 => {
                OwnSoftmax::Online { key_tile: if head_dim <= 64 { small_heads } else { large_heads } }
            }
            Attention::SdpaFlash | Attention::SdpaMath => unreachable!("returned above"),
        };
        AttentionRecipe::Own(OwnAttention {
            scores,
            bound: ScoreBound::None,
            sinks: false,
            softmax,
            storage: self.dtype,
        })
    }
}

/// Query heads of all sequences together, of heads times rows: a prefill of whole prompts has `keys` rows per sequence.
fn heads_of(phase: Phase, heads: usize, keys: usize) -> usize {
    match phase {
        Phase::Prefill => heads / keys.max(1),
        Phase::Decode => heads,
    }
}

#[cfg(test)]
mod tests {
    use mantissa_model::ModelConfig;
    use mantissa_model::synth::{Preset, SynthRequest, SynthSpec};

    use super::*;

    fn config(preset: Preset, experts: Option<usize>) -> ModelConfig {
        let request =
            SynthRequest { preset: Some(preset), moe_intermediate_size: experts, ..SynthRequest::default() };
        SynthSpec::new(&request).expect("a preset").config().clone()
    }

    #[test]
    fn what_was_compared_is_covered_and_nothing_else() {
        use Attention::{Eager, SdpaFlash, SdpaMath};
        use Hardware::{A100, H100, H200};
        use Phase::{Decode, Prefill};
        let refused = |hardware, attention, preset, phase, batch, keys, experts| {
            let dispatch = Dispatch { hardware, dtype: Dtype::Bf16, attention };
            let positions = if phase == Prefill { keys } else { 1 };
            let shape = PassShape { phase, batch_size: batch, positions, keys };
            let found = dispatch.check(&config(preset, experts).graph(), shape);
            found.err().map(|error| error.to_string())
        };
        let (small, wide, moe) = (Preset::SmolLm2_135M, Preset::Qwen2_5_7B, Preset::Qwen3_30BA3B);
        for hardware in [H200, H100] {
            for (attention, preset, phase, batch, keys) in [
                (Eager, small, Prefill, 17, 512),
                (Eager, small, Decode, 9, 2078),
                (Eager, wide, Prefill, 5, 32),
                (Eager, moe, Decode, 17, 540),
                (SdpaFlash, small, Decode, 17, 540),
                (SdpaMath, small, Prefill, 8, 512),
                (SdpaMath, wide, Decode, 2, 540),
            ] {
                let found = refused(hardware, attention, preset, phase, batch, keys, None);
                assert_eq!(found, None, "{hardware:?} {attention:?} {preset:?} {phase:?} {batch} {keys}");
            }
        }
        for (hardware, attention, preset, phase, batch, keys, experts, why) in [
            (H200, SdpaMath, small, Prefill, 3, 512, None, "order of sums was not measured"),
            (H200, SdpaMath, moe, Decode, 17, 540, None, "order of sums was not measured"),
            (H200, SdpaMath, small, Decode, 1, 1935, None, "at most 1,934 keys"),
            (H200, SdpaFlash, small, Decode, 1, 2001, None, "at most 2,000 keys"),
            (A100, SdpaMath, small, Decode, 1, 100, None, "an H200 and an H100 alone"),
            (H100, Eager, moe, Decode, 1, 100, Some(1024), "8 of 128 experts of 1024 over 2048"),
            (H200, Eager, small, Decode, 3, 100, None, "order of sums was not measured"),
            (H200, Eager, small, Prefill, 1, 643, None, "split-K was not measured"),
        ] {
            let found = refused(hardware, attention, preset, phase, batch, keys, experts);
            assert!(found.as_ref().is_some_and(|found| found.contains(why)), "{why}: {found:?}");
        }
    }

    #[test]
    fn batch_sizes_fall_into_the_documented_classes() {
        let dispatch = Dispatch { hardware: Hardware::Cpu, dtype: Dtype::Bf16, attention: Attention::Eager };
        let class = |m: usize| dispatch.matmul(m, 64, 64, false).summation;
        let [l16, l32, l64] = Lanes::ALL;
        for (range, lanes) in [(1..=1, Some(l64)), (2..=4, Some(l32)), (5..=8, Some(l16)), (9..=4096, None)] {
            for m in range {
                let expected = lanes.map_or(LinearSum::FmaChain, |lanes| LinearSum::LaneChains { lanes });
                assert_eq!(class(m), expected, "m = {m}");
            }
        }
    }
}
