//! Attention of one query head over the keys of its KV head: the engine's own kernels, and those that PyTorch launches
//! on a GPU.

use std::num::{NonZeroU16, NonZeroU32};

use super::matmul::{BatchedSum, PlainSum};
use crate::Dtype;
pub use crate::nvidia::cudnn::CudnnKernel;
use crate::nvidia::flash3::{Cut, Request, Step};
pub use crate::nvidia::softmax::TorchSoftmax;
use crate::tensor_core::BlockRecipe;

/// Attention of one query head over the keys of its KV head.
///
/// ```
/// use mantissa_numerics::Dtype;
/// use mantissa_numerics::recipe::{AttentionRecipe, PlainSum, TorchMath, TorchSoftmax, wire};
/// let (sum, storage) = (PlainSum::FmaChain, Dtype::Bf16);
/// let math = TorchMath { scores: sum, softmax: TorchSoftmax::Warp, values: sum, storage };
/// let recipe = AttentionRecipe::TorchMath(math);
/// let flat = wire::AttentionRecipe::from(recipe);
/// assert_eq!(AttentionRecipe::try_from(flat), Ok(recipe));
/// // PyTorch's math backend has no sinks: a record that says so is refused, not read as if it did not.
/// assert!(AttentionRecipe::try_from(wire::AttentionRecipe { sinks: true, ..flat }).is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttentionRecipe {
    /// The engine's own.
    Own(OwnAttention),
    /// Hugging Face's `eager` on a GPU.
    TorchEager(TorchEager),
    /// The flash backend of PyTorch's `scaled_dot_product_attention`.
    TorchFlash(TorchFlash),
    /// The math backend of PyTorch's `scaled_dot_product_attention`.
    TorchMath(TorchMath),
    /// The cuDNN backend of PyTorch's `scaled_dot_product_attention`.
    TorchCudnn(TorchCudnn),
    /// FlashAttention-3 as vLLM runs it.
    VllmFlash3(VllmFlash3),
}

/// The engine's own attention. Exponentials are the engine's; the sum of values within a tile is an `fma` chain over
/// its keys in ascending order; the softmax's denominator is summed by 16 lanes.
///
/// The scale is the model's, rounded to binary32. A key outside a sliding window is walked like the others and has
/// a score of −∞, so that its probability is `+0`.
///
/// *Rounding:* binary32 but where [`OwnSoftmax`] says otherwise; probabilities and the output to `storage`.
///
/// ```
/// use mantissa_numerics::Dtype;
/// use mantissa_numerics::recipe::{AttentionRecipe, OwnAttention, OwnScores, OwnSoftmax, ScoreBound, wire};
/// let eager = OwnAttention {
///     scores: OwnScores::FmaChain,
///     bound: ScoreBound::None,
///     sinks: false,
///     softmax: OwnSoftmax::Eager,
///     storage: Dtype::Bf16,
/// };
/// let sdpa = OwnAttention { softmax: OwnSoftmax::Tiled { key_tile: 64.try_into().unwrap() }, ..eager };
/// // `eager` rounds scores to the storage format, `sdpa` leaves them in binary32; both round probabilities.
/// let flat = |own| wire::AttentionRecipe::from(AttentionRecipe::Own(own));
/// assert_eq!([eager, sdpa].map(|own| flat(own).score_rounding), [Dtype::Bf16, Dtype::F32]);
/// assert_eq!([eager, sdpa].map(|own| flat(own).probability_rounding), [Dtype::Bf16; 2]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OwnAttention {
    /// Sum of `q · k` over the head.
    pub scores: OwnScores,
    /// What bounds scaled scores.
    pub bound: ScoreBound,
    /// Whether a logit of the query's head takes part in the maximum and, first of all, in the denominator; it has no
    /// value.
    pub sinks: bool,
    /// The softmax, and how keys are walked.
    pub softmax: OwnSoftmax,
    /// Storage format: of probabilities before their product with the values, and of the output.
    pub storage: Dtype,
}

/// How the engine sums `q · k` over the head. The closing `+ 0` may be left out where the softmax follows, which a
/// zero's sign cannot pass.
///
/// Example: [`OwnAttention`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OwnScores {
    /// One `fma` chain from `+0`, ascending: what prefill does.
    FmaChain,
    /// 16 lanes, then the halving tree: what decode does.
    Lanes16,
}

