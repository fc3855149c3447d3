//! The flat form of recipes in records and catalogs, which must not change as long as old evidence has to be read.
//!
//! What is written is what the fields of [`super::KernelRecipe`] say; what is read is refused where no kernel computes
//! it.

use serde::{Deserialize, Serialize};

use crate::Dtype;
use crate::nvidia::flash3::Cut;
use crate::nvidia::gating::VllmGating;
use crate::nvidia::reduce::TorchSum;
use crate::nvidia::triton::TritonLogSoftmax;
use crate::nvidia::vllm::VllmMean;
use crate::recipe::RankOrder;
use crate::tensor_core::BlockRecipe;

mod checked;
mod convert;
mod divided;
mod divided_weight;

pub use divided_weight::DividedWeight;

/// How one output of a matrix product is summed over the reduction axis `K`.
///
/// ```
/// use mantissa_numerics::recipe::{LinearSum, RankOrder, wire::Summation};
/// let json = r#"{"order":"ranks","block":{"operand":"bf16","width":16,"fraction_bits":25,"result_bits":23},
///     "parts":1,"ranks":4,"reduce":"each_along_ring"}"#;
/// let LinearSum::Ranks(sum) = serde_json::from_str::<Summation>(json)?.try_into()? else { panic!("one rank") };
/// assert_eq!((sum.reduce.ranks(), sum.reduce.order()), (4, RankOrder::EachAlongRing));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Summation {
    /// `acc = fma(x[k], w[k], acc)` for `k` ascending from `acc = +0`, then `acc + 0` (a zero sum is `+0`).
    FmaChain,
    /// `lanes` chains of that kind, lane `k mod lanes`, then the halving tree `a[i] += a[i + half]`
    /// for `half = lanes/2 … 1`, then `a[0] + 0`. Rows are padded with zeros to a multiple of 64.
    LaneChains {
        /// Number of lanes, a power of two from 16 to 64.
        lanes: u16,
    },
    /// Steps of a tensor core along `K`, in parts that are added in ascending order in binary32.
    TensorCore {
        /// One step.
        block: BlockRecipe,
        /// Split-K: `K` is cut into parts of `ceil(ceil(K / 64) / parts) · 64`, each summed from `+0`. 1 is no cut.
        parts: u16,
        /// Kernels that walk `K` in tiles of this length with the remainder `K mod tile` first: a step never crosses
        /// the border of a tile. `None` walks from 0 upwards with the remainder last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tile: Option<u16>,
    },
    /// Threads of a matrix-vector kernel: thread `(k / vector) mod threads` takes `k` by `fma`, ascending from `+0`;
    /// then the halving tree.
    Threads {
        /// Threads, a power of two of at most 64.
        threads: u16,
        /// Neighbours of `K` that a thread takes at a time.
        vector: u16,
        /// Threads are added in ascending order instead.
        #[serde(default, skip_serializing_if = "is_false")]
        in_order: bool,
    },
    /// `K` in as many equal parts as there are tensor-parallel ranks, each summed by steps of a tensor core and rounded
    /// to the product's format; then an all-reduce.
    Ranks {
        /// One step.
        block: BlockRecipe,
        /// Split-K of a rank's part, as of `tensor_core`.
        parts: u16,
        /// Ranks, 2 to 8.
        ranks: u16,
        /// How ranks' sums are added.
        reduce: RankOrder,
    },
    /// The same without the all-reduce: each rank's sums stand side by side. An expert's.
    RankParts {
        /// One step.
        block: BlockRecipe,
        /// Split-K of a rank's part, as of `tensor_core`.
        parts: u16,
        /// Ranks, 2 to 8.
        ranks: u16,
    },
    /// bitsandbytes' product with a weight of nf4 by a warp for each output: code and scale rounded to bf16 and their
    /// product again, products of two neighbours rounded to bf16 and added, then to the sum of lane `(k / 32) mod 32`;
    /// then the halving tree.
    Nf4Simt,
    /// The same by steps of a tensor core along all of `K`; code times scale rounded once.
    Nf4Mma {
        /// One step.
        block: BlockRecipe,
    },
    /// The same with a weight that was decoded before: code times scale rounded once.
    Nf4Decoded {
        /// One step.
        block: BlockRecipe,
        /// Split-K, as of `tensor_core`.
        parts: u16,
    },
    /// vLLM's Machete: weights of 4 bits, a multiplication or one `fma` each, steps of a tensor core over the parts of
    /// `K` that CUTLASS' stream-K scheduler deals out, added in ascending order.
    Machete {
        /// One step.
        block: BlockRecipe,
        /// Rows, in whole tiles.
        rows: u32,
        /// Outputs of all weights that are put together.
        outputs: u32,
        /// Which of them is this weight's first.
        #[serde(default, skip_serializing_if = "is_zero")]
        first: u32,
        /// Multiprocessors of the GPU.
        multiprocessors: u32,
        /// How the weight is divided among ranks; absent of one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        divided: Option<DividedWeight>,
    },
    /// vLLM's Marlin: weights of 4 bits, rounded once, steps of a tensor core over stripes of `K`, which warps share,
    /// added in descending order.
    Marlin {
        /// One step.
        block: BlockRecipe,
        /// Rows, in whole tiles.
        rows: u32,
        /// Outputs of all weights that are put together.
        outputs: u32,
        /// Which of them is this weight's first.
        #[serde(default, skip_serializing_if = "is_zero")]
        first: u32,
        /// Multiprocessors of the GPU.
        multiprocessors: u32,
        /// Elements that share a scale.
        group: u32,
        /// How the weight is divided among ranks; absent of one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        divided: Option<DividedWeight>,
    },
    /// vLLM's Marlin of tokens with weights of their experts: as [`Self::Marlin`], in groups of 128, over blocks of
    /// rows of all experts that the step's tokens chose.
    MarlinExperts {
        /// One step.
        block: BlockRecipe,
        /// Tokens of the step.
        tokens: u32,
        /// Experts that each of them chooses.
        top: u32,
        /// Of how many.
        experts: u32,
        /// How many of them a rank has whole; absent where it has all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of_rank: Option<u32>,
        /// Outputs of an expert's weights that are put together, on a rank.
        outputs: u32,
        /// Which of them is this weight's first.
        #[serde(default, skip_serializing_if = "is_zero")]
        first: u32,
        /// Groups have zero points.
        #[serde(default, skip_serializing_if = "is_false")]
        zeros: bool,
        /// Multiprocessors of the GPU.
        multiprocessors: u32,
        /// How the weight is divided among ranks; absent of one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        divided: Option<DividedWeight>,
    },
}

