//! Attention's recipes in their flat form, and back.

use std::num::{NonZeroU16, NonZeroU32};

use super::{NO_PARTS, NO_TILE, ensure};
use crate::Dtype;
use crate::nvidia::flash3::Cut;
use crate::recipe::wire::{self, Functions, ReductionRecipe, SoftmaxRecipe, Summation};
use crate::recipe::{
    AttentionRecipe, BatchedSum, CudnnKernel, OwnAttention, OwnScores, OwnSoftmax, RecipeError, ScoreBound,
    TensorCoreSum, TorchCudnn, TorchEager, TorchFlash, TorchMath, VllmFlash3,
};

const LANES_16: ReductionRecipe = ReductionRecipe::Lanes { lanes: 16 };

impl From<AttentionRecipe> for wire::AttentionRecipe {
    fn from(recipe: AttentionRecipe) -> Self {
        match recipe {
            AttentionRecipe::Own(own) => flat_own(own),
            AttentionRecipe::TorchEager(eager) => Self {
                capped: eager.bound == ScoreBound::Tanh,
                sinks: eager.sinks,
                ..flat_torch(
                    eager.scores.into(),
                    eager.values.into(),
                    [eager.storage; 2],
                    SoftmaxRecipe::Exact { reduction: eager.softmax.into(), normalize_first: true },
                )
            },
            AttentionRecipe::TorchFlash(flash) => {
                let product = TensorCoreSum::uncut(flash.block).into();
                let softmax = SoftmaxRecipe::Flash { splits: flash.splits.get() };
                Self {
                    score_rounding: Dtype::F32,
                    key_tile: Some(flash.key_tile.get()),
                    ..flat_torch(product, product, [flash.storage(); 2], softmax)
                }
            }
            AttentionRecipe::TorchCudnn(cudnn) => {
                let (product, (key_tile, softmax)) =
                    (TensorCoreSum::uncut(cudnn.block).into(), flat_cudnn(cudnn.kernel));
                Self {
                    score_rounding: Dtype::F32,
                    key_tile: Some(key_tile),
                    ..flat_torch(product, product, [cudnn.storage(); 2], softmax)
                }
            }
            AttentionRecipe::VllmFlash3(flash) => {
                let product = TensorCoreSum::uncut(flash.block).into();
                let softmax = SoftmaxRecipe::Flash3 { cut: flash.cut };
                Self {
                    score_rounding: Dtype::F32,
                    key_tile: Some(flash.key_tile.get()),
                    ..flat_torch(product, product, [flash.storage(); 2], softmax)
                }
            }
            AttentionRecipe::TorchMath(math) => Self {
                scaled_operands: true,
                ..flat_torch(
                    math.scores.into(),
                    math.values.into(),
                    [Dtype::F32, math.storage],
                    SoftmaxRecipe::Exact { reduction: math.softmax.into(), normalize_first: true },
                )
            },
        }
    }
}

/// A kernel's tile and softmax.
fn flat_cudnn(kernel: CudnnKernel) -> (u32, SoftmaxRecipe) {
    let (key_tile, scalings) = match kernel {
        CudnnKernel::Prefill => (128, 1),
        CudnnKernel::Narrow => (32, 2),
        CudnnKernel::Middle => (64, 2),
    };
    (key_tile, SoftmaxRecipe::Cudnn { scalings })
}

/// An attention of PyTorch's that rounds scores and probabilities to `rounding`, and its output to the storage format.
fn flat_torch(
    scores: Summation,
    values: Summation,
    [rounding, output]: [Dtype; 2],
    softmax: SoftmaxRecipe,
) -> wire::AttentionRecipe {
    wire::AttentionRecipe {
        scores,
        score_rounding: rounding,
        scaled_operands: false,
        capped: false,
        sinks: false,
        softmax,
        probability_rounding: rounding,
        key_tile: None,
        values: Some(values),
        functions: Functions::Nvidia,
        output,
    }
}

fn flat_own(OwnAttention { scores, bound, sinks, softmax, storage }: OwnAttention) -> wire::AttentionRecipe {
    let exact = |normalize_first| SoftmaxRecipe::Exact { reduction: LANES_16, normalize_first };
    let (score_rounding, softmax, key_tile) = match softmax {
        OwnSoftmax::Eager => (storage, exact(true), None),
        OwnSoftmax::Tiled { key_tile } => (Dtype::F32, exact(false), Some(key_tile.get())),
        OwnSoftmax::Online { key_tile } => {
            (Dtype::F32, SoftmaxRecipe::Online { reduction: LANES_16 }, Some(key_tile.get()))
        }
    };
    wire::AttentionRecipe {
        scores: match scores {
            OwnScores::FmaChain => Summation::FmaChain,
            OwnScores::Lanes16 => Summation::LaneChains { lanes: 16 },
        },
        score_rounding,
        scaled_operands: false,
        capped: bound == ScoreBound::Tanh,
        sinks,
        softmax,
        probability_rounding: storage,
        key_tile,
        values: None,
        functions: Functions::Engine,
        output: storage,
    }
}