/// What bounds scores between their scaling and the softmax.
///
/// Example: [`OwnAttention`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScoreBound {
    /// Nothing.
    None,
    /// `cap · tanh(score / cap)`: each of the three results rounded as scores are; quotient and tanh as in
    /// [`CapRecipe`](super::CapRecipe), the engine's own or PyTorch's.
    Tanh,
}

/// How the engine's own attention walks the keys of one query.
///
/// Example: [`OwnAttention`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OwnSoftmax {
    /// Hugging Face's `eager`: scores rounded to the storage format before and after the multiplication by the scale;
    /// row maximum over all keys, exponentials, their sum, division; then the product with the values, in one walk.
    /// Where there are sinks, scores and sink less the maximum are rounded to the storage format too, as gpt-oss does.
    Eager,
    /// `sdpa`: scores stay in binary32; row maximum over all keys, exponentials, their sum; partial products with the
    /// values in tiles, added over tiles in ascending order; one division of the output.
    Tiled {
        /// Keys of a tile.
        key_tile: NonZeroU32,
    },
    /// FlashAttention's online softmax: scores stay in binary32; one pass over tiles with a running maximum; sums and
    /// outputs are rescaled by `exp(old − new)` when a tile raises it: `acc = fma(acc, rescale, tile)`; one division at
    /// the end.
    Online {
        /// Keys of a tile.
        key_tile: NonZeroU32,
    },
}

/// Hugging Face's `eager` on a GPU: two batched products of cuBLAS and PyTorch's softmax between them, with CUDA's
/// exponentials. A key outside a sliding window has a score of −∞; in decode it is not there at all.
///
/// *Rounding:* scores, scaled scores, probabilities and output to the storage format. *Source:* PyTorch 2.11 and cuBLAS
/// 13.1; of bf16 compared with an H200 and an H100, but for bounds, sinks and windows.
///
/// ```
/// use mantissa_numerics::Dtype;
/// use mantissa_numerics::recipe::wire::{self, ReductionRecipe, SoftmaxRecipe};
/// use mantissa_numerics::recipe::{AttentionRecipe, BatchedSum, ScoreBound, ThreadSum, TorchEager, TorchSoftmax};
/// let sum = BatchedSum::Threads(ThreadSum::new(16, 4, false).unwrap());
/// let (softmax, storage) = (TorchSoftmax::Warp, Dtype::Bf16);
/// let eager = TorchEager { scores: sum, bound: ScoreBound::None, sinks: false, softmax, values: sum, storage };
/// let flat = wire::AttentionRecipe::from(AttentionRecipe::TorchEager(eager));
/// // Everything between the kernels is stored in bf16, probabilities after the division.
/// assert_eq!((flat.score_rounding, flat.probability_rounding), (Dtype::Bf16, Dtype::Bf16));
/// let reduction = ReductionRecipe::Warp { warp: 32 };
/// assert_eq!(flat.softmax, SoftmaxRecipe::Exact { reduction, normalize_first: true });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TorchEager {
    /// Sum of `q · k` over the head.
    pub scores: BatchedSum,
    /// What bounds scaled scores.
    pub bound: ScoreBound,
    /// Whether a logit of the query's head is the last of the row that the softmax sees; it has no value. Then scores
    /// and logit less the largest of them are rounded to the storage format first.
    pub sinks: bool,
    /// The softmax.
    pub softmax: TorchSoftmax,
    /// Sum of probabilities times values over the keys.
    pub values: BatchedSum,
    /// Storage format of activations and cache: bf16 or f16.
    pub storage: Dtype,
}