/// How the sum over a token's experts is divided among ranks.
///
/// Example: [`super::ExpertRanks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Among {
    /// Ranks, 2 to 8.
    pub ranks: u16,
    /// How ranks' sums, rounded to `output`, are added.
    pub reduce: RankOrder,
    /// Experts of each rank; absent where a rank has a part of every expert's inner width.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experts: Option<u32>,
}

const fn one() -> u16 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_one(x: &u16) -> bool {
    *x == 1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(x: &u32) -> bool {
    *x == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_false(x: &bool) -> bool {
    !*x
}

/// Whose exponentials, reciprocal square roots, sines and cosines a kernel uses.
///
/// Example: [`KernelRecipe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Functions {
    /// The engine's own, as each recipe says.
    #[default]
    Engine,
    /// Those of NVIDIA's hardware and CUDA's library: [`crate::nvidia::functions`].
    Nvidia,
}

impl Functions {
    /// Whether these are the engine's own, which records do not state.
    #[must_use]
    pub const fn are_own(&self) -> bool {
        matches!(self, Self::Engine)
    }
}

/// A product `x · wᵀ`: `x` is `m × k`, `w` is `n × k`, both exact in binary32.
///
/// ```
/// use mantissa_numerics::recipe::{self, wire};
/// let json = r#"{"summation": {"order": "lane_chains", "lanes": 32}, "output": "bf16"}"#;
/// let flat: wire::MatmulRecipe = serde_json::from_str(json)?;
/// assert_eq!(flat.summation, wire::Summation::LaneChains { lanes: 32 });
/// assert!(recipe::MatmulRecipe::try_from(flat).is_ok());
/// // The flat form has room for any number, a recipe only for what a kernel computes.
/// let odd = wire::MatmulRecipe { summation: wire::Summation::LaneChains { lanes: 24 }, ..flat };
/// assert!(recipe::MatmulRecipe::try_from(odd).is_err());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MatmulRecipe {
    /// Order of the sum.
    pub summation: Summation,
    /// Format that the sum is rounded to, once; binary32 where a bias follows ([`KernelRecipe::Bias`]), and
    /// of vLLM's experts, whose weights follow ([`KernelRecipe::ExpertSum`]).
    pub output: Dtype,
}

