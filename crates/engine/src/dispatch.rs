//! Dispatch: which recipe an operation of a given shape runs by. A pure function, so that it can be read, tested,
//! and asked about a setup that is not running.
//!
//! The choice follows what each shape is short of. One row waits for memory: sixty-four lanes along the weight's own
//! rows. Two to eight rows share what was read, with as many lanes as leave registers for every row. From nine rows
//! on the product is bound by arithmetic: one chain per output, blocked. So the batch size of a decode shows in its
//! bits as the classes {1}, {2–4}, {5–8}, {9…}, and every prefill of nine tokens or more is of one class.

use mantissa_model::graph::Graph;
use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::reduce::TorchSum;
use mantissa_numerics::recipe::{
    AttentionRecipe, Functions, KernelRecipe, MatmulRecipe, NormRecipe, ReductionRecipe, SoftmaxRecipe,
    Summation,
};
use mantissa_numerics::site::Phase;

use crate::catalog::{self, Batched, Catalogs, Entry, Linear, Product, TargetCatalogs};
use crate::error::EngineError;
use crate::plan::{PassShape, Plan};
use crate::setup::{Attention, Hardware};

mod node;
mod rests_on;
mod sdpa;

pub(crate) use node::Planned;

/// Lanes of sums over a row: attention, router, norms.
const ROW_LANES: ReductionRecipe = ReductionRecipe::Lanes { lanes: 16 };

/// Keys up to which PyTorch 2.11 computes a softmax within a warp.
const LONGEST_WARP_SOFTMAX: usize = 2048;

/// Keys up to which a block of 1,024 threads keeps a row in its registers.
const LONGEST_SOFTMAX: usize = 9 * 1024;

/// Hidden width, inner width of an expert, experts and experts per token for which the grouped product and the sum over experts were
/// compared.
const EXPERTS_MEASURED: [[usize; 4]; 1] = [[2048, 768, 128, 8]];

/// The recipes of one setup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dispatch<'c> {
    /// Whose arithmetic.
    pub hardware: Hardware,
    /// Storage format.
    pub dtype: Dtype,
    /// Attention implementation.
    pub attention: Attention,
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
        Self { hardware, dtype, attention, catalogs: Catalogs::built_in() }
    }
}

impl<'c> Dispatch<'c> {
    pub(crate) fn is_gpu(self) -> bool {
        self.hardware != Hardware::Cpu
    }

