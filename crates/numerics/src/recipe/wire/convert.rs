//! From recipes to their flat form, and back where a kernel computes it.

use std::num::{NonZeroU16, NonZeroU32};

use super::checked::{NO_PARTS, all_reduce, ensure};
use super::divided::{divided, packed, packed_experts};
use super::{Among, EachExpert, Functions, KernelRecipe, ReductionRecipe, Summation, Weighting};
use crate::nvidia::triton::TritonLogSoftmax;
use crate::recipe::{
    self, BatchedSum, BiasRecipe, CapRecipe, ClampedSwiGluRecipe, Elementary, ExpertOrder, ExpertRanks,
    ExpertSumRecipe, GeGluRecipe, Lanes, LinearSum, LogSoftmaxRecipe, MatmulRecipe, Nf4Sum, NormMean,
    NormRecipe, NormWeight, PackedExperts, PackedKernel, PlainSum, RankOrder, RankSum, RecipeError,
    ResidualRecipe, RotaryFunctions, RotaryPairs, RotaryRecipe, RouterChoice, RouterRecipe, RouterSoftmax,
    Silu, SwiGluRecipe, TensorCoreSum, ThreadSum, TorchSoftmax,
};

mod attention;

const NO_LANES: RecipeError = RecipeError("lanes are 16, 32 or 64");
const NO_TILE: RecipeError = RecipeError("a tile is not empty");
const ONE_RANK: RecipeError = RecipeError("only products with weights are divided among ranks");
const OF_WEIGHTS: RecipeError = RecipeError("only weights of blocks are of nf4");
const OWN_SUMS: RecipeError = RecipeError("the engine's own recipes are no GPU's");

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
            Summation::Ranks { .. } | Summation::RankParts { .. } => Err(ONE_RANK),
            Summation::Nf4Simt
            | Summation::Nf4Mma { .. }
            | Summation::Nf4Decoded { .. }
            | Summation::Machete { .. }
            | Summation::Marlin { .. }
            | Summation::MarlinExperts { .. } => Err(OF_WEIGHTS),
            Summation::FmaChain | Summation::LaneChains { .. } => Err(OWN_SUMS),
        }
    }
}

impl From<LinearSum> for Summation {
    fn from(sum: LinearSum) -> Self {
        match sum {
            LinearSum::PackedExperts(PackedExperts {
                block,
                tokens,
                top,
                experts,
                of_rank,
                outputs,
                first,
                zeros,
                multiprocessors,
                ranks,
            }) => Self::MarlinExperts {
                block,
                tokens,
                top,
                experts,
                of_rank: of_rank.map(NonZeroU32::get),
                outputs,
                first,
                zeros,
                multiprocessors,
                divided: ranks.into(),
            },
            LinearSum::FmaChain => Self::FmaChain,
            LinearSum::LaneChains { lanes } => Self::LaneChains { lanes: lanes.count() },
            LinearSum::TensorCore(sum) => sum.into(),
            LinearSum::Ranks(RankSum { each: TensorCoreSum { block, parts }, reduce }) => {
                Self::Ranks { block, parts: parts.get(), ranks: reduce.ranks(), reduce: reduce.order() }
            }
            LinearSum::RankParts { each: TensorCoreSum { block, parts }, ranks } => {
                Self::RankParts { block, parts: parts.get(), ranks: ranks.get() }
            }
            LinearSum::Nf4(Nf4Sum::Simt) => Self::Nf4Simt,
            LinearSum::Nf4(Nf4Sum::Mma(block)) => Self::Nf4Mma { block },
            LinearSum::Nf4(Nf4Sum::Decoded(TensorCoreSum { block, parts })) => {
                Self::Nf4Decoded { block, parts: parts.get() }
            }
            LinearSum::Packed(sum) => {
                let (block, [rows, outputs, first]) = (sum.block(), sum.shape());
                let (multiprocessors, divided) = (sum.multiprocessors(), sum.ranks().into());
                match sum.kernel() {
                    PackedKernel::Machete => {
                        Self::Machete { block, rows, outputs, first, multiprocessors, divided }
                    }
                    PackedKernel::Marlin { group } => {
                        let group = group.get();
                        Self::Marlin { block, rows, outputs, first, multiprocessors, group, divided }
                    }
                }
            }
        }
    }
}

impl TryFrom<Summation> for LinearSum {
    type Error = RecipeError;