/// A sum over the elements of a row (RMSNorm's mean of squares, softmax's denominator).
///
/// Example: [`TorchEager`](super::TorchEager).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum ReductionRecipe {
    /// Lane `k mod lanes` takes element `k` by addition (RMSNorm: by `fma(x, x, acc)`); then the halving tree.
    Lanes {
        /// Lanes: 16, 32 or 64.
        lanes: u16,
    },
    /// The mean of PyTorch's CUDA kernel: squares rounded, their sum, times `rows / (rows · length)`.
    Torch {
        /// The sum.
        torch: TorchSum,
        /// Rows of the kernel.
        rows: u32,
    },
    /// PyTorch's softmax within a warp: [`TorchSoftmax::Warp`](crate::nvidia::softmax::TorchSoftmax::Warp).
    Warp {
        /// Lanes of the warp that take part.
        warp: u16,
    },
    /// PyTorch's softmax by a block of threads: [`TorchSoftmax::Block`](crate::nvidia::softmax::TorchSoftmax::Block).
    Block {
        /// Threads of the block.
        block: u16,
    },
    /// The same, in loads of more than one element:
    /// [`TorchSoftmax::Vectors`](crate::nvidia::softmax::TorchSoftmax::Vectors).
    Vectors {
        /// Elements of a load.
        vector: u8,
        /// Threads of the block.
        threads: u16,
        /// Rows begin anywhere: [`TorchSoftmax::Shifted`](crate::nvidia::softmax::TorchSoftmax::Shifted).
        shifted: bool,
    },
    /// PyTorch's softmax over a dimension that is not the last:
    /// [`TorchSoftmax::Across`](crate::nvidia::softmax::TorchSoftmax::Across).
    Across {
        /// Threads of a row.
        across: u16,
    },
    /// The mean of vLLM's CUDA kernels: squares fused into their sum, divided by the length.
    Vllm {
        /// The sum.
        vllm: VllmMean,
    },
    /// The softmax of vLLM's router kernel.
    Gating {
        /// The sum.
        gating: VllmGating,
    },
}

/// `y = round(w · round(x · (1 / sqrt(mean(x²) + eps))))`, square root and division correctly rounded.
///
/// Example: [`KernelRecipe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NormRecipe {
    /// The sum of squares; divided by the row length.
    pub reduction: ReductionRecipe,
    /// Format of both roundings (Hugging Face's `LlamaRMSNorm` casts before it multiplies by the weight).
    pub output: Dtype,
    /// Whose `1 / sqrt`.
    #[serde(default, skip_serializing_if = "Functions::are_own")]
    pub functions: Functions,
    /// How the weight is applied, if not after the cast.
    #[serde(default, skip_serializing_if = "Weighting::is_after_cast")]
    pub weighting: Weighting,
}

/// How a norm's weight is applied.
///
/// Example: [`KernelRecipe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Weighting {
    /// `round(w · round(y))`.
    #[default]
    AfterCast,
    /// `round(w · y)`.
    BeforeCast,
    /// `round(y · (1 + w))`.
    OnePlus,
}

impl Weighting {
    /// Whether it is the one that records do not state.
    #[must_use]
    pub const fn is_after_cast(&self) -> bool {
        matches!(self, Self::AfterCast)
    }
}

/// How attention walks the keys of one query.
///
/// Example: [`TorchEager`](super::TorchEager).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "softmax", rename_all = "snake_case")]
pub enum SoftmaxRecipe {
    /// Row maximum over all keys, exponentials, their sum, division; then the product with the values.
    Exact {
        /// Order of the denominator's sum.
        reduction: ReductionRecipe,
        /// Whether probabilities are divided before the product with the values (`true`, eager) or the
        /// product is divided once (`false`, sdpa).
        normalize_first: bool,
    },
    /// One pass over tiles of keys with a running maximum; sums and outputs are rescaled by
    /// `exp(old − new)` when a tile raises it: `acc = fma(acc, rescale, tile)`; one division at the end.
    Online {
        /// Order of each tile's sum.
        reduction: ReductionRecipe,
    },
    /// FlashAttention-2 on a GPU, [`crate::nvidia::flash`]: tiles of `key_tile` keys **from the last to the first**
    /// with a running maximum; each tile's product with the values goes on from the sum so far, rescaled; the product
    /// with `1 / sum` at the end.
    Flash {
        /// Parts that the keys are cut into, `ceil(tiles / splits)` tiles each, attended alone and put together in
        /// binary32 by their sums of exponentials. 1 is no cut.
        splits: u16,
    },
    /// cuDNN's attention on a GPU, [`crate::nvidia::cudnn`]: tiles of `key_tile` keys from the first to the last with a
    /// running maximum; each tile's product with the values goes on from the sum so far, rescaled; the product with the
    /// approximate `1 / sum` at the end.
    Cudnn {
        /// Roundings of a score on its way to a power of two: 1 after its product with `scale · log₂ e`, or 2, after
        /// the scale and after log₂ e.
        scalings: u16,
    },
    /// FlashAttention-3 as vLLM runs it, [`crate::nvidia::flash3`]: tiles of `key_tile` keys **from the last to the
    /// first** with a running maximum; each tile's product with the values goes on from the sum so far, rescaled; the
    /// product with the approximate `1 / sum` at the end.
    Flash3 {
        /// How keys are cut into parts, which are attended alone and put together in binary32 by their sums of
        /// exponentials; absent where no request's keys are.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cut: Option<Cut>,
    },
}

