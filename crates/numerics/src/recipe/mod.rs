//! Recipes: the exact order of arithmetic of each kernel, as values.
//!
//! A kernel is given its recipe and computes exactly that, whatever the number of threads or the width of the machine's
//! vectors; evidence stores the recipes that ran. Each kind of kernel has a file here and a sum type of what it may be:
//! a variant holds the parameters of its kernel and nothing else, so that a combination that no kernel computes cannot
//! be expressed. The flat form that records hold is [`wire`].
//!
//! All arithmetic is IEEE 754 binary32 unless a field says otherwise, `exp` is the polynomial of the engine's
//! `kernel/math.rs` (Cephes' coefficients, fused steps), `fma` is the fused operation with one rounding, and *lanes*
//! are virtual: lane `i` of `L` takes the elements `k` with `k mod L == i`, and a kernel maps lanes to whatever
//! registers there are.

use serde::{Deserialize, Serialize};

use crate::nvidia::triton::TritonLogSoftmax;
use crate::site::Phase;

mod activation;
mod attention;
mod collective;
mod elementwise;
mod matmul;
mod moe;
mod norm;
mod packed;
mod packed_experts;
mod rotary;
pub mod wire;

pub use activation::{ClampedSwiGluRecipe, Elementary, GeGluRecipe, Silu, SwiGluRecipe};
pub use attention::{
    AttentionRecipe, CudnnKernel, OwnAttention, OwnScores, OwnSoftmax, ScoreBound, TorchCudnn, TorchEager,
    TorchFlash, TorchMath, TorchSoftmax, VllmFlash3,
};
pub use collective::{AllReduceSum, RankOrder};
pub use elementwise::{BiasRecipe, CapRecipe, CastRecipe, EmbeddingRecipe, ResidualRecipe};
pub use matmul::{
    BatchedSum, Lanes, LinearSum, MatmulRecipe, Nf4Sum, PlainSum, RankSum, TensorCoreSum, ThreadSum,
};
pub use moe::{ExpertOrder, ExpertRanks, ExpertSumRecipe, RouterChoice, RouterRecipe, RouterSoftmax};
pub use norm::{NormMean, NormRecipe, NormWeight};
pub use packed::{PackedKernel, PackedRanks, PackedSum};
pub use packed_experts::PackedExperts;
pub use rotary::{RotaryFunctions, RotaryPairs, RotaryRecipe};

/// One kernel's recipe.
///
/// Read and written in the form of [`wire::KernelRecipe`]; what no kernel computes is not read.
///
/// ```
/// use mantissa_numerics::Dtype;
/// use mantissa_numerics::recipe::{KernelRecipe, ResidualRecipe, wire};
/// let recipe = KernelRecipe::Residual(ResidualRecipe { output: Dtype::Bf16 });
/// let written = wire::KernelRecipe::from(recipe);
/// assert_eq!(written, wire::KernelRecipe::Residual { output: Dtype::Bf16 });
/// assert_eq!(KernelRecipe::try_from(written), Ok(recipe));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "wire::KernelRecipe", into = "wire::KernelRecipe")]
pub enum KernelRecipe {
    /// A matrix product with a weight.
    Matmul(MatmulRecipe),
    /// A bias, added to a product that was left in binary32.
    Bias(BiasRecipe),
    /// RMSNorm.
    RmsNorm(NormRecipe),
    /// Attention scores, softmax and values.
    Attention(AttentionRecipe),
    /// Rotary embedding.
    Rotary(RotaryRecipe),
    /// The gated activation.
    SwiGlu(SwiGluRecipe),
    /// The gated activation by GELU.
    GeGlu(GeGluRecipe),
    /// The gated activation of neighbours, clamped.
    ClampedSwiGlu(ClampedSwiGluRecipe),
    /// The bound of the logits.
    Cap(CapRecipe),
    /// Residual addition.
    Residual(ResidualRecipe),
    /// The sum over a token's experts.
    ExpertSum(ExpertSumRecipe),
    /// The choice of experts.
    Router(RouterRecipe),
    /// Log-probabilities of the vocabulary.
    LogSoftmax(LogSoftmaxRecipe),
}

/// Whose logarithms of probabilities, of a row of logits in binary32.
///
/// ```
/// use mantissa_numerics::recipe::{KernelRecipe, LogSoftmaxRecipe, TorchSoftmax};
/// let written = |recipe| serde_json::to_string(&KernelRecipe::LogSoftmax(recipe));
/// assert_eq!(written(LogSoftmaxRecipe::Own)?, r#"{"kernel":"log_softmax"}"#);
/// let torch = written(LogSoftmaxRecipe::Torch(TorchSoftmax::Shifted(4)))?;
/// let reduction = r#"{"vector":4,"threads":1024,"shifted":true}"#;
/// assert_eq!(torch, format!(r#"{{"kernel":"torch_log_softmax","reduction":{reduction}}}"#));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogSoftmaxRecipe {
    /// The engine's own: `x − max − ln(sum)` in binary64, rounded to binary32; `sum` adds `exp(x − max)`, computed in
    /// binary32, in blocks of 1,024 by sixteen lanes in binary32 and over blocks in binary64.
    Own,
    /// `torch.log_softmax` on a GPU, of a row that begins at an aligned address: [`TorchSoftmax::log_softmax`].
    Torch(TorchSoftmax),
    /// That of vLLM's model runner V2: [`TritonLogSoftmax::log_sum`].
    Triton(TritonLogSoftmax),
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for KernelRecipe {
    fn inline_schema() -> bool {
        wire::KernelRecipe::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        wire::KernelRecipe::schema_name()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        wire::KernelRecipe::schema_id()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        wire::KernelRecipe::json_schema(generator)
    }
}

/// A recipe that no kernel computes.
///
/// ```
/// use mantissa_numerics::recipe::{LinearSum, wire::Summation};
/// let error = LinearSum::try_from(Summation::LaneChains { lanes: 24 }).unwrap_err();
/// assert_eq!(error.to_string(), "no kernel computes this recipe: lanes are 16, 32 or 64");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no kernel computes this recipe: {0}")]
pub struct RecipeError(pub &'static str);

/// A kernel that ran, with the shape that chose its recipe.
///
/// ```
/// use mantissa_numerics::Phase;
/// use mantissa_numerics::recipe::{KernelRecipe, Lanes, LinearSum, ObservedKernel};
/// let json = r#"{"phase": "decode", "op": "q_proj", "m": 1, "n": 576, "k": 576, "recipe":
///     {"kernel": "matmul", "summation": {"order": "lane_chains", "lanes": 16}, "output": "bf16"}}"#;
/// let ran: ObservedKernel = serde_json::from_str(json)?;
/// let KernelRecipe::Matmul(product) = ran.recipe else { panic!("another kernel") };
/// assert_eq!((ran.phase, product.summation), (Phase::Decode, LinearSum::LaneChains { lanes: Lanes::L16 }));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ObservedKernel {
    /// Prefill or decode.
    pub phase: Phase,
    /// The operation: `q_proj`, `attention`, `input_norm`, … ; the same name in every layer.
    pub op: String,
    /// Rows of the pass (batch size × positions), as dispatch saw them; of a compressed cache's expansion too, whose
    /// recipe goes by all cached positions.
    pub m: u64,
    /// Outputs per row.
    pub n: u64,
    /// Length of the sums.
    pub k: u64,
    /// What ran.
    pub recipe: KernelRecipe,
}