const fn bound_of(capped: bool) -> ScoreBound {
    if capped { ScoreBound::Tanh } else { ScoreBound::None }
}

impl TryFrom<wire::AttentionRecipe> for AttentionRecipe {
    type Error = RecipeError;

    fn try_from(flat: wire::AttentionRecipe) -> Result<Self, RecipeError> {
        let tile = || flat.key_tile.and_then(NonZeroU32::new).ok_or(NO_TILE);
        let recipe = match (flat.values, flat.softmax) {
            (None, softmax) => Self::Own(OwnAttention {
                scores: match flat.scores {
                    Summation::FmaChain => OwnScores::FmaChain,
                    Summation::LaneChains { lanes: 16 } => OwnScores::Lanes16,
                    _ => return Err(RecipeError("the engine sums scores as a chain or by 16 lanes")),
                },
                bound: bound_of(flat.capped),
                sinks: flat.sinks,
                softmax: match softmax {
                    SoftmaxRecipe::Exact { normalize_first: true, .. } => OwnSoftmax::Eager,
                    SoftmaxRecipe::Exact { .. } => OwnSoftmax::Tiled { key_tile: tile()? },
                    SoftmaxRecipe::Online { .. } => OwnSoftmax::Online { key_tile: tile()? },
                    SoftmaxRecipe::Flash { .. }
                    | SoftmaxRecipe::Cudnn { .. }
                    | SoftmaxRecipe::Flash3 { .. } => {
                        return Err(RecipeError("flash attention states how values are summed"));
                    }
                },
                storage: flat.output,
            }),
            (Some(_), SoftmaxRecipe::Flash { splits }) => {
                let sum: TensorCoreSum = flat.scores.try_into()?;
                let splits = NonZeroU16::new(splits).ok_or(NO_PARTS)?;
                Self::TorchFlash(TorchFlash { block: sum.block, key_tile: tile()?, splits })
            }
            (Some(_), SoftmaxRecipe::Flash3 { cut }) => {
                let sum: TensorCoreSum = flat.scores.try_into()?;
                let key_tile = tile()?;
                ensure(matches!(key_tile.get(), 128 | 160 | 192), "no kernel of vLLM's has such tiles")?;
                ensure(cut.is_none_or(Cut::is_launched), "no kernel of vLLM's cuts keys so")?;
                Self::VllmFlash3(VllmFlash3 { block: sum.block, key_tile, cut })
            }
            (Some(_), softmax @ SoftmaxRecipe::Cudnn { .. }) => {
                let sum: TensorCoreSum = flat.scores.try_into()?;
                let stated = (tile()?.get(), softmax);
                let kernel = CudnnKernel::ALL.into_iter().find(|kernel| flat_cudnn(*kernel) == stated);
                let kernel = kernel.ok_or(RecipeError("no kernel of cuDNN has such tiles"))?;
                Self::TorchCudnn(TorchCudnn { block: sum.block, kernel })
            }
            (Some(values), SoftmaxRecipe::Exact { reduction, .. }) if flat.scaled_operands => {
                let (scores, values) = (flat.scores.try_into()?, values.try_into()?);
                let (softmax, storage) = (reduction.try_into()?, half(flat.output)?);
                Self::TorchMath(TorchMath { scores, softmax, values, storage })
            }
            (Some(values), SoftmaxRecipe::Exact { reduction, .. }) => {
                let (scores, values) = (flat.scores.try_into()?, values.try_into()?);
                let storage = half(flat.output)?;
                ensure(
                    [scores, values].into_iter().all(|sum| multiplies(sum, storage)),
                    "a tensor core multiplies what is stored",
                )?;
                let (softmax, bound, sinks) = (reduction.try_into()?, bound_of(flat.capped), flat.sinks);
                Self::TorchEager(TorchEager { scores, bound, sinks, softmax, values, storage })
            }
            (Some(_), SoftmaxRecipe::Online { .. }) => {
                return Err(RecipeError("an online softmax sums values by its tiles"));
            }
        };
        // Every field is what this kernel does: nothing that was stated is dropped.
        ensure(
            wire::AttentionRecipe::from(recipe) == flat,
            "the fields of this attention belong to different kernels",
        )?;
        Ok(recipe)
    }
}

/// A storage format of PyTorch's attentions. *Errors:* binary32, which goes other ways.
fn half(storage: Dtype) -> Result<Dtype, RecipeError> {
    ensure(storage != Dtype::F32, "PyTorch's attention of binary32 is not emulated")?;
    Ok(storage)
}

/// Whether a sum is of products of factors in this format.
fn multiplies(sum: BatchedSum, storage: Dtype) -> bool {
    match sum {
        BatchedSum::TensorCore { block, .. } => block.operand.dtype() == Some(storage),
        BatchedSum::Threads(_) => true,
    }
}