/// Attention of one query head over the keys of its KV head.
///
/// Example: [`AttentionRecipe`](super::AttentionRecipe).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AttentionRecipe {
    /// Sum of `q · k` over the head. The closing `+ 0` of a sum is left out where the softmax follows, which a zero's
    /// sign cannot pass.
    pub scores: Summation,
    /// Format scores are rounded to before and after the multiplication by the scale (eager: the storage dtype).
    pub score_rounding: Dtype,
    /// Queries and keys are each multiplied with the root of the scale, rounded to binary32, before their product,
    /// which is not scaled.
    #[serde(default, skip_serializing_if = "is_false")]
    pub scaled_operands: bool,
    /// Scaled scores become `cap · tanh(score / cap)`, the three results rounded to `score_rounding`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub capped: bool,
    /// A logit of the query's head takes part in the maximum and, first of all, in the denominator; it has no value.
    /// Where scores are rounded to the storage format, they and the logit less the maximum are rounded to it too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sinks: bool,
    /// The softmax.
    pub softmax: SoftmaxRecipe,
    /// Format probabilities are rounded to before the product with the values.
    pub probability_rounding: Dtype,
    /// Keys per tile: partial products with the values are summed within a tile, then over tiles in ascending
    /// order; `None` walks all keys as one tile. The sum within a tile is an `fma` chain in ascending order.
    pub key_tile: Option<u32>,
    /// How the product with the values is summed, where it is not as `key_tile` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Summation>,
    /// Whose exponentials.
    #[serde(default, skip_serializing_if = "Functions::are_own")]
    pub functions: Functions,
    /// Format of the output.
    pub output: Dtype,
}

/// The order of a sum over experts that is rounded after every addition.
///
/// ```
/// use mantissa_numerics::recipe::{ExpertOrder, KernelRecipe};
/// let json = r#"{"kernel":"expert_sum","output":"bf16","each":"by_number"}"#;
/// let KernelRecipe::ExpertSum(recipe) = serde_json::from_str(json)? else { panic!("another kernel") };
/// assert_eq!(recipe.order, ExpertOrder::EachByNumber);
/// assert_eq!(serde_json::to_string(&KernelRecipe::ExpertSum(recipe))?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum EachExpert {
    /// As chosen, the most probable first.
    TopOrder,
    /// By the experts' numbers, ascending.
    ByNumber,
}

