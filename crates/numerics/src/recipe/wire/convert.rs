//! From recipes to their flat form, and back where a kernel computes it.

use std::num::{NonZeroU16, NonZeroU32};

use super::{EachExpert, Functions, KernelRecipe, ReductionRecipe, SoftmaxRecipe, Summation, Weighting};
use crate::Dtype;
use crate::nvidia::flash3::Cut;
use crate::recipe::{
    self, AttentionRecipe, BatchedSum, BiasRecipe, CapRecipe, ClampedSwiGluRecipe, CudnnKernel, Elementary,
    ExpertOrder, ExpertSumRecipe, GeGluRecipe, Lanes, LinearSum, LogSoftmaxRecipe, MatmulRecipe, NormMean,
    NormRecipe, NormWeight, OwnAttention, OwnScores, OwnSoftmax, PlainSum, RecipeError, ResidualRecipe,
    RotaryFunctions, RotaryPairs, RotaryRecipe, RouterChoice, RouterRecipe, RouterSoftmax, ScoreBound, Silu,
    SwiGluRecipe, TensorCoreSum, ThreadSum, TorchCudnn, TorchEager, TorchFlash, TorchMath, TorchSoftmax,
    VllmFlash3,
};

const LANES_16: ReductionRecipe = ReductionRecipe::Lanes { lanes: 16 };

const NO_LANES: RecipeError = RecipeError("lanes are 16, 32 or 64");
const NO_PARTS: RecipeError = RecipeError("a sum has at least one part");
const NO_TILE: RecipeError = RecipeError("a tile is not empty");
const OWN_SUMS: RecipeError = RecipeError("the engine's own recipes are no GPU's");

/// An error unless `holds`.
const fn ensure(holds: bool, why: &'static str) -> Result<(), RecipeError> {
    if holds { Ok(()) } else { Err(RecipeError(why)) }
}

fn lanes_of(lanes: u16) -> Result<Lanes, RecipeError> {
    Lanes::ALL.into_iter().find(|known| known.count() == lanes).ok_or(NO_LANES)
}

fn threads_of(threads: u16, vector: u16, in_order: bool) -> Result<ThreadSum, RecipeError> {
    ensure(vector > 0, "a thread takes at least one element at a time")?;
    ThreadSum::new(threads, vector, in_order).ok_or(RecipeError("threads are a power of two of at most 64"))
}

// ---- sums ---------------------------------------------------------------------------------------------------------

impl From<ThreadSum> for Summation {
    fn from(sum: ThreadSum) -> Self {
        Self::Threads { threads: sum.threads(), vector: sum.vector().get(), in_order: sum.in_order() }
    }
}

impl From<TensorCoreSum> for Summation {
    fn from(TensorCoreSum { block, parts }: TensorCoreSum) -> Self {
        Self::TensorCore { block, parts: parts.get(), tile: None }
    }
}

impl TryFrom<Summation> for TensorCoreSum {
    type Error = RecipeError;

    fn try_from(sum: Summation) -> Result<Self, RecipeError> {
        match sum {
            Summation::TensorCore { block, parts, tile: None } => {
                Ok(Self { block, parts: NonZeroU16::new(parts).ok_or(NO_PARTS)? })
            }
            Summation::TensorCore { .. } => Err(RecipeError("a product with a weight has no tile")),
            Summation::Threads { .. } => Err(RecipeError("only attention is summed by threads")),
            Summation::FmaChain | Summation::LaneChains { .. } => Err(OWN_SUMS),
        }
    }
}

impl From<LinearSum> for Summation {
    fn from(sum: LinearSum) -> Self {
        match sum {
            LinearSum::FmaChain => Self::FmaChain,
            LinearSum::LaneChains { lanes } => Self::LaneChains { lanes: lanes.count() },
            LinearSum::TensorCore(sum) => sum.into(),
        }
    }
}

impl TryFrom<Summation> for LinearSum {
    type Error = RecipeError;