/// FlashAttention-2 on a GPU, [`crate::nvidia::flash`]: tiles of keys **from the last to the first** with a running
/// maximum; each tile's product with the values goes on from the sum so far, rescaled; the product with `1 / sum` at
/// the end.
///
/// *Rounding:* scores stay in binary32; a tile's probabilities and the output to the storage format, which is that of
/// the steps' factors. *Source:* PyTorch 2.11; of bf16 compared with an H200 and an H100.
///
/// ```
/// use mantissa_numerics::Dtype;
/// use mantissa_numerics::recipe::{AttentionRecipe, TorchFlash, wire};
/// use mantissa_numerics::tensor_core::{Architecture, Operand};
/// let block = Architecture::Hopper.block(Operand::Bf16).unwrap();
/// let flash = TorchFlash { block, key_tile: 128.try_into().unwrap(), splits: 3.try_into().unwrap() };
/// let flat = wire::AttentionRecipe::from(AttentionRecipe::TorchFlash(flash));
/// // Scores go through the softmax in binary32; the second product has probabilities in bf16.
/// assert_eq!((flat.score_rounding, flat.probability_rounding), (Dtype::F32, Dtype::Bf16));
/// assert_eq!(flash.storage(), Dtype::Bf16);
/// assert_eq!(flat.softmax, wire::SoftmaxRecipe::Flash { splits: 3 });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TorchFlash {
    /// One step of both products, which are not cut.
    pub block: BlockRecipe,
    /// Keys of a tile.
    pub key_tile: NonZeroU32,
    /// Parts that the keys are cut into, `ceil(tiles / splits)` tiles each, attended alone and put together in binary32
    /// by their sums of exponentials. 1 is no cut.
    pub splits: NonZeroU16,
}

impl TorchFlash {
    /// Storage format of activations and cache.
    ///
    /// Example: [`TorchFlash`].
    #[must_use]
    pub fn storage(self) -> Dtype {
        self.block.operand.dtype().unwrap_or(Dtype::Bf16)
    }
}

/// cuDNN's attention on a GPU, [`crate::nvidia::cudnn`]: tiles of keys from the first to the last with a running
/// maximum; each tile's product with the values goes on from the sum so far, rescaled; the product with the approximate
/// `1 / sum` at the end.
///
/// *Rounding:* scores stay in binary32; a tile's probabilities and the output to the storage format, which is that of
/// the steps' factors. *Source:* cuDNN 9.19 by PyTorch 2.11, compared with an H200.
///
/// ```
/// use mantissa_numerics::Dtype;
/// use mantissa_numerics::recipe::{AttentionRecipe, CudnnKernel, TorchCudnn, wire};
/// use mantissa_numerics::tensor_core::{Architecture, Operand};
/// let block = Architecture::Hopper.block(Operand::F16).unwrap();
/// let cudnn = TorchCudnn { block, kernel: CudnnKernel::Middle };
/// let flat = wire::AttentionRecipe::from(AttentionRecipe::TorchCudnn(cudnn));
/// assert_eq!((cudnn.storage(), flat.key_tile), (Dtype::F16, Some(64)));
/// assert_eq!(flat.softmax, wire::SoftmaxRecipe::Cudnn { scalings: 2 });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TorchCudnn {
    /// One step of both products, which are not cut.
    pub block: BlockRecipe,
    /// How tiles are walked.
    pub kernel: CudnnKernel,
}

impl TorchCudnn {
    /// Storage format of activations and cache.
    ///
    /// Example: [`TorchCudnn`].
    #[must_use]
    pub fn storage(self) -> Dtype {
        self.block.operand.dtype().unwrap_or(Dtype::Bf16)
    }
}

/// PyTorch's math backend on 16 bits: everything in binary32, queries and keys each multiplied with the root of the
/// scale (`head_dim^-¼`) before their product, which is not scaled; PyTorch's softmax with CUDA's exponentials. A key
/// outside a sliding window has a score of −∞; in decode it is not there at all.
///
/// *Rounding:* binary32; the output to the storage format. *Source:* PyTorch 2.11
/// (aten/src/ATen/native/transformers/attention.cpp widens bf16 and f16 alike) and cuBLAS 13.1; of bf16 compared with
/// an H200.
///
/// ```
/// use mantissa_numerics::Dtype;
/// use mantissa_numerics::recipe::{AttentionRecipe, PlainSum, TorchMath, TorchSoftmax, wire};
/// let (sum, storage) = (PlainSum::FmaChain, Dtype::Bf16);
/// let math = TorchMath { scores: sum, softmax: TorchSoftmax::Warp, values: sum, storage };
/// let flat = wire::AttentionRecipe::from(AttentionRecipe::TorchMath(math));
/// // Nothing is rounded to bf16 before the output, and the scale is applied to queries and keys.
/// assert_eq!((flat.score_rounding, flat.probability_rounding), (Dtype::F32, Dtype::F32));
/// assert!(flat.output == Dtype::Bf16 && flat.scaled_operands);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TorchMath {
    /// Sum of `q · k` over the head.
    pub scores: PlainSum,
    /// The softmax.
    pub softmax: TorchSoftmax,
    /// Sum of probabilities times values over the keys.
    pub values: PlainSum,
    /// Storage format of activations and cache: bf16 or f16.
    pub storage: Dtype,
}