    fn try_from(sum: Summation) -> Result<Self, RecipeError> {
        Ok(match sum {
            Summation::FmaChain => Self::FmaChain,
            Summation::LaneChains { lanes } => Self::LaneChains { lanes: lanes_of(lanes)? },
            Summation::Ranks { block, parts, ranks, reduce } => Self::Ranks(RankSum {
                each: Summation::TensorCore { block, parts, tile: None }.try_into()?,
                reduce: all_reduce(ranks, reduce)?,
            }),
            Summation::RankParts { block, parts, ranks } => {
                // As many as an all-reduce may have.
                all_reduce(ranks, RankOrder::Once)?;
                Self::RankParts {
                    each: Summation::TensorCore { block, parts, tile: None }.try_into()?,
                    ranks: NonZeroU16::new(ranks).ok_or(NO_PARTS)?,
                }
            }
            Summation::Nf4Simt => Self::Nf4(Nf4Sum::Simt),
            Summation::Nf4Mma { block } => Self::Nf4(Nf4Sum::Mma(block)),
            Summation::Nf4Decoded { block, parts } => {
                let product = Summation::TensorCore { block, parts, tile: None };
                Self::Nf4(Nf4Sum::Decoded(product.try_into()?))
            }
            Summation::Machete { block, rows, outputs, first, multiprocessors, divided } => {
                packed(PackedKernel::Machete, block, [rows, outputs, first], multiprocessors, divided)?
            }
            Summation::Marlin { block, rows, outputs, first, multiprocessors, group, divided } => {
                let group = NonZeroU32::new(group).ok_or(RecipeError("a group has elements"))?;
                packed(
                    PackedKernel::Marlin { group },
                    block,
                    [rows, outputs, first],
                    multiprocessors,
                    divided,
                )?
            }
            Summation::MarlinExperts {
                block,
                tokens,
                top,
                experts,
                of_rank,
                outputs,
                first,
                zeros,
                multiprocessors,
                divided: weight,
            } => packed_experts(PackedExperts {
                block,
                tokens,
                top,
                experts,
                of_rank: of_rank
                    .map(|of_rank| NonZeroU32::new(of_rank).ok_or(RecipeError("a rank has experts")))
                    .transpose()?,
                outputs,
                first,
                zeros,
                multiprocessors,
                ranks: divided(weight)?,
            })?,
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
            Summation::Ranks { .. } | Summation::RankParts { .. } => Err(ONE_RANK),
            Summation::Nf4Simt
            | Summation::Nf4Mma { .. }
            | Summation::Nf4Decoded { .. }
            | Summation::Machete { .. }
            | Summation::Marlin { .. }
            | Summation::MarlinExperts { .. } => Err(OF_WEIGHTS),
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
            Summation::Ranks { .. } | Summation::RankParts { .. } => Err(ONE_RANK),
            Summation::Nf4Simt
            | Summation::Nf4Mma { .. }
            | Summation::Nf4Decoded { .. }
            | Summation::Machete { .. }
            | Summation::Marlin { .. }
            | Summation::MarlinExperts { .. } => Err(OF_WEIGHTS),
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
            Kernel::ExpertSum(ExpertSumRecipe { sums, wide, rounded_weights, order, ranks, output }) => {
                let each = match order {
                    ExpertOrder::Once => None,
                    ExpertOrder::EachInTopOrder => Some(EachExpert::TopOrder),
                    ExpertOrder::EachByNumber => Some(EachExpert::ByNumber),
                };
                let experts = match ranks {
                    ExpertRanks::Experts { of_rank, .. } => Some(of_rank.get()),
                    ExpertRanks::One | ExpertRanks::Widths { .. } => None,
                };
                let among =
                    ranks.reduce().map(|sum| Among { ranks: sum.ranks(), reduce: sum.order(), experts });
                Self::ExpertSum { output, sums: sums.get(), wide, rounded_weights, each, among }
            }
            Kernel::Router(RouterRecipe { softmax, choice, output }) => {
                let (reduction, functions) = match softmax {
                    RouterSoftmax::Lanes { lanes } => {
                        (ReductionRecipe::Lanes { lanes: lanes.count() }, Functions::Engine)
                    }
                    RouterSoftmax::Warp => (TorchSoftmax::Warp.into(), Functions::Nvidia),
                    RouterSoftmax::Vllm(gating) => (ReductionRecipe::Gating { gating }, Functions::Nvidia),
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
            Kernel::LogSoftmax(LogSoftmaxRecipe::Triton(triton)) => Self::TritonLogSoftmax { triton },
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
            KernelRecipe::ExpertSum { output, sums, wide, rounded_weights, each, among } => {
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
                let ranks = match among {
                    None => ExpertRanks::One,
                    Some(Among { ranks, reduce, experts: None }) => {
                        ExpertRanks::Widths { reduce: all_reduce(ranks, reduce)? }
                    }
                    Some(Among { ranks, reduce, experts: Some(experts) }) => ExpertRanks::Experts {
                        of_rank: NonZeroU32::new(experts).ok_or(RecipeError("a rank has experts"))?,
                        reduce: all_reduce(ranks, reduce)?,
                    },
                };
                Self::ExpertSum(ExpertSumRecipe { sums, wide, rounded_weights, order, ranks, output })
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
                    (ReductionRecipe::Gating { gating }, Functions::Nvidia) if gating.is_launched() => {
                        ensure(!chosen_first, "vLLM's router takes the softmax of all logits")?;
                        RouterSoftmax::Vllm(gating)
                    }
                    _ => {
                        return Err(RecipeError(
                            "a router is the engine's own, PyTorch's by a warp or vLLM's",
                        ));
                    }
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
            KernelRecipe::TritonLogSoftmax { triton } => Self::LogSoftmax(of_triton(triton)?),
        })
    }
}

/// *Errors:* loads that no kernel has.
fn of_triton(triton: TritonLogSoftmax) -> Result<LogSoftmaxRecipe, RecipeError> {
    let refused = RecipeError("loads of a Triton log-softmax are of 1, 4 or 8");
    if triton.is_launched() { Ok(LogSoftmaxRecipe::Triton(triton)) } else { Err(refused) }
}