    /// What was measured of this hardware.
    fn catalog(self) -> Option<&'c TargetCatalogs> {
        self.catalogs.of(self.hardware)
    }

    /// A product with a weight, of `m` rows; one that a bias follows is left in binary32, so that there is one rounding,
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
            return MatmulRecipe { summation: self.measured(|known| known.linear(shape, m)), output };
        }
        let summation = match m {
            0 | 1 => Summation::LaneChains { lanes: 64 },
            2..=4 => Summation::LaneChains { lanes: 32 },
            5..=8 => Summation::LaneChains { lanes: 16 },
            _ => Summation::FmaChain,
        };
        MatmulRecipe { summation, output }
    }

    /// A product with an expert's weight in a pass of `m` rows, of which the expert gets some. On a GPU all experts' products are one
    /// grouped kernel, which has one recipe.
    #[must_use]
    pub fn expert(self, m: usize, n: usize, k: usize) -> MatmulRecipe {
        if self.is_gpu() {
            return MatmulRecipe { summation: catalog::uncut(self.hardware), output: self.dtype };
        }
        self.matmul(m, n, k, false)
    }

    /// The sum over a token's experts.
    #[must_use]
    pub fn expert_sum(self) -> KernelRecipe {
        KernelRecipe::ExpertSum { output: self.dtype, sums: if self.is_gpu() { 4 } else { 1 } }
    }

    /// RMSNorm over `rows` rows of `length`.
    #[must_use]
    pub fn norm(self, rows: usize, length: usize) -> NormRecipe {
        let torch = TorchSum::of(rows, length).filter(|_| self.is_gpu());
        match (torch, u32::try_from(rows)) {
            (Some(torch), Ok(rows)) => NormRecipe {
                reduction: ReductionRecipe::Torch { torch, rows },
                output: self.dtype,
                functions: Functions::Nvidia,
            },
            _ => NormRecipe { reduction: ROW_LANES, output: self.dtype, functions: Functions::Engine },
        }
    }

    /// Whose exponentials, sines and cosines.
    #[must_use]
    pub fn functions(self) -> Functions {
        if self.is_gpu() { Functions::Nvidia } else { Functions::Engine }
    }

    /// Whether verified recipes cover every kernel of a pass.
    ///
    /// *Errors:* the first that they do not.
    pub fn check(self, graph: &Graph, shape: PassShape) -> Result<(), EngineError> {
        Plan::new(self, graph, shape).map(|_| ())
    }

    /// Softmax over router logits.
    #[must_use]
    pub fn router(self, renormalize: bool) -> KernelRecipe {
        KernelRecipe::Router {
            renormalize,
            reduction: self.router_reduction(),
            output: self.dtype,
            functions: self.functions(),
        }
    }

    /// Lanes of the router's softmax.
    #[must_use]
    pub fn router_reduction(self) -> ReductionRecipe {
        if self.is_gpu() { ReductionRecipe::Warp { warp: 32 } } else { ROW_LANES }
    }

    /// Format of attention's batched products.
    fn products_of(self) -> Dtype {
        if self.attention == Attention::SdpaMath { Dtype::F32 } else { self.dtype }
    }

    /// What the catalog says; of literature, where there is none, a walk that is not cut.
    fn measured(self, find: impl FnOnce(&'c TargetCatalogs) -> Option<Entry<'c, Summation>>) -> Summation {
        let Some(known) = self.catalog() else { return catalog::uncut(self.hardware) };
        let Some(entry) = find(known) else { unreachable!("`check` refuses shapes that were not measured") };
        entry.recipe
    }

    /// Sums of scores and of values; arguments as [`Self::attention`].
    fn measured_products(self, phase: Phase, heads: usize, dim: usize, keys: usize) -> [Summation; 2] {
        let heads = heads_of(phase, heads, keys);
        [Product::Scores, Product::Values].map(|product| {
            let shape = Batched { product, dtype: self.products_of(), phase, heads, dim };
            self.measured(|known| known.batched(shape, keys))
        })
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
            Attention::SdpaFlash => return self.flash(phase, heads, group, head_dim, keys),
            Attention::SdpaMath => return self.math(phase, heads, head_dim, keys),
            Attention::Eager | Attention::Sdpa | Attention::FlashAttention2 => {}
        }
        if self.is_gpu() {
            let [scores, values] = self.measured_products(phase, heads, head_dim, keys);
            let reduction = if keys <= LONGEST_WARP_SOFTMAX {
                ReductionRecipe::Warp { warp: 32 }
            } else {
                ReductionRecipe::Block { block: 1024 }
            };
            return AttentionRecipe {
                scores,
                score_rounding: self.dtype,
                scaled_operands: false,
                softmax: SoftmaxRecipe::Exact { reduction, normalize_first: true },
                probability_rounding: self.dtype,
                key_tile: None,
                values: Some(values),
                functions: Functions::Nvidia,
                output: self.dtype,
            };
        }
        let scores = match phase {
            Phase::Prefill => Summation::FmaChain,
            Phase::Decode => Summation::LaneChains { lanes: 16 },
        };
        let (score_rounding, softmax, key_tile) = match self.attention {
            Attention::Eager => {
                (self.dtype, SoftmaxRecipe::Exact { reduction: ROW_LANES, normalize_first: true }, None)
            }
            Attention::Sdpa => {
                (Dtype::F32, SoftmaxRecipe::Exact { reduction: ROW_LANES, normalize_first: false }, Some(512))
            }
            // FlashAttention-2's own choice: the larger the head, the smaller the tile.
            Attention::FlashAttention2 => {
                let tile = if head_dim <= 64 { 128 } else { 64 };
                (Dtype::F32, SoftmaxRecipe::Online { reduction: ROW_LANES }, Some(tile))
            }
            Attention::SdpaFlash | Attention::SdpaMath => unreachable!("returned above"),
        };
        AttentionRecipe {
            scores,
            score_rounding,
            scaled_operands: false,
            softmax,
            probability_rounding: self.dtype,
            key_tile,
            values: None,
            functions: Functions::Engine,
            output: self.dtype,
        }
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
            let dispatch = Dispatch::new(hardware, Dtype::Bf16, attention);
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
        let dispatch = Dispatch::new(Hardware::Cpu, Dtype::Bf16, Attention::Eager);
        let class = |m: usize| dispatch.matmul(m, 64, 64, false).summation;
        for (range, lanes) in [(1..=1, Some(64)), (2..=4, Some(32)), (5..=8, Some(16)), (9..=4096, None)] {
            for m in range {
                let expected = lanes.map_or(Summation::FmaChain, |lanes| Summation::LaneChains { lanes });
                assert_eq!(class(m), expected, "m = {m}");
            }
        }
    }
}