    fn try_from(sum: Summation) -> Result<Self, RecipeError> {
        Ok(match sum {
            Summation::FmaChain => Self::FmaChain,
            Summation::LaneChains { lanes } => Self::LaneChains { lanes: lanes_of(lanes)? },
            Summation::TensorCore { .. } | Summation::Threads { .. } => Self::TensorCore(sum.try_into()?),
        })
    }
}

impl From<BatchedSum> for Summation {
    fn from(sum: BatchedSum) -> Self {
        match sum {
            BatchedSum::TensorCore { block, tile } => {
                Self::TensorCore { block, parts: 1, tile: tile.map(NonZeroU16::get) }
            }
            BatchedSum::Threads(sum) => sum.into(),
        }
    }
}

impl TryFrom<Summation> for BatchedSum {
    type Error = RecipeError;

    fn try_from(sum: Summation) -> Result<Self, RecipeError> {
        match sum {
            Summation::TensorCore { block, parts, tile } => {
                ensure(parts == 1, "a batched product is not cut into parts")?;
                let tile = tile.map(|tile| NonZeroU16::new(tile).ok_or(NO_TILE)).transpose()?;
                Ok(Self::TensorCore { block, tile })
            }
            Summation::Threads { threads, vector, in_order } => {
                threads_of(threads, vector, in_order).map(Self::Threads)
            }
            Summation::FmaChain | Summation::LaneChains { .. } => Err(OWN_SUMS),
        }
    }
}

impl From<PlainSum> for Summation {
    fn from(sum: PlainSum) -> Self {
        match sum {
            PlainSum::FmaChain => Self::FmaChain,
            PlainSum::Threads(sum) => sum.into(),
        }
    }
}

impl TryFrom<Summation> for PlainSum {
    type Error = RecipeError;

    fn try_from(sum: Summation) -> Result<Self, RecipeError> {
        match sum {
            Summation::FmaChain => Ok(Self::FmaChain),
            Summation::Threads { threads, vector, in_order } => {
                threads_of(threads, vector, in_order).map(Self::Threads)
            }
            Summation::TensorCore { .. } => Err(RecipeError("binary32 is not multiplied by tensor cores")),
            Summation::LaneChains { .. } => Err(OWN_SUMS),
        }
    }
}

impl From<Elementary> for Functions {
    fn from(functions: Elementary) -> Self {
        match functions {
            Elementary::Own => Self::Engine,
            Elementary::Cuda => Self::Nvidia,
        }
    }
}

impl From<Functions> for Elementary {
    fn from(functions: Functions) -> Self {
        match functions {
            Functions::Engine => Self::Own,
            Functions::Nvidia => Self::Cuda,
        }
    }
}

// ---- kernels ------------------------------------------------------------------------------------------------------

impl From<MatmulRecipe> for super::MatmulRecipe {
    fn from(MatmulRecipe { summation, output }: MatmulRecipe) -> Self {
        Self { summation: summation.into(), output }
    }
}

impl TryFrom<super::MatmulRecipe> for MatmulRecipe {
    type Error = RecipeError;

    fn try_from(flat: super::MatmulRecipe) -> Result<Self, RecipeError> {
        Ok(Self { summation: flat.summation.try_into()?, output: flat.output })
    }
}

impl From<TorchSoftmax> for ReductionRecipe {
    fn from(kernel: TorchSoftmax) -> Self {
        let threads = TorchSoftmax::BLOCK_THREADS;
        match kernel {
            TorchSoftmax::Warp => Self::Warp { warp: TorchSoftmax::WARP_LANES },
            TorchSoftmax::Block => Self::Block { block: threads },
            TorchSoftmax::Vectors(vector) => Self::Vectors { vector, threads, shifted: false },
            TorchSoftmax::Shifted(vector) => Self::Vectors { vector, threads, shifted: true },
            TorchSoftmax::Across(across) => Self::Across { across },
        }
    }
}