/// FlashAttention-3 as vLLM runs it on a paged cache, [`crate::nvidia::flash3`]: tiles of keys **from the last to the
/// first** with a running maximum; each tile's product with the values goes on from the sum so far, rescaled; the
/// product with the approximate `1 / sum` at the end. Requests with enough keys are cut into parts, which are put
/// together in binary32.
///
/// *Rounding:* scores stay in binary32; a tile's probabilities and the output to the storage format, which is that of
/// the steps' factors. *Source:* vLLM 0.24.0; compared with an H200 where all keys are in one tile.
///
/// ```
/// use mantissa_numerics::nvidia::flash3::{Request, Step};
/// use mantissa_numerics::recipe::{AttentionRecipe, VllmFlash3, wire};
/// use mantissa_numerics::tensor_core::{Architecture, Operand};
/// let block = Architecture::Hopper.block(Operand::Bf16).unwrap();
/// let of = |dim, requests: &[Request]| {
///     VllmFlash3::of(block, Step { query_heads: 9, kv_heads: 3, dim, multiprocessors: 132, requests })
/// };
/// let flash = of(64, &[Request { queries: 38, keys: 38 }]).unwrap();
/// assert_eq!((flash.key_tile.get(), flash.cut), (128, None));
/// let flat = wire::AttentionRecipe::from(AttentionRecipe::VllmFlash3(flash));
/// assert_eq!(AttentionRecipe::try_from(flat), Ok(AttentionRecipe::VllmFlash3(flash)));
/// let decode = of(64, &[Request { queries: 1, keys: 2000 }]).unwrap();
/// assert_eq!((decode.key_tile.get(), decode.cut.map(|cut| cut.parts(11))), (192, Some(10)));
/// assert_eq!(of(96, &[Request { queries: 1, keys: 9 }]), None);
/// // Where keys are cut, the rest of a prompt has no recipe.
/// assert_eq!(of(64, &[Request { queries: 100, keys: 2000 }]), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VllmFlash3 {
    /// One step of both products, which are not cut.
    pub block: BlockRecipe,
    /// Keys of a tile.
    pub key_tile: NonZeroU32,
    /// How keys of requests are cut into parts, each attended alone; `None` where none is. A request's queries are its
    /// last token or all up to it.
    pub cut: Option<Cut>,
}

impl VllmFlash3 {
    /// What vLLM launches for a step; `None` for heads that are neither of 64 nor of 128, for no requests, and where
    /// keys are cut for the rest of a prompt, whose queries do not begin at its first token.
    ///
    /// Example: [`Self`].
    #[must_use]
    pub fn of(block: BlockRecipe, step: Step<'_>) -> Option<Self> {
        let key_tile = NonZeroU32::new(step.tile()?.keys.into())?;
        let is_none = |request: &Request| request.queries == 0 || request.queries > request.keys;
        if step.requests.is_empty() || step.requests.iter().any(is_none) {
            return None;
        }
        let cut = step.cut();
        let is_rest = |request: &Request| request.queries > 1 && request.queries < request.keys;
        if cut.is_some() && step.requests.iter().any(is_rest) {
            return None;
        }
        Some(Self { block, key_tile, cut })
    }

    /// Storage format of activations and cache.
    ///
    /// Example: [`TorchFlash::storage`].
    #[must_use]
    pub fn storage(self) -> Dtype {
        self.block.operand.dtype().unwrap_or(Dtype::Bf16)
    }
}