/// One kernel's recipe.
///
/// ```
/// use mantissa_numerics::recipe::wire::{Functions, KernelRecipe, NormRecipe, Weighting};
/// let json = r#"{"kernel":"rms_norm","reduction":{"lanes":16},"output":"bf16"}"#;
/// let KernelRecipe::RmsNorm(norm) = serde_json::from_str(json)? else { panic!("another kernel") };
/// // What is as in the first records is not stated, so that those are still read and written as they were.
/// assert_eq!((norm.functions, norm.weighting), (Functions::Engine, Weighting::AfterCast));
/// assert_eq!(serde_json::to_string(&KernelRecipe::RmsNorm(norm))?, json);
/// let gemma = KernelRecipe::RmsNorm(NormRecipe { weighting: Weighting::OnePlus, ..norm });
/// assert!(serde_json::to_string(&gemma)?.ends_with(r#","weighting":"one_plus"}"#));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kernel", rename_all = "snake_case")]
pub enum KernelRecipe {
    /// A matrix product with a weight.
    Matmul(MatmulRecipe),
    /// `round(sum + bias)` after a product that was left in binary32.
    Bias {
        /// Format of the one rounding.
        output: Dtype,
    },
    /// RMSNorm.
    RmsNorm(NormRecipe),
    /// Attention scores, softmax and values.
    Attention(AttentionRecipe),
    /// Rotary embedding: inverse frequencies and angles in binary32, cosines and sines correctly rounded to binary32
    /// (by way of binary64) and then to `output`; each product and the sum rounded to `output`, as Hugging Face's
    /// `apply_rotary_pos_emb`.
    Rotary {
        /// Format of tables and results.
        output: Dtype,
        /// Neighbours are turned as one complex number, tables and products in binary32, results rounded once.
        #[serde(default, skip_serializing_if = "is_false")]
        neighbours: bool,
        /// Tables, products and sums in binary32, results rounded once.
        #[serde(default, skip_serializing_if = "is_false")]
        wide: bool,
        /// Tables rounded to `output`, the product of the second factor rounded to binary32 and the first fused into
        /// the sum, results rounded once.
        #[serde(default, skip_serializing_if = "is_false")]
        rounded_tables: bool,
        /// Whose cosines and sines, if not correctly rounded ones.
        #[serde(default, skip_serializing_if = "Functions::are_own")]
        functions: Functions,
    },
    /// `round(round(silu(gate)) · up)`, `silu(x) = x / (1 + exp(−x))` in binary32.
    SwiGlu {
        /// Format of both roundings.
        output: Dtype,
        /// Whose exponentials.
        #[serde(default, skip_serializing_if = "Functions::are_own")]
        functions: Functions,
    },
    /// `round(round(gelu(gate)) · up)` with the tanh form of GELU in binary32, its tanh by way of binary64.
    GeGlu {
        /// Format of both roundings.
        output: Dtype,
        /// Whose GELU, if not that.
        #[serde(default, skip_serializing_if = "Functions::are_own")]
        functions: Functions,
    },
    /// `(up + 1) · (gate · sigmoid(alpha · gate))` of neighbours `(gate, up)`, gate clamped from above and up from both
    /// sides to the model's limit; each operation in binary32, then rounded.
    ClampedSwiGlu {
        /// Format of every rounding.
        output: Dtype,
        /// Whose exponentials.
        #[serde(default, skip_serializing_if = "Functions::are_own")]
        functions: Functions,
    },
    /// `cap · tanh(x / cap)`: quotient, tanh (by way of binary64) and product rounded each.
    Cap {
        /// Format of the three roundings.
        output: Dtype,
        /// Whose tanh; NVIDIA's is of a product with `1 / cap` instead of a quotient.
        #[serde(default, skip_serializing_if = "Functions::are_own")]
        functions: Functions,
    },
    /// Residual addition, rounded once.
    Residual {
        /// Format of the sum.
        output: Dtype,
    },
    /// Expert outputs times routing weights, each rounded to `output`, summed in top-k order in binary32, rounded once.
    ExpertSum {
        /// Format of products and sum.
        output: Dtype,
        /// Running sums: sum `i mod sums` takes product `i`, ascending; the sums are then added in order.
        #[serde(default = "one", skip_serializing_if = "is_one")]
        sums: u16,
        /// Products stay in binary32.
        #[serde(default, skip_serializing_if = "is_false")]
        wide: bool,
        /// Weights are rounded to `output` first.
        #[serde(default, skip_serializing_if = "is_false")]
        rounded_weights: bool,
        /// Rounded after every addition, in this order; of one running sum.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        each: Option<EachExpert>,
        /// Divided among ranks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        among: Option<Among>,
    },
    /// Softmax over router logits in binary32, top-k by value (of equals the lower expert is chosen, and comes first;
    /// by PyTorch on a GPU its place among those chosen is that of its sort).
    Router {
        /// Whether the chosen weights are divided by their sum, added up in binary32 in top-k order; by PyTorch by
        /// the halving tree over as many lanes as there are.
        renormalize: bool,
        /// Experts are chosen by their logits, and the softmax is over the chosen alone.
        #[serde(default, skip_serializing_if = "is_false")]
        chosen_first: bool,
        /// Order of the denominator's sum.
        reduction: ReductionRecipe,
        /// Format routing weights are rounded to.
        output: Dtype,
        /// Whose exponentials.
        #[serde(default, skip_serializing_if = "Functions::are_own")]
        functions: Functions,
    },
    /// `x − max − ln(sum)` over the vocabulary in binary64, rounded to binary32; `sum` adds `exp(x − max)`, computed in
    /// binary32, in blocks of 1,024 by sixteen lanes in binary32 and over blocks in binary64.
    LogSoftmax,
    /// `torch.log_softmax` of logits in binary32 on a GPU: `(x − max) − ln(sum)`, with CUDA's functions.
    TorchLogSoftmax {
        /// Order of the sum.
        reduction: ReductionRecipe,
    },
    /// vLLM's Triton kernel over logits in their storage format: `(x − max) − ln(sum)`, blocks of 1,024 added in turn.
    TritonLogSoftmax {
        /// Order of the sum of a block.
        triton: TritonLogSoftmax,
    },
}