impl TryFrom<ReductionRecipe> for TorchSoftmax {
    type Error = RecipeError;

    fn try_from(flat: ReductionRecipe) -> Result<Self, RecipeError> {
        const THREADS: u16 = TorchSoftmax::BLOCK_THREADS;
        Ok(match flat {
            ReductionRecipe::Warp { warp: Self::WARP_LANES } => Self::Warp,
            ReductionRecipe::Block { block: THREADS } => Self::Block,
            ReductionRecipe::Vectors { vector: vector @ (4 | 8), threads: THREADS, shifted } => {
                if shifted {
                    Self::Shifted(vector)
                } else {
                    Self::Vectors(vector)
                }
            }
            ReductionRecipe::Across { across } if across.is_power_of_two() && across <= THREADS => {
                Self::Across(across)
            }
            _ => return Err(RecipeError("no softmax of PyTorch's adds up in this order")),
        })
    }
}

impl From<NormRecipe> for super::NormRecipe {
    fn from(recipe: NormRecipe) -> Self {
        let weighting = match recipe.weight {
            NormWeight::AfterCast => Weighting::AfterCast,
            NormWeight::BeforeCast => Weighting::BeforeCast,
            NormWeight::OnePlus => Weighting::OnePlus,
        };
        let (reduction, functions) = match recipe.mean {
            NormMean::Lanes { lanes } => (ReductionRecipe::Lanes { lanes: lanes.count() }, Functions::Engine),
            NormMean::Torch { sum, rows } => {
                (ReductionRecipe::Torch { torch: sum, rows: rows.get() }, Functions::Nvidia)
            }
            NormMean::Vllm(vllm) => (ReductionRecipe::Vllm { vllm }, Functions::Nvidia),
        };
        Self { reduction, output: recipe.output, functions, weighting }
    }
}

impl TryFrom<super::NormRecipe> for NormRecipe {
    type Error = RecipeError;

    fn try_from(flat: super::NormRecipe) -> Result<Self, RecipeError> {
        let mean = match (flat.reduction, flat.functions) {
            (ReductionRecipe::Lanes { lanes }, Functions::Engine) => {
                NormMean::Lanes { lanes: lanes_of(lanes)? }
            }
            (ReductionRecipe::Torch { torch, rows }, Functions::Nvidia) => {
                let rows = NonZeroU32::new(rows).ok_or(RecipeError("a mean has at least one row"))?;
                ensure(torch.is_launched(), "threads are a power of two, and a block has at most 512")?;
                NormMean::Torch { sum: torch, rows }
            }
            (ReductionRecipe::Vllm { vllm }, Functions::Nvidia) => {
                ensure(vllm.is_launched(), "a block of vLLM's has 1 to 1,024 threads")?;
                NormMean::Vllm(vllm)
            }
            _ => return Err(RecipeError("a norm is the engine's own or a GPU's, in sum and functions")),
        };
        let weight = match flat.weighting {
            Weighting::AfterCast => NormWeight::AfterCast,
            Weighting::BeforeCast => NormWeight::BeforeCast,
            Weighting::OnePlus => NormWeight::OnePlus,
        };
        Ok(Self { mean, weight, output: flat.output })
    }
}

impl From<AttentionRecipe> for super::AttentionRecipe {
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
) -> super::AttentionRecipe {
    super::AttentionRecipe {
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

fn flat_own(OwnAttention { scores, bound, sinks, softmax, storage }: OwnAttention) -> super::AttentionRecipe {
    let exact = |normalize_first| SoftmaxRecipe::Exact { reduction: LANES_16, normalize_first };
    let (score_rounding, softmax, key_tile) = match softmax {
        OwnSoftmax::Eager => (storage, exact(true), None),
        OwnSoftmax::Tiled { key_tile } => (Dtype::F32, exact(false), Some(key_tile.get())),
        OwnSoftmax::Online { key_tile } => {
            (Dtype::F32, SoftmaxRecipe::Online { reduction: LANES_16 }, Some(key_tile.get()))
        }
    };
    super::AttentionRecipe {
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

impl TryFrom<super::AttentionRecipe> for AttentionRecipe {
    type Error = RecipeError;

    fn try_from(flat: super::AttentionRecipe) -> Result<Self, RecipeError> {
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
            super::AttentionRecipe::from(recipe) == flat,
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

impl From<recipe::KernelRecipe> for KernelRecipe {
    fn from(recipe: recipe::KernelRecipe) -> Self {
        use recipe::KernelRecipe as Kernel;
        match recipe {
            Kernel::Matmul(matmul) => Self::Matmul(matmul.into()),
            Kernel::Bias(BiasRecipe { output }) => Self::Bias { output },
            Kernel::RmsNorm(norm) => Self::RmsNorm(norm.into()),
            Kernel::Attention(attention) => Self::Attention(attention.into()),
            Kernel::Rotary(RotaryRecipe { functions, pairs, output }) => {
                let functions = match functions {
                    RotaryFunctions::Own => Functions::Engine,
                    RotaryFunctions::Cuda => Functions::Nvidia,
                };
                Self::Rotary {
                    output,
                    neighbours: pairs == RotaryPairs::Neighbours,
                    wide: pairs == RotaryPairs::WideHalves,
                    rounded_tables: pairs == RotaryPairs::RoundedTables,
                    functions,
                }
            }
            Kernel::SwiGlu(SwiGluRecipe { silu, output }) => {
                let functions = match silu {
                    Silu::Own => Functions::Engine,
                    Silu::Cuda => Functions::Nvidia,
                };
                Self::SwiGlu { output, functions }
            }
            Kernel::GeGlu(GeGluRecipe { functions, output }) => {
                Self::GeGlu { output, functions: functions.into() }
            }
            Kernel::ClampedSwiGlu(ClampedSwiGluRecipe { functions, output }) => {
                Self::ClampedSwiGlu { output, functions: functions.into() }
            }
            Kernel::Cap(CapRecipe { functions, output }) => Self::Cap { output, functions: functions.into() },
            Kernel::Residual(ResidualRecipe { output }) => Self::Residual { output },
            Kernel::ExpertSum(ExpertSumRecipe { sums, wide, order, output }) => {
                let each = match order {
                    ExpertOrder::Once => None,
                    ExpertOrder::EachInTopOrder => Some(EachExpert::TopOrder),
                    ExpertOrder::EachByNumber => Some(EachExpert::ByNumber),
                };
                Self::ExpertSum { output, sums: sums.get(), wide, each }
            }
            Kernel::Router(RouterRecipe { softmax, choice, output }) => {
                let (reduction, functions) = match softmax {
                    RouterSoftmax::Lanes { lanes } => {
                        (ReductionRecipe::Lanes { lanes: lanes.count() }, Functions::Engine)
                    }
                    RouterSoftmax::Warp => (TorchSoftmax::Warp.into(), Functions::Nvidia),
                };
                let (renormalize, chosen_first) = match choice {
                    RouterChoice::Probabilities { renormalize } => (renormalize, false),
                    RouterChoice::Logits => (false, true),
                };
                Self::Router { renormalize, chosen_first, reduction, output, functions }
            }
            Kernel::LogSoftmax(LogSoftmaxRecipe::Own) => Self::LogSoftmax,
            Kernel::LogSoftmax(LogSoftmaxRecipe::Torch(kernel)) => {
                Self::TorchLogSoftmax { reduction: kernel.into() }
            }
        }
    }
}

impl TryFrom<KernelRecipe> for recipe::KernelRecipe {
    type Error = RecipeError;

    fn try_from(flat: KernelRecipe) -> Result<Self, RecipeError> {
        Ok(match flat {
            KernelRecipe::Matmul(matmul) => Self::Matmul(matmul.try_into()?),
            KernelRecipe::Bias { output } => Self::Bias(BiasRecipe { output }),
            KernelRecipe::RmsNorm(norm) => Self::RmsNorm(norm.try_into()?),
            KernelRecipe::Attention(attention) => Self::Attention(attention.try_into()?),
            KernelRecipe::Rotary { output, neighbours, wide, rounded_tables, functions } => {
                let functions = match functions {
                    Functions::Engine => RotaryFunctions::Own,
                    Functions::Nvidia => RotaryFunctions::Cuda,
                };
                let pairs = match (neighbours, wide, rounded_tables) {
                    (false, false, false) => RotaryPairs::Halves,
                    (false, true, false) => RotaryPairs::WideHalves,
                    (true, false, false) => RotaryPairs::Neighbours,
                    (false, false, true) => RotaryPairs::RoundedTables,
                    (true, true, false) => {
                        return Err(RecipeError("neighbours are turned in binary32 anyway"));
                    }
                    (_, _, true) => return Err(RecipeError("rounded tables are of halves of a head")),
                };
                Self::Rotary(RotaryRecipe { functions, pairs, output })
            }
            KernelRecipe::SwiGlu { output, functions } => {
                let silu = match functions {
                    Functions::Engine => Silu::Own,
                    Functions::Nvidia => Silu::Cuda,
                };
                Self::SwiGlu(SwiGluRecipe { silu, output })
            }
            KernelRecipe::GeGlu { output, functions } => {
                Self::GeGlu(GeGluRecipe { functions: functions.into(), output })
            }
            KernelRecipe::ClampedSwiGlu { output, functions } => {
                Self::ClampedSwiGlu(ClampedSwiGluRecipe { functions: functions.into(), output })
            }
            KernelRecipe::Cap { output, functions } => {
                Self::Cap(CapRecipe { functions: functions.into(), output })
            }
            KernelRecipe::Residual { output } => Self::Residual(ResidualRecipe { output }),
            KernelRecipe::ExpertSum { output, sums, wide, each } => {
                let sums = NonZeroU16::new(sums).ok_or(RecipeError("experts have at least one sum"))?;
                let order = match each {
                    None => ExpertOrder::Once,
                    Some(EachExpert::TopOrder) => ExpertOrder::EachInTopOrder,
                    Some(EachExpert::ByNumber) => ExpertOrder::EachByNumber,
                };
                ensure(
                    order == ExpertOrder::Once || sums == NonZeroU16::MIN,
                    "a sum that is rounded each time is one",
                )?;
                Self::ExpertSum(ExpertSumRecipe { sums, wide, order, output })
            }
            KernelRecipe::Router { renormalize, chosen_first, reduction, output, functions } => {
                let softmax = match (reduction, functions) {
                    (ReductionRecipe::Lanes { lanes }, Functions::Engine) => {
                        RouterSoftmax::Lanes { lanes: lanes_of(lanes)? }
                    }
                    (reduction, Functions::Nvidia)
                        if TorchSoftmax::try_from(reduction) == Ok(TorchSoftmax::Warp) =>
                    {
                        RouterSoftmax::Warp
                    }
                    _ => return Err(RecipeError("a router is the engine's own or PyTorch's by a warp")),
                };
                let choice = match (renormalize, chosen_first) {
                    (renormalize, false) => RouterChoice::Probabilities { renormalize },
                    (false, true) => RouterChoice::Logits,
                    (true, true) => {
                        return Err(RecipeError("a softmax over the chosen adds up to one already"));
                    }
                };
                Self::Router(RouterRecipe { softmax, choice, output })
            }
            KernelRecipe::LogSoftmax => Self::LogSoftmax(LogSoftmaxRecipe::Own),
            KernelRecipe::TorchLogSoftmax { reduction } => {
                Self::LogSoftmax(LogSoftmaxRecipe::Torch(reduction.try_into()?))
            }
        })
    }
}
